//! Gives a new shard what it needs before its first bucket: roles, schemas, extensions, types,
//! functions, and the rows of every reference table. Run by every router; a row lock lets one work at a
//! time. Called by the router's `run`.
//!
//! While it works, DDL waits at the version's row lock and writers of reference tables at the tables',
//! so the copies are complete when the shard is marked ready. A preparation that fails begins anew: until
//! it is marked, nobody uses the shard.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _, pin_mut};
use tokio::sync::watch;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::{
    core::{
        distribute::{Copies, Facts, FactsError, ShardDdl},
        plan::Refusal,
    },
    housekeeping::group_number,
    own_session::{OwnSession, OwnSessionError},
};
use crate::{
    host::secret::Secret,
    model::{ids::GroupId, topology::Topology},
};

/// Between two looks for new shards: `create_distributed_table` may be waiting for one.
const PERIOD: Duration = Duration::from_millis(500);

const UNREADY: &str = "SELECT name FROM howdah.node WHERE NOT ready AND number > 0 ORDER BY number";

/// Why a shard could not be prepared; the next round tries again.
#[derive(Debug, thiserror::Error)]
enum PrepareError {
    #[error("the topology has no query group")]
    NoQueryGroup,
    #[error(transparent)]
    Session(#[from] OwnSessionError),
    #[error("a statement failed")]
    Statement(#[from] tokio_postgres::Error),
    #[error(transparent)]
    Facts(#[from] FactsError),
    #[error("{}", .0.message)]
    Refused(Refusal),
}

/// Runs until cancelled.
pub async fn run(topology: watch::Receiver<Arc<Topology>>, secret: Secret, cancel: CancellationToken) {
    let mut last = None;
    while cancel.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
        let now = topology.borrow().clone();
        let Some(result) = cancel.run_until_cancelled(round(&now, &secret, &mut last)).await else { return };
        if let Err(error) = result {
            tracing::debug!(error = &error as &dyn std::error::Error, "no shard prepared");
            last = None;
        }
    }
}

/// Prepares what is not ready. `session` is kept from round to round.
async fn round(
    topology: &Arc<Topology>,
    secret: &Secret,
    session: &mut Option<OwnSession>,
) -> Result<(), PrepareError> {
    let query = topology.query_group().ok_or(PrepareError::NoQueryGroup)?.id.clone();
    if !session.as_ref().is_some_and(|session| session.is_current(topology, &query)) {
        *session = Some(OwnSession::connect(topology, &query, secret).await?);
    }
    let Some(own) = session else { return Ok(()) };
    for row in own.client.query(UNREADY, &[]).await? {
        let Ok(shard) = row.get::<_, &str>(0).parse::<GroupId>() else { continue };
        let shard_session = OwnSession::connect(topology, &shard, secret).await?;
        own.client.batch_execute("BEGIN").await?;
        match prepare(&own.client, &shard_session.client, &shard).await {
            Ok(()) => own.client.batch_execute("COMMIT").await?,
            Err(error) => {
                own.client.batch_execute("ROLLBACK").await?;
                tracing::warn!(%shard, error = &error as &dyn std::error::Error, "a shard is not ready yet");
            }
        }
    }
    Ok(())
}

async fn prepare(query: &Client, shard: &Client, name: &GroupId) -> Result<(), PrepareError> {
    query.batch_execute("SELECT FROM howdah.version FOR UPDATE; SET LOCAL search_path = pg_catalog").await?;
    // Another router may have been quicker while we waited.
    let ready = query.query("SELECT FROM howdah.node WHERE name = $1 AND ready", &[&name.as_str()]).await?;
    if !ready.is_empty() {
        return Ok(());
    }
    shard.batch_execute("BEGIN; SET LOCAL search_path = pg_catalog; SET LOCAL check_function_bodies = off").await?;
    for row in query.query(include_str!("prepare.sql"), &[]).await? {
        shard.batch_execute(row.get(0)).await?;
    }
    let tables = query.query("SELECT relation::oid FROM howdah.tables WHERE kind = 'reference'", &[]).await?;
    let (mut keys, mut foreign) = (Vec::new(), Vec::new());
    for row in tables {
        let facts = query.query_one(&Facts::sql(row.get(0)), &[]).await?;
        let facts = Facts::read(&facts.get::<_, serde_json::Value>(0).to_string())?;
        let after = copy_table(query, shard, &facts, name).await?;
        let (theirs, others) = after.into_iter().partition(|statement| statement.contains(" FOREIGN KEY "));
        foreign.extend::<Vec<String>>(theirs);
        keys.extend::<Vec<String>>(others);
    }
    // Foreign keys need the keys of tables that may come later.
    keys.append(&mut foreign);
    shard.batch_execute(&keys.join(";\n")).await?;
    shard.batch_execute("COMMIT").await?;
    query.execute("UPDATE howdah.node SET ready = true WHERE name = $1", &[&name.as_str()]).await?;
    query.batch_execute("SELECT howdah.changed()").await?;
    tracing::info!(shard = %name, "a new shard has everything that is propagated");
    Ok(())
}

/// One reference table's rows. Answers what is to be built over them.
async fn copy_table(
    query: &Client,
    shard: &Client,
    facts: &Facts,
    name: &GroupId,
) -> Result<Vec<String>, PrepareError> {
    query.batch_execute(&format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", facts.quoted)).await?;
    let ddl = ShardDdl::new(facts, Copies::Reference, group_number(name)).map_err(PrepareError::Refused)?;
    // An attempt that failed half-way leaves nothing, but an undone shard may have been another's.
    shard.batch_execute(&format!("DROP TABLE IF EXISTS {} CASCADE", facts.quoted)).await?;
    shard.batch_execute(&ddl.before.join(";\n")).await?;
    let columns = facts.copied_columns().join(", ");
    let options = if facts.copies_in_binary() { "(FORMAT binary)" } else { "(FORMAT text)" };
    let rows =
        query.copy_out(&format!("COPY (SELECT {columns} FROM ONLY {}) TO STDOUT {options}", facts.quoted)).await?;
    let copy =
        shard.copy_in::<_, bytes::Bytes>(&format!("COPY {} ({columns}) FROM STDIN {options}", facts.quoted)).await?;
    pin_mut!(rows, copy);
    while let Some(data) = rows.next().await {
        copy.send(data?).await?;
    }
    copy.finish().await?;
    Ok(ddl.after)
}
