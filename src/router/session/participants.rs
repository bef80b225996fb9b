//! The server connections that work for a session: joining, telling them what they must know first, and
//! giving them back. Called by the session and the executors.

use std::{future::poll_fn, rc::Rc};

use super::{Fault, Session};
use crate::{
    model::ids::GroupId,
    router::{
        core::{error::UserError, transaction::Block},
        pool::{
            CheckoutError, Wanted,
            server::{CallError, Server},
        },
    },
};

/// One group's connection.
#[expect(clippy::struct_excessive_bools, reason = "four independent facts")]
pub struct Participant {
    /// The connection.
    pub server: Server,
    /// It takes part in the transaction, or in the statement that commits by itself. A connection that
    /// the session keeps may be there without.
    pub joined: bool,
    /// It may have written.
    pub wrote: bool,
    /// It was sent messages of the extended protocol that no `Sync` has followed yet.
    pub unsynced: bool,
    /// Since the last `Sync` it was told to execute something.
    pub executed: bool,
}

impl Participant {
    /// Its group.
    pub fn group(&self) -> &GroupId {
        &self.server.pool.group
    }
}

impl Session {
    /// Index of a group's connection, where there is one.
    pub fn find(&self, group: &GroupId) -> Option<usize> {
        self.participants.iter().position(|participant| participant.group() == group)
    }

    /// Makes a group take part: its index in `participants`. Waits for a primary and for a connection;
    /// `BEGIN` is written with what comes next.
    pub async fn join(&mut self, group: &GroupId) -> Result<usize, Fault> {
        let at = match self.find(group) {
            Some(at) if self.participants[at].joined => return Ok(at),
            Some(at) => at,
            None => {
                let server = self.checkout(group).await?;
                self.handle.links.borrow_mut().push(server.link.clone());
                self.participants.push(Participant {
                    server,
                    joined: false,
                    wrote: false,
                    unsynced: false,
                    executed: false,
                });
                self.participants.len() - 1
            }
        };
        let wanted = self.block.as_ref().map_or(&self.settings, Block::before).clone();
        let server = &mut self.participants[at].server;
        server.set_at_work(true);
        if let Err(error) = server.apply(&wanted).await {
            return Err(self.join_failed(at, error));
        }
        if let Some(block) = &self.block {
            server.prefix(&block.begin);
            for statement in block.replay() {
                if let Err(error) = server.call(&statement).await {
                    return Err(self.join_failed(at, error));
                }
            }
        }
        // What the settings and savepoints took is nothing that could have run twice.
        self.participants[at].server.sent = false;
        self.participants[at].joined = true;
        Ok(at)
    }

    /// Nothing of the client's was sent on it yet, and its state is unknown: it is closed.
    fn join_failed(&mut self, at: usize, error: CallError) -> Fault {
        self.participants[at].server.sent = false;
        if matches!(error, CallError::Refused(_)) {
            self.remove(at);
        }
        self.call_failed(at, error)
    }

    async fn checkout(&mut self, group: &GroupId) -> Result<Server, Fault> {
        let slot = self.cached_pools.iter().position(|(known, _)| known == group).unwrap_or_else(|| {
            self.cached_pools.push((group.clone(), None));
            self.cached_pools.len() - 1
        });
        let settings = self.block.as_ref().map_or(&self.settings, Block::before).clone();
        let worker = self.worker.clone();
        let cached = &mut self.cached_pools[slot].1;
        if let Some(server) = worker.pools.take(&settings, cached.as_ref()) {
            return self.not_terminated(server);
        }
        let bytes = self.client.input.len() + self.client.output.len() + self.batch.bytes;
        let handle = self.handle.clone();
        let client = &mut self.client;
        let checkout = worker.pools.checkout(group, self.wanted, &self.identity, &settings, bytes, cached);
        let server = tokio::select! {
            biased;
            server = checkout => server.map_err(|error| match error {
                CheckoutError::Refused(error) => Fault::Refused(error),
                CheckoutError::Server(error) => Fault::Server(error),
            })?,
            // Nobody waits for the answer any more, or not for this one.
            stop = poll_fn(|cx| client.poll_gone(cx)) => return Err(stop.into()),
            () = handle.cancelled.notified() => return Err(UserError::cancelled().into()),
        };
        self.not_terminated(server)
    }

    /// A batch that is run again because its server process was ended comes to the same primary again:
    /// so it was not the primary that went, but an administrator who ended the process. That is for
    /// the client to know.
    fn not_terminated(&mut self, server: Server) -> Result<Server, Fault> {
        let pool = &server.pool;
        if self.batch.ended.as_ref().is_some_and(|(group, epoch)| *group == pool.group && *epoch == pool.epoch) {
            let error = UserError::terminated(&pool.group);
            self.worker.pools.give_back(server);
            return Err(error.into());
        }
        Ok(server)
    }

    /// Takes a connection out of the session; it is closed unless the caller keeps it.
    pub fn remove(&mut self, at: usize) -> Server {
        let participant = self.participants.remove(at);
        self.handle.links.borrow_mut().retain(|link| !Rc::ptr_eq(link, &participant.server.link));
        self.active = match self.active {
            Some(active) if active == at => None,
            Some(active) if active > at => Some(active - 1),
            other => other,
        };
        participant.server
    }

    /// The transaction is over: connections go back, but for those that the session keeps.
    pub(super) fn release(&mut self) {
        self.active = None;
        self.own_catalog = None;
        self.statements.close_portals();
        let mut at = 0;
        while at < self.participants.len() {
            let participant = &mut self.participants[at];
            participant.joined = false;
            participant.wrote = false;
            participant.server.applied = self.settings.clone();
            if participant.server.pinned && participant.server.status == b'I' {
                participant.server.set_at_work(false);
                at += 1;
                continue;
            }
            let server = self.remove(at);
            self.worker.pools.give_back(server);
        }
    }

    /// Writes may not go to standbys; their settings say so to PostgreSQL.
    pub fn is_read_only(&self) -> bool {
        self.wanted == Wanted::Standby
    }
}
