//! `manyhands results`: outputs in unit order, or what the job's reducer made of them; verified ones only, unless `--partial`.

use super::{
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human,
    view::ResultJson,
};
use crate::{
    control::{
        client::{Client, Incoming},
        error::{ControlError, grouped},
    },
    wire::control::{GetResultsRequest, Job, ListUnitsRequest, ResultChunk},
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

/// Print a job's outputs in unit order, verified ones only
///
/// Of a job with a reducer (--reduce MODULE.wasm), the reducer reads them here, on this machine, and what it writes is printed.
/// With --partial, --follow or --output it does not run: those give what the units wrote.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands results @last > out.txt
  manyhands results 7f3a9 --output out/      a file per unit, and results.jsonl
  manyhands results 7f3a9 --follow | head")]
pub struct Args {
    /// Id, unique prefix or @last
    #[arg(value_name = "JOB", default_value = "@last")]
    job: String,

    /// Of somebody else's job, by a ticket that its author made: manyhands invite --read JOB
    #[arg(long, value_name = "TICKET", conflicts_with = "job")]
    ticket: Option<String>,

    /// Leave out units without a verified result instead of failing; provisional ones are given as they are. No reducer runs
    #[arg(long)]
    partial: bool,

    /// Print each output as soon as it and all before it are verified. No reducer runs
    #[arg(long)]
    follow: bool,

    /// A file per unit in this directory, and results.jsonl about them. No reducer runs
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let mut client = context.connect().await?;
    let job = client.job(args.ticket.as_ref().unwrap_or(&args.job)).await?;
    human::whose_word(&job).iter().for_each(|line| context.say(line));
    let id = human::short_id(&job).to_owned();
    if job.reduce == "none" && args.output.is_none() && context.format == Format::Table {
        let failure = Failure::usage("NEEDS_DIRECTORY", format!("each unit of {id} has an output of its own")).cause("reduce is none");
        return Err(failure.hint(format!("manyhands results {id} --output DIR")).hint(format!("manyhands results {id} -o jsonl")));
    }
    if job.verified < job.units && !args.partial && !args.follow {
        let disputed = disputed_units(&mut client, &job).await?;
        return Err(ControlError::unverified(&job, &disputed).into());
    }
    let plain = args.output.is_some();
    let named = args.ticket.clone().unwrap_or_else(|| job.id.clone());
    let request = GetResultsRequest { job: named, partial: args.partial, follow: args.follow, first_unit: 0, plain };
    let mut chunks = client.results(request).await?;
    let given = match (&args.output, context.format) {
        (Some(directory), _) => write_files(&mut chunks, directory).await?,
        (None, Format::Json | Format::Jsonl) => print_json(&mut chunks, context).await?,
        (None, Format::Table | Format::Id | Format::Toml) => print_plain(&mut chunks, context).await?,
    };
    if args.partial && given < job.units {
        context.say(format!("{} of {} units are missing     why: manyhands why {id}", grouped(job.units - given), grouped(job.units)));
    }
    if let Some(directory) = &args.output {
        context.say(format!("{} in {}     proof: manyhands verify {id}", human::count(given, "file"), directory.display()));
    }
    Ok(Exit::Ok)
}

/// Some of the units in dispute, to name them.
async fn disputed_units(client: &mut Client, job: &Job) -> Result<Vec<u32>, Failure> {
    if job.disputed == 0 {
        return Ok(Vec::new());
    }
    let request = ListUnitsRequest { job: job.id.clone(), page_size: 1000, page_token: String::new(), only_unfinished: true };
    let units = client.units(request).await?.units;
    Ok(units.into_iter().filter(|unit| unit.state == "in dispute").map(|unit| unit.unit).collect())
}

async fn print_plain(chunks: &mut Incoming<ResultChunk>, context: &mut Context) -> Result<u32, Failure> {
    let mut given = 0;
    while let Some(chunk) = chunks.next().await? {
        context.print_bytes(&chunk.data)?;
        given += u32::from(chunk.last);
    }
    Ok(given)
}

/// One document with `json`, an object per line with `jsonl`; a unit is held in memory, all of them never.
async fn print_json(chunks: &mut Incoming<ResultChunk>, context: &mut Context) -> Result<u32, Failure> {
    let document = context.format == Format::Json;
    if document {
        context.print_bytes(b"{\"schema\":\"manyhands.results/v1\",\"units\":[\n")?;
    }
    let (mut given, mut output) = (0, Vec::new());
    while let Some(chunk) = chunks.next().await? {
        output.extend_from_slice(&chunk.data);
        if chunk.last {
            let line = serde_json::to_string(&ResultJson::with_output(&chunk, &output)).expect("plain data");
            let comma = if document && given > 0 { ",\n" } else { "" };
            let end = if document { "" } else { "\n" };
            context.print_bytes(format!("{comma}{line}{end}").as_bytes())?;
            output.clear();
            given += 1;
        }
    }
    if document {
        context.print_bytes(b"\n]}\n")?;
    }
    Ok(given)
}

/// A file per unit; each appears whole under its name, and `results.jsonl` when all are there.
async fn write_files(chunks: &mut Incoming<ResultChunk>, directory: &Path) -> Result<u32, Failure> {
    let failed = |error: io::Error| {
        let failure = Failure::new(Exit::Other, "OUTPUT", format!("{} cannot be written", directory.display()));
        failure.cause(error.to_string()).hint("--output DIR")
    };
    fs::create_dir_all(directory).map_err(failed)?;
    let list_draft = directory.join(".results.jsonl.part");
    let mut list = BufWriter::new(File::create(&list_draft).map_err(failed)?);
    let (mut given, mut names, mut open) = (0, BTreeSet::new(), None::<(BufWriter<File>, usize)>);
    let draft = directory.join(".unit.part");
    while let Some(chunk) = chunks.next().await? {
        let (mut file, bytes) = match open.take() {
            Some(open) => open,
            None => (BufWriter::new(File::create(&draft).map_err(failed)?), 0),
        };
        file.write_all(&chunk.data).map_err(failed)?;
        let bytes = bytes + chunk.data.len();
        if !chunk.last {
            open = Some((file, bytes));
            continue;
        }
        file.flush().map_err(failed)?;
        let name = file_name(&chunk, &mut names);
        fs::rename(&draft, directory.join(&name)).map_err(failed)?;
        let line = serde_json::to_string(&ResultJson::in_file(&chunk, bytes, Some(&name))).expect("plain data");
        writeln!(list, "{line}").map_err(failed)?;
        given += 1;
    }
    list.flush().map_err(failed)?;
    fs::rename(&list_draft, directory.join("results.jsonl")).map_err(failed)?;
    Ok(given)
}

/// A name for a unit's file: the input's file name where there is one and it is free, else the unit's number. Never a path:
/// names may come from another peer.
fn file_name(chunk: &ResultChunk, taken: &mut BTreeSet<String>) -> String {
    const STEM_CHARS_MAX: usize = 100;
    let last = chunk.name.rsplit(['/', '\\']).next().unwrap_or_default();
    let safe = |c: char| if c.is_alphanumeric() || "._-#".contains(c) { c } else { '_' };
    let stem: String = last.chars().map(safe).take(STEM_CHARS_MAX).collect();
    let numbered = format!("unit-{:06}.out", chunk.unit);
    let named = format!("{}.out", stem.trim_start_matches('.'));
    let name = if named == ".out" || taken.contains(&named) { numbered } else { named };
    taken.insert(name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_safe_and_differ() {
        let mut taken = BTreeSet::new();
        let mut name = |unit, name: &str| file_name(&ResultChunk { unit, name: name.to_owned(), ..ResultChunk::default() }, &mut taken);
        assert_eq!(name(0, "in/a.fa"), "a.fa.out");
        assert_eq!(name(1, "other/a.fa"), "unit-000001.out");
        assert_eq!(name(2, "../../.bashrc"), "bashrc.out");
        assert_eq!(name(3, ""), "unit-000003.out");
        assert_eq!(name(4, "big.txt#4"), "big.txt#4.out");
        assert_eq!(name(5, "..\\x\n\u{1b}y"), "x__y.out");
    }
}
