//! The coordinator: agrees with its peers on who does what. `core` decides, the rest acts: `driver` is
//! the loop, the services and `peers` talk to it through `inbox`. Called by `main`.

pub mod core;

mod admin_service;
mod admission;
mod agent_service;
mod data_dir;
mod driver;
mod grpc_service;
mod http;
mod inbox;
mod leader;
mod log_store;
mod membership_service;
mod peers;
mod raft_log;
mod roster;
mod topology_service;

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use self::core::replica::{Committed, Replica, Tuning};
use crate::{
    config::CoordinatorConfig,
    host::{
        entropy,
        http::{ListenError, listen, routes, serve},
    },
    model::{
        coordinator::{Coordinator, CoordinatorRole, UNNUMBERED},
        ids::CoordinatorId,
        numbers::Revision,
    },
};
use admission::Standing;
use data_dir::{DataDir, DataDirError, Identity, Origin, Wanted};
use driver::{Driver, DriverError};
use grpc_service::ServeError;
use inbox::{Handle, Input, Outlets};
use log_store::{LogStore, OpenError};
use peers::{Outgoing, Peers};

/// How long open calls may go on after a stop; streams end by themselves when the driver has gone.
const GRACE: Duration = Duration::from_secs(1);

/// Why a coordinator did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] DataDirError),
    /// What is in it.
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
    let grpc = listen(config.listen, "gRPC").await?;
    let http = listen(config.http, "health and metrics").await?;
    let wanted = Wanted { cluster: config.cluster.clone(), founder: config.id, url: config.url.clone() };
    let (directory, identity) = DataDir::take(&config.data_dir, &wanted)?;
    let (handle, outlets) = inbox::open();
    let (standing_in, standing) = watch::channel(Standing::Joining);
    // Ends what depends on the driver, whichever way the driver ends.
    let stopped = CancellationToken::new();
    let _stops = stopped.clone().drop_guard();
    // Others must be able to ask us before we are one of them.
    let services = grpc_service::Services { cluster: config.cluster.clone(), handle: handle.clone(), standing };
    let mut serving = tokio::spawn(grpc_service::serve(services, grpc, stopped.clone()));
    let health = Arc::new(http::Health { vitals: handle.vitals.clone() });
    let mut pages = tokio::spawn(serve(http, routes(health), stopped.clone()));
    let identity = if let Some(identity) = identity {
        identity
    } else {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            admitted = admission::admit(&config, &directory, &standing_in) => admitted?,
        }
    };
    standing_in.send_replace(Standing::Member(Box::new(identity.clone())));
    let mut driving = start(&config, identity, directory, &handle, outlets, &stopped)?;
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

/// Opens the log and starts the loop.
fn start(
    config: &CoordinatorConfig,
    identity: Identity,
    directory: DataDir,
    handle: &Handle,
    outlets: Outlets,
    stopped: &CancellationToken,
) -> Result<JoinHandle<Result<(), DriverError>>, RunError> {
    let (store, saved) = LogStore::open(directory)?;
    tracing::info!(coordinator = %identity.coordinator, cluster = %config.cluster, grpc = %config.listen,
        http = %config.http, entries = saved.entries.len(), "coordinator starts");
    let index = saved.snapshot.get_metadata().index;
    let snapshot = (index > 0).then(|| Committed { revision: Revision(index), data: saved.snapshot.data.clone() });
    let founders = founders(&identity.origin, config);
    let voters: Vec<CoordinatorId> = founders.keys().copied().collect();
    let replica = Replica::new(identity.coordinator, &voters, saved, Tuning::default(), &raft_log::logger())
        .map_err(DriverError::from)?;
    let outgoing = Outgoing { cluster: config.cluster.clone(), url: config.url.clone(), handle: handle.clone() };
    let peers = Peers::new(outgoing, stopped.clone());
    let known = match identity.origin {
        Origin::Joined { coordinators, .. } => coordinators,
        Origin::Founders(_) | Origin::Voters(_) => {
            founders.iter().map(|(id, founder)| (*id, founder.url.clone())).collect()
        }
    };
    let identity = driver::Identity {
        me: identity.coordinator,
        known,
        founders,
        cluster: config.cluster.clone(),
        policy: config.policy.clone(),
        origin: entropy::number(),
    };
    let (driver, inbox) = Driver::new(identity, replica, store, snapshot, peers, outlets)?;
    Ok(tokio::task::spawn_blocking(move || driver.run(&inbox)))
}

/// The coordinators that a cluster begins with, where this is one of them.
fn founders(origin: &Origin, config: &CoordinatorConfig) -> BTreeMap<CoordinatorId, Coordinator> {
    let voter = |url: &String, directory| Coordinator {
        url: url.clone(),
        role: CoordinatorRole::Voter,
        directory: Some(directory),
    };
    match origin {
        Origin::Founders(founders) => founders.iter().map(|(id, it)| (*id, voter(&it.url, it.directory))).collect(),
        Origin::Voters(voters) => {
            let listed = config.peers.iter().filter(|(id, _)| voters.contains(id));
            listed.map(|(id, url)| (*id, voter(url, UNNUMBERED))).collect()
        }
        Origin::Joined { .. } => BTreeMap::new(),
    }
}

/// Tells the driver to stop; its inbox may be full for a moment.
async fn stop(handle: &Handle) {
    const AGAIN: Duration = Duration::from_millis(10);
    while !handle.tell(Input::Stop) && handle.leadership.has_changed().is_ok() {
        tokio::time::sleep(AGAIN).await;
    }
}
