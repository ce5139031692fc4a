//! What waits for a stream that is slow: messages, and pages that are read from the store only when there is room for them. So a copy
//! of any size takes no more memory than the stream's queue.

use super::super::net::{Outbound, SendError};
use std::collections::VecDeque;

/// Pages that are read in one turn for one stream: some milliseconds.
const PAGES_PER_TURN: usize = 4;

/// Something that waits.
#[derive(Debug)]
pub(super) enum Item<M, P> {
    /// A message of so many bytes.
    Message(M, usize),
    /// Pages, from here on.
    Pages(P),
}

/// A stream with what waits for it.
#[derive(Debug)]
pub(super) struct Outbox<M, P> {
    outbound: Option<Outbound<M>>,
    items: VecDeque<Item<M, P>>,
    bytes: usize,
}

/// The stream has ended.
#[derive(Debug)]
pub(super) struct Ended;

/// A page, and where to go on.
pub(super) struct Page<M, P> {
    pub messages: Vec<M>,
    pub next: Option<P>,
}

impl<M, P: Clone> Outbox<M, P> {
    /// For a stream that is open, or being opened.
    pub fn new(outbound: Option<Outbound<M>>) -> Self {
        Self { outbound, items: VecDeque::new(), bytes: 0 }
    }

    /// The stream is open.
    pub fn opened(&mut self, outbound: Outbound<M>) {
        self.outbound = Some(outbound);
    }

    pub fn push(&mut self, item: Item<M, P>) {
        if let Item::Message(_, bytes) = &item {
            self.bytes += bytes;
        }
        self.items.push_back(item);
    }

    /// Pages that nobody wants any more.
    pub fn drop_pages(&mut self, unwanted: impl Fn(&P) -> bool) {
        self.items.retain(|item| !matches!(item, Item::Pages(place) if unwanted(place)));
    }

    /// Bytes of messages that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something waits that could be sent.
    pub fn is_waiting(&self) -> bool {
        self.outbound.is_some() && !self.items.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Sends what there is room for; `read` makes pages.
    pub fn pump(&mut self, mut read: impl FnMut(P) -> Page<M, P>) -> Result<(), Ended> {
        let Some(outbound) = &self.outbound else { return Ok(()) };
        let mut pages = 0;
        while outbound.room() > 0
            && pages < PAGES_PER_TURN
            && let Some(item) = self.items.pop_front()
        {
            let message = match item {
                Item::Message(message, bytes) => {
                    self.bytes -= bytes;
                    message
                }
                Item::Pages(place) => {
                    pages += 1;
                    let Page { messages, next } = read(place);
                    next.into_iter().for_each(|next| self.items.push_front(Item::Pages(next)));
                    // They count for nothing: there is never more than one page of them.
                    messages.into_iter().rev().for_each(|message| self.items.push_front(Item::Message(message, 0)));
                    continue;
                }
            };
            match outbound.try_send(message) {
                // There was room, and nobody else sends.
                Ok(()) | Err(SendError::Full) => {}
                Err(SendError::Closed) => return Err(Ended),
            }
        }
        Ok(())
    }
}
