//! Who keeps its place, who loses it to whom, and who is believed.

use super::*;

/// Twenty announcements in forty seconds, all brought by the same neighbour.
fn twenty_from(bench: &mut Bench, number: u8) {
    for count in 0..20 {
        bench.receive(number, data(&envelope(number, &format!("{count} at {:?}", bench.now))));
        bench.now = bench.now.after(Duration::from_secs(2));
    }
}

#[test]
fn an_idle_inbound_neighbour_yields_to_a_newcomer_and_a_useful_one_does_not() {
    let mut bench = Bench::new();
    (11..=16).for_each(|number| bench.inbound(number));
    bench.request(20, None, true);
    assert!(!bench.is_neighbour(20), "nobody had its fair time yet");
    twenty_from(&mut bench, 11);
    let out = bench.request(21, None, false);
    assert!(bench.is_neighbour(21) && bench.is_neighbour(11), "{out:?}");
    assert_eq!(bench.gossip.neighbours().count(), 6, "one of the idle ones went");
    bench.request(22, None, false);
    assert!(!bench.is_neighbour(22), "one newcomer at a time is on trial");
    twenty_from(&mut bench, 11);
    bench.request(23, None, false);
    assert!(bench.is_neighbour(23) && !bench.is_neighbour(21), "the youngest idle one goes");
}

#[test]
fn chosen_neighbours_that_bring_nothing_are_replaced_until_two_do() {
    let mut bench = Bench::new();
    (1..=4).for_each(|number| bench.outbound(number));
    bench.on(Event::Learned(vec![contact(5)]));
    twenty_from(&mut bench, 3);
    let out = bench.run_for(Duration::from_secs(12));
    assert!(out.contains(&Action::Connect(contact(5))), "{out:?}");
    bench.connect(5, None);
    bench.receive(5, Message::Accept { contacts: vec![] });
    assert!(bench.is_neighbour(3) && bench.is_neighbour(5));
    assert_eq!(bench.gossip.neighbours().count(), 4);
}

#[test]
fn contacts_of_neighbours_that_brought_nothing_fill_a_quarter_of_the_book() {
    let mut bench = Bench::new();
    (1..=3).for_each(|number| bench.inbound(number));
    bench.receive(3, data(&envelope(9, "news")));
    for round in 0..8_u8 {
        let contacts = (0..10).map(|offset| contact(120 + round * 10 + offset)).collect();
        bench.receive(1, Message::Shuffle { contacts });
        bench.now = bench.now.after(Duration::from_secs(10));
    }
    let known = bench.gossip.sizes().contacts;
    assert!(known <= 96 / 4 + 1, "the third, which brought something, and a quarter: {known}");
    bench.receive(2, data(&envelope(9, "more")));
    let contacts = (20..30).map(contact).collect();
    bench.receive(2, Message::Shuffle { contacts });
    assert!(bench.gossip.sizes().contacts >= known + 10, "whoever brings something is believed");
}
