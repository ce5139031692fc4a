//! The coordinator alone: events in, actions out. Each test names a behaviour and ends by looking for actions nobody expected.

use super::*;
use crate::protocol::{
    fact::{Failures, SavedJob, Verdict},
    ids::{Attempt, Digest},
    job::{Inputs, Policy, Reduce, UnitRange},
    outcome::{Exit, UnitLimits},
};
use core::time::Duration;
use rand_chacha::rand_core::SeedableRng;

const ME: u8 = 0;
const JOB: JobId = JobId([9; 32]);
/// Audits none of the first twelve units.
const SECRET: JobSecret = JobSecret([15; 32]);
const GAS: u64 = 1000;

#[path = "audit_tests.rs"]
mod audit;
#[path = "bisect_tests.rs"]
mod bisect;
#[path = "check_tests.rs"]
mod check;
#[path = "convict_tests.rs"]
mod convict;
#[path = "foreign_tests.rs"]
mod foreign;
#[path = "judge_tests.rs"]
mod judge;
#[path = "jury_tests.rs"]
mod jury;
#[path = "merge_tests.rs"]
mod merging;
#[path = "restart_tests.rs"]
mod restart;
#[path = "resume_tests.rs"]
mod resume;
#[path = "rule_cases.rs"]
mod rule_cases;
#[path = "tail_tests.rs"]
mod tail;

/// A coordinator with what it asked for, and the leases that its workers hold.
struct Desk {
    owner: Owner,
    now: Instant,
    leases: Vec<(u8, Lease)>,
    facts: Vec<Fact>,
    revoked: Vec<u8>,
    acknowledged: Vec<(u8, UnitIndex)>,
    announced: usize,
    accused: Vec<(u8, u32, bool)>,
    asked: Vec<OwnerAction>,
    dropped: Vec<Digest>,
}

fn key(worker: u8) -> PeerId {
    PeerId([worker; 32])
}

fn manifest(units: u32, policy: Policy) -> Manifest {
    Manifest {
        owner: key(ME),
        name: "job".into(),
        module: Digest([1; 32]),
        module_bytes: 100,
        args: vec![],
        inputs: Inputs::Range(UnitRange { start: 0, end: u64::from(units), per_unit: 1 }),
        limits: UnitLimits::default(),
        policy,
        priority: 0,
        tags: vec![],
        purpose: String::new(),
        reduce: Reduce::Concat,
        nonce: vec![],
    }
}

fn value(said: u8) -> Value {
    Value { exit: Exit::Code(0), output: Digest([said; 32]), gas: GAS, chain: None }
}

fn proven() -> Standing {
    Standing { verified_units: 100, verified_gas: 100 * GAS, ..Standing::default() }
}

impl Desk {
    /// With proven workers of these numbers known from earlier.
    fn new(known: &[u8]) -> Self {
        Self::restored(Saved { jobs: vec![], standings: known.iter().map(|&worker| (key(worker), proven())).collect(), ..Saved::default() })
    }

    fn restored(saved: Saved) -> Self {
        let now = Instant(1_000_000);
        let owner = Owner::new(now, key(ME), "v1".into(), saved, ChaCha8Rng::seed_from_u64(1));
        let mut desk = Self {
            owner,
            now,
            leases: vec![],
            facts: vec![],
            revoked: vec![],
            acknowledged: vec![],
            announced: 0,
            accused: vec![],
            asked: vec![],
            dropped: vec![],
        };
        desk.take();
        desk
    }

    fn submit(mut self, units: u32) -> Self {
        self.owner.submit(JOB, Arc::new(manifest(units, Policy::Standard)), SECRET);
        self.take();
        self
    }

    fn worker(&mut self, worker: u8, window: u32) {
        assert!(self.owner.attach(key(worker), "v1", Platform::X86_64, 4));
        self.owner.window(key(worker), window);
        self.take();
    }

    fn take(&mut self) {
        for action in self.owner.take_actions(self.now) {
            match action {
                OwnerAction::Persist(fact) => self.facts.push(fact),
                OwnerAction::Lease { to, job, leases } => {
                    assert_eq!(job, JOB);
                    self.leases.extend(leases.into_iter().map(|lease| (to.0[0], lease)));
                }
                OwnerAction::Acknowledge { to, units, .. } => self.acknowledged.extend(units.into_iter().map(|unit| (to.0[0], unit))),
                OwnerAction::Revoke { to, .. } => self.revoked.push(to.0[0]),
                OwnerAction::Accuse { accused, unit, second, .. } => self.accused.push((accused.0[0], unit.0, second.is_some())),
                OwnerAction::Announce(_) => self.announced += 1,
                OwnerAction::KeepOutput { .. } | OwnerAction::KeepLog { .. } => {}
                OwnerAction::AskLinks { .. } | OwnerAction::AskState { .. } | OwnerAction::RunSegment { .. } => self.asked.push(action),
                OwnerAction::DropState(state) => self.dropped.push(state),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.owner.expire(self.now);
        self.take();
    }

    /// Takes a lease that this worker got.
    fn lease(&mut self, worker: u8) -> Lease {
        let at = self.leases.iter().position(|(to, _)| *to == worker);
        let at = at.unwrap_or_else(|| panic!("{worker} holds no lease, {:?} do", self.leases));
        self.leases.remove(at).1
    }

    /// Of a unit.
    fn lease_of(&mut self, worker: u8, unit: u32) -> Lease {
        let at = self.leases.iter().position(|(to, lease)| *to == worker && lease.unit.0 == unit);
        let at = at.unwrap_or_else(|| panic!("{worker} does not hold {unit}, out are {:?}", self.leases));
        self.leases.remove(at).1
    }

    fn try_report(&mut self, worker: u8, lease: &Lease, outcome: Outcome) -> Result<(), ReportRejected> {
        let Lease { unit, attempt, ordinal, token, rests_on, .. } = *lease;
        let wall = Duration::from_secs(1);
        let report = Report {
            unit,
            attempt,
            ordinal,
            token,
            rests_on,
            outcome,
            output_bytes: 4,
            output: None,
            log: Arc::from([]),
            wall,
            platform: Platform::X86_64,
            proof: Arc::from([]),
        };
        let may = self.owner.may_report(key(worker), JOB, &report);
        let result = self.owner.report(self.now, key(worker), JOB, report);
        assert_eq!(may, result, "what is asked before is what is said then");
        self.take();
        result
    }

    fn answer(&mut self, worker: u8, lease: &Lease, said: u8) {
        self.try_report(worker, lease, Outcome::Value(value(said))).unwrap();
    }

    fn fail(&mut self, worker: u8, lease: &Lease) {
        self.try_report(worker, lease, Outcome::Failed(AttemptFailure::TimeOut)).unwrap();
    }

    fn state(&self, unit: u32) -> UnitState {
        self.owner.unit_views(JOB, UnitIndex(unit), 1)[0].state
    }

    fn job(&self) -> JobView {
        self.owner.job_view(JOB).unwrap()
    }

    fn verdicts(&self) -> Vec<(u32, Verdict)> {
        let verdict = |fact: &Fact| match fact {
            Fact::Verdict(_, unit, verdict) => Some((unit.0, *verdict)),
            _ => None,
        };
        self.facts.iter().filter_map(verdict).collect()
    }

    /// Whoever asked for a lease that no test took made a mistake.
    fn nothing_else(mut self) {
        self.take();
        assert_eq!(self.leases, [], "leases that nobody expected");
    }

    /// What a crash leaves: the first so many of the facts.
    fn saved(&self, facts: usize, units: u32) -> Saved {
        let manifest = manifest(units, Policy::Standard);
        let (state, votes, verdicts, failures, findings) = (JobState::Running, vec![], vec![], vec![], None);
        let mut job =
            SavedJob { id: JOB, manifest, secret: SECRET.0, state, votes, verdicts, failures, findings, keepers: Default::default() };
        let mut standings: BTreeMap<PeerId, Standing> = BTreeMap::new();
        let mut newest: BTreeMap<UnitIndex, Verdict> = BTreeMap::new();
        for fact in self.facts[..facts].iter().cloned() {
            match fact {
                Fact::Vote(_, vote) => job.votes.push(vote),
                Fact::Verdict(_, unit, verdict) => drop(newest.insert(unit, verdict)),
                Fact::Failures(_, unit, failures) => job.failures.push((unit, failures)),
                Fact::JobState(_, state) => job.state = state,
                Fact::Findings(_, findings) => job.findings = Some(findings),
                Fact::Keepers(_, wanted, keepers) => job.keepers = (wanted, keepers),
                Fact::Standing(peer, standing) => drop(standings.insert(peer, standing)),
            }
        }
        job.verdicts = newest.into_iter().collect();
        Saved { jobs: vec![job], standings: standings.into_iter().collect(), ..Saved::default() }
    }
}

#[test]
fn canaries_go_out_first_and_the_rest_when_one_has_succeeded() {
    let mut desk = Desk::new(&[1]).submit(100);
    desk.worker(1, 8);
    let canary = desk.lease(1);
    assert_eq!((canary.unit, canary.attempt, canary.ordinal, desk.leases.len()), (UnitIndex(0), Attempt(0), 0, 2));
    desk.answer(1, &canary, 7);
    assert_eq!(desk.leases.len(), 8, "the window is full");
    desk.leases.clear();
    desk.nothing_else();
}

#[test]
fn a_canary_that_takes_long_holds_up_nothing() {
    let mut desk = Desk::new(&[1, 2]).submit(100);
    desk.worker(1, 50);
    let mut out = vec![desk.leases.len()];
    for _ in 0..4 {
        assert_eq!(desk.owner.deadline(), Some(desk.now.after(Duration::from_secs(10))));
        desk.pass(Duration::from_secs(10));
        out.push(desk.leases.len());
    }
    assert_eq!(out, [3, 3, 4, 8, 16]);
}

#[test]
fn a_second_vote_is_leased_to_another_only_after_the_first_is_committed() {
    let mut desk = Desk::new(&[1, 2]).submit(1);
    desk.worker(1, 8);
    desk.worker(2, 8);
    let (first, second) = if desk.leases[0].0 == 1 { (1, 2) } else { (2, 1) };
    let lease = desk.lease(first);
    assert!(desk.leases.is_empty(), "one at a time");
    desk.answer(first, &lease, 7);
    let lease = desk.lease(second);
    assert_eq!((lease.attempt, lease.ordinal), (Attempt(1), 1));
    desk.answer(second, &lease, 7);
    assert_eq!(desk.verdicts(), [(0, Verdict::Verified { value: value(7), by_owner: false })]);
    assert_eq!((desk.job().state, desk.job().counts.output_bytes), (JobState::Done, 4));
    assert!(desk.facts.contains(&Fact::JobState(JOB, JobState::Done)));
    assert_eq!(desk.acknowledged, [(first, UnitIndex(0)), (second, UnitIndex(0))]);
    desk.nothing_else();
}

#[test]
fn reports_without_a_lease_are_rejected_by_name() {
    let mut desk = Desk::new(&[1, 2]).submit(2);
    desk.worker(1, 1);
    let lease = desk.lease(1);
    let honest = Outcome::Value(value(7));
    let rejected = Err(ReportRejected::NotLeased);
    assert_eq!(desk.try_report(2, &lease, honest), rejected, "another's");
    assert_eq!(desk.try_report(1, &Lease { token: LeaseToken([0; 16]), ..lease.clone() }, honest), rejected, "forged");
    assert_eq!(desk.try_report(1, &Lease { unit: UnitIndex(1), ..lease.clone() }, honest), rejected, "of another unit");
    assert_eq!(desk.try_report(1, &Lease { ordinal: 1, ..lease.clone() }, honest), rejected, "of another order");
    assert_eq!(desk.try_report(1, &Lease { unit: UnitIndex(2), ..lease.clone() }, honest), Err(ReportRejected::UnknownUnit));
    desk.owner.jobs.clear();
    assert_eq!(desk.try_report(1, &lease, honest), Err(ReportRejected::UnknownJob));
    assert!(desk.facts.is_empty());
    desk.nothing_else();
}

#[test]
fn a_repeated_report_is_acknowledged_and_changes_nothing() {
    let mut desk = Desk::new(&[1]).submit(1);
    desk.worker(1, 1);
    let lease = desk.lease(1);
    desk.answer(1, &lease, 7);
    let facts = desk.facts.len();
    desk.answer(1, &lease, 7);
    desk.fail(1, &lease);
    assert_eq!((desk.facts.len(), desk.acknowledged.len()), (facts, 3));
    desk.nothing_else();
}

#[test]
fn an_expired_lease_is_leased_again_and_the_late_result_adds_no_weight() {
    let mut desk = Desk::new(&[1, 2, 3]).submit(1);
    desk.worker(1, 1);
    let late = desk.lease(1);
    assert_eq!(late.duration, UnitLimits::default().wall + Duration::from_secs(300), "nothing is known yet");
    desk.pass(late.duration);
    desk.worker(2, 1);
    let again = desk.lease(2);
    assert_eq!((again.attempt, again.ordinal), (Attempt(1), 0));
    desk.answer(2, &again, 7);
    desk.answer(1, &late, 7);
    assert_eq!(desk.state(0), UnitState::AwaitingVote, "both were out at the same time");
    desk.worker(3, 1);
    let third = desk.lease(3);
    assert_eq!(third.ordinal, 2);
    desk.answer(3, &third, 7);
    assert_eq!(desk.job().state, JobState::Done);
    desk.nothing_else();
}

#[test]
fn a_worker_that_lets_leases_run_out_rests_and_then_gets_one_at_a_time() {
    let mut desk = Desk::new(&[1]).submit(100);
    desk.worker(1, 4);
    let canary = desk.lease(1);
    desk.answer(1, &canary, 7);
    let out: Vec<_> = (0..4).map(|_| desk.lease(1)).collect();
    desk.pass(out.iter().map(|lease| lease.duration).max().unwrap());
    assert_eq!(desk.leases.len(), 0, "it rests");
    desk.pass(Duration::from_secs(10));
    let mut lease = desk.lease(1);
    assert!(desk.leases.is_empty(), "one to try");
    for held in [2, 3, 4, 4] {
        desk.answer(1, &lease, 7);
        assert_eq!(desk.leases.len(), held, "one more with each answer, and as many as it wants at most");
        lease = desk.lease(1);
    }
    assert_eq!(desk.owner.trust().standing(key(1)).verified_units, 100, "no trust is lost");
}

#[test]
fn the_units_of_a_worker_that_leaves_are_offered_at_once() {
    let mut desk = Desk::new(&[1, 2]).submit(1);
    desk.worker(1, 1);
    let lost = desk.lease(1);
    desk.worker(2, 1);
    desk.owner.detach(desk.now, key(1));
    desk.take();
    let again = desk.lease(2);
    assert_eq!(again.attempt, Attempt(lost.attempt.0 + 1));
    desk.nothing_else();
}

#[test]
fn no_window_is_taken_at_its_word_beyond_the_bound_and_newcomers_get_few() {
    let mut desk = Desk::new(&[1]).submit(100_000);
    desk.worker(1, u32::MAX);
    let canary = desk.lease(1);
    desk.answer(1, &canary, 7);
    assert_eq!(desk.leases.len(), crate::protocol::worker::WINDOW_MAX as usize);
    desk.leases.clear();
    desk.worker(2, u32::MAX);
    assert_eq!(desk.leases.len(), NEWCOMER_PENDING_MAX as usize);
    let leases: Vec<_> = desk.leases.drain(..).collect();
    for (_, lease) in &leases {
        desk.answer(2, lease, 7);
    }
    assert_eq!(desk.leases.iter().filter(|(to, _)| *to == 2).count(), 1, "undecided units count; the canary was decided");
}

#[test]
fn a_worker_of_another_class_is_not_attached() {
    let mut desk = Desk::new(&[]).submit(1);
    assert!(!desk.owner.attach(key(1), "v2", Platform::X86_64, 1));
    desk.owner.window(key(1), 5);
    desk.nothing_else();
}

#[test]
fn cancelling_revokes_once_from_each_and_nothing_is_leased_any_more() {
    let mut desk = Desk::new(&[1, 2]).submit(100);
    desk.worker(1, 4);
    desk.worker(2, 4);
    let canary = desk.leases.pop().unwrap();
    desk.answer(canary.0, &canary.1, 7);
    desk.leases.clear();
    assert!(desk.owner.cancel(JOB));
    desk.take();
    assert_eq!(desk.revoked, [1, 2]);
    assert!(!desk.owner.cancel(JOB), "it is over");
    assert_eq!(desk.job().state, JobState::Cancelled);
    assert_eq!(desk.owner.open_units(JOB), 0);
    desk.pass(Duration::from_secs(100_000));
    assert_eq!(desk.leases, []);
    assert_eq!(desk.owner.retry(desk.now, JOB), Some(0));
    desk.take();
    assert_eq!(desk.leases.len(), 8, "it goes on");
}

#[test]
fn a_failure_counts_once_for_each_lease_and_newcomers_alone_make_no_unit_fail() {
    let mut desk = Desk::new(&[9]).submit(1);
    desk.worker(9, 0);
    for worker in 1..=3 {
        desk.worker(worker, 1);
        let lease = desk.lease(worker);
        for _ in 0..20 {
            desk.fail(worker, &lease);
        }
        desk.owner.window(key(worker), 0);
    }
    let three = Failures { count: 3, last: AttemptFailure::TimeOut };
    assert_eq!(desk.facts.last(), Some(&Fact::Failures(JOB, UnitIndex(0), three)));
    desk.worker(4, 1);
    assert!(desk.leases.is_empty(), "now someone proven is asked");
    for _ in 0..9 {
        assert_eq!(desk.state(0), UnitState::Waiting);
        desk.owner.window(key(9), 1);
        desk.take();
        desk.pass(Duration::from_secs(10));
        let lease = desk.lease(9);
        desk.fail(9, &lease);
    }
    assert_eq!(desk.state(0), UnitState::Failed);
    assert_eq!(desk.job().state, JobState::Failed);
    desk.nothing_else();
}

#[test]
fn a_failed_unit_runs_again_when_asked_to() {
    let mut desk = Desk::new(&[1]).submit(1);
    desk.worker(ME, 1);
    for _ in 0..3 {
        let lease = desk.lease(ME);
        desk.fail(ME, &lease);
    }
    assert_eq!(desk.job().state, JobState::Failed);
    assert_eq!(desk.owner.retry(desk.now, JOB), Some(1));
    desk.take();
    let lease = desk.lease(ME);
    desk.answer(ME, &lease, 7);
    assert_eq!(desk.job().state, JobState::Done);
    assert_eq!(desk.owner.retry(desk.now, JOB), Some(0));
    assert_eq!(desk.owner.retry(desk.now, JobId([0; 32])), None);
    desk.nothing_else();
}

#[test]
fn only_what_matters_of_a_peer_that_says_hello_is_made_durable() {
    let mut desk = Desk::new(&[1]).submit(2);
    let kept = |desk: &mut Desk, worker: u8| -> Vec<Standing> {
        desk.take();
        let standing = |fact| match fact {
            Fact::Standing(peer, standing) if peer == key(worker) => Some(standing),
            _ => None,
        };
        desk.facts.drain(..).filter_map(standing).collect()
    };
    desk.owner.meet(key(5), None, Some(key(77)), false);
    assert_eq!(kept(&mut desk, 5), [], "a stranger");
    desk.owner.meet(key(1), None, Some(key(77)), false);
    assert_eq!(kept(&mut desk, 1).len(), 1, "it has a record");
    desk.owner.meet(key(6), None, None, true);
    assert!(kept(&mut desk, 6)[0].anchor);
    desk.owner.meet(key(6), None, None, false);
    assert!(!kept(&mut desk, 6)[0].anchor, "no longer");
    desk.worker(5, 1);
    let first = desk.lease(5);
    desk.answer(5, &first, 7);
    assert_eq!(kept(&mut desk, 5)[0].lineage, Some(key(77)), "its votes must not look independent after a restart");
    let second = desk.lease(5);
    desk.answer(5, &second, 7);
    assert_eq!(kept(&mut desk, 5), [], "once");
}
