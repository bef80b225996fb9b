//! `/livez`, `/readyz`, `/metrics` of a router. Called by `run`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
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
        page.counter("howdah_router_holds_total", "Checkouts that waited for a primary.")
            .sample(&[], now(&counters.holds));
        page.counter("howdah_router_held_milliseconds_total", "Time that checkouts waited for a primary.")
            .sample(&[], now(&counters.held_ms));
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
