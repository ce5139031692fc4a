//! What happens to a message between two peers: the link takes, delays, loses or drops it.

use super::{Actor, Happening, Index, Links, Loss, Message, Network, ends, link::Fate, measure};
use crate::protocol::time::Instant;

impl Network {
    /// Hands a message to the link, as far as one stands. Hostile peers queue as much as they like.
    pub(super) fn send(&mut self, from: Index, to: Index, message: Message) {
        let reads = match &self.nodes[to as usize].actor {
            Actor::Hostile(hostile) => hostile.reads(),
            Actor::Honest(_) | Actor::Dead => true,
        };
        let honest = matches!(self.nodes[from as usize].actor, Actor::Honest(_));
        let eager = Links { queue: usize::MAX, ..self.profile.links.clone() };
        let Some(connection) = self.connections.get_mut(&ends(from, to)) else { return };
        let (epoch, link) = (connection.epoch, &mut connection.links[usize::from(from > to)]);
        let bytes = measure::size(&message).1;
        let (fate, grown, dropped) = link.offer(self.now, if honest { &self.profile.links } else { &eager }, (message, bytes), reads);
        self.nodes[from as usize].queued += grown;
        if honest {
            self.measure.on_queue(self.nodes[from as usize].queued, dropped);
        }
        match fate {
            Fate::Left(message, left) => self.travel(from, to, epoch, message, left),
            Fate::Waits(until) => self.push(until, to, Happening::Drain { from, epoch }),
            Fate::Queued => {}
        }
    }

    pub(super) fn drain(&mut self, from: Index, to: Index, epoch: u64) {
        let Some(connection) = self.connections.get_mut(&ends(from, to)).filter(|connection| connection.epoch == epoch) else { return };
        let drained = connection.links[usize::from(from > to)].drain(self.now, &self.profile.links);
        let Some((fate, bytes, again)) = drained else { return };
        self.nodes[from as usize].queued -= bytes as i64;
        if let Fate::Left(message, left) = fate {
            self.travel(from, to, epoch, message, left);
        }
        if let Some(again) = again {
            self.push(again, to, Happening::Drain { from, epoch });
        }
    }

    /// A message has left and arrives, unless it is lost or the network is parted.
    fn travel(&mut self, from: Index, to: Index, epoch: u64, message: Message, left: Instant) {
        let mut losses = 0;
        while self.below(1_000_000) < self.profile.loss_ppm as usize {
            losses += 1;
        }
        let parted = self.nodes[from as usize].side != self.nodes[to as usize].side;
        if parted || (losses > 0 && self.profile.links.loss == Loss::Drops) {
            return;
        }
        let delay = self.delay(from, to);
        let connection = self.connections.get_mut(&ends(from, to)).expect("a message left through it");
        let at = connection.links[usize::from(from > to)].arrival(left, delay, losses);
        self.push(at, to, Happening::Message { from, epoch, message: Box::new(message) });
    }

    /// Ends a connection; what still waited for it is gone.
    pub(super) fn sever(&mut self, a: Index, b: Index) {
        let Some(connection) = self.connections.remove(&ends(a, b)) else { return };
        for (end, link) in [a.min(b), a.max(b)].into_iter().zip(connection.links) {
            self.nodes[end as usize].queued -= link.queued() as i64;
        }
    }
}
