//! Tests of [`super`].

use super::*;
use crate::protocol::outcome::Exit;

const STATE: u64 = 1 << 16;

fn state(moment: u64, liar: bool) -> Digest {
    Digest::of_parts(&[&moment.to_le_bytes(), &[u8::from(liar)]])
}

/// Runs a unit whose steps take so much gas each; from `lies_from` steps on its state is another one.
fn run(steps: u64, gas: u64, lies_from: Option<u64>) -> (Links, Value) {
    let mut links = Links::default();
    let lies = |step: u64| lies_from.is_some_and(|from| step >= from);
    for step in 0..=steps {
        if links.is_due(step * gas, STATE) {
            links.record(Link { gas: step * gas, state: state(step, lies(step)) });
        }
    }
    let output = state(steps, lies(steps));
    let value = Value { exit: Exit::Code(0), output, gas: steps * gas + 5, chain: links.head() };
    assert!(links.belong_to(&value) || links.head().is_none());
    (links, value)
}

#[test]
fn each_link_is_the_first_moment_after_its_gas_and_there_are_not_too_many() {
    for (steps, gas) in [(10, 1 << 20), (100, 1 << 20), (5_000, 1 << 22), (3_000, 3 << 23), (40, 7 << 24), (2_000_000, 1 << 20)] {
        let (links, _) = run(steps, gas, None);
        let expected = steps * gas / links.interval();
        assert_eq!(links.as_slice().len() as u64, expected, "{steps} x {gas}");
        assert!(links.as_slice().len() <= LINKS_MAX);
        assert!(links.interval() == FINEST_INTERVAL || links.as_slice().len() >= LINKS_MAX / 2);
        for (number, link) in (1..).zip(links.as_slice()) {
            let moment = (number * links.interval()).div_ceil(gas);
            assert_eq!(*link, Link { gas: moment * gas, state: state(moment, false) });
        }
        assert_eq!(Links::new(links.doublings(), links.as_slice().to_vec()).as_ref(), Ok(&links));
    }
    assert_eq!(run(10, 1 << 20, None).0.head(), None);
}

#[test]
fn the_interval_follows_the_size_of_the_state() {
    let mut links = Links::default();
    assert!(!links.is_due(FINEST_INTERVAL - 1, 0));
    assert!(links.is_due(FINEST_INTERVAL, 0));
    links.record(Link { gas: FINEST_INTERVAL, state: state(1, false) });
    assert!(!links.is_due(3 * FINEST_INTERVAL, FINEST_INTERVAL / GAS_PER_STATE_BYTE * 4));
    assert_eq!((links.interval(), links.as_slice().len()), (4 * FINEST_INTERVAL, 0));
    assert!(!links.is_due(0, u64::MAX), "no interval is wide enough, and it ends");
}

#[test]
fn what_no_unit_can_have_is_no_chain() {
    let link = |gas: u64, n: u64| Link { gas, state: state(n, false) };
    let one = FINEST_INTERVAL;
    assert!(Links::new(0, vec![link(one, 1), link(2 * one, 2)]).is_ok());
    for (doublings, links) in [
        (0, vec![link(one - 1, 1)]),
        (1, vec![link(one, 1)]),
        (0, vec![link(3 * one, 1), link(2 * one, 2)]),
        (0, vec![link(2 * one, 1), link(2 * one, 2)]),
        (37, Vec::new()),
        (255, vec![link(u64::MAX, 1)]),
        (0, vec![link(u64::MAX, 1); LINKS_MAX + 1]),
    ] {
        assert_eq!(Links::new(doublings, links), Err(NoChain));
    }
}

/// A liar departs anywhere: the segment begins at the last state from before that and contains the departure, and bisecting looks at
/// no more heads than it should.
#[test]
fn the_first_difference_is_found_wherever_a_liar_departs() {
    const STEPS: u64 = 300;
    for gas in [1 << 23, 1 << 24, 5 << 23, 1 << 27] {
        let honest = run(STEPS, gas, None);
        for from in 0..=STEPS {
            let liar = run(STEPS, gas, Some(from));
            for (left, right, liar_at) in [(&honest, &liar, 1), (&liar, &honest, 0)] {
                let segment = Segment::first_difference((&left.0, left.1), (&right.0, right.1)).unwrap();
                let began = segment.from.map_or(0, |link| link.gas / gas);
                assert!(began < from.max(1), "agreed on a moment after the departure");
                assert!(segment.until <= began * gas + honest.0.interval() + gas, "a short segment");
                // What an honest machine finds there.
                let moment = segment.until.div_ceil(gas);
                let found =
                    if moment > STEPS { End::of(honest.1) } else { End::Link(Link { gas: moment * gas, state: state(moment, false) }) };
                assert_eq!(segment.claims[1 - liar_at], found);
                assert_ne!(segment.claims[liar_at], found);
            }
        }
        assert_eq!(Segment::first_difference((&honest.0, honest.1), (&honest.0, honest.1)), None);
    }
}

#[test]
fn bisecting_halves() {
    let heads: Vec<Digest> = (0..1000).map(|n| state(n, false)).collect();
    for differs_from in 0..=1000usize {
        let other: Vec<Digest> = (0..1000).map(|n| state(n, n as usize >= differs_from)).collect();
        assert_eq!(bisect(&heads, &other), differs_from);
        assert_eq!(bisect(&heads, &other[..differs_from]), differs_from);
        assert_eq!(bisect(&heads[..differs_from / 2], &other), differs_from / 2);
    }
}

#[test]
fn chains_of_different_fineness_are_compared_where_both_have_links() {
    let honest = run(3000, 1 << 24, None);
    // Claims to have stopped sooner, so that its chain is finer.
    let short = run(700, 1 << 24, Some(600));
    assert!(short.0.doublings() < honest.0.doublings());
    let segment = Segment::first_difference((&honest.0, honest.1), (&short.0, short.1)).unwrap();
    assert_eq!(segment.from, Some(Link { gas: 596 << 24, state: state(596, false) }));
    assert_eq!(segment.until, 600 << 24);
    let [End::Link(left), End::Link(right)] = segment.claims else { panic!("both go on") };
    assert_eq!((left.gas, right.gas), (600 << 24, 600 << 24));
    // One that agrees as far as it goes.
    let cut = run(700, 1 << 24, None);
    let segment = Segment::first_difference((&honest.0, honest.1), (&cut.0, cut.1)).unwrap();
    assert_eq!(segment.from.map(|link| link.gas), Some(700 << 24));
    assert!(matches!(segment.claims, [End::Link(_), End::Value(_)]));
    // One that claims another fineness and nothing else: no segment can tell.
    let coarse = honest.0.coarsened(honest.0.doublings() + 1);
    let other = Value { chain: coarse.head(), ..honest.1 };
    assert_eq!(Segment::first_difference((&honest.0, honest.1), (&coarse, other)), None);
}

#[test]
fn links_that_were_not_vouched_for_are_known() {
    let (links, value) = run(100, 1 << 24, None);
    let (other, _) = run(100, 1 << 24, Some(50));
    assert!(links.belong_to(&value) && !other.belong_to(&value));
    assert!(!links.belong_to(&Value { chain: None, ..value }) && !Links::default().belong_to(&Value { chain: None, ..value }));
    assert!(!links.belong_to(&Value { gas: 1, ..value }));
    let fewer = Links::new(links.doublings(), links.as_slice()[..50].to_vec()).unwrap();
    assert!(!fewer.belong_to(&value));
    let coarser = links.coarsened(1);
    assert_ne!(coarser.head(), links.head());
}
