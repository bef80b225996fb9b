//! The command line's side of the admin API: `howdah status`, `events`, `shard`, `table`,
//! `operation`, `coordinator-member`, `switchover`, `failover`. Each command is one call and one table. Called by `cli`;
//! `dev` and others that wait for a cluster use [`client`] alone.

pub mod arguments;
pub mod client;
mod commands;
mod output;
mod tables;
mod times;

pub use commands::run;
