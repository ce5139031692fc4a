//! `manyhands simulate`: a whole grid in virtual time on this machine, with the same code that real nodes run. Needs no node.

use super::{
    amount::Count,
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human,
    job_options::Policy,
    scenario_file::{self, ScenarioFile},
    simulate_view::SimulationJson,
};
use crate::{
    control::error::grouped,
    sim::{Campaign, Progress, Report, attacks},
};
use std::{
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Simulate a whole grid here: thousands of peers, with faults and attackers
///
/// Runs the code of real nodes, without their network and sandbox, in virtual time. One seed always gives the same run. Exit code 1
/// when something wrong is verified at the end, an honest peer is convicted, or not everything ends.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  manyhands simulate --peers 200 --units 10_000
  manyhands simulate --peers 1000 --attack colluders=0.1,sleepers=0.1 --policy strict
  manyhands simulate --scenario scenarios/churn.toml --seed 7 -o json",
  after_long_help = attacks_help())]
pub struct Args {
    /// Peers in all, attackers included [default: 1000]
    #[arg(long, value_name = "N")]
    peers: Option<Count>,

    /// Units in all, over all jobs [default: 50,000]
    #[arg(long, value_name = "N")]
    units: Option<Count>,

    /// Peers that own jobs [default: one for each 2,500 peers]
    #[arg(long, value_name = "N")]
    submitters: Option<Count>,

    /// Jobs in all; those of one submitter run one after the other [default: one for each submitter]
    #[arg(long, value_name = "N")]
    jobs: Option<Count>,

    /// Who attacks: a share of all peers, or for sybils how many for each honest peer; see --help
    #[arg(long, value_name = "NAME=AMOUNT", value_delimiter = ',')]
    attack: Vec<Attacked>,

    /// What the run is drawn from; the same gives the same run
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// How results are verified [default: standard]
    #[arg(long, value_enum)]
    policy: Option<Policy>,

    /// A file that says all this and more, such as those in scenarios/; flags win
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
}

/// An attack as a flag names it.
#[derive(Clone, PartialEq, Debug)]
pub struct Attacked {
    name: String,
    amount: f64,
}

impl FromStr for Attacked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, amount) = text.split_once('=').ok_or("write NAME=AMOUNT, such as colluders=0.1")?;
        let amount = amount.parse().map_err(|_| format!("`{amount}` is not a number"))?;
        scenario_file::attack(name, amount).map_err(|failure| [failure.message, failure.cause].join("; "))?;
        Ok(Self { name: name.to_owned(), amount })
    }
}

fn attacks_help() -> String {
    let line = |known: &attacks::Known| {
        format!("  {:<12} {}{}", known.name, known.about, if known.per_honest { "; so many for each honest peer" } else { "" })
    };
    let lines: Vec<_> = attacks::ALL.iter().map(line).collect();
    format!(
        "Examples:
  manyhands simulate --peers 200 --units 10_000
  manyhands simulate --peers 1000 --attack colluders=0.1,sleepers=0.1 --policy strict
  manyhands simulate --scenario scenarios/churn.toml --seed 7 -o json

Attacks:\n{}",
        lines.join("\n")
    )
}

impl Args {
    /// The file with the flags over it.
    fn scenario(&self) -> Result<ScenarioFile, Failure> {
        let mut scenario = self.scenario.as_deref().map(ScenarioFile::read).transpose()?.unwrap_or_default();
        scenario.peers = self.peers.or(scenario.peers);
        scenario.units = self.units.or(scenario.units);
        scenario.submitters = self.submitters.or(scenario.submitters);
        scenario.jobs = self.jobs.or(scenario.jobs);
        scenario.policy = self.policy.or(scenario.policy);
        scenario.attack.extend(self.attack.iter().map(|attack| (attack.name.clone(), attack.amount)));
        Ok(scenario)
    }

    /// The command that does the same again.
    fn again(&self) -> String {
        let mut command = vec!["manyhands simulate".to_owned()];
        let counts = [("peers", self.peers), ("units", self.units), ("submitters", self.submitters), ("jobs", self.jobs)];
        command.extend(counts.iter().filter_map(|(name, count)| Some(format!("--{name} {}", (*count)?))));
        command.extend(self.attack.iter().map(|attack| format!("--attack {}={}", attack.name, attack.amount)));
        command.extend(self.policy.map(|policy| format!("--policy {}", policy.word())));
        command.extend(self.scenario.as_ref().map(|path| format!("--scenario {}", path.display())));
        command.push(format!("--seed {}", self.seed));
        command.join(" ")
    }
}

/// Runs the command. Exit code 1 when the run shows what must not be.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let campaign = args.scenario()?.campaign()?;
    context.say(format!(
        "simulating {} and {}, seed {}",
        human::count(campaign.population.peers, "peer"),
        human::count(campaign.units, "unit"),
        args.seed
    ));
    let began = Instant::now();
    let report = match simulate(campaign.clone(), args.seed, context).await? {
        Some(report) => report,
        None => return Ok(Exit::Interrupted),
    };
    print(&report, &campaign, began.elapsed(), &args.again(), context)?;
    verdict(&report, &args.again(), context)
}

/// Runs it on a thread of its own and tells how far it is. `None` when it was interrupted.
async fn simulate(campaign: Campaign, seed: u64, context: &mut Context) -> Result<Option<Report>, Failure> {
    let (sender, mut heard) = mpsc::channel::<Progress>(1);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let run = tokio::task::spawn_blocking(move || {
        campaign.run(seed, |progress| {
            // Whoever listens takes the newest that there is room for.
            let _ = sender.try_send(progress);
            !stopped.load(Ordering::Relaxed)
        })
    });
    let (interrupt, mut told) = (context.interrupt.clone(), Instant::now());
    let interrupted = interrupt.wait();
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            progress = heard.recv() => match progress {
                Some(progress) if told.elapsed() >= TOLD_EVERY => {
                    told = Instant::now();
                    context.say(line(&progress));
                }
                Some(_) => {}
                None => break,
            },
            () = &mut interrupted => {
                stop.store(true, Ordering::Relaxed);
                return Ok(None);
            }
        }
    }
    run.await.map(Some).map_err(|panic| Failure::new(Exit::Other, "SIMULATOR", "the simulator broke").cause(panic.to_string()))
}

fn line(progress: &Progress) -> String {
    let Progress { elapsed, decided, units, executions } = *progress;
    let percent = u64::from(decided) * 100 / u64::from(units.max(1));
    let elapsed = human::duration(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
    format!("  {elapsed} of virtual time: {percent} % of units decided, {} executions", grouped(executions))
}

fn print(report: &Report, campaign: &Campaign, took: Duration, again: &str, context: &mut Context) -> Result<(), Failure> {
    match context.format {
        Format::Json | Format::Jsonl => context.print_json(&SimulationJson::of(report, campaign, took, again)),
        Format::Id => context.print(report.seed.to_string()),
        Format::Table | Format::Toml => super::simulate_view::lines(report).iter().try_for_each(|line| context.print(line)),
    }
}

/// What the run has shown, as an exit code.
fn verdict(report: &Report, again: &str, context: &mut Context) -> Result<Exit, Failure> {
    if let Some(failure) = &report.failure {
        return Err(scenario_file::violated(format!("after {:?}: {}", failure.after, failure.violation)).hint(again));
    }
    if report.wrong_settled > 0 {
        let units = human::count(report.wrong_settled, "unit");
        return Err(
            scenario_file::violated(format!("{units} ended with a wrong value, which the policy economy does not rule out")).hint(again)
        );
    }
    if report.honest_convicted() > 0 {
        let honest = human::count(report.honest_convicted(), "honest peer");
        return Err(scenario_file::violated(format!("{honest} were convicted")).hint(again));
    }
    context.say(format!("✓ nothing wrong is shown and no honest peer was convicted     the same again: {again}"));
    Ok(Exit::Ok)
}

#[cfg(test)]
#[path = "simulate_tests.rs"]
mod tests;
