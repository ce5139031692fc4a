//! What goes wrong: links break, peers die, the grid splits.

use super::{
    grid::{Grid, Happening},
    net::Via,
};
use crate::protocol::{gossip, peer::Event};
use core::time::Duration;
use rand_chacha::rand_core::Rng;
use std::collections::BTreeSet;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    Break,
    Crash,
    Split,
    Heal,
}

impl Grid {
    /// No faults from now on; who is down comes back.
    pub fn heal(&mut self) {
        self.set_faults(false);
        self.split(BTreeSet::new());
    }

    /// A peer dies with everything but its disk, and comes back after a while.
    pub fn crash(&mut self, number: usize, down_for: Duration) {
        if self.machines[number].peer.is_none() {
            return;
        }
        self.machines[number].crash();
        self.crowd.forget(self.machines[number].id, self.machines[number].spec.behaviour);
        let broken: Vec<_> = self.links.all().filter(|via| via.ends().0 == number || via.ends().1 == number).collect();
        for via in broken {
            self.break_link(via);
        }
        self.at(self.now.after(down_for), Happening::Restart(number));
    }

    /// A link breaks: whatever was under way is lost, and both ends learn of it.
    pub fn break_link(&mut self, via: Via) {
        if !self.links.close(via) {
            return;
        }
        let (a, b) = via.ends();
        let (to_a, to_b) = self.closed_events(via);
        for (number, event) in [(a, to_a), (b, to_b)] {
            let life = self.machines[number].life;
            self.at(self.now, Happening::Local { to: number, life, event });
        }
    }

    /// What each end is told when the link is gone.
    pub(super) fn closed_events(&self, via: Via) -> (Event, Event) {
        let (a, b) = via.ends();
        let (a, b) = (self.key(a), self.key(b));
        match via {
            Via::Gossip(_, _) => (Event::Gossip(gossip::Event::Disconnected(b)), Event::Gossip(gossip::Event::Disconnected(a))),
            Via::Work { .. } => (Event::CoordinatorClosed(b), Event::WorkerClosed(a)),
        }
    }

    pub(super) fn set_faults(&mut self, on: bool) {
        self.faults_on = on;
        let faults = self.scenario.faults;
        for (fault, every) in
            [(Fault::Break, faults.break_every), (Fault::Crash, faults.crash_every), (Fault::Split, faults.partition_every)]
        {
            if let Some(every) = every.filter(|_| on) {
                self.plan(fault, every);
            }
        }
    }

    fn plan(&mut self, fault: Fault, every: Duration) {
        let wait = self.draw(2 * every.as_micros() as u64);
        self.at(self.now.after(Duration::from_micros(wait)), Happening::Fault(fault));
    }

    pub(super) fn on_fault(&mut self, fault: Fault) {
        if !self.faults_on {
            return;
        }
        let faults = self.scenario.faults;
        match fault {
            Fault::Break => {
                let count = self.links.all().count() as u64;
                let drawn = self.draw(count) as usize;
                let drawn = self.links.all().nth(drawn);
                drawn.into_iter().for_each(|via| self.break_link(via));
            }
            Fault::Crash => {
                let number = self.draw(self.machines.len() as u64) as usize;
                let down = self.draw(faults.down_for.as_micros() as u64 + 1);
                self.crash(number, Duration::from_micros(down));
            }
            Fault::Split => {
                let far: BTreeSet<_> = (0..self.machines.len()).filter(|_| self.rng.next_u32().is_multiple_of(2)).collect();
                self.split(far);
                let lasts = self.draw(faults.partition_for.as_micros() as u64 + 1);
                self.at(self.now.after(Duration::from_micros(lasts)), Happening::Fault(Fault::Heal));
            }
            Fault::Heal => self.split(BTreeSet::new()),
        }
        let again = match fault {
            Fault::Break => faults.break_every,
            Fault::Crash => faults.crash_every,
            Fault::Split => faults.partition_every,
            Fault::Heal => None,
        };
        if let Some(every) = again {
            self.plan(fault, every);
        }
    }

    /// Splits the grid in two, or heals it with nobody on the far side.
    pub fn split(&mut self, far_side: BTreeSet<usize>) {
        for via in self.links.split(far_side) {
            self.break_link(via);
        }
    }
}
