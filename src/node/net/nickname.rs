//! Friendly names for keys, such as `quiet-otter-7k2m`: for people to recognise, never to compare or to look up by.

use data_encoding::BASE32_NOPAD;

use crate::protocol::ids::{Digest, PeerId};

#[rustfmt::skip]
const ADJECTIVES: [&str; 64] = [
    "amber", "brave", "bright", "brisk", "calm", "clever", "cosy", "crisp", "curious", "daring", "dusky", "eager", "early", "fair", "fleet",
    "fond", "frosty", "gentle", "glad", "golden", "grand", "happy", "hardy", "hazel", "honest", "humble", "jolly", "keen", "kind", "lively",
    "loyal", "lucky", "mellow", "merry", "mighty", "misty", "modest", "mossy", "neat", "nimble", "noble", "patient", "plucky", "polite",
    "proud", "quick", "quiet", "ready", "rosy", "rustic", "serene", "sharp", "silver", "sleepy", "snowy", "steady", "sunny", "swift",
    "tidy", "trusty", "velvet", "warm", "wise", "witty",
];

#[rustfmt::skip]
const ANIMALS: [&str; 64] = [
    "ant", "badger", "bat", "bear", "beaver", "bee", "bison", "camel", "cat", "crane", "crow", "deer", "dingo", "dolphin", "dove", "duck",
    "eagle", "eel", "elk", "falcon", "ferret", "finch", "fox", "frog", "gecko", "goat", "goose", "hare", "hawk", "hedgehog", "heron",
    "horse", "ibis", "jackdaw", "koala", "lark", "lemur", "lynx", "magpie", "marten", "mole", "moose", "moth", "mouse", "newt", "otter",
    "owl", "panda", "parrot", "puffin", "quail", "rabbit", "raven", "robin", "salmon", "seal", "sparrow", "squid", "stork", "swan", "toad",
    "turtle", "walrus", "wren",
];

/// The name that people see for `peer`. A key can be searched for that has a given name, so it proves nothing.
pub fn nickname(peer: PeerId) -> String {
    let digest = Digest::of_parts(&[b"manyhands.nickname.v1", peer.as_bytes()]);
    let [first, second, third, fourth, fifth, ..] = digest.0;
    let tail = BASE32_NOPAD.encode(&[third, fourth, fifth]).to_lowercase();
    format!("{}-{}-{}", ADJECTIVES[usize::from(first % 64)], ANIMALS[usize::from(second % 64)], &tail[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nickname_never_changes() {
        assert_eq!(nickname(PeerId([0; 32])), nickname(PeerId([0; 32])));
        assert_eq!(nickname(PeerId([1; 32])).split('-').count(), 3);
        assert_ne!(nickname(PeerId([1; 32])), nickname(PeerId([2; 32])));
    }

    #[test]
    fn the_words_are_sorted_and_so_each_is_there_once() {
        for words in [ADJECTIVES, ANIMALS] {
            assert!(words.is_sorted_by(|a, b| a < b));
        }
    }
}
