//! The router in front of a real PostgreSQL: what a client sees must be what PostgreSQL alone shows.

mod failover;
pub mod harness;
mod protocol;
mod sessions;
