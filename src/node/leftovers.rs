//! What a node that was killed left behind in its directory and in the system, put away by the next one. Nothing of it is needed:
//! what matters is durable in the store, which looks after its own files.

use crate::{
    sandbox::end_orphans,
    store::{Recovery, Store},
};
use std::{fs, path::Path};

/// What was put away when the node started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leftovers {
    /// Unfinished files, and blobs that nothing refers to.
    pub files: usize,
    /// Slot processes that had outlived their node.
    pub slots: usize,
}

/// Puts away what the last run left, if it was not ended in order. Only with the directory's lock held, as whoever has its store does.
pub(super) fn put_away(data_dir: &Path, store: &Store) -> Option<Leftovers> {
    let Recovery { previous, files_removed } = store.recovery()?;
    let files = files_removed + remove(data_dir, is_draft) + remove(&data_dir.join("native"), |name| name.ends_with(".tmp"));
    Some(Leftovers { files, slots: previous.map_or(0, end_orphans) })
}

/// Whether a file of this name, beside the node's own, was on its way to become one of them.
fn is_draft(name: &str) -> bool {
    let number = name.strip_prefix("control.json.");
    let is_control = number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    is_control || (name.ends_with(".tmp") && ["node.key.", "settings.json.", "invites.json."].iter().any(|file| name.starts_with(file)))
}

fn remove(folder: &Path, is_left: impl Fn(&str) -> bool) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let left = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&is_left));
    // One that cannot be removed does no harm, and is tried again after the next crash.
    left.filter(|entry| fs::remove_file(entry.path()).is_ok()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_drafts_are_put_away_and_only_after_a_crash() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        drop(Store::open(directory.path()).unwrap());
        fs::create_dir(at("native")).unwrap();
        let drafts = ["control.json.4711", "settings.json.00ff.tmp", "node.key.12.tmp", "native/1-2.tmp"];
        let others = ["control.json", "settings.json", "node.key", "results.tmp", "control.json.old", "native/abc.native"];
        drafts.iter().chain(&others).for_each(|name| fs::write(at(name), "x").unwrap());
        assert_eq!(put_away(directory.path(), &Store::open(directory.path()).unwrap()), None);
        fs::write(at("lock"), "1\n").unwrap();
        fs::write(at("tmp/7"), "half a blob").unwrap();
        let left = put_away(directory.path(), &Store::open(directory.path()).unwrap());
        assert_eq!(left, Some(Leftovers { files: 5, slots: 0 }));
        assert!(drafts.iter().all(|name| !at(name).exists()) && others.iter().all(|name| at(name).exists()));
    }
}
