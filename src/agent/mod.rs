//! The agent: one per `PostgreSQL` container. Observes its `PostgreSQL`, reports, and does what the
//! coordinators order; decides nothing about who is primary. Called by `main`.
//!
//! ```text
//! coordinator_client → goals → runner ─ core::decide ─► actions → postgres/
//!        ▲                        │
//!        └──────── reports ◄──────┘        router_child, http, reap beside it
//! ```

mod coordinator_client;
pub mod core;
mod http;
pub mod memory;
pub mod postgres;
mod reap;
mod router_child;
mod runner;

use std::{io, sync::Arc};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    config::AgentConfig,
    host::{
        clock::Clock,
        entropy,
        http::{ListenError, listen, routes, serve},
    },
    model::observed::Registration,
};

use coordinator_client::{Contact, Line};
use memory::{OpenError, Store};
use postgres::{ActionError, Server, ServerError};
use runner::{Links, Runner};

/// Goals on their way to the runner: it takes each at once.
const ORDERS: usize = 16;

/// Why an agent ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The directory is not to be used.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// No `PostgreSQL` to work with.
    #[error(transparent)]
    Postgres(#[from] ServerError),
    /// What is in the data directory cannot be read.
    #[error("the data directory cannot be read: {0}")]
    Data(#[from] ActionError),
    /// An address is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A promise could not be made durable: going on could break it.
    #[error("the agent's memory (agent.json) cannot be written: {0}; free or repair its disk and start again")]
    Memory(io::Error),
}

/// Runs an agent until `stop`.
pub async fn run(mut config: AgentConfig, stop: CancellationToken) -> Result<(), RunError> {
    let store = Store::open(&config.data_dir, &config.cluster, &config.container.id)?;
    config.container.birth = store.memory().birth;
    let server = Arc::new(Server::open(&config).await?);
    let listener = listen(config.http, "health and metrics").await?;
    let clock = Clock::start();
    let incarnation = entropy::number();
    let (orders_in, orders) = mpsc::channel(ORDERS);
    let (contact_in, contact) = watch::channel(Contact { any: clock.now(), leader: clock.now() });
    let (reports, newest) = watch::channel(None);
    let (router_pid, router) = watch::channel(None);
    let (coordinators_in, coordinators) = watch::channel(store.memory().coordinators.clone());

    tokio::spawn(serve(listener, routes(Arc::new(http::AgentProbes::new(newest.clone()))), stop.clone()));
    if std::process::id() == 1 {
        tokio::spawn(reap::orphans());
    }
    let supervised = config
        .router
        .clone()
        .map(|it| tokio::spawn(router_child::supervise(it, coordinators.clone(), router_pid, stop.clone())));
    let registration =
        Registration { cluster: config.cluster.clone(), container: config.container.clone(), incarnation };
    let line = Line {
        configured: config.coordinators.clone(),
        coordinators: coordinators_in,
        registration,
        reports: newest,
        orders: orders_in,
        contact: contact_in,
        clock,
    };
    let line = tokio::spawn(line.keep());

    let links = Links { orders, contact, reports, router, coordinators };
    let runner = Runner::new(config, server, store, clock, incarnation, links).await?;
    let ended = runner.run(stop.clone()).await.map_err(RunError::Memory);
    line.abort();
    if let (Some(supervised), true) = (supervised, stop.is_cancelled())
        && let Err(error) = supervised.await
    {
        tracing::warn!(%error, "the router's supervision ended badly");
    }
    ended
}
