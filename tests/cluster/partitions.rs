//! Links cut while applications write, every part on a machine of its own: one direction and both, one link
//! and all, a coordinator with a primary, again and again. Nothing acknowledged is lost, the group serves
//! again in bounded time, and heals by itself.

use std::{path::Path, time::Duration};

use howdah::model::status::Status;

use super::ledger::Ledger;
use crate::harness::{
    machines::{self, Machines, USUAL},
    members,
    site::{group, leader, primary, primary_is_other},
};

/// Longest pause of any writer. A writer whose own router is cut off notices after 2 s and tries every
/// router for 2 s; the rest is a failover by an unoptimised build on a busy machine.
const PAUSE: Duration = Duration::from_secs(15);

/// Acknowledged rows of every writer that show that work goes on.
const PROGRESS: usize = 20;

/// How long a flapping link is up, and down: about as long as a silence that is suspected.
const FLAP: Duration = Duration::from_millis(700);

/// A cluster under a ledger.
struct Trial {
    machines: Machines,
    ledger: Ledger,
}

impl Trial {
    async fn begin(scratch: &Path) -> Self {
        let machines = Machines::start(scratch, USUAL);
        let ledger = Ledger::open(&machines.target()).await;
        Self { machines, ledger }
    }

    /// Cuts something; work must go on before it is mended, and everything be well after that.
    async fn survive(&self, fault: &str, cut: impl AsyncFnOnce(&Machines, &Status)) {
        let Self { machines, ledger } = self;
        let before = machines.wait_until_healthy();
        assert!(ledger.wait_for_progress(PROGRESS).await, "no progress before {fault}: {:#?}", ledger.errors());
        ledger.begin_round();
        cut(machines, &before).await;
        let going_on = ledger.wait_for_progress(PROGRESS).await;
        assert!(going_on, "no progress during {fault}: {:#?}\n{}", ledger.errors(), machines.report());
        machines.network().heal();
        machines.wait_until_healthy();
        let pause = ledger.longest_pause().duration();
        println!("{fault}: longest pause {pause:?}, {} rows acknowledged", ledger.acknowledged());
        assert!(pause < PAUSE, "{fault}: {pause:?} without an acknowledged write: {:#?}", ledger.errors());
    }

    async fn end(self) {
        self.ledger.close().await;
        let differences = members::differences(&self.machines.wait_until_healthy()).await;
        assert_eq!(differences, Vec::<String>::new());
    }
}

/// Waits until another member reigns.
fn taken_over(machines: &Machines, group: &str, old: &str) {
    machines.wait_for(&format!("{group} has another primary than {old}"), |now| primary_is_other(now, group, old));
}

#[test]
fn links_are_cut() {
    machines::test("cluster::partitions::links_are_cut", |scratch| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let trial = Trial::begin(scratch).await;
            primaries(&trial).await;
            between(&trial).await;
            coordinator(&trial).await;
            flapping(&trial).await;
            trial.end().await;
        });
    });
}

/// A primary that is cut off from everything, that hears nobody, that nobody hears.
async fn primaries(trial: &Trial) {
    for group in ["shard-1", "query"] {
        trial
            .survive(&format!("primary of {group} cut off"), async |machines, status| {
                let old = &primary(status, group).id;
                machines.network().isolate(old);
                taken_over(machines, group, old);
            })
            .await;
    }
    trial
        .survive("primary of shard-1 is heard and does not hear", async |machines, status| {
            let old = &primary(status, "shard-1").id;
            machines.network().deafen(old);
            taken_over(machines, "shard-1", old);
        })
        .await;
    trial
        .survive("primary of shard-2 hears and is not heard", async |machines, status| {
            let old = &primary(status, "shard-2").id;
            machines.network().mute(old);
            taken_over(machines, "shard-2", old);
        })
        .await;
}

/// Both live and everybody else reaches them: writes wait for the acknowledgement until the cohort shrinks.
async fn between(trial: &Trial) {
    trial
        .survive("primary and standby of shard-1 cut off from each other", async |machines, status| {
            let it = group(status, "shard-1");
            machines.network().part(&it.members[0].id, &it.members[1].id);
        })
        .await;
}

/// The rest has a majority of coordinators.
async fn coordinator(trial: &Trial) {
    trial
        .survive("leader and primary of shard-2 cut off together", async |machines, status| {
            let (leader, old) = (format!("coordinator-{}", leader(status)), &primary(status, "shard-2").id);
            machines.network().isolate_together(&[&leader, old]);
            taken_over(machines, "shard-2", old);
        })
        .await;
}

/// A link that comes and goes.
async fn flapping(trial: &Trial) {
    trial
        .survive("link of the primary of shard-1 flaps", async |machines, status| {
            let old = &primary(status, "shard-1").id;
            for _ in 0..8 {
                machines.network().isolate(old);
                tokio::time::sleep(FLAP).await;
                machines.network().heal();
                tokio::time::sleep(FLAP).await;
            }
        })
        .await;
}
