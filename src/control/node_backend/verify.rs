//! Checking a job anew: every receipt, and a random sample of units by running them here.

use super::{
    NodeBackend,
    own_slot::OwnSlot,
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
        owner::{UnitState, UnitView},
    },
    store::Store,
    wire::{
        control::{VerifyJobRequest, VerifyProgress},
        receipt::{self, Claim},
    },
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::collections::BTreeMap;

/// Units that are run again where nothing else is said.
const SAMPLE_DEFAULT: u32 = 10;
/// Receipts that are checked between two reports: about a tenth of a second.
const RECEIPTS_AT_ONCE: u32 = 1024;
/// Up to so many units all are looked at to draw a sample; beyond, units are drawn until enough of them are verified.
const SCANNED_MAX: u32 = 100_000;
/// How many draws one sampled unit may take.
const DRAWS_PER_UNIT: u32 = 64;
/// Units that a verdict names.
const WRONG_NAMED_MAX: usize = 3;

/// A unit to be run again, what was accepted of it, and who backed that.
#[derive(Clone, Debug)]
struct Sampled {
    value: Value,
    backers: Vec<PeerId>,
}

type Sample = BTreeMap<UnitIndex, Sampled>;

impl NodeBackend {
    pub(super) async fn stream_verification(&self, request: VerifyJobRequest) -> Reply<Replies<VerifyProgress>> {
        let job = self.own(&request.job).await?;
        let counts = self.seen(job).await?.view.counts;
        let wanted = if request.sample == 0 { SAMPLE_DEFAULT } else { request.sample };
        let progress = VerifyProgress {
            sample_size: wanted.min(counts.verified),
            verified_units: counts.verified,
            units: counts.units,
            ..VerifyProgress::default()
        };
        let backend = self.clone();
        Ok(replies(move |outlet| backend.verify_job(job, progress, outlet)))
    }

    async fn verify_job(self, job: JobId, mut progress: VerifyProgress, outlet: Outlet<VerifyProgress>) -> Result<(), Ended> {
        outlet.put(progress.clone()).await?;
        self.check_receipts(job, &mut progress, &outlet).await?;
        let sample = self.draw(job, progress.sample_size, progress.units).await?;
        progress.sample_size = u32::try_from(sample.len()).unwrap_or(u32::MAX);
        outlet.put(progress.clone()).await?;
        let mut wrong = Vec::new();
        let mut not_run = None;
        let mut reruns = self.rerun(job, &sample).await?;
        loop {
            let next = tokio::select! {
                next = reruns.next() => next,
                gone = outlet.gone() => return Err(gone),
            };
            let Some((unit, result)) = next else { break };
            let Some(sampled) = sample.get(&unit) else { continue };
            match result {
                Ok(value) => {
                    progress.sampled += 1;
                    if value != sampled.value {
                        progress.mismatches += 1;
                        progress.wrong_units.push(unit.0);
                        wrong.push((unit, sampled.backers.clone()));
                    }
                }
                Err(reason) => not_run = Some(reason),
            }
            outlet.put(progress.clone()).await?;
        }
        progress.finished = true;
        progress.verdict = verdict(&progress, &wrong, not_run.as_deref());
        outlet.put(progress).await
    }

    async fn check_receipts(&self, job: JobId, progress: &mut VerifyProgress, outlet: &Outlet<VerifyProgress>) -> Result<(), Ended> {
        let me = self.handle().await?.facts.me;
        let mut first = 0;
        loop {
            let page = self.read(move |store| check_page(store, job, first, me)).await?;
            progress.receipts_checked += page.checked;
            progress.receipts_bad += page.bad;
            if page.votes == 0 {
                return Ok(());
            }
            first = first.saturating_add(page.votes);
            outlet.put(progress.clone()).await?;
        }
    }

    /// Starts to run the sampled units; holds the node's handle only while it does so.
    async fn rerun(&self, job: JobId, sample: &Sample) -> Reply<OwnSlot<Rerun>> {
        let manifest = self.manifest(job).await?;
        let handle = self.handle().await?;
        Ok(rerun::start(&handle, job, manifest, sample.keys().copied().collect()))
    }

    /// Draws verified units at random, each with the same chance.
    async fn draw(&self, job: JobId, wanted: u32, units: u32) -> Reply<Sample> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| ControlError::new(Kind::Internal, "NO_RANDOMNESS", error.to_string()))?;
        let mut rng = ChaCha8Rng::from_seed(seed);
        let mut sample = Sample::new();
        if units <= SCANNED_MAX {
            let mut verified = self.verified_units(job, units).await?;
            while sample.len() < wanted as usize && !verified.is_empty() {
                let unit = verified.swap_remove(below(&mut rng, verified.len()));
                sample.extend(self.sampled(job, unit).await?);
            }
            return Ok(sample);
        }
        for _ in 0..wanted.saturating_mul(DRAWS_PER_UNIT) {
            if sample.len() >= wanted as usize {
                break;
            }
            let unit = u32::try_from(below(&mut rng, units as usize)).unwrap_or(u32::MAX);
            sample.extend(self.sampled(job, unit).await?);
        }
        Ok(sample)
    }

    async fn verified_units(&self, job: JobId, units: u32) -> Reply<Vec<u32>> {
        let (mut verified, mut next) = (Vec::new(), 0);
        while next < units {
            let views = self.unit_views(job, next, LOOK_UNITS).await?;
            let Some(last) = views.last() else { break };
            next = last.unit.0 + 1;
            verified.extend(views.iter().filter(|view| view.state == UnitState::Verified).map(|view| view.unit.0));
        }
        Ok(verified)
    }

    async fn sampled(&self, job: JobId, unit: u32) -> Reply<Option<(UnitIndex, Sampled)>> {
        let views = self.unit_views(job, unit, 1).await?;
        Ok(views.first().and_then(|view: &UnitView| {
            let value = view.value.filter(|_| view.state == UnitState::Verified)?;
            let backers = view.votes.iter().filter(|vote| vote.counted).map(|vote| vote.worker).collect();
            Some((view.unit, Sampled { value, backers }))
        }))
    }
}

/// A random number below `count`, which is not zero. The bias of 32 bits does not matter for a sample.
fn below(rng: &mut ChaCha8Rng, count: usize) -> usize {
    rng.next_u32() as usize % count.max(1)
}

/// What a page of receipts came to.
#[derive(Clone, Copy, Debug, Default)]
struct Page {
    votes: u32,
    checked: u32,
    bad: u32,
}

/// Checks a page of receipts. Own votes have none: this machine need not convince itself.
fn check_page(store: &Store, job: JobId, first: u32, me: PeerId) -> Reply<Page> {
    let votes = store.votes_page(job, first, RECEIPTS_AT_ONCE)?;
    let mut page = Page { votes: u32::try_from(votes.len()).unwrap_or(u32::MAX), ..Page::default() };
    for vote in votes.iter().filter(|vote| vote.worker != me) {
        page.checked += 1;
        page.bad += u32::from(receipt::check(&vote.proof, vote.worker, job, &Claim::from(vote)).is_err());
    }
    Ok(page)
}

/// What all of it means, in a sentence.
fn verdict(progress: &VerifyProgress, wrong: &[(UnitIndex, Vec<PeerId>)], not_run: Option<&str>) -> String {
    let VerifyProgress { receipts_checked, receipts_bad, sampled, sample_size, mismatches, verified_units, .. } = progress;
    if *receipts_bad > 0 {
        return format!("{} of {} receipts are not genuine: the database was changed", grouped(*receipts_bad), grouped(*receipts_checked));
    }
    if *mismatches > 0 {
        let named: Vec<String> = wrong.iter().take(WRONG_NAMED_MAX).map(|(unit, backers)| accuse(*unit, backers)).collect();
        let more = if wrong.len() > WRONG_NAMED_MAX { "; and others" } else { "" };
        return format!("{} of {} units run here differ: {}{more}", grouped(*mismatches), grouped(*sampled), named.join("; "));
    }
    let receipts = match receipts_checked {
        0 => "all votes are this machine's own".to_owned(),
        _ => "every receipt is genuine".to_owned(),
    };
    let runs = match (sampled, not_run) {
        (0, Some(reason)) => format!("no unit could be run here: {reason}"),
        (0, None) => "no unit was run here".to_owned(),
        (_, Some(reason)) => format!("{} units run here agree, {} could not be run: {reason}", grouped(*sampled), sample_size - sampled),
        (_, None) if sampled == verified_units => "all verified units, run here once more, agree".to_owned(),
        (_, None) => format!("{} units run here agree, so {}", grouped(*sampled), bound(*sampled)),
    };
    format!("{receipts}; {runs}")
}

fn accuse(unit: UnitIndex, backers: &[PeerId]) -> String {
    let names: Vec<String> = backers.iter().map(|peer| nickname(*peer)).collect();
    format!("unit {unit} was computed wrongly by {}", names.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            verdict(&sound, &[], None),
            "every receipt is genuine; 10 units run here agree, so with 95 % certainty at most 30 % of the verified results are wrong"
        );
        let all = VerifyProgress { sampled: 20, sample_size: 20, ..sound.clone() };
        assert_eq!(verdict(&all, &[], None), "every receipt is genuine; all verified units, run here once more, agree");
        let bad = VerifyProgress { receipts_bad: 1, mismatches: 1, ..sound.clone() };
        assert!(verdict(&bad, &[], None).contains("1 of 40 receipts are not genuine"));
        let wrong = VerifyProgress { mismatches: 1, ..sound.clone() };
        let told = verdict(&wrong, &[(UnitIndex(4), vec![PeerId([1; 32])])], None);
        assert_eq!(told, format!("1 of 10 units run here differ: unit 4 was computed wrongly by {}", nickname(PeerId([1; 32]))));
        let failed = VerifyProgress { sampled: 0, ..sound };
        assert!(verdict(&failed, &[], Some("no jail")).ends_with("no unit could be run here: no jail"));
    }
}
