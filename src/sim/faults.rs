//! What goes wrong: links break, peers die, the grid splits.

use super::{
    draw,
    grid::{Grid, Happening},
    net::Via,
};
use crate::protocol::{gossip, peer::Event, time::Instant};
use core::time::Duration;
use rand_chacha::rand_core::Rng;
use std::collections::BTreeSet;

/// A transport sends again what was not acknowledged for this, or for a way there and back if that is longer; then twice as long.
const RETRANSMITTED_AFTER_MIN: Duration = Duration::from_millis(200);
/// No message is held up for longer by losses: a real link would break.
const RETRANSMITTED_FOR_MAX: Duration = Duration::from_secs(10);

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
        for via in self.links.forget(self.now, number) {
            let (a, b) = via.ends();
            self.break_link_at(via, &[if a == number { b } else { a }]);
        }
        self.at(self.now.after(down_for), Happening::Restart(number));
    }

    /// A link breaks: whatever was under way is lost, and both ends learn of it, sooner or later.
    pub fn break_link(&mut self, via: Via) {
        let (a, b) = via.ends();
        self.break_link_at(via, &[a, b]);
    }

    fn break_link_at(&mut self, via: Via, ends: &[usize]) {
        let Some(epoch) = self.links.close(via, ends) else { return };
        self.measure.broken += 1;
        let notice = self.scenario.faults.noticed_after.as_micros() as u64;
        for &end in ends {
            let late = if notice == 0 { 0 } else { self.draw(notice + 1) };
            self.at(self.now.after(Duration::from_micros(late)), Happening::Gone { end, via, epoch });
        }
    }

    /// When what a peer sends now on a link arrives: after the way there, the wait for whatever is lost and sent again, and everything
    /// sent before.
    pub(super) fn arrival(&mut self, via: Via, from: usize) -> Instant {
        let (a, b) = via.ends();
        let (least, most) = self.scenario.delay;
        let span = (most - least).as_micros() as u64;
        let way = least + Duration::from_micros(self.draw(span + 1)) + self.machines[a].spec.distance + self.machines[b].spec.distance;
        let mut delay = way;
        if self.scenario.faults.lost_per_mille > 0 {
            let mut again = RETRANSMITTED_AFTER_MIN.max(2 * way);
            while self.draw(1000) < u64::from(self.scenario.faults.lost_per_mille) && delay < RETRANSMITTED_FOR_MAX {
                delay += again;
                again *= 2;
            }
        }
        self.links.arrival(self.now, via, from, delay)
    }

    /// A session of a peer that comes and goes has begun.
    pub(super) fn plan_leaving(&mut self, number: usize) {
        let machine = &self.machines[number];
        if let Some(sessions) = machine.spec.sessions.filter(|_| self.faults_on) {
            let life = machine.life;
            let stays = draw::lasting(&mut self.rng, sessions.present);
            self.at(self.now.after(stays), Happening::Leave { on: number, life });
        }
    }

    pub(super) fn on_leave(&mut self, on: usize, life: u32) {
        if let Some(sessions) = self.machines[on].spec.sessions.filter(|_| self.faults_on && self.machines[on].life == life) {
            let away = draw::lasting(&mut self.rng, sessions.absent);
            self.crash(on, away);
        }
    }

    /// What an end is told when the link is gone.
    pub(super) fn closed_event(&self, via: Via, end: usize) -> Option<Event> {
        let (a, b) = via.ends();
        let other = self.key(if a == end { b } else { a });
        Some(match via {
            Via::Gossip(_, _) => Event::Gossip(gossip::Event::Disconnected(other)),
            Via::Work { worker, .. } if worker == end => Event::CoordinatorClosed(other),
            Via::Work { .. } => Event::WorkerClosed(other),
            Via::Keep { author, .. } if author == end => Event::KeeperLost(other),
            // A keeper only hears that its author is silent.
            Via::Keep { .. } => return None,
        })
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
                let count = self.links.count() as u64;
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
