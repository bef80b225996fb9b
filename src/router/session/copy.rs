//! COPY FROM STDIN on one server: the client's data streams through, with back-pressure, while errors
//! may come back at any time. Called by the pump when a server asks for data.

use std::{future::poll_fn, task::Poll};

use bytes::Buf as _;

use super::{Fault, Session, Stop, relay::Due};
use crate::router::core::{
    error::UserError,
    protocol::{frame, frontend},
};

/// Data in flight towards the server: the client is read on only below this.
const IN_FLIGHT: usize = 512 * 1024;

impl Session {
    /// The server waits for data.
    pub(super) fn begin_copy_in(&mut self, at: usize) {
        self.swallow_sync(at);
        self.copying = Some(0);
    }

    /// Passes COPY data on until the client ends it or the server says something. `rest`: of a
    /// `CopyData` message that is passed on in parts.
    pub(super) async fn copy_in(&mut self, at: usize, mut rest: usize) -> Result<(), Fault> {
        self.client.flush().await?;
        loop {
            let ended = self.take_copy_data(at, &mut rest)?;
            if ended && matches!(self.relay.due.front(), Some(Due::Execute(_))) {
                // PostgreSQL keeps its answer until `Sync`, which the client may send only after it.
                frontend::flush(&mut self.participants[at].server.output);
            }
            let (client, server) = (&mut self.client, &mut self.participants[at].server);
            let event = poll_fn(|cx| {
                if let Poll::Ready(Err(lost)) = server.poll_send(cx) {
                    return Poll::Ready(Err(lost));
                }
                if ended && server.output.is_empty() {
                    return Poll::Ready(Ok(Event::Ended));
                }
                if let Poll::Ready(read) = server.poll_fill(cx) {
                    return Poll::Ready(read.map(|()| Event::ServerSpoke));
                }
                if !ended && server.output.len() < IN_FLIGHT {
                    return client.poll_fill(cx).map(|read| Ok(Event::Client(read)));
                }
                Poll::Pending
            })
            .await;
            match event {
                Ok(Event::Client(read)) => read?,
                Ok(Event::Ended) => {
                    self.copying = None;
                    return Ok(());
                }
                // A notice, or an error. A message that was begun must be passed on whole all the same.
                Ok(Event::ServerSpoke) if rest == 0 || ended => {
                    self.copying = (!ended).then_some(rest);
                    return Ok(());
                }
                Ok(Event::ServerSpoke) => {}
                Err(lost) => return Err(self.lost(at, &lost)),
            }
        }
    }

    /// In COPY mode PostgreSQL ignores the `Sync` that followed `Execute`; the client sends another.
    fn swallow_sync(&mut self, at: usize) {
        if matches!(self.relay.due.front(), Some(Due::Execute(_)))
            && let Some(index) = self.relay.due.iter().position(|due| matches!(due, Due::Sync))
        {
            self.relay.due.remove(index);
            self.participants[at].unsynced = true;
            self.batch.ends = false;
        }
        self.relay.copied = matches!(self.relay.due.front(), Some(Due::Execute(_)));
    }

    /// The client waits for the end of a COPY before it sends its `Sync`: the router sends its own, so that
    /// what the client is told is committed.
    pub(super) async fn commit_copy(&mut self) -> Result<(), Stop> {
        let Some(at) = self.active else { return Ok(()) };
        self.participants[at].unsynced = false;
        self.participants[at].executed = false;
        frontend::sync(&mut self.participants[at].server.output);
        self.relay.due.push_back(Due::Sync);
        match self.pump().await {
            Ok(()) => Ok(()),
            Err(fault) => self.settle(fault).await,
        }
    }

    /// Moves data messages to the server: true once the client has ended the COPY.
    fn take_copy_data(&mut self, at: usize, rest: &mut usize) -> Result<bool, Stop> {
        let (input, output) = (&mut self.client.input, &mut self.participants[at].server.output);
        loop {
            if *rest > 0 {
                let count = (*rest).min(input.len());
                output.extend_from_slice(&input[..count]);
                input.advance(count);
                *rest -= count;
                if *rest > 0 {
                    return Ok(false);
                }
            }
            let head = frame::client_head(input).map_err(|error| Stop::Fatal(UserError::protocol(error)))?;
            let Some(head) = head else { return Ok(false) };
            match head.tag {
                b'd' => *rest = head.size,
                b'c' | b'f' if input.len() >= head.size => {
                    output.extend_from_slice(&input[..head.size]);
                    input.advance(head.size);
                    return Ok(true);
                }
                b'H' | b'S' => input.advance(head.size.min(input.len())),
                b'c' | b'f' => return Ok(false),
                b'X' => return Err(Stop::Gone),
                other => {
                    let why = format!("unexpected message type 0x{other:02X} during COPY from stdin");
                    return Err(Stop::Fatal(UserError::protocol(why)));
                }
            }
        }
    }
}

enum Event {
    Client(Result<(), Stop>),
    Ended,
    ServerSpoke,
}
