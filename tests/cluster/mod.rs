//! Whole clusters on this machine, with real PostgreSQL, as `howdah dev` runs them: start and restart,
//! kills and freezes under a ledger of acknowledged writes, TPC-H against a plain PostgreSQL, bad
//! input, drivers. One cluster at a time: each takes every processor there is.

mod bad_input;
mod containers;
mod drivers;
mod faults;
mod growth;
mod members;
mod partitions;
pub mod plain;
mod start;
mod switchover;
mod tpch;

use crate::harness::{ledger, processes, running};
