//! Keeping as a node's shell does it: facts are copied to keepers, acknowledgements wait for them, and what was collected is handed
//! back. And a keeper that lies.

use super::{
    behaviour,
    grid::{Grid, Happening},
    net::{Epoch, Via},
};
use crate::protocol::{
    checkpoint::Authors,
    fact::{Fact, Origin, SavedJob, Vote},
    ids::{Attempt, Digest, JobId, PeerId, UnitIndex},
    keeping::{self, Keepers},
    outcome::{Outcome, Value},
    owner::{Collected, Output},
    peer::{Action, Event},
    platform::Platform,
    verify::JobSecret,
};
use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Votes on one page of what is handed back.
const PAGE: usize = 256;
/// How long a keeper that lies waits for its author.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// What is said on a keep stream.
#[derive(Clone, Debug)]
pub(super) enum KeepMessage {
    /// From the author: keep this job.
    Offer(Keepers, Box<SavedJob>),
    /// From the author, with its number.
    Fact(u64, Box<Fact>),
    /// From the author.
    Dismiss(JobId),
    /// From the author.
    Recall(JobId),
    /// From the author, every now and then.
    Beat,
    /// From the keeper.
    Answer(JobId, bool),
    /// From the keeper: everything up to this number is durable.
    Stored(u64),
    /// From the keeper.
    Page(JobId, Vec<Collected>),
    /// From the keeper.
    HandedBack(JobId),
}

/// What an author's shell remembers of one keeper, for as long as the stream is open or opening.
#[derive(Clone, Debug, Default)]
struct Stream {
    /// What waits for the stream to open.
    waiting: Vec<KeepMessage>,
    sent: u64,
    stored: u64,
    /// The jobs whose facts are copied.
    copied: BTreeSet<JobId>,
    /// Those of which the keeper has said that it keeps them.
    live: BTreeSet<JobId>,
}

/// Acknowledgements that wait for keepers.
#[derive(Clone, Debug)]
struct Held {
    to: PeerId,
    job: JobId,
    units: Vec<UnitIndex>,
    needs: BTreeMap<usize, u64>,
}

/// Keeping, of one machine's present life.
#[derive(Clone, Debug, Default)]
pub(super) struct Shell {
    streams: BTreeMap<usize, Stream>,
    held: Vec<Held>,
}

impl Shell {
    /// The acknowledgements that wait for nobody any more.
    fn release(&mut self) -> Vec<Held> {
        let streams = &self.streams;
        for held in &mut self.held {
            held.needs.retain(|keeper, number| streams.get(keeper).is_some_and(|stream| stream.stored < *number));
        }
        let (released, held) = core::mem::take(&mut self.held).into_iter().partition(|held| held.needs.is_empty());
        self.held = held;
        released
    }
}

impl Grid {
    pub(super) fn keeper_silence(&self, number: usize) -> Duration {
        if self.machines[number].spec.lies_as_keeper { IMPATIENCE } else { keeping::SILENCE }
    }

    pub(super) fn perform_keeping(&mut self, me: usize, action: Action) {
        match action {
            Action::Keep { to, job, keepers } => {
                let (Some(keeper), Some(saved)) = (self.number(to), self.machines[me].disk.snapshot(job)) else { return };
                self.machines[me].keep.streams.entry(keeper).or_default().copied.insert(job);
                self.say(me, keeper, KeepMessage::Offer(keepers, Box::new(saved)));
            }
            Action::Dismiss { to, job } => {
                if let Some(keeper) = self.number(to) {
                    self.say(me, keeper, KeepMessage::Dismiss(job));
                }
            }
            Action::Recall { to, job } => {
                if let Some(keeper) = self.number(to) {
                    self.say(me, keeper, KeepMessage::Recall(job));
                }
            }
            Action::Adopt(job) => {
                let secret =
                    JobSecret(Digest::of_parts(&[b"keeper", job.as_bytes(), self.key(me).as_bytes(), &self.now.0.to_le_bytes()]).0);
                if let Some(saved) = self.machines[me].disk.adopt(job, secret) {
                    let life = self.machines[me].life;
                    self.at(self.now, Happening::Local { to: me, life, event: Event::Adopted(Box::new(saved)) });
                }
            }
            Action::HandBack { to, job } => {
                let votes = self.machines[me].disk.hand_back(job);
                if let Some(author) = self.number(to) {
                    self.hand_back(me, author, job, votes);
                }
            }
            _ => {}
        }
    }

    /// Says something to a keeper, over a stream that is opened where there is none.
    fn say(&mut self, me: usize, keeper: usize, message: KeepMessage) {
        let via = Via::Keep { author: me, keeper };
        if let Some(epoch) = self.links.epoch(via) {
            self.send_keep(me, via, epoch, message);
            return;
        }
        let stream = self.machines[me].keep.streams.entry(keeper).or_default();
        stream.waiting.push(message);
        if stream.waiting.len() == 1 {
            self.dial(me, via);
        }
    }

    fn send_keep(&mut self, from: usize, via: Via, epoch: Epoch, message: KeepMessage) {
        let (author, keeper) = via.ends();
        let to = if author == from { keeper } else { author };
        let when = self.arrival(via, from);
        self.at(when, Happening::Keep { to, via, epoch, message });
    }

    /// A keep stream is open.
    pub(super) fn on_keep_stream(&mut self, author: usize, keeper: usize, via: Via, epoch: Epoch) {
        let waiting = self.machines[author].keep.streams.get_mut(&keeper).map(|stream| core::mem::take(&mut stream.waiting));
        self.on_beat(via, epoch);
        for message in waiting.unwrap_or_default() {
            self.send_keep(author, via, epoch, message);
        }
    }

    pub(super) fn on_beat(&mut self, via: Via, epoch: Epoch) {
        if self.links.epoch(via) == Some(epoch) {
            self.send_keep(via.ends().0, via, epoch, KeepMessage::Beat);
            self.at(self.now.after(keeping::SILENCE / 4), Happening::Beat { via, epoch });
        }
    }

    /// The author learns that a keeper is lost: nobody waits for it any more.
    pub(super) fn forget_keep_stream(&mut self, me: usize, keeper: PeerId) {
        let Some(keeper) = self.number(keeper) else { return };
        self.machines[me].keep.streams.remove(&keeper);
        self.acknowledge_held(me);
    }

    /// Whether this is a verdict of a liar on a job that it has adopted, where its own machine has the last word.
    pub(super) fn believes_lies(&self, me: usize, fact: &Fact) -> bool {
        let machine = &self.machines[me];
        let lies = machine.spec.lies_as_keeper || !machine.spec.behaviour.is_truthful();
        lies && matches!(fact, Fact::Verdict(job, ..) if machine.disk.kept(*job).is_some())
    }

    /// Copies a fact to whoever keeps its job.
    pub(super) fn copy_fact(&mut self, me: usize, fact: &Fact) {
        let (Fact::Vote(job, _)
        | Fact::Verdict(job, ..)
        | Fact::Failures(job, ..)
        | Fact::JobState(job, _)
        | Fact::Findings(job, _)
        | Fact::Keepers(job, ..)) = fact
        else {
            return;
        };
        let keepers: Vec<usize> =
            self.machines[me].keep.streams.iter().filter(|(_, stream)| stream.copied.contains(job)).map(|(keeper, _)| *keeper).collect();
        for keeper in keepers {
            let stream = self.machines[me].keep.streams.entry(keeper).or_default();
            stream.sent += 1;
            let number = stream.sent;
            self.say(me, keeper, KeepMessage::Fact(number, Box::new(fact.clone())));
        }
    }

    /// Acknowledges once the live keepers of the job have everything.
    pub(super) fn acknowledge(&mut self, me: usize, to: PeerId, job: JobId, units: Vec<UnitIndex>) {
        let shell = &mut self.machines[me].keep;
        let live = shell.streams.iter().filter(|(_, stream)| stream.live.contains(&job));
        let needs = live.map(|(keeper, stream)| (*keeper, stream.sent)).collect();
        shell.held.push(Held { to, job, units, needs });
        self.acknowledge_held(me);
    }

    fn acknowledge_held(&mut self, me: usize) {
        for Held { to, job, units, .. } in self.machines[me].keep.release() {
            self.send_to_worker(me, to, |from| Event::Acknowledged { from, job, units });
        }
    }

    pub(super) fn on_keep_message(&mut self, me: usize, via: Via, epoch: Epoch, message: KeepMessage) {
        let (author, keeper) = via.ends();
        let (author_key, keeper_key) = (self.key(author), self.key(keeper));
        let lies = me == keeper && self.machines[me].spec.lies_as_keeper;
        if me == keeper && !lies {
            self.tell(me, Event::AuthorHeard(author_key));
        }
        match message {
            KeepMessage::Offer(keepers, saved) => self.on_offer(me, via, epoch, keepers, *saved),
            KeepMessage::Fact(number, fact) => {
                if let Some(job) = self.machines[me].disk.copy(*fact).filter(|_| !lies) {
                    self.tell(me, Event::KeptNoMore { job });
                }
                self.send_keep(me, via, epoch, KeepMessage::Stored(number));
            }
            KeepMessage::Recall(job) if lies => {
                let votes = self.forge(me, job);
                self.hand_back(me, author, job, votes);
            }
            KeepMessage::Recall(job) => self.tell(me, Event::Recalled { author: author_key, job }),
            KeepMessage::Dismiss(_) if lies => {}
            KeepMessage::Dismiss(job) => {
                self.tell(me, Event::KeptNoMore { job });
                self.machines[me].disk.dismiss(job);
            }
            KeepMessage::Beat => {}
            KeepMessage::Answer(job, keeps) => {
                if let Some(stream) = self.machines[me].keep.streams.get_mut(&keeper).filter(|_| keeps) {
                    stream.live.insert(job);
                }
                self.tell(me, Event::KeeperAnswered { from: keeper_key, job, keeps });
            }
            KeepMessage::Stored(number) => {
                if let Some(stream) = self.machines[me].keep.streams.get_mut(&keeper) {
                    stream.stored = stream.stored.max(number);
                }
                self.acknowledge_held(me);
            }
            KeepMessage::Page(job, votes) => {
                // The border drops what nobody signed.
                let votes = votes.into_iter().filter(|collected| !collected.vote.proof.is_empty()).collect();
                self.tell(me, Event::Collected { job, votes });
            }
            KeepMessage::HandedBack(job) => self.tell(me, Event::HandedBack { from: keeper_key, job }),
        }
    }

    fn on_offer(&mut self, me: usize, via: Via, epoch: Epoch, keepers: Keepers, saved: SavedJob) {
        let (author, job) = (self.key(via.ends().0), saved.id);
        let keeps = self.peer(me).is_some_and(|peer| peer.keeping().may_keep(author, job).is_ok());
        let adopted = self.machines[me].disk.kept(job) == Some(true);
        if keeps && !(adopted && self.machines[me].spec.lies_as_keeper) {
            let life = self.machines[me].life;
            let (manifest, ended) = (Arc::new(saved.manifest.clone()), saved.state.has_ended());
            let kept = keeping::KeptJob { id: job, manifest, keepers: keepers.clone(), adopted: false, ended };
            // Whatever was collected here is handed back before it is replaced.
            self.tell(me, Event::Kept(kept));
            if self.machines[me].life != life {
                return;
            }
            self.machines[me].disk.keep_for_author(saved, keepers);
        }
        self.send_keep(me, via, epoch, KeepMessage::Answer(job, keeps));
    }

    fn hand_back(&mut self, me: usize, author: usize, job: JobId, votes: Vec<Collected>) {
        let via = Via::Keep { author, keeper: me };
        let Some(epoch) = self.links.epoch(via) else { return };
        for page in votes.chunks(PAGE) {
            self.send_keep(me, via, epoch, KeepMessage::Page(job, page.to_vec()));
        }
        self.send_keep(me, via, epoch, KeepMessage::HandedBack(job));
    }

    /// What a keeper that lies hands back: nothing of every other unit; of each third a lie that it and its accomplices vouch for, in the
    /// order that suits them; and in the names of honest peers what they did not say, which nobody has signed.
    fn forge(&mut self, me: usize, job: JobId) -> Vec<Collected> {
        let mut votes: Vec<Collected> = self.machines[me].disk.hand_back(job);
        votes.retain(|collected| collected.vote.unit.0 % 2 == 0);
        let spec = self.jobs[&job].1;
        let is_accomplice = |number: usize| {
            let spec = &self.machines[number].spec;
            spec.lies_as_keeper || !spec.behaviour.is_truthful()
        };
        let (liars, honest): (Vec<usize>, Vec<usize>) = (0..self.machines.len()).partition(|number| is_accomplice(*number));
        for unit in (0..spec.units).filter(|unit| unit % 3 == 1).map(UnitIndex) {
            let Outcome::Value(value) = behaviour::of_conspirators(&spec, job, unit) else { continue };
            let mut add = |number: usize, position: u32, value: Value, proof: &[u8]| {
                let (worker, platform, origin) = (self.key(number), Platform::default(), Origin::Leased);
                let (attempt, ordinal, proof) = (Attempt(position), position, Arc::from(proof));
                let vote = Vote {
                    unit,
                    worker,
                    attempt,
                    ordinal,
                    position,
                    platform,
                    value,
                    output_bytes: 8,
                    origin,
                    rests_on: Authors::NONE,
                    proof,
                };
                votes.push(Collected { vote, output: Output::Held });
            };
            (0..).zip(&liars).for_each(|(position, number)| add(*number, position, value, &[1]));
            add(honest[unit.0 as usize % honest.len()], liars.len() as u32, value, &[]);
        }
        votes
    }
}
