//! The cluster of `deploy/compose.yaml`: real containers killed and paused while applications write.
//! Run by `deploy/compose-test.sh`, which starts it and says where it is.

use std::{env, process::Command, time::Duration};

use howdah::model::status::Status;

use super::{
    ledger::{Ledger, Target},
    running::{HOWDAH, eventually, primary},
};

/// Containers start PostgreSQL from nothing on a machine that has just built everything.
const START: Duration = Duration::from_mins(3);

/// For a cluster to be whole again, container restarts included.
const RECOVERY: Duration = Duration::from_mins(2);

/// Longest pause of any writer, for a kill and for a paused container.
const PAUSE: Duration = Duration::from_secs(12);

/// What the environment says about the cluster under test.
struct Compose {
    project: String,
    coordinators: String,
    sql: [u16; 2],
}

impl Compose {
    fn from_environment() -> Self {
        let value = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is set by deploy/compose-test.sh"));
        let port = |name: &str| value(name).parse().expect("a port");
        let grpc = ["HOWDAH_GRPC_1", "HOWDAH_GRPC_2", "HOWDAH_GRPC_3"];
        Self {
            project: value("COMPOSE_PROJECT_NAME"),
            coordinators: grpc.map(|name| format!("http://127.0.0.1:{}", value(name))).join(","),
            sql: [port("HOWDAH_SQL_1"), port("HOWDAH_SQL_2")],
        }
    }

    fn target(&self) -> Target {
        let dsn = |first: u16, second: u16| {
            format!(
                "host=127.0.0.1,127.0.0.1 port={first},{second} user=howdah password=howdah dbname=howdah connect_timeout=5"
            )
        };
        Target { dsns: [dsn(self.sql[0], self.sql[1]), dsn(self.sql[1], self.sql[0])] }
    }

    fn status(&self) -> Option<Status> {
        let arguments = ["status", "--output", "json", "--coordinator", &self.coordinators];
        let output = Command::new(HOWDAH).args(arguments).output().expect("the binary runs");
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("documented JSON"))
    }

    fn wait_until_healthy(&self, limit: Duration) -> Status {
        let mut last = None;
        let whole = eventually(limit, || {
            last = self.status();
            last.as_ref().is_some_and(|status| {
                status.groups.len() >= 3
                    && status.coordinators.iter().all(|it| it.healthy)
                    && status.routers.iter().filter(|it| it.healthy).count() == 2
                    && status.groups.iter().all(|it| it.phase == "serving" && it.members.iter().all(|it| it.healthy))
            })
        });
        assert!(whole, "the containers are not whole: {last:#?}");
        last.expect("it was seen")
    }

    /// `docker VERB` on the container of a service; its name differs between compose versions.
    fn docker(&self, verb: &str, service: &str) {
        let filter = |label: &str, value: &str| format!("label=com.docker.compose.{label}={value}");
        let (project, service_filter) = (filter("project", &self.project), filter("service", service));
        let list = ["ps", "-aq", "--filter", &project, "--filter", &service_filter];
        let list = Command::new("docker").args(list).output().expect("docker is installed");
        let id = String::from_utf8_lossy(&list.stdout).trim().to_owned();
        let done = Command::new("docker").args([verb, &id]).output().expect("docker is installed");
        assert!(done.status.success(), "docker {verb} {service}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the containers that deploy/compose-test.sh starts"]
async fn killed_and_paused() {
    let compose = Compose::from_environment();
    compose.wait_until_healthy(START);
    let target = compose.target();
    let ledger = Ledger::open(&target).await;
    for (fault, group) in [("kill", "shard-1"), ("pause", "shard-2"), ("kill", "query")] {
        let status = compose.wait_until_healthy(RECOVERY);
        assert!(ledger.wait_for_progress(20).await, "no progress: {:#?}", ledger.errors());
        let victim = primary(&status, group).id.clone();
        ledger.begin_round();
        compose.docker(fault, &victim);
        let replaced = eventually(RECOVERY, || {
            let now = compose.status();
            now.is_some_and(|now| {
                let it = now.groups.iter().find(|it| it.id == group).expect("the group exists");
                it.phase == "serving" && it.primary.as_deref().is_some_and(|name| name != victim)
            })
        });
        // An engine does not restart what a person killed.
        compose.docker(if fault == "kill" { "start" } else { "unpause" }, &victim);
        assert!(replaced, "{group} keeps the primary that was lost: {:#?}", compose.status());
        assert!(ledger.wait_for_progress(20).await, "no progress after {fault} {victim}: {:#?}", ledger.errors());
        let pause = ledger.longest_pause().duration();
        println!("{fault} {victim} ({group}): longest pause {pause:?}, {} rows acknowledged", ledger.acknowledged());
        assert!(pause < PAUSE, "{fault} {victim}: {pause:?} without an acknowledged write: {:#?}", ledger.errors());
    }
    compose.wait_until_healthy(RECOVERY);
    ledger.close().await;
}
