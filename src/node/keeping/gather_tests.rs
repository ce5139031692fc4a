//! Tests of [`super`].

use super::*;
use crate::{
    protocol::{
        checkpoint::Authors,
        fact::{Findings, JobState},
        ids::{Attempt, JobId},
        outcome::{Exit, Value},
    },
    wire::{
        kept::check_collected,
        receipt::{CheckedRoots, Claim, Receipts},
        signing,
    },
};
use iroh::SecretKey;

const JOB: JobId = JobId([7; 32]);
const NONE: &[Option<Digest>] = &[];

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

fn me() -> PeerId {
    signing::peer_of(&key(1))
}

struct Signer;

impl Sign for Signer {
    fn sign(&self, votes: &[OwnVote]) -> Option<(String, String, [u8; SIGNATURE_BYTES])> {
        let claims: Vec<Claim> = votes.iter().map(|own| Claim::of_vote(&own.vote, None)).collect();
        let receipts = Receipts::new(JOB, "v1", "x86_64", &claims).unwrap();
        Some(("v1".into(), "x86_64".into(), receipts.sign(&key(1))))
    }

    fn prove(&self, vote: &mut Vote) {
        let receipts = Receipts::new(JOB, "v1", "x86_64", &[Claim::of_vote(vote, None)]).unwrap();
        vote.proof = receipts.proof(0, &receipts.sign(&key(1)));
    }
}

fn output(unit: u32) -> Vec<u8> {
    vec![unit as u8; 100]
}

fn vote(worker: PeerId, unit: u32) -> Vote {
    let value = Value { exit: Exit::Code(0), output: Digest::of(&output(unit)), gas: u64::from(unit), chain: None };
    Vote {
        unit: UnitIndex(unit),
        worker,
        attempt: Attempt(1),
        ordinal: 0,
        position: 2,
        platform: Platform::X86_64,
        value,
        output_bytes: 100,
        origin: Origin::Leased,
        rests_on: Authors::NONE,
        proof: Arc::from([]),
    }
}

/// A batch that a worker has signed.
fn signed(seed: u8, units: &[u32]) -> Vec<Vote> {
    let mut votes: Vec<Vote> = units.iter().map(|unit| vote(signing::peer_of(&key(seed)), *unit)).collect();
    let claims: Vec<Claim> = votes.iter().map(|vote| Claim::of_vote(vote, None)).collect();
    let receipts = Receipts::new(JOB, "v1", "x86_64", &claims).unwrap();
    let signature = receipts.sign(&key(seed));
    votes.iter_mut().enumerate().for_each(|(at, vote)| vote.proof = receipts.proof(at, &signature));
    votes
}

fn verified(vote: &Vote, by_owner: bool) -> Verdict {
    Verdict::Verified { value: vote.value, by_owner }
}

/// What a turn writes of a vote that decides its unit.
fn decides(vote: &Vote) -> [Write; 3] {
    let bytes = output(vote.unit.0);
    [
        Write::Blob { digest: Digest::of(&bytes), bytes, pin: Some(JOB) },
        Write::Fact(Fact::Vote(JOB, vote.clone())),
        Write::Fact(Fact::Verdict(JOB, vote.unit, verified(vote, false))),
    ]
}

fn own(unit: u32) -> Vec<Write> {
    let vote = vote(me(), unit);
    vec![Write::Fact(Fact::Vote(JOB, vote.clone())), Write::Fact(Fact::Verdict(JOB, vote.unit, verified(&vote, true)))]
}

fn add(gathered: &mut Gathered, writes: &[Write]) {
    gathered.add(Instant::now(), me(), writes.iter(), &Signer);
}

/// What a keeper comes to know: votes that hold, and for each unit the verdict that it has last.
fn known(messages: Vec<Message>) -> (Vec<Vote>, BTreeMap<u32, Verdict>) {
    let (mut votes, mut verdicts) = (Vec::new(), BTreeMap::new());
    for (_, sheaf) in messages {
        for part in Sheaf::decode(&sheaf.encode()).unwrap().parts {
            match part {
                Part::Batch(batch) => {
                    for (vote, verdict) in batch.unbind(JOB, NONE).unwrap() {
                        verdicts.extend(verdict.map(|verdict| (vote.unit.0, verdict)));
                        votes.push(vote);
                    }
                }
                Part::Record(Record::Vote(vote)) => votes.push(vote),
                Part::Record(Record::Verdict(unit, verdict)) => drop(verdicts.insert(unit.0, verdict)),
                Part::Record(_) => {}
            }
        }
    }
    assert!(votes.iter().all(|vote| check_collected(vote, JOB, None, "v1", &mut CheckedRoots::default()).is_ok()));
    (votes, verdicts)
}

fn batches(messages: &[Message]) -> Vec<usize> {
    let batch = |part: &Part| if let Part::Batch(batch) = part { Some(batch.votes.len()) } else { None };
    messages.iter().flat_map(|(_, sheaf)| sheaf.parts.iter().filter_map(batch)).collect()
}

#[test]
fn facts_of_many_turns_go_together_and_nothing_is_lost() {
    let mut gathered = Gathered::default();
    assert!(gathered.is_empty() && gathered.due().is_none());
    let (one, two) = (signed(2, &[10, 11, 12]), signed(3, &[20, 21]));
    add(&mut gathered, &one.iter().flat_map(decides).collect::<Vec<_>>());
    add(&mut gathered, &own(0));
    add(&mut gathered, &two.iter().flat_map(decides).chain(own(1)).collect::<Vec<_>>());
    let since = gathered.due().unwrap() - GATHERED_FOR;
    assert!(!gathered.is_due(since) && gathered.is_due(since + GATHERED_FOR));
    let messages = gathered.take(&Signer);
    assert!(gathered.is_empty());
    assert_eq!((messages.len(), batches(&messages)), (1, vec![3, 2, 2]), "own votes are signed together too");
    let (votes, verdicts) = known(messages);
    assert_eq!(votes.iter().map(|vote| vote.unit.0).collect::<Vec<_>>(), [10, 11, 12, 20, 21, 0, 1]);
    assert_eq!(verdicts.len(), 7);
    assert_eq!((verdicts[&10], verdicts[&0]), (verified(&one[0], false), verified(&vote(me(), 0), true)));
    let sent: Vec<Vote> = votes.into_iter().filter(|vote| vote.worker != me()).collect();
    assert_eq!(sent, one.iter().chain(&two).map(collected).collect::<Vec<_>>(), "proofs and all");
}

#[test]
fn votes_of_a_batch_that_is_not_whole_keep_their_proofs() {
    let whole = signed(2, &[1, 2, 3, 4]);
    let with_chain = Vote { value: Value { chain: Some(Digest([1; 32])), ..whole[0].value }, ..whole[0].clone() };
    for votes in [&whole[1..], &whole[..3], &[&whole[..2], &whole[3..]].concat(), &[whole[1].clone(), whole[0].clone()]] {
        let mut gathered = Gathered::default();
        add(&mut gathered, &votes.iter().flat_map(decides).collect::<Vec<_>>());
        let messages = gathered.take(&Signer);
        assert_eq!(batches(&messages), [0; 0]);
        let (found, verdicts) = known(messages);
        assert_eq!((found, verdicts.len()), (votes.iter().map(collected).collect(), votes.len()));
    }
    assert!(whole_batch([with_chain].iter()).is_none() && whole_batch(whole.iter()).is_some());
    assert_eq!(bind_votes(&whole[..3]).len(), 3);
    assert_eq!(bind_votes(&[signed(3, &[9]), whole].concat()).len(), 2);
}

#[test]
fn own_votes_that_fit_no_batch_are_signed_too() {
    let mut gathered = Gathered::default();
    let plain = vote(me(), 5);
    let stepped = Vote { value: Value { chain: Some(Digest([1; 32])), ..plain.value }, ..plain };
    let (fact, verdict) = (Fact::Vote(JOB, stepped.clone()), Fact::Verdict(JOB, UnitIndex(5), verified(&stepped, true)));
    add(&mut gathered, &[Write::Fact(fact), Write::Fact(verdict)]);
    let (votes, verdicts) = known(gathered.take(&Signer));
    assert_eq!((votes.len(), verdicts[&5]), (1, verified(&stepped, true)));
}

#[test]
fn the_last_decision_on_a_unit_holds() {
    let (votes, open) = (signed(2, &[1, 2]), |unit| Write::Fact(Fact::Verdict(JOB, UnitIndex(unit), Verdict::Open)));
    let writes = |turn: &[&dyn Fn() -> Vec<Write>]| turn.iter().flat_map(|part| part()).collect::<Vec<_>>();
    let batch = || votes.iter().flat_map(decides).collect::<Vec<_>>();
    let second = || Vec::from(decides(&signed(3, &[1])[0]));
    let cases: [(&str, Vec<Vec<Write>>, Verdict); 7] = [
        ("re-opened behind it", vec![writes(&[&batch, &|| vec![open(1)]])], Verdict::Open),
        ("re-opened before it", vec![writes(&[&|| vec![open(1)], &batch])], verified(&votes[0], false)),
        ("in the turn before", vec![vec![open(1)], batch()], verified(&votes[0], false)),
        ("in the turn behind", vec![batch(), vec![open(1)]], Verdict::Open),
        ("an own vote re-opened", vec![own(1), vec![open(1)]], Verdict::Open),
        ("an own vote, then others", vec![own(1), second()], verified(&vote(me(), 1), false)),
        ("others, then an own vote", vec![second(), own(1)], verified(&vote(me(), 1), true)),
    ];
    for (what, turns, expected) in cases {
        let mut gathered = Gathered::default();
        turns.iter().for_each(|turn| add(&mut gathered, turn));
        let (_, verdicts) = known(gathered.take(&Signer));
        assert_eq!(verdicts[&1], expected, "{what}");
    }
}

#[test]
fn outputs_are_sent_once_and_states_and_large_ones_at_once() {
    let mut gathered = Gathered::default();
    let large = Digest([9; 32]);
    let alone = Write::Blob { digest: Digest::of(b"alone"), bytes: b"alone".to_vec(), pin: Some(JOB) };
    let others = [Write::Pin { job: JOB, digest: large }, alone, Write::Fact(Fact::JobState(JOB, JobState::Done))];
    let first = signed(2, &[1, 2]);
    add(&mut gathered, &first.iter().flat_map(decides).chain(others).collect::<Vec<_>>());
    let messages = gathered.take(&Signer);
    assert_eq!(messages[0].0, [Record::LargeBlob(large), Record::State(JobState::Done)]);
    assert_eq!(messages[0].1.inline_bytes(), 205);
    add(&mut gathered, &signed(3, &[1, 2]).iter().flat_map(decides).collect::<Vec<_>>());
    assert_eq!(gathered.take(&Signer)[0].1.inline_bytes(), 0, "keepers have them");
    let nothing = [Write::Fact(Fact::Standing(me(), crate::protocol::fact::Standing::default()))];
    add(&mut gathered, &nothing);
    assert!(gathered.is_empty());
}

#[test]
fn much_goes_at_once_and_in_messages_that_keep_to_the_bounds() {
    let mut gathered = Gathered::default();
    let long = |unit: u32| Write::Log { job: JOB, unit: UnitIndex(unit), bytes: vec![0; LOG_BYTES_MAX * 2] };
    add(&mut gathered, &(0..100).map(long).collect::<Vec<_>>());
    assert!(gathered.is_due(Instant::now()), "without waiting");
    let findings = Write::Fact(Fact::Findings(JOB, Findings::default()));
    let units: Vec<u32> = (0..1024).collect();
    for seed in 2..8 {
        let votes = signed(seed, &units).iter().flat_map(decides).collect::<Vec<_>>();
        add(&mut gathered, &votes);
    }
    add(&mut gathered, &[findings]);
    let messages = gathered.take(&Signer);
    assert!(messages.iter().all(|(_, sheaf)| Sheaf::decode(&sheaf.encode()).is_ok()));
    assert_eq!((known(messages).0.len(), gathered.is_empty()), (6 * 1024, true));
    (0..u32::try_from(GATHERED_MAX).unwrap()).for_each(|unit| add(&mut gathered, &own(unit)));
    assert!(gathered.is_due(Instant::now()));
    assert_eq!(batches(&gathered.take(&Signer)), [BATCH_MAX, GATHERED_MAX - BATCH_MAX]);
}
