//! Maintenance mode. While a group is paused the coordinator does not change its primary by itself; an
//! epoch that is open is finished, and what people ask for is done. In particular a primary that restarts
//! stays fenced: nobody starts as a primary on its own, and electing it again is a decision too.

use super::State;
use crate::{
    coordinator::core::command::{OperationKind, Proposal, Refusal},
    model::ids::GroupId,
};

/// What an operation on all groups is about.
const ALL: &str = "all";

impl State {
    /// The target of a pause or resume, if it can be done.
    pub(super) fn maintenance_target(&self, group: Option<&GroupId>) -> Result<GroupId, Refusal> {
        match group {
            Some(group) => Ok(self.group(group)?.id.clone()),
            None => Ok(ALL.parse().expect("it is a name")),
        }
    }

    /// Does what a pause or resume asks for, which takes no time: what was done. `None`: it is neither.
    pub(super) fn maintain(&mut self, kind: &OperationKind, proposal: &Proposal) -> Option<String> {
        let (group, paused) = match kind {
            OperationKind::Pause { group } => (group, true),
            OperationKind::Resume { group } => (group, false),
            _ => return None,
        };
        let (event, words) = if paused { ("paused", "is paused") } else { ("resumed", "is not paused any more") };
        let chosen = self.groups.values().filter(|it| group.as_ref().is_none_or(|group| *group == it.id));
        let changed: Vec<_> = chosen.filter(|it| it.paused != paused).map(|it| it.id.clone()).collect();
        for id in &changed {
            let revision = self.revision;
            if let Some(group) = self.groups.get_mut(id) {
                (group.paused, group.revision) = (paused, revision);
            }
            self.event(id.as_str(), event, proposal.reason.clone(), proposal);
        }
        let names: Vec<_> = changed.iter().map(GroupId::as_str).collect();
        Some(match names.as_slice() {
            [] => format!("nothing to do: it {words} already"),
            names => format!("{} {words}", names.join(", ")),
        })
    }
}
