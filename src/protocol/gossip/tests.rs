//! One machine, its neighbours played by the test: what it does, and above all what it refuses to do.

mod places;
mod promises;

use super::*;
use core::time::Duration;
use rand_chacha::rand_core::SeedableRng as _;

const ME: PeerId = PeerId([100; 32]);

/// The machine under test, a clock, and what it asked for since it was last looked at.
struct Bench {
    gossip: Gossip,
    now: Instant,
    out: Vec<Action>,
}

fn peer(number: u8) -> PeerId {
    PeerId([number; 32])
}

fn contact(number: u8) -> Contact {
    Contact::bare(peer(number))
}

fn envelope(author: u8, text: &str) -> Envelope {
    Envelope::new(peer(author), text.as_bytes(), Duration::from_secs(300)).unwrap()
}

fn data(envelope: &Envelope) -> Message {
    Message::Data { envelope: envelope.clone(), path: Path::Tree }
}

fn send(number: u8, message: Message) -> Action {
    Action::Send { to: peer(number), message }
}

fn reject(number: u8, reason: Rejection) -> Action {
    Action::Reject { from: peer(number), reason }
}

impl Bench {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let gossip = Gossip::new(Instant(0), Contact::bare(ME), config, ChaCha8Rng::seed_from_u64(1)).unwrap();
        Self { gossip, now: Instant(0), out: Vec::new() }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.gossip.handle(self.now, event, &mut self.out);
        core::mem::take(&mut self.out)
    }

    fn receive(&mut self, number: u8, message: Message) -> Vec<Action> {
        self.on(Event::Received { from: peer(number), message })
    }

    fn connect(&mut self, number: u8, prefix: Option<u64>) -> Vec<Action> {
        self.on(Event::Connected { peer: peer(number), prefix: prefix.map(Prefix) })
    }

    fn request(&mut self, number: u8, prefix: Option<u64>, urgent: bool) -> Vec<Action> {
        self.connect(number, prefix);
        self.receive(number, Message::Request { hint: Arc::from([]), urgent })
    }

    /// Makes a peer an inbound neighbour.
    fn inbound(&mut self, number: u8) {
        let out = self.request(number, None, false);
        assert!(out.contains(&Action::NeighbourUp(peer(number), Direction::Inbound)), "{out:?}");
    }

    /// Makes a peer an outbound neighbour: lets the machine learn it, dial it and be accepted.
    fn outbound(&mut self, number: u8) {
        self.on(Event::Learned(vec![contact(number)]));
        assert!(self.on(Event::Timer).contains(&Action::Connect(contact(number))));
        self.connect(number, None);
        let out = self.receive(number, Message::Accept { contacts: vec![] });
        assert!(out.contains(&Action::NeighbourUp(peer(number), Direction::Outbound)), "{out:?}");
    }

    /// Lets time pass, with a timer event at each deadline, and returns all that was asked for.
    fn run_for(&mut self, duration: Duration) -> Vec<Action> {
        let end = self.now.after(duration);
        while self.gossip.deadline() <= end {
            self.now = self.gossip.deadline().max(Instant(self.now.0 + 1));
            self.gossip.handle(self.now, Event::Timer, &mut self.out);
        }
        self.now = end;
        core::mem::take(&mut self.out)
    }

    fn is_neighbour(&self, number: u8) -> bool {
        self.gossip.neighbours().any(|(neighbour, _)| neighbour == peer(number))
    }
}

fn sent_to(out: &[Action], number: u8) -> Vec<&Message> {
    let sends = out.iter().filter_map(|action| if let Action::Send { to, message } = action { Some((to, message)) } else { None });
    sends.filter(|(to, _)| **to == peer(number)).map(|(_, message)| message).collect()
}

mod membership {
    use super::*;

    #[test]
    fn a_bootstrap_contact_is_dialled_and_asked_urgently() {
        let mut bench = Bench::new();
        bench.on(Event::Bootstrap(vec![contact(1)]));
        assert_eq!(bench.on(Event::Timer), [Action::Connect(contact(1))]);
        assert_eq!(bench.connect(1, None), [send(1, Message::Request { hint: Arc::from([]), urgent: true })]);
        let out = bench.receive(1, Message::Accept { contacts: vec![contact(2)] });
        assert_eq!(out, [Action::NeighbourUp(peer(1), Direction::Outbound)]);
        assert_eq!(bench.on(Event::Timer), [Action::Connect(contact(2))], "the view is filled from what the neighbour named");
    }

    #[test]
    fn an_isolated_peer_keeps_trying_after_a_lost_request() {
        let mut bench = Bench::new();
        bench.on(Event::Bootstrap(vec![contact(1)]));
        bench.on(Event::Timer);
        bench.connect(1, None);
        let out = bench.run_for(Duration::from_secs(10));
        assert!(out.contains(&Action::Disconnect(peer(1))), "the answer never came");
        assert!(out.contains(&Action::Connect(contact(1))), "and it is asked again: {out:?}");
    }

    #[test]
    fn a_refused_peer_walks_on_to_those_it_was_told_of() {
        let mut bench = Bench::new();
        bench.on(Event::Bootstrap(vec![contact(1)]));
        bench.on(Event::Timer);
        bench.connect(1, None);
        assert_eq!(bench.receive(1, Message::Refuse { contacts: vec![contact(2)] }), [Action::Disconnect(peer(1))]);
        assert!(bench.run_for(Duration::from_secs(5)).contains(&Action::Connect(contact(2))));
    }

    #[test]
    fn forced_joins_evict_nobody() {
        let mut bench = Bench::new();
        (1..=4).for_each(|number| bench.outbound(number));
        (11..=16).for_each(|number| bench.inbound(number));
        for number in 20..90 {
            let out = bench.request(number, None, true);
            assert!(matches!(sent_to(&out, number)[..], [Message::Refuse { .. }]), "{out:?}");
        }
        assert!((1..=4).chain(11..=16).all(|number| bench.is_neighbour(number)));
    }

    #[test]
    fn an_urgent_newcomer_displaces_one_of_a_crowded_prefix_only() {
        let mut config = Config::default();
        config.views.per_prefix = 5;
        let mut bench = Bench::with(config);
        (1..=5).for_each(|number| drop(bench.request(number, Some(1), false)));
        bench.request(6, Some(2), false);
        let out = bench.request(7, Some(2), false);
        assert!(matches!(sent_to(&out, 7)[..], [Message::Refuse { .. }]), "it is not urgent");
        let out = bench.request(8, Some(3), true);
        assert!(out.contains(&Action::NeighbourUp(peer(8), Direction::Inbound)));
        assert!(out.contains(&Action::NeighbourDown(peer(5))), "{out:?}");
    }

    #[test]
    fn a_prefix_has_at_most_its_share() {
        let mut bench = Bench::new();
        (1..=3).for_each(|number| drop(bench.request(number, Some(9), false)));
        assert!(bench.is_neighbour(2) && !bench.is_neighbour(3));
    }

    #[test]
    fn crossing_requests_make_one_link() {
        let mut bench = Bench::new();
        for (number, expected) in [(1, Some(Direction::Inbound)), (200, None)] {
            bench.on(Event::Learned(vec![contact(number)]));
            bench.on(Event::Timer);
            bench.connect(number, None);
            bench.receive(number, Message::Request { hint: Arc::from([]), urgent: false });
            let direction = bench.gossip.neighbours().find(|(neighbour, _)| *neighbour == peer(number)).map(|(_, direction)| direction);
            assert_eq!(direction, expected, "the request of the lower key counts");
        }
    }

    #[test]
    fn visitors_that_never_ask_are_sent_away() {
        let mut bench = Bench::new();
        (1..=70).for_each(|number| drop(bench.connect(number, None)));
        assert_eq!(bench.gossip.sizes().links, 64);
        bench.run_for(Duration::from_secs(4));
        assert_eq!((bench.gossip.sizes().links, bench.gossip.sizes().accounts), (0, 0));
    }

    #[test]
    fn a_lost_neighbour_is_replaced() {
        let mut bench = Bench::new();
        bench.outbound(1);
        bench.on(Event::Learned(vec![contact(2)]));
        assert_eq!(bench.on(Event::Disconnected(peer(1))), [Action::NeighbourDown(peer(1))]);
        assert!(bench.run_for(Duration::from_secs(1)).contains(&Action::Connect(contact(2))));
    }

    #[test]
    fn a_rotation_spares_the_oldest_neighbours() {
        let mut config = Config::default();
        config.views.rotate_first = Duration::from_secs(4);
        let mut bench = Bench::with(config);
        (1..=4).for_each(|number| {
            bench.outbound(number);
            bench.now = bench.now.after(Duration::from_millis(1));
        });
        bench.on(Event::Learned(vec![contact(5)]));
        let out = bench.run_for(Duration::from_secs(6));
        assert!(out.contains(&Action::Connect(contact(5))), "{out:?}");
        bench.connect(5, None);
        bench.receive(5, Message::Accept { contacts: vec![] });
        assert!([1, 2, 5].into_iter().all(|number| bench.is_neighbour(number)));
        assert_eq!(bench.gossip.neighbours().count(), 4);
    }

    #[test]
    fn a_shuffle_is_answered_and_an_unasked_reply_is_not_believed() {
        let mut bench = Bench::new();
        bench.inbound(1);
        let out = bench.receive(1, Message::Shuffle { contacts: vec![contact(2), Contact::bare(ME)] });
        assert!(matches!(sent_to(&out, 1)[..], [Message::ShuffleReply { .. }]));
        let known = bench.gossip.sizes().contacts;
        assert_eq!(bench.receive(1, Message::ShuffleReply { contacts: vec![contact(3)] }), [reject(1, Rejection::Unsolicited)]);
        assert_eq!((known, bench.gossip.sizes().contacts), (2, 2));
        let again = bench.receive(1, Message::Shuffle { contacts: vec![contact(4)] });
        assert_eq!(again, [reject(1, Rejection::Flood(Quota::Control))], "it shuffled a moment ago");
    }
}

mod broadcast {
    use super::*;

    #[test]
    fn an_announcement_is_delivered_once_and_forwarded() {
        let mut bench = Bench::new();
        (1..=2).for_each(|number| bench.inbound(number));
        let news = envelope(9, "news");
        assert_eq!(bench.receive(1, data(&news)), [Action::Deliver(news.clone()), send(2, data(&news))]);
        assert_eq!(bench.receive(2, data(&news)), [send(2, Message::Prune)]);
        assert_eq!(bench.receive(2, data(&news)), [], "one prune is enough for a while");
    }

    #[test]
    fn a_pruned_neighbour_hears_of_ids_and_may_ask_for_them() {
        let mut bench = Bench::new();
        (1..=2).for_each(|number| bench.inbound(number));
        bench.receive(2, Message::Prune);
        let news = envelope(9, "news");
        assert_eq!(bench.receive(1, data(&news)), [Action::Deliver(news.clone())]);
        assert_eq!(bench.run_for(Duration::from_millis(100)), [], "the lower key speaks first");
        assert_eq!(bench.run_for(Duration::from_millis(100)), [send(2, Message::IHave { ids: vec![news.id()] })]);
        let out = bench.receive(2, Message::Graft { ids: vec![news.id()] });
        assert!(
            matches!(&out[..], [Action::Send { message: Message::Data { envelope, path: Path::Tree }, .. }] if envelope.id() == news.id())
        );
        let later = envelope(9, "later");
        assert_eq!(bench.receive(1, data(&later)), [Action::Deliver(later.clone()), send(2, data(&later))], "the edge is eager again");
    }

    #[test]
    fn what_a_neighbour_announced_is_neither_announced_nor_sent_to_it() {
        let mut bench = Bench::new();
        (1..=3).for_each(|number| bench.inbound(number));
        bench.receive(2, Message::Prune);
        let (news, later) = (envelope(9, "news"), envelope(9, "later"));
        assert_eq!(bench.receive(1, data(&news)), [Action::Deliver(news.clone()), send(3, data(&news))]);
        bench.receive(2, Message::IHave { ids: vec![news.id()] });
        assert_eq!(bench.run_for(Duration::from_secs(1)), [], "it has it");
        bench.receive(3, Message::IHave { ids: vec![later.id()] });
        assert_eq!(bench.receive(1, data(&later)), [Action::Deliver(later.clone())], "an eager neighbour that announced it has it too");
    }

    #[test]
    fn a_gap_is_asked_for_and_then_the_tree_is_mended() {
        let mut bench = Bench::new();
        (1..=3).for_each(|number| bench.inbound(number));
        let asked = |bench: &mut Bench, text: &str| {
            bench.receive(2, Message::IHave { ids: vec![envelope(9, text).id()] });
            let early = bench.run_for(Duration::from_millis(400));
            assert_eq!(sent_to(&early, 2), Vec::<&Message>::new(), "it may still come by itself");
            let late = bench.run_for(Duration::from_millis(150));
            let asked = sent_to(&late, 2).into_iter().find(|message| !matches!(message, Message::Probe(_))).cloned();
            bench.receive(2, Message::Data { envelope: envelope(9, text), path: Path::Repair });
            asked.unwrap()
        };
        assert!(matches!(asked(&mut bench, "first"), Message::Want { .. }));
        assert!(matches!(asked(&mut bench, "second"), Message::Graft { .. }));
    }

    #[test]
    fn a_repaired_announcement_prunes_nobody() {
        let mut bench = Bench::new();
        (1..=3).for_each(|number| bench.inbound(number));
        let news = envelope(9, "news");
        let repair = Message::Data { envelope: news.clone(), path: Path::Repair };
        let out = bench.receive(2, repair.clone());
        assert_eq!(out, [Action::Deliver(news.clone()), send(1, repair.clone()), send(3, repair)]);
        assert_eq!(bench.receive(1, data(&news)), []);
    }

    #[test]
    fn broken_promises_cost_the_place() {
        let mut bench = Bench::new();
        (1..=2).for_each(|number| bench.inbound(number));
        for round in 0..3_u8 {
            let ids = (0..10).map(|number| MessageId([round * 16 + number; 16])).collect();
            bench.receive(1, Message::IHave { ids });
            bench.run_for(Duration::from_secs(3));
        }
        assert!(!bench.is_neighbour(1) && bench.is_neighbour(2));
        assert_eq!(bench.gossip.sizes().missing, 0);
        assert_eq!(bench.connect(1, None), [reject(1, Rejection::Shunned), Action::Disconnect(peer(1))]);
    }

    #[test]
    fn promises_of_one_neighbour_are_bounded() {
        let mut bench = Bench::new();
        bench.inbound(1);
        for round in 0..4_u8 {
            let ids = (0..128).map(|number| MessageId([number, round, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])).collect();
            bench.receive(1, Message::IHave { ids });
        }
        assert_eq!(bench.gossip.sizes().missing, 256);
    }

    #[test]
    fn expired_announcements_are_neither_delivered_nor_sent() {
        let mut bench = Bench::new();
        bench.inbound(1);
        let old = Envelope::new(peer(9), *b"old", Duration::ZERO).unwrap();
        assert_eq!(bench.receive(1, data(&old)), [reject(1, Rejection::Expired)]);
        let brief = Envelope::new(peer(9), *b"brief", Duration::from_secs(1)).unwrap();
        bench.receive(1, data(&brief));
        bench.now = bench.now.after(Duration::from_secs(2));
        assert_eq!(bench.receive(1, Message::Want { ids: vec![brief.id()] }), []);
    }

    #[test]
    fn our_own_announcement_goes_to_all_neighbours() {
        let mut bench = Bench::new();
        (1..=2).for_each(|number| bench.inbound(number));
        let ours = envelope(100, "ours");
        assert_eq!(bench.on(Event::Broadcast(ours.clone())), [send(1, data(&ours)), send(2, data(&ours))]);
        assert_eq!(bench.on(Event::Broadcast(ours)), []);
    }
}

mod recovery {
    use super::*;

    #[test]
    fn a_late_joiner_asks_for_what_it_lacks_and_gives_what_it_has() {
        let mut bench = Bench::new();
        let ours = envelope(100, "ours");
        bench.on(Event::Broadcast(ours.clone()));
        bench.inbound(1);
        let out = bench.run_for(Duration::from_secs(3));
        assert!(matches!(sent_to(&out, 1)[..], [Message::Probe(Summary { count: 1, .. })]));
        let theirs = envelope(9, "theirs").id();
        let window = Window { first: MessageId::MIN, last: MessageId::MAX, ids: vec![theirs] };
        let out = bench.receive(1, Message::Echo(Some(window)));
        assert!(matches!(sent_to(&out, 1)[..], [Message::Want { .. }, Message::Data { path: Path::Repair, .. }]), "{out:?}");
    }

    #[test]
    fn a_probe_is_answered_with_a_window_only_when_the_archives_differ() {
        let mut bench = Bench::new();
        bench.inbound(1);
        assert_eq!(bench.receive(1, Message::Probe(Summary::default())), [send(1, Message::Echo(None))]);
        let other = Summary { count: 1, fold: 7 };
        let out = bench.receive(1, Message::Probe(other));
        assert!(matches!(sent_to(&out, 1)[..], [Message::Echo(Some(_))]));
        assert_eq!(bench.receive(1, Message::Probe(other)), [send(1, Message::Echo(None))], "windows are long, so they are rare");
    }

    #[test]
    fn a_silent_neighbour_is_dropped_and_not_shunned() {
        let mut bench = Bench::new();
        bench.inbound(1);
        let out = bench.run_for(Duration::from_secs(30));
        assert!(out.contains(&reject(1, Rejection::Unresponsive)) && out.contains(&Action::NeighbourDown(peer(1))));
        bench.inbound(1);
    }

    #[test]
    fn neighbours_that_say_nothing_are_probed_first() {
        let mut bench = Bench::new();
        (1..=3).for_each(|number| bench.inbound(number));
        let mut probed = Vec::new();
        for second in 0..60 {
            for action in bench.run_for(Duration::from_secs(1)) {
                if let Action::Send { to, message: Message::Probe(_) } = action {
                    probed.push(to);
                    bench.receive(to.0[0], Message::Echo(None));
                }
            }
            for number in [1, 3] {
                bench.receive(number, data(&envelope(number, &second.to_string())));
            }
        }
        assert!(probed.len() >= 5 && probed.iter().filter(|to| **to == peer(2)).count() >= 2, "{probed:?}");
    }

    #[test]
    fn an_unasked_echo_moves_nothing() {
        let mut bench = Bench::new();
        bench.inbound(1);
        bench.on(Event::Broadcast(envelope(100, "ours")));
        let window = Window { first: MessageId::MIN, last: MessageId::MAX, ids: vec![MessageId([7; 16])] };
        assert_eq!(bench.receive(1, Message::Echo(Some(window))), [reject(1, Rejection::Unsolicited)]);
    }
}

mod hostility {
    use super::*;

    #[test]
    fn garbage_costs_the_place_at_once() {
        let mut bench = Bench::new();
        bench.inbound(1);
        let out = bench.receive(1, Message::Graft { ids: vec![] });
        let reason = Rejection::Garbage(Garbage::CountOfIds { count: 0 });
        assert_eq!(out, [reject(1, reason), Action::Disconnect(peer(1)), Action::NeighbourDown(peer(1))]);
        assert_eq!(bench.receive(1, Message::Prune), [reject(1, Rejection::NotConnected)]);
    }

    #[test]
    fn a_flood_costs_the_flooder_its_place_and_nobody_else() {
        let mut bench = Bench::new();
        (1..=2).for_each(|number| bench.inbound(number));
        (0..300).for_each(|_| drop(bench.receive(1, Message::Prune)));
        assert!(!bench.is_neighbour(1) && bench.is_neighbour(2));
    }

    #[test]
    fn only_neighbours_may_make_us_remember_anything() {
        let mut bench = Bench::new();
        bench.connect(1, None);
        for message in [data(&envelope(9, "news")), Message::IHave { ids: vec![MessageId::MIN] }, Message::Probe(Summary::default())] {
            assert_eq!(bench.receive(1, message), [reject(1, Rejection::NotNeighbour)]);
        }
        assert_eq!((bench.gossip.sizes().remembered, bench.gossip.sizes().missing), (0, 0));
    }

    #[test]
    fn a_flood_of_new_announcements_is_cut_and_its_relay_is_spared() {
        let mut config = Config::default();
        config.quotas.author = Rate { per_second: 1, burst: 5 };
        let mut bench = Bench::with(config);
        bench.inbound(1);
        for number in 0..20 {
            bench.receive(1, data(&envelope(9, &number.to_string())));
        }
        assert_eq!(bench.gossip.sizes().live, 5);
        assert!(bench.is_neighbour(1), "it only forwarded what another one flooded");
    }
}
