//! A grid of real processes: started, asked, killed and started again; gone at the end, with their logs shown on failure.

use manyhands::{
    control::client::Client,
    wire::control::{Job, ListUnitsRequest, UnitView},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Nothing here takes so long, also on a slow machine that does other things besides.
pub const DEADLINE: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Nodes, and a directory for them and for a test's files.
pub struct Grid {
    directory: TempDir,
    nodes: Vec<Node>,
    runtime: tokio::runtime::Runtime,
}

struct Node {
    data_dir: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    child: Option<Child>,
}

/// What a command ended in.
#[derive(Debug)]
#[must_use = "look at the exit code"]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The standard output of a command that succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.out
    }

    /// What it printed with `-o json`, having succeeded.
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Standard output and standard error.
    pub fn said(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Grid {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { directory: tempfile::tempdir().unwrap(), nodes: Vec::new(), runtime }
    }

    /// Lets all nodes but the first join it as devices of the same owner, and waits until they have.
    pub fn join_own_devices(&self) {
        let others = self.nodes.len() - 1;
        let ticket = self.run(0, &["invite", "--own", "--uses", &others.to_string()]).ok();
        for at in 1..=others {
            let _ = self.run(at, &["join", ticket.trim()]).ok();
        }
        self.wait_for_peers(0, others);
    }

    /// A node by itself, with one slot.
    pub fn alone() -> Self {
        let mut grid = Self::new();
        grid.add(1);
        grid
    }

    /// `count` nodes with one slot each, the others as guests of the first.
    pub fn of_guests(count: usize) -> Self {
        Self::joined(count, &["invite"])
    }

    /// `count` nodes of one owner with one slot each.
    pub fn of_own_devices(count: usize) -> Self {
        let uses = (count - 1).to_string();
        Self::joined(count, &["invite", "--own", "--uses", &uses])
    }

    fn joined(count: usize, invite: &[&str]) -> Self {
        let mut grid = Self::new();
        for _ in 0..count {
            grid.add(1);
        }
        let ticket = grid.run(0, invite).ok();
        for at in 1..count {
            let _ = grid.run(at, &["join", ticket.trim()]).ok();
        }
        grid.wait_for_peers(0, count - 1);
        grid
    }

    /// Starts one more node; its number.
    pub fn add(&mut self, slots: u32) -> usize {
        self.add_with(slots, &[])
    }

    /// Starts one more node with more arguments; its number.
    pub fn add_with_arguments(&mut self, slots: u32, arguments: &[&str]) -> usize {
        let at = self.prepare(slots, &[]);
        self.nodes[at].arguments.extend(arguments.iter().map(|&word| word.to_owned()));
        self.start(at);
        at
    }

    /// Starts one more node of one slot with more arguments and variables in its environment; its number.
    #[cfg(feature = "fault-injection")]
    pub fn add_saving(&mut self, arguments: &[&str], environment: &[(&str, &str)]) -> usize {
        let at = self.prepare(1, environment);
        self.nodes[at].arguments.extend(arguments.iter().map(|&word| word.to_owned()));
        self.start(at);
        at
    }

    /// Starts one more node with variables in its environment; its number.
    pub fn add_with(&mut self, slots: u32, environment: &[(&str, &str)]) -> usize {
        let at = self.prepare(slots, environment);
        self.start(at);
        at
    }

    fn prepare(&mut self, slots: u32, environment: &[(&str, &str)]) -> usize {
        let at = self.nodes.len();
        let data_dir = self.directory.path().join(format!("node-{at}"));
        fs::create_dir(&data_dir).unwrap();
        let mut arguments: Vec<String> = ["up", "--bind", "127.0.0.1:0", "--no-mdns", "--slots"].map(str::to_owned).to_vec();
        arguments.push(slots.to_string());
        if at == 0 {
            arguments.push("--private".to_owned());
        }
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.nodes.push(Node { data_dir, arguments, environment, child: None });
        at
    }

    /// Starts a node that does not run, and waits until it answers.
    pub fn start(&mut self, at: usize) {
        self.spawn(at, &[]);
        self.wait_until_up(at);
    }

    /// Starts a node that does not run, with more variables in its environment, and does not wait.
    pub fn spawn(&mut self, at: usize, environment: &[(&str, &str)]) {
        let node = &mut self.nodes[at];
        assert!(node.child.is_none(), "node {at} runs");
        let log = File::options().create(true).append(true).open(node.data_dir.join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_manyhands"));
        command.env_clear().env("RUST_LOG", "info").envs(&node.environment).envs(environment.iter().copied());
        command.arg("--data-dir").arg(&node.data_dir).args(&node.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        node.child = Some(command.spawn().unwrap());
    }

    /// Waits until a node that was started answers.
    pub fn wait_until_up(&mut self, at: usize) {
        until("a node answers", || {
            let ended = self.nodes[at].child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "node {at} ended: {ended:?}");
            self.try_ask(at, async |mut client| client.status().await.ok())
        });
    }

    /// Kills a node as nothing else does: at once, with no chance to save anything.
    pub fn kill(&mut self, at: usize) {
        let mut child = self.nodes[at].child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for so long at most that a node ends by itself; what it ended in.
    pub fn ends_within(&mut self, at: usize, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.nodes[at].child.as_mut().expect("it runs").try_wait().unwrap();
            if ended.is_some() {
                self.nodes[at].child = None;
            }
            if ended.is_some() || Instant::now() >= deadline {
                return ended;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// A node's process.
    pub fn process(&self, at: usize) -> u32 {
        self.nodes[at].child.as_ref().expect("it runs").id()
    }

    /// Where a node keeps everything.
    pub fn data_dir(&self, at: usize) -> &Path {
        &self.nodes[at].data_dir
    }

    /// What a node has said so far.
    pub fn log(&self, at: usize) -> String {
        fs::read_to_string(self.nodes[at].data_dir.join("log")).unwrap_or_default()
    }

    /// Sends a signal to a node.
    #[cfg(unix)]
    pub fn signal(&self, at: usize, signal: rustix::process::Signal) {
        let child = self.nodes[at].child.as_ref().expect("it runs");
        rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
    }

    /// Stops a node in order: it tells the others that it goes.
    #[cfg(feature = "fault-injection")]
    pub fn stop(&mut self, at: usize) {
        let _ = self.run(at, &["stop"]).ok();
        let mut child = self.nodes[at].child.take().expect("it runs");
        child.wait().unwrap();
    }

    /// How many slots a node has from its next start on.
    #[cfg(feature = "fault-injection")]
    pub fn set_slots(&mut self, at: usize, slots: u32) {
        let arguments = &mut self.nodes[at].arguments;
        let place = arguments.iter().position(|argument| argument == "--slots").expect("each node is told");
        arguments[place + 1] = slots.to_string();
    }

    /// The processes that a node has started.
    #[cfg(target_os = "linux")]
    pub fn children(&self, at: usize) -> Vec<u32> {
        let node = self.nodes[at].child.as_ref().expect("it runs").id();
        let tasks = fs::read_dir(format!("/proc/{node}/task")).unwrap().map(|task| task.unwrap().path());
        // A thread may end while it is looked at.
        let lists = tasks.map(|task| fs::read_to_string(task.join("children")).unwrap_or_default());
        lists.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
    }

    /// Runs a command against a node.
    pub fn run(&self, at: usize, arguments: &[&str]) -> Ran {
        self.command(at, arguments).stdin(Stdio::null()).output().unwrap().into()
    }

    /// The same with standard input.
    pub fn run_with_input(&self, at: usize, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(at, arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that refuses its arguments reads no input.
        drop(child.stdin.take().unwrap().write_all(input));
        child.wait_with_output().unwrap().into()
    }

    /// A command against a node, to be run.
    pub fn command(&self, at: usize, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_manyhands"));
        command.env_clear().env("MANYHANDS_DATA_DIR", &self.nodes[at].data_dir).current_dir(self.directory.path()).args(arguments);
        command
    }

    /// Submits a job from a node; its id.
    pub fn submit(&self, at: usize, arguments: &[&str]) -> String {
        let words: Vec<&str> = ["submit", "-o", "id"].iter().chain(arguments).copied().collect();
        self.run(at, &words).ok().trim().to_owned()
    }

    /// Waits at a node until a job has ended; the job as `wait` tells it.
    pub fn wait(&self, at: usize, job: &str) -> Value {
        let timeout = format!("{}s", DEADLINE.as_secs());
        let ran = self.run(at, &["wait", job, "--timeout", &timeout, "-o", "json"]);
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:#?}"))
    }

    /// A job as its node sees it.
    pub fn job(&self, at: usize, job: &str) -> Job {
        self.ask(at, async |mut client| client.job(job).await.unwrap())
    }

    /// All units of a job.
    pub fn units(&self, at: usize, job: &str) -> Vec<UnitView> {
        self.ask(at, async |mut client| {
            let (mut units, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = ListUnitsRequest { job: job.to_owned(), page_size: 1000, page_token, only_unfinished: false };
                let page = client.units(request).await.unwrap();
                units.extend(page.units);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return units;
                }
            }
        })
    }

    /// Asks a node through its local API.
    pub fn ask<T>(&self, at: usize, ask: impl AsyncFnOnce(Client) -> T) -> T {
        self.runtime.block_on(async { ask(Client::connect(&self.nodes[at].data_dir).await.unwrap()).await })
    }

    fn try_ask<T>(&self, at: usize, ask: impl AsyncFnOnce(Client) -> Option<T>) -> Option<T> {
        self.runtime.block_on(async { ask(Client::connect(&self.nodes[at].data_dir).await.ok()?).await })
    }

    /// Waits until a node is connected to so many others.
    pub fn wait_for_peers(&self, at: usize, count: usize) {
        until("peers are connected", || {
            let peers = self.try_ask(at, async |mut client| client.peers().await.ok())?;
            (peers.iter().filter(|peer| peer.connected).count() >= count).then_some(())
        });
    }

    /// Writes a file of the test's; its path.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    /// The directory of the test.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// Polls until there is something.
pub fn until<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long: {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

impl Drop for Grid {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(child) = &mut node.child {
                // It may have ended already, which the test will have noticed.
                drop(child.kill());
                drop(child.wait());
            }
        }
        if std::thread::panicking() {
            for (at, node) in self.nodes.iter().enumerate() {
                let log = fs::read_to_string(node.data_dir.join("log")).unwrap_or_default();
                eprintln!("--- node {at}\n{log}");
            }
        }
    }
}
