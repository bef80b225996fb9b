//! The router: speaks the PostgreSQL protocol, plans statements, runs them on shards, merges, and
//! commits. `core` is its pure part. Called by `main`.
//!
//! ```text
//! accept → worker thread (one of n) → session ─ its server connections, out of the thread's pools
//! coordinators → topology_watch → every worker            query group → catalog_load → every worker
//! ```

mod cancel;
pub mod catalog_load;
pub mod core;
pub mod execute;
mod health;
mod housekeeping;
mod listener;
mod own_session;
pub mod pool;
pub mod prepare;
pub mod resolver;
pub mod session;
mod texts;
pub mod topology_watch;
mod verifiers;
pub mod worker;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize},
    },
};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::{core::session_number::Numbering, health::Health, worker::Shared};
use crate::{
    config::RouterConfig,
    host::{clock::Clock, entropy, http, http::ListenError},
    model::topology::Topology,
};

/// Why a router ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A thread or its runtime cannot be made.
    #[error("cannot start a worker thread; look at the limits on threads and open files")]
    Worker(#[source] io::Error),
}

/// Runs a router until cancelled.
pub async fn run(config: RouterConfig, cancel: CancellationToken) -> Result<(), RunError> {
    let (send, topology) = watch::channel(Arc::new(topology_watch::nothing_known(config.cluster.clone())));
    let send = Arc::new(send);
    let coordinators = config.coordinators.clone();
    let cancel = cancel.child_token();
    let _end = cancel.clone().drop_guard();
    let running = start(config, topology, cancel.clone()).await?;
    tokio::spawn(topology_watch::watch_all(coordinators, running.shared.clone(), send, cancel.clone()));
    running.wait(&cancel).await;
    Ok(())
}

/// A router at work.
pub struct Running {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Starts a router that works by the topologies it is given.
pub async fn start(
    config: RouterConfig,
    topology: watch::Receiver<Arc<Topology>>,
    cancel: CancellationToken,
) -> Result<Running, RunError> {
    let sql = http::listen(config.listen, "SQL clients").await?;
    let read_only = match config.read_only_listen {
        Some(address) => Some(http::listen(address, "read-only SQL clients").await?),
        None => None,
    };
    let pages = match config.http {
        Some(address) => Some(http::listen(address, "health and metrics").await?),
        None => None,
    };
    let (catalog, load) = catalog_load::start(topology.clone(), config.secret.clone(), cancel.clone());
    tokio::spawn(load);
    tokio::spawn(resolver::run(topology.clone(), config.secret.clone(), Clock::start(), cancel.clone()));
    tokio::spawn(prepare::run(topology.clone(), config.secret.clone(), cancel.clone()));
    let workers = config.workers.max(1);
    let (doors, jobs): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(listener::DOOR)).unzip();
    let shared = Arc::new(Shared {
        counters: Arc::default(),
        catalog,
        topology,
        mock_secret: entropy::bytes(),
        numbering: Numbering::new(&config.name, workers),
        routers: Mutex::default(),
        passing_on: Semaphore::new(cancel::PASSING_ON),
        doors,
        loads: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
        revisions: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        statements: (0..workers).map(|_| Default::default()).collect(),
        config,
    });
    let mut threads = Vec::with_capacity(workers);
    for (index, jobs) in jobs.into_iter().enumerate() {
        threads.push(listener::start_worker(index, shared.clone(), jobs, cancel.clone()).map_err(RunError::Worker)?);
    }
    tokio::spawn(listener::accept(sql, shared.clone(), false, cancel.clone()));
    if let Some(listener) = read_only {
        tokio::spawn(listener::accept(listener, shared.clone(), true, cancel.clone()));
    }
    if let Some(listener) = pages {
        tokio::spawn(http::serve(listener, http::routes(Arc::new(Health(shared.clone()))), cancel));
    }
    Ok(Running { shared, threads })
}

impl Running {
    /// Waits for the end, and for the worker threads.
    pub async fn wait(self, cancel: &CancellationToken) {
        cancel.cancelled().await;
        let join = || self.threads.into_iter().for_each(|thread| drop(thread.join()));
        // The threads end at once; whoever waits here must not block the runtime.
        let _ = tokio::task::spawn_blocking(join).await;
    }
}
