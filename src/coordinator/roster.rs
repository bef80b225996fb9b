//! Who the coordinators are and the way to each, as this coordinator knows at the moment. Published by
//! the driver out of the replicated state; read by every service, and told to agents and routers.

use std::{collections::BTreeMap, time::Duration};

use tonic::transport::{Channel, Endpoint};

use crate::model::ids::CoordinatorId;

/// An address that does not answer a connection attempt within this is not there; loopback and data
/// centres take milliseconds.
const CONNECT: Duration = Duration::from_millis(500);
/// HTTP/2 pings on connections between coordinators: a connection that a partition has killed is
/// given up in the end. Longer than a starved coordinator is ever silent: a connection given up counts
/// as broken, and a follower then deposes its leader at once; what hangs is for Raft's timeout to notice.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));

/// The coordinators.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    /// This one's number; `None` until the cluster has said who it is.
    pub me: Option<CoordinatorId>,
    /// gRPC URLs of all that take part, this one included.
    pub urls: BTreeMap<CoordinatorId, String>,
    /// Channels to the others.
    pub channels: BTreeMap<CoordinatorId, Channel>,
    /// Highest number that any coordinator ever had; 0 where that is not known.
    pub last: u64,
    /// Numbers that are given, in Raft or not yet.
    pub given: Vec<CoordinatorId>,
}

impl Roster {
    /// This number was removed and will never be used again.
    pub fn was_removed(&self, id: CoordinatorId) -> bool {
        id.0 <= self.last && !self.given.contains(&id)
    }

    /// As agents, routers and people are told.
    pub fn addresses(&self) -> Vec<String> {
        self.urls.values().cloned().collect()
    }
}

/// A channel to another coordinator, connected when first used.
pub fn channel(url: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.connect_timeout(CONNECT).tcp_nodelay(true);
    let endpoint = endpoint.http2_keep_alive_interval(KEEPALIVE.0).keep_alive_timeout(KEEPALIVE.1);
    Ok(endpoint.keep_alive_while_idle(true).connect_lazy())
}
