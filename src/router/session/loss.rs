//! What a lost server connection means to the client: try again, 40001, or an unknown outcome
//! (failover.md, "What clients see"). Called wherever a session works on a connection.

use super::{Fault, Session, Stop};
use crate::router::{
    core::error::UserError,
    pool::server::{Lost, Server},
};

/// How often the same batch is run again: each time a primary was lost under it. Above, something else
/// is wrong.
const MAX_ATTEMPTS: u32 = 5;

impl Session {
    /// A participant's connection is lost.
    pub fn lost(&mut self, at: usize, lost: &Lost) -> Fault {
        let server = self.remove(at);
        let group = server.pool.group.clone();
        tracing::info!(%group, member = %server.pool.endpoint.member, error = %lost, "server connection lost");
        self.relay.due.clear();
        let first = !self.relay.answered && self.batch.attempts < MAX_ATTEMPTS;
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
            None if first => Fault::Retry,
            None => Fault::Refused(UserError::lost_transaction(&group)),
        }
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
