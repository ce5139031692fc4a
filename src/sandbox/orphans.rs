//! Slot processes whose node was killed. They end by themselves; this sees to it that none is left when the next node starts.

/// Kills slot processes of the node that had this process number and is gone; how many there were.
///
/// One whose parent still is the process that it names belongs to another node by now, and is left alone.
#[cfg(target_os = "linux")]
pub fn end_orphans(node: u32) -> usize {
    use super::slot::SLOT_ARGUMENT;
    use rustix::process::{Pid, Signal, kill_process};
    use std::fs;

    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_orphan = |process: &u32| {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let is_slot = words.get(1) == Some(&SLOT_ARGUMENT.as_bytes()) && words.get(4) == Some(&node.to_string().as_bytes());
        is_slot && parent(*process).is_some_and(|parent| parent != node)
    };
    let orphans = numbers.filter(is_orphan).filter_map(|process| Pid::from_raw(process.try_into().ok()?));
    orphans.filter(|orphan| kill_process(*orphan, Signal::KILL).is_ok()).count()
}

/// Elsewhere a slot ends when its socket closes, which is all that can be done.
#[cfg(not(target_os = "linux"))]
pub fn end_orphans(_: u32) -> usize {
    0
}

#[cfg(target_os = "linux")]
fn parent(process: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
