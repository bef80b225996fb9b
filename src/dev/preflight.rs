//! What must be true before a cluster is started here, each with what to do where it is not: free
//! ports, and a directory that PostgreSQL's user can reach. Called by `dev`.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, geteuid, test_kill_process};

use super::{directory::Directory, layout::Layout};
use crate::host::clock::Clock;

/// User that runs PostgreSQL when we are root (the agent's default).
const POSTGRES_USER: &str = "postgres";

/// Children of a run that was killed stop by themselves; they take about as long as PostgreSQL's
/// fast shutdown does.
const LEFTOVERS: Duration = Duration::from_secs(15);

/// Between two looks at ports that are still taken.
const LOOK: Duration = Duration::from_millis(100);

/// Why a cluster cannot be started here.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// Somebody listens there.
    #[error(
        "port {port}, meant for {part}, is taken: stop the program that has it (ss -ltnp 'sport = :{port}' shows it), or \
         choose other ports for a new cluster with --base-port and --sql-port"
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// Whose it would be.
        part: String,
    },
    /// We may not listen there at all.
    #[error("cannot listen on port {port}, meant for {part}: {source}")]
    Port {
        /// The port.
        port: u16,
        /// Whose it would be.
        part: String,
        /// Why.
        source: io::Error,
    },
    /// Root, and nobody to run PostgreSQL.
    #[error(
        "PostgreSQL does not run as root and there is no user {POSTGRES_USER} to run it: add one (useradd --system \
         {POSTGRES_USER}), or run howdah as an ordinary user"
    )]
    NoUser,
    /// That user cannot get there.
    #[error(
        "--dir {directory}: PostgreSQL runs as user {POSTGRES_USER} because you are root, and {closed} is closed to that \
         user: choose a directory that all can reach, such as --dir /var/lib/howdah-dev"
    )]
    Closed {
        /// The cluster's directory.
        directory: PathBuf,
        /// The one on the way that is closed.
        closed: PathBuf,
    },
}

/// Waits until every port is free, or held by a PostgreSQL of this directory that its agent will take
/// over; gives up at once where the directory is new, else after what a killed run needs to end.
pub async fn ports(layout: &Layout, directory: &Directory) -> Result<(), PreflightError> {
    let clock = Clock::start();
    loop {
        match taken(layout, directory.path()) {
            Err(PreflightError::PortTaken { .. }) if !directory.is_new() && clock.now().duration() < LEFTOVERS => {
                tokio::time::sleep(LOOK).await;
            }
            outcome => return outcome,
        }
    }
}

fn taken(layout: &Layout, directory: &Path) -> Result<(), PreflightError> {
    let ours: Vec<u16> = layout
        .containers
        .iter()
        .filter(|it| survivor(&directory.join(&it.name).join("postgres")))
        .map(|it| it.postgres)
        .collect();
    for (port, part) in layout.ports().into_iter().filter(|(port, _)| !ours.contains(port)) {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(PreflightError::PortTaken { port, part });
            }
            Err(source) => return Err(PreflightError::Port { port, part, source }),
        }
    }
    Ok(())
}

/// A postmaster that outlived its agent (manual, "postmaster.pid": the first line is its process).
fn survivor(data: &Path) -> bool {
    let Ok(text) = fs::read_to_string(data.join("postmaster.pid")) else { return false };
    let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// PostgreSQL's user can reach the directory.
pub fn reachable(directory: &Path) -> Result<(), PreflightError> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let uid = user_id(POSTGRES_USER).ok_or(PreflightError::NoUser)?;
    let may_pass = |path: &Path| {
        fs::metadata(path).is_ok_and(|it| it.mode() & 0o001 != 0 || (it.uid() == uid && it.mode() & 0o100 != 0))
    };
    match directory.ancestors().find(|path| !may_pass(path)) {
        Some(closed) => Err(PreflightError::Closed { directory: directory.to_owned(), closed: closed.to_owned() }),
        None => Ok(()),
    }
}

fn user_id(name: &str) -> Option<u32> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}
