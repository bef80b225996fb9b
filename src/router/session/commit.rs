//! Ending a transaction on several participants, and running a statement on all of them. Called by
//! transaction control and at the end of an implicit block.

use super::{Fault, Session};
use crate::router::{
    core::error::UserError,
    execute::{
        commit::{self, CommitError},
        lookup::Witness,
    },
    pool::server::CallError,
};

impl Session {
    /// Ends an implicit block: commits, or rolls back if a statement failed.
    pub(super) async fn end_implicit(&mut self) -> Result<(), Fault> {
        let failed = self.block.as_ref().is_some_and(|block| block.failed);
        let done = if failed { self.rollback_all().await } else { self.commit_all().await };
        let before = self.block.take().map(|block| block.before().clone());
        if (failed || done.is_err())
            && let Some(before) = before
        {
            self.restore(before);
        }
        done
    }

    /// Commits on all participants; atomic. On failure everything is rolled back, or the outcome is
    /// unknown and the error says so.
    pub(super) async fn commit_all(&mut self) -> Result<(), Fault> {
        let joined = |participant: &&super::Participant| participant.joined;
        let writers = self.participants.iter().filter(joined).filter(|participant| participant.wrote).count();
        if writers > 1 {
            self.commit_writers().await?;
            self.batch.committed = true;
            self.follow_catalog().await;
            return Ok(());
        }
        self.batch.commit_sent = writers > 0;
        // The one writer first: readers have nothing to lose.
        let mut order: Vec<_> = (0..self.participants.len()).filter(|at| self.participants[*at].joined).collect();
        order.sort_by_key(|at| !self.participants[*at].wrote);
        let groups: Vec<_> = order.iter().map(|at| self.participants[*at].group().clone()).collect();
        for group in groups {
            let Some(at) = self.find(&group) else { continue };
            let wrote = self.participants[at].wrote;
            let server = &mut self.participants[at].server;
            let result = server.call("COMMIT").await;
            let rolled_back = server.tag == b"ROLLBACK";
            match result {
                Ok(_) if wrote && rolled_back => return Err(UserError::in_failed_transaction().into()),
                Ok(_) => {}
                Err(error) if wrote => {
                    let fault = self.call_failed(at, error);
                    self.rollback_all().await?;
                    return Err(fault);
                }
                Err(CallError::Lost(_)) if self.participants[at].server.pinned => {
                    return Err(Fault::Stop(super::loss::state_lost(&self.remove(at))));
                }
                // A reader: nothing of it matters any more.
                Err(error) => {
                    tracing::debug!(%group, %error, "the end of a transaction that only read was not answered");
                    drop(self.remove(at));
                }
            }
        }
        self.batch.commit_sent = false;
        self.batch.committed |= writers > 0;
        self.follow_catalog().await;
        Ok(())
    }

    /// Rolls back on all participants; one that cannot is closed.
    pub(super) async fn rollback_all(&mut self) -> Result<(), Fault> {
        let groups: Vec<_> = self.participants.iter().filter(|it| it.joined).map(|it| it.group().clone()).collect();
        for group in groups {
            let Some(at) = self.find(&group) else { continue };
            let server = &mut self.participants[at].server;
            let unstarted = server.setup() > 0 && server.output.len() < 64 && server.status == b'I';
            if unstarted || server.call("ROLLBACK").await.is_err() {
                let pinned = self.participants[at].server.pinned;
                let server = self.remove(at);
                if pinned {
                    return Err(Fault::Stop(super::loss::state_lost(&server)));
                }
            }
        }
        Ok(())
    }

    /// Runs a statement on every participant; the first refusal is the answer.
    pub(super) async fn call_all(&mut self, sql: &str) -> Result<(), Fault> {
        for at in 0..self.participants.len() {
            if self.participants[at].joined
                && let Err(error) = self.participants[at].server.call(sql).await
            {
                return Err(self.call_failed(at, error));
            }
        }
        Ok(())
    }

    /// By two phases.
    async fn commit_writers(&mut self) -> Result<(), Fault> {
        let query = self.query_group()?;
        let witness = Witness { worker: &self.worker, identity: &self.identity };
        let done = commit::commit(&mut self.participants, &query, &witness).await;
        // Whoever is still in the transaction has not answered its end: it is lost, or its close is the end.
        while let Some(at) = self.participants.iter().position(|it| it.joined && it.server.status != b'I') {
            let server = self.remove(at);
            if server.pinned {
                return Err(Fault::Stop(super::loss::state_lost(&server)));
            }
        }
        done.map_err(|error| match error {
            CommitError::Refused(error) => Fault::Server(error),
            CommitError::Failed(error) => Fault::Refused(error),
        })
    }

    /// After a commit that changed the catalog: the next statement is planned by the new one. Should the
    /// query group not answer in time, the guard of the shells sees to it that nobody is misled.
    async fn follow_catalog(&mut self) {
        if std::mem::take(&mut self.catalog_touched)
            && let Err(error) = self.worker.catalog.refresh().await
        {
            tracing::info!(%error, "planning goes on by the old catalog");
        }
    }
}
