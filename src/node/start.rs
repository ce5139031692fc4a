//! Starting a node, and ending it in order.

use super::{
    acquaintances::Acquaintances,
    border::Fetches,
    disputes::Disputes,
    handle::{End, Handle, NodeFacts, REQUESTS_MAX},
    keeping::{Keeping, adopting::believe_signed},
    kept::KeptBuffer,
    leftovers::{self, Leftovers},
    net::{
        BlobSource, EndpointConfig, Identity, Net, NetEndpoint, NetSetup,
        endpoint::{EndpointError, LocalDiscovery, PortMapping},
        identity::IdentityError,
        invites::{Invites, InvitesError},
    },
    options::NodeOptions,
    run_loop::{Clock, Inputs, Node, Pause},
    runs::Runs,
    settings::{Settings, SettingsError},
    slots::Slots,
    upgrade,
};
use crate::{
    protocol::{
        fact::Saved,
        gossip,
        ids::Digest,
        peer::{Event, Peer, PeerConfig},
        platform::Platform,
    },
    sandbox::{SlotError, Workshop, validation_class},
    store::{Store, StoreError, Write},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::UNIX_EPOCH,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

/// Finished batches that wait for the run loop; slots wait when it is full.
const SLOT_EVENTS_MAX: usize = 64;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The key file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The table of invitations.
    #[error(transparent)]
    Invites(#[from] InvitesError),
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sockets.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The slots.
    #[error("slots cannot be started: {0}")]
    Slots(#[from] io::Error),
    /// No slot process can be started at all.
    #[error("a slot process cannot be started: {0}")]
    Slot(#[from] SlotError),
    /// Nothing protects this machine from strangers' code, and that was not allowed.
    #[error("this machine has no jail that protects it from strangers' code")]
    Unprotected,
    /// The operating system gave no randomness.
    #[error("no randomness: {0}")]
    NoRandomness(getrandom::Error),
}

/// Runs a node until it is stopped. Each running instance is published through `current`; there is a moment without one when
/// the node begins anew in another grid.
///
/// # Errors
/// When the node cannot start; see [`NodeError`].
pub async fn run(options: NodeOptions, current: watch::Sender<Option<Handle>>) -> Result<(), NodeError> {
    let store = {
        let dir = options.data_dir.clone();
        tokio::task::block_in_place(|| Store::open(&dir))?
    };
    let leftovers = tokio::task::block_in_place(|| leftovers::put_away(&options.data_dir, &store));
    loop {
        let end = run_once(&options, &store, leftovers, &current).await;
        current.send_replace(None);
        match end? {
            End::Stop | End::Drain => return Ok(()),
            End::Damaged => return Err(store.damage().unwrap_or(StoreError::Closed).into()),
            End::Restart => tracing::info!("beginning anew with other settings"),
        }
    }
}

async fn run_once(
    options: &NodeOptions,
    store: &Store,
    leftovers: Option<Leftovers>,
    current: &watch::Sender<Option<Handle>>,
) -> Result<End, NodeError> {
    let dir = &options.data_dir;
    let identity = Identity::load_or_create(&dir.join("node.key"))?;
    let settings = Settings::load_or_create(&Settings::path_in(dir), options.private)?;
    let invites = Invites::load(&dir.join("invites.json"))?;
    let (workshop, protection) = tokio::task::block_in_place(|| workshop(options))?;
    let endpoint = NetEndpoint::bind(identity.clone(), &endpoint_config(options)).await?;
    let setup = NetSetup {
        endpoint,
        membership: settings.membership.clone(),
        invites,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        blobs: Arc::new(Blobs(store.clone())),
    };
    let (net, net_handle, net_events) = Net::start(setup);
    let facts = NodeFacts {
        me: identity.peer(),
        data_dir: dir.clone(),
        slots: options.slots,
        memory_bytes: options.memory_bytes,
        protection,
        validation_class: validation_class(),
        instruction_set: std::env::consts::ARCH.to_owned(),
        started: std::time::Instant::now(),
        drain: options.drain,
        keeper_silence: options.keeper_silence,
        leftovers,
    };
    let (requests, request_queue) = mpsc::channel(REQUESTS_MAX);
    let (end, ended) = watch::channel(None);
    let handle = Handle {
        requests,
        net: net_handle,
        store: store.clone(),
        identity,
        facts: Arc::new(facts),
        settings: Arc::new(settings),
        end: Arc::new(end),
    };
    let (slot_events, slot_queue) = mpsc::channel(SLOT_EVENTS_MAX);
    let slots = Slots::start(options.slots, &workshop, store, &slot_events)?;
    drop(slot_events);
    let mut node = node(&handle, slots, Disputes::new(workshop))?;
    current.send_replace(Some(handle.clone()));
    let end = node.run(Inputs { net: net_events, slots: slot_queue, requests: request_queue, end: ended }).await;
    node.watchers.shutdown().await;
    // Slots are stopped and their threads joined before the store is let go.
    tokio::task::block_in_place(|| drop(node));
    net.shutdown().await;
    Ok(end)
}

fn workshop(options: &NodeOptions) -> Result<(Arc<Workshop>, Vec<String>), NodeError> {
    let cache = options.data_dir.join("native");
    let workshop = Workshop::of_this_program(&cache, options.memory_bytes)?;
    if options.slots == 0 {
        return Ok((workshop, Vec::new()));
    }
    let protection = workshop.protection()?;
    if !protection.is_enough_for_strangers() && !options.allow_unprotected {
        return Err(NodeError::Unprotected);
    }
    let text = protection.to_string();
    let layers = text.split([',', '+']).map(|layer| layer.trim().to_owned()).filter(|layer| !layer.is_empty()).collect();
    Ok((workshop, layers))
}

fn endpoint_config(options: &NodeOptions) -> EndpointConfig {
    EndpointConfig {
        bind: options.bind.clone(),
        local_discovery: if options.local_discovery { LocalDiscovery::On } else { LocalDiscovery::Off },
        port_mapping: PortMapping::Off,
    }
}

/// The number of the first announcement: the time of the day in microseconds, or what lies behind all numbers of the run before,
/// should that clock have been set back.
fn first_sequence(store: &Store) -> Result<u64, StoreError> {
    const NOTE: &str = "announcements";
    /// More than a node announces while it runs.
    const RUN: u64 = 1 << 32;
    let floor = store.note(NOTE)?.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    let since_1970 = u64::try_from(UNIX_EPOCH.elapsed().unwrap_or_default().as_micros()).unwrap_or(u64::MAX);
    let first = since_1970.max(floor.unwrap_or(0));
    let bytes = first.saturating_add(RUN).to_le_bytes().to_vec();
    match store.commit_blocking(vec![Write::Note { key: NOTE.to_owned(), bytes: Some(bytes) }]) {
        // A node without room on its disk starts all the same, and says so.
        Ok(()) | Err(StoreError::DiskFull) => Ok(first),
        Err(error) => Err(error),
    }
}

fn node(handle: &Handle, slots: Slots, disputes: Disputes) -> Result<Node, NodeError> {
    let saved = tokio::task::block_in_place(|| saved(handle))?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(NodeError::NoRandomness)?;
    let clock = Clock::start();
    let facts = &handle.facts;
    let config = PeerConfig {
        me: gossip::Contact { peer: facts.me, hint: handle.net.contact().encode().into() },
        validation_class: facts.validation_class.as_str().into(),
        platform: Platform::named(facts.instruction_set.as_bytes()),
        slots: facts.slots,
        memory_bytes: facts.memory_bytes,
        gossip: gossip::Config::default(),
        keeper_silence: facts.keeper_silence,
        seed,
    };
    let sequence = tokio::task::block_in_place(|| first_sequence(&handle.store))?;
    let mut peer = Peer::new(clock.now(), config, saved, sequence).expect("the default settings agree with one another");
    let contacts = handle.settings.contacts.iter();
    let acquaintances = tokio::task::block_in_place(|| Acquaintances::load(&handle.store))?;
    let invited = contacts.map(|(peer, contact)| gossip::Contact { peer: *peer, hint: contact.encode().into() });
    let bootstrap: Vec<_> = acquaintances.contacts().chain(invited).collect();
    peer.handle(clock.now(), Event::Gossip(gossip::Event::Bootstrap(bootstrap)));
    Ok(Node {
        peer,
        clock,
        store: handle.store.clone(),
        net: handle.net.clone(),
        identity: handle.identity.clone(),
        grid: handle.settings.membership.grid,
        instruction_set: facts.instruction_set.clone(),
        validation_class: facts.validation_class.clone(),
        public_grid: handle.settings.is_public(),
        connected: BTreeMap::new(),
        gossip: BTreeMap::new(),
        workers: BTreeMap::new(),
        coordinators: BTreeMap::new(),
        runs: Runs::new(facts.me, slots),
        fetches: Fetches::default(),
        disputes,
        watchers: JoinSet::new(),
        handle: handle.clone(),
        acquaintances,
        kept: KeptBuffer::default(),
        keeping: Keeping::default(),
        replies: Vec::new(),
        looks: Vec::new(),
        stalled: None,
        pause: Pause::default(),
        lost: BTreeSet::new(),
        drain: None,
    })
}

/// What the peer is rebuilt from. Jobs that were not copied here completely are removed first.
fn saved(handle: &Handle) -> Result<Saved, StoreError> {
    let removals: Vec<Write> = handle.store.arriving()?.into_iter().map(Write::RemoveJob).collect();
    match if removals.is_empty() { Ok(()) } else { handle.store.commit_blocking(removals) } {
        // A node without room on its disk starts all the same.
        Ok(()) | Err(StoreError::DiskFull) => {}
        Err(error) => return Err(error),
    }
    // One that was adopted just before the end may not be taken apart yet.
    for job in handle.store.adopted()? {
        handle.store.unbind_blocking(job)?;
    }
    upgrade::forget_receipts(&handle.store, &handle.facts.validation_class, &handle.facts.instruction_set)?;
    let mut saved = handle.store.load()?;
    for job in &mut saved.jobs {
        if job.manifest.owner != handle.facts.me {
            believe_signed(&handle.store, job, &handle.facts.validation_class)?;
        }
        upgrade::set_apart(&mut job.votes, &handle.facts.validation_class);
    }
    Ok(saved)
}

/// Serves what the store holds to other peers.
struct Blobs(Store);

impl BlobSource for Blobs {
    fn length(&self, digest: &Digest) -> io::Result<Option<u64>> {
        self.0.blob_size(*digest).map_err(io::Error::other)
    }

    fn read_at(&self, digest: &Digest, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.read_blob_at(*digest, offset, buffer.len()).map_err(io::Error::other)?;
        let bytes = bytes.filter(|bytes| bytes.len() == buffer.len()).ok_or(io::ErrorKind::NotFound)?;
        buffer.copy_from_slice(&bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_go_on_counting_when_the_clock_was_set_back() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let first = first_sequence(&store).unwrap();
        let later = first_sequence(&store).unwrap();
        assert!(later >= first + (1 << 32), "behind all that were announced, though the clock has hardly moved");
        let day = 86_400_000_000;
        let ahead = (first + 365 * day).to_le_bytes().to_vec();
        store.commit_blocking(vec![Write::Note { key: "announcements".to_owned(), bytes: Some(ahead) }]).unwrap();
        assert_eq!(first_sequence(&store).unwrap(), first + 365 * day, "the clock was a year ahead then");
    }
}
