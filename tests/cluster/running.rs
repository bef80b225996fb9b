//! A cluster started by `howdah dev` from the built binary, in a scratch directory with ports of its
//! own; ended, with everything it started, when the value is dropped. Called by every cluster test.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use howdah::{
    host::clock::Clock,
    model::status::{GroupStatus, MemberStatus, Status},
};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{ledger::Target, processes};

/// The binary under test.
pub const HOWDAH: &str = env!("CARGO_BIN_EXE_howdah");

/// Ports of scratch clusters: blocks of this size, the first free one is taken.
const BLOCK: u16 = 200;

/// Where the blocks begin and end.
const PORTS: (u16, u16) = (26_000, 27_000);

/// For a cluster to become ready or healthy, on a machine that does other things as well.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(50);

/// One cluster at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A running cluster.
pub struct Cluster {
    dev: Child,
    scratch: TempDir,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
    base: u16,
    flags: Vec<String>,
    // Released last.
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts one and waits until it is ready.
    pub fn start(flags: &[&str]) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = scratch();
        let base = free_block();
        let flags = flags.iter().map(ToString::to_string).collect();
        let (dev, lines) = spawn(&scratch, base, &flags);
        let mut cluster = Self { dev, scratch, lines, seen: Vec::new(), base, flags, _turn: turn };
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
        let (dev, lines) = spawn(&self.scratch, self.base, &self.flags);
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

    /// For tokio-postgres and libpq: router `index` first, the other after it.
    pub fn dsn(&self, index: u16) -> String {
        let (first, second) = (self.sql_port(index % 2), self.sql_port((index + 1) % 2));
        format!(
            "host=127.0.0.1,127.0.0.1 port={first},{second} user=howdah password=howdah dbname=howdah connect_timeout=5"
        )
    }

    /// Where applications connect.
    pub fn target(&self) -> Target {
        Target { dsns: [self.dsn(0), self.dsn(1)] }
    }

    /// Addresses of the coordinators.
    pub fn coordinators(&self) -> String {
        (0..3).map(|n| format!("http://127.0.0.1:{}", self.base + n)).collect::<Vec<_>>().join(",")
    }

    /// Runs an admin command.
    pub fn admin(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(HOWDAH);
        command.args(arguments).args(["--coordinator", &self.coordinators()]);
        command.output().expect("the binary runs")
    }

    /// `howdah status --output json`; `None` while nobody leads.
    pub fn try_status(&self) -> Option<Status> {
        let output = self.admin(&["status", "--output", "json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("status is documented JSON"))
    }

    /// The same, waiting for a leader.
    pub fn status(&self) -> Status {
        let mut status = None;
        let answered = eventually(PATIENCE, || {
            status = self.try_status();
            status.is_some()
        });
        assert!(answered, "no status\n{}", self.report());
        status.expect("it answered")
    }

    /// Waits until a picture of the cluster is as wanted.
    pub fn wait_for(&self, what: &str, mut wanted: impl FnMut(&Status) -> bool) -> Status {
        let mut last = None;
        let reached = eventually(PATIENCE, || {
            last = self.try_status();
            last.as_ref().is_some_and(&mut wanted)
        });
        assert!(reached, "not reached: {what}\nlast: {last:#?}\n{}", self.report());
        last.expect("it was reached")
    }

    /// Waits until every part is healthy again.
    pub fn wait_until_healthy(&self) -> Status {
        self.wait_for("every part is healthy", |status| {
            status.coordinators.iter().all(|it| it.healthy)
                && status.routers.iter().filter(|it| it.healthy).count() >= 2
                && status
                    .groups
                    .iter()
                    .all(|group| group.phase == "serving" && group.members.iter().all(|it| it.healthy))
        })
    }

    /// The scratch directory's cluster.
    pub fn directory(&self) -> PathBuf {
        self.scratch.path().join("cluster")
    }

    /// What `howdah dev` said, and the end of every log.
    pub fn report(&self) -> String {
        let mut text = format!("howdah dev said:\n{}\n", self.seen.join("\n"));
        for entry in fs::read_dir(self.directory().join("log")).into_iter().flatten().flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(25)..].join("\n");
            write!(text, "--- {}\n{tail}\n", entry.path().display()).expect("writing to a string cannot fail");
        }
        text
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

/// A group of the status.
pub fn group<'a>(status: &'a Status, id: &str) -> &'a GroupStatus {
    status.groups.iter().find(|group| group.id == id).expect("the group exists")
}

/// A group's primary.
pub fn primary<'a>(status: &'a Status, id: &str) -> &'a MemberStatus {
    let group = group(status, id);
    let name = group.primary.as_deref().expect("the group has a primary");
    group.members.iter().find(|member| member.id == name).expect("the primary is a member")
}

/// Postmasters that a killed agent left behind.
fn postmasters(directory: &std::path::Path) -> Vec<u32> {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = files.map(|entry| entry.path().join("postgres/postmaster.pid"));
    files.filter_map(|file| fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()).collect()
}

/// A scratch directory that other users can reach: PostgreSQL may run as one.
pub fn scratch() -> TempDir {
    let scratch = tempfile::Builder::new().prefix("howdah-test-").tempdir().expect("a scratch directory");
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    scratch
}

fn spawn(scratch: &TempDir, base: u16, flags: &Vec<String>) -> (Child, mpsc::Receiver<String>) {
    let mut command = Command::new(HOWDAH);
    command.arg("dev").arg("--die-with-parent").arg("--dir").arg(scratch.path().join("cluster"));
    command.args(["--base-port", &base.to_string(), "--sql-port", &(base + 32).to_string()]).args(flags);
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

/// Waits until a condition holds; false if it does not in time.
pub fn eventually(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let clock = Clock::start();
    while !holds() {
        if clock.now().duration() >= limit {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}
