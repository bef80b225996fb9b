//! The router's own sessions with primaries, as role `howdah_router`: for the catalog and the resolver,
//! never for a client's work. Called by `catalog_load` and `resolver`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Notification};

use crate::{
    host::secret::Secret,
    model::{
        ids::GroupId,
        numbers::Timeline,
        schema::TIMELINE,
        topology::{Access, Endpoint, Topology},
    },
    router::pool::server::WAIT_ROUTINE,
};

/// The role; its password is derived from the cluster's secret.
const ROLE: &str = "howdah_router";

/// Longest wait for a connection: a living primary takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Notifications that may wait: each only says "load again", so one would do.
const NOTIFICATIONS: usize = 16;

/// A session, and where it leads.
pub struct OwnSession {
    /// Statements go here.
    pub client: Client,
    /// The primary.
    pub endpoint: Endpoint,
    /// What it hears; closed when the session ends.
    pub notifications: mpsc::Receiver<Notification>,
    unacknowledged: Arc<AtomicBool>,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum OwnSessionError {
    /// The topology names no primary now.
    #[error("group {0} has no primary now")]
    NoPrimary(GroupId),
    /// It did not answer in time.
    #[error("no answer within {CONNECT_TIMEOUT:?}")]
    Timeout,
    /// Its reign is not open yet, or over.
    #[error("the primary writes timeline {found}, not {wanted} of the reign that serves")]
    OtherReign {
        /// What it writes.
        found: i64,
        /// What the topology says.
        wanted: Timeline,
    },
    /// It refused.
    #[error("cannot connect")]
    Connect(#[from] tokio_postgres::Error),
}

/// The primary that the topology names, where work may begin or go on.
pub fn primary<'a>(topology: &'a Topology, group: &GroupId) -> Option<&'a Endpoint> {
    match &topology.groups.get(group)?.access {
        Access::Open { primary } | Access::Draining { primary } => Some(primary),
        Access::Held => None,
    }
}

impl OwnSession {
    /// Connects to a group's primary, to the cluster's database.
    pub async fn connect(topology: &Topology, group: &GroupId, secret: &Secret) -> Result<Self, OwnSessionError> {
        let endpoint = primary(topology, group).ok_or_else(|| OwnSessionError::NoPrimary(group.clone()))?.clone();
        let timeline = topology.groups.get(group).map_or(Timeline(0), |view| view.timeline);
        let mut config = Config::new();
        config
            .host(&endpoint.host)
            .port(endpoint.port)
            .user(ROLE)
            .password(secret.password(ROLE).reveal())
            .dbname(&topology.database)
            .application_name("howdah router");
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(NoTls)).await;
        let (client, mut connection) = connected.map_err(|_| OwnSessionError::Timeout)??;
        let (hear, notifications) = mpsc::channel(NOTIFICATIONS);
        let unacknowledged = Arc::new(AtomicBool::new(false));
        let cancelled = unacknowledged.clone();
        tokio::spawn(async move {
            loop {
                match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(notification))) => {
                        // Full: the listener has enough to wake up for.
                        let _ = hear.try_send(notification);
                    }
                    Some(Ok(AsyncMessage::Notice(notice))) if notice.routine() == Some(WAIT_ROUTINE) => {
                        cancelled.store(true, Ordering::Release);
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(%error, "own session ended");
                        break;
                    }
                    None => break,
                }
            }
        });
        let asked = tokio::time::timeout(CONNECT_TIMEOUT, client.query_one(TIMELINE, &[])).await;
        let found = asked.map_err(|_| OwnSessionError::Timeout)??.get::<_, i64>(0);
        if found != i64::from(timeline.0) {
            return Err(OwnSessionError::OtherReign { found, wanted: timeline });
        }
        Ok(Self { client, endpoint, notifications, unacknowledged })
    }

    /// Did every commit of this session so far wait for its standbys to the end? A notice comes before
    /// the answer of the statement it belongs to, and one task reads both. A session that had one wait
    /// cancelled is not trusted again: its owner opens another.
    pub fn is_acknowledged(&self) -> bool {
        !self.unacknowledged.load(Ordering::Acquire)
    }

    /// Does the topology still name this session's primary?
    pub fn is_current(&self, topology: &Topology, group: &GroupId) -> bool {
        !self.client.is_closed() && self.is_acknowledged() && primary(topology, group) == Some(&self.endpoint)
    }
}
