//! [pure] From a table's facts in `pg_catalog` to its copies on the shards: what forbids it, and the DDL
//! of parents and leaves. Called by the router's `create_distributed_table` and its kin, and where a
//! new shard gets what the others have.

mod check;
mod ddl;
mod facts;
#[cfg(test)]
mod tests;

pub use check::{Spread, check_distribute, check_reference};
pub use ddl::{Copies, ShardDdl};
pub use facts::{Column, Constraint, Facts, FactsError, Sequence, Target};
