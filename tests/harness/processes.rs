//! Processes by id: trees, signals, ends. Called by the tests that kill and freeze.

use std::{collections::BTreeMap, fs};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A process and everything it started that still hangs below it.
pub fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        found.extend(children.get(pid).into_iter().flatten().copied().collect::<Vec<_>>());
        at += 1;
    }
    found
}

/// The fourth field of `/proc/PID/stat`, after a name that may hold anything but `) `.
fn parent_of(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Sends a signal; a process that is gone already is fine.
pub fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Gone already is what a kill wants, and a freeze cannot miss what its tree still shows.
        let _ = kill_process(pid, signal);
    }
}

/// The same to many.
pub fn send_all(pids: &[u32], signal: Signal) {
    for pid in pids {
        send(*pid, signal);
    }
}

/// Runs, and is not a zombie that waits for its parent.
pub fn is_alive(pid: u32) -> bool {
    let exists = i32::try_from(pid).ok().and_then(Pid::from_raw).is_some_and(|pid| test_kill_process(pid).is_ok());
    let zombie = || {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        text.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
    };
    exists && !zombie()
}

/// A process's number in its own, innermost PID namespace: what it calls itself.
pub fn own_number(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let numbers = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().next_back()?.parse().ok()
}
