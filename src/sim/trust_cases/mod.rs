//! The cases of `src/TRUST.md`, each with its number, by the real coordinator or whole grids, from fixed seeds.
//!
//! Those about single rules lie beside them; the page says where each is. Those here are about populations.
//! Each runs in two sizes: a small one always, and the full size when asked for:
//! `cargo test --release --no-default-features --lib -- --ignored full_size`.

mod grids;
mod nuisances;
mod shops;

use super::{Behaviour, JobSpec, PeerSpec, Population, shop::Figures, shop::Shop};
use core::time::Duration;

/// Far longer than any job takes.
const LIMIT: Duration = Duration::from_secs(10 * 24 * 3600);
/// How long an answer takes on its way.
const DELAY: Duration = Duration::from_millis(50);

/// How large a case is.
#[derive(Clone, Copy)]
struct Size {
    peers: u32,
    /// Units of one job.
    units: u32,
}

/// What always runs.
const SMALL: Size = Size { peers: 60, units: 1500 };
/// As in `src/TRUST.md`.
const FULL: Size = Size { peers: 1000, units: 50_000 };

impl Size {
    /// A job of units that take five seconds each on a machine of the typical speed.
    fn job(self) -> JobSpec {
        JobSpec { gas: 5 * JobSpec::default().gas, ..JobSpec::of_units(self.units) }
    }
}

/// A shop with an owner of two slots and peers of different speeds, of whom such a share behaves so.
fn shop(seed: u64, peers: u32, share: f64, behaviour: Behaviour) -> Shop {
    let population = Population { peers, slots: 1, ..Population::default() };
    let mut shop = Shop::new(seed, 2, DELAY);
    let attackers = (f64::from(peers) * share).round() as usize;
    for (number, peer) in population.draw(seed).peers.into_iter().enumerate() {
        // Speeds are drawn, so those who come first are like the others.
        shop.join(if number < attackers { PeerSpec { behaviour, ..peer } } else { peer });
    }
    shop
}

fn finish(shop: &mut Shop, job: JobSpec) -> Figures {
    let done = shop.finish(job, LIMIT);
    let figures = done.unwrap_or_else(|failure| panic!("{failure}"));
    println!("r {:.3}, {figures:?}", figures.ratio());
    figures
}

/// Lets jobs that were opened again end too.
fn settle(shop: &mut Shop) {
    shop.run_until(LIMIT, Shop::all_ended).unwrap_or_else(|failure| panic!("{failure}"));
    println!("executions {}, shown wrong {}, liars {}", shop.tally.executions, shop.tally.wrong_shown, shop.liars());
}

/// Nothing wrong is shown, whoever lied is caught, and nobody else.
fn assert_clean(shop: &Shop) {
    assert_eq!(shop.tally.wrong, 0, "settled wrong");
    assert!(shop.liars_at_large().is_empty(), "liars at large");
    assert!(shop.wronged().is_empty(), "convicted without having lied");
}
