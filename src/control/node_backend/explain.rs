//! Why a job or this node is where it is, in sentences, with what to try.

use super::{NodeBackend, units::LOOK_UNITS};

use crate::{
    control::{backend::Reply, error::grouped, verdict},
    node::net::nickname::nickname,
    protocol::{
        fact::JobState,
        ids::JobId,
        owner::{JobView, UnitState, UnitView, WaitReason},
        verify::AuditState,
    },
    wire::control::{ExplainResponse, Reason, Status},
};

/// How many different failures of units are told.
const FAILURES_TOLD_MAX: usize = 5;
/// How many sentences say how far units have come.
const SAVED_TOLD_MAX: usize = 10;
/// Units that are looked through for failed ones.
const UNITS_SEARCHED_MAX: u32 = 100_000;

impl NodeBackend {
    pub(super) async fn reasons(&self, job: Option<&str>) -> Reply<ExplainResponse> {
        let Some(reference) = job else {
            let status = self.status_now().await?;
            let mut reasons: Vec<Reason> =
                status.warnings.iter().map(|warning| reason("WARNING", warning.clone(), &[])).chain(idle_reason(&status)).collect();
            if reasons.is_empty() {
                let text = format!("the node works: {} of {} slots are busy", status.slots_busy, status.slots);
                reasons.push(reason("WORKING", text, &["manyhands status"]));
            }
            return Ok(ExplainResponse { reasons });
        };
        let job = self.own(reference).await?;
        let view = self.seen(job).await?.view;
        let mut reasons = job_reasons(&view);
        reasons.extend(self.failures(job, &view).await?);
        reasons.extend(self.saved(job, &view).await?);
        Ok(ExplainResponse { reasons })
    }

    /// What the first units that failed ended in; alike ones are told once.
    async fn failures(&self, job: JobId, view: &JobView) -> Reply<Vec<Reason>> {
        let (mut next, mut told) = (0, Vec::<(String, u32)>::new());
        while view.counts.failed > 0 && next < view.counts.units.min(UNITS_SEARCHED_MAX) && told.len() < FAILURES_TOLD_MAX {
            let units = self.unit_views(job, next, LOOK_UNITS).await?;
            let Some(last) = units.last() else { break };
            next = last.unit.0 + 1;
            for unit in units.iter().filter(|unit| unit.state == UnitState::Failed) {
                let ended = ended_in(unit);
                if told.len() < FAILURES_TOLD_MAX && told.iter().all(|(before, _)| *before != ended) {
                    told.push((ended, unit.unit.0));
                }
            }
        }
        let id = job.short();
        let told = told.into_iter();
        Ok(told
            .map(|(ended, unit)| reason("UNIT_FAILED", format!("unit {unit}: {ended}"), &[&format!("manyhands logs {id} --unit {unit}")]))
            .collect())
    }

    /// How far the first long units have come, and who went on with them from where.
    async fn saved(&self, job: JobId, view: &JobView) -> Reply<Vec<Reason>> {
        let (mut next, mut told) = (0, Vec::new());
        while view.saved && next < view.counts.units.min(UNITS_SEARCHED_MAX) && told.len() < SAVED_TOLD_MAX {
            let units = self.unit_views(job, next, LOOK_UNITS).await?;
            let Some(last) = units.last() else { break };
            next = last.unit.0 + 1;
            told.extend(units.iter().flat_map(came_so_far));
        }
        told.truncate(SAVED_TOLD_MAX);
        Ok(told)
    }
}

/// How far a unit has come, and who went on with it from where.
fn came_so_far(unit: &UnitView) -> Vec<Reason> {
    let saved = unit.checkpoint.map(|(gas, by)| {
        let text = format!("unit {} has come to {gas} gas at the last checkpoint of {}", unit.unit, nickname(by));
        reason("UNIT_SAVED", text, &[])
    });
    let resumed = unit.resumed.iter().map(|(by, gas)| {
        reason("UNIT_RESUMED", format!("unit {}: {} went on from a checkpoint at {gas} gas", unit.unit, nickname(*by)), &[])
    });
    saved.into_iter().chain(resumed).collect()
}

/// What a failed unit ended in: its value where there is one, else why the last attempt failed.
fn ended_in(unit: &UnitView) -> String {
    let attempt = || unit.failures.map(|failures| failures.last.to_string());
    unit.value.map(|value| value.exit.to_string()).or_else(attempt).unwrap_or_else(|| "nobody could run it".to_owned())
}

fn reason(code: &str, text: impl Into<String>, hints: &[&str]) -> Reason {
    Reason { code: code.to_owned(), text: text.into(), hints: hints.iter().map(|hint| (*hint).to_owned()).collect() }
}

/// Why this node runs nothing, the strongest reason first; nothing while it works.
pub(super) fn idle_reason(status: &Status) -> Vec<Reason> {
    if status.paused {
        let left =
            if status.pause_left_ms > 0 { format!(" for {} more seconds", status.pause_left_ms.div_ceil(1000)) } else { String::new() };
        return vec![reason("PAUSED", format!("this node is paused{left} and lends nothing"), &["manyhands resume"])];
    }
    if status.slots_busy > 0 {
        return Vec::new();
    }
    let mut reasons = Vec::new();
    if status.slots == 0 {
        reasons.push(reason("NO_SLOTS", "this node lends no slots: it submits only", &["manyhands up --slots 2"]));
    } else if status.jobs_open_here > 0 || status.jobs_heard > 0 {
        let text = "there are open jobs, and this node is about to get units of them, or they leave it none";
        reasons.push(reason("WAITING_FOR_LEASES", text, &["manyhands jobs", "manyhands peers"]));
    } else {
        reasons.push(reason("WAITING_FOR_WORK", "no job with open units is known", &["manyhands submit app.wasm"]));
    }
    if status.peers_connected == 0 {
        let text = "no other peer is connected";
        reasons.push(reason("NO_PEERS", text, &["manyhands invite          (and join on the other machine)", "manyhands join TICKET"]));
    }
    reasons
}

/// What a job's line says: why it does not go on, if so.
pub(super) fn job_reason(view: &JobView) -> Option<Reason> {
    let reason = match view.state {
        JobState::Done | JobState::Cancelled => None,
        JobState::Running => view.waiting.map(|waiting| wait_reason(waiting, view)),
        JobState::Failed | JobState::Stopped => ended_reason(view),
    };
    reason.or_else(|| differing_machines(view))
}

/// That machines of different instruction sets disagree on the job's units, if they do.
pub(super) fn nondeterminism(view: &JobView) -> Option<String> {
    let found = view.nondeterminism?;
    let (dissent, against) = (found.dissenting, found.against);
    let units = if found.units == 1 { "1 unit".to_owned() } else { format!("{} units", grouped(found.units)) };
    let first = format!("machines of different instruction sets disagree on {units} (first: unit {})", found.first);
    Some(if found.set_aside {
        format!("{first}: {dissent} against {against}; votes of {dissent} do not count")
    } else {
        format!("{first}: {dissent} against {against}; nobody else on {dissent} could be asked, so the workers who said so do not count")
    })
}

fn differing_machines(view: &JobView) -> Option<Reason> {
    let id = view.id.short();
    let hints = [&*format!("manyhands verify {id}          (runs units here)"), "manyhands peers"];
    nondeterminism(view).map(|text| reason("NONDETERMINISM", text, &hints))
}

/// What third votes have shown so far, and how far that reaches.
fn audits(view: &JobView) -> Option<Reason> {
    let clean = view.clean_audits;
    let collusion = view.findings.audit.collusion.then(|| {
        let text = "two keys signed the same wrong value: every unit is audited, and nothing is provisional";
        reason("COLLUSION", text, &["manyhands peers"])
    });
    collusion.or_else(|| {
        (clean > 3).then(|| {
            let text = format!("{} verified units were audited and nobody disagreed: {}", grouped(clean), verdict::bound(clean));
            reason("AUDITED", text, &[&format!("manyhands verify {}", view.id.short())])
        })
    })
}

fn job_reasons(view: &JobView) -> Vec<Reason> {
    let counts = &view.counts;
    let mut reasons = Vec::new();
    match view.state {
        JobState::Done | JobState::Cancelled | JobState::Failed | JobState::Stopped => reasons.extend(ended_reason(view)),
        JobState::Running => {
            reasons.extend(view.waiting.map(|waiting| wait_reason(waiting, view)));
            if view.running > 0 {
                let text = format!(
                    "{} units are out at workers; {} of {} are decided",
                    grouped(view.running),
                    grouped(counts.decided()),
                    grouped(counts.units)
                );
                reasons.push(reason("RUNNING", text, &[&format!("manyhands watch {}", view.id.short())]));
            }
            if counts.failed > 0 {
                reasons.push(units_failed(view));
            }
        }
    }
    if counts.disputed > 0 && view.waiting != Some(WaitReason::Disputed) {
        let text = match view.juries {
            0 => format!("trusted voters disagree on {} units; this machine runs them to decide", grouped(counts.disputed)),
            juries => format!(
                "trusted voters disagree on {} units; this machine runs them to decide, and {} are put to many voters at once",
                grouped(counts.disputed),
                grouped(juries)
            ),
        };
        reasons.push(reason("DISPUTED", text, &[&format!("manyhands verify {}", view.id.short())]));
    }
    if counts.rechecking > 0 {
        let why = match view.nondeterminism {
            Some(_) if view.findings.audit == AuditState::default() => "machines of different instruction sets disagree",
            Some(_) | None => "a contributor was caught",
        };
        let text = format!("{} accepted units are judged again, because {why}", grouped(counts.rechecking));
        reasons.push(reason("RECHECKING", text, &["manyhands peers"]));
    }
    reasons.extend(differing_machines(view));
    if reasons.is_empty() {
        reasons.push(reason("STARTING", "units are about to be handed out", &[&format!("manyhands watch {}", view.id.short())]));
    }
    reasons.extend(audits(view));
    reasons
}

fn ended_reason(view: &JobView) -> Option<Reason> {
    let id = view.id.short();
    let counts = &view.counts;
    match view.state {
        JobState::Running => None,
        JobState::Done => {
            let text = format!("all {} units are verified", grouped(counts.units));
            Some(reason("DONE", text, &[&format!("manyhands results {id}")]))
        }
        JobState::Failed => Some(units_failed(view)),
        JobState::Cancelled => Some(reason("CANCELLED", "the job was cancelled", &[&format!("manyhands retry {id}")])),
        JobState::Stopped => {
            let text = format!(
                "the first {} units all failed, so the other {} were not tried",
                counts.failed,
                grouped(counts.units - counts.failed)
            );
            let hints =
                [&*format!("manyhands logs {id}"), &*format!("manyhands retry {id}          (runs all of them whatever they end in)")];
            Some(reason("STOPPED_EARLY", text, &hints))
        }
    }
}

fn units_failed(view: &JobView) -> Reason {
    let id = view.id.short();
    let text = format!("{} of {} units failed", grouped(view.counts.failed), grouped(view.counts.units));
    reason("UNITS_FAILED", text, &[&*format!("manyhands logs {id}"), &*format!("manyhands retry {id}")])
}

fn wait_reason(waiting: WaitReason, view: &JobView) -> Reason {
    match waiting {
        WaitReason::NoWorkers => {
            let hints = ["manyhands invite          (another machine helps)", "manyhands up --slots 2    (this machine helps)"];
            reason("NO_WORKERS", "no worker is here: this node lends no slots, and no peer has come", &hints)
        }
        WaitReason::NoFreeWorkers => {
            let text = "workers are here, but all of them are busy, paused or barred";
            reason("NO_FREE_WORKERS", text, &["manyhands peers", "manyhands resume"])
        }
        WaitReason::NeedsProvenVoter => {
            let text =
                format!("{} units have votes of newcomers only, and no proven worker is here to confirm them", grouped(view.awaiting));
            let hints = [
                "manyhands resume            (if this machine is paused)",
                "manyhands up --slots 2      (this machine confirms them)",
                "manyhands invite --own      (another machine of yours does)",
            ];
            reason("NEEDS_PROVEN_VOTER", text, &hints)
        }
        WaitReason::NeedsIndependentVoter => {
            let text = format!("{} units have a vote, and no worker that is independent of that voter is here", grouped(view.awaiting));
            let hints = ["manyhands invite                     (one more machine)", "manyhands up --slots 2               (this one)"];
            reason("NEEDS_SECOND_VOTE", text, &hints)
        }
        WaitReason::Disputed => {
            let text = format!(
                "trusted voters disagree on {} units, and this machine, which could decide, runs none",
                grouped(view.counts.disputed)
            );
            reason("DISPUTED", text, &["manyhands up --slots 1", "manyhands resume"])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_node_says_why_and_a_busy_one_nothing() {
        let codes = |status: &Status| idle_reason(status).into_iter().map(|reason| reason.code).collect::<Vec<_>>();
        let idle = Status { slots: 2, peers_connected: 1, ..Status::default() };
        assert_eq!(codes(&idle), ["WAITING_FOR_WORK"]);
        assert_eq!(codes(&Status { slots_busy: 1, ..idle.clone() }), [""; 0]);
        assert_eq!(codes(&Status { paused: true, slots_busy: 1, ..idle.clone() }), ["PAUSED"]);
        assert_eq!(codes(&Status { slots: 0, peers_connected: 0, ..idle.clone() }), ["NO_SLOTS", "NO_PEERS"]);
        assert_eq!(codes(&Status { jobs_heard: 1, ..idle }), ["WAITING_FOR_LEASES"]);
    }
}
