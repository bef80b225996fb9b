//! Watches every coordinator at once: reports go out several times a second, topologies come in, the
//! newest revision wins. Without any coordinator the last topology stays in force. Called by the
//! router's `run`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};
use tonic::transport::{Channel, Endpoint};

use super::worker::Shared;
use crate::{
    host::{backoff::Backoff, clock::Clock},
    model::{
        ids::ClusterName,
        numbers::{Millis, Revision},
        observed::{RouterAddress, RouterReport},
        policy::Policy,
        topology::{Access, GroupView, Topology},
    },
    wire::{
        InvalidMessage,
        pb::topology::{self as pb, topology_service_client::TopologyServiceClient},
    },
};

/// Between reports; a report is some 100 bytes.
const REPORT_EVERY: Millis = Millis(200);
/// While a group drains its switchover waits to hear that nothing is in progress any more, and clients wait
/// for the switchover: looked at this often, told when it has changed.
const DRAIN_LOOK: Millis = Millis(3);
/// Reports on their way: on a slow line later ones say more.
const REPORTS: usize = 2;
/// HTTP/2 pings: a coordinator that is silent this long is connected to anew.
const PING_EVERY: Duration = Duration::from_millis(500);
const PING_ANSWER: Duration = Duration::from_secs(2);
/// Longest wait for a coordinator to accept.
const CONNECT: Duration = Duration::from_secs(2);
/// Pauses after a failure; there are other coordinators meanwhile.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LIMIT: Duration = Duration::from_secs(1);

/// Why a watch ended; it begins anew.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("bad address")]
    Transport(#[from] tonic::transport::Error),
    #[error("the call failed")]
    Status(#[from] tonic::Status),
    #[error("a topology that cannot be read")]
    Message(#[from] InvalidMessage),
    #[error("the coordinator belongs to cluster {0}")]
    OtherCluster(ClusterName),
    #[error("the coordinator ended the watch")]
    Ended,
}

/// What is known before the first topology: nothing may begin.
pub fn nothing_known(cluster: ClusterName) -> Topology {
    let policy = Policy::default();
    Topology {
        revision: Revision(0),
        cluster,
        groups: std::collections::BTreeMap::new(),
        colocations: std::collections::BTreeMap::new(),
        failover_wait: policy.failover_wait,
        database: policy.database,
        bucket_count: policy.bucket_count,
    }
}

/// Watches every coordinator, those that one of them tells of as well, until cancelled. The ones that were
/// configured are watched as long as nobody says who is there.
pub async fn watch_all(
    configured: Vec<String>,
    shared: Arc<Shared>,
    topology: Arc<watch::Sender<Arc<Topology>>>,
    cancel: CancellationToken,
) {
    let (told, mut news) = watch::channel(Vec::new());
    let told = Arc::new(told);
    let mut watched: BTreeMap<String, DropGuard> = BTreeMap::new();
    loop {
        let newest = news.borrow_and_update().clone();
        // One that is none any more is let go only for those that are.
        let wanted = if newest.is_empty() { configured.clone() } else { newest };
        watched.retain(|url, _| wanted.contains(url));
        for url in wanted {
            let begin = |url: &String| {
                let end = cancel.child_token();
                let watching = watch_one(url.clone(), shared.clone(), topology.clone(), told.clone(), end.clone());
                tokio::spawn(watching);
                end.drop_guard()
            };
            watched.entry(url).or_insert_with_key(begin);
        }
        if !matches!(cancel.run_until_cancelled(news.changed()).await, Some(Ok(()))) {
            return;
        }
    }
}

/// Watches one coordinator until cancelled.
async fn watch_one(
    url: String,
    shared: Arc<Shared>,
    topology: Arc<watch::Sender<Arc<Topology>>>,
    told: Arc<watch::Sender<Vec<String>>>,
    cancel: CancellationToken,
) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LIMIT);
    loop {
        let watched = watch_once(&url, &shared, &topology, &told, &mut backoff);
        let Some(Err(error)) = cancel.run_until_cancelled(watched).await else { return };
        tracing::debug!(coordinator = url, %error, "not watching");
        if cancel.run_until_cancelled(tokio::time::sleep(backoff.step())).await.is_none() {
            return;
        }
    }
}

async fn watch_once(
    url: &str,
    shared: &Arc<Shared>,
    topology: &watch::Sender<Arc<Topology>>,
    told: &watch::Sender<Vec<String>>,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, WatchError> {
    let mut client = TopologyServiceClient::new(connect(url).await?);
    let (sender, reports) = mpsc::channel(REPORTS);
    let _ends_with_the_watch = AbortOnDropHandle::new(tokio::spawn(tell(shared.clone(), sender)));
    let reports = ReceiverStream::new(reports);
    let mut topologies = client.watch(reports).await?.into_inner();
    while let Some(mut message) = topologies.message().await? {
        let coordinators = std::mem::take(&mut message.coordinators);
        let routers = message.routers.iter().cloned().map(RouterAddress::try_from).collect::<Result<Vec<_>, _>>()?;
        let newer = Topology::try_from(message)?;
        if newer.cluster != shared.config.cluster {
            return Err(WatchError::OtherCluster(newer.cluster));
        }
        backoff.reset();
        shared.routers.lock().expect("nobody panics while holding it").insert(url.to_owned(), routers);
        // A coordinator that is behind may tell of older ones for a moment; a newer topology corrects it.
        if !coordinators.is_empty() && newer.revision >= topology.borrow().revision {
            told.send_if_modified(|known| {
                let news = *known != coordinators;
                *known = coordinators;
                news
            });
        }
        topology.send_if_modified(|known| {
            let news = newer.revision > known.revision;
            if news {
                tracing::debug!(revision = %newer.revision, "topology");
                *known = Arc::new(newer);
            }
            news
        });
    }
    Err(WatchError::Ended)
}

/// A channel to a coordinator that notices when nobody is there any more.
pub async fn connect(url: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(url.to_owned())?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .keep_alive_while_idle(true)
        .connect()
        .await
}

/// Reports until nobody listens: regularly, and at once what a switchover waits for.
async fn tell(shared: Arc<Shared>, reports: mpsc::Sender<pb::RouterReport>) {
    let clock = Clock::start();
    let mut topology = shared.topology.clone();
    let (mut told, mut due) = (None, clock.now());
    loop {
        let draining = |view: &GroupView| matches!(view.access, Access::Draining { .. });
        let drains = topology.borrow_and_update().groups.values().any(draining);
        let (now, report) = (clock.now(), report(&shared));
        let news = (report.topology, report.open_transactions.clone());
        if now >= due || (drains && told.as_ref() != Some(&news)) {
            if reports.send(report.into()).await.is_err() {
                return;
            }
            told = Some(news);
            due = now.plus(REPORT_EVERY);
        }
        let rest = due.since(now);
        if drains {
            sleep(rest.min(DRAIN_LOOK).duration()).await;
        } else if let Ok(Err(_)) = timeout(rest.duration(), topology.changed()).await {
            // Nobody sends topologies any more: the router ends.
            return;
        }
    }
}

fn report(shared: &Shared) -> RouterReport {
    RouterReport {
        router: shared.config.name.clone(),
        host: shared.config.advertise.clone(),
        port: shared.config.listen.port(),
        read_only_port: shared.config.read_only_listen.map_or(0, |address| address.port()),
        topology: shared.applied(),
        sessions: shared.counters.sessions.load(std::sync::atomic::Ordering::Relaxed),
        open_transactions: shared.counters.open_transactions(),
        pid: std::process::id(),
    }
}

/// Is there a topology that names a place to work?
pub fn ready(topology: &Topology) -> Result<(), String> {
    match topology.query_group() {
        None => Err("no topology with a query group yet".to_owned()),
        Some(group) if group.access == Access::Held => Err(format!("group {} has no primary now", group.id)),
        Some(_) => Ok(()),
    }
}
