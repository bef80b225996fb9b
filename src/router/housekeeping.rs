//! Keeps the query group's copies of the topology, `howdah.node`, as the topology is: for `citus_nodes`
//! and its kin. Called by the leading resolver.

use tokio_postgres::Client;

use super::own_session::primary;
use crate::model::{group::GroupKind, ids::GroupId, topology::Topology};

/// Rows that are right already are left alone: a repetition writes nothing.
const UPSERT: &str = "INSERT INTO howdah.node AS node (name, number, host, port) VALUES ($1, $2, $3, $4)
    ON CONFLICT (name) DO UPDATE SET number = EXCLUDED.number, host = EXCLUDED.host, port = EXCLUDED.port
    WHERE (node.number, node.host, node.port) IS DISTINCT FROM (EXCLUDED.number, EXCLUDED.host, EXCLUDED.port)";

/// Makes `howdah.node` agree with the topology.
pub async fn publish_nodes(client: &Client, topology: &Topology) -> Result<(), tokio_postgres::Error> {
    let mut names = Vec::new();
    for (id, group) in &topology.groups {
        names.push(id.as_str());
        let Some(endpoint) = primary(topology, id) else { continue };
        let number = match group.kind {
            GroupKind::Query => 0,
            GroupKind::Shard => i32::try_from(group_number(id)).unwrap_or(i32::MAX),
        };
        let (name, host, port) = (id.as_str(), endpoint.host.as_str(), i32::from(endpoint.port));
        client.execute(UPSERT, &[&name, &number, &host, &port]).await?;
    }
    client.execute("DELETE FROM howdah.node WHERE name <> ALL ($1)", &[&names]).await?;
    Ok(())
}

/// The number in a group's name: `shard-3` has 3. Names are given by the coordinators, and numbers are
/// never used twice.
pub fn group_number(group: &GroupId) -> u32 {
    group.as_str().rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
