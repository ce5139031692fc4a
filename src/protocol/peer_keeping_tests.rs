//! A whole peer as a keeper, and as a worker whose coordinator another has replaced.

use super::*;
use crate::protocol::{
    announce::JobOpen,
    fact::SavedJob,
    ids::Attempt,
    keeping::{Keepers, KeptJob, SILENCE},
    owner::LeaseToken,
};

const JOB: JobId = JobId([3; 32]);
const NOW: Instant = Instant(1_000_000);
const ME: PeerId = PeerId([1; 32]);
const AUTHOR: PeerId = PeerId([8; 32]);

fn of_author(units: u32) -> Manifest {
    Manifest { owner: AUTHOR, ..(*manifest(units)).clone() }
}

fn kept() -> KeptJob {
    let keepers = Keepers { version: 1, peers: vec![ME] };
    KeptJob { id: JOB, manifest: Arc::new(of_author(10)), keepers, adopted: false, ended: false }
}

fn loaded() -> Box<SavedJob> {
    let (votes, verdicts, failures) = (vec![], vec![], vec![]);
    let (state, keepers) = (JobState::Running, (1, kept().keepers));
    let manifest = of_author(10);
    Box::new(SavedJob { id: JOB, manifest, secret: [6; 32], state, votes, verdicts, failures, findings: None, keepers })
}

fn open(sequence: u64) -> Announcement {
    let open = JobOpen {
        job: JOB,
        generation: 0,
        module: Digest([0; 32]),
        purpose: String::new(),
        tags: vec![],
        memory_bytes: 0,
        open_units: 10,
        priority: 0,
        contact: vec![],
    };
    Announcement { sequence, lifetime: Duration::from_secs(120), subject: Subject::JobOpen(open) }
}

/// A peer that has adopted the job, and when.
fn adopted() -> (Peer, Instant) {
    let mut peer = Peer::new(NOW, config(1), Saved::default(), 1).unwrap();
    peer.handle(NOW, Event::Kept(kept()));
    peer.take_actions(NOW);
    let due = NOW.after(SILENCE);
    assert!(peer.deadline() <= due);
    peer.handle(due, Event::Timer);
    assert!(peer.take_actions(due).iter().any(|action| matches!(action, Action::Adopt(JOB))));
    peer.handle(due, Event::Adopted(loaded()));
    let generations: Vec<u32> = opens(&peer.take_actions(due)).iter().map(|open| open.0).collect();
    assert_eq!(generations, [1], "announced under its own name");
    (peer, due)
}

/// Announcements of open jobs: the generation, and how many units are open.
fn opens(actions: &[Action]) -> Vec<(u32, u32)> {
    let open = |action: &Action| match action {
        Action::Publish(Announcement { subject: Subject::JobOpen(open), .. }) => Some((open.generation, open.open_units)),
        _ => None,
    };
    actions.iter().filter_map(open).collect()
}

#[test]
fn a_peer_that_lends_nothing_adopts_nothing() {
    let (mut peer, due) = (Peer::new(NOW, config(0), Saved::default(), 1).unwrap(), NOW.after(SILENCE));
    peer.handle(NOW, Event::Kept(kept()));
    peer.take_actions(NOW);
    peer.handle(due, Event::Timer);
    assert!(!peer.take_actions(due).iter().any(|action| matches!(action, Action::Adopt(_))));
    assert!(peer.keeping().may_keep(AUTHOR, JobId([4; 32])).is_err());
}

#[test]
fn what_was_taken_last_is_durable_before_it_is_handed_back() {
    let (mut peer, adopted_at) = adopted();
    let (now, worker) = (adopted_at.after(Duration::from_secs(20)), PeerId([2; 32]));
    // Its own slots take nothing.
    peer.handle(adopted_at, Event::Pause(true));
    peer.take_actions(adopted_at);
    peer.handle(now, Event::WorkerOpened { peer: worker, class: "v1".into(), platform: Platform::X86_64, slots: 1 });
    peer.handle(now, Event::WorkerWindow { peer: worker, window: 1 });
    peer.handle(now, Event::Timer);
    let actions = peer.take_actions(now);
    let asked = actions.iter().any(|action| matches!(action, Action::AskReceipts { to, job: JOB, .. } if *to == worker));
    assert!(asked, "it may have something that the author leased");
    let lease = actions.iter().find_map(|action| match action {
        Action::SendLeases { leases, .. } => Some(leases[0].clone()),
        _ => None,
    });
    let Lease { unit, attempt, ordinal, token, .. } = lease.expect("a unit is leased");
    let outgoing = Outgoing {
        unit,
        attempt,
        ordinal,
        token,
        input: None,
        rests_on: crate::protocol::checkpoint::Authors::NONE,
        finished: finished(unit),
    };
    peer.handle(now, Event::Reported { from: worker, job: JOB, report: own_report(outgoing, Platform::X86_64) });
    peer.handle(now, Event::Recalled { author: PeerId([5; 32]), job: JOB });
    assert!(peer.owner().has_adopted(JOB), "somebody else");
    peer.handle(now, Event::Recalled { author: AUTHOR, job: JOB });
    let actions = peer.take_actions(now);
    let order: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Persist(Fact::Vote(..)) => Some("vote"),
            Action::HandBack { to: AUTHOR, job: JOB } => Some("handed back"),
            Action::SendLeases { .. } => Some("leases"),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["vote", "handed back"]);
    assert_eq!((opens(&actions), peer.owner().has_adopted(JOB)), (vec![(1, 0)], false), "there is nothing here any more");
}

#[test]
fn an_author_that_announces_its_job_again_has_it_back() {
    for (event, gives_back) in [
        (Event::Announced { author: AUTHOR, announcement: open(5) }, true),
        (Event::Announced { author: PeerId([5; 32]), announcement: open(5) }, false),
        (Event::Kept(kept()), true),
        (Event::AuthorHeard(AUTHOR), false),
    ] {
        let (mut peer, now) = adopted();
        peer.handle(now, event);
        let actions = peer.take_actions(now);
        assert_eq!(actions.iter().any(|action| matches!(action, Action::HandBack { .. })), gives_back);
        assert_eq!(peer.owner().has_adopted(JOB), !gives_back);
        peer.handle(now, Event::KeptNoMore { job: JOB });
        peer.take_actions(now);
        assert!(!peer.owner().has_adopted(JOB) && peer.keeping().kept().next().is_none());
    }
}

#[test]
fn a_worker_hands_to_a_keeper_what_the_author_never_acknowledged() {
    let other = PeerId([5; 32]);
    let mut peer = Peer::new(NOW, config(1), Saved::default(), 1).unwrap();
    for coordinator in [AUTHOR, other] {
        peer.handle(NOW, Event::Announced { author: coordinator, announcement: open(5) });
        peer.take_actions(NOW);
        peer.handle(NOW, Event::CoordinatorOpened(coordinator));
    }
    let unit = UnitIndex(4);
    let (attempt, token, duration) = (Attempt(0), LeaseToken([7; 16]), Duration::from_secs(60));
    peer.handle(
        NOW,
        Event::Leased {
            from: AUTHOR,
            job: JOB,
            leases: vec![Lease {
                unit,
                attempt,
                ordinal: 0,
                token,
                duration,
                input: None,
                from: None,
                rests_on: crate::protocol::checkpoint::Authors::NONE,
            }],
        },
    );
    peer.take_actions(NOW);
    peer.handle(NOW, Event::Finished { run: RunId { coordinator: AUTHOR, job: JOB, unit, attempt }, finished: finished(unit) });
    peer.handle(NOW, Event::CoordinatorClosed(AUTHOR));
    peer.take_actions(NOW);
    let mut ask = |after| -> Vec<&'static str> {
        peer.handle(NOW, Event::ReceiptsAsked { from: other, job: JOB, after });
        let named = |action| match action {
            Action::KeepReceipts { coordinator: AUTHOR, job: JOB, receipts } if receipts[0].unit == unit => Some("kept"),
            Action::SendReceipts { to, job: JOB, .. } if to == other => Some("sent"),
            _ => None,
        };
        peer.take_actions(NOW).into_iter().filter_map(named).collect()
    };
    assert_eq!(ask(0), ["kept", "sent"]);
    assert_eq!([ask(64), ask(0)], [["sent"], ["sent"]], "kept once");
    peer.handle(NOW, Event::CoordinatorOpened(AUTHOR));
    let again = peer.take_actions(NOW).into_iter().any(|action| matches!(action, Action::SendOutcomes { to: AUTHOR, .. }));
    assert!(again, "its author gets it as ever");
    peer.handle(NOW, Event::Acknowledged { from: AUTHOR, job: JOB, units: vec![unit] });
    assert!(!peer.take_actions(NOW).iter().any(|action| matches!(action, Action::KeepReceipts { .. })));
}

#[test]
fn a_keeper_whose_user_stops_a_job_does_not_say_that_it_has_ended() {
    let (mut peer, now) = adopted();
    peer.handle(now, Event::Cancel(JOB));
    assert_eq!(opens(&peer.take_actions(now)), [(1, 0)], "another keeper may go on");
    let later = now.after(KEPT_JOB_REPEAT);
    peer.handle(later, Event::Timer);
    assert_eq!(opens(&peer.take_actions(later)), [], "and once is enough");
}
