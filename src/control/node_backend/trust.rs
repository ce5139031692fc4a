//! Anchors of trust: who is one and why, and friends, which the user makes and unmakes.

use super::NodeBackend;
use crate::{
    control::{
        backend::Reply,
        error::{ControlError, Kind, clip},
    },
    node::{Node, net::nickname::nickname},
    protocol::{fact::Standing, ids::PeerId, peer::Event, trust::FRIENDS_MAX},
    wire::control::{TrustPeerRequest, TrustPeerResponse, Trusted},
};
use std::collections::BTreeSet;

/// The fewest digits of a key that is not given in full: whoever makes up keys cannot meet them.
const PREFIX_DIGITS_MIN: usize = 16;

impl NodeBackend {
    pub(super) async fn list_trusted(&self) -> Reply<Vec<Trusted>> {
        self.view(|node| {
            let me = node.peer().me();
            let standings = node.peer().owner().standings().filter(|(peer, standing)| *peer != me && (standing.anchor || standing.friend));
            standings.map(|(peer, standing)| trusted(node, peer, &standing)).collect()
        })
        .await
    }

    /// Marks a peer as a friend, or no longer; durable when this returns.
    pub(super) async fn mark(&self, request: TrustPeerRequest) -> Reply<TrustPeerResponse> {
        let text = request.peer.to_ascii_lowercase();
        let peer = self.view(move |node| named(&text, &known(node))).await??;
        let handle = self.handle().await?;
        if peer == handle.facts.me {
            return Err(ControlError::new(Kind::Usage, "OWN_KEY", "this is the key of this very node, which trusts itself"));
        }
        let friend = !request.remove;
        let before = self.standing(peer).await?;
        if request.remove && !before.friend {
            let error = ControlError::new(Kind::NotFound, "NO_FRIEND", format!("{} is not marked as a friend", nickname(peer)));
            let error = if before.anchor { error.cause("it is trusted because of how it joined") } else { error };
            return Err(error.hint("manyhands trust"));
        }
        handle.event(Event::Befriended { peer, friend }).await?;
        let trusted = self.view(move |node| trusted(node, peer, &node.peer().owner().trust().standing(peer))).await?;
        if trusted.friend != friend {
            let error = ControlError::new(Kind::Exhausted, "TOO_MANY_FRIENDS", format!("{FRIENDS_MAX} friends are the most"));
            return Err(error.hint("manyhands trust KEY --remove"));
        }
        Ok(TrustPeerResponse { trusted: Some(trusted), unchanged: before.friend == friend })
    }

    async fn standing(&self, peer: PeerId) -> Reply<Standing> {
        self.view(move |node| node.peer().owner().trust().standing(peer)).await
    }
}

fn trusted(node: &Node, peer: PeerId, standing: &Standing) -> Trusted {
    let because = match (standing.friend, standing.anchor, node.inviter() == Some(peer)) {
        (true, _, _) => "friend",
        (false, true, true) => "inviter",
        (false, true, false) => "own device",
        (false, false, _) => "",
    };
    Trusted {
        peer: peer.to_string(),
        nickname: nickname(peer),
        friend: standing.friend,
        because: because.to_owned(),
        convicted: standing.strikes > 0,
        connected: node.connected().contains_key(&peer),
    }
}

/// The peers that a prefix may name.
fn known(node: &Node) -> BTreeSet<PeerId> {
    node.peer().owner().standings().map(|(peer, _)| peer).chain(node.connected().keys().copied()).collect()
}

/// The peer that the text names: any by its whole key, a known one by many digits of it.
fn named(text: &str, known: &BTreeSet<PeerId>) -> Reply<PeerId> {
    if let Ok(peer) = text.parse() {
        return Ok(peer);
    }
    let is_prefix = (PREFIX_DIGITS_MIN..64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let matching: Vec<PeerId> = known.iter().filter(|peer| is_prefix && peer.to_string().starts_with(text)).copied().collect();
    match matching[..] {
        [peer] => Ok(peer),
        [_, _, ..] => {
            Err(ControlError::new(Kind::Usage, "AMBIGUOUS_PEER", "more than one peer has a key that begins so").hint("give more digits"))
        }
        [] => {
            let error = ControlError::new(Kind::NotFound, "NOT_FOUND_PEER", format!("no peer `{}`", clip(text)));
            let cause = format!("a peer is named by its key of 64 digits, or by {PREFIX_DIGITS_MIN} or more digits of it once it was met");
            Err(error.cause(cause).hint("manyhands peers -o id").hint("there: manyhands status -o id"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_by_its_key_or_many_digits_of_it() {
        let (one, two) = (PeerId([0xab; 32]), PeerId([0xcd; 32]));
        let known = BTreeSet::from([one, two]);
        let reason = |text: &str| named(text, &known).map_err(|error| error.reason.into_owned());
        assert_eq!(reason(&"ab".repeat(8)), Ok(one));
        assert_eq!(reason(&"ef".repeat(32)), Ok(PeerId([0xef; 32])), "whom nobody has met yet");
        assert_eq!(reason("ababab"), Err("NOT_FOUND_PEER".to_owned()), "too few digits");
        assert_eq!(reason("quiet-otter"), Err("NOT_FOUND_PEER".to_owned()));
        let twins = BTreeSet::from([one, PeerId(std::array::from_fn(|at| if at < 20 { 0xab } else { 0 }))]);
        assert_eq!(named(&"ab".repeat(8), &twins).map_err(|error| error.reason.into_owned()), Err("AMBIGUOUS_PEER".to_owned()));
    }
}
