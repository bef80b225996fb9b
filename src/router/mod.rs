//! The router: speaks the PostgreSQL protocol, plans statements, runs them on shards, merges, and
//! commits. `core` is its pure part. Called by `main`.

pub mod catalog_load;
pub mod core;
mod housekeeping;
mod own_session;
pub mod pool;
pub mod prepare;
pub mod resolver;
