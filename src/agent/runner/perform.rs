//! Carrying out one action: the map from the core's words to `postgres/`. Called in a lane.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    agent::{
        core::{
            action::Action,
            decide::slots_of,
            inputs::{Data, Inputs, Postgres, Unfinished},
        },
        memory::{Memory, Store},
        postgres::{ActionError, Progress, Server},
    },
    model::{
        goal::Goal,
        group::Container,
        ids::MemberId,
        numbers::{Epoch, Lsn, Revision},
    },
};

use super::lane::Outcome;

/// What an action works with.
pub struct Performer {
    /// `PostgreSQL`.
    pub server: Arc<Server>,
    /// The agent's memory.
    pub store: Arc<Mutex<Store>>,
    /// Per cent of a clone.
    pub progress: Progress,
    /// The goal the action serves.
    pub goal: Option<Goal>,
    /// The end of our log.
    pub ours: Lsn,
    /// This member.
    pub me: MemberId,
    /// Its group has let go of it, at this revision.
    pub released: Option<Revision>,
    /// What is in the data directory was never complete.
    pub never_complete: bool,
}

impl Performer {
    /// For an action that `inputs` have led to.
    pub fn new(inputs: &Inputs, server: Arc<Server>, store: Arc<Mutex<Store>>, progress: Progress) -> Self {
        let ours = match &inputs.postgres {
            Postgres::Standby(standby) => standby.position.lsn,
            _ => Lsn(0),
        };
        let never_complete = matches!(inputs.data, Data::Unfinished(Unfinished::Cloning | Unfinished::Settling));
        let (goal, me, released) = (inputs.goal.clone(), inputs.me.clone(), inputs.released);
        Self { server, store, progress, goal, ours, me, released, never_complete }
    }

    /// Carries it out.
    pub async fn perform(self, action: Action) -> Result<Outcome, ActionError> {
        let (server, goal) = (&self.server, self.goal.as_ref());
        match action {
            Action::MakeDataDirectory => {
                server.make_data_directory().await?;
                // What an earlier group has left here was given up when this container became free.
                server.drop_aside().await?;
            }
            Action::StartFenced => server.start(goal, None).await?,
            Action::StartFollowing(primary) => server.start(goal, Some(&primary)).await?,
            Action::Finish => {
                server.drop_aside().await?;
                self.mark(None)?;
            }
            Action::Cut(_) => {
                server.cut(goal).await?;
                if let Some(goal) = self.goal.clone() {
                    let server = server.clone();
                    tokio::spawn(async move { server.open_epoch_session(&goal).await });
                }
            }
            Action::Promote { timeline, cohort } => {
                let slots: Vec<_> = slots_of(self.goal()?, &self.me).into_iter().collect();
                server.promote(self.goal()?, timeline, &cohort, &slots).await?;
            }
            Action::ApplyCohort(cohort) => server.apply_cohort(self.goal()?, &cohort).await?,
            Action::WriteEpoch(epoch) => server.write_epoch(self.goal()?, epoch).await?,
            Action::EnsureObjects(_) => server.ensure_objects(self.goal()?).await?,
            Action::SetSlots(slots) => server.set_slots(&slots.into_iter().collect::<Vec<_>>()).await?,
            Action::Examine { primary, timeline } => {
                let ancestry = server.examine(self.container(&primary)?, timeline, self.ours).await?;
                return Ok(Outcome::Ancestry(ancestry));
            }
            Action::Repoint(primary) => server.repoint(self.goal()?, &primary).await?,
            Action::Rewind(primary) => {
                let primary = self.container(&primary)?;
                server.prepare_rewind(primary).await?;
                self.mark(Some(Unfinished::Rewinding))?;
                server.rewind(primary).await?;
                self.mark(Some(Unfinished::Settling))?;
            }
            Action::Clone(primary) => {
                let primary = self.container(&primary)?;
                self.progress.send_replace(0);
                server.fetch_copy(primary, &self.progress).await?;
                // Until here what was there before is as good as ever.
                self.mark(Some(Unfinished::Cloning))?;
                server.put_copy_in_place().await?;
                self.mark(Some(Unfinished::Settling))?;
            }
            Action::SetAside => {
                server.set_aside(self.never_complete).await?;
                let since = self.released.unwrap_or_default();
                // The epochs promised were those of that group; what was decided before it was left is void.
                self.remember(|memory| {
                    (memory.group, memory.joined, memory.promise) = (None, since, Epoch(0));
                    (memory.system_identifier, memory.unfinished) = (None, None);
                    memory.revision = memory.revision.max(since);
                })?;
            }
            Action::StopFast => server.stop_fast().await?,
            Action::StopImmediate => server.stop_immediate().await?,
            Action::Promise(_) | Action::Abort => {
                return Err(ActionError::Refused("the loop itself carries this out".to_owned()));
            }
        }
        Ok(Outcome::Done)
    }

    fn goal(&self) -> Result<&Goal, ActionError> {
        self.goal.as_ref().ok_or_else(|| ActionError::Refused("there is no goal".to_owned()))
    }

    fn container(&self, member: &MemberId) -> Result<&Container, ActionError> {
        let found = self.goal()?.members.iter().find(|container| container.id == *member);
        found.ok_or_else(|| ActionError::Refused(format!("the address of {member} is not known")))
    }

    fn mark(&self, unfinished: Option<Unfinished>) -> Result<(), ActionError> {
        self.remember(|memory| memory.unfinished = unfinished)
    }

    fn remember(&self, with: impl FnOnce(&mut Memory)) -> Result<(), ActionError> {
        change(&self.store, with).map_err(|source| ActionError::Io { what: "writing agent.json".to_owned(), source })
    }
}

/// Changes the agent's memory; on disk when this returns.
pub fn change(store: &Mutex<Store>, change: impl FnOnce(&mut Memory)) -> std::io::Result<()> {
    // A panic while it was held left the file and the value alike: `Store::change` sees to that.
    store.lock().unwrap_or_else(PoisonError::into_inner).change(change)
}
