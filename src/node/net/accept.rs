//! The door: takes in connections one by one, within bounds per address, per key and in all.
//!
//! An address has to answer a Retry before anything is spent on it, so that forged ones exhaust nobody's allowance. A
//! connection whose task panics costs that connection only.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Instant,
};

use iroh::endpoint::{Connection, Incoming, IncomingAddr};
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::{sleep, timeout},
};

use super::{
    connector::{CloseCode, Intake, PeerConnection, serve_streams},
    endpoint::NetEndpoint,
    identity::peer_id,
    limits::{
        ATTEMPTS, Bucket, CONNECT_TIMEOUT, HELLO_TIMEOUT, MAX_ACCEPTED_CONNECTIONS, MAX_ATTEMPT_ADDRESSES, MAX_CONNECTIONS_PER_KEY,
        MAX_HANDSHAKES,
    },
};
use crate::protocol::ids::PeerId;

/// What shares one allowance of attempts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// An IPv4 address, or an IPv6 /64, which one household can use all of.
    Network(u128),
    /// Behind a relay only the key tells peers apart.
    Relayed(PeerId),
    /// A transport that we do not configure.
    Other,
}

enum Done {
    Handshaken(Option<Connection>),
    Ended,
}

/// The accept loop's state.
struct Door {
    intake: Intake,
    tasks: JoinSet<Done>,
    /// The key behind each accepted connection's task; handshakes have none yet.
    owners: HashMap<Id, PeerId>,
    per_key: BTreeMap<PeerId, usize>,
    handshakes: usize,
    attempts: BTreeMap<Origin, Bucket>,
}

/// Accepts until told to stop or the endpoint closes. Connections still open then are dropped.
pub(super) async fn accept(endpoint: NetEndpoint, intake: Intake, mut stop: watch::Receiver<bool>) {
    let mut door =
        Door { intake, tasks: JoinSet::new(), owners: HashMap::new(), per_key: BTreeMap::new(), handshakes: 0, attempts: BTreeMap::new() };
    loop {
        tokio::select! {
            incoming = endpoint.quic.accept() => match incoming {
                Some(incoming) => door.knock(incoming),
                None => break,
            },
            Some(done) = door.tasks.join_next_with_id() => door.finish(done),
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    door.tasks.shutdown().await;
}

impl Door {
    fn knock(&mut self, incoming: Incoming) {
        if let IncomingAddr::Ip(_) = incoming.remote_addr()
            && !incoming.remote_addr_validated()
        {
            // It fails only for an address that is validated.
            drop(incoming.retry());
            return;
        }
        let origin = origin(&incoming.remote_addr());
        let full = self.handshakes >= MAX_HANDSHAKES || self.owners.len() >= MAX_ACCEPTED_CONNECTIONS;
        if full || !self.may_try(origin, Instant::now()) {
            incoming.refuse();
            return;
        }
        self.handshakes += 1;
        self.tasks.spawn(async move {
            let shaken = timeout(CONNECT_TIMEOUT, incoming.into_future()).await;
            Done::Handshaken(shaken.ok().and_then(Result::ok))
        });
    }

    fn may_try(&mut self, origin: Origin, now: Instant) -> bool {
        if !self.attempts.contains_key(&origin) && self.attempts.len() >= MAX_ATTEMPT_ADDRESSES {
            self.attempts.retain(|_, bucket| !bucket.is_full(now));
            if self.attempts.len() >= MAX_ATTEMPT_ADDRESSES {
                // That many addresses are knocking at once: newcomers wait.
                return false;
            }
        }
        self.attempts.entry(origin).or_insert_with(|| Bucket::new(ATTEMPTS, now)).take(1.0, now)
    }

    fn finish(&mut self, done: Result<(Id, Done), JoinError>) {
        let (id, done) = match done {
            Ok((id, done)) => (id, done),
            Err(error) => {
                tracing::error!(%error, "a connection's task ended abnormally");
                let done = if self.owners.contains_key(&error.id()) { Done::Ended } else { Done::Handshaken(None) };
                (error.id(), done)
            }
        };
        match done {
            Done::Handshaken(connection) => {
                self.handshakes -= 1;
                connection.into_iter().for_each(|connection| self.let_in(connection));
            }
            Done::Ended => {
                let peer = self.owners.remove(&id).expect("every connection's task has an owner");
                let count = self.per_key.get_mut(&peer).expect("counted when let in");
                *count -= 1;
                if *count == 0 {
                    self.per_key.remove(&peer);
                }
            }
        }
    }

    fn let_in(&mut self, connection: Connection) {
        let peer = peer_id(connection.remote_id());
        let count = self.per_key.entry(peer).or_default();
        if *count >= MAX_CONNECTIONS_PER_KEY {
            CloseCode::TooMany.close(&connection);
            return;
        }
        *count += 1;
        let task = self.tasks.spawn(host(PeerConnection::new(connection), self.intake.clone()));
        self.owners.insert(task.id(), peer);
    }
}

/// Serves one connection until it ends, or until it is clear that its peer says no Hello.
async fn host(connection: PeerConnection, intake: Intake) -> Done {
    let serving = serve_streams(connection.clone(), intake);
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => return Done::Ended,
        () = sleep(HELLO_TIMEOUT) => {}
    }
    if connection.link().is_none() {
        connection.close(CloseCode::Refused);
    }
    serving.await;
    Done::Ended
}

fn origin(address: &IncomingAddr) -> Origin {
    match address {
        IncomingAddr::Ip(address) => match address.ip().to_canonical() {
            IpAddr::V4(ip) => Origin::Network(u128::from(ip.to_bits())),
            IpAddr::V6(ip) => Origin::Network(ip.to_bits() >> 64 << 64),
        },
        IncomingAddr::Relay { endpoint_id, .. } => Origin::Relayed(peer_id(*endpoint_id)),
        _other => Origin::Other,
    }
}
