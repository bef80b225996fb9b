//! One round: everything is well, something is done, the applications go on, everything is well again.
//! Called by `main`.

use std::{collections::BTreeMap, fmt, time::Duration};

use howdah::{
    host::{clock, entropy},
    model::status::Status,
};
use tokio_postgres::Client;

use crate::{
    fault::{Fault, Trial},
    harness::{
        ledger::{self, Kind, Ledger, Target, Verdict},
        site::{primary, primary_is_other},
    },
    place::Place,
};

/// Acknowledged rows of every application before a fault: connections and plans are warm.
const WARM: usize = 50;

/// Acknowledged rows after it that show that work goes on.
const PROGRESS: usize = 50;

/// Reports come every 100 ms: faults strike at any moment between two.
const PHASE_MS: u64 = 100;

/// Numbers of one round's rows.
const NUMBERS: i64 = 10_000_000;

/// What one round showed.
pub struct Round {
    /// Longest time without an acknowledgement of the application that the fault strikes.
    pub pause_ms: u64,
    /// The same of the others.
    pub others_ms: u64,
    /// Errors that all of them saw, by SQLSTATE.
    pub codes: BTreeMap<String, u64>,
    /// Acknowledged rows that are not there.
    pub missing: usize,
    /// Wall clock, milliseconds since 1970: last acknowledgement, fault, first acknowledgement.
    pub moments: [u64; 3],
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ms, others {} ms, errors {}, {} missing",
            self.pause_ms,
            self.others_ms,
            self.errors(),
            self.missing
        )
    }
}

impl Round {
    /// Errors for people.
    pub fn errors(&self) -> String {
        let list: Vec<_> = self.codes.iter().map(|(code, count)| format!("{count} × {code}")).collect();
        if list.is_empty() { "none".to_owned() } else { list.join(", ") }
    }
}

/// The benchmark under way.
pub struct Bench {
    /// The cluster.
    pub place: Place,
    /// A key for each shard.
    keys: BTreeMap<String, i64>,
    next: i64,
}

impl Bench {
    /// Makes the tables, and finds a key on each shard.
    pub async fn begin(place: Place) -> Self {
        let status = place.site().wait_until_healthy();
        let client = ledger::connect(&place.site().dsn(0)).await.expect("the cluster is ready");
        ledger::make_tables(&client).await;
        let shards = status.groups.iter().filter(|group| group.kind == "shard");
        let mut keys = BTreeMap::new();
        for shard in shards {
            keys.insert(shard.id.clone(), key_on(&place, &client, &shard.id).await);
        }
        Self { place, keys, next: 1 }
    }

    /// One round of a trial.
    pub async fn round(&mut self, trial: &Trial) -> Round {
        let before = self.place.site().wait_until_healthy();
        let ledger = self.applications(&before);
        assert!(ledger.wait_for_progress(WARM).await, "no progress before {trial}: {:#?}", ledger.errors());
        tokio::time::sleep(Duration::from_millis(entropy::number() % PHASE_MS)).await;
        ledger.begin_round();
        let struck_at = clock::unix_ms();
        self.strike(trial, &before);
        let going_on = ledger.wait_for_progress(PROGRESS).await;
        if let (Fault::Frozen | Fault::Cut, Some(group)) = (trial.fault, &trial.group) {
            self.place.mend(&before, group);
        }
        let report = || self.place.site().report();
        assert!(going_on, "no progress after {trial}: {:#?}\n{}", ledger.errors(), report());
        let (mut struck, mut others) = (ledger::Gap::default(), 0);
        for (kind, gap) in ledger.gaps() {
            if self.is_struck(trial, kind) {
                if gap.length() > struck.length() {
                    struck = gap;
                }
            } else {
                others = others.max(gap.length().0);
            }
        }
        let moments = [ledger.unix_ms(struck.from), struck_at, ledger.unix_ms(struck.to)];
        let codes = ledger.codes();
        self.place.site().wait_until_healthy();
        let Verdict { missing, half } = ledger.finish().await;
        assert_eq!(half, 0, "this benchmark writes no pairs");
        Round { pause_ms: struck.length().0, others_ms: others, codes, missing: missing.len(), moments }
    }

    /// One application at each shard and one at a local table, all through the router that no fault of a
    /// query node's container reaches: the other query node's.
    fn applications(&mut self, status: &Status) -> Ledger {
        let site = self.place.site();
        let [one, other] = site.target().dsns;
        let target = if primary(status, "query").id == "query-1" { [other, one] } else { [one, other] };
        let kinds = [Kind::Local].into_iter().chain(self.keys.values().map(|key| Kind::At(*key)));
        let writers: Vec<_> = kinds.map(|kind| (kind, target[0].clone())).collect();
        let ledger = Ledger::start(&Target { dsns: target }, self.next, writers);
        self.next += NUMBERS;
        ledger
    }

    fn is_struck(&self, trial: &Trial, kind: Kind) -> bool {
        match (&trial.group, kind) {
            (None, _) => true,
            (Some(group), Kind::At(key)) => self.keys.get(group) == Some(&key),
            (Some(group), _) => group == "query",
        }
    }

    fn strike(&self, trial: &Trial, status: &Status) {
        let (place, group) = (&self.place, trial.group.as_deref().unwrap_or_default());
        match trial.fault {
            Fault::Postmaster => place.kill_postmaster(status, group),
            Fault::Container => place.kill_container(status, group),
            Fault::Leader => place.kill_leader(status),
            Fault::LeaderAndPrimary => {
                place.kill_leader(status);
                place.kill_container(status, group);
            }
            Fault::Frozen | Fault::Cut => {
                let old = &primary(status, group).id;
                if trial.fault == Fault::Frozen {
                    place.freeze(status, group);
                } else {
                    place.isolate(status, group);
                }
                place.site().wait_for("another primary", |now| primary_is_other(now, group, old));
            }
            Fault::Switchover => {
                let output = place.site().admin(&["switchover", group]);
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }
}

/// A key whose rows are on this shard.
async fn key_on(place: &Place, client: &Client, shard: &str) -> i64 {
    let status =
        place.site().wait_for("the table is listed", |now| now.tables.iter().any(|it| it.name == "ledger_placed"));
    let table = status.tables.iter().find(|it| it.name == "ledger_placed").expect("it is listed");
    let placement = status.map.colocation_groups.iter().find(|it| it.id.0 == table.colocation_id);
    let buckets = &placement.expect("a distributed table is placed").buckets;
    for key in 1..10_000 {
        let sql = format!("SELECT get_shard_id_for_distribution_column('ledger_placed', {key})");
        let row = client.query_one(&sql, &[]).await.expect("the router knows the table");
        // The number of a bucket is in the last eleven bits of what Citus calls a shard.
        let bucket = usize::try_from(row.get::<_, i64>(0) % 2048).expect("a bucket");
        if buckets[bucket].as_str() == shard {
            return key;
        }
    }
    panic!("no key is on {shard}");
}
