//! The coordinator: agrees with its peers on who does what. `core` decides, the rest acts: `driver` is
//! the loop, the services and `peers` talk to it through `inbox`. Called by `main`.

pub mod core;

mod admin_service;
mod agent_service;
mod data_dir;
mod driver;
mod grpc_service;
mod http;
mod inbox;
mod leader;
mod log_store;
mod peers;
mod raft_log;
mod topology_service;

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::core::replica::{Committed, Replica, Tuning};
use crate::{
    config::CoordinatorConfig,
    host::{
        entropy,
        http::{ListenError, listen, routes, serve},
    },
    model::{ids::CoordinatorId, numbers::Revision},
};
use data_dir::{DataDir, Identity};
use driver::{Driver, DriverError};
use grpc_service::ServeError;
use inbox::{Handle, Input};
use leader::{InvalidUrl, Leader};
use log_store::{LogStore, OpenError};
use peers::Peers;

/// Layout of the data directory.
const FORMAT: u32 = 1;
/// How long open calls may go on after a stop; streams end by themselves when the driver has gone.
const GRACE: Duration = Duration::from_secs(1);

/// Why a coordinator did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The list of coordinators lacks this one.
    #[error("{me} is not in the list of coordinators ({listed}); add it, or correct its number")]
    NotListed {
        /// Its number.
        me: CoordinatorId,
        /// Who is listed.
        listed: String,
    },
    /// A peer's address.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// An address is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The data directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The loop ended.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A broken invariant: the log says which.
    #[error("the coordinator's loop ended by a panic; see the log, and start it again")]
    Panic,
    /// The gRPC server ended.
    #[error(transparent)]
    Grpc(#[from] ServeError),
    /// The HTTP server ended.
    #[error("the HTTP server ended: {0}")]
    Http(#[from] io::Error),
}

/// Runs a coordinator until `shutdown`, or until it cannot go on.
pub async fn run(config: CoordinatorConfig, shutdown: CancellationToken) -> Result<(), RunError> {
    let urls: BTreeMap<CoordinatorId, String> = config.peers.iter().cloned().collect();
    let voters: Vec<CoordinatorId> = urls.keys().copied().collect();
    if !urls.contains_key(&config.id) {
        let listed = voters.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(RunError::NotListed { me: config.id, listed });
    }
    let channels = leader::channels(config.id, &urls)?;
    let grpc = listen(config.listen, "gRPC").await?;
    let http = listen(config.http, "health and metrics").await?;
    let identity =
        Identity { format: FORMAT, cluster: config.cluster.clone(), coordinator: config.id, voters: voters.clone() };
    let directory = DataDir::take(&config.data_dir, identity).map_err(OpenError::from)?;
    let (store, saved) = LogStore::open(directory)?;
    tracing::info!(coordinator = %config.id, cluster = %config.cluster, grpc = %config.listen, http = %config.http,
        entries = saved.entries.len(), "coordinator starts");
    let index = saved.snapshot.get_metadata().index;
    let snapshot = (index > 0).then(|| Committed { revision: Revision(index), data: saved.snapshot.data.clone() });
    let replica = Replica::new(config.id, &voters, saved, Tuning::default(), &raft_log::logger());
    let replica = replica.map_err(DriverError::from)?;
    let (handle, outlets) = inbox::open();
    // Ends what depends on the driver, whichever way the driver ends.
    let stopped = CancellationToken::new();
    let _stops = stopped.clone().drop_guard();
    let peers = Peers::start(&config.cluster, &channels, &handle, &stopped);
    let identity = driver::Identity {
        me: config.id,
        coordinators: urls.clone(),
        cluster: config.cluster.clone(),
        policy: config.policy.clone(),
        origin: entropy::number(),
    };
    let (driver, inbox) = Driver::new(identity, replica, store, snapshot, peers, outlets)?;
    let mut driving = tokio::task::spawn_blocking(move || driver.run(&inbox));
    let leader = Leader { handle: handle.clone(), urls, channels };
    let mut serving = tokio::spawn(grpc_service::serve(config, grpc, leader, stopped.clone()));
    let health = Arc::new(http::Health { vitals: handle.vitals.clone() });
    let mut pages = tokio::spawn(serve(http, routes(health), stopped.clone()));
    tokio::select! {
        () = shutdown.cancelled() => {}
        ended = &mut driving => return ended.map_err(|_| RunError::Panic)?.map_err(RunError::from),
        ended = &mut serving => return ended.map_err(|_| RunError::Panic)?.map_err(RunError::from),
        ended = &mut pages => return ended.map_err(|_| RunError::Panic)?.map_err(RunError::from),
    }
    stop(&handle).await;
    let ended = driving.await.map_err(|_| RunError::Panic)?;
    stopped.cancel();
    // Whoever is still connected after the grace is cut off by the end of the process.
    let _ = timeout(GRACE, serving).await;
    Ok(ended?)
}

/// Tells the driver to stop; its inbox may be full for a moment.
async fn stop(handle: &Handle) {
    const AGAIN: Duration = Duration::from_millis(10);
    while !handle.tell(Input::Stop) && handle.leadership.has_changed().is_ok() {
        tokio::time::sleep(AGAIN).await;
    }
}
