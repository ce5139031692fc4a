//! How people name a job: its full id, a unique prefix of it, or `@last`; and the shortest prefix to show them.

use super::{backend::Reply, error::ControlError, error::Kind, error::clip};
use crate::protocol::ids::JobId;

/// The fewest digits of a prefix that is accepted.
pub const PREFIX_DIGITS_MIN: usize = 4;
/// The fewest digits that are shown: with a thousand jobs, another job rarely makes a shown prefix ambiguous later.
pub const SHOWN_DIGITS_MIN: usize = 5;

/// Finds the job that `reference` names among `ids`, the oldest first.
///
/// # Errors
/// No job, or more than one, has that prefix; or it is too short or not hexadecimal.
pub fn resolve(reference: &str, ids: impl IntoIterator<Item = JobId>) -> Reply<JobId> {
    if reference == "@last" {
        return ids.into_iter().last().ok_or_else(|| {
            let error = ControlError::new(Kind::NotFound, "NOT_FOUND_JOB", "there is no job yet");
            error.hint("manyhands submit app.wasm")
        });
    }
    let prefix = reference.to_ascii_lowercase();
    let hexadecimal = prefix.bytes().all(|b| b.is_ascii_hexdigit());
    if !hexadecimal || prefix.len() < PREFIX_DIGITS_MIN || prefix.len() > 64 {
        let error = ControlError::new(Kind::NotFound, "NOT_FOUND_JOB", format!("no job `{}`", clip(reference)));
        let cause = format!("a job is named by {PREFIX_DIGITS_MIN} or more hexadecimal digits of its id, or by @last");
        return Err(error.cause(cause).hint("manyhands jobs"));
    }
    let mut matching = ids.into_iter().filter(|id| id.to_string().starts_with(&prefix));
    let Some(found) = matching.next() else { return Err(ControlError::no_such_job(reference)) };
    let others: Vec<JobId> = matching.take(3).collect();
    if others.is_empty() {
        return Ok(found);
    }
    let names: Vec<String> = std::iter::once(found).chain(others).map(|id| id.to_string()[..16].to_owned()).collect();
    let error = ControlError::new(Kind::Usage, "AMBIGUOUS_JOB", format!("more than one job begins with `{prefix}`"));
    Err(error.cause(names.join(", ")).hint("give more digits"))
}

/// The shortest prefix of `id` that no other of `ids` has, at least [`SHOWN_DIGITS_MIN`] digits.
pub fn short_id(id: JobId, ids: impl IntoIterator<Item = JobId>) -> String {
    let text = id.to_string();
    let shared = ids.into_iter().filter(|other| *other != id).map(|other| common_digits(&text, &other.to_string())).max();
    let digits = shared.map_or(SHOWN_DIGITS_MIN, |n| SHOWN_DIGITS_MIN.max(n + 1));
    text[..digits.min(text.len())].to_owned()
}

fn common_digits(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(start: &str) -> JobId {
        format!("{start:0<64}").parse().expect("hexadecimal")
    }

    #[test]
    fn a_unique_prefix_names_a_job_and_last_the_newest() {
        let ids = [id("abcd1"), id("abcd2"), id("f00d")];
        assert_eq!(resolve("abcd2", ids), Ok(id("abcd2")));
        assert_eq!(resolve("ABCD1", ids), Ok(id("abcd1")));
        assert_eq!(resolve(&id("f00d").to_string(), ids), Ok(id("f00d")));
        assert_eq!(resolve("@last", ids), Ok(id("f00d")));
    }

    #[test]
    fn a_wrong_reference_says_why() {
        let ids = [id("abcd1"), id("abcd2")];
        let reason = |reference: &str| resolve(reference, ids).map_err(|error| error.reason.into_owned());
        assert_eq!(reason("abcd"), Err("AMBIGUOUS_JOB".into()));
        assert_eq!(reason("dead"), Err("NOT_FOUND_JOB".into()));
        assert_eq!(reason("abc"), Err("NOT_FOUND_JOB".into()));
        assert_eq!(reason("../etc/passwd"), Err("NOT_FOUND_JOB".into()));
        assert_eq!(resolve("@last", []).map_err(|error| error.kind), Err(Kind::NotFound));
    }

    #[test]
    fn the_shown_prefix_is_unique_and_no_shorter_than_five() {
        assert_eq!(short_id(id("abcd1"), [id("abcd1"), id("f00d")]), "abcd1");
        assert_eq!(short_id(id("abcd11"), [id("abcd12")]), "abcd11");
        assert_eq!(short_id(id("ab"), []), "ab000");
    }
}
