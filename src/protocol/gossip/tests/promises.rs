//! What was promised: when whoever promised it is asked for it, and when it is blamed.

use super::*;

/// One announcement, and never another one.
const SPENT: Rate = Rate { per_second: 0, burst: 1 };

/// Two neighbours, and quotas that are used up by the first announcement where they are [`SPENT`].
fn two_neighbours(quotas: Quotas) -> Bench {
    let mut bench = Bench::with(Config { quotas, ..Config::default() });
    (1..=2).for_each(|number| bench.inbound(number));
    let first = envelope(9, "first");
    assert!(bench.receive(1, data(&first)).contains(&Action::Deliver(first)));
    bench
}

/// How many announcements a neighbour was asked for.
fn asked(out: &[Action], number: u8) -> usize {
    let ids = sent_to(out, number).into_iter().map(|message| match message {
        Message::Graft { ids } | Message::Want { ids } => ids.len(),
        _ => 0,
    });
    ids.sum()
}

fn broken(out: &[Action], number: u8) -> usize {
    out.iter().filter(|action| **action == reject(number, Rejection::BrokenPromise)).count()
}

#[test]
fn who_delivers_what_a_quota_refuses_breaks_no_promise_and_who_delivers_nothing_does() {
    let author = (Quotas { author: SPENT, ..Quotas::default() }, Rejection::AuthorQuota);
    let intake = (Quotas { intake: SPENT, ..Quotas::default() }, Rejection::IntakeQuota);
    for (quotas, reason) in [author, intake] {
        let mut bench = two_neighbours(quotas);
        let flood: Vec<Envelope> = (0..30).map(|number| envelope(9, &number.to_string())).collect();
        bench.receive(1, Message::IHave { ids: flood.iter().map(Envelope::id).collect() });
        bench.receive(2, Message::IHave { ids: (0..30).map(|number| MessageId([number; 16])).collect() });
        let out = bench.run_for(Duration::from_millis(500));
        assert_eq!((asked(&out, 1), asked(&out, 2)), (30, 30), "{out:?}");
        for promised in &flood {
            assert_eq!(bench.receive(1, data(promised)), [reject(1, reason)]);
        }
        assert_eq!(bench.receive(2, data(&envelope(9, "another"))), [reject(2, reason)], "this is not what it promised");
        assert_eq!(bench.gossip.sizes().missing, 30);
        let out = bench.run_for(Duration::from_secs(1));
        assert_eq!(broken(&out, 1), 0, "{out:?}");
        assert!(broken(&out, 2) >= 30, "{out:?}");
        assert!(bench.is_neighbour(1) && !bench.is_neighbour(2));
        assert_eq!(bench.gossip.sizes().missing, 0);
    }
}

#[test]
fn what_was_refused_and_is_announced_again_must_come_again() {
    let mut bench = two_neighbours(Quotas { author: SPENT, ..Quotas::default() });
    let refused = envelope(9, "refused");
    for round in 0..3 {
        bench.receive(1, Message::IHave { ids: vec![refused.id()] });
        let out = bench.run_for(Duration::from_millis(500));
        assert_eq!((asked(&out, 1), broken(&out, 1)), (1, 0), "round {round}: {out:?}");
        if round < 2 {
            assert_eq!(bench.receive(1, data(&refused)), [reject(1, Rejection::AuthorQuota)]);
            assert_eq!(bench.gossip.sizes().missing, 0);
        }
    }
    assert_eq!(broken(&bench.run_for(Duration::from_millis(250)), 1), 1, "the last time it did not");
}

#[test]
fn an_expired_copy_settles_the_promise_of_its_sender_alone() {
    let mut bench = two_neighbours(Quotas::default());
    let news = envelope(9, "news");
    let expired = news.aged(Duration::ZERO);
    (1..=2).for_each(|number| drop(bench.receive(number, Message::IHave { ids: vec![news.id()] })));
    let out = bench.run_for(Duration::from_millis(500));
    assert_eq!((asked(&out, 1), asked(&out, 2)), (1, 0), "{out:?}");
    assert_eq!(bench.receive(1, data(&expired)), [reject(1, Rejection::Expired)]);
    let out = bench.run_for(Duration::from_millis(250));
    assert_eq!((broken(&out, 1), asked(&out, 1), asked(&out, 2)), (0, 0, 1), "{out:?}");
    assert_eq!(bench.receive(2, data(&expired)), [reject(2, Rejection::Expired)]);
    assert_eq!(bench.gossip.sizes().missing, 0, "nobody is left to ask");
    let out = bench.run_for(Duration::from_secs(1));
    assert_eq!((broken(&out, 1), broken(&out, 2)), (0, 0), "{out:?}");
}
