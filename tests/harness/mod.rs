//! Real clusters for tests and benchmarks: how they are started and reached, the applications that write
//! while something is done to them, and the ways to do it. Called by `tests/cluster`, `tests/chaos` and
//! `benches/failover`.

pub mod ledger;
pub mod machines;
pub mod members;
pub mod processes;
pub mod running;
pub mod site;
