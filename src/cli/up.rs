//! `manyhands up`: runs a node.

use super::{
    amount::Span,
    context::{Context, Terminals, Volume},
    exit::Exit,
    failure::Failure,
};
use crate::{
    control::{client::Client, error::Kind, node_backend::NodeBackend, server::Server},
    node::{self, NodeError, NodeOptions, net::nickname::nickname},
    protocol::keeping::SILENCE,
};
use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Lend spare CPU and take part in the grid
///
/// Runs until Ctrl-C, which lets running units end first and hands the rest back; a second one is immediate.
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

    /// Neither look for peers on the local network nor be found there
    #[arg(long)]
    no_mdns: bool,

    /// Begin a private grid, which others enter by invitation only
    #[arg(long)]
    private: bool,

    /// Run strangers' code also where this machine has no jail for it
    #[arg(long)]
    allow_unprotected: bool,

    /// How long running units may take to end when the node is to stop; the rest is handed back
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    drain: u64,

    /// How long a coordinator must not be heard before its job is gone on with; for tests
    #[arg(long, value_name = "TIME", hide = true)]
    keeper_silence: Option<Span>,

    /// End when the process that started this one has ended; for `manyhands demo`
    #[arg(long, hide = true)]
    end_with_parent: bool,
}

/// Memory for units where nothing else is said, in bytes: what one unit may have at most.
const MEMORY_BYTES: u64 = 4 << 30;

/// Runs a node until it is stopped: by Ctrl-C, a signal, or `manyhands stop`.
///
/// # Errors
/// The node cannot start.
async fn run_node(options: NodeOptions, context: &mut Context) -> Result<(), Failure> {
    let data_dir = options.data_dir.clone();
    let (sender, mut current) = watch::channel(None);
    let backend = Arc::new(NodeBackend::new(current.clone()));
    let mut node = tokio::spawn(node::run(options, sender));
    let started = current.wait_for(Option::is_some);
    let handle: node::Handle = tokio::select! {
        started = started => match started.map(|handle| handle.clone()) {
            Ok(Some(handle)) => handle,
            Ok(None) | Err(_) => return Err(ended(node.await, "the node cannot start")),
        },
        end = &mut node => return Err(ended(end, "the node cannot start")),
    };
    // Only now: the directory is this node's, and no other one's address is in it.
    let server = match Server::bind(&data_dir).await {
        Ok(server) => server,
        Err(error) => {
            handle.stop();
            drop(node.await);
            return Err(Failure::new(Exit::Other, "CONTROL", error.to_string()));
        }
    };
    greet(&handle, context);
    let (stop_server, server_stops) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(backend, async { drop(server_stops.await) }));
    let end = tokio::select! {
        end = &mut node => end,
        () = stop_signal() => {
            if let Some(handle) = current.borrow().as_ref() {
                let seconds = handle.facts.drain.as_secs();
                context.say(format!("stopping: running units have {seconds} s to end, the rest is handed back   (Ctrl-C again: at once)"));
                handle.drain();
            }
            tokio::select! {
                end = &mut node => end,
                () = stop_signal() => std::process::exit(Exit::Interrupted.code().into()),
            }
        }
    };
    drop(stop_server);
    drop(serving.await);
    match end {
        Ok(Ok(())) => Ok(()),
        other => Err(ended(other, "the node cannot go on")),
    }
}

fn greet(handle: &node::Handle, context: &mut Context) {
    let facts = &handle.facts;
    if let Some(node::Leftovers { files, slots }) = facts.leftovers {
        let put_away = format!("{files} unfinished files removed, {slots} slot processes ended, the database is in order");
        context.say(format!("✓ the last run was not ended in order: {put_away}"));
    }
    let key = facts.data_dir.join("node.key");
    context.say(format!("✓ node {}   identity {}", nickname(facts.me), key.display()));
    let addresses: Vec<String> = handle.net.contact().addresses.iter().map(ToString::to_string).collect();
    context.say(format!("✓ network: {}", if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") }));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let protection = if facts.protection.is_empty() { "none".to_owned() } else { facts.protection.join(", ") };
    context.say(format!("✓ offering {} of {cores} cores · protection: {protection}", facts.slots));
    context.say("Status: manyhands status      Invite: manyhands invite      Stop: Ctrl-C (units are handed back)");
}

fn ended(end: Result<Result<(), NodeError>, tokio::task::JoinError>, what: &str) -> Failure {
    match end {
        Ok(Ok(())) => Failure::new(Exit::Other, "NODE_ENDED", "the node ended before it had started"),
        Ok(Err(error)) => failed(&error, what),
        Err(panic) => Failure::new(Exit::Other, "NODE_BROKE", "the node broke").cause(panic.to_string()),
    }
}

fn failed(error: &NodeError, what: &str) -> Failure {
    let failure = Failure::new(Exit::Other, "NODE_START", what).cause(error.to_string());
    match error {
        NodeError::Store(error) => error.hint().into_iter().fold(failure, |failure, hint| failure.hint(hint)),
        NodeError::Unprotected => failure.hint("manyhands up --slots 0        (submit only)").hint("manyhands up --allow-unprotected"),
        NodeError::Endpoint(_) => failure.hint("manyhands up --bind 0.0.0.0:0"),
        NodeError::Identity(_)
        | NodeError::Settings(_)
        | NodeError::Invites(_)
        | NodeError::Slots(_)
        | NodeError::Slot(_)
        | NodeError::NoRandomness(_) => failure,
    }
}

/// Resolves at Ctrl-C, or when the system asks the node to end.
async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return drop(tokio::signal::ctrl_c().await) };
        tokio::select! {
            _ = terminate.recv() => {}
            interrupt = tokio::signal::ctrl_c() => drop(interrupt),
        }
    }
    #[cfg(not(unix))]
    drop(tokio::signal::ctrl_c().await);
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    if Client::connect(&context.data_dir).await.is_ok() {
        let failure = Failure::new(Exit::Other, "ALREADY_UP", format!("a node is already running on {}", context.data_dir.display()));
        return Err(failure.hint("manyhands status").hint("manyhands stop").hint("a second node needs its own --data-dir"));
    }
    log_to_standard_error(context.volume);
    if args.end_with_parent {
        end_with_parent();
    }
    create_private_dir(&context.data_dir)?;
    if args.detach {
        return detach(context).await;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let slots = args.slots.unwrap_or_else(|| u32::try_from(cores.saturating_sub(1).max(1)).unwrap_or(1));
    let any = |ip: std::net::IpAddr| SocketAddr::from((ip, 0));
    let everywhere = [any(std::net::Ipv4Addr::UNSPECIFIED.into()), any(std::net::Ipv6Addr::UNSPECIFIED.into())];
    let options = NodeOptions {
        data_dir: context.data_dir.clone(),
        slots,
        memory_bytes: MEMORY_BYTES,
        bind: args.bind.map_or_else(|| everywhere.to_vec(), |address| vec![address]),
        local_discovery: !args.no_mdns,
        private: args.private,
        allow_unprotected: args.allow_unprotected,
        drain: Duration::from_secs(args.drain),
        keeper_silence: args.keeper_silence.map_or(SILENCE, |span| span.0),
    };
    run_node(options, context).await?;
    Ok(Exit::Ok)
}

/// `RUST_LOG` decides what is logged; without it, what somebody should know.
fn log_to_standard_error(volume: Volume) {
    let level = match volume {
        Volume::Quiet => "error",
        Volume::Normal => "warn",
        Volume::Verbose => "warn,manyhands=debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(Terminals::of_process().color);
    // One that is there already stays.
    drop(log.try_init());
}

/// Where the system can do it. Whoever starts such a node ends it too; this is for when it is killed.
fn end_with_parent() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM)) {
        tracing::warn!(%error, "this node will not notice when the process that started it is killed");
    }
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
