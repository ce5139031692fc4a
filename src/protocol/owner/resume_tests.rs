//! Checkpoints: who goes on from whose, and what the result is worth.

use super::*;
use crate::protocol::{
    chain::Links,
    checkpoint::{Authors, CHECKPOINT_BYTES_MAX, Checkpoint},
};

fn offer(worker: u8, lease: &Lease, gas: u64) -> Offer {
    let Lease { unit, attempt, ordinal, token, rests_on, .. } = *lease;
    let state = Digest::of_parts(&[&[worker], &gas.to_le_bytes()]);
    let checkpoint = Arc::new(Checkpoint { gas, state, bytes: 1000, links: Arc::new(Links::default()), rests_on });
    Offer { unit, attempt, ordinal, token, checkpoint }
}

fn authors(workers: &[u8]) -> Authors {
    Authors::new(&workers.iter().map(|worker| key(*worker)).collect::<Vec<_>>()).unwrap()
}

impl Desk {
    /// A worker shows how far it has come.
    pub(super) fn show(&mut self, worker: u8, lease: &Lease, gas: u64) -> Digest {
        let offer = offer(worker, lease, gas);
        let state = offer.checkpoint.state;
        assert!(self.owner.is_offer_welcome(self.now, key(worker), JOB, &offer));
        self.owner.offered(self.now, key(worker), JOB, offer);
        self.take();
        state
    }

    /// Worker 1 is lost when it has shown that it came to 600 gas. What it was leased.
    fn lost_at_600(&mut self) -> Lease {
        self.worker(1, 1);
        let lost = self.lease(1);
        self.show(1, &lost, 600);
        self.lose(1);
        lost
    }

    fn lose(&mut self, worker: u8) {
        self.owner.detach(self.now, key(worker));
        self.take();
    }

    fn verified(&self, worker: u8) -> u64 {
        self.owner.trust().standing(key(worker)).verified_units
    }
}

/// Where a lease begins, and on whom it rests.
fn begins(lease: &Lease) -> (Option<u64>, Authors) {
    (lease.from.as_ref().map(|from| from.gas), lease.rests_on)
}

/// Worker 1 was lost at 600 gas, and worker 2 goes on from there.
fn handed_on(known: &[u8]) -> (Desk, Lease) {
    let mut desk = Desk::new(known).submit(1);
    desk.worker(1, 1);
    let lost = desk.lease(1);
    assert_eq!(begins(&lost), (None, Authors::NONE));
    let first = desk.show(1, &lost, 500);
    desk.show(1, &lost, 600);
    assert_eq!(desk.dropped, [first]);
    desk.lose(1);
    desk.worker(2, 1);
    let lease = desk.lease(2);
    assert_eq!(begins(&lease), (Some(600), authors(&[1])));
    (desk, lease)
}

#[test]
fn what_was_lost_goes_on_elsewhere_and_counts_as_one_vote_of_both() {
    let (mut desk, lease) = handed_on(&[1, 2, 3]);
    let alone = Lease { rests_on: Authors::NONE, ..lease.clone() };
    assert_eq!(desk.try_report(2, &alone, Outcome::Value(value(7))), Err(ReportRejected::NotLeased), "whom it rests on is not its choice");
    desk.answer(2, &lease, 7);
    assert_eq!(desk.state(0), UnitState::AwaitingVote);
    // Neither of the two is asked again; whoever is begins at the beginning.
    desk.worker(1, 1);
    assert_eq!(desk.leases, []);
    desk.worker(3, 1);
    let second = desk.lease(3);
    assert_eq!(begins(&second), (None, Authors::NONE));
    desk.answer(3, &second, 7);
    assert_eq!(desk.state(0), UnitState::Verified);
    assert_eq!((desk.verified(1), desk.verified(2), desk.verified(3)), (100, 100, 101), "only who computed all of it is credited");
    assert_eq!(desk.dropped.len(), 2, "nothing is held of a decided unit");
    assert_eq!(desk.owner.unit_views(JOB, UnitIndex(0), 1)[0].resumed, [(key(2), 600)]);
    desk.nothing_else();
}

#[test]
fn a_worker_that_is_back_goes_on_with_its_own_and_answers_for_it_alone() {
    let mut desk = Desk::new(&[1, 2]).submit(3);
    let lost = desk.lost_at_600();
    desk.worker(1, 1);
    let lease = desk.lease(1);
    assert_eq!((lease.unit, begins(&lease)), (lost.unit, (Some(600), authors(&[1]))));
    desk.answer(1, &lease, 7);
    desk.leases.clear();
    desk.worker(2, 1);
    let second = desk.lease_of(2, lease.unit.0);
    assert_eq!(begins(&second), (None, Authors::NONE));
    desk.answer(2, &second, 7);
    assert_eq!((desk.state(lease.unit.0), desk.verified(1)), (UnitState::Verified, 101));
}

#[test]
fn a_second_vote_never_goes_on_from_what_was_begun_before_the_first() {
    let mut desk = Desk::new(&[1, 2, 3]).submit(1);
    desk.worker(1, 1);
    let slow = desk.lease(1);
    desk.show(1, &slow, 600);
    // A backup begins at the beginning: the attempt is not lost.
    desk.worker(2, 1);
    desk.pass(Duration::from_secs(60));
    let backup = desk.lease(2);
    assert_eq!(begins(&backup), (None, Authors::NONE));
    desk.answer(2, &backup, 7);
    desk.lose(1);
    desk.worker(3, 1);
    let second = desk.lease(3);
    assert_eq!(begins(&second), (None, Authors::NONE), "worker 1 may have known of worker 2");
    desk.answer(3, &second, 7);
    assert_eq!(desk.state(0), UnitState::Verified);
    desk.nothing_else();
}

#[test]
fn the_second_vote_s_own_lost_attempt_is_gone_on_with() {
    let mut desk = Desk::new(&[1, 2, 3]).submit(1);
    desk.worker(1, 1);
    let first = desk.lease(1);
    desk.answer(1, &first, 7);
    desk.worker(2, 1);
    let lost = desk.lease(2);
    desk.show(2, &lost, 600);
    desk.lose(2);
    desk.worker(3, 1);
    let second = desk.lease(3);
    assert_eq!(begins(&second), (Some(600), authors(&[2])));
    desk.answer(3, &second, 7);
    assert_eq!(desk.state(0), UnitState::Verified);
}

#[test]
fn where_votes_disagree_nobody_goes_on_from_anothers_checkpoint() {
    let mut desk = Desk::new(&[1, 2, 4]).submit(1);
    for (worker, said) in [(3, 6), (1, 7)] {
        desk.worker(worker, 1);
        let lease = desk.lease(worker);
        desk.answer(worker, &lease, said);
    }
    desk.worker(2, 1);
    let lost = desk.lease(2);
    desk.show(2, &lost, 600);
    desk.lose(2);
    desk.worker(4, 1);
    let lease = desk.lease(4);
    assert_eq!(begins(&lease), (None, Authors::NONE), "what rests on another would not count");
    desk.answer(4, &lease, 7);
    assert_eq!(desk.state(0), UnitState::Verified);
}

#[test]
fn nothing_of_a_convict_is_gone_on_with_and_what_was_falls_with_it() {
    let (mut desk, lease) = handed_on(&[1, 2, 3]);
    desk.answer(2, &lease, 7);
    desk.worker(3, 1);
    let second = desk.lease(3);
    desk.answer(3, &second, 7);
    assert_eq!(desk.state(0), UnitState::Verified);
    assert!(desk.owner.convict(desk.now, key(2)));
    assert!(desk.owner.trust().standing(key(1)).strikes == 0);
    desk.take();
    assert_eq!(desk.state(0), UnitState::Rechecking);

    // The author is convicted while another goes on with what it left, and while nobody has begun to.
    for reported in [true, false] {
        let (mut desk, lease) = handed_on(&[1, 2, 3]);
        let dropped = desk.dropped.len();
        if reported {
            desk.answer(2, &lease, 7);
        }
        desk.owner.attach(key(1), "v1", Platform::X86_64, 1);
        assert!(desk.owner.convict(desk.now, key(1)));
        desk.take();
        assert_eq!(desk.dropped.len(), dropped + 1);
        if !reported {
            desk.answer(2, &lease, 7);
        }
        let view = &desk.owner.unit_views(JOB, UnitIndex(0), 1)[0];
        assert!(view.votes[0].struck && view.state != UnitState::Verified, "{view:?}");
        assert_eq!(desk.strikes(2), 0);
        desk.worker(3, 1);
        assert_eq!(begins(&desk.lease(3)), (None, Authors::NONE));
    }
}

#[test]
fn whoever_went_on_from_a_lie_is_not_convicted_for_it() {
    let (mut desk, lease) = handed_on(&[1, 2, 3, 4]);
    desk.answer(2, &lease, 6);
    for worker in [3, 4] {
        desk.worker(worker, 1);
        let lease = desk.lease(worker);
        assert_eq!(begins(&lease), (None, Authors::NONE));
        desk.answer(worker, &lease, 7);
    }
    assert_eq!(desk.state(0), UnitState::Verified);
    assert_eq!((desk.strikes(1), desk.strikes(2), desk.accused.len()), (0, 0, 0));
    desk.nothing_else();
}

#[test]
fn whoever_says_something_else_than_what_rested_on_another_is_no_liar() {
    let (mut desk, lease) = handed_on(&[1, 2]);
    desk.answer(2, &lease, 6);
    let again = Lease { rests_on: Authors::NONE, token: LeaseToken::make(&SECRET, JOB, lease.unit, lease.attempt, 0, key(2)), ..lease };
    desk.answer(2, &again, 7);
    assert_eq!((desk.strikes(2), desk.accused.len()), (0, 0));
}

#[test]
fn a_newcomers_checkpoint_weighs_as_little_whoever_finishes_it() {
    let mut desk = Desk::new(&[2, 4]).submit(1);
    desk.lost_at_600();
    desk.worker(2, 1);
    let lease = desk.lease(2);
    assert_eq!(begins(&lease), (Some(600), authors(&[1])));
    desk.answer(2, &lease, 7);
    desk.lose(2);
    desk.worker(3, 1);
    let newcomer = desk.lease(3);
    desk.answer(3, &newcomer, 7);
    assert_eq!(desk.state(0), UnitState::Provisional, "nobody proven has computed it");
    desk.worker(4, 1);
    let proven = desk.lease(4);
    desk.answer(4, &proven, 7);
    assert_eq!(desk.state(0), UnitState::Verified);
    assert_eq!((desk.verified(1), desk.verified(2), desk.verified(3)), (0, 100, 1));
}

#[test]
fn the_owners_machine_goes_on_from_nothing_but_its_own() {
    let mut desk = Desk::new(&[1]).submit(1);
    desk.lost_at_600();
    desk.worker(ME, 1);
    let own = desk.lease(ME);
    assert_eq!(begins(&own), (None, Authors::NONE));
    desk.show(ME, &own, 300);
    desk.lose(ME);
    desk.worker(ME, 1);
    let own = desk.lease(ME);
    assert_eq!(begins(&own), (Some(300), Authors::NONE.with(key(ME)).unwrap()));
    desk.answer(ME, &own, 7);
    assert_eq!(desk.state(0), UnitState::Verified);
}

#[test]
fn a_unit_may_pass_through_some_hands_but_not_through_many() {
    let mut desk = Desk::new(&[1, 2, 3, 4, 5]).submit(1);
    let mut gas = 0;
    for worker in 1..=5 {
        desk.worker(worker, 1);
        let lease = desk.lease(worker);
        let before: Vec<u8> = (1..worker).collect();
        let expected = match worker {
            1 => (None, Authors::NONE),
            2..=4 => (Some(gas), authors(&before)),
            // What rests on four is of no use; the newest that rests on three is.
            _ => (Some(300), authors(&[1, 2, 3])),
        };
        assert_eq!(begins(&lease), expected, "worker {worker}");
        gas = u64::from(worker) * 100;
        desk.show(worker, &lease, gas);
        desk.lose(worker);
    }
}

#[test]
fn only_a_live_leases_newer_checkpoint_of_a_sensible_size_is_welcome() {
    let mut desk = Desk::new(&[1, 2]).submit(2);
    desk.worker(1, 1);
    let lease = desk.lease(1);
    desk.show(1, &lease, 600);
    let good = offer(1, &lease, 700);
    let refused =
        |desk: &Desk, from: u8, offer: &Offer| assert!(!desk.owner.is_offer_welcome(desk.now, key(from), JOB, offer), "{offer:?}");
    let bent = |change: &dyn Fn(&mut Checkpoint)| {
        let mut checkpoint = (*good.checkpoint).clone();
        change(&mut checkpoint);
        Offer { checkpoint: Arc::new(checkpoint), ..good.clone() }
    };
    refused(&desk, 1, &offer(1, &lease, 600));
    refused(&desk, 1, &bent(&|checkpoint| checkpoint.bytes = 0));
    refused(&desk, 1, &bent(&|checkpoint| checkpoint.bytes = CHECKPOINT_BYTES_MAX + 1));
    refused(&desk, 1, &bent(&|checkpoint| checkpoint.rests_on = authors(&[2])));
    refused(&desk, 1, &Offer { token: LeaseToken([0; 16]), ..good.clone() });
    refused(&desk, 1, &Offer { unit: UnitIndex(1), ..good.clone() });
    refused(&desk, 1, &Offer { unit: UnitIndex(9), ..good.clone() });
    refused(&desk, 2, &good);
    assert!(desk.owner.is_offer_welcome(desk.now, key(1), JOB, &good));
    desk.answer(1, &lease, 7);
    refused(&desk, 1, &good);
    // Fetched all the same, it is let go.
    let state = good.checkpoint.state;
    desk.owner.offered(desk.now, key(1), JOB, good);
    desk.take();
    assert_eq!(desk.dropped.last(), Some(&state));
    desk.owner.cancel(JOB);
    desk.take();
    assert_eq!(desk.dropped.len(), 2, "nothing is held of a job that has ended");
}

#[test]
fn what_a_vote_rests_on_survives_a_restart() {
    let (mut desk, lease) = handed_on(&[1, 2]);
    desk.answer(2, &lease, 7);
    let saved = desk.saved(desk.facts.len(), 1);
    let known = |strikes| (key(1), Standing { strikes, ..proven() });
    for strikes in [0, 1] {
        let mut saved = saved.clone();
        saved.standings = vec![known(strikes), (key(2), proven())];
        let mut desk = Desk::restored(saved);
        let view = desk.owner.unit_views(JOB, UnitIndex(0), 1).remove(0);
        assert_eq!((view.votes[0].rests_on, view.votes[0].struck), (authors(&[1]), strikes > 0));
        desk.worker(1, 1);
        assert_eq!(desk.leases, [], "the author of what it rests on is no independent voter");
    }
}

/// Who is said to go on from its own word is believed where the lease was this coordinator's, who knows whose word it gave. A keeper
/// could give anything.
#[test]
fn who_goes_on_from_its_own_word_stands_alone_where_that_is_known() {
    let mut desk = Desk::new(&[1, 2]).submit(1);
    desk.lost_at_600();
    desk.worker(1, 1);
    let lease = desk.lease(1);
    desk.answer(1, &lease, 6);
    let saved = desk.saved(desk.facts.len(), 1);
    for (origin, expected) in [(Origin::Leased, Authors::NONE), (Origin::Collected { output: true }, authors(&[1]))] {
        let mut saved = saved.clone();
        saved.jobs[0].votes[0].origin = origin;
        let desk = Desk::restored(saved);
        assert_eq!(desk.owner.unit_views(JOB, UnitIndex(0), 1)[0].votes[0].rests_on, expected);
    }
    let again = Lease { ordinal: 0, ..lease };
    desk.answer(1, &again, 7);
    assert_eq!((desk.strikes(1), desk.accused.len()), (1, 1), "a contradiction of its own");
}

#[test]
fn an_attempt_that_shows_how_far_it_has_come_is_not_late() {
    let mut desk = Desk::new(&[1, 2]).submit(1);
    desk.worker(1, 1);
    let lease = desk.lease(1);
    desk.worker(2, 1);
    for seconds in 1..20 {
        desk.pass(Duration::from_secs(4));
        desk.show(1, &lease, seconds * 10);
        assert_eq!(desk.leases, []);
    }
    desk.pass(Duration::from_secs(16));
    desk.pass(Duration::from_secs(5));
    assert_eq!(begins(&desk.lease(2)), (None, Authors::NONE), "not lost for certain");
}
