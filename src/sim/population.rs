//! A population as data: how many peers of which kind, drawn by the seed.

use super::{
    behaviour::Behaviour,
    draw,
    scenario::{JobSpec, PeerSpec, Sessions},
};
use core::time::Duration;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Who takes part.
#[derive(Clone, PartialEq, Debug)]
pub struct Population {
    /// All peers, attackers included.
    pub peers: u32,
    /// The first so many own the jobs; they are honest and stay.
    pub submitters: u32,
    /// Units that each runs at once.
    pub slots: u32,
    /// Gas per second and slot: half of the peers are slower.
    pub gas_per_second: u64,
    /// How far speeds differ: a third of the peers are faster or slower than the median by more than a factor of `e^sigma`.
    pub speed_sigma: f64,
    /// How long a packet takes between a peer and the rest of the world: half of the peers are nearer.
    pub distance: Duration,
    /// How far distances differ, as for speeds.
    pub distance_sigma: f64,
    /// Peers start one after the other during this time.
    pub arrive_within: Duration,
    /// How all but the submitters come and go; `None`: they stay.
    pub sessions: Option<Sessions>,
    /// Who attacks; everybody else is honest.
    pub attacks: Vec<Attack>,
}

/// A share of the population that misbehaves.
#[derive(Clone, PartialEq, Debug)]
pub struct Attack {
    /// What it is called.
    pub name: String,
    /// Of all peers.
    pub share: f64,
    /// What these do.
    pub behaviour: Behaviour,
}

impl Default for Population {
    fn default() -> Self {
        Self {
            peers: 1000,
            submitters: 1,
            slots: 2,
            gas_per_second: JobSpec::default().gas,
            speed_sigma: 0.5,
            distance: Duration::from_millis(15),
            distance_sigma: 0.7,
            arrive_within: Duration::from_secs(30),
            sessions: None,
            attacks: Vec::new(),
        }
    }
}

impl Population {
    /// Draws the peers.
    pub fn draw(&self, seed: u64) -> Vec<PeerSpec> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x706f_7075_6c61_7465);
        let behaviours = self.behaviours(&mut rng);
        let peers = behaviours.len().max(1) as u32;
        let peer = |(number, behaviour): (usize, Behaviour)| {
            let speed = self.gas_per_second as f64 * draw::log_normal(&mut rng, self.speed_sigma);
            let distance = self.distance.mul_f64(draw::log_normal(&mut rng, self.distance_sigma));
            PeerSpec {
                slots: self.slots,
                gas_per_second: (speed as u64).max(1),
                behaviour,
                distance,
                comes_after: self.arrive_within * number as u32 / peers,
                sessions: self.sessions.filter(|_| number >= self.submitters as usize),
                ..PeerSpec::default()
            }
        };
        behaviours.into_iter().enumerate().map(peer).collect()
    }

    /// What each peer does: the attackers are anywhere among those who own no jobs.
    fn behaviours(&self, rng: &mut ChaCha8Rng) -> Vec<Behaviour> {
        let mut behaviours = vec![Behaviour::Honest; self.peers as usize];
        let mut others: Vec<usize> = (self.submitters as usize..behaviours.len()).collect();
        for attack in &self.attacks {
            for _ in 0..self.attackers(attack) {
                if others.is_empty() {
                    break;
                }
                let drawn = rng.next_u64() as usize % others.len();
                behaviours[others.swap_remove(drawn)] = attack.behaviour;
            }
        }
        behaviours
    }

    /// How many peers take part in an attack.
    pub fn attackers(&self, attack: &Attack) -> u32 {
        (f64::from(self.peers) * attack.share).round() as u32
    }

    /// The share of the time that a peer which comes and goes is there.
    pub fn availability(&self) -> f64 {
        let share = |Sessions { present, absent }: Sessions| present.as_secs_f64() / (present + absent).as_secs_f64().max(f64::MIN_POSITIVE);
        self.sessions.map_or(1.0, share)
    }
}
