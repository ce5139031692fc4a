//! What has become durable of a job and was not sent to its keepers yet. Facts of many turns go out together: a message, a commit of the
//! keeper's and an answer for thousands of votes.

use crate::{
    protocol::{
        fact::{Fact, Origin, Verdict, Vote},
        ids::{Digest, PeerId, UnitIndex},
        platform::Platform,
    },
    store::Write,
    wire::{
        bounds::{BATCH_INLINE_BYTES_MAX, BATCH_MAX, INLINE_BYTES_MAX, LOG_BYTES_MAX, SIGNATURE_BYTES},
        keep::{RECORDS_MAX, Record},
        receipt::{SignedTogether, signed_together},
        sheaf::{Batch, BatchOutput, BatchVote, Part, Sheaf},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// What is durable waits so long for more before it is sent. Workers' acknowledgements wait for it; a commit of the keeper's takes about
/// as long.
pub(super) const GATHERED_FOR: Duration = Duration::from_millis(25);
/// So many votes and records are sent at once: a message's share.
const GATHERED_MAX: usize = RECORDS_MAX / 2;
/// The same for bytes of outputs and logs.
const GATHERED_BYTES_MAX: usize = BATCH_INLINE_BYTES_MAX / 2;
/// Outputs of so many bytes at most go along with each batch: naming them would take more.
const TINY_BYTES: usize = 64;
/// Larger ones that were sent lately are only named. A worker computes what another one has within so many units, or it costs some bytes.
const LATELY_MAX: usize = 4096;

/// An own vote, its output where that is small, and whether it decided its unit.
#[derive(Clone, Debug)]
pub(super) struct OwnVote {
    pub vote: Vote,
    pub output: Option<Arc<[u8]>>,
    pub decided: Option<bool>,
}

/// Signs own votes together: a batch's class, instruction set and signature.
pub(super) trait Sign {
    /// None when it cannot be done.
    fn sign(&self, votes: &[OwnVote]) -> Option<(String, String, [u8; SIGNATURE_BYTES])>;

    /// Gives one that does not fit a batch its own proof.
    fn prove(&self, vote: &mut Vote);
}

/// What is to be sent: records that are read at once, and a sheaf.
pub(super) type Message = (Vec<Record>, Sheaf);

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Own votes, which are signed when they go, and the units that they decided.
    own: Vec<OwnVote>,
    decided: BTreeSet<UnitIndex>,
    parts: Vec<Part>,
    /// What a keeper reads at once.
    records: Vec<Record>,
    count: usize,
    bytes: usize,
    since: Option<Instant>,
    lately: Lately,
}

/// Outputs that keepers have.
#[derive(Debug, Default)]
struct Lately {
    known: BTreeSet<Digest>,
    order: VecDeque<Digest>,
}

impl Lately {
    /// Whether it was there before.
    fn insert(&mut self, digest: Digest) -> bool {
        if !self.known.insert(digest) {
            return true;
        }
        self.order.push_back(digest);
        if self.order.len() > LATELY_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        false
    }
}

/// A vote, its output where that came with it, and whether it decided its unit.
type Voted<'a> = (&'a Vote, Option<&'a [u8]>, Option<bool>);

/// A turn's facts, taken apart.
#[derive(Default)]
struct Turn<'a> {
    votes: Vec<Voted<'a>>,
    /// What goes behind the batches, in its order.
    loose: Vec<Record>,
    /// Units that were decided otherwise than by the vote before.
    unsettled: BTreeSet<UnitIndex>,
    records: Vec<Record>,
    /// An output whose vote has not come yet.
    output: Option<(Digest, &'a [u8])>,
}

impl<'a> Turn<'a> {
    fn output_alone(&mut self) {
        if let Some((digest, bytes)) = self.output.take() {
            if bytes.len() <= INLINE_BYTES_MAX {
                self.loose.push(Record::Blob(Arc::from(bytes)));
            } else {
                self.records.push(Record::LargeBlob(digest));
            }
        }
    }

    fn take(&mut self, write: &'a Write) {
        match write {
            Write::Blob { digest, bytes, .. } => {
                self.output_alone();
                self.output = Some((*digest, bytes));
            }
            Write::Pin { digest, .. } => self.records.push(Record::LargeBlob(*digest)),
            Write::Log { unit, bytes, .. } => {
                self.loose.push(Record::Log(*unit, Arc::from(&bytes[..bytes.len().min(LOG_BYTES_MAX)])));
            }
            Write::Fact(Fact::Vote(_, vote)) => {
                let fits = |(digest, bytes): &(Digest, &[u8])| *digest == vote.value.output && bytes.len() <= INLINE_BYTES_MAX;
                let output = self.output.take_if(|output| fits(output)).map(|(_, bytes)| bytes);
                self.output_alone();
                self.votes.push((vote, output, None));
            }
            Write::Fact(Fact::Verdict(_, unit, verdict)) => match (self.votes.last_mut(), verdict) {
                (Some((vote, _, decided)), Verdict::Verified { value, by_owner })
                    if vote.unit == *unit && vote.value == *value && !self.unsettled.contains(unit) =>
                {
                    *decided = Some(*by_owner);
                }
                (_, verdict) => {
                    self.unsettled.insert(*unit);
                    self.loose.push(Record::Verdict(*unit, *verdict));
                }
            },
            Write::Fact(Fact::Failures(_, unit, failures)) => self.loose.push(Record::Failures(*unit, *failures)),
            Write::Fact(Fact::Findings(_, findings)) => self.loose.push(Record::Findings(*findings)),
            Write::Fact(Fact::JobState(_, state)) => self.records.push(Record::State(*state)),
            Write::Fact(Fact::Keepers(..) | Fact::Standing(..))
            | Write::Staged { .. }
            | Write::Receipts { .. }
            | Write::ForgetReceipts
            | Write::RemoveJob(_)
            | Write::RemoveBlob(_)
            | Write::Arrive(_)
            | Write::KeptUnits { .. }
            | Write::Sheaf { .. }
            | Write::Unbind(_)
            | Write::Role { .. }
            | Write::DropBlob(_)
            | Write::Note { .. } => {}
        }
    }
}

/// Whether a vote can be one of a batch.
fn is_plain(vote: &Vote) -> bool {
    vote.value.chain.is_none() && vote.rests_on.is_empty() && vote.origin.has_output()
}

/// As its keepers are to see it.
pub(super) fn collected(vote: &Vote) -> Vote {
    Vote { origin: Origin::Collected { output: vote.origin.has_output() }, ..vote.clone() }
}

/// As what the first of these votes and those behind it were signed together, where all of that batch are here and plain.
fn whole_batch<'a>(mut votes: impl Iterator<Item = &'a Vote>) -> Option<SignedTogether<'a>> {
    let first = votes.next()?;
    let signed = signed_together(&first.proof)?;
    if signed.position > 0 || !is_plain(first) || Platform::named(signed.instruction_set.as_bytes()) != first.platform {
        return None;
    }
    for position in 1..signed.count {
        let vote = votes.next().filter(|vote| vote.worker == first.worker && is_plain(vote) && vote.platform == first.platform)?;
        let other = signed_together(&vote.proof)?;
        let alike = other.position == position
            && other.count == signed.count
            && other.signature == signed.signature
            && (other.class, other.instruction_set) == (signed.class, signed.instruction_set);
        if !alike {
            return None;
        }
    }
    Some(signed)
}

fn as_signed(signed: SignedTogether<'_>) -> (String, String, [u8; SIGNATURE_BYTES]) {
    (signed.class.to_owned(), signed.instruction_set.to_owned(), signed.signature)
}

impl Gathered {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// When it is to go, if something waits.
    pub fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + GATHERED_FOR)
    }

    /// Whether it goes now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.count >= GATHERED_MAX || self.bytes >= GATHERED_BYTES_MAX || self.due().is_some_and(|due| due <= now)
    }

    /// Takes in what a turn has written about the job. It waits until [`take`](Self::take).
    pub fn add<'a>(&mut self, now: Instant, me: PeerId, writes: impl Iterator<Item = &'a Write>, sign: &dyn Sign) {
        let mut turn = Turn::default();
        writes.for_each(|write| turn.take(write));
        turn.output_alone();
        let Turn { votes, mut loose, unsettled, records, output: _ } = turn;
        self.records.extend(records);
        let mut at = 0;
        let mut apart: Vec<Record> = Vec::new();
        while let Some((vote, output, decided)) = votes.get(at).copied() {
            let own_vote =
                |(vote, output, decided): &Voted<'_>| OwnVote { vote: Vote::clone(vote), output: output.map(Arc::from), decided: *decided };
            if vote.worker == me && vote.proof.is_empty() && is_plain(vote) {
                self.own.push(own_vote(&(vote, output, decided)));
                self.decided.extend(decided.map(|_| vote.unit));
                self.count += 1;
                self.bytes += output.map_or(0, <[u8]>::len);
                if self.own.len() >= BATCH_MAX || self.bytes >= GATHERED_BYTES_MAX {
                    self.close_own(sign);
                }
                at += 1;
            } else if let Some(signed) = whole_batch(votes[at..].iter().map(|(vote, ..)| *vote)) {
                let batch = &votes[at..at + signed.count];
                if batch.iter().any(|(vote, _, decided)| decided.is_some() && self.decided.contains(&vote.unit)) {
                    self.close_own(sign);
                }
                self.bind(vote.worker, as_signed(signed), batch);
                at += signed.count;
            } else {
                if let Some(output) = output {
                    apart.push(Record::Blob(Arc::from(output)));
                }
                let mut alone = collected(vote);
                if vote.worker == me && vote.proof.is_empty() {
                    sign.prove(&mut alone);
                }
                apart.push(Record::Vote(alone));
                if let Some(by_owner) = decided {
                    apart.push(Record::Verdict(vote.unit, Verdict::Verified { value: vote.value, by_owner }));
                }
                at += 1;
            }
        }
        // What own votes of later turns decide comes behind these.
        if !unsettled.is_empty() || !apart.is_empty() {
            self.close_own(sign);
        }
        apart.append(&mut loose);
        for record in apart {
            self.count += 1;
            self.bytes += record.inline_bytes();
            self.parts.push(Part::Record(record));
        }
        if self.count > 0 || !self.records.is_empty() {
            self.since.get_or_insert(now);
        }
    }

    /// Binds votes that were signed together.
    fn bind(&mut self, worker: PeerId, signed: (String, String, [u8; SIGNATURE_BYTES]), votes: &[Voted<'_>]) {
        let (class, instruction_set, signature) = signed;
        let mut outputs: Vec<BatchOutput> = Vec::new();
        let mut numbers: BTreeMap<Digest, u32> = BTreeMap::new();
        let mut last: Option<(Digest, u32)> = None;
        let mut bound = Vec::with_capacity(votes.len());
        for (vote, output, decided) in votes {
            let digest = vote.value.output;
            let number = match last {
                Some((same, number)) if same == digest => number,
                Some(_) | None => *numbers.entry(digest).or_insert_with(|| {
                    let known = |lately: &mut Lately, bytes: &[u8]| bytes.len() > TINY_BYTES && lately.insert(digest);
                    outputs.push(match output {
                        Some(bytes) if !known(&mut self.lately, bytes) => {
                            self.bytes += bytes.len();
                            BatchOutput::Inline(Arc::from(*bytes))
                        }
                        Some(_) | None => BatchOutput::Named { digest, bytes: vote.output_bytes },
                    });
                    outputs.len() as u32 - 1
                }),
            };
            last = Some((digest, number));
            let Vote { unit, attempt, ordinal, position, value, .. } = **vote;
            let (exit, gas) = (value.exit, value.gas);
            bound.push(BatchVote { unit, attempt, ordinal, position, exit, gas, output: number, decided: *decided });
        }
        self.count += bound.len();
        self.parts.push(Part::Batch(Batch { worker, signature, class, instruction_set, outputs, votes: bound }));
    }

    /// Binds own votes.
    fn close_own(&mut self, sign: &dyn Sign) {
        let own = std::mem::take(&mut self.own);
        self.decided.clear();
        let Some(me) = own.first().map(|own| own.vote.worker) else { return };
        self.count -= own.len();
        self.bytes -= own.iter().filter_map(|own| own.output.as_ref()).map(|output| output.len()).sum::<usize>();
        // They stay own votes, which keepers do not have.
        let Some(signed) = sign.sign(&own) else { return };
        let votes: Vec<_> = own.iter().map(|own| (&own.vote, own.output.as_deref(), own.decided)).collect();
        self.bind(me, signed, &votes);
    }

    /// All that waits, in messages that keep to the bounds.
    pub fn take(&mut self, sign: &dyn Sign) -> Vec<Message> {
        self.close_own(sign);
        (self.count, self.bytes, self.since) = (0, 0, None);
        messages(std::mem::take(&mut self.records), std::mem::take(&mut self.parts))
    }
}

/// Votes with their proofs, in the order of their commitment: as batches where all of one is there. Their outputs were sent before.
pub(super) fn bind_votes(votes: &[Vote]) -> Vec<Part> {
    let mut bound = Gathered::default();
    let mut at = 0;
    while let Some(vote) = votes.get(at) {
        match whole_batch(votes[at..].iter()) {
            Some(signed) => {
                let batch: Vec<_> = votes[at..at + signed.count].iter().map(|vote| (vote, None, None)).collect();
                bound.bind(vote.worker, as_signed(signed), &batch);
                at += signed.count;
            }
            None => {
                bound.parts.push(Part::Record(Record::Vote(collected(vote))));
                at += 1;
            }
        }
    }
    bound.parts
}

/// In messages that keep to the bounds. At least one.
pub(super) fn messages(records: Vec<Record>, parts: Vec<Part>) -> Vec<Message> {
    let mut messages: Vec<Message> = vec![Message::default()];
    let (mut count, mut bytes) = (0, 0);
    let records = records.into_iter().map(|record| (1, record.inline_bytes(), Err(record)));
    let parts = parts.into_iter().map(|part| (part.count(), part.inline_bytes(), Ok(part)));
    for (items, inline, one) in records.chain(parts) {
        if count + items > RECORDS_MAX || bytes + inline > BATCH_INLINE_BYTES_MAX {
            messages.push(Message::default());
            (count, bytes) = (0, 0);
        }
        (count, bytes) = (count + items, bytes + inline);
        if let Some((records, sheaf)) = messages.last_mut() {
            match one {
                Ok(part) => sheaf.parts.push(part),
                Err(record) => records.push(record),
            }
        }
    }
    messages
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
