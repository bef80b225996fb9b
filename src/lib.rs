//! Howdah: sharded, self-healing `PostgreSQL` in containers.
//!
//! Two paths meet in one arrow:
//!
//! ```text
//! control: agent observes → reports → coordinator plans → proposes → Raft → state → goal → agent acts
//! data:    bytes → message → statement → plan → shards → rows → bytes
//! meet:    topology (groups, primaries, epochs, map), coordinator → router
//! ```
//!
//! Three words everywhere: *policy* (wanted), *goal* (decided, replicated, numbered), *observed*
//! (reported, may be stale, never replicated).
//!
//! Imports point one way: `model ← wire`, `model ← core ← the role's shell ← main`. Folders named
//! `core`, and `model`, do no I/O; `tests/tidy.rs` checks it.

pub mod admin;
pub mod agent;
pub mod cli;
pub mod config;
pub mod coordinator;
pub mod dev;
pub mod host;
pub mod model;
pub mod provision;
pub mod router;
pub mod wire;
