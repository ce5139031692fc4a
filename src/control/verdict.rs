//! What a sample says about the rest, in words that a node and the command line share.

/// How many results can be wrong at most when `agreeing` random ones are right: 3/n, with 95 % certainty.
pub fn bound(agreeing: u32) -> String {
    let percent = 300.0 / f64::from(agreeing.max(1));
    if percent >= 100.0 {
        return "more have to be run to say how many of the others can be wrong".to_owned();
    }
    let digits = if percent >= 10.0 { 0 } else { 2 };
    format!("with 95 % certainty at most {percent:.digits$} % of the verified results are wrong")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_falls_with_the_sample() {
        assert!(bound(3).starts_with("more"));
        assert!(bound(10).contains("30 %"));
        assert!(bound(1000).contains("0.30 %"));
    }
}
