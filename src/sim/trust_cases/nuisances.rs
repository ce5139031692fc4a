//! Cases 21 and 23 as populations, and peers that are of no use: free-riders, dawdlers, the silent, those who claim too much.

use super::*;
use crate::{
    protocol::{
        fact::JobState,
        ids::UnitIndex,
        outcome::{AttemptFailure, Exit},
    },
    sim::{PeerSpec, Program},
};

/// Case 21: whoever is caught comes back at once with a new key, and lies on. It begins at nothing each time.
#[test]
fn case_21_new_keys_for_old_liars_get_nothing_wrong_verified() {
    let mut shop = shop(21, SMALL.peers, 0.0, Behaviour::Honest);
    finish(&mut shop, SMALL.job());
    let liar = || PeerSpec { slots: 1, ..PeerSpec::that(Behaviour::Colludes { per_mille: 1000 }) };
    let mut here: Vec<usize> = (0..10).map(|_| shop.join(liar())).collect();
    let before = shop.tally.executions;
    let job = shop.submit(SMALL.job());
    let mut keys = here.len();
    while !shop.all_ended() {
        shop.run_for(Duration::from_secs(1));
        let caught: Vec<usize> = here.iter().copied().filter(|&number| shop.strikes(number) > 0).collect();
        for number in caught {
            shop.leave(number);
            here.retain(|&other| other != number);
            here.push(shop.join(liar()));
            keys += 1;
        }
    }
    settle(&mut shop);
    assert!(keys > 20, "{keys} keys were used up");
    assert_eq!((shop.tally.wrong_shown, shop.wronged()), (0, vec![]));
    assert_eq!(shop.tally.decided(job), SMALL.units);
    let ratio = (shop.tally.executions - before) as f64 / f64::from(SMALL.units);
    println!("{keys} keys, r {ratio:.3}");
    assert!(ratio <= 4.5, "{ratio}");
}

/// Case 23: units that use all their gas or write too much are verified to have failed, with the reason.
#[test]
fn case_23_endless_loops_and_floods_of_output_fail_with_the_reason() {
    for (program, exit) in [(Program::UsesAllGas, Exit::OutOfGas), (Program::WritesTooMuch, Exit::OutputLimit)] {
        let mut shop = shop(23, SMALL.peers, 0.0, Behaviour::Honest);
        finish(&mut shop, SMALL.job());
        let before = shop.tally.executions;
        let job = shop.submit(JobSpec { program, ..SMALL.job() });
        shop.run_until(LIMIT, Shop::all_ended).unwrap();
        assert_eq!(shop.tally.state(job), JobState::Stopped, "it burns no grid");
        assert!(shop.tally.executions - before <= 40, "{}", shop.tally.executions - before);
        let views = shop.owner().unit_views(job, UnitIndex(0), usize::MAX);
        let reasons: Vec<_> = views.iter().filter_map(|view| view.value).map(|value| value.exit).collect();
        assert!(reasons.len() >= 3 && reasons.iter().all(|reason| *reason == exit), "{reasons:?}");
    }
}

/// Case 23: units that run for longer than the job allows have failed when enough proven machines say so, with the reason.
#[test]
fn case_23_units_that_never_end_fail_with_the_reason() {
    let mut shop = shop(24, SMALL.peers, 0.0, Behaviour::Honest);
    finish(&mut shop, SMALL.job());
    let job = shop.submit(JobSpec { program: Program::NeverEnds, wall: Duration::from_secs(30), ..SMALL.job() });
    shop.run_until(LIMIT, Shop::all_ended).unwrap();
    assert_eq!(shop.tally.state(job), JobState::Stopped);
    let views = shop.owner().unit_views(job, UnitIndex(0), usize::MAX);
    let failed: Vec<_> = views.iter().filter_map(|view| view.failures).map(|failures| failures.last).collect();
    assert!(failed.len() >= 3 && failed.iter().all(|last| *last == AttemptFailure::TimeOut), "{failed:?}");
    assert!(shop.wronged().is_empty(), "time-outs convict nobody");
}

/// Peers that are of no use cost time and executions, and get nothing wrong shown; those that only waste time are not convicted.
#[test]
fn the_useless_get_nothing_wrong_shown_and_hold_up_no_job() {
    let kinds = [Behaviour::Guesses, Behaviour::Dawdles, Behaviour::Silent, Behaviour::OutOfMemory, Behaviour::Honest];
    let size = Size { peers: 40, units: 800 };
    for (seed, behaviour) in (30..).zip(kinds) {
        let mut shop = shop(seed, size.peers, 0.0, Behaviour::Honest);
        // The honest one claims a thousand times what it has.
        let claimed_slots = (behaviour == Behaviour::Honest).then_some(1000);
        for _ in 0..size.peers / 5 {
            shop.join(PeerSpec { slots: 1, claimed_slots, ..PeerSpec::that(behaviour) });
        }
        let job = JobSpec { wall: Duration::from_secs(120), ..size.job() };
        let figures: Vec<_> = (0..3).map(|_| finish(&mut shop, job)).collect();
        settle(&mut shop);
        assert_clean(&shop);
        assert_eq!(shop.tally.wrong_shown, 0, "{behaviour:?}");
        let last = figures[2];
        println!("{behaviour:?}: r {:.3}, slowness {:.3}", last.ratio(), last.slowness());
        assert!(last.ratio() <= 2.6 && last.slowness() <= 6.0, "{behaviour:?}: {} {}", last.ratio(), last.slowness());
        assert_eq!(last.verified, size.units);
    }
}
