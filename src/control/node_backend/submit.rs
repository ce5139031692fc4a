//! Taking a job in: its parts go to disk as they come, its modules are checked, and only then it is a job.

use super::NodeBackend;
use crate::{
    control::{
        backend::Reply,
        error::{ControlError, Kind},
        submission::{SubmitPart, SubmitParts},
    },
    node::Handle,
    protocol::{
        ids::PeerId,
        job::{Inputs, Manifest, ManifestError, Policy, Reduce, UnitRange},
        keeping::{KEEPERS_DEFAULT, KEEPERS_MAX},
        outcome::UnitLimits,
        peer::Event,
        verify::JobSecret,
    },
    sandbox,
    store::{self, Store, StoreError, Submission, SubmissionError, Submitted},
    wire::{
        control::{JobSpec, SubmitResponse},
        manifest,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Parts that wait for the disk: two mebibytes at most.
const PARTS_WAITING_MAX: usize = 8;

/// What the disk's side is told.
enum Fed {
    Part(SubmitPart),
    Commit,
}

impl NodeBackend {
    pub(super) async fn take_in(&self, spec: JobSpec, mut parts: SubmitParts) -> Reply<SubmitResponse> {
        let handle = self.handle().await?;
        let keep = spec.keep.map(|keep| u8::try_from(keep).unwrap_or(u8::MAX).min(KEEPERS_MAX));
        let intake = Intake::new(spec, &handle)?;
        let (feed, fed) = mpsc::channel(PARTS_WAITING_MAX);
        let backend = self.clone();
        // In a task of its own, so that a caller that goes away after the commit leaves no job that nobody runs.
        let taken = tokio::spawn(async move {
            let submitted = handle.store.blocking(move |store| intake.run(store, fed)).await?;
            backend.begin(&handle, submitted, keep).await
        });
        loop {
            match parts.next().await {
                Ok(part) => {
                    let is_last = part.is_none();
                    let gone = feed.send(part.map_or(Fed::Commit, Fed::Part)).await.is_err();
                    if is_last || gone {
                        break;
                    }
                }
                Err(error) => {
                    drop(feed);
                    // The answer is that the submission ended without a commit, which the caller's error says better.
                    drop(taken.await);
                    return Err(error);
                }
            }
        }
        drop(feed);
        let taken = taken.await.map_err(|error| ControlError::new(Kind::Internal, "SUBMIT_BROKE", error.to_string()))?;
        let Submitted { job, already_existed, manifest: _ } = taken?;
        Ok(SubmitResponse { job: Some(self.own_job(job).await?), already_existed, bytes_received: parts.bytes_received() })
    }

    /// Hands a durable job to the run loop.
    async fn begin(&self, handle: &Handle, submitted: Submitted, keep: Option<u8>) -> Reply<Submitted> {
        let (job, already_existed) = (submitted.job, submitted.already_existed);
        let keep = keep.unwrap_or(KEEPERS_DEFAULT);
        let shared = self.0.clone();
        let secret = handle.store.blocking(move |store| {
            if !already_existed {
                shared.chronicle.begin(store, job)?;
            }
            store.job_secret(job)?.ok_or(ControlError::from(StoreError::NoSuchJob(job)))
        });
        let secret = JobSecret(secret.await?);
        // One that existed is known to the run loop already, and stays as it is.
        // The node may have begun anew while the parts came in; the event goes to the one that runs now.
        self.handle().await?.event(Event::Submitted { job, manifest: Arc::new(submitted.manifest.clone()), secret, keep }).await?;
        Ok(submitted)
    }
}

/// The disk's side of a submission.
struct Intake {
    draft: Draft,
    key: iroh::SecretKey,
}

impl Intake {
    fn new(spec: JobSpec, handle: &Handle) -> Reply<Self> {
        Ok(Self { draft: Draft::new(spec, handle.facts.me)?, key: handle.identity.secret().clone() })
    }

    /// Takes parts until the commit. Whatever ends it earlier leaves nothing.
    fn run(self, store: &Store, mut fed: mpsc::Receiver<Fed>) -> Reply<Submitted> {
        let mut submission = Submission::begin(store, self.draft.owner)?;
        let mut modules = Modules::default();
        loop {
            match fed.blocking_recv() {
                Some(Fed::Part(SubmitPart::Module(data))) => {
                    modules.module.extend_from_slice(&data);
                    submission.module_chunk(&data).map_err(not_taken)?;
                }
                Some(Fed::Part(SubmitPart::ReduceModule(data))) => {
                    modules.reducer.extend_from_slice(&data);
                    submission.reduce_module_chunk(&data).map_err(not_taken)?;
                }
                Some(Fed::Part(SubmitPart::Unit { name, data, more })) => {
                    modules.check()?;
                    submission.unit(&name, &data, more).map_err(not_taken)?;
                }
                Some(Fed::Commit) => break,
                None => return Err(ControlError::new(Kind::Usage, "SUBMIT_INCOMPLETE", "the submission ended before its commit")),
            }
        }
        modules.check()?;
        self.draft.check_reducer(modules.has_reducer)?;
        let Self { draft, key } = self;
        submission.finish(|parts| draft.manifest(parts), |encoded| manifest::sign(&key, encoded)).map_err(not_taken)
    }
}

/// The modules of a submission, until they are checked.
#[derive(Default)]
struct Modules {
    module: Vec<u8>,
    reducer: Vec<u8>,
    has_reducer: bool,
    checked: bool,
}

impl Modules {
    /// Checks what has come, once: units follow only when both modules are complete.
    fn check(&mut self) -> Reply<()> {
        if self.checked {
            return Ok(());
        }
        admit("the module", &std::mem::take(&mut self.module))?;
        let reducer = std::mem::take(&mut self.reducer);
        self.has_reducer = !reducer.is_empty();
        if self.has_reducer {
            admit("the reducer", &reducer)?;
        }
        self.checked = true;
        Ok(())
    }
}

fn admit(what: &str, bytes: &[u8]) -> Reply<()> {
    sandbox::admit(bytes).map(drop).map_err(|rejection| {
        let text = format!("{what} cannot be run: {rejection}");
        ControlError::new(Kind::Usage, "BAD_MODULE", text).hint(rejection.hint())
    })
}

/// A job's description, of which only what is streamed in is missing.
struct Draft {
    spec: JobSpec,
    owner: PeerId,
    limits: UnitLimits,
    policy: Policy,
    priority: i8,
}

impl Draft {
    fn new(spec: JobSpec, owner: PeerId) -> Reply<Self> {
        let policy = match spec.policy.as_str() {
            "economy" => Policy::Economy,
            "" | "standard" => Policy::Standard,
            "strict" => Policy::Strict,
            other => return Err(ControlError::new(Kind::Usage, "UNKNOWN_WORD", format!("unknown policy `{other}`"))),
        };
        let priority = i8::try_from(spec.priority).map_err(|_| not_a_job(&ManifestError::Priority(i64::from(spec.priority))))?;
        Ok(Self { limits: limits(&spec), owner, policy, priority, spec })
    }

    fn check_reducer(&self, has_reducer: bool) -> Reply<()> {
        match (self.spec.reduce == "module", has_reducer) {
            (true, true) | (false, false) => Ok(()),
            (true, false) => {
                let error = ControlError::new(Kind::Usage, "NO_REDUCER", "the outputs are to be reduced by a module, and there is none");
                Err(error.hint("--reduce reducer.wasm"))
            }
            (false, true) => {
                Err(ControlError::new(Kind::Usage, "REDUCER_UNUSED", "there is a reducer, and nothing is to be reduced by it"))
            }
        }
    }

    fn manifest(self, parts: &store::Parts) -> Manifest {
        let Self { spec, owner, limits, policy, priority } = self;
        let range = spec.range.map(|range| UnitRange { start: range.start, end: range.end, per_unit: range.per_unit });
        // Without both, the table of no units is refused as one.
        let none = Inputs::Range(UnitRange { start: 0, end: 0, per_unit: 1 });
        let reduce = match (spec.reduce.as_str(), parts.reduce_module) {
            ("none", _) => Reduce::Separate,
            ("module", Some(module)) => Reduce::Module { module, args: spec.reduce_args },
            _ => Reduce::Concat,
        };
        Manifest {
            owner,
            name: if spec.name.is_empty() { "job".to_owned() } else { spec.name },
            module: parts.module,
            module_bytes: parts.module_bytes,
            args: spec.args,
            inputs: range.map(Inputs::Range).or(parts.table).unwrap_or(none),
            limits,
            policy,
            priority,
            tags: spec.tags,
            purpose: spec.purpose,
            reduce,
            nonce: spec.nonce.to_vec(),
        }
    }
}

/// The limits asked for, defaults where nothing is.
fn limits(spec: &JobSpec) -> UnitLimits {
    let default = UnitLimits::default();
    let or = |asked: u64, default: u64| if asked == 0 { default } else { asked };
    UnitLimits {
        memory_bytes: or(spec.memory_bytes, default.memory_bytes),
        gas: or(spec.gas, default.gas),
        wall: if spec.wall_ms == 0 { default.wall } else { Duration::from_millis(spec.wall_ms) },
        output_bytes: or(spec.output_bytes, default.output_bytes),
        log_bytes: or(spec.log_bytes, default.log_bytes),
    }
}

fn not_a_job(error: &ManifestError) -> ControlError {
    ControlError::new(Kind::Usage, "BAD_JOB", error.to_string())
}

fn not_taken(error: SubmissionError) -> ControlError {
    match error {
        SubmissionError::Manifest(error) => not_a_job(&error),
        SubmissionError::Unsendable(error) => ControlError::new(Kind::Usage, "BAD_JOB", error.to_string()),
        SubmissionError::Mismatch { .. } | SubmissionError::UnitNotEnded => {
            ControlError::new(Kind::Usage, "SUBMIT_ORDER", error.to_string())
        }
        SubmissionError::NoRandomness(_) => ControlError::new(Kind::Internal, "NO_RANDOMNESS", error.to_string()),
        SubmissionError::Store(StoreError::DiskFull) => {
            let error = ControlError::new(Kind::Exhausted, "DISK_FULL", "no space is left for this job");
            error.cause("nothing of it was kept").hint("free some disk space, then submit again")
        }
        SubmissionError::Store(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{protocol::ids::Digest, wire::control::Range};

    fn draft(spec: JobSpec) -> Draft {
        Draft::new(spec, PeerId([1; 32])).expect("a sensible description")
    }

    fn parts(table: Option<Inputs>) -> store::Parts {
        store::Parts { module: Digest([2; 32]), module_bytes: 100, reduce_module: None, table }
    }

    #[test]
    fn what_is_not_said_has_defaults() {
        let spec = JobSpec { range: Some(Range { start: 0, end: 10, per_unit: 1 }), gas: 5, ..JobSpec::default() };
        let manifest = draft(spec).manifest(&parts(None));
        assert_eq!(manifest.limits, UnitLimits { gas: 5, ..UnitLimits::default() });
        assert_eq!((manifest.policy, &manifest.reduce, manifest.name.as_str()), (Policy::Standard, &Reduce::Concat, "job"));
        assert_eq!(manifest.check(), Ok(()));
    }

    #[test]
    fn a_job_without_units_or_with_a_wild_priority_is_refused() {
        let nothing = draft(JobSpec::default()).manifest(&parts(None));
        assert_eq!(nothing.check(), Err(ManifestError::NoUnits));
        let wild = Draft::new(JobSpec { priority: 1000, ..JobSpec::default() }, PeerId([1; 32]));
        assert_eq!(wild.err().map(|error| error.kind), Some(Kind::Usage));
    }

    #[test]
    fn a_reducer_is_there_exactly_when_it_is_wanted() {
        let reasons = |reduce: &str, has| draft(JobSpec { reduce: reduce.to_owned(), ..JobSpec::default() }).check_reducer(has).err();
        assert_eq!(reasons("module", true), None);
        assert_eq!(reasons("module", false).map(|error| error.reason.into_owned()), Some("NO_REDUCER".to_owned()));
        assert_eq!(reasons("concat", true).map(|error| error.reason.into_owned()), Some("REDUCER_UNUSED".to_owned()));
    }
}
