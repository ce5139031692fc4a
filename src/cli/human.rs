//! What people read: tables, durations, sizes, a job in a line. Text from other peers is made harmless first.

use super::view::state_word;
use crate::{
    control::error::grouped,
    wire::control::{Job, JobState, Reason},
};

/// Text that another peer may have chosen, without control characters (which could move the cursor or forge lines) and
/// without the marks that turn the direction of writing.
pub fn shown(text: &str) -> String {
    let forged = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    text.chars().map(|c| if forged(c) { '?' } else { c }).collect()
}

/// Lines of columns, each as wide as its widest cell; the last one is not padded.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let widths: Vec<usize> =
        (0..header.len()).map(|column| all().map(|row| row[column].chars().count()).max().unwrap_or_default()).collect();
    all()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

/// A number with its noun: `1 unit`, `10,000 units`.
pub fn count(n: impl Into<u64>, noun: &str) -> String {
    let n = n.into();
    format!("{} {noun}{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// A duration with its two largest units: `2m10s`, `3d4h`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A size in the largest unit that keeps a digit before the point.
pub fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = ((63 - bytes.leading_zeros()) / 10).min(4);
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    format!("{}.{} {}", tenths / 10, tenths % 10, units[power as usize - 1])
}

/// Work done, in the unit that people can weigh: billions are about a second of a fast core.
pub fn gas(gas: u64) -> String {
    match gas {
        0..=999_999 => grouped(gas),
        1_000_000..=999_999_999 => format!("{} M", gas / 1_000_000),
        _ => format!("{} G", grouped(gas / 1_000_000_000)),
    }
}

/// The id that people are shown: a unique prefix.
pub fn short_id(job: &Job) -> &str {
    if job.short_id.is_empty() { job.id.get(..10).unwrap_or(&job.id) } else { &job.short_id }
}

/// Whether the computer may be switched off, for a job that others are to keep.
pub fn keeping(job: &Job) -> Option<String> {
    if !job.own || job.state() != JobState::Running || job.keepers.is_empty() {
        return None;
    }
    let names = |holds: bool| {
        let names: Vec<&str> = job.keepers.iter().filter(|keeper| keeper.holds == holds).map(|keeper| keeper.nickname.as_str()).collect();
        names.join(", ")
    };
    match (names(true), names(false)) {
        (kept, _) if !kept.is_empty() => Some(format!("kept by {kept}: this computer may be switched off")),
        (_, coming) => Some(format!("being copied to {coming}: do not switch this computer off yet")),
    }
}

/// Whose word it is, of a job of somebody else.
pub fn whose_word(job: &Job) -> Option<String> {
    let author = shown(&job.owner_nickname);
    match job.kept.as_str() {
        "kept" => Some(format!("kept for {author}: a copy of what it says")),
        "adopted" => Some(format!("kept for {author}: collected by a keeper, not yet judged by its owner")),
        _ => None,
    }
}

/// Units that are decided: verified, or failed for good. The one numerator of progress.
pub fn decided(job: &Job) -> u32 {
    job.verified.saturating_add(job.failed).min(job.units)
}

/// Progress in whole per cent; 100 only when every unit is decided.
pub fn percent(job: &Job) -> u32 {
    let hundredfold = u64::from(decided(job)) * 100;
    u32::try_from(hundredfold.checked_div(u64::from(job.units)).unwrap_or(0)).expect("at most 100")
}

/// The remaining time as a range; none before it means something (30 s and 1 %).
pub fn eta(job: &Job) -> Option<String> {
    let means_something = job.elapsed_ms >= 30_000 && percent(job) >= 1 && job.eta_high_ms > 0;
    if !means_something {
        return None;
    }
    let (low, high) = (job.eta_low_ms.min(job.eta_high_ms), job.eta_high_ms);
    Some(format!("ETA {} ±{}", duration(low.midpoint(high)), duration((high - low) / 2)))
}

/// The second line of progress: where the units are.
pub fn counts(job: &Job) -> String {
    let mut parts = vec![format!("verified {}/{}", grouped(job.verified), grouped(job.units))];
    let more =
        [(job.provisional, "provisional"), (job.awaiting, "awaiting a vote"), (job.rechecking, "re-checking: a contributor was caught")];
    parts.extend(more.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{what} {}", grouped(*n))));
    parts.push(format!("disputed {}", grouped(job.disputed)));
    parts.push(format!("failed {}", grouped(job.failed)));
    parts.join(" · ")
}

/// The third line of progress: who works, how fast, at what cost.
pub fn pace(job: &Job) -> String {
    let mut parts = vec![count(job.workers, "peer")];
    if job.units_per_second > 0.0 {
        let digits = usize::from(job.units_per_second < 10.0);
        parts.push(format!("{:.digits$} units/s", job.units_per_second));
    }
    let finished = job.verified.saturating_add(job.provisional);
    if finished > 0 && job.executions > 0 {
        #[expect(clippy::cast_precision_loss, reason = "a ratio with two digits")]
        let per_unit = job.executions as f64 / f64::from(finished);
        parts.push(format!("{per_unit:.2} executions per unit"));
    }
    parts.join(" · ")
}

/// A job's state, with its reason where there is one.
pub fn state(job: &Job) -> String {
    let word = state_word(job.state());
    match &job.reason {
        Some(reason) if !reason.text.is_empty() => format!("{word}: {}", shown(&reason.text)),
        Some(_) | None => word.to_owned(),
    }
}

/// A reason with its hints, as lines.
pub fn reason_lines(reason: &Reason) -> Vec<String> {
    let hints = reason.hints.iter().map(|hint| format!("    {}", shown(hint)));
    std::iter::once(format!("• {}   ({})", shown(&reason.text), shown(&reason.code))).chain(hints).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_readable() {
        assert_eq!([59_000, 130_000, 3_700_000, 90_000_000].map(duration), ["59s", "2m10s", "1h01m", "1d1h"]);
        assert_eq!([0, 1023, 1024, 6 << 20, u64::MAX].map(size), ["0 B", "1023 B", "1.0 KiB", "6.0 MiB", "16777215.9 TiB"]);
        assert_eq!([999, 1_500_000, 12_000_000_000_000].map(gas), ["999", "1 M", "12,000 G"]);
    }

    #[test]
    fn no_eta_before_it_means_something() {
        let early = Job { units: 1000, verified: 20, elapsed_ms: 29_000, eta_low_ms: 110_000, eta_high_ms: 150_000, ..Job::default() };
        assert_eq!(eta(&early), None);
        let little = Job { verified: 9, elapsed_ms: 60_000, ..early.clone() };
        assert_eq!(eta(&little), None);
        assert_eq!(eta(&Job { elapsed_ms: 60_000, ..early }).as_deref(), Some("ETA 2m10s ±20s"));
    }

    #[test]
    fn the_denominator_is_units_decided() {
        let job = Job { units: 3, verified: 1, failed: 1, provisional: 1, ..Job::default() };
        assert_eq!((decided(&job), percent(&job)), (2, 66));
        assert_eq!(percent(&Job::default()), 0);
    }

    #[test]
    fn text_of_others_cannot_move_the_cursor() {
        assert_eq!(shown("a\x1b[2Jb\r\u{202e}c"), "a?[2Jb??c");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["bcd".to_owned(), String::new()]];
        assert_eq!(table(&["ID", "N"], &rows), ["ID   N", "a    1", "bcd"]);
    }
}
