//! The settings of the gossip machine, what each trades, and the relations between them that must hold.

use super::quota::Rate;
use core::time::Duration;

/// All settings. [`Config::default`] suits the internet: one way delays of 10 to 120 ms, up to some ten thousand peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Who is a neighbour.
    pub views: Views,
    /// How announcements spread.
    pub tree: Tree,
    /// How gaps are filled and silent neighbours noticed.
    pub repair: Repair,
    /// How much one neighbour may make us do and remember.
    pub quotas: Quotas,
}

/// Sizes and periods of the partial views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Views {
    /// Neighbours that we choose ourselves and that nobody can evict. More shorten paths and cost one `IHave` each per broadcast.
    pub outbound: usize,
    /// Neighbours that chose us. Must exceed `outbound`, so that the grid as a whole has free places and a newcomer finds one.
    pub inbound: usize,
    /// The most neighbours of each direction with the same network prefix. Lower makes an eclipse dearer, and keeps many peers of
    /// one campus from using one another.
    pub per_prefix: usize,
    /// Contacts kept for later. More survive a longer partition; each costs up to 350 bytes.
    pub contacts: usize,
    /// The time between two exchanges of contacts with a random neighbour.
    pub shuffle_every: Duration,
    /// The time after which a new peer replaces one of its outbound neighbours by a random contact. It joined where its bootstrap
    /// peer is, and the graph needs mixing; the period then doubles.
    pub rotate_first: Duration,
    /// The period at which the doubling stops. Shorter mixes and heals partitions faster, and disturbs the tree more.
    pub rotate_most: Duration,
    /// How long a dial may take.
    pub dial_timeout: Duration,
    /// How long the answer to a request may take; also how long a connected peer may stay without becoming a neighbour.
    pub request_timeout: Duration,
    /// How long a neighbour may bring nothing that we did not have before it counts as idle. Longer spares honest neighbours that
    /// stand behind us in the tree, and leaves places longer to those that only take.
    pub trial: Duration,
    /// How long a misbehaving key is refused. Keys are free, so this only saves the work of the next few attempts.
    pub shun_for: Duration,
}

impl Default for Views {
    fn default() -> Self {
        Self {
            outbound: 4,
            inbound: 6,
            per_prefix: 2,
            contacts: 96,
            shuffle_every: Duration::from_secs(30),
            rotate_first: Duration::from_secs(20),
            rotate_most: Duration::from_secs(600),
            dial_timeout: Duration::from_secs(15),
            request_timeout: Duration::from_secs(3),
            trial: Duration::from_secs(30),
            shun_for: Duration::from_secs(600),
        }
    }
}

/// Time-outs of the broadcast tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// How long ids are collected before they go out in one `IHave`: the first where the other end has the higher key, the second
    /// where it has the lower one. What the other end announces meanwhile is not announced to it, so with more than a link's delay
    /// between the two, an id travels one way only. Longer makes fewer messages and slower repairs.
    pub announce_delay: [Duration; 2],
    /// How long an announced message may take to come by itself. Shorter repairs a loss sooner and mistakes slow paths for losses,
    /// which makes duplicates.
    pub graft_first: Duration,
    /// How long each neighbour asked has to answer before the next one is. About the longest round trip.
    pub graft_next: Duration,
    /// How often one missing message is asked for before it is left to the repair.
    pub graft_tries: u8,
    /// How long an id is remembered after its message expired. Longer stops later replays and costs memory.
    pub remember: Duration,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            announce_delay: [Duration::from_millis(20), Duration::from_millis(150)],
            graft_first: Duration::from_millis(450),
            graft_next: Duration::from_millis(250),
            graft_tries: 6,
            remember: Duration::from_secs(600),
        }
    }
}

/// Periods of the repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The time between two comparisons of archives with a neighbour. Shorter finds gaps and silent neighbours sooner.
    pub every: Duration,
    /// The time until the next comparison when the last one found a difference.
    pub catch_up: Duration,
    /// After how many unanswered probes in a row a neighbour is dropped; they follow one another as fast as comparisons do that catch
    /// up. With a twentieth of all messages lost, four drop an honest neighbour once in ten thousand rounds.
    pub silence: u8,
}

impl Default for Repair {
    fn default() -> Self {
        Self { every: Duration::from_secs(10), catch_up: Duration::from_secs(2), silence: 4 }
    }
}

/// Rates and bounds that hold against each neighbour, each author and all of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// New announcements taken in from everybody. The budget of the whole grid: everyone carries what anyone announces.
    pub intake: Rate,
    /// New announcements of one author.
    pub author: Rate,
    /// Announcements from one neighbour, duplicates included. At least twice the intake, so that an honest neighbour which relays a
    /// flood never exceeds it.
    pub data: Rate,
    /// Ids that one neighbour may announce; at least twice the intake as well.
    pub announced: Rate,
    /// Ids that one neighbour may ask for, each of which costs us a body; at least twice the intake, for one that lost its tree.
    pub asked: Rate,
    /// All other messages of one neighbour.
    pub control: Rate,
    /// Dials that we make.
    pub dials: Rate,
    /// Live announcements kept, to answer whoever lacks one; with the longest bodies they take 16 MiB.
    pub live: usize,
    /// Live announcements kept of one author.
    pub live_per_author: usize,
    /// Ids remembered, live ones included; the soonest to be forgotten goes first. About 100 bytes each.
    pub remembered: usize,
    /// Ids which one neighbour announced and nobody has sent yet.
    pub promises: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            intake: Rate { per_second: 50, burst: 1000 },
            author: Rate { per_second: 5, burst: 256 },
            data: Rate { per_second: 100, burst: 2000 },
            announced: Rate { per_second: 200, burst: 4000 },
            asked: Rate { per_second: 100, burst: 2000 },
            control: Rate { per_second: 50, burst: 200 },
            dials: Rate { per_second: 1, burst: 8 },
            live: 4096,
            live_per_author: 256,
            remembered: 32_768,
            promises: 256,
        }
    }
}

/// A relation between settings that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A size, count or period is zero.
    #[error("{name} is zero")]
    Zero {
        /// The setting.
        name: &'static str,
    },
    /// One setting must not be below another.
    #[error("{low} must be at least {high}")]
    Below {
        /// The one that is too low.
        low: &'static str,
        /// What it must reach.
        high: &'static str,
    },
}

impl Config {
    /// Checks the settings once, before a machine is made of them.
    ///
    /// # Errors
    /// Names the first relation that does not hold.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Self { views, tree, repair, quotas } = self;
        for (name, value) in [("outbound", views.outbound), ("per_prefix", views.per_prefix), ("promises", quotas.promises)] {
            if value == 0 {
                return Err(ConfigError::Zero { name });
            }
        }
        let periods = [
            ("shuffle_every", views.shuffle_every),
            ("rotate_first", views.rotate_first),
            ("dial_timeout", views.dial_timeout),
            ("request_timeout", views.request_timeout),
            ("trial", views.trial),
            ("graft_first", tree.graft_first),
            ("graft_next", tree.graft_next),
            ("every", repair.every),
            ("catch_up", repair.catch_up),
        ];
        for (name, value) in periods {
            if value.is_zero() {
                return Err(ConfigError::Zero { name });
            }
        }
        let ordered = [
            ("inbound", views.inbound, "outbound", views.outbound),
            ("contacts", views.contacts, "four times outbound", 4 * views.outbound),
            ("live", quotas.live, "live_per_author", quotas.live_per_author),
            ("remembered", quotas.remembered, "live", quotas.live),
            ("data", quotas.data.per_second as usize, "twice the intake", 2 * quotas.intake.per_second as usize),
            ("data burst", quotas.data.burst as usize, "twice the intake's burst", 2 * quotas.intake.burst as usize),
            ("announced", quotas.announced.per_second as usize, "twice the intake", 2 * quotas.intake.per_second as usize),
            ("announced burst", quotas.announced.burst as usize, "twice the intake's burst", 2 * quotas.intake.burst as usize),
            ("asked", quotas.asked.per_second as usize, "twice the intake", 2 * quotas.intake.per_second as usize),
            ("asked burst", quotas.asked.burst as usize, "twice the intake's burst", 2 * quotas.intake.burst as usize),
            ("author burst", quotas.author.burst as usize, "one", 1),
        ];
        for (low, value, high, bound) in ordered {
            if value < bound {
                return Err(ConfigError::Below { low, high });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn an_honest_relay_may_never_look_like_a_flood() {
        let mut config = Config::default();
        config.quotas.data.per_second = config.quotas.intake.per_second;
        assert_eq!(config.check(), Err(ConfigError::Below { low: "data", high: "twice the intake" }));
    }

    #[test]
    fn the_grid_has_more_places_than_peers_that_want_one() {
        let mut config = Config::default();
        config.views.inbound = config.views.outbound - 1;
        assert_eq!(config.check(), Err(ConfigError::Below { low: "inbound", high: "outbound" }));
    }
}
