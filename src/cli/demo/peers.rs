//! The demo's peers: processes of this same program on the loopback interface, each with a directory of its own.
//!
//! The first one submits and lends nothing, so that the others have to do the work and to check one another. They join with
//! a ticket for the owner's own machines, which is why their votes verify a result from the beginning.

use crate::{
    cli::{exit::Exit, failure::Failure, temporary::TemporaryDir},
    control::client::Client,
    wire::control::{CreateInviteRequest, InviteKind},
};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// How long a peer may take to answer, and all of them to find one another, on a machine that is busy with other things.
const START_DEADLINE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// How long a peer that was killed may take to be gone.
const END_DEADLINE: Duration = Duration::from_secs(5);
/// What is shown of the log of a peer that failed.
const LOG_LINES_SHOWN: usize = 12;
const TICKET_VALID: Duration = Duration::from_secs(600);

/// Running peers; dropped, they are killed with everything that they started.
pub struct Peers {
    peers: Vec<Peer>,
    // After the peers: they write into it until they have ended.
    directory: TemporaryDir,
}

struct Peer {
    number: u32,
    data_dir: PathBuf,
    child: Child,
}

impl Peers {
    /// Makes the directory for them; starts none.
    ///
    /// # Errors
    /// There is no place for temporary files.
    pub fn new() -> Result<Self, Failure> {
        let directory = TemporaryDir::create("manyhands-demo").map_err(|error| {
            let failure = Failure::new(Exit::Other, "DEMO_DIRECTORY", "a directory for the demo cannot be made");
            failure.cause(format!("{}: {error}", std::env::temp_dir().display())).hint("TMPDIR=DIR manyhands demo")
        })?;
        Ok(Self { peers: Vec::new(), directory })
    }

    /// Starts `count` peers, the first as submitter, and waits until all have found one another.
    ///
    /// # Errors
    /// One of them does not start, does not answer, or does not find the first.
    pub async fn start(&mut self, count: u32) -> Result<Client, Failure> {
        self.spawn(1, &["--slots", "0", "--private"])?;
        let mut submitter = self.client(0).await?;
        let valid_ms = u64::try_from(TICKET_VALID.as_millis()).expect("minutes");
        let request = CreateInviteRequest { kind: InviteKind::Own.into(), valid_ms, uses: count - 1, read_job: String::new() };
        let ticket = submitter.invite(request).await?.ticket;
        for number in 2..=count {
            self.spawn(number, &["--slots", "1"])?;
        }
        for at in 1..self.peers.len() {
            let mut client = self.client(at).await?;
            client.join(ticket.clone()).await.map_err(|error| self.blame(at, error.into()))?;
        }
        self.wait_connected(&mut submitter, count - 1).await?;
        Ok(submitter)
    }

    fn spawn(&mut self, number: u32, arguments: &[&str]) -> Result<(), Failure> {
        let failed = |what: &str, error: io::Error| Failure::new(Exit::Other, "DEMO_PEER", what).cause(error.to_string());
        let data_dir = self.directory.path().join(format!("peer-{number}"));
        std::fs::create_dir(&data_dir).map_err(|error| failed("a directory for a peer cannot be made", error))?;
        let log = File::create(log_path(&data_dir)).map_err(|error| failed("the log of a peer cannot be made", error))?;
        let second = log.try_clone().map_err(|error| failed("the log of a peer cannot be made", error))?;
        let program = std::env::current_exe().map_err(|error| failed("the program does not find itself", error))?;
        let mut command = Command::new(program);
        command.arg("up").arg("--data-dir").arg(&data_dir).args(["--bind", "127.0.0.1:0", "--no-mdns", "--end-with-parent"]);
        command.args(arguments).stdin(Stdio::null()).stdout(log).stderr(second).kill_on_drop(true);
        // A group of its own: Ctrl-C reaches the demo only, and its slots end with the peer.
        #[cfg(unix)]
        command.process_group(0);
        let child = command.spawn().map_err(|error| failed("a peer cannot be started", error))?;
        self.peers.push(Peer { number, data_dir, child });
        Ok(())
    }

    /// A connection to a peer, as soon as it answers.
    async fn client(&mut self, at: usize) -> Result<Client, Failure> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            self.check_alive()?;
            if let Ok(mut client) = Client::connect(&self.peers[at].data_dir).await
                && client.status().await.is_ok()
            {
                return Ok(client);
            }
            self.pause(at, deadline, "does not answer").await?;
        }
    }

    async fn wait_connected(&mut self, submitter: &mut Client, others: u32) -> Result<(), Failure> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            self.check_alive()?;
            let peers = submitter.peers().await?;
            let connected = peers.iter().filter(|peer| peer.connected).count();
            if connected >= others as usize {
                return Ok(());
            }
            self.pause(0, deadline, "is not found by all the others").await?;
        }
    }

    async fn pause(&self, at: usize, deadline: Instant, what: &str) -> Result<(), Failure> {
        if Instant::now() >= deadline {
            let failure = Failure::new(Exit::TimeOut, "DEMO_PEER", format!("peer {} {what}", self.peers[at].number));
            return Err(self.blame(at, failure));
        }
        sleep(POLL_INTERVAL).await;
        Ok(())
    }

    /// Whether all peers still run.
    ///
    /// # Errors
    /// One has ended; its log says why.
    pub fn check_alive(&mut self) -> Result<(), Failure> {
        for at in 0..self.peers.len() {
            let peer = &mut self.peers[at];
            if let Ok(Some(status)) = peer.child.try_wait() {
                let failure = Failure::new(Exit::Other, "DEMO_PEER", format!("peer {} ended by itself ({status})", peer.number));
                return Err(self.blame(at, failure));
            }
        }
        Ok(())
    }

    /// The failure with the end of a peer's log as its cause.
    fn blame(&self, at: usize, failure: Failure) -> Failure {
        let peer = &self.peers[at];
        let log = std::fs::read_to_string(log_path(&peer.data_dir)).unwrap_or_default();
        let lines: Vec<&str> = log.trim().lines().collect();
        let shown = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
        let before = if failure.cause.is_empty() { String::new() } else { format!("{}\n", failure.cause) };
        let shown = if shown.is_empty() { "nothing".to_owned() } else { shown };
        failure.cause(format!("{before}peer {} said:\n{shown}", peer.number)).hint("manyhands demo --verbose")
    }

    /// Ends all peers and removes their directory. What they know is of no use to anyone, so they are killed.
    pub async fn end(mut self) {
        self.kill();
        for peer in &mut self.peers {
            // One that is stuck in the kernel cannot be waited for; it is dead all the same.
            drop(timeout(END_DEADLINE, peer.child.wait()).await);
        }
    }

    fn kill(&mut self) {
        for peer in &mut self.peers {
            // The number of a process that was waited for may belong to another one by now; then there is no id.
            #[cfg(unix)]
            if let Some(pid) = peer.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
            // It may have ended already.
            let _ = peer.child.start_kill();
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.kill();
    }
}

fn log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("node.log")
}
