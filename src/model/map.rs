//! Which shard holds which bucket. Placement is replicated by the coordinators; which table belongs
//! to which colocation group is a row beside the table's shell in the query group (so that DDL and
//! catalog change in one transaction).

use serde::{Deserialize, Serialize};

use super::ids::{ColocationId, GroupId};

/// Tables distributed by the same type and bucket count; equal keys live on the same shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Colocation {
    /// Its number.
    pub id: ColocationId,
    /// `PostgreSQL`'s name of the key's type, as `format_type` gives it: `bigint`, `text`, `uuid`.
    pub key_type: String,
    /// Which shard holds bucket `i`; the length is the bucket count (the modulus of the hash).
    pub buckets: Vec<GroupId>,
}

impl Colocation {
    /// The shards that hold a bucket, each once, in order.
    pub fn shards(&self) -> Vec<&GroupId> {
        let mut shards: Vec<_> = self.buckets.iter().collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }
}
