//! Loads the catalog of distributed tables from the query group and keeps it fresh: after every change
//! that a router announces by `NOTIFY`, and whenever a session asks. Called by the router's `run`;
//! sessions hold a [`CatalogHandle`].

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::{
    core::{
        catalog::{Catalog, Column, Distribution, Fill, Table, TableKind, TableName},
        hash::KeyType,
    },
    own_session::{OwnSession, OwnSessionError},
};
use crate::{
    host::{backoff::Backoff, secret::Secret},
    model::{ids::ColocationId, schema::CATALOG_CHANNEL, topology::Topology},
};

/// Sessions that wait for a fresh catalog at once; one load serves all of them.
const REQUESTS: usize = 1024;

/// Longest wait of a session for a fresh catalog: a load takes milliseconds, a failover within the
/// default `failover_wait`.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(15);

/// Pauses after a failure: the query group may be changing its primary.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LIMIT: Duration = Duration::from_secs(1);

/// A catalog and its number.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// `howdah.version`; 0 before the first load. Plans of another number are void.
    pub version: i64,
    /// What the planner reads.
    pub catalog: Arc<Catalog>,
}

/// How sessions see the catalog.
#[derive(Clone)]
pub struct CatalogHandle {
    current: watch::Receiver<Loaded>,
    requests: mpsc::Sender<oneshot::Sender<()>>,
}

/// The query group could not be read in time.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the catalog could not be loaded from the query group in time")]
pub struct RefreshFailed;

impl CatalogHandle {
    /// The catalog now.
    pub fn current(&self) -> Loaded {
        self.current.borrow().clone()
    }

    /// For those who look at it often.
    pub fn watch(&self) -> watch::Receiver<Loaded> {
        self.current.clone()
    }

    /// The catalog as the query group has it at some moment after this call.
    pub async fn refresh(&self) -> Result<Loaded, RefreshFailed> {
        let (done, loaded) = oneshot::channel();
        let wait = async {
            self.requests.send(done).await.map_err(|_| RefreshFailed)?;
            loaded.await.map_err(|_| RefreshFailed)
        };
        tokio::time::timeout(REFRESH_TIMEOUT, wait).await.map_err(|_| RefreshFailed)??;
        Ok(self.current())
    }
}

/// Why a load failed.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("the topology has no query group")]
    NoQueryGroup,
    #[error(transparent)]
    Session(#[from] OwnSessionError),
    #[error("cannot read the catalog")]
    Statement(#[from] tokio_postgres::Error),
    #[error("the catalog is not what this router expects")]
    Shape(#[from] serde_json::Error),
    #[error("the session with the query group ended")]
    Ended,
}

/// The handle, and the loop that serves it until cancelled.
pub fn start(
    topology: watch::Receiver<Arc<Topology>>,
    secret: Secret,
    cancel: CancellationToken,
) -> (CatalogHandle, impl Future<Output = ()> + Send) {
    let (publish, current) = watch::channel(Loaded::default());
    let (requests, asked) = mpsc::channel(REQUESTS);
    let loader = Loader { topology, secret, publish, asked };
    (CatalogHandle { current, requests }, loader.run(cancel))
}

struct Loader {
    topology: watch::Receiver<Arc<Topology>>,
    secret: Secret,
    publish: watch::Sender<Loaded>,
    asked: mpsc::Receiver<oneshot::Sender<()>>,
}

impl Loader {
    async fn run(mut self, cancel: CancellationToken) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LIMIT);
        loop {
            let Some(Err(error)) = cancel.run_until_cancelled(self.serve(&mut backoff)).await else { return };
            tracing::debug!(%error, "catalog not loaded");
            if cancel.run_until_cancelled(tokio::time::sleep(backoff.step())).await.is_none() {
                return;
            }
        }
    }

    /// One session with the query group's primary, for as long as it is that.
    async fn serve(&mut self, backoff: &mut Backoff) -> Result<std::convert::Infallible, LoadError> {
        let topology = self.topology.borrow_and_update().clone();
        let query = topology.query_group().ok_or(LoadError::NoQueryGroup)?.id.clone();
        let mut session = OwnSession::connect(&topology, &query, &self.secret).await?;
        session.client.batch_execute(&format!("LISTEN {CATALOG_CHANNEL}")).await?;
        let mut waiting = Vec::new();
        loop {
            // Whoever has asked by now is served by the load that begins now.
            while let Ok(request) = self.asked.try_recv() {
                waiting.push(request);
            }
            self.publish.send_replace(load(&session.client).await?);
            backoff.reset();
            for request in waiting.drain(..) {
                // A session that has gone needs no answer.
                let _ = request.send(());
            }
            loop {
                tokio::select! {
                    heard = session.notifications.recv() => {
                        heard.ok_or(LoadError::Ended)?;
                        break;
                    }
                    Some(request) = self.asked.recv() => {
                        waiting.push(request);
                        break;
                    }
                    Ok(()) = self.topology.changed() => {
                        if !session.is_current(&self.topology.borrow_and_update(), &query) {
                            return Err(LoadError::Ended);
                        }
                    }
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct Raw {
    tables: Vec<RawTable>,
    namesakes: Vec<RawName>,
    functions: Vec<String>,
    operators: Vec<String>,
}

#[derive(Deserialize)]
struct RawName {
    schema: String,
    name: String,
}

#[derive(Deserialize)]
struct RawTable {
    schema: String,
    name: String,
    kind: String,
    key: Option<String>,
    colocation: u32,
    buckets: u32,
    statement_triggers: bool,
    indexes: Vec<String>,
    columns: Vec<RawColumn>,
}

#[derive(Deserialize)]
struct RawColumn {
    name: String,
    type_oid: u32,
    type_name: String,
    collation: Option<String>,
    not_null: bool,
    declared_type: Option<String>,
    fill: RawFill,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFill {
    Null,
    Constant,
    Default,
    Identity,
    Generated,
}

/// Asks the query group: one row of version and JSON.
pub(super) const CATALOG: &str = include_str!("catalog.sql");

async fn load(client: &Client) -> Result<Loaded, LoadError> {
    let row = client.query_one(CATALOG, &[]).await?;
    Ok(read_catalog(row.get(0), row.get(1))?)
}

/// Reads the answer to [`CATALOG`].
pub(super) fn read_catalog(version: i64, json: &str) -> Result<Loaded, serde_json::Error> {
    let raw: Raw = serde_json::from_str(json)?;
    let catalog = Catalog::new(
        raw.tables.into_iter().filter_map(table),
        raw.namesakes.into_iter().map(|raw| TableName { schema: raw.schema, name: raw.name }),
        raw.functions,
        raw.operators,
    );
    Ok(Loaded { version, catalog: Arc::new(catalog) })
}

/// `None`, logged: a distributed table whose key is of no type we know cannot have been made by us.
fn table(raw: RawTable) -> Option<Table> {
    let columns: Vec<Column> = raw.columns.into_iter().map(column).collect();
    let kind = if raw.kind == "reference" {
        TableKind::Reference
    } else {
        let key = columns.iter().position(|column| Some(&column.name) == raw.key.as_ref());
        let key_type = key.and_then(|key| KeyType::from_oid(columns[key].type_oid));
        let (Some(key), Some(key_type)) = (key, key_type) else {
            tracing::error!(schema = raw.schema, table = raw.name, "a distributed table without a usable key");
            return None;
        };
        let (colocation, bucket_count) = (ColocationId(raw.colocation), raw.buckets);
        TableKind::Distributed(Distribution { key, key_type, colocation, bucket_count })
    };
    Some(Table {
        name: TableName { schema: raw.schema, name: raw.name },
        kind,
        columns,
        indexes: raw.indexes.into_iter().collect(),
        statement_triggers: raw.statement_triggers,
    })
}

fn column(raw: RawColumn) -> Column {
    Column {
        name: raw.name,
        type_oid: raw.type_oid,
        type_name: raw.type_name,
        collation: raw.collation,
        not_null: raw.not_null,
        declared_type: raw.declared_type,
        fill: match raw.fill {
            RawFill::Null => Fill::Null,
            RawFill::Constant => Fill::Constant,
            RawFill::Default => Fill::Default,
            RawFill::Identity => Fill::Identity,
            RawFill::Generated => Fill::Generated,
        },
    }
}
