//! Changes that are not part of a group's protocol: the cluster, containers, placement, operations.

use super::State;
use crate::{
    coordinator::core::{
        command::{OperationKind, OperationOutcome, Outcome, Proposal, Refusal},
        operations::Operation,
    },
    model::{
        group::{Container, Group, Phase},
        ids::{ClusterName, ColocationId, GroupId, OperationId},
        map::Colocation,
        numbers::Epoch,
        policy::Policy,
    },
};

/// Ended operations kept: enough for a caller to find the result of what it asked for today.
const ENDED_KEPT: usize = 100;
/// Operations that may run at once: one per group of a large cluster.
const RUNNING_LIMIT: usize = 1000;
/// Buckets a colocation group may have: every one is a table on a shard.
const BUCKET_LIMIT: u32 = 4096;

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Precondition(why.into()))
}

impl State {
    pub(super) fn initialise(
        &mut self,
        cluster: &ClusterName,
        policy: &Policy,
        proposal: &Proposal,
    ) -> Result<Outcome, Refusal> {
        if let Some(name) = &self.cluster {
            return refuse(format!("this is cluster {name} already"));
        }
        self.cluster = Some(cluster.clone());
        self.policy = policy.clone();
        self.event("", "initialised", format!("cluster {cluster}: {}", proposal.reason), proposal);
        Ok(Outcome::Applied)
    }

    pub(super) fn register(&mut self, container: &Container, proposal: &Proposal) -> Result<Outcome, Refusal> {
        let id = &container.id;
        let group = self.group_of(id).map(|group| (group.id.clone(), group.kind));
        if let Some((group, kind)) = &group
            && *kind != container.kind
        {
            return refuse(format!("{id} serves in {group} and cannot become another kind of container"));
        }
        if self.containers.get(id) == Some(container) {
            return Ok(Outcome::Applied);
        }
        self.containers.insert(id.clone(), container.clone());
        let subject = group.as_ref().map_or("", |(group, _)| group.as_str()).to_owned();
        if let Some(group) = group.and_then(|(group, _)| self.groups.get_mut(&group)) {
            group.members.insert(id.clone(), container.clone());
            group.revision = self.revision;
        }
        let at = format!("{id} at {}:{}", container.host, container.port);
        self.event(&subject, "registered", at, proposal);
        Ok(Outcome::Applied)
    }

    /// Reuses a colocation group only if it covers every serving shard, so that new shards serve new
    /// tables at once.
    pub(super) fn ensure_colocation(
        &mut self,
        key_type: &str,
        bucket_count: u32,
        alone: Option<&str>,
        proposal: &Proposal,
    ) -> Result<Outcome, Refusal> {
        if !(1..=BUCKET_LIMIT).contains(&bucket_count) {
            return refuse(format!("{bucket_count} buckets: use 1 to {BUCKET_LIMIT}"));
        }
        let shards: Vec<GroupId> = self.serving_shards().into_iter().cloned().collect();
        if shards.is_empty() {
            return refuse("no shard serves yet: see `howdah status`, or add one with `howdah shard add`");
        }
        let used = shards.len().min(bucket_count as usize);
        let fits = |old: &&Colocation| {
            self.alone.get(&old.id).map(String::as_str) == alone
                && old.key_type == key_type
                && old.buckets.len() == bucket_count as usize
                && (alone.is_some() || old.shards().len() == used)
        };
        if let Some(old) = self.colocations.values().find(fits) {
            return Ok(Outcome::Colocation(old.clone()));
        }
        let id = ColocationId(self.colocations.keys().next_back().map_or(1, |last| last.0 + 1));
        let buckets: Vec<_> = shards.iter().cycle().take(bucket_count as usize).cloned().collect();
        let colocation = Colocation { id, key_type: key_type.to_owned(), buckets };
        self.colocations.insert(id, colocation.clone());
        if let Some(key) = alone {
            self.alone.insert(id, key.to_owned());
        }
        let words = format!("{id}: {bucket_count} buckets of {key_type} on {used} shards");
        self.event("", "colocation", words, proposal);
        Ok(Outcome::Colocation(colocation))
    }

    pub(super) fn begin_operation(
        &mut self,
        key: &str,
        kind: &OperationKind,
        proposal: &Proposal,
    ) -> Result<Outcome, Refusal> {
        if let Some(old) = self.operations.iter().find(|operation| operation.key == key) {
            if old.kind == *kind {
                return Ok(Outcome::Operation(old.id.clone()));
            }
            return refuse(format!(
                "idempotency key {key} belongs to {}, which is something else: use another",
                old.id
            ));
        }
        if self.operations.iter().filter(|operation| operation.runs()).count() >= RUNNING_LIMIT {
            return refuse("too many operations are running: wait for some to end");
        }
        let (target, epoch) = match kind {
            OperationKind::AddShard { .. } => (self.next_shard(), Epoch(0)),
            OperationKind::Switchover { group, to } => {
                let epoch = self.check_change_of_primary(group)?;
                if let Some(to) = to
                    && !self.group(group)?.members.contains_key(to)
                {
                    return Err(Refusal::NotFound(format!("{to} is not a member of {group}; see `howdah status`")));
                }
                if let Some(to) = to.as_ref().filter(|to| self.groups[group].leaving.contains(*to)) {
                    return refuse(format!("{to} is leaving {group}: choose another member"));
                }
                (group.clone(), epoch)
            }
            // What a person accepts in an emergency does not wait for an operation that waits for just that.
            OperationKind::Failover { group, accept_data_loss: true } => {
                (group.clone(), self.check_has_data(group)?.epoch)
            }
            OperationKind::Failover { group, .. } => (group.clone(), self.check_change_of_primary(group)?),
            OperationKind::AddCoordinator { .. }
            | OperationKind::RemoveCoordinator { .. }
            | OperationKind::ReplaceCoordinator { .. } => (self.begin_coordinators(kind)?, Epoch(0)),
            OperationKind::RemoveMember { .. } | OperationKind::SetReplicas { .. } => self.members_target(kind)?,
            OperationKind::Pause { group } | OperationKind::Resume { group } => {
                (self.maintenance_target(group.as_ref())?, Epoch(0))
            }
        };
        let id: OperationId = format!("op-{}", self.revision).parse().expect("op- and digits are a name");
        let words = format!("{id} began: {}", proposal.reason);
        self.operations.push(Operation {
            id: id.clone(),
            key: key.to_owned(),
            kind: kind.clone(),
            target: target.clone(),
            epoch,
            from: self.groups.get(&target).and_then(|group| group.reign.as_ref()).map(|reign| reign.primary.clone()),
            begun: self.revision,
            outcome: None,
        });
        self.event(target.as_str(), "operation-begun", words, proposal);
        if let Some(message) = self.maintain(kind, proposal).or_else(|| self.change_members(kind, proposal)) {
            self.finish_operation(&id, &OperationOutcome::Done { message }, proposal)?;
        }
        Ok(Outcome::Operation(id))
    }

    pub(super) fn finish_operation(
        &mut self,
        id: &OperationId,
        outcome: &OperationOutcome,
        proposal: &Proposal,
    ) -> Result<Outcome, Refusal> {
        let Some(operation) = self.operations.iter_mut().find(|operation| operation.id == *id) else {
            return Err(Refusal::NotFound(format!("there is no operation {id}")));
        };
        if !operation.runs() {
            return refuse(format!("{id} has ended already"));
        }
        operation.outcome = Some(outcome.clone());
        let target = operation.target.to_string();
        let words = match outcome {
            OperationOutcome::Done { message } => format!("{id} is done: {message}"),
            OperationOutcome::Failed { message } => format!("{id} failed: {message}"),
        };
        self.event(&target, "operation-ended", words, proposal);
        let ended = self.operations.iter().filter(|operation| !operation.runs()).count();
        if ended > ENDED_KEPT
            && let Some(oldest) = self.operations.iter().position(|operation| !operation.runs())
        {
            self.operations.remove(oldest);
        }
        Ok(Outcome::Applied)
    }

    /// Group, if its primary may be changed by people now: its newest epoch.
    fn check_change_of_primary(&self, id: &GroupId) -> Result<Epoch, Refusal> {
        let group = self.check_has_data(id)?;
        let other = |it: &&Operation| {
            let of_members = matches!(it.kind, OperationKind::RemoveMember { .. } | OperationKind::SetReplicas { .. });
            it.runs() && it.target == *id && !of_members
        };
        if let Some(other) = self.operations.iter().find(other) {
            return refuse(format!("{} is running for {id}: wait until it has ended", other.id));
        }
        Ok(group.epoch)
    }

    pub(super) fn check_has_data(&self, id: &GroupId) -> Result<&Group, Refusal> {
        let group = self.group(id)?;
        if matches!(group.phase, Phase::Forming { .. }) {
            return refuse(format!("{id} is still forming and has no primary to change"));
        }
        Ok(group)
    }

    /// `shard-N` that no group has, no operation has reserved and the policy does not speak of.
    fn next_shard(&self) -> GroupId {
        let number = |id: &GroupId| id.as_str().strip_prefix("shard-").and_then(|n| n.parse::<u32>().ok());
        let groups = self.groups.keys().filter_map(number);
        let reserved =
            self.operations.iter().filter(|operation| operation.runs()).map(|o| &o.target).filter_map(number);
        let last = groups.chain(reserved).max().unwrap_or(0).max(self.policy.shards);
        shard_name(last + 1)
    }
}

/// The name of shard `number`.
pub(crate) fn shard_name(number: u32) -> GroupId {
    format!("shard-{number}").parse().expect("shard- and digits are a name")
}
