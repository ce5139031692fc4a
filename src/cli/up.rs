//! `manyhands up`: runs a node.

use super::{context::Context, exit::Exit, failure::Failure};
use crate::control::{client::Client, error::Kind};
use std::{net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

/// Lend spare CPU and take part in the grid
///
/// Runs until Ctrl-C, which hands running units back first; a second one is immediate.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands up
  manyhands up --slots 2 --detach
  manyhands up --private --no-mdns --bind 127.0.0.1:0 --data-dir /tmp/node-b")]
pub struct Args {
    /// Run in the background; its log is DATA_DIR/node.log
    #[arg(long)]
    detach: bool,

    /// Units at once [default: all cores but one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1024))]
    slots: Option<u32>,

    /// The UDP address for peers [default: any free port on all interfaces]
    #[arg(long, value_name = "ADDR:PORT")]
    bind: Option<SocketAddr>,

    /// Address under which peers reach this node, where a router forwards one; can be given more than once
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,

    /// Neither look for peers on the local network nor be found there
    #[arg(long)]
    no_mdns: bool,

    /// Begin a private grid, which others enter by invitation only
    #[arg(long)]
    private: bool,

    /// A relay for peers that cannot be reached directly; can be given more than once
    #[arg(long, value_name = "URL")]
    relay: Vec<String>,
}

/// What `up` asks of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeOptions {
    /// Identity, facts, blobs and `control.json`; exists.
    pub data_dir: PathBuf,
    /// Units at once; `None`: the node's default. Zero lends nothing.
    pub slots: Option<u32>,
    /// Where to listen for peers; `None`: any free port on all interfaces.
    pub bind: Option<SocketAddr>,
    /// Addresses to announce besides those that are found.
    pub announce: Vec<SocketAddr>,
    /// Find peers on the local network.
    pub mdns: Mdns,
    /// The grid to begin with, for a node that has none yet.
    pub grid: NewGrid,
    /// Relays to use; none: direct connections only.
    pub relays: Vec<String>,
}

/// Whether to look for peers on the local network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mdns {
    /// Look and be found.
    On,
    /// Neither.
    Off,
}

/// The grid of a new node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewGrid {
    /// The one that everybody shares.
    Public,
    /// One of its own, with a secret.
    Private,
}

/// Integration point: `crate::node::run(config)` goes here. It serves the local API (`control::server`), prints its
/// own greeting through `say` and returns when the node has stopped.
///
/// # Errors
/// The node cannot start.
pub async fn start_node(options: NodeOptions, _say: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    Err(Failure::not_built("the node").cause(format!("nothing would serve {}", options.data_dir.display())))
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    if Client::connect(&context.data_dir).await.is_ok() {
        let failure = Failure::new(Exit::Other, "ALREADY_UP", format!("a node is already running on {}", context.data_dir.display()));
        return Err(failure.hint("manyhands status").hint("manyhands stop").hint("a second node needs its own --data-dir"));
    }
    create_private_dir(&context.data_dir)?;
    if args.detach {
        return detach(context).await;
    }
    let options = NodeOptions {
        data_dir: context.data_dir.clone(),
        slots: args.slots,
        bind: args.bind,
        announce: args.listen,
        mdns: if args.no_mdns { Mdns::Off } else { Mdns::On },
        grid: if args.private { NewGrid::Private } else { NewGrid::Public },
        relays: args.relay,
    };
    start_node(options, &mut |line| context.say(line)).await?;
    Ok(Exit::Ok)
}

fn create_private_dir(path: &std::path::Path) -> Result<(), Failure> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| {
        let failure = Failure::usage("DATA_DIR", format!("the directory {} cannot be made", path.display()));
        failure.cause(error.to_string()).hint("--data-dir DIR")
    })
}

/// Starts the same command once more without `--detach`, in a session of its own, and waits until it answers.
async fn detach(context: &mut Context) -> Result<Exit, Failure> {
    const START_DEADLINE: Duration = Duration::from_secs(20);
    const POLL_INTERVAL: Duration = Duration::from_millis(50);
    let log_path = context.data_dir.join("node.log");
    let failed = |what: &str, error: std::io::Error| Failure::new(Exit::Other, "DETACH", what).cause(error.to_string());
    let log = std::fs::File::create(&log_path).map_err(|error| failed("the log cannot be written", error))?;
    let second = log.try_clone().map_err(|error| failed("the log cannot be written", error))?;
    let program = std::env::current_exe().map_err(|error| failed("the program does not find itself", error))?;
    let mut command = tokio::process::Command::new(program);
    command.args(std::env::args_os().skip(1).filter(|arg| arg != "--detach"));
    command.stdin(Stdio::null()).stdout(log).stderr(second).kill_on_drop(false);
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| failed("the node cannot be started", error))?;
    let see_log = format!("cat {}", log_path.display());
    let started = tokio::time::timeout(START_DEADLINE, async {
        loop {
            if let Ok(mut client) = Client::connect(&context.data_dir).await {
                return client.status().await.map_err(Failure::from);
            }
            if let Ok(Some(_)) = child.try_wait() {
                let failure = Failure::new(Exit::Other, "DETACH", "the node ended at once");
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                return Err(failure.cause(log.trim().lines().next().unwrap_or("it said nothing").to_owned()).hint(&see_log));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    });
    let status = started.await.map_err(|_| Failure::new(Kind::TimeOut.into(), "DETACH", "the node does not answer").hint(&see_log))??;
    context.print(format!("✓ node {} runs in the background", status.nickname))?;
    context.say(format!("status: manyhands status     stop: manyhands stop     log: {}", log_path.display()));
    Ok(Exit::Ok)
}
