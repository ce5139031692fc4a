//! What is drawn from a bundle to be run here, and what may be said of what comes out.

use super::*;
use crate::{
    protocol::{
        checkpoint::Authors,
        ids::{Attempt, Digest, JobId},
        outcome::Exit,
    },
    wire::{
        bundle::BundledVote,
        receipt::{Claim, Receipts},
        signing,
    },
};
use iroh::SecretKey;

/// A verified unit, computed twice by an engine of `class` on `instruction_set`; the second one was caught.
fn unit(index: u32, [first, second]: [(&str, &str); 2]) -> Unit {
    let value = Value { exit: Exit::Code(0), output: Digest::of(b"out"), gas: 5, chain: None };
    let claim =
        Claim { unit: UnitIndex(index), attempt: Attempt(0), ordinal: 0, value, output_bytes: 3, input: None, rests_on: Authors::NONE };
    let vote = |seed, (class, instruction_set): (&str, &str), struck: bool| {
        let key = SecretKey::from_bytes(&[seed; 32]);
        let receipts = Receipts::new(JobId([1; 32]), class, instruction_set, &[claim]).unwrap();
        let (worker, proof) = (signing::peer_of(&key), receipts.proof(0, &receipts.sign(&key)));
        BundledVote { worker, claim, proof, counted: !struck, proven: true, struck }
    };
    Unit {
        unit: UnitIndex(index),
        name: String::new(),
        input: Digest::of(&[]),
        input_bytes: 0,
        standing: Standing::Verified,
        value: Some(value),
        output_bytes: 3,
        by_owner: false,
        votes: vec![vote(1, first, false), vote(2, second, true)],
    }
}

#[test]
fn what_another_engine_made_is_not_called_wrong() {
    const HERE: (&str, &str) = ("engine-2", "x86_64");
    let mut reran = Reran { decided: 9, ..Reran::default() };
    let makers = [HERE, ("engine-1", "x86_64"), ("engine-2", "aarch64")];
    for (index, maker) in (0..).zip(makers) {
        let unit = unit(index, [maker, HERE]);
        let value = unit.value.unwrap();
        reran.take(&unit, Ok(value), HERE.0, HERE.1);
        reran.take(&unit, Ok(Value { gas: 6, ..value }), HERE.0, HERE.1);
    }
    assert_eq!((reran.agree, &reran.wrong[..], &reran.other_engine[..]), (3, &[0][..], &[1, 2][..]));
    let apart = "3 units run here agree, 2 units made by another engine came out differently, which shows nothing";
    assert_eq!(reran.shows(), apart, "also where they were drawn");
    assert_eq!(Reran { drawn: true, ..reran }.shows(), apart);
}

#[test]
fn only_units_that_were_drawn_say_something_about_the_others() {
    let picked = || Reran { decided: 100, agree: 12, agree_verified: 10, ..Reran::default() };
    assert_eq!(picked().shows(), "12 units run here agree");
    let told = Reran { drawn: true, ..picked() }.shows();
    assert_eq!(told, "12 units run here agree, so with 95 % certainty at most 30 % of the verified results are wrong");
    assert_eq!(Reran { decided: 12, ..picked() }.shows(), "all of them, run here once more, agree");
    assert_eq!(Reran::default().shows(), "nothing was run here");
    let not_run = || Some("no jail".to_owned());
    assert_eq!(Reran { not_run: not_run(), ..Reran::default() }.shows(), "no unit could be run here: no jail");
    let others = Reran { not_run: not_run(), drawn: true, ..picked() }.shows();
    assert_eq!(others, "12 units run here agree, others could not be run: no jail");
}

#[test]
fn each_unit_has_the_same_chance_of_being_drawn() {
    let runs = Runs::Sample(10);
    let mut drawn = [0_u32; 100];
    for seed in 0..200 {
        let mut lot = Lot { runs: &runs, drawn: Vec::new(), seen: 0, random: ChaCha8Rng::from_seed([seed; 32]) };
        (0..100).for_each(|unit| lot.show(UnitIndex(unit)));
        assert_eq!(lot.drawn.iter().collect::<BTreeSet<_>>().len(), 10, "none twice");
        lot.drawn.iter().for_each(|unit| drawn[*unit as usize] += 1);
    }
    // Twenty on average; a binomial that strays so far is one in a hundred thousand.
    assert!(drawn.iter().all(|count| (4..=42).contains(count)), "{drawn:?}");
}

#[test]
fn a_named_unit_is_drawn_if_it_has_a_value() {
    let runs = Runs::Only(BTreeSet::from([3, 7]));
    let mut lot = Lot { runs: &runs, drawn: Vec::new(), seen: 0, random: ChaCha8Rng::from_seed([1; 32]) };
    (0..5).for_each(|unit| lot.show(UnitIndex(unit)));
    assert_eq!(lot.drawn, [3]);
}
