//! tmp
use manyhands::sim::{shop::Shop, *};
use std::time::{Duration, Instant};
fn main() {
    let a: Vec<usize> = std::env::args().skip(1).map(|x| x.parse().unwrap()).collect();
    let mut shop = Shop::new(1, 4, Duration::from_millis(50));
    let t = Instant::now();
    for _ in 0..a[0] { shop.join(PeerSpec::default()); }
    eprintln!("boot {:?}", t.elapsed());
    for _ in 0..a[2] {
        let t = Instant::now();
        let f = shop.finish(JobSpec { gas: 20_000_000_000, ..JobSpec::of_units(a[1] as u32) }, Duration::from_secs(360000));
        match f { Ok(f) => eprintln!("{:?} {} {} {f:?}", t.elapsed(), f.ratio(), f.slowness()), Err(e) => eprintln!("{e}") }
    }
}
