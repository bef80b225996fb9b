//! `howdah status`: what is decided and seen, put together for people. Called by the admin service
//! on the leader.

use super::{observed::Observed, state::State};
use crate::model::{
    numbers::Millis,
    status::{CoordinatorStatus, MapStatus, Status},
};

/// The whole cluster. `coordinators` is what the driver knows of its peers.
pub fn status(state: &State, observed: &Observed, now: Millis, coordinators: Vec<CoordinatorStatus>) -> Status {
    let _ = (observed, now);
    Status {
        cluster: state.cluster.as_ref().map(ToString::to_string).unwrap_or_default(),
        coordinators,
        groups: Vec::new(),
        idle: Vec::new(),
        routers: Vec::new(),
        map: MapStatus { version: state.topology_revision.0, colocation_groups: Vec::new() },
        tables: Vec::new(),
        operations: Vec::new(),
        warnings: Vec::new(),
    }
}
