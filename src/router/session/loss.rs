//! What a lost server connection means to the client: try again, 40001, or an unknown outcome
//! (failover.md, "What clients see"). Called wherever a session works on a connection.

use super::{Fault, Session, Stop};
use crate::router::{
    core::error::UserError,
    execute::cancel,
    pool::server::{Lost, Server, ServerError},
};

impl Session {
    /// The session ends: what is still running for it has no one to run for, and is cancelled.
    pub(super) async fn abandon(&mut self) {
        let active = if self.relay.due.is_empty() { None } else { self.active };
        if let Some(at) = active {
            let server = self.remove(at);
            cancel(&server.link).await;
        }
        self.participants.clear();
    }

    /// A participant's connection is lost.
    pub fn lost(&mut self, at: usize, lost: &Lost) -> Fault {
        let server = self.remove(at);
        let group = server.pool.group.clone();
        tracing::info!(%group, member = %server.pool.endpoint.member, error = %lost, "server connection lost");
        self.relay.due.clear();
        let untold = self.may_run_again();
        if server.pinned {
            return Fault::Stop(state_lost(&server));
        }
        match &mut self.block {
            Some(_) if self.batch.commit_sent => {
                self.block = None;
                Fault::Refused(UserError::outcome_unknown(&group))
            }
            Some(block) if !block.implicit => {
                block.forget_savepoints();
                block.failed = true;
                Fault::Refused(UserError::lost_transaction(&group))
            }
            // Around several statements of one query: nothing of it is committed.
            Some(block) => {
                block.failed = true;
                Fault::Refused(UserError::lost_transaction(&group))
            }
            None if self.batch.may_have_written => Fault::Refused(UserError::outcome_unknown(&group)),
            None if untold => Fault::Retry,
            None => Fault::Refused(UserError::lost_transaction(&group)),
        }
    }
}

impl Session {
    /// A server refused what only a router with an old catalog would ask: the catalog is read anew, and
    /// the batch is run again where nothing of it has happened.
    pub(super) async fn catalog_was_old(&mut self, error: ServerError) -> Fault {
        if self.batch.attempts > 1 {
            return Fault::Server(error);
        }
        if let Err(error) = self.worker.catalog.refresh().await {
            tracing::warn!(%error, "the catalog may be old");
        }
        self.context_changed();
        if self.block.is_none() && self.may_run_again() {
            return match self.end_pipelines().await {
                Ok(()) => Fault::Retry,
                Err(fault) => fault,
            };
        }
        let message = "a table of this statement has just been distributed or moved";
        Fault::Refused(UserError::error("40001", message).hint("Run the transaction again."))
    }
}

/// The end of a session whose state was on a connection that is gone.
pub(super) fn state_lost(server: &Server) -> Stop {
    let message = format!("the primary of group \"{}\" that held this session's state was lost", server.pool.group);
    Stop::Fatal(
        UserError::fatal("57P01", message)
            .detail("Temporary tables, cursors, advisory locks and the like live on one server connection.")
            .hint("Reconnect."),
    )
}
