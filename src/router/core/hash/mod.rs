//! `PostgreSQL`'s own partition hash: which bucket a key value belongs to, without asking anyone.
//! A value that cannot be parsed *exactly* as `PostgreSQL` would is not guessed at: the caller asks
//! `PostgreSQL` ([`KeyType::ask_sql`]). Called by the planner (literals) and by the router's executor
//! (parameters, COPY rows). Proved against `satisfies_hash_partition` by the integration tests.
//!
//! Source: `src/common/hashfn.c`, `src/backend/partitioning/partbounds.c`, `hash<type>extended`.

mod jenkins;
mod parse;
mod types;

pub use jenkins::bytes_extended;
pub use types::{KeyType, Value};

/// `HASH_PARTITION_SEED`.
pub const SEED: u64 = 0x7A5B_2236_7996_DCFD;

/// The router cannot tell the value as `PostgreSQL` would: ask it, by [`KeyType::ask_sql`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the router does not parse this spelling of the value")]
pub struct Unparsed;

/// `compute_partition_hash_value` for one key column, from `hash<type>extended(value, SEED)`.
pub fn row_hash(value_hash: u64) -> u64 {
    jenkins::combine(0, value_hash)
}

/// The bucket of a value, from `hash<type>extended(value, SEED)`: what [`KeyType::ask_sql`] answers.
pub fn bucket_of(value_hash: u64, bucket_count: u32) -> u32 {
    let bucket = row_hash(value_hash) % u64::from(bucket_count.max(1));
    u32::try_from(bucket).expect("a remainder is below its 32-bit modulus")
}
