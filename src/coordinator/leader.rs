//! Where the leader is, and the way there: services of a follower pass calls on. Held by every
//! service.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::timeout;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use super::{
    core::replica::Leadership,
    inbox::{AskError, Handle},
};
use crate::model::ids::CoordinatorId;

/// How long a call waits for a leader: an election takes 0.5 to 1 s, a split vote as much again.
const FIND_LEADER: Duration = Duration::from_secs(2);
/// An address that does not answer a connection attempt within this is not there; loopback and data
/// centres take milliseconds.
const CONNECT: Duration = Duration::from_millis(500);
/// HTTP/2 pings on connections between coordinators: a connection that a partition has killed is
/// given up in the end. Longer than a starved coordinator is ever silent: a connection given up counts
/// as broken, and a follower then deposes its leader at once; what hangs is for Raft's timeout to notice.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));
/// Marks a call that a coordinator passed on: it is passed on once only.
const FORWARDED: &str = "howdah-forwarded";
/// Names the leader in the metadata of an UNAVAILABLE.
const LEADER: &str = "howdah-leader";

/// A URL that cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("{coordinator} has the address {url:?}: {source}; write http://HOST:PORT")]
pub struct InvalidUrl {
    /// Whose.
    pub coordinator: CoordinatorId,
    /// What was given.
    pub url: String,
    /// Why it is none.
    #[source]
    pub source: tonic::transport::Error,
}

/// Channels to other coordinators, connected when first used.
pub fn channels(
    me: CoordinatorId,
    coordinators: &BTreeMap<CoordinatorId, String>,
) -> Result<BTreeMap<CoordinatorId, Channel>, InvalidUrl> {
    let others = coordinators.iter().filter(|(id, _)| **id != me);
    let channel = |(id, url): (&CoordinatorId, &String)| {
        let invalid = |source| InvalidUrl { coordinator: *id, url: url.clone(), source };
        let endpoint = Endpoint::from_shared(url.clone()).map_err(invalid)?;
        let endpoint = endpoint.connect_timeout(CONNECT).tcp_nodelay(true);
        let endpoint = endpoint.http2_keep_alive_interval(KEEPALIVE.0).keep_alive_timeout(KEEPALIVE.1);
        Ok((*id, endpoint.keep_alive_while_idle(true).connect_lazy()))
    };
    others.map(channel).collect()
}

/// Who answers a call.
pub enum Answers {
    /// This coordinator.
    Here,
    /// That one.
    There(Channel),
}

/// The way to the leader.
#[derive(Clone)]
pub struct Leader {
    /// The driver of this coordinator.
    pub handle: Handle,
    /// gRPC URLs of all.
    pub urls: BTreeMap<CoordinatorId, String>,
    /// Channels to the others.
    pub channels: BTreeMap<CoordinatorId, Channel>,
}

impl Leader {
    /// Waits, a little, until somebody leads; a leader that was heard of counts.
    pub async fn find(&self) -> Leadership {
        let mut leadership = self.handle.leadership.clone();
        let known = timeout(FIND_LEADER, leadership.wait_for(|seen| seen.leader.is_some())).await;
        match known {
            Ok(Ok(seen)) => *seen,
            Ok(Err(_)) | Err(_) => *self.handle.leadership.borrow(),
        }
    }

    /// The leader's URL, where it is known.
    pub fn url(&self, leadership: &Leadership) -> Option<String> {
        self.urls.get(&leadership.leader?).cloned()
    }

    /// Who answers this call.
    pub async fn route<T>(&self, request: &Request<T>) -> Result<Answers, Status> {
        let leadership = self.find().await;
        let channel = leadership.leader.and_then(|id| self.channels.get(&id));
        match channel {
            _ if leadership.ours => Ok(Answers::Here),
            Some(channel) if !request.metadata().contains_key(FORWARDED) => Ok(Answers::There(channel.clone())),
            _ => Err(self.unavailable()),
        }
    }

    /// What a caller is told when the leader is not here.
    pub fn unavailable(&self) -> Status {
        let Some(url) = self.url(&self.handle.leadership.borrow()) else {
            return Status::unavailable(
                "the coordinators have no leader at the moment; try again, and see that most of them run",
            );
        };
        let mut status = Status::unavailable(format!("the leader is {url}; ask there"));
        if let Ok(value) = MetadataValue::try_from(&url) {
            status.metadata_mut().insert(LEADER, value);
        }
        status
    }

    /// The driver's refusal as a status.
    pub fn refusal(&self, error: &AskError) -> Status {
        match error {
            AskError::NotLeader => self.unavailable(),
            AskError::Busy => Status::resource_exhausted(error.to_string()),
            AskError::NotFound(_) => Status::not_found(error.to_string()),
        }
    }
}

/// The call as the leader gets it.
pub fn forwarded<T>(request: Request<T>) -> Request<T> {
    let mut forwarded = Request::new(request.into_inner());
    forwarded.metadata_mut().insert(FORWARDED, MetadataValue::from_static("1"));
    forwarded
}
