//! Moving answers from the active server to the client until nothing is due. Called by the session
//! whenever it has written something that must be answered.

use std::{future::poll_fn, task::Poll};

use super::{Fault, Session, Stop, relay::Scan};
use crate::router::core::protocol::frontend;

/// Output gathered before it is written while a server keeps sending.
const GATHER: usize = 64 * 1024;

impl Session {
    /// Sends what is to be sent, and passes answers on until nothing is due.
    pub(super) async fn pump(&mut self) -> Result<(), Fault> {
        self.relay.emit(&mut self.client.output);
        let Some(at) = self.active else { return Ok(()) };
        loop {
            let server = &mut self.participants[at].server;
            match self.relay.scan(server, &mut self.client.output) {
                Ok(Scan::Done) => break,
                Ok(Scan::CopyIn) => {
                    self.begin_copy_in(at);
                    continue;
                }
                Ok(Scan::More) => {}
                Err(lost) => return Err(self.lost(at, &lost)),
            }
            match self.copying {
                Some(rest) if !self.relay.failed => self.copy_in(at, rest).await?,
                _ => self.read_more(at).await?,
            }
        }
        self.copying = None;
        self.after_answers(at);
        if let Some(error) = self.relay.old_catalog.take() {
            return Err(self.catalog_was_old(error).await);
        }
        Ok(())
    }

    /// Reads more of the server's bytes. What is there for the client is written before waiting, in
    /// one piece if the server has more at once.
    async fn read_more(&mut self, at: usize) -> Result<(), Fault> {
        let may_flush = self.relay.may_flush(self.client.output.len()) && !self.client.output.is_empty();
        let server = &mut self.participants[at].server;
        let read = if may_flush && self.client.output.len() < GATHER {
            poll_fn(|cx| Poll::Ready(server.poll_exchange(cx))).await
        } else {
            Poll::Pending
        };
        let read = match read {
            Poll::Ready(read) => read,
            Poll::Pending => {
                if may_flush {
                    self.client.flush().await?;
                }
                let (client, server) = (&mut self.client, &mut self.participants[at].server);
                poll_fn(|cx| match server.poll_exchange(cx) {
                    Poll::Ready(read) => Poll::Ready(Ok(read)),
                    Poll::Pending => client.poll_gone(cx).map(Err),
                })
                .await?
            }
        };
        read.map_err(|lost| self.lost(at, &lost))
    }

    /// What completed statements and failed preparations mean to the session.
    fn after_answers(&mut self, at: usize) {
        for name in std::mem::take(&mut self.relay.forgotten) {
            self.statements.remove(&name);
        }
        if !self.relay.completed.is_empty() {
            for statement in std::mem::take(&mut self.relay.completed) {
                self.completed(at, &statement);
            }
        }
    }

    /// Waits until everything due has been answered, without ending the batch.
    pub(super) async fn drain(&mut self) -> Result<(), Fault> {
        if self.relay.due.is_empty() {
            return Ok(());
        }
        if let Some(at) = self.active {
            frontend::flush(&mut self.participants[at].server.output);
        }
        self.pump().await?;
        if self.relay.failed { Err(Fault::Reported) } else { Ok(()) }
    }

    /// Writes a large batch out early, passing on what comes meanwhile.
    pub(super) async fn push_out(&mut self) -> Result<(), Fault> {
        let Some(at) = self.active else { return Ok(()) };
        while !self.participants[at].server.output.is_empty() {
            let server = &mut self.participants[at].server;
            if let Err(lost) = server.send_some().await {
                return Err(self.lost(at, &lost));
            }
            let server = &mut self.participants[at].server;
            match self.relay.scan(server, &mut self.client.output) {
                Ok(Scan::CopyIn) => {
                    self.begin_copy_in(at);
                    self.pump().await?;
                }
                Ok(Scan::Done | Scan::More) => {}
                Err(lost) => return Err(self.lost(at, &lost)),
            }
            if self.client.output.len() > GATHER && self.relay.may_flush(self.client.output.len()) {
                self.client.flush().await?;
            }
        }
        Ok(())
    }

    /// Passes on what a kept connection says while the session is idle.
    pub(super) fn pass_notifications(&mut self, at: usize) {
        let server = &mut self.participants[at].server;
        while let Ok(Some(frame)) = server.take() {
            if matches!(frame.tag, b'A' | b'N' | b'S') {
                self.client.output.extend_from_slice(&frame.bytes);
            }
        }
    }

    /// The client is told that its session cannot go on without a connection it kept.
    pub(super) fn lost_while_idle(&mut self, at: usize) -> Stop {
        let server = self.remove(at);
        super::loss::state_lost(&server)
    }
}
