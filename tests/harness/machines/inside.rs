//! The way into namespaces of our own: the program starts itself again in them, and does there what it was
//! about to do. Called by `machines`' users, first.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::PoisonError,
};

use rustix::process::geteuid;

use crate::harness::{
    processes,
    running::{TURN, scratch_called},
};

/// Set inside: the scratch directory.
const INSIDE: &str = "HOWDAH_MACHINES";

/// Scratch directories are called this, then the process that made them.
const PREFIX: &str = "howdah-machines-";

/// What it takes.
const TOOLS: [&str; 7] = ["unshare", "setpriv", "nsenter", "ip", "iptables-restore", "tc", "mount"];

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// We are inside; here is an empty directory.
    Inside(PathBuf),
    /// It was done, in a process of its own, and this says whether it ended well.
    Done(bool),
    /// It cannot be done here, for this reason.
    Impossible(String),
}

/// Runs this program again with `arguments` in namespaces of its own, unless we are in them already. Whatever
/// ends this process ends that one, and with it everything it started.
pub fn inside(arguments: impl IntoIterator<Item = OsString>) -> Outcome {
    if let Some(scratch) = env::var_os(INSIDE) {
        return Outcome::Inside(scratch.into());
    }
    if !geteuid().is_root() {
        return Outcome::Impossible("namespaces for machines need root".to_owned());
    }
    if let Some(missing) = TOOLS.iter().find(|tool| !is_there(tool)) {
        return Outcome::Impossible(format!("{missing} is not installed"));
    }
    remove_leftovers();
    let directory = scratch_called(&format!("{PREFIX}{}-", std::process::id()));
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL"]);
    command.arg("--mount-proc").arg(env::current_exe().expect("this program has a file")).args(arguments);
    let status = command.env(INSIDE, directory.path()).stdin(Stdio::null()).status().expect("setpriv runs");
    Outcome::Done(status.success())
}

/// Directories of runs that were killed: everything else of theirs ended with them.
fn remove_leftovers() {
    for entry in fs::read_dir(env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok());
        if owner.is_some_and(|owner| !processes::is_alive(owner)) {
            // Another run may be doing the same.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Does what a test does on machines: `name` is the test's own, `body` gets an empty directory.
pub fn test(name: &str, body: impl FnOnce(&Path)) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match inside([name, "--exact", "--nocapture", "--include-ignored"].map(OsString::from)) {
        Outcome::Inside(scratch) => body(&scratch),
        Outcome::Done(well) => assert!(well, "{name} failed: see above"),
        Outcome::Impossible(reason) => println!("SKIPPED: {name}: {reason}"),
    }
}

fn is_there(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| Path::new(&directory).join(tool).exists())
}
