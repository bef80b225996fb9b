//! What a lost server connection means to the client: try again, 40001, or an unknown outcome
//! (failover.md, "What clients see"). Called wherever a session works on a connection.

use super::{Fault, Session, Stop};
use crate::router::{
    cancel,
    core::error::UserError,
    pool::server::{Lost, Server, ServerError},
};

impl Session {
    /// The session ends: what is still running for it has no one to run for, and is cancelled.
    pub(super) async fn abandon(&mut self) {
        let active = if self.relay.due.is_empty() { None } else { self.active };
        if let Some(at) = active {
            let server = self.remove(at);
            cancel::running(&server.link).await;
        }
        self.participants.clear();
    }

    /// A participant's connection is lost.
    ///
    /// ```text
    /// the client was told a part of the answer, or a block had done something     40001
    /// COMMIT, or a write that commits by itself, was sent                          08007
    /// nothing of it was sent, or nothing of it can have been committed             run it again
    /// ```
    pub fn lost(&mut self, at: usize, lost: &Lost) -> Fault {
        let server = self.remove(at);
        let group = server.pool.group.clone();
        tracing::info!(%group, member = %server.pool.endpoint.member, error = %lost, "server connection lost");
        self.relay.due.clear();
        if server.pinned {
            return Fault::Stop(state_lost(&server));
        }
        let unknown = match &self.block {
            Some(_) => self.batch.commit_sent && !self.batch.commit_of_reads,
            // A write that has not left this router has not run.
            None => self.batch.may_have_written && server.sent,
        };
        if unknown {
            self.block = None;
            return Fault::Refused(UserError::outcome_unknown(&group));
        }
        if self.may_begin_anew() {
            if matches!(lost, Lost::Ended(error) if error.sqlstate() == ADMIN_SHUTDOWN) {
                self.batch.ended = Some((group, server.pool.epoch));
            }
            self.leave_all();
            return Fault::Retry;
        }
        match &mut self.block {
            // COMMIT ends a block whatever comes of it.
            Some(_) if self.batch.commit_sent => self.block = None,
            Some(block) => {
                if !block.implicit {
                    block.forget_savepoints();
                }
                block.failed = true;
            }
            None => {}
        }
        Fault::Refused(UserError::lost_transaction(&group))
    }

    /// May the batch be run again from its first message? The client has been told nothing of it, the
    /// block it belongs to has done nothing before it, and what other connections did for it goes with
    /// them.
    fn may_begin_anew(&self) -> bool {
        let keeps = self.participants.iter().any(|it| it.joined && it.server.pinned);
        let committed = self.batch.commit_sent || self.batch.committed;
        self.may_run_again() && self.batch.found.is_some() && !committed && !keeps
    }

    /// Closes all connections that work for the batch: answers may be on their way on any of them.
    fn leave_all(&mut self) {
        while let Some(at) = self.participants.iter().position(|participant| participant.joined) {
            drop(self.remove(at));
        }
    }
}

/// "terminating connection due to administrator command": a shutdown, or `pg_terminate_backend`.
const ADMIN_SHUTDOWN: &str = "57P01";

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
        if self.may_begin_anew() {
            self.leave_all();
            return Fault::Retry;
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
