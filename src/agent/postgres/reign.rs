//! What a primary keeps in order: the cohort, the slots, the epoch row.

use std::{collections::BTreeSet, sync::PoisonError, time::Duration};

use tokio::time::interval;
use tokio_postgres::{Client, error::SqlState};

use crate::{
    agent::core::settings::SYNCS_SLOTS,
    model::{goal::Goal, group::Cohort, ids::MemberId, numbers::Epoch, schema::RECORD_EPOCH},
};

use super::{
    ActionError, Look, Server, Session,
    cut::{SMALL, settle},
};

/// WAL senders read new settings within milliseconds; one whose standby is silent ends after
/// `wal_sender_timeout` (5 s). A checkpoint that comes first may take longer.
const APPLY: Duration = Duration::from_mins(1);

/// Between two looks at the WAL senders.
const POLL: Duration = Duration::from_millis(5);

impl Server {
    /// Sets the cohort, and returns when it is certain that no process works by an older one.
    ///
    /// Which processes matter (`syncrep.c`): backends wait if the *checkpointer* has set a flag that says
    /// that anybody is to be waited for; a *WAL sender* writes into shared memory whether its standby
    /// counts, and works out by its own settings how many are enough.
    pub async fn apply_cohort(&self, goal: &Goal, cohort: &Cohort) -> Result<(), ActionError> {
        let generation = self.write_dynamic(Some(goal), None, Some(cohort))?;
        let before = self.lower_acks_in_effect(cohort.acks);
        self.with_session("applying the cohort", APPLY, async |client| {
            let others = signalled_directly(client).await?;
            self.reload(others);
            settle(client, generation).await?;
            if cohort.acks > 0 && before.is_none_or(|acks| acks == 0) {
                // The checkpointer reads its settings before it begins one: the flag is set when this returns.
                client.simple_query("CHECKPOINT").await?;
            }
            if cohort.acks > 1 && before.is_none_or(|acks| 0 < acks && acks < cohort.acks) {
                // How many a sender takes for enough cannot be seen from outside: new ones know.
                let old = Look::take(client).await?.senders.iter().map(|sender| sender.pid).collect::<BTreeSet<_>>();
                client.simple_query("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").await?;
                wait_for(client, |look| look.senders.iter().all(|sender| !old.contains(&sender.pid))).await?;
            }
            wait_for(client, |look| look.senders.iter().all(|sender| as_in(cohort, sender))).await
        })
        .await?;
        *self.acks_in_effect.lock().unwrap_or_else(PoisonError::into_inner) = Some(cohort.acks);
        Ok(())
    }

    /// What was in effect; from now on it may also be `acks`.
    pub(super) fn lower_acks_in_effect(&self, acks: u32) -> Option<u32> {
        let mut in_effect = self.acks_in_effect.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *in_effect;
        *in_effect = before.map(|before| before.min(acks));
        before
    }

    /// A `PostgreSQL` started by us waits for one standby, which never exists.
    pub(super) fn started_fenced(&self) {
        *self.acks_in_effect.lock().unwrap_or_else(PoisonError::into_inner) = Some(1);
    }

    /// Makes the physical slots exactly `slots`.
    pub async fn set_slots(&self, slots: &[String]) -> Result<(), ActionError> {
        let former = self.binaries.major >= SYNCS_SLOTS;
        self.with_session("setting the replication slots", SMALL, async |client| {
            if former {
                client.batch_execute(DROP_FORMER_SLOTS).await?;
            }
            set_slots(client, slots).await
        })
        .await
    }

    /// Writes the epoch's row and waits, as long as it takes, until the cohort has it.
    pub async fn write_epoch(&self, goal: &Goal, epoch: Epoch) -> Result<(), ActionError> {
        let ready = self.epoch_session.lock().await.take().filter(|session| !session.client().is_closed());
        let session = match ready {
            Some(session) => Ok(session),
            None => self.epoch_session(goal).await,
        };
        let session = match session {
            Ok(session) => session,
            Err(first) => {
                // The group's first reign: there is no database yet, or no table in it.
                tracing::debug!(error = %first, "making the group's objects before its first epoch row");
                self.ensure_objects(goal).await?;
                self.epoch_session(goal).await?
            }
        };
        let number = i64::try_from(epoch.0).map_err(|_| ActionError::Refused("epochs end at 2^63".to_owned()))?;
        let what = "writing the epoch row";
        session.client().simple_query("SET synchronous_commit = on").await.map_err(ActionError::sql(what))?;
        session.client().execute(RECORD_EPOCH, &[&number, &self.me.as_str()]).await.map_err(ActionError::sql(what))?;
        if session.wait_cancelled() {
            return Err(ActionError::Refused("the wait for the epoch row's acknowledgements was cancelled".to_owned()));
        }
        Ok(())
    }

    /// Opens the connection for the epoch row beforehand: what is recruited is about to be elected. Where it
    /// fails, it is opened when it is needed.
    pub async fn open_epoch_session(&self, goal: &Goal) {
        *self.epoch_session.lock().await = self.epoch_session(goal).await.ok();
    }

    /// A connection to the group's database, if the epoch table is there.
    async fn epoch_session(&self, goal: &Goal) -> Result<Session, ActionError> {
        let session = self.connect(&goal.settings.database).await?;
        match session.client().simple_query("SELECT FROM howdah.epoch LIMIT 0").await {
            Ok(_) => Ok(session),
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
                Err(ActionError::Refused("there is no epoch table".to_owned()))
            }
            Err(error) => Err(ActionError::sql("looking for the epoch table")(error)),
        }
    }
}

/// WAL senders and the checkpointer: told themselves, they have the signal before anything we ask next.
async fn signalled_directly(client: &Client) -> Result<Vec<u32>, tokio_postgres::Error> {
    let text = "SELECT pid FROM pg_stat_activity WHERE backend_type IN ('checkpointer', 'walsender')";
    let rows = client.query(text, &[]).await?;
    Ok(rows.iter().filter_map(|row| u32::try_from(row.get::<_, i32>(0)).ok()).collect())
}

async fn wait_for(client: &Client, done: impl Fn(&Look) -> bool) -> Result<(), tokio_postgres::Error> {
    let mut every = interval(POLL);
    loop {
        every.tick().await;
        if done(&Look::take(client).await?) {
            return Ok(());
        }
    }
}

/// The sender counts its standby exactly if the cohort does. Others than members' never count.
fn as_in(cohort: &Cohort, sender: &super::look::Sender) -> bool {
    let Ok(member) = sender.name.parse::<MemberId>() else { return true };
    let counts = cohort.acks > 0 && cohort.standbys.contains(&member);
    counts == (sender.priority.unwrap_or(0) > 0)
}

/// Drops physical slots that are not wanted, or have lost what they kept; makes those that are missing.
/// A former primary's own failover slots would stand in the way of those that it is to copy as a standby. (A
/// standby has none but copies; on a primary nothing happens.)
const DROP_FORMER_SLOTS: &str = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
    WHERE pg_is_in_recovery() AND slot_type = 'logical' AND failover AND NOT synced AND NOT active";

pub(super) async fn set_slots(client: &Client, slots: &[String]) -> Result<(), tokio_postgres::Error> {
    let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE slot_type = 'physical' AND NOT temporary AND NOT active
          AND (NOT slot_name = ANY ($1::text[]) OR wal_status = 'lost')";
    client.query(drop, &[&slots]).await?;
    let make = "SELECT pg_create_physical_replication_slot(name, true) FROM unnest($1::text[]) AS name
        WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = name)";
    client.query(make, &[&slots]).await?;
    Ok(())
}
