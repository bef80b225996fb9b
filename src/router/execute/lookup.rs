//! What became of a transaction over several groups whose decision was sent and never answered: the new
//! primary of the decision's group has the row, or nobody ever will. Called by the commit.
//!
//! Asking decides: where there is no row yet, an abort is put in its place under the same key, so that a
//! commit still under way on a primary that lives after all cannot overtake the answer.

use std::{rc::Rc, time::Duration};

use super::ask;
use crate::{
    model::ids::GroupId,
    router::{
        core::two_phase::settle_sql,
        pool::{Identity, Wanted, server::CallError},
        worker::Worker,
    },
};

/// Between two attempts while the topology does not know of the loss yet: shorter than a failover.
const RETRY: Duration = Duration::from_millis(20);

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed.
    Committed,
    /// A resolver had decided against it.
    Aborted,
    /// There was no row: we have just decided against it.
    AbortedByUs,
}

/// Whoever asks, on whose behalf.
pub struct Witness<'a> {
    /// Its pools lead to the new primary.
    pub worker: &'a Rc<Worker>,
    /// The client's: its role may settle its own transactions.
    pub identity: &'a Identity,
}

impl Witness<'_> {
    /// The outcome of transaction `id`, decided on `group`. Waits for the failover, as long as
    /// `failover_wait` allows; `None`: nobody could tell.
    pub async fn outcome(&self, group: &GroupId, id: &str) -> Option<Outcome> {
        let bound = self.worker.pools.topology().failover_wait.duration();
        let asking = async {
            loop {
                match self.ask(group, id).await {
                    Ok(outcome) => return outcome,
                    Err(error) => tracing::debug!(%group, id, %error, "the outcome of a commit is not known yet"),
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        tokio::time::timeout(bound, asking).await.unwrap_or_default()
    }

    async fn ask(&self, group: &GroupId, id: &str) -> Result<Option<Outcome>, CallError> {
        let pools = &self.worker.pools;
        let settings = Rc::default();
        let mut pool = None;
        let checkout = pools.checkout(group, Wanted::Primary, self.identity, &settings, id.len(), &mut pool);
        let Ok(mut server) = checkout.await else { return Ok(None) };
        server.apply(&settings).await?;
        let answer = match ask::one(&mut server, &settle_sql(id)).await {
            Ok(answer) => answer,
            // What it says would not survive the loss of that primary either.
            Err(CallError::Unacknowledged) => return Ok(None),
            Err(CallError::Refused(error)) => {
                tracing::warn!(%group, id, %error, "the outcome of a commit cannot be looked up");
                return Ok(None);
            }
            Err(lost @ CallError::Lost(_)) => return Err(lost),
        };
        pools.give_back(server);
        let row = answer.rows.into_iter().next().unwrap_or_default();
        let [outcome, ours] = <[Option<String>; 2]>::try_from(row).unwrap_or_default();
        Ok(match (outcome.as_deref(), ours.as_deref()) {
            (Some("commit"), _) => Some(Outcome::Committed),
            (Some("abort"), Some("f")) => Some(Outcome::Aborted),
            (Some("abort"), _) => Some(Outcome::AbortedByUs),
            _ => None,
        })
    }
}
