//! A cluster started by `howdah dev` from the built binary, in a scratch directory with ports of its
//! own; ended, with everything it started, when the value is dropped. Called by every cluster test.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    ops::Deref,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

use howdah::{host::clock::Clock, model::status::MemberStatus};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    processes,
    site::{LOOK, Site},
};

pub use super::site::{HOWDAH, PATIENCE, eventually, group, primary};

/// Ports of scratch clusters: blocks of this size, the first free one is taken.
const BLOCK: u16 = 200;

/// Where the blocks begin and end.
const PORTS: (u16, u16) = (26_000, 27_000);

/// One cluster at a time.
pub static TURN: Mutex<()> = Mutex::new(());

/// A running cluster.
pub struct Cluster {
    site: Site,
    dev: Child,
    scratch: TempDir,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
    base: u16,
    flags: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
    // Released last.
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts one and waits until it is ready.
    pub fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, &[])
    }

    /// The same, with settings that its parts take from the environment.
    pub fn start_with(flags: &[&str], environment: &[(&'static str, &'static str)]) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = scratch();
        let base = free_block();
        let flags = flags.iter().map(ToString::to_string).collect();
        let environment = environment.to_vec();
        let (dev, lines) = spawn(&scratch, base, &flags, &environment);
        let site = site(base, scratch.path().join("cluster/log"));
        let mut cluster = Self { site, dev, scratch, lines, seen: Vec::new(), base, flags, environment, _turn: turn };
        cluster.wait_until_ready();
        cluster
    }

    /// Ctrl-C, and waits for its end; gives the exit status.
    pub fn stop(&mut self) -> Option<i32> {
        processes::send(self.dev.id(), Signal::INT);
        let gone = eventually(PATIENCE, || !processes::is_alive(self.dev.id()));
        assert!(gone, "howdah dev does not stop\n{}", self.report());
        self.dev.wait().expect("it has ended").code()
    }

    /// Starts it again on the same directory and waits until it is ready.
    pub fn start_again(&mut self) {
        let (dev, lines) = spawn(&self.scratch, self.base, &self.flags, &self.environment);
        (self.dev, self.lines) = (dev, lines);
        self.seen.clear();
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        let clock = Clock::start();
        while clock.now().duration() < PATIENCE {
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => self.seen.push(line),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            if self.seen.last().is_some_and(|line| line == "ready") {
                return;
            }
        }
        panic!("the cluster did not become ready\n{}", self.report());
    }

    /// Port of SQL through router `index`, from 0.
    pub fn sql_port(&self, index: u16) -> u16 {
        self.base + 32 + 2 * index
    }

    /// The scratch directory's cluster.
    pub fn directory(&self) -> PathBuf {
        self.scratch.path().join("cluster")
    }

    /// What `howdah dev` said, and the end of every log.
    pub fn report(&self) -> String {
        format!("howdah dev said:\n{}\n{}", self.seen.join("\n"), self.site.report())
    }
}

/// A cluster of this machine is reached like any other.
impl Deref for Cluster {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.report());
        }
        // Whatever was frozen must be able to hear the end.
        processes::send_all(&processes::tree(self.dev.id()), Signal::CONT);
        processes::send(self.dev.id(), Signal::TERM);
        if !eventually(PATIENCE, || !processes::is_alive(self.dev.id())) {
            processes::send_all(&processes::tree(self.dev.id()), Signal::KILL);
        }
        let _ = self.dev.wait();
        for pid in postmasters(&self.directory()) {
            processes::send_all(&processes::tree(pid), Signal::KILL);
        }
    }
}

/// A container of this machine: its agent and everything below it; a PostgreSQL that an agent took over is
/// not below it.
pub fn container(member: &MemberStatus) -> Vec<u32> {
    let mut pids = processes::tree(member.pid.expect("an agent of this machine"));
    pids.extend(member.postmaster_pid.into_iter().flat_map(processes::tree));
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Postmasters that a killed agent left behind.
fn postmasters(directory: &std::path::Path) -> Vec<u32> {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = files.map(|entry| entry.path().join("postgres/postmaster.pid"));
    files.filter_map(|file| fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()).collect()
}

/// A scratch directory that other users can reach: PostgreSQL may run as one.
pub fn scratch() -> TempDir {
    scratch_called("howdah-test-")
}

/// The same, with a name that begins so.
pub fn scratch_called(prefix: &str) -> TempDir {
    let scratch = tempfile::Builder::new().prefix(prefix).tempdir().expect("a scratch directory");
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    scratch
}

/// Where `howdah dev` puts what: two query nodes, as every test has them.
fn site(base: u16, logs: PathBuf) -> Site {
    Site {
        coordinators: (0..3).map(|n| format!("http://127.0.0.1:{}", base + n)).collect::<Vec<_>>().join(","),
        routers: (0..2).map(|n| ("127.0.0.1".to_owned(), base + 32 + 2 * n)).collect(),
        logs: Some(logs),
    }
}

fn spawn(
    scratch: &TempDir,
    base: u16,
    flags: &Vec<String>,
    environment: &[(&'static str, &'static str)],
) -> (Child, mpsc::Receiver<String>) {
    let mut command = Command::new(HOWDAH);
    command.arg("dev").arg("--die-with-parent").arg("--dir").arg(scratch.path().join("cluster"));
    command.args(["--base-port", &base.to_string(), "--sql-port", &(base + 32).to_string()]).args(flags);
    command.envs(environment.iter().copied());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let (send, lines) = mpsc::channel();
    let outputs: [Box<dyn std::io::Read + Send>; 2] =
        [Box::new(child.stdout.take().expect("it is piped")), Box::new(child.stderr.take().expect("it is piped"))];
    for output in outputs {
        let send = send.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Nobody listens once the cluster is dropped; the pipe must be emptied all the same.
                let _ = send.send(line);
            }
        });
    }
    (child, lines)
}

/// The first block of ports of which none is taken.
pub fn free_block() -> u16 {
    let mut base = PORTS.0;
    while base + BLOCK <= PORTS.1 {
        if (base..base + 130).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return base;
        }
        base += BLOCK;
    }
    panic!("no free block of ports between {} and {}", PORTS.0, PORTS.1);
}
