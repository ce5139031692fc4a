//! The one task that knows which peers have a link: routes requests to them, keeps the address book and the open invitations,
//! and remembers who flooded us.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot, watch,
    },
    task::{Id, JoinError, JoinSet},
};

use super::{
    connector::PeerConnection,
    contact::{AddressBook, Contact, Source},
    event::{ConnectError, NetEvent, PeerHello},
    invites::{Invites, InvitesError, RedeemError},
    limits::{MAX_JOIN_CONTACTS, MAX_LINKS, MAX_SHUNNED, SHUN},
    link::{Link, LinkCommand, LinkContext, LinkEnd, LinkMailbox, Want},
    reader::Allowance,
    ticket::{TicketKind, Token},
};
use crate::protocol::ids::PeerId;

/// What the switchboard is asked.
#[derive(Debug)]
pub(super) enum Command {
    /// Something for a peer's link, which is made when there is none.
    Link(PeerId, LinkCommand),
    /// A peer that dialled us has said an acceptable Hello.
    Admit {
        connection: PeerConnection,
        hello: PeerHello,
        done: oneshot::Sender<Result<(), ConnectError>>,
    },
    /// What somebody says about where a peer is.
    Learn(PeerId, Contact, Source),
    Issue {
        kind: TicketKind,
        uses: u32,
        expires_unix: u64,
        done: oneshot::Sender<Result<Issued, InvitesError>>,
    },
    Redeem {
        token: [u8; 16],
        guest: PeerId,
        done: oneshot::Sender<Result<Redeemed, RedeemFailure>>,
    },
}

/// A new ticket's variable parts.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) token: Token,
    pub(super) contacts: Vec<(PeerId, Contact)>,
}

/// What a valid token gives.
#[derive(Debug)]
pub(super) struct Redeemed {
    pub(super) kind: TicketKind,
    pub(super) contacts: Vec<(PeerId, Contact)>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum RedeemFailure {
    #[error(transparent)]
    Void(#[from] RedeemError),
    #[error("the inviter cannot write its table of invitations")]
    Storage,
}

pub(super) struct Switchboard {
    context: Arc<LinkContext>,
    book: AddressBook,
    invites: Invites,
    links: BTreeMap<PeerId, LinkMailbox>,
    tasks: JoinSet<LinkEnd>,
    owners: HashMap<Id, PeerId>,
    shunned: BTreeMap<PeerId, Instant>,
    /// Of peers with a link, and of those who had one lately.
    allowances: VecDeque<(PeerId, Arc<Allowance>)>,
}

impl Switchboard {
    pub(super) fn new(context: Arc<LinkContext>, book: AddressBook, invites: Invites) -> Self {
        Self {
            context,
            book,
            invites,
            links: BTreeMap::new(),
            tasks: JoinSet::new(),
            owners: HashMap::new(),
            shunned: BTreeMap::new(),
            allowances: VecDeque::new(),
        }
    }

    /// Runs until told to stop; then ends all links without further events.
    pub(super) async fn run(mut self, commands: mpsc::Receiver<Command>, mut stop: watch::Receiver<bool>) {
        // Whatever it is doing: the run loop that it may wait for could have stopped listening.
        tokio::select! {
            () = self.serve(commands) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        self.tasks.shutdown().await;
    }

    async fn serve(&mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.perform(command).await,
                    None => return,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.link_ended(ended).await,
            }
        }
    }

    async fn perform(&mut self, command: Command) {
        match command {
            Command::Link(peer, command) => self.route(peer, command).await,
            Command::Admit { connection, hello, done } => self.admit(connection, hello, done).await,
            Command::Learn(peer, contact, source) => self.book.learn(peer, &contact, source),
            Command::Issue { kind, uses, expires_unix, done } => {
                let issued = self.with_invites(move |invites| invites.issue(kind, uses, expires_unix, unix_now())).await;
                let contacts = self.introductions(None, super::ticket::MAX_CONTACTS);
                // Who asked may have given up; the token then expires unused.
                drop(done.send(issued.map(|token| Issued { token, contacts })));
            }
            Command::Redeem { token, guest, done } => self.redeem(token, guest, done).await,
        }
    }

    async fn redeem(&mut self, token: [u8; 16], guest: PeerId, done: oneshot::Sender<Result<Redeemed, RedeemFailure>>) {
        let redeemed = self.with_invites(move |invites| invites.redeem(&token, guest, unix_now())).await;
        let answer = match redeemed {
            Ok(Ok(kind)) => {
                drop(self.context.events.send(NetEvent::Joined { peer: guest, kind }).await);
                Ok(Redeemed { kind, contacts: self.introductions(Some(guest), MAX_JOIN_CONTACTS) })
            }
            Ok(Err(void)) => Err(void.into()),
            Err(error) => {
                tracing::error!(%error, "cannot keep the table of invitations");
                Err(RedeemFailure::Storage)
            }
        };
        drop(done.send(answer));
    }

    /// Runs `act` on the table where it may wait for the disk.
    async fn with_invites<T: Send + 'static>(&mut self, act: impl FnOnce(&mut Invites) -> T + Send + 'static) -> T {
        let mut invites = core::mem::replace(&mut self.invites, Invites::in_memory());
        let acted = tokio::task::spawn_blocking(move || (act(&mut invites), invites)).await;
        let (answer, invites) = acted.expect("the table of invitations does not panic");
        self.invites = invites;
        answer
    }

    /// Ourselves, and the peers heard of last.
    fn introductions(&self, except: Option<PeerId>, most: usize) -> Vec<(PeerId, Contact)> {
        let ourselves = (self.context.local.peer(), self.context.local.endpoint.contact());
        let others = self.book.recent().filter(|(peer, _)| Some(*peer) != except).map(|(peer, contact)| (peer, contact.clone()));
        core::iter::once(ourselves).chain(others).take(most).collect()
    }

    async fn admit(&mut self, connection: PeerConnection, hello: PeerHello, done: oneshot::Sender<Result<(), ConnectError>>) {
        let peer = connection.peer();
        if let Err(reason) = self.may_link(peer) {
            // The accept loop closes it when no better Hello comes.
            drop(done.send(Err(reason)));
            return;
        }
        self.book.learn(peer, &hello.contact, Source::Itself);
        // The link answers, so that this task waits for no run loop.
        self.route(peer, LinkCommand::Accepted { connection, hello, done }).await;
    }

    fn may_link(&mut self, peer: PeerId) -> Result<(), ConnectError> {
        if peer == self.context.local.peer() {
            return Err(ConnectError::Ourselves);
        }
        if self.shunned.get(&peer).is_some_and(|since| since.elapsed() < SHUN) {
            return Err(ConnectError::Shunned);
        }
        self.shunned.remove(&peer);
        if self.links.len() >= MAX_LINKS && !self.links.contains_key(&peer) { Err(ConnectError::TooManyLinks) } else { Ok(()) }
    }

    /// Hands `command` to the peer's link; makes one when there is none.
    async fn route(&mut self, peer: PeerId, command: LinkCommand) {
        let mut backlog = VecDeque::from([(peer, command)]);
        while let Some((peer, command)) = backlog.pop_front() {
            if let Err(reason) = self.may_link(peer) {
                self.refuse(peer, command, reason).await;
                continue;
            }
            let mailbox = match self.links.get(&peer) {
                Some(mailbox) => mailbox.clone(),
                // Nothing to disconnect.
                None if matches!(command, LinkCommand::Disconnect) => continue,
                None => self.make_link(peer),
            };
            match mailbox.try_send(command) {
                Ok(()) => {}
                Err(TrySendError::Full(command)) => self.refuse(peer, command, ConnectError::Busy).await,
                // It is ending, which takes no time; its successor takes what it left, then this.
                Err(TrySendError::Closed(command)) => {
                    backlog.push_front((peer, command));
                    let leftovers = self.wait_for_end(peer).await;
                    leftovers.into_iter().rev().for_each(|left| backlog.push_front(left));
                }
            }
        }
    }

    async fn refuse(&self, peer: PeerId, command: LinkCommand, reason: ConnectError) {
        match command {
            LinkCommand::Want(Want::Channel(_, reply)) => drop(reply.send(Err(reason))),
            LinkCommand::Want(Want::Connection | Want::Gossip | Want::Coordinator | Want::Keeper) => {
                drop(self.context.events.send(NetEvent::ConnectFailed { peer, reason }).await);
            }
            LinkCommand::Accepted { done, .. } => drop(done.send(Err(reason))),
            LinkCommand::Disconnect | LinkCommand::Incoming(..) => {}
        }
    }

    fn make_link(&mut self, peer: PeerId) -> LinkMailbox {
        let link = Link::new(peer, self.context.clone(), self.allowance(peer));
        let mailbox = link.mailbox();
        let task = self.tasks.spawn(link.run());
        self.owners.insert(task.id(), peer);
        self.links.insert(peer, mailbox.clone());
        mailbox
    }

    fn allowance(&mut self, peer: PeerId) -> Arc<Allowance> {
        if let Some((_, known)) = self.allowances.iter().find(|(known, _)| *known == peer) {
            return known.clone();
        }
        while self.allowances.len() >= MAX_LINKS + MAX_SHUNNED {
            self.allowances.pop_front();
        }
        let fresh = Arc::new(Allowance::new(Instant::now()));
        self.allowances.push_back((peer, fresh.clone()));
        fresh
    }

    async fn wait_for_end(&mut self, peer: PeerId) -> Vec<(PeerId, LinkCommand)> {
        let mut leftovers = Vec::new();
        while self.links.contains_key(&peer) {
            match self.tasks.join_next_with_id().await {
                Some(ended) => leftovers.extend(self.forget(ended)),
                None => {
                    self.links.remove(&peer);
                }
            }
        }
        leftovers
    }

    async fn link_ended(&mut self, ended: Result<(Id, LinkEnd), JoinError>) {
        for (peer, command) in self.forget(ended) {
            self.route(peer, command).await;
        }
    }

    /// Removes an ended link; what it left undone is returned.
    fn forget(&mut self, ended: Result<(Id, LinkEnd), JoinError>) -> Vec<(PeerId, LinkCommand)> {
        match ended {
            Ok((id, LinkEnd { peer, leftovers, flooded })) => {
                self.owners.remove(&id);
                self.links.remove(&peer);
                if flooded {
                    self.shun(peer);
                }
                leftovers.into_iter().map(|command| (peer, command)).collect()
            }
            Err(error) => {
                if let Some(peer) = self.owners.remove(&error.id()) {
                    tracing::error!(peer = %peer.short(), %error, "a peer's link ended abnormally");
                    self.links.remove(&peer);
                }
                Vec::new()
            }
        }
    }

    fn shun(&mut self, peer: PeerId) {
        self.shunned.retain(|_, since| since.elapsed() < SHUN);
        while self.shunned.len() >= MAX_SHUNNED {
            let oldest = self.shunned.iter().min_by_key(|(_, since)| **since).map(|(peer, _)| *peer);
            oldest.map(|peer| self.shunned.remove(&peer));
        }
        self.shunned.insert(peer, Instant::now());
    }
}

/// Seconds since 1970 by this machine's clock; tickets are the only users.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}
