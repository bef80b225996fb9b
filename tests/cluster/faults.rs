//! Kills and freezes while applications write: nothing acknowledged is lost, the pause is bounded, and
//! the cluster is whole again afterwards by itself. `HOWDAH_ROUNDS=10` repeats every fault ten times,
//! `HOWDAH_TIMELINE=1` shows each step by step.

use std::{env, time::Duration};

use howdah::{host::clock::unix_ms, model::status::Status};
use rustix::process::Signal;

use super::{
    ledger::Ledger,
    processes::send_all,
    running::{Cluster, container, eventually, primary},
    timeline::timeline,
};
use crate::harness::site::{leader, primary_is_other};

/// Longest pause any writer may see through a kill. The design's targets are below a second; here an
/// unoptimised build shares two processors with a debugger's worth of checks.
const KILL_PAUSE: Duration = Duration::from_secs(8);

/// A frozen machine is noticed later than a dead one.
const FREEZE_PAUSE: Duration = Duration::from_secs(10);

/// Acknowledged rows of every writer that show that work goes on.
const PROGRESS: usize = 20;

/// How much of a failover is shown step by step: until long after clients went on.
const TIMELINE_MS: u64 = 2_500;

/// How often each fault is tried.
fn rounds() -> u32 {
    env::var("HOWDAH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// What is done to the cluster.
#[derive(Debug, Clone, Copy)]
enum Fault {
    ShardPostmaster,
    ShardContainer,
    QueryContainer,
    CoordinatorLeader,
    Router,
    LeaderAndShard,
}

impl Fault {
    /// Every process it takes down.
    fn victims(self, status: &Status) -> Vec<u32> {
        let postmaster = |group| primary(status, group).postmaster_pid.expect("a primary runs PostgreSQL");
        let leader = || {
            let id = leader(status);
            let leader = status.coordinators.iter().find(|it| it.id == id).expect("the leader is listed");
            leader.pid.expect("a coordinator of this machine")
        };
        match self {
            Self::ShardPostmaster => vec![postmaster("shard-1")],
            Self::ShardContainer => container(primary(status, "shard-1")),
            Self::QueryContainer => container(primary(status, "query")),
            Self::CoordinatorLeader => vec![leader()],
            Self::Router => {
                let name = &primary(status, "query").id;
                let router = status.routers.iter().find(|it| it.id == *name).expect("a query node runs a router");
                vec![router.pid.expect("a router of this machine")]
            }
            Self::LeaderAndShard => [vec![leader()], container(primary(status, "shard-2"))].concat(),
        }
    }
}

async fn survive(cluster: &Cluster, ledger: &Ledger, fault: &str, limit: Duration, act: impl AsyncFnOnce(&Status)) {
    let before = cluster.wait_until_healthy();
    assert!(ledger.wait_for_progress(PROGRESS).await, "no progress before {fault}: {:#?}", ledger.errors());
    ledger.begin_round();
    let from = unix_ms();
    act(&before).await;
    let going_on = ledger.wait_for_progress(PROGRESS).await;
    assert!(going_on, "no progress after {fault}: {:#?}\n{}", ledger.errors(), cluster.report());
    cluster.wait_until_healthy();
    let pause = ledger.longest_pause().duration();
    println!("{fault}: longest pause {pause:?}, {} rows acknowledged", ledger.acknowledged());
    if env::var_os("HOWDAH_TIMELINE").is_some() {
        println!("{}", timeline(&cluster.directory(), from, from + TIMELINE_MS));
    }
    assert!(pause < limit, "{fault}: {pause:?} without an acknowledged write: {:#?}", ledger.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills() {
    const FAULTS: [Fault; 6] = [
        Fault::ShardPostmaster,
        Fault::ShardContainer,
        Fault::QueryContainer,
        Fault::CoordinatorLeader,
        Fault::Router,
        Fault::LeaderAndShard,
    ];
    let cluster = Cluster::start(&[]);
    let ledger = Ledger::open(&cluster.target()).await;
    for round in 1..=rounds() {
        for fault in FAULTS {
            let name = format!("round {round}, kill {fault:?}");
            survive(&cluster, &ledger, &name, KILL_PAUSE, async |status| {
                send_all(&fault.victims(status), Signal::KILL);
            })
            .await;
        }
    }
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn freezes() {
    let cluster = Cluster::start(&[]);
    let ledger = Ledger::open(&cluster.target()).await;
    for round in 1..=rounds() {
        for group in ["shard-1", "query"] {
            let name = format!("round {round}, freeze the primary of {group}");
            survive(&cluster, &ledger, &name, FREEZE_PAUSE, async |status| {
                let pids = container(primary(status, group));
                send_all(&pids, Signal::STOP);
                let old = &primary(status, group).id;
                let replaced = eventually(FREEZE_PAUSE, || {
                    let now = cluster.try_status();
                    now.is_some_and(|now| primary_is_other(&now, group, old))
                });
                assert!(replaced, "{group} keeps its frozen primary\n{}", cluster.report());
                send_all(&pids, Signal::CONT);
            })
            .await;
        }
    }
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switchovers_cause_no_error() {
    let cluster = Cluster::start(&[]);
    let ledger = Ledger::open(&cluster.target()).await;
    for group in ["shard-1", "query"] {
        survive(&cluster, &ledger, &format!("switchover of {group}"), KILL_PAUSE, async |status| {
            let old = primary(status, group).id.clone();
            let output = cluster.admin(&["switchover", group]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            cluster.wait_for("another primary", |now| primary_is_other(now, group, &old));
        })
        .await;
        assert_eq!(ledger.errors(), Vec::<String>::new());
    }
    ledger.close().await;
}
