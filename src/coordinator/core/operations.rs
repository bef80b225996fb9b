//! Long pieces of work that people ask for: what is known of each, and the planner's step that ends
//! them. The work itself is done by the ordinary reconcilers (`placement`, `switchover`, `failover`).

use serde::{Deserialize, Serialize};

use super::command::{OperationKind, OperationOutcome};
use crate::model::{
    ids::{GroupId, OperationId},
    numbers::{Epoch, Revision},
    status::OperationStatus,
};

/// An operation, as replicated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// `op-` and the revision it began at.
    pub id: OperationId,
    /// The caller's idempotency key.
    pub key: String,
    /// What was asked for.
    pub kind: OperationKind,
    /// The group it is about; of a new shard, the name reserved for it.
    pub target: GroupId,
    /// Newest epoch of the group when it began: a later reign is its result, or someone else's.
    pub epoch: Epoch,
    /// When it began.
    pub begun: Revision,
    /// `None` while it runs.
    pub outcome: Option<OperationOutcome>,
}

impl Operation {
    /// Still running?
    pub fn runs(&self) -> bool {
        self.outcome.is_none()
    }

    /// As people see it; `progress` says where a running one is.
    pub fn status(&self, progress: &str) -> OperationStatus {
        let kind = match self.kind {
            OperationKind::AddShard { .. } => "add-shard",
            OperationKind::Switchover { .. } => "switchover",
            OperationKind::Failover { .. } => "failover",
        };
        let (state, message) = match &self.outcome {
            None => ("running", progress),
            Some(OperationOutcome::Done { message }) => ("done", message.as_str()),
            Some(OperationOutcome::Failed { message }) => ("failed", message.as_str()),
        };
        OperationStatus {
            id: self.id.to_string(),
            kind: kind.to_owned(),
            target: self.target.to_string(),
            state: state.to_owned(),
            message: message.to_owned(),
        }
    }
}
