//! What programs read: the JSON of jobs, peers, units and this node. Full ids, raw seconds and bytes; a field is never
//! renamed or removed without a new schema version.

use crate::wire::control::{Job, JobState, PeerView, Reason, ResultChunk, Status, UnitView};
use serde::Serialize;

/// `manyhands.job/v1`
#[derive(Serialize)]
pub struct JobJson<'a> {
    schema: &'static str,
    id: &'a str,
    short_id: &'a str,
    name: &'a str,
    state: &'static str,
    units: u32,
    verified: u32,
    checked_by_owner: u32,
    provisional: u32,
    awaiting: u32,
    disputed: u32,
    rechecking: u32,
    failed: u32,
    running: u32,
    executions: u64,
    workers: u32,
    gas: u64,
    elapsed_seconds: f64,
    units_per_second: f64,
    eta_seconds: Option<[f64; 2]>,
    created_unix_seconds: f64,
    owner: &'a str,
    own: bool,
    policy: &'a str,
    reduce: &'a str,
    reason: Option<ReasonJson<'a>>,
    output_bytes: u64,
    module: &'a str,
    args: &'a [String],
    contributors: Vec<ContributorJson<'a>>,
    clean_audits: u32,
    audit_rate: f64,
    caught: u32,
    collusion: bool,
    contradicted: u32,
    nondeterminism: Option<&'a str>,
}

/// Why something is as it is.
#[derive(Serialize)]
pub struct ReasonJson<'a> {
    code: &'a str,
    text: &'a str,
    hints: &'a [String],
}

#[derive(Serialize)]
struct ContributorJson<'a> {
    peer: &'a str,
    nickname: &'a str,
    units: u32,
    gas: u64,
    standing: &'a str,
    convicted: bool,
}

/// A job's state as a word.
pub fn state_word(state: JobState) -> &'static str {
    match state {
        JobState::Unspecified => "unknown",
        JobState::Running => "running",
        JobState::Done => "done",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
        JobState::Stopped => "stopped",
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a lifetime fit 53 bits")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

impl<'a> From<&'a Reason> for ReasonJson<'a> {
    fn from(reason: &'a Reason) -> Self {
        Self { code: &reason.code, text: &reason.text, hints: &reason.hints }
    }
}

impl<'a> From<&'a Job> for JobJson<'a> {
    fn from(job: &'a Job) -> Self {
        let contributors = job.contributors.iter().map(|one| ContributorJson {
            peer: &one.peer,
            nickname: &one.nickname,
            units: one.units,
            gas: one.gas,
            standing: &one.standing,
            convicted: one.convicted,
        });
        Self {
            schema: "manyhands.job/v1",
            id: &job.id,
            short_id: &job.short_id,
            name: &job.name,
            state: state_word(job.state()),
            units: job.units,
            verified: job.verified,
            checked_by_owner: job.checked_by_owner,
            provisional: job.provisional,
            awaiting: job.awaiting,
            disputed: job.disputed,
            rechecking: job.rechecking,
            failed: job.failed,
            running: job.running,
            executions: job.executions,
            workers: job.workers,
            gas: job.gas,
            elapsed_seconds: seconds(job.elapsed_ms),
            units_per_second: job.units_per_second,
            eta_seconds: (job.eta_high_ms > 0).then(|| [seconds(job.eta_low_ms), seconds(job.eta_high_ms)]),
            created_unix_seconds: seconds(job.created_unix_ms),
            owner: &job.owner,
            own: job.own,
            policy: &job.policy,
            reduce: &job.reduce,
            reason: job.reason.as_ref().map(ReasonJson::from),
            output_bytes: job.output_bytes,
            module: &job.module,
            args: &job.args,
            contributors: contributors.collect(),
            clean_audits: job.clean_audits,
            audit_rate: job.audit_rate,
            caught: job.caught,
            collusion: job.collusion,
            contradicted: job.contradicted,
            nondeterminism: (!job.nondeterminism.is_empty()).then_some(&job.nondeterminism),
        }
    }
}

/// `manyhands.status/v1`
#[derive(Serialize)]
pub struct StatusJson<'a> {
    schema: &'static str,
    peer: &'a str,
    nickname: &'a str,
    version: &'a str,
    data_dir: &'a str,
    grid: &'a str,
    private_grid: bool,
    addresses: &'a [String],
    peers_connected: u32,
    peers_known: u32,
    slots: u32,
    slots_busy: u32,
    paused: bool,
    pause_left_seconds: Option<f64>,
    protection: &'a [String],
    validation_class: &'a str,
    instruction_set: &'a str,
    uptime_seconds: f64,
    units_run: u64,
    gas_given: u64,
    idle_reason: Option<ReasonJson<'a>>,
    jobs_open_here: u32,
    jobs_heard: u32,
    grid_peers_estimate: u32,
    grid_slots_estimate: u32,
    memory_bytes: u64,
    warnings: &'a [String],
}

impl<'a> From<&'a Status> for StatusJson<'a> {
    fn from(status: &'a Status) -> Self {
        Self {
            schema: "manyhands.status/v1",
            peer: &status.peer,
            nickname: &status.nickname,
            version: &status.version,
            data_dir: &status.data_dir,
            grid: &status.grid,
            private_grid: status.private_grid,
            addresses: &status.addresses,
            peers_connected: status.peers_connected,
            peers_known: status.peers_known,
            slots: status.slots,
            slots_busy: status.slots_busy,
            paused: status.paused,
            pause_left_seconds: (status.paused && status.pause_left_ms > 0).then(|| seconds(status.pause_left_ms)),
            protection: &status.protection,
            validation_class: &status.validation_class,
            instruction_set: &status.instruction_set,
            uptime_seconds: seconds(status.uptime_ms),
            units_run: status.units_run,
            gas_given: status.gas_given,
            idle_reason: status.idle_reason.as_ref().map(ReasonJson::from),
            jobs_open_here: status.jobs_open_here,
            jobs_heard: status.jobs_heard,
            grid_peers_estimate: status.grid_peers_estimate,
            grid_slots_estimate: status.grid_slots_estimate,
            memory_bytes: status.memory_bytes,
            warnings: &status.warnings,
        }
    }
}

/// `manyhands.peer/v1`
#[derive(Serialize)]
pub struct PeerJson<'a> {
    schema: &'static str,
    peer: &'a str,
    nickname: &'a str,
    connected: bool,
    standing: &'a str,
    verified_units: u32,
    verified_gas: u64,
    strikes: u32,
    slots: u32,
    addresses: &'a [String],
    version: &'a str,
    lineage: Option<&'a str>,
}

impl<'a> From<&'a PeerView> for PeerJson<'a> {
    fn from(peer: &'a PeerView) -> Self {
        Self {
            schema: "manyhands.peer/v1",
            peer: &peer.peer,
            nickname: &peer.nickname,
            connected: peer.connected,
            standing: &peer.standing,
            verified_units: peer.verified_units,
            verified_gas: peer.verified_gas,
            strikes: peer.strikes,
            slots: peer.slots,
            addresses: &peer.addresses,
            version: &peer.version,
            lineage: Some(peer.lineage.as_str()).filter(|lineage| !lineage.is_empty()),
        }
    }
}

/// `manyhands.unit/v1`
#[derive(Serialize)]
pub struct UnitJson<'a> {
    schema: &'static str,
    unit: u32,
    name: &'a str,
    state: &'a str,
    standing: &'a str,
    votes_needed: u32,
    /// `1 - 0.01^k` of k who agree; none where nothing is verified, and where this machine says so itself.
    confidence: Option<f64>,
    exit: &'a str,
    output: &'a str,
    gas: u64,
    failed_attempts: u32,
    last_failure: &'a str,
}

impl<'a> From<&'a UnitView> for UnitJson<'a> {
    fn from(unit: &'a UnitView) -> Self {
        Self {
            schema: "manyhands.unit/v1",
            unit: unit.unit,
            name: &unit.name,
            state: &unit.state,
            standing: &unit.standing,
            votes_needed: unit.votes_needed,
            confidence: (unit.confidence > 0.0).then_some(unit.confidence),
            exit: &unit.exit,
            output: &unit.output,
            gas: unit.gas,
            failed_attempts: unit.failed_attempts,
            last_failure: &unit.last_failure,
        }
    }
}

/// `manyhands.result/v1`: one unit's output, as text where it is text.
#[derive(Serialize)]
pub struct ResultJson<'a> {
    schema: &'static str,
    unit: u32,
    name: &'a str,
    standing: &'a str,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
}

impl<'a> ResultJson<'a> {
    /// A unit with its output.
    pub fn with_output(last: &'a ResultChunk, output: &'a [u8]) -> Self {
        let text = std::str::from_utf8(output).ok();
        let base64 = text.is_none().then(|| data_encoding::BASE64.encode(output));
        Self { output: text, output_base64: base64, ..Self::in_file(last, output.len(), None) }
    }

    /// A unit whose output is in a file of this name.
    pub fn in_file(last: &'a ResultChunk, bytes: usize, file: Option<&'a str>) -> Self {
        let (name, standing) = (last.name.as_str(), last.standing.as_str());
        Self { schema: "manyhands.result/v1", unit: last.unit, name, standing, bytes, output: None, output_base64: None, file }
    }
}
