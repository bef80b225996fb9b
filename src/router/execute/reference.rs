//! Writes to reference tables: the query group first, then every shard that holds copies, in one
//! transaction. The order is everybody's, so two writers meet at the query group and never in a circle.
//! Called by [`super::run`].

use std::time::Duration;

use super::{
    Ask, ask, complete,
    error::ExecError,
    scatter::{Output, pass},
};
use crate::{
    model::ids::GroupId,
    router::{
        core::{
            catalog::{Catalog, TableName},
            error::UserError,
            plan::ReferenceWrite,
            request::Request,
        },
        session::Session,
    },
};

/// Shards that hold copies of reference tables and all that DDL propagates. To be asked on the query
/// group *after* the lock that a shard's preparation conflicts with has been taken: then the answer
/// stays true until the end of the transaction.
const READY: &str = "SELECT name FROM howdah.node WHERE ready AND number > 0 ORDER BY name";

/// Without it the guard of reference tables refuses every write: it might be on this copy alone.
pub const ANNOUNCE: &str = "SET LOCAL howdah.writes_every_copy = on";

/// Longest wait for a new shard: its preparation copies all reference tables.
const READY_WAIT: Duration = Duration::from_secs(30);

/// Between two looks whether it is ready.
const READY_POLL: Duration = Duration::from_millis(100);

/// Runs a write on every copy.
pub async fn write(
    session: &mut Session,
    plan: &ReferenceWrite,
    ask: &Ask,
    catalog: &Catalog,
) -> Result<(), ExecError> {
    if plan.uneven_default {
        let error = UserError::error("0A000", "a reference table cannot draw its values from a sequence in each copy");
        return Err(error.hint("Give the column's value in the statement.").into());
    }
    session.open_block();
    let query = session.query_group()?;
    super::join_all(session, std::slice::from_ref(&query), true).await?;
    announce(session, &query, catalog).await?;
    let mut sql = String::new();
    plan.text.render(None, &mut sql);
    let first = Request::new(sql.clone(), &plan.text.params, &ask.params, &ask.formats);
    let count = pass(session, vec![(query.clone(), first)], ask, catalog, &mut Output::Client { only: None }).await?;
    let shards = ready_shards(session, catalog).await?;
    super::join_all(session, &shards, true).await?;
    let silent = Ask { params: Vec::new(), formats: Vec::new(), describe: false };
    let again = Request::new(sql, &plan.text.params, &ask.params, &[]);
    let requests = shards.into_iter().map(|shard| (shard, again.clone())).collect();
    // Rows are the query group's alone: no shard is named by it.
    pass(session, requests, &silent, catalog, &mut Output::Client { only: Some(query) }).await?;
    complete(session, plan.command, count);
    Ok(())
}

/// Tells the guard of reference tables that this write goes to every copy.
async fn announce(session: &mut Session, query: &GroupId, catalog: &Catalog) -> Result<(), ExecError> {
    let server = super::server(&mut session.participants, query);
    ask::one(server, ANNOUNCE).await.map(drop).map_err(|error| ExecError::call(query, error, catalog))
}

/// The shards with copies; see [`READY`]. The query group must have joined.
pub async fn ready_shards(session: &mut Session, catalog: &Catalog) -> Result<Vec<GroupId>, ExecError> {
    let query = session.query_group()?;
    let server = super::server(&mut session.participants, &query);
    let answer = ask::one(server, READY).await.map_err(|error| ExecError::call(&query, error, catalog))?;
    let names = answer.rows.into_iter().flatten().flatten();
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

/// Every group that a COPY into a reference table goes to. Locks the table, as the COPY will.
pub async fn copies(session: &mut Session, table: &TableName, catalog: &Catalog) -> Result<Vec<GroupId>, ExecError> {
    session.open_block();
    let query = session.query_group()?;
    super::join_all(session, std::slice::from_ref(&query), true).await?;
    announce(session, &query, catalog).await?;
    let lock = format!("LOCK TABLE {table} IN ROW EXCLUSIVE MODE");
    let server = super::server(&mut session.participants, &query);
    ask::one(server, &lock).await.map_err(|error| ExecError::call(&query, error, catalog))?;
    let mut groups = ready_shards(session, catalog).await?;
    groups.push(query);
    Ok(groups)
}

/// Waits until shards have everything that is propagated: a new one gets it within a second or two.
/// Asks outside the session's snapshot, which might be older.
pub async fn wait_until_ready(session: &mut Session, shards: &[GroupId], catalog: &Catalog) -> Result<(), ExecError> {
    let wait = async {
        loop {
            let ready = ready_shards(session, catalog).await?;
            if shards.iter().all(|shard| ready.contains(shard)) {
                return Ok(());
            }
            tokio::time::sleep(READY_POLL).await;
        }
    };
    tokio::time::timeout(READY_WAIT, wait).await.unwrap_or_else(|_| {
        let error = UserError::error("57P03", "a new shard has not been prepared yet");
        Err(error.hint("Try again; if that does not help, see the routers' logs.").into())
    })
}
