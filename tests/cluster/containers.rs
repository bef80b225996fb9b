//! The cluster of `deploy/compose.yaml`: real containers killed and paused, and processes in them killed,
//! while applications write. Run by `deploy/compose-test.sh`, which starts it and says where it is.

use std::{env, process::Command, time::Duration};

use howdah::model::status::Status;

use super::ledger::Ledger;
use crate::harness::site::{Site, eventually, leader, primary, primary_is_other};

/// Containers start PostgreSQL from nothing on a machine that has just built everything.
const START: Duration = Duration::from_mins(3);

/// For a cluster to be whole again, container restarts included.
const RECOVERY: Duration = Duration::from_mins(2);

/// Longest pause of any writer: some 3 s of an unoptimised build, and the rest for a machine that is busy.
const PAUSE: Duration = Duration::from_secs(20);

/// Acknowledged rows of every writer that show that work goes on.
const PROGRESS: usize = 20;

/// Groups that the cluster has.
const GROUPS: usize = 3;

/// What is done, always to a primary or to the leader.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// kill -9 of the postmaster, in its container.
    Postmaster(&'static str),
    /// The primary's container ends.
    Kill(&'static str),
    /// The primary's container stands still.
    Pause(&'static str),
    KillLeader,
    PauseLeader,
    /// kill -9 of the router on the query group's primary, in its container.
    Router,
    /// The leader's container and a primary's end together.
    LeaderAnd(&'static str),
}

const FAULTS: [Fault; 9] = [
    Fault::Postmaster("shard-1"),
    Fault::Kill("shard-1"),
    Fault::Pause("shard-2"),
    Fault::Postmaster("query"),
    Fault::Kill("query"),
    Fault::KillLeader,
    Fault::PauseLeader,
    Fault::Router,
    Fault::LeaderAnd("shard-2"),
];

/// The cluster under test.
struct Compose {
    project: String,
    site: Site,
}

impl Compose {
    fn from_environment() -> Self {
        let value = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is set by deploy/compose-test.sh"));
        let grpc = ["HOWDAH_GRPC_1", "HOWDAH_GRPC_2", "HOWDAH_GRPC_3"];
        let sql = ["HOWDAH_SQL_1", "HOWDAH_SQL_2"];
        let site = Site {
            coordinators: grpc.map(|name| format!("http://127.0.0.1:{}", value(name))).join(","),
            routers: sql.map(|name| ("127.0.0.1".to_owned(), value(name).parse().expect("a port"))).to_vec(),
            logs: None,
        };
        Self { project: value("COMPOSE_PROJECT_NAME"), site }
    }

    fn wait_until_healthy(&self, limit: Duration) -> Status {
        self.site.wait_within(limit, "the containers are whole", |status| {
            status.groups.len() >= GROUPS && self.site.unwell(status).is_none()
        })
    }

    /// `docker VERB` on the container of a service (its name differs between compose versions), with what follows.
    fn docker(&self, verb: &str, service: &str, rest: &[&str]) {
        let filter = |label: &str, value: &str| format!("label=com.docker.compose.{label}={value}");
        let (project, service_filter) = (filter("project", &self.project), filter("service", service));
        let list = ["ps", "-aq", "--filter", &project, "--filter", &service_filter];
        let list = Command::new("docker").args(list).output().expect("docker is installed");
        let id = String::from_utf8_lossy(&list.stdout).trim().to_owned();
        let done = Command::new("docker").args([verb, &id]).args(rest).output().expect("docker is installed");
        assert!(done.status.success(), "docker {verb} {service}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// kill -9 of a process, by its number in the container.
    fn kill_process(&self, service: &str, pid: Option<u32>) {
        let kill = format!("kill -9 {}", pid.expect("it runs"));
        self.docker("exec", service, &["sh", "-c", &kill]);
    }

    /// Does it; gives the containers that have to be started or continued once it was survived.
    fn strike(&self, fault: Fault, status: &Status) -> Vec<(String, &'static str)> {
        let leader = format!("coordinator-{}", leader(status));
        let primary = |group| primary(status, group);
        let containers = match fault {
            Fault::Postmaster(group) => {
                self.kill_process(&primary(group).id, primary(group).postmaster_pid);
                Vec::new()
            }
            Fault::Router => {
                let name = &primary("query").id;
                let router = status.routers.iter().find(|it| it.id == *name).expect("a query node runs a router");
                self.kill_process(name, router.pid);
                Vec::new()
            }
            Fault::Kill(group) | Fault::Pause(group) => vec![primary(group).id.clone()],
            Fault::KillLeader | Fault::PauseLeader => vec![leader],
            Fault::LeaderAnd(group) => vec![leader, primary(group).id.clone()],
        };
        // An engine does not restart what a person killed.
        let pauses = matches!(fault, Fault::Pause(_) | Fault::PauseLeader);
        let (verb, undo) = if pauses { ("pause", "unpause") } else { ("kill", "start") };
        for container in &containers {
            self.docker(verb, container, &[]);
        }
        containers.into_iter().map(|container| (container, undo)).collect()
    }

    /// Whether somebody else does what the victim did; where that is not asked for, writers decide.
    fn is_replaced(&self, fault: Fault, before: &Status) -> bool {
        eventually(RECOVERY, || {
            let Some(now) = self.site.try_status() else { return false };
            let other = |group| primary_is_other(&now, group, &primary(before, group).id);
            match fault {
                Fault::Kill(group) | Fault::Pause(group) | Fault::LeaderAnd(group) => other(group),
                Fault::KillLeader | Fault::PauseLeader => leader(&now) != leader(before),
                Fault::Postmaster(_) | Fault::Router => true,
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the containers that deploy/compose-test.sh starts"]
async fn killed_and_paused() {
    let compose = Compose::from_environment();
    compose.wait_until_healthy(START);
    let ledger = Ledger::open(&compose.site.target()).await;
    for fault in FAULTS {
        let status = compose.wait_until_healthy(RECOVERY);
        assert!(ledger.wait_for_progress(PROGRESS).await, "no progress: {:#?}", ledger.errors());
        ledger.begin_round();
        let victims = compose.strike(fault, &status);
        let replaced = compose.is_replaced(fault, &status);
        for (container, undo) in victims {
            compose.docker(undo, &container, &[]);
        }
        assert!(replaced, "{fault:?}: nobody took over: {:#?}", compose.site.try_status());
        assert!(ledger.wait_for_progress(PROGRESS).await, "no progress after {fault:?}: {:#?}", ledger.errors());
        let pause = ledger.longest_pause().duration();
        println!("{fault:?}: longest pause {pause:?}, {} rows acknowledged", ledger.acknowledged());
        assert!(pause < PAUSE, "{fault:?}: {pause:?} without an acknowledged write: {:#?}", ledger.errors());
    }
    compose.wait_until_healthy(RECOVERY);
    ledger.close().await;
}
