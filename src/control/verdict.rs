//! What a sample says about the rest, in words that a node and the command line share.

/// How many results can be wrong at most when `agreeing` random ones are right: 3/n, with 95 % certainty. Rounded up, so that it stays
/// a bound; in whole percent from ten on, else in hundredths.
pub fn bound(agreeing: u32) -> String {
    let at_most = |steps: u64| (300 * steps).div_ceil(u64::from(agreeing.max(1)));
    let percent = match agreeing {
        0..=3 => return "more have to be run to say how many of the others can be wrong".to_owned(),
        4..=30 => at_most(1).to_string(),
        _ => format!("{}.{:02}", at_most(100) / 100, at_most(100) % 100),
    };
    format!("with 95 % certainty at most {percent} % of the verified results are wrong")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_falls_with_the_sample() {
        assert!(bound(0).starts_with("more") && bound(3).starts_with("more"));
        assert!(bound(4).contains("at most 75 %"));
        assert!(bound(10).contains("at most 30 %"));
        assert!(bound(1000).contains("at most 0.30 %"));
    }

    #[test]
    fn the_bound_is_rounded_up_and_never_nothing() {
        assert!(bound(29).contains("at most 11 %"), "10.34");
        assert!(bound(31).contains("at most 9.68 %"), "9.677");
        assert!(bound(999).contains("at most 0.31 %"), "0.3003");
        for many in [61_000, u32::MAX] {
            assert!(bound(many).contains("at most 0.01 %"), "{}", bound(many));
        }
    }
}
