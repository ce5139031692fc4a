//! Accusations between peers: which of them are believed, which are worth running a unit again, and what follows.
//!
//! Trust is what a peer has seen itself, so nobody's word about another counts. Two kinds of evidence need no word: two receipts of one
//! key that say different things of the same unit (units are deterministic, so one of them is a lie), and a receipt that is wrong,
//! which whoever runs the unit again sees for itself. The first convicts at once; the second waits here until this machine has run
//! the unit, one at a time and for no more than a small share of one slot.
//!
//! Signatures, the job's name and that its units depend on nothing but the manifest were checked by the border. This machine decides
//! only; the shell fetches the module and runs the unit, and the owner convicts.

mod accuser;

use super::{
    announce::AnnouncementError,
    fact::Vote,
    ids::{Attempt, JobId, PeerId, UnitIndex},
    outcome::Value,
    time::Instant,
};
use accuser::Accusers;
use core::time::Duration;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

/// The most bytes of the manifest that travels with an accusation: two receipts, each with its proof, and it fit one announcement.
/// A job with a longer manifest (very long arguments) accuses nobody.
pub const MANIFEST_BYTES_MAX: usize = 640;
/// The most accusations that wait to be checked: more would be stale before their turn comes.
pub const WAITING_MAX: usize = 64;
/// Of these, from one accuser: nobody keeps the others from being heard.
pub const WAITING_PER_ACCUSER_MAX: usize = 4;
/// So many wrong accusations are remembered, so that a unit which cleared somebody is not run again for the next accuser.
const CLEARED_MAX: usize = 1024;
/// Between two checks this machine does something else for so many times as long as the last one took: whoever floods it with
/// accusations, under however many keys, gets a tenth of one slot.
const REST_FACTOR: u32 = 9;
/// The shortest such pause: starting a slot costs something too.
const REST_MIN: Duration = Duration::from_secs(1);
/// How many accusations this peer makes at once: each is carried to the whole grid, and whoever makes up keys to be convicted must not
/// fill it with proofs.
const OWN_AT_ONCE: u32 = 16;
/// In the long run it makes one in this time.
const OWN_EVERY: Duration = Duration::from_secs(60);

/// Evidence that a peer signed something wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accusation {
    /// Who signed it.
    pub accused: PeerId,
    /// The job.
    pub job: JobId,
    /// Its encoded manifest, of which the job's name is the digest; opaque here. Names the module.
    pub manifest: Arc<[u8]>,
    /// The unit.
    pub unit: UnitIndex,
    /// What was signed.
    pub evidence: Evidence,
}

/// What was signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// A wrong value: whoever runs the unit again sees it.
    Wrong(Receipt),
    /// Two values of the same unit: nobody need run anything.
    Equivocation(Receipt, Receipt),
}

/// A signed vote on a unit that is named beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// Which execution.
    pub attempt: Attempt,
    /// From the lease.
    pub ordinal: u32,
    /// What it says.
    pub value: Value,
    /// Bytes of output.
    pub output_bytes: u64,
    /// The signature and what is needed to check it.
    pub proof: Arc<[u8]>,
}

impl From<&Vote> for Receipt {
    fn from(vote: &Vote) -> Self {
        let Vote { attempt, ordinal, value, output_bytes, proof, .. } = vote;
        Self { attempt: *attempt, ordinal: *ordinal, value: *value, output_bytes: *output_bytes, proof: proof.clone() }
    }
}

impl Accusation {
    /// Checks every bound, and that the evidence says something.
    pub fn check(&self) -> Result<(), AnnouncementError> {
        if self.manifest.len() > MANIFEST_BYTES_MAX {
            let (what, found) = ("manifest of an accusation", self.manifest.len());
            return Err(AnnouncementError::TooLong { what, found, max: MANIFEST_BYTES_MAX });
        }
        match &self.evidence {
            Evidence::Equivocation(first, second) if first.value == second.value => Err(AnnouncementError::NoContradiction),
            Evidence::Equivocation(..) | Evidence::Wrong(_) => Ok(()),
        }
    }

    /// What a wrong receipt says; none of an equivocation.
    fn claimed(&self) -> Option<Value> {
        match &self.evidence {
            Evidence::Wrong(receipt) => Some(receipt.value),
            Evidence::Equivocation(..) => None,
        }
    }

    fn names_the_same(&self, other: &Self) -> bool {
        (self.accused, self.job, self.unit, self.claimed()) == (other.accused, other.job, other.unit, other.claimed())
    }
}

/// What the receiver knows around an accusation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circumstances {
    /// The accused has something to lose here: a record, or a place among the workers. A stranger has not.
    pub accused_is_known: bool,
    /// The accuser has a record here, or is an own device: it is heard before strangers.
    pub accuser_is_known: bool,
    /// This machine has slots, and computes what the accused's would: the same engine on the same instruction set.
    pub reproducible: bool,
}

/// What is done about an accusation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hearing {
    /// It proves itself.
    Guilty,
    /// It waits to be checked.
    Waits,
    /// Nothing.
    Ignored(Ignored),
}

/// Why nothing is done about an accusation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Ignored {
    /// The accused has nothing to lose here.
    #[error("the accused is a stranger, or convicted already")]
    Stranger,
    /// Its author has accused somebody wrongly.
    #[error("its author has lied before")]
    LiedBefore,
    /// Its author has had its share of this hour.
    #[error("its author accuses too often")]
    TooOften,
    /// Too many wait, in all or of this author.
    #[error("too many accusations wait")]
    TooMany,
    /// This machine has no slots, or another engine or instruction set than the accused.
    #[error("this machine cannot run the unit as the accused did")]
    NotReproducible,
    /// The same waits already.
    #[error("the same accusation waits already")]
    Known,
    /// The unit was run here, and the accused was right.
    #[error("the accused was cleared of it before")]
    Cleared,
}

/// What running the unit again has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// The accused signed something wrong.
    Guilty {
        /// Who.
        accused: PeerId,
    },
    /// The accused was right, and the accuser lied.
    Cleared {
        /// Who was accused.
        accused: PeerId,
        /// Who accused it; ignored from now on.
        accuser: PeerId,
    },
    /// The unit could not be run: its module could not be had, or it took too long.
    Unknown {
        /// Who was accused.
        accused: PeerId,
    },
}

#[derive(Clone, Debug)]
struct Waiting {
    by: PeerId,
    known: bool,
    accusation: Arc<Accusation>,
}

/// All accusations that this peer has heard and not settled.
#[derive(Clone, Debug, Default)]
pub struct Fraud {
    /// Those by known accusers first, otherwise in the order in which they came.
    waiting: VecDeque<Waiting>,
    /// What is being run, and since when.
    running: Option<(Waiting, Instant)>,
    rests_until: Option<Instant>,
    accusers: Accusers,
    /// What was found right, the oldest first.
    cleared: VecDeque<Arc<Accusation>>,
    /// When all that it has made would be due, were they made one by one.
    own_due: Instant,
}

impl Fraud {
    /// Hears an accusation that the border has checked.
    pub fn hear(&mut self, now: Instant, by: PeerId, accusation: Arc<Accusation>, about: Circumstances) -> Hearing {
        match self.judge(now, by, &accusation, about) {
            Err(ignored) => Hearing::Ignored(ignored),
            Ok(true) => Hearing::Guilty,
            Ok(false) => {
                self.enter(Waiting { by, known: about.accuser_is_known, accusation });
                Hearing::Waits
            }
        }
    }

    /// Whether it proves itself; otherwise it may wait.
    fn judge(&mut self, now: Instant, by: PeerId, accusation: &Accusation, about: Circumstances) -> Result<bool, Ignored> {
        if !about.accused_is_known {
            return Err(Ignored::Stranger);
        }
        if accusation.claimed().is_none() {
            return Ok(true);
        }
        if !about.reproducible {
            return Err(Ignored::NotReproducible);
        }
        if self.accusers.is_ignored(now, by) {
            return Err(Ignored::LiedBefore);
        }
        if self.cleared.iter().any(|cleared| cleared.names_the_same(accusation)) {
            self.accusers.lied(now, by);
            self.waiting.retain(|waiting| waiting.by != by);
            return Err(Ignored::Cleared);
        }
        let running = self.running.iter().map(|(running, _)| running);
        if self.waiting.iter().chain(running).any(|waiting| waiting.accusation.names_the_same(accusation)) {
            return Err(Ignored::Known);
        }
        let of_accuser = self.waiting.iter().filter(|waiting| waiting.by == by).count();
        let room = self.waiting.len() < WAITING_MAX || (about.accuser_is_known && self.waiting.iter().any(|waiting| !waiting.known));
        if of_accuser >= WAITING_PER_ACCUSER_MAX || !room {
            return Err(Ignored::TooMany);
        }
        if self.accusers.spend(now, by) { Ok(false) } else { Err(Ignored::TooOften) }
    }

    fn enter(&mut self, entry: Waiting) {
        if self.waiting.len() >= WAITING_MAX {
            // Known accusers come first, so the last one is a stranger.
            self.waiting.pop_back();
        }
        let at = if entry.known { self.waiting.iter().take_while(|waiting| waiting.known).count() } else { self.waiting.len() };
        self.waiting.insert(at, entry);
    }

    /// The next accusation to check, if none is being checked and it is time. The shell answers with what the unit came to.
    pub fn start(&mut self, now: Instant) -> Option<(PeerId, Arc<Accusation>)> {
        if self.running.is_some() || self.rests_until.is_some_and(|until| until > now) {
            return None;
        }
        let next = self.waiting.pop_front()?;
        let (by, accusation) = (next.by, next.accusation.clone());
        self.running = Some((next, now));
        Some((by, accusation))
    }

    /// The unit was run, and came to this; none when it could not be run. Nothing when none was asked for.
    pub fn rechecked(&mut self, now: Instant, value: Option<Value>) -> Option<Finding> {
        let (Waiting { by, accusation, .. }, since) = self.running.take()?;
        let rest = now.since(since).saturating_mul(REST_FACTOR).max(REST_MIN);
        self.rests_until = Some(now.after(rest));
        let accused = accusation.accused;
        match value {
            None => Some(Finding::Unknown { accused }),
            Some(value) if Some(value) == accusation.claimed() => {
                self.accusers.lied(now, by);
                self.waiting.retain(|waiting| waiting.by != by);
                if self.cleared.len() >= CLEARED_MAX {
                    self.cleared.pop_front();
                }
                self.cleared.push_back(accusation);
                Some(Finding::Cleared { accused, accuser: by })
            }
            Some(_) => {
                self.forget(accused);
                Some(Finding::Guilty { accused })
            }
        }
    }

    /// A peer was convicted: whatever else it is accused of need not be checked.
    pub fn forget(&mut self, accused: PeerId) {
        self.waiting.retain(|waiting| waiting.accusation.accused != accused);
    }

    /// Whether this peer may make one more accusation, which counts as made.
    pub fn may_accuse(&mut self, now: Instant) -> bool {
        let due = self.own_due.max(now);
        let allowed = due.since(now) <= OWN_EVERY * (OWN_AT_ONCE - 1);
        if allowed {
            self.own_due = due.after(OWN_EVERY);
        }
        allowed
    }

    /// When [`Fraud::start`] may have something.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = self.running.is_none() && !self.waiting.is_empty();
        waits.then(|| self.rests_until.unwrap_or_default())
    }

    /// How many accusations wait, and whether one is being checked; for views and checkers.
    pub fn waiting(&self) -> (usize, bool) {
        (self.waiting.len(), self.running.is_some())
    }

    /// Whether the accusations of this peer are ignored since one of them was wrong.
    pub fn is_ignored(&self, now: Instant, accuser: PeerId) -> bool {
        self.accusers.is_ignored(now, accuser)
    }

    /// The accused of everything that waits or is being checked, for checkers.
    pub fn accused(&self) -> BTreeSet<PeerId> {
        let running = self.running.iter().map(|(running, _)| running);
        self.waiting.iter().chain(running).map(|waiting| waiting.accusation.accused).collect()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
