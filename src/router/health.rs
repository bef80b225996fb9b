//! `/livez`, `/readyz`, `/metrics` of a router. Called by `run`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
    pool::{Counters, hold::HoldCounts},
    topology_watch,
    worker::{Shared, TIERS},
};
use crate::host::{http::Probes, metrics::Metrics};

/// What the pages are made of.
pub struct Health(pub Arc<Shared>);

impl Probes for Health {
    fn ready(&self) -> Result<(), String> {
        topology_watch::ready(&self.0.topology.borrow())
    }

    fn metrics(&self) -> String {
        let mut page = Metrics::default();
        let counters = &self.0.counters;
        let now = |count: &std::sync::atomic::AtomicU32| count.load(Ordering::Relaxed);
        page.gauge("howdah_router_sessions", "Client sessions.").sample(&[], now(&counters.sessions));
        page.gauge("howdah_router_server_connections", "Connections to PostgreSQL.")
            .sample(&[], now(&counters.connections));
        page.counter("howdah_router_connection_waits_total", "Checkouts that waited for a free connection.")
            .sample(&[], now(&counters.waits));
        holds(&mut page, counters);
        let mut open = page.gauge("howdah_router_open_transactions", "Transactions in progress on a group.");
        for (group, count) in counters.open_transactions() {
            open.sample(&[("group", group.as_str())], count);
        }
        let mut statements = page.counter("howdah_router_statements_total", "Statements run, by tier.");
        for (index, tier) in TIERS.iter().enumerate() {
            let of_worker = |counts: &[AtomicU64; TIERS.len()]| counts[index].load(Ordering::Relaxed);
            statements.sample(&[("tier", tier)], self.0.statements.iter().map(of_worker).sum::<u64>());
        }
        page.gauge("howdah_router_topology_revision", "Topology that all workers work by.")
            .sample(&[], self.0.applied());
        page.finish()
    }
}

type OfGroup = fn(&HoldCounts) -> &AtomicU64;

/// What waits for a primary, by group.
fn holds(page: &mut Metrics, counters: &Counters) {
    let of_groups: Vec<_> = {
        let holds = counters.holds.lock().expect("nobody panics while counting");
        holds.iter().map(|(group, counts)| (group.clone(), counts.clone())).collect()
    };
    let gauges: [(&str, &str, OfGroup); 2] = [
        ("howdah_router_held", "Sessions that wait for a primary.", |it| &it.waiting),
        ("howdah_router_held_bytes", "Bytes that waiting sessions keep.", |it| &it.bytes),
    ];
    let totals: [(&str, &str, OfGroup); 3] = [
        ("howdah_router_holds_total", "Sessions that waited for a primary.", |it| &it.total),
        ("howdah_router_holds_refused_total", "Sessions that were not let wait: too many did.", |it| &it.refused),
        ("howdah_router_held_milliseconds_total", "Time that sessions waited for a primary.", |it| &it.waited_ms),
    ];
    for (is_total, (name, help, count)) in
        gauges.into_iter().map(|it| (false, it)).chain(totals.into_iter().map(|it| (true, it)))
    {
        let mut family = if is_total { page.counter(name, help) } else { page.gauge(name, help) };
        for (group, counts) in &of_groups {
            family.sample(&[("group", group.as_str())], count(counts).load(Ordering::Relaxed));
        }
    }
}
