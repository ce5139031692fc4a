//! A population as data: how many peers of which kind, drawn by the seed.

use super::{
    attacks::Known,
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

/// A part of the population that misbehaves.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Attack {
    /// What these do.
    pub known: Known,
    /// How many there are, as [`Known::per_honest`] says.
    pub amount: f64,
}

/// A population that was drawn.
pub struct Drawn {
    /// The peers, the submitters first.
    pub peers: Vec<PeerSpec>,
    /// In which of the population's attacks each takes part.
    pub attack_of: Vec<Option<usize>>,
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
    pub fn draw(&self, seed: u64) -> Drawn {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x706f_7075_6c61_7465);
        let attack_of = self.draw_attackers(&mut rng);
        let peer = |(number, attack): (usize, &Option<usize>)| {
            let speed = self.gas_per_second as f64 * draw::log_normal(&mut rng, self.speed_sigma);
            let mut peer = PeerSpec {
                slots: self.slots,
                gas_per_second: (speed as u64).max(1),
                distance: self.distance.mul_f64(draw::log_normal(&mut rng, self.distance_sigma)),
                comes_after: self.arrive_within.mul_f64(number as f64 / f64::from(self.peers.max(1))),
                sessions: self.sessions.filter(|_| number >= self.submitters as usize),
                ..PeerSpec::default()
            };
            if let Some(attack) = attack {
                self.attacks[*attack].known.apply(&mut peer);
            }
            peer
        };
        Drawn { peers: attack_of.iter().enumerate().map(peer).collect(), attack_of }
    }

    /// The attackers are anywhere among those who own no jobs.
    fn draw_attackers(&self, rng: &mut ChaCha8Rng) -> Vec<Option<usize>> {
        let mut attack_of = vec![None; self.peers as usize];
        let mut others: Vec<usize> = (self.submitters as usize..attack_of.len()).collect();
        for (number, attack) in self.attacks.iter().enumerate() {
            for _ in 0..(f64::from(self.peers) * self.share(attack)).round() as u32 {
                if others.is_empty() {
                    break;
                }
                let drawn = rng.next_u64() as usize % others.len();
                attack_of[others.swap_remove(drawn)] = Some(number);
            }
        }
        attack_of
    }

    /// Which share of all peers takes part in an attack. Where several are counted per honest peer, and others by their share of all, the
    /// honest are what is left.
    fn share(&self, attack: &Attack) -> f64 {
        let amounts = |per_honest: bool| -> f64 {
            self.attacks.iter().filter(|attack| attack.known.per_honest == per_honest).map(|attack| attack.amount).sum()
        };
        let honest = (1.0 - amounts(false)).max(0.0) / (1.0 + amounts(true));
        if attack.known.per_honest { honest * attack.amount } else { attack.amount }
    }

    /// The share of the time that a peer which comes and goes is there.
    pub fn availability(&self) -> f64 {
        let share =
            |Sessions { present, absent }: Sessions| present.as_secs_f64() / (present + absent).as_secs_f64().max(f64::MIN_POSITIVE);
        self.sessions.map_or(1.0, share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(attacks: &[(&str, f64)]) -> Vec<usize> {
        let attack = |(name, amount): &(&str, f64)| Attack { known: Known::of_name(name).unwrap(), amount: *amount };
        let population = Population { submitters: 3, attacks: attacks.iter().map(attack).collect(), ..Population::default() };
        let drawn = population.draw(1);
        assert!(drawn.attack_of[..3].iter().all(Option::is_none), "submitters are honest");
        (0..attacks.len()).map(|number| drawn.attack_of.iter().filter(|attack| **attack == Some(number)).count()).collect()
    }

    #[test]
    fn attackers_are_as_many_as_asked_for() {
        assert_eq!(count(&[("colluders", 0.1)]), [100]);
        assert_eq!(count(&[("sybils", 4.0)]), [800]);
        assert_eq!(count(&[("sleepers", 0.2), ("sybils", 3.0)]), [200, 600]);
        assert_eq!(count(&[("silent", 1.0)]), [997]);
    }

    #[test]
    fn a_seed_draws_the_same_peers_again_and_half_of_them_are_fast() {
        let population = Population::default();
        let (one, same, other) = (population.draw(1).peers, population.draw(1).peers, population.draw(2).peers);
        let speeds = |peers: &[PeerSpec]| peers.iter().map(|peer| peer.gas_per_second).collect::<Vec<_>>();
        assert_eq!(speeds(&one), speeds(&same));
        assert_ne!(speeds(&one), speeds(&other));
        let fast = one.iter().filter(|peer| peer.gas_per_second > population.gas_per_second).count();
        assert!((430..570).contains(&fast), "{fast}");
    }
}
