//! [pure] What a coordinator decides, as plain functions of values.
//!
//! ```text
//! reports ─► Observed ─┐
//!                      ├─► plan ─► Proposal ─► (Raft) ─► State::apply ─┬─► goal      ─► agents
//! policy ──► State ────┘                                               ├─► topology  ─► routers
//!                                                                      └─► status    ─► people
//! ```
//!
//! `State` is replicated and changes by `State::apply` alone. `Observed` is the leader's memory of
//! what members report; it is never replicated and may be lost. `plan` compares the whole of both
//! and says what to change and why; it takes no hint of what happened. Called by the driver (the
//! coordinator's shell), by the simulation and by tests.

pub mod candidate;
pub mod cohort;
pub mod command;
pub mod failover;
pub mod flapping;
pub mod goals;
pub mod invariants;
pub mod log_format;
pub mod members;
pub mod membership;
pub mod observed;
pub mod operations;
pub mod placement;
pub mod planner;
pub mod replica;
pub mod report;
pub mod stale_reads;
pub mod state;
pub mod succession;
pub mod suspicion;
pub mod switchover;
pub mod topology;
pub mod winner;
