//! Votes that several stand behind: their voter went on from the checkpoint of somebody else.

use super::{AUTHORS_MAX, Ballot, Weight, is_live};
use crate::protocol::{ids::PeerId, outcome::Value, trust::Prefix};
use std::{borrow::Cow, collections::BTreeSet};

/// Somebody on whose checkpoint a vote rests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Author {
    /// Who.
    pub worker: PeerId,
    /// Its network, where one is known that says something.
    pub prefix: Option<Prefix>,
    /// The guest through whose invitation it came.
    pub lineage: Option<PeerId>,
}

/// A vote that rests on its voter alone.
pub const NOBODY: [Option<Author>; AUTHORS_MAX] = [None; AUTHORS_MAX];

impl Ballot {
    /// Whether its voter went on from somebody else's checkpoint.
    pub(super) fn is_shared(&self) -> bool {
        self.rests_on != NOBODY
    }

    /// All who stand behind it.
    pub(super) fn behind(&self) -> impl Iterator<Item = Author> + Clone {
        let voter = Author { worker: self.worker, prefix: self.prefix, lineage: self.lineage };
        core::iter::once(voter).chain(self.rests_on.into_iter().flatten())
    }
}

impl Weight {
    /// What a vote weighs that two of these weights stand behind. The owner vouches for nobody else.
    #[must_use]
    pub fn shared(self, other: Self) -> Self {
        let rank = |weight: Self| match weight {
            Self::Struck => 0,
            Self::SetAside => 1,
            Self::Excused => 2,
            Self::Newcomer => 3,
            Self::Proven | Self::Owner => 4,
        };
        let least = if rank(self) <= rank(other) { self } else { other };
        if least == Self::Owner { Self::Proven } else { least }
    }
}

/// A vote that rests on somebody else's checkpoint counts as long as nobody contradicts it. Where somebody does, nothing tells whose
/// mistake it is: so it is as if it had not been cast, neither its voter nor anybody else is convicted for it, and more votes are wanted.
pub(super) fn without_contradicted_shares(ballots: Cow<'_, [Ballot]>) -> Cow<'_, [Ballot]> {
    if !ballots.iter().any(Ballot::is_shared) {
        return ballots;
    }
    let values: BTreeSet<Value> = ballots.iter().filter(|ballot| is_live(ballot)).map(|ballot| ballot.value).collect();
    let stays = |ballot: &&Ballot| !ballot.is_shared() || (values.len() == 1 && is_live(ballot));
    let left: Vec<Ballot> = ballots.iter().filter(stays).copied().collect();
    Cow::Owned(left)
}

/// Whether nobody behind the one has to do with anybody behind the other.
pub(super) fn independent(a: &Ballot, b: &Ballot) -> bool {
    a.behind().all(|one| b.behind().all(|other| strangers(&one, &other)))
}

fn strangers(a: &Author, b: &Author) -> bool {
    let same = |a: Option<PeerId>, b: Option<PeerId>| a.is_some() && a == b;
    let same_network = a.prefix.is_some() && a.prefix == b.prefix;
    let same_line = same(a.lineage, b.lineage) || a.lineage == Some(b.worker) || b.lineage == Some(a.worker);
    a.worker != b.worker && !same_network && !same_line
}
