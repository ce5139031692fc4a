//! The attacks that have a name: what a share of a population may do instead of its work.

use super::{behaviour::Behaviour, scenario::PeerSpec};
use core::time::Duration;

/// An attack that can be asked for by name.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// What these peers do, in a few words.
    pub about: &'static str,
    /// The amount says how many there are for each honest peer; else which share of all peers.
    pub per_honest: bool,
    behaviour: Behaviour,
    /// They say that they have so many times the slots that they have.
    boast: u32,
}

const fn share(name: &'static str, about: &'static str, behaviour: Behaviour) -> Known {
    Known { name, about, per_honest: false, behaviour, boast: 1 }
}

/// All of them.
pub const ALL: [Known; 13] = [
    share("liars", "lie in 10 % of their units, each in its own way", Behaviour::Lies { per_mille: 100 }),
    share("fools", "say the same wrong thing in the same 5 % of all units", Behaviour::Colludes { per_mille: 50 }),
    share("colluders", "lie together in 5 % of the units that no honest peer has voted on", Behaviour::Gambles { per_mille: 50 }),
    share(
        "pairs",
        "lie together where two of them hold a unit, and hold units back for that",
        Behaviour::LiesInPairs { kept_per_mille: 100 },
    ),
    share("sleepers", "are honest for 100 units, and then lie together", Behaviour::Sleeps { until: 100, per_mille: 1000 }),
    share("once", "lie once, together, after 100 units", Behaviour::LiesOnce { after: 100 }),
    share("coup", "are honest for five minutes, and then all say the same wrong thing", Behaviour::Turns { at: Duration::from_secs(300) }),
    Known { per_honest: true, ..share("sybils", "all say the same wrong thing in every unit", Behaviour::Colludes { per_mille: 1000 }) },
    share("free-riders", "answer at once what is likely, and run nothing", Behaviour::Guesses),
    share("stallers", "answer just before their leases run out", Behaviour::Dawdles),
    share("silent", "take units and never answer", Behaviour::Silent),
    share("small", "have too little memory for any unit", Behaviour::OutOfMemory),
    Known { boast: 64, ..share("boasters", "say that they have 64 times their slots", Behaviour::Honest) },
];

impl Known {
    /// The attack of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        ALL.into_iter().find(|known| known.name == name)
    }

    /// Makes a peer one of these.
    pub(super) fn apply(&self, peer: &mut PeerSpec) {
        peer.behaviour = self.behaviour;
        if self.boast > 1 {
            peer.claimed_slots = Some(peer.slots.saturating_mul(self.boast));
        }
    }

    /// Whether they say nothing wrong: then there is nothing to convict them for.
    pub fn is_truthful(&self) -> bool {
        self.behaviour.is_truthful()
    }
}
