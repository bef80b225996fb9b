//! The router: speaks the PostgreSQL protocol, plans statements, runs them on shards, merges, and
//! commits. `core` is its pure part. Called by `main`.

pub mod core;
pub mod pool;
