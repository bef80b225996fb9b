//! As process 1 of a container, an agent inherits processes whose parent has died, and must take note of
//! their ends. Called by `run`.

use std::{collections::BTreeSet, fs, time::Duration};

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::time::interval;

/// Zombies cost a process number each; a second is often enough.
const EVERY: Duration = Duration::from_secs(1);

/// Reaps orphans for ever. A zombie that is one of our own children is gone within milliseconds: only one
/// that was there a second ago is nobody's.
pub async fn orphans() {
    let mut every = interval(EVERY);
    let mut before = BTreeSet::new();
    loop {
        every.tick().await;
        let zombies = zombies_of(std::process::id());
        for pid in zombies.intersection(&before).filter_map(|pid| Pid::from_raw(*pid)) {
            let _reaped_already = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        before = zombies;
    }
}

fn zombies_of(parent: u32) -> BTreeSet<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(&parent.to_string())
    })
    .collect()
}
