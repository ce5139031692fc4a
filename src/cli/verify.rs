//! `manyhands verify`: checks a job's receipts and runs a sample of its units here.

use super::{
    bundle::{self, Runs},
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human,
};
use crate::{
    control::error::grouped,
    wire::control::{VerifyJobRequest, VerifyProgress},
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Units that are run again where nothing else is said.
const SAMPLE_DEFAULT: u32 = 10;

/// Check a job's results on this machine
///
/// Compares everything that is kept with its signatures and digests, and runs a sample of units again; beside a sample, up to a
/// thousand units in dispute. What is computed here stands: it settles the unit, and whoever said otherwise is convicted.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands verify @last
  manyhands verify 7f3a9 --sample 100
  manyhands verify 7f3a9 --export proof.mhb     for somebody who has no node
  manyhands verify --bundle proof.mhb --sample 10")]
pub struct Args {
    /// Id, unique prefix or @last
    #[arg(value_name = "JOB", default_value = "@last")]
    job: String,

    /// How many units to run again, drawn at random [default: 10; of a bundle none]
    #[arg(long, value_name = "N", conflicts_with_all = ["all", "unit"])]
    sample: Option<u32>,

    /// Run all units again
    #[arg(long, conflicts_with = "unit")]
    all: bool,

    /// Run this unit again; may be given many times
    #[arg(long, value_name = "I")]
    unit: Vec<u32>,

    /// Write the job with all its receipts to a file, for whoever wants to check it; - is standard output
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,

    /// Leave inputs and outputs out of the file; their digests are there
    #[arg(long, requires = "export")]
    digests_only: bool,

    /// Check such a file; needs no node
    #[arg(long, value_name = "FILE", conflicts_with_all = ["export", "job"])]
    bundle: Option<PathBuf>,
}

impl Args {
    fn runs(&self, sample: u32) -> Runs {
        if self.all {
            Runs::All
        } else if self.unit.is_empty() {
            Runs::Sample(self.sample.unwrap_or(sample))
        } else {
            Runs::Only(self.unit.iter().copied().collect())
        }
    }
}

#[derive(Serialize)]
struct VerifyJson<'a> {
    schema: &'static str,
    job: &'a str,
    receipts_checked: u32,
    receipts_bad: u32,
    sampled: u32,
    mismatches: u32,
    wrong_units: &'a [u32],
    manifest_faults: &'a [String],
    blobs_checked: u32,
    blobs_bad: u32,
    settled: u32,
    convicted: &'a [String],
    verified_units: u32,
    units: u32,
    verdict: &'a str,
    sound: bool,
}

/// Runs the command. Exit code 8 when anything was wrong or is not verified.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    if let Some(path) = &args.bundle {
        return bundle::verify(path, args.runs(0), context).await;
    }
    let mut client = context.connect().await?;
    let job = client.job(&args.job).await?;
    let mut request = VerifyJobRequest { job: job.id.clone(), ..VerifyJobRequest::default() };
    match args.runs(SAMPLE_DEFAULT) {
        Runs::Sample(0) => request.run_nothing = true,
        Runs::Sample(count) => request.sample = count,
        Runs::All => request.all = true,
        Runs::Only(units) => request.only = units.into_iter().collect(),
    }
    let mut stream = client.verify(request).await?;
    let (mut end, mut told) = (VerifyProgress::default(), false);
    while let Some(progress) = stream.next().await? {
        if !told && !progress.finished {
            context.say(format!("checking what is kept, running {} here …", human::count(progress.sample_size, "unit")));
            told = true;
        }
        end = progress;
    }
    if !end.finished {
        let failure = Failure::new(Exit::Other, "VERIFY_CUT_SHORT", "the check did not come to its end");
        return Err(failure.hint(format!("manyhands verify {}", human::short_id(&job))));
    }
    let faults = end.receipts_bad + end.blobs_bad + end.mismatches;
    let sound = faults == 0 && end.manifest_faults.is_empty() && end.verified_units == end.units;
    let bundle_on_stdout = args.export.as_deref() == Some(Path::new("-"));
    match context.format {
        _ if bundle_on_stdout => lines(&end, sound).iter().for_each(|line| context.say(line)),
        Format::Json | Format::Jsonl => context.print_json(&VerifyJson {
            schema: "manyhands.verify/v1",
            job: &job.id,
            receipts_checked: end.receipts_checked,
            receipts_bad: end.receipts_bad,
            sampled: end.sampled,
            mismatches: end.mismatches,
            wrong_units: &end.wrong_units,
            manifest_faults: &end.manifest_faults,
            blobs_checked: end.blobs_checked,
            blobs_bad: end.blobs_bad,
            settled: end.settled,
            convicted: &end.convicted,
            verified_units: end.verified_units,
            units: end.units,
            verdict: &end.verdict,
            sound,
        })?,
        Format::Id => end.wrong_units.iter().try_for_each(|unit| context.print(unit.to_string()))?,
        Format::Table | Format::Toml => lines(&end, sound).iter().try_for_each(|line| context.print(line))?,
    }
    if let Some(path) = &args.export {
        bundle::export(&mut client, &job, path, args.digests_only, context).await?;
    }
    let id = human::short_id(&job);
    if job.provisional > 0 && !args.all {
        context.say(format!("settle what is provisional by running it here: manyhands verify {id} --all"));
    }
    context.say(if sound { format!("results: manyhands results {id}") } else { format!("details: manyhands why {id}") });
    Ok(if sound { Exit::Ok } else { Exit::Unverified })
}

fn lines(end: &VerifyProgress, sound: bool) -> Vec<String> {
    let mark = |good: bool| if good { "✓" } else { "✗" };
    let (verified, units) = (grouped(end.verified_units), grouped(end.units));
    let mut lines = vec![
        format!("{} {} receipts checked, {} bad", mark(end.receipts_bad == 0), grouped(end.receipts_checked), grouped(end.receipts_bad)),
        format!("{} manifest, module and units as they were signed", mark(end.manifest_faults.is_empty())),
        format!(
            "{} {} inputs and outputs compared with their digests, {} bad",
            mark(end.blobs_bad == 0),
            grouped(end.blobs_checked),
            grouped(end.blobs_bad)
        ),
        format!("{} {} run here, {} differ", mark(end.mismatches == 0), human::count(end.sampled, "unit"), grouped(end.mismatches)),
        format!("{} {verified} of {units} units are verified", mark(end.verified_units == end.units)),
    ];
    if !end.wrong_units.is_empty() {
        const UNITS_NAMED_MAX: usize = 20;
        let names: Vec<String> = end.wrong_units.iter().take(UNITS_NAMED_MAX).map(u32::to_string).collect();
        lines.push(format!("  wrong: {}{}", names.join(", "), if end.wrong_units.len() > UNITS_NAMED_MAX { ", …" } else { "" }));
    }
    lines.extend(end.manifest_faults.iter().map(|fault| format!("  {}", human::shown(fault))));
    lines.extend(end.convicted.iter().map(|peer| format!("  convicted: {}", human::shown(peer))));
    if !end.verdict.is_empty() {
        lines.push(format!("{} {}", mark(sound), human::shown(&end.verdict)));
    }
    lines
}
