//! Checking a job anew: everything that is kept against its signatures and digests, and units by running them here.
//!
//! What is computed here is handed to the core as the owner's own vote, which stands: it settles a unit in dispute, and convicts
//! whoever said otherwise.

use super::{
    NodeBackend,
    kept::{check_blobs, check_manifest, check_receipts},
    rerun::{self, Rerun},
    stream::{Ended, Outlet, replies},
    units::LOOK_UNITS,
};
use crate::{
    control::{
        backend::{Replies, Reply},
        error::{ControlError, Kind, grouped},
        verdict::bound,
    },
    node::net::nickname::nickname,
    protocol::{
        ids::{JobId, PeerId, UnitIndex},
        outcome::Value,
        owner::{OwnRun, UnitState, UnitView},
        peer::Event,
        platform::Platform,
    },
    wire::control::{VerifyJobRequest, VerifyProgress},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::collections::BTreeSet;

/// Units that are run again where nothing else is said.
const SAMPLE_DEFAULT: u32 = 10;
/// Up to so many units all are looked at to draw a sample; beyond, units are drawn until enough of them are verified.
const SCANNED_MAX: u32 = 100_000;
/// How many draws one sampled unit may take.
const DRAWS_PER_UNIT: u32 = 64;
/// Units in dispute that are settled beside a sample; more are settled by asking again.
const DISPUTED_MAX: usize = 1000;
/// Units that can be asked for by name.
const ONLY_MAX: usize = 10_000;
/// Units that a verdict names.
const WRONG_NAMED_MAX: usize = 3;

/// Units that are to be run.
struct Chosen {
    /// In their order.
    units: Vec<UnitIndex>,
    /// Those of them that were drawn at random from all that are verified: they say something about the others.
    drawn: BTreeSet<u32>,
}

/// A unit whose accepted value is not what was computed here.
struct Wrong {
    unit: UnitIndex,
    /// Who backed that value on this machine's instruction set, which explains nothing. Another could.
    backers: Vec<PeerId>,
}

/// What running units here came to, beyond the numbers.
#[derive(Default)]
struct Found {
    wrong: Vec<Wrong>,
    convicted: BTreeSet<PeerId>,
    not_run: Option<String>,
    /// Verified units whose value came out here again.
    agreeing: u32,
    /// Of these, drawn at random.
    agreeing_drawn: u32,
    /// Units that are verified now, and were not before they were run here.
    settled_verified: u32,
}

impl NodeBackend {
    pub(super) async fn stream_verification(&self, request: VerifyJobRequest) -> Reply<Replies<VerifyProgress>> {
        let job = self.own(&request.job).await?;
        let counts = self.seen(job).await?.view.counts;
        if let Some(beyond) = request.only.iter().find(|unit| **unit >= counts.units) {
            let error = ControlError::new(Kind::NotFound, "NOT_FOUND_UNIT", format!("the job has no unit {beyond}"));
            return Err(error.cause(format!("it has {} units, counted from 0", counts.units)));
        }
        if request.only.len() > ONLY_MAX {
            let error = ControlError::new(Kind::Usage, "TOO_MANY_UNITS", format!("at most {ONLY_MAX} units can be named"));
            return Err(error.hint("manyhands verify JOB --all"));
        }
        let progress = VerifyProgress { verified_units: counts.verified, units: counts.units, ..VerifyProgress::default() };
        let backend = self.clone();
        Ok(replies(move |outlet| backend.verify_job(job, request, progress, outlet)))
    }

    async fn verify_job(
        self,
        job: JobId,
        request: VerifyJobRequest,
        mut progress: VerifyProgress,
        outlet: Outlet<VerifyProgress>,
    ) -> Result<(), Ended> {
        let chosen = self.chosen(job, &request, progress.units).await?;
        progress.sample_size = u32::try_from(chosen.units.len()).unwrap_or(u32::MAX);
        outlet.put(progress.clone()).await?;
        self.check_receipts(job, &mut progress, &outlet).await?;
        self.check_contents(job, &mut progress, &outlet).await?;
        let found = self.run_here(job, chosen, &mut progress, &outlet).await?;
        let counts = self.seen(job).await?.view.counts;
        progress.verified_units = counts.verified;
        progress.convicted = found.convicted.iter().map(ToString::to_string).collect();
        progress.finished = true;
        progress.verdict = verdict(&progress, &found);
        outlet.put(progress).await
    }

    async fn check_receipts(&self, job: JobId, progress: &mut VerifyProgress, outlet: &Outlet<VerifyProgress>) -> Result<(), Ended> {
        let me = self.handle().await?.facts.me;
        let mut first = 0;
        loop {
            let page = self.read(move |store| check_receipts(store, job, first, me)).await?;
            progress.receipts_checked += page.checked;
            progress.receipts_bad += page.bad;
            if page.votes == 0 {
                return Ok(());
            }
            first = first.saturating_add(page.votes);
            outlet.put(progress.clone()).await?;
        }
    }

    /// The manifest, the module, inputs and outputs.
    async fn check_contents(&self, job: JobId, progress: &mut VerifyProgress, outlet: &Outlet<VerifyProgress>) -> Result<(), Ended> {
        progress.manifest_faults = self.read(move |store| check_manifest(store, job)).await?;
        let (has_table, units) = (self.manifest(job).await?.has_table(), progress.units);
        let mut next = 0;
        while next < units {
            let found = self.read(move |store| check_blobs(store, job, has_table, next, units)).await?;
            next = found.next;
            progress.blobs_checked = progress.blobs_checked.saturating_add(found.checked);
            progress.blobs_bad = progress.blobs_bad.saturating_add(found.bad);
            outlet.put(progress.clone()).await?;
        }
        Ok(())
    }

    /// Runs units here, one after the other, and hands each value to the core.
    async fn run_here(
        &self,
        job: JobId,
        Chosen { units, drawn }: Chosen,
        progress: &mut VerifyProgress,
        outlet: &Outlet<VerifyProgress>,
    ) -> Result<Found, Ended> {
        let mut found = Found::default();
        if units.is_empty() {
            return Ok(found);
        }
        let manifest = self.manifest(job).await?;
        // The node's handle is held only while the slot is started.
        let mut reruns = {
            let handle = self.handle().await?;
            rerun::start(&handle, job, manifest, units)
        };
        loop {
            let next: Option<Rerun> = tokio::select! {
                next = reruns.next() => next,
                gone = outlet.gone() => return Err(gone),
            };
            let Some((_, result)) = next else { return Ok(found) };
            match result {
                Ok(run) => {
                    progress.sampled += 1;
                    let was_drawn = drawn.contains(&run.unit.0);
                    self.take_in_run(job, run, was_drawn, progress, &mut found).await?;
                }
                Err(reason) => found.not_run = Some(reason),
            }
            outlet.put(progress.clone()).await?;
        }
    }

    /// Compares what was computed here with what is accepted, and lets the core judge.
    async fn take_in_run(&self, job: JobId, run: OwnRun, was_drawn: bool, progress: &mut VerifyProgress, found: &mut Found) -> Reply<()> {
        let (unit, value) = (run.unit, run.value);
        let before = self.unit_view(job, unit).await?;
        let accepted = before.value.filter(|_| is_decided(&before));
        if accepted.is_some_and(|accepted| accepted != value) {
            progress.mismatches += 1;
            progress.wrong_units.push(unit.0);
            let platform = Platform::named(self.handle().await?.facts.instruction_set.as_bytes());
            found.wrong.push(Wrong { unit, backers: backers(&before, platform) });
        } else if before.state == UnitState::Verified {
            found.agreeing += 1;
            found.agreeing_drawn += u32::from(was_drawn);
        }
        self.handle().await?.event(Event::Checked { job, run }).await?;
        progress.settled += u32::from(accepted.is_none());
        let after = self.unit_view(job, unit).await?;
        found.settled_verified += u32::from(accepted.is_none() && after.state == UnitState::Verified);
        found.convicted.extend(newly_struck(&before, &after, value));
        Ok(())
    }

    async fn unit_view(&self, job: JobId, unit: UnitIndex) -> Reply<UnitView> {
        let views = self.unit_views(job, unit.0, 1).await?;
        views.into_iter().next().ok_or_else(|| ControlError::no_such_job(&job.to_string()))
    }

    /// Which units are to be run, in their order.
    async fn chosen(&self, job: JobId, request: &VerifyJobRequest, units: u32) -> Reply<Chosen> {
        let mut drawn = BTreeSet::new();
        let chosen: BTreeSet<u32> = if request.run_nothing {
            BTreeSet::new()
        } else if !request.only.is_empty() {
            request.only.iter().copied().collect()
        } else if request.all {
            self.units_where(job, units, |view| is_decided(view) || is_open_question(view)).await?.into_iter().collect()
        } else {
            let wanted = if request.sample == 0 { SAMPLE_DEFAULT } else { request.sample };
            drawn = self.draw(job, wanted, units).await?;
            let mut chosen = drawn.clone();
            if self.seen(job).await?.view.counts.disputed > 0 {
                let disputed = self.units_where(job, units, |view| view.state == UnitState::Disputed).await?;
                chosen.extend(disputed.into_iter().take(DISPUTED_MAX));
            }
            chosen
        };
        Ok(Chosen { units: chosen.into_iter().map(UnitIndex).collect(), drawn })
    }

    /// Draws verified units at random, each with the same chance.
    async fn draw(&self, job: JobId, wanted: u32, units: u32) -> Reply<BTreeSet<u32>> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| ControlError::new(Kind::Internal, "NO_RANDOMNESS", error.to_string()))?;
        let mut rng = ChaCha8Rng::from_seed(seed);
        let mut sample = BTreeSet::new();
        if units <= SCANNED_MAX {
            let mut verified = self.units_where(job, units, |view| view.state == UnitState::Verified).await?;
            while sample.len() < wanted as usize && !verified.is_empty() {
                sample.insert(verified.swap_remove(below(&mut rng, verified.len())));
            }
            return Ok(sample);
        }
        for _ in 0..wanted.saturating_mul(DRAWS_PER_UNIT) {
            if sample.len() >= wanted as usize {
                break;
            }
            let unit = u32::try_from(below(&mut rng, units as usize)).unwrap_or(u32::MAX);
            let views = self.unit_views(job, unit, 1).await?;
            sample.extend(views.first().filter(|view| view.state == UnitState::Verified).map(|view| view.unit.0));
        }
        Ok(sample)
    }

    async fn units_where(&self, job: JobId, units: u32, wanted: impl Fn(&UnitView) -> bool) -> Reply<Vec<u32>> {
        let (mut found, mut next) = (Vec::new(), 0);
        while next < units {
            let views = self.unit_views(job, next, LOOK_UNITS).await?;
            let Some(last) = views.last() else { break };
            next = last.unit.0 + 1;
            found.extend(views.iter().filter(|view| wanted(view)).map(|view| view.unit.0));
        }
        Ok(found)
    }
}

/// It is verified, successful or not.
fn is_decided(view: &UnitView) -> bool {
    match view.state {
        UnitState::Verified => true,
        UnitState::Failed => view.value.is_some(),
        UnitState::Waiting
        | UnitState::Running
        | UnitState::AwaitingVote
        | UnitState::Provisional
        | UnitState::Disputed
        | UnitState::Rechecking => false,
    }
}

/// It has votes that the owner's value would settle.
fn is_open_question(view: &UnitView) -> bool {
    matches!(view.state, UnitState::Provisional | UnitState::Disputed)
}

/// Who stands for the accepted value with a vote from this instruction set.
fn backers(view: &UnitView, platform: Platform) -> Vec<PeerId> {
    view.votes.iter().filter(|vote| vote.counted && vote.platform == platform).map(|vote| vote.worker).collect()
}

/// Whose vote for another value than `right` was struck between two looks.
fn newly_struck(before: &UnitView, after: &UnitView, right: Value) -> Vec<PeerId> {
    let was_struck = |peer: PeerId| before.votes.iter().any(|vote| vote.worker == peer && vote.struck);
    let caught = after.votes.iter().filter(|vote| vote.struck && vote.value != right && !was_struck(vote.worker));
    caught.map(|vote| vote.worker).collect()
}

/// A random number below `count`, which is not zero. The bias of 32 bits does not matter for a sample.
fn below(rng: &mut ChaCha8Rng, count: usize) -> usize {
    rng.next_u32() as usize % count.max(1)
}

/// What all of it means, in a sentence.
fn verdict(progress: &VerifyProgress, found: &Found) -> String {
    let VerifyProgress { receipts_checked, receipts_bad, blobs_checked, blobs_bad, sampled, mismatches, .. } = progress;
    if let Some(fault) = progress.manifest_faults.first() {
        return fault.clone();
    }
    if *receipts_bad > 0 {
        return format!("{} of {} receipts are not genuine: the database was changed", grouped(*receipts_bad), grouped(*receipts_checked));
    }
    if *blobs_bad > 0 {
        return format!("{} of {} inputs and outputs are damaged or lost", grouped(*blobs_bad), grouped(*blobs_checked));
    }
    if *mismatches > 0 {
        let named: Vec<String> = found.wrong.iter().take(WRONG_NAMED_MAX).map(accuse).collect();
        let more = if found.wrong.len() > WRONG_NAMED_MAX { "; and others" } else { "" };
        return format!("{} of {} units run here differ: {}{more}", grouped(*mismatches), grouped(*sampled), named.join("; "));
    }
    let receipts = match receipts_checked {
        0 => "all votes are this machine's own".to_owned(),
        _ => "every receipt is genuine".to_owned(),
    };
    let runs = agreement(progress, found);
    let settled = match progress.settled {
        0 => String::new(),
        count => format!("; {} settled by what was computed here", units(count)),
    };
    let caught = match found.convicted.iter().map(|peer| nickname(*peer)).collect::<Vec<_>>().join(" and ") {
        names if names.is_empty() => String::new(),
        names => format!("; convicted: {names}, and what rested on that alone is judged again"),
    };
    format!("{receipts}{runs}{settled}{caught}")
}

/// What units that agree say about the others: something about all when there are no others, and a bound where chance chose them.
fn agreement(progress: &VerifyProgress, found: &Found) -> String {
    let VerifyProgress { sampled, sample_size, settled, verified_units, .. } = *progress;
    // What was not verified before was not compared with anything.
    let (compared, left_out) = (sampled - settled, sample_size - sampled);
    let all = found.agreeing > 0 && found.agreeing + found.settled_verified >= verified_units;
    match (compared, found.not_run.as_deref()) {
        (0, Some(reason)) => format!("; {} could not be run here: {reason}", units(left_out)),
        (0, None) if settled > 0 => String::new(),
        (0, None) => "; no unit was run here".to_owned(),
        (_, Some(reason)) => format!("; {} run here agree, {} could not be run: {reason}", units(compared), units(left_out)),
        (_, None) if all => "; all verified units, run here once more, agree".to_owned(),
        (_, None) if found.agreeing_drawn == 0 => format!("; {} run here agree", units(compared)),
        (_, None) => format!("; {} run here agree, so {}", units(compared), bound(found.agreeing_drawn)),
    }
}

/// So many units, in words.
fn units(count: u32) -> String {
    format!("{} unit{}", grouped(count), if count == 1 { "" } else { "s" })
}

fn accuse(wrong: &Wrong) -> String {
    if wrong.backers.is_empty() {
        return format!("unit {} came out differently here, and nobody of this instruction set stands for its value", wrong.unit);
    }
    let names: Vec<String> = wrong.backers.iter().map(|peer| nickname(*peer)).collect();
    format!("unit {} was computed wrongly by {}", wrong.unit, names.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{checkpoint::Authors, ids::Digest, outcome::Exit, owner::VoteView};

    #[test]
    fn a_verdict_says_what_was_found_and_how_far_it_reaches() {
        let sound = VerifyProgress {
            receipts_checked: 40,
            sampled: 10,
            sample_size: 10,
            verified_units: 20,
            units: 20,
            ..VerifyProgress::default()
        };
        let drawn = Found { agreeing: 10, agreeing_drawn: 10, ..Found::default() };
        assert_eq!(
            verdict(&sound, &drawn),
            "every receipt is genuine; 10 units run here agree, so with 95 % certainty at most 30 % of the verified results are wrong"
        );
        let all = VerifyProgress { sampled: 20, sample_size: 20, ..sound.clone() };
        assert_eq!(
            verdict(&all, &Found { agreeing: 20, ..Found::default() }),
            "every receipt is genuine; all verified units, run here once more, agree"
        );
        let bad = VerifyProgress { receipts_bad: 1, mismatches: 1, ..sound.clone() };
        assert!(verdict(&bad, &Found::default()).contains("1 of 40 receipts are not genuine"));
        let wrong = VerifyProgress { mismatches: 1, ..sound.clone() };
        let found = Found { wrong: vec![Wrong { unit: UnitIndex(4), backers: vec![PeerId([1; 32])] }], ..Found::default() };
        let told = verdict(&wrong, &found);
        assert_eq!(told, format!("1 of 10 units run here differ: unit 4 was computed wrongly by {}", nickname(PeerId([1; 32]))));
        let settled = VerifyProgress { settled: 1, ..sound.clone() };
        let found = Found { convicted: BTreeSet::from([PeerId([1; 32])]), ..Found::default() };
        let caught = format!("1 unit settled by what was computed here; convicted: {}, and", nickname(PeerId([1; 32])));
        assert!(verdict(&settled, &found).contains(&caught), "{}", verdict(&settled, &found));
        let lost = VerifyProgress { blobs_checked: 9, blobs_bad: 2, ..sound.clone() };
        assert_eq!(verdict(&lost, &Found::default()), "2 of 9 inputs and outputs are damaged or lost");
        let failed = VerifyProgress { sampled: 0, ..sound };
        assert!(
            verdict(&failed, &Found { not_run: Some("no jail".to_owned()), ..Found::default() })
                .ends_with("10 units could not be run here: no jail")
        );
    }

    #[test]
    fn a_verdict_says_no_more_than_was_compared() {
        let progress = |sampled, settled, verified_units| VerifyProgress {
            receipts_checked: 40,
            sampled,
            sample_size: sampled,
            settled,
            verified_units,
            units: 25,
            ..VerifyProgress::default()
        };
        let told = |progress: &VerifyProgress, found: Found| verdict(progress, &found).replace("every receipt is genuine; ", "");
        let picked = Found { agreeing: 10, ..Found::default() };
        assert_eq!(told(&progress(10, 0, 20), picked), "10 units run here agree", "nobody drew them");
        let failures = Found { agreeing: 15, ..Found::default() };
        assert_eq!(told(&progress(20, 0, 20), failures), "20 units run here agree", "five of them are decided failures");
        let later = Found { agreeing: 20, ..Found::default() };
        assert_eq!(told(&progress(20, 0, 21), later), "20 units run here agree", "one was verified meanwhile");
        let settled = Found { agreeing: 18, settled_verified: 2, ..Found::default() };
        assert_eq!(
            told(&progress(20, 2, 20), settled),
            "all verified units, run here once more, agree; 2 units settled by what was computed here"
        );
        let mixed = Found { agreeing: 12, agreeing_drawn: 10, ..Found::default() };
        assert!(told(&progress(12, 0, 20), mixed).ends_with("so with 95 % certainty at most 30 % of the verified results are wrong"));
    }

    #[test]
    fn nobody_is_blamed_for_what_another_instruction_set_computed() {
        let value = Value { exit: Exit::Code(0), output: Digest([7; 32]), gas: 5, chain: None };
        let vote = |peer, platform, counted| VoteView {
            worker: PeerId([peer; 32]),
            value,
            counted,
            proven: true,
            struck: false,
            set_aside: false,
            platform,
            rests_on: Authors::NONE,
        };
        let votes = vec![vote(1, Platform::Aarch64, true), vote(2, Platform::X86_64, true), vote(3, Platform::X86_64, false)];
        let view = UnitView {
            unit: UnitIndex(4),
            state: UnitState::Verified,
            value: Some(value),
            by_owner: false,
            need: 2,
            confidence: None,
            different_networks: false,
            votes,
            failures: None,
            checkpoint: None,
            resumed: Vec::new(),
        };
        let wrong = |platform| Wrong { unit: view.unit, backers: backers(&view, platform) };
        assert_eq!(accuse(&wrong(Platform::X86_64)), format!("unit 4 was computed wrongly by {}", nickname(PeerId([2; 32]))));
        assert_eq!(
            accuse(&wrong(Platform::Riscv64)),
            "unit 4 came out differently here, and nobody of this instruction set stands for its value"
        );
    }
}
