//! Faults that are none, or not the obvious ones: an agent that stops for a while, a postmaster that hangs,
//! a machine that is merely busy. Nothing acknowledged is lost in any of them; what works goes on.

use std::{
    process::{Child, Command},
    time::Duration,
};

use rustix::process::Signal;

use super::{
    ledger::Ledger,
    processes::send,
    running::{Cluster, eventually, group, primary},
};

/// Acknowledged rows of every writer that show that work goes on.
const PROGRESS: usize = 20;

/// A hung postmaster is noticed within 2.5 s, then suspected 0.6 s later; the rest is the failover, and room
/// for an unoptimised build.
const HUNG: Duration = Duration::from_secs(12);

/// What an agent's pause may cost writers at most: nothing but what a busy machine costs anyhow.
const NO_PAUSE: Duration = Duration::from_millis(900);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_stops_for_a_second_costs_nothing() {
    let cluster = Cluster::start(&[]);
    let ledger = Ledger::open(&cluster.target()).await;
    let before = cluster.wait_until_healthy();
    assert!(ledger.wait_for_progress(PROGRESS).await, "{:#?}", ledger.errors());
    for name in ["shard-1", "query"] {
        ledger.begin_round();
        let agent = primary(&before, name).pid.expect("an agent of this machine");
        send(agent, Signal::STOP);
        tokio::time::sleep(Duration::from_secs(1)).await;
        send(agent, Signal::CONT);
        assert!(ledger.wait_for_progress(PROGRESS).await, "{:#?}", ledger.errors());
        tokio::time::sleep(Duration::from_millis(500)).await;
        println!("the agent of {name} stopped for 1 s: longest pause {:?}", ledger.longest_pause().duration());
    }
    let after = cluster.wait_until_healthy();
    for name in ["shard-1", "shard-2", "query"] {
        let (was, is) = (group(&before, name), group(&after, name));
        assert_eq!((was.epoch, &was.primary), (is.epoch, &is.primary), "{name}\n{}", cluster.report());
        assert_eq!(primary(&before, name).postmaster_pid, primary(&after, name).postmaster_pid, "{name}");
    }
    assert_eq!(ledger.errors(), Vec::<String>::new());
    assert!(ledger.longest_pause().duration() < NO_PAUSE, "{:?}", ledger.longest_pause());
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postmaster_that_hangs_is_replaced() {
    let cluster = Cluster::start(&[]);
    let ledger = Ledger::open(&cluster.target()).await;
    let before = cluster.wait_until_healthy();
    assert!(ledger.wait_for_progress(PROGRESS).await, "{:#?}", ledger.errors());
    let old = primary(&before, "shard-1");
    // Its sessions go on answering; it starts no new ones.
    let postmaster = old.postmaster_pid.expect("it runs");
    send(postmaster, Signal::STOP);
    let replaced = eventually(HUNG, || {
        cluster.try_status().is_some_and(|now| {
            let now = group(&now, "shard-1");
            now.phase == "serving" && now.primary.as_deref() != Some(&old.id)
        })
    });
    send(postmaster, Signal::CONT);
    assert!(replaced, "shard-1 keeps a primary that hangs\n{}", cluster.report());
    assert!(ledger.wait_for_progress(PROGRESS).await, "{:#?}", ledger.errors());
    cluster.wait_until_healthy();
    ledger.close().await;
}

/// Two programs that take every processor they get, at ordinary priority.
struct Load([Child; 2]);

impl Load {
    fn start() -> Self {
        let spin = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("sh is everywhere");
        Self([spin(), spin()])
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().expect("it is our child");
            child.wait().expect("it is our child");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_machine_is_no_reason_to_fail_over() {
    const SPAN: Duration = Duration::from_secs(20);
    let cluster = Cluster::start(&[]);
    let ledger = Ledger::open(&cluster.target()).await;
    let before = cluster.wait_until_healthy();
    ledger.begin_round();
    let load = Load::start();
    tokio::time::sleep(SPAN).await;
    drop(load);
    println!("under load for {SPAN:?}: longest pause {:?}", ledger.longest_pause().duration());
    let after = cluster.wait_until_healthy();
    for name in ["shard-1", "shard-2", "query"] {
        let (was, is) = (group(&before, name).epoch, group(&after, name).epoch);
        assert_eq!(was, is, "{name} opened {} epochs for nothing\n{}", is - was, cluster.report());
    }
    ledger.close().await;
}
