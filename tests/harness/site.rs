//! A cluster as people and applications reach it, whoever runs it: the addresses of its coordinators and
//! routers, its status, its logs. Held by everything that runs one.

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::{Command, Output},
    thread,
    time::Duration,
};

use howdah::{
    host::clock::Clock,
    model::status::{GroupStatus, MemberStatus, Status},
};

use super::ledger::Target;

/// The binary under test.
pub const HOWDAH: &str = env!("CARGO_BIN_EXE_howdah");

/// For a cluster to become ready or healthy, on a machine that does other things as well.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks at a condition.
pub const LOOK: Duration = Duration::from_millis(50);

/// The last lines of each log that a report shows.
const TAIL: usize = 25;

/// Where a cluster is.
#[derive(Debug, Clone)]
pub struct Site {
    /// gRPC URLs, by commas.
    pub coordinators: String,
    /// Host and SQL port of each router.
    pub routers: Vec<(String, u16)>,
    /// Directory of its parts' logs, where there is one.
    pub logs: Option<PathBuf>,
}

impl Site {
    /// For tokio-postgres and libpq: router `first` first, the others after it.
    pub fn dsn(&self, first: u16) -> String {
        let order = self.routers.iter().cycle().skip(usize::from(first)).take(self.routers.len());
        let (hosts, ports): (Vec<_>, Vec<_>) = order.map(|(host, port)| (host.clone(), port.to_string())).unzip();
        let (hosts, ports) = (hosts.join(","), ports.join(","));
        format!("host={hosts} port={ports} user=howdah password=howdah dbname=howdah connect_timeout=5")
    }

    /// Where the applications of a ledger connect. A machine that is silent is given up after two seconds, as
    /// an application that wants to go on has it (tokio-postgres's words and units).
    pub fn target(&self) -> Target {
        let patience = "connect_timeout=2 tcp_user_timeout=2 keepalives_idle=1 keepalives_interval=1";
        Target { dsns: [0, 1].map(|first| format!("{} {patience} keepalives_retries=2", self.dsn(first))) }
    }

    /// Runs an admin command.
    pub fn admin(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(HOWDAH);
        command.args(arguments).args(["--coordinator", &self.coordinators]);
        command.output().expect("the binary runs")
    }

    /// `howdah status --output json`; `None` while nobody leads.
    pub fn try_status(&self) -> Option<Status> {
        let output = self.admin(&["status", "--output", "json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("status is documented JSON"))
    }

    /// The same, waiting for a leader.
    pub fn status(&self) -> Status {
        self.wait_for("a leader answers", |_| true)
    }

    /// Waits until a picture of the cluster is as wanted.
    pub fn wait_for(&self, what: &str, wanted: impl FnMut(&Status) -> bool) -> Status {
        self.wait_within(PATIENCE, what, wanted)
    }

    /// The same with a limit.
    pub fn wait_within(&self, limit: Duration, what: &str, mut wanted: impl FnMut(&Status) -> bool) -> Status {
        let mut last = None;
        let reached = eventually(limit, || {
            last = self.try_status();
            last.as_ref().is_some_and(&mut wanted)
        });
        assert!(reached, "not reached in {limit:?}: {what}\nlast: {last:#?}\n{}", self.report());
        last.expect("it was reached")
    }

    /// Waits until every part is healthy again.
    pub fn wait_until_healthy(&self) -> Status {
        self.wait_until_healthy_within(PATIENCE)
    }

    /// The same with a limit.
    pub fn wait_until_healthy_within(&self, limit: Duration) -> Status {
        self.wait_within(limit, "every part is healthy", |status| self.unwell(status).is_none())
    }

    /// The first thing that is not as it should be.
    pub fn unwell(&self, status: &Status) -> Option<String> {
        if let Some(it) = status.coordinators.iter().find(|it| !it.healthy) {
            return Some(format!("coordinator {} is not healthy", it.id));
        }
        let routers = status.routers.iter().filter(|it| it.healthy).count();
        if routers < self.routers.len() {
            return Some(format!("{routers} of {} routers answer", self.routers.len()));
        }
        for group in &status.groups {
            if group.phase != "serving" {
                return Some(format!("{} is {}: {}", group.id, group.phase, group.reason));
            }
            if let Some(it) = group.members.iter().find(|it| !it.healthy) {
                return Some(format!("{} of {} is {}: {}", it.id, group.id, it.state, it.note));
            }
        }
        None
    }

    /// The end of every log.
    pub fn report(&self) -> String {
        let mut text = String::new();
        let Some(logs) = &self.logs else { return text };
        for entry in fs::read_dir(logs).into_iter().flatten().flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
            write!(text, "--- {}\n{tail}\n", entry.path().display()).expect("writing to a string cannot fail");
        }
        text
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

/// The coordinators' leader, by its number.
pub fn leader(status: &Status) -> u64 {
    status.coordinators.iter().find(|it| it.role == "leader").expect("somebody leads").id
}

/// Somebody else reigns.
pub fn primary_is_other(status: &Status, group: &str, old: &str) -> bool {
    let group = self::group(status, group);
    group.phase == "serving" && group.primary.as_deref().is_some_and(|now| now != old)
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
