//! One statement on each of several servers at once: sends, reads, passes rows on with back-pressure.
//! One task drives all of them: no threads, no hand-over. Called by the executors of scattered reads
//! and writes.
//!
//! ```text
//!  server 1 ─┐                     ┌─> client's output   (Take::Pass)
//!  server 2 ─┼─ whole messages ────┼─> arrays in memory  (Take::Collect)
//!  server 3 ─┘                     └─> temporary table   (Take::Spool)
//! ```

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use bytes::{Buf as _, BufMut as _, Bytes};

use crate::router::{
    cancel,
    core::{
        catalog::Catalog,
        copy_lines::Lines,
        leaf_names,
        merge::Arrays,
        protocol::{backend, frame},
    },
    pool::server::{Lost, Server, ServerError, is_fatal, is_unacknowledged},
    session::{Client, Stop},
};

/// Bytes that may wait for a slow receiver: as much as the kernel's own buffers hold on a fast link, so
/// that it costs no throughput, and small enough for thousands of sessions.
pub const HIGH_WATER: usize = 256 * 1024;

/// What becomes of the rows.
pub enum Take<'a> {
    /// They go to the client as they come.
    Pass {
        /// The first server's `RowDescription` too.
        describe: bool,
        /// Those of this server only; all do the same.
        only: Option<usize>,
    },
    /// They are kept.
    Collect {
        /// Here.
        arrays: &'a mut Arrays,
        /// Up to so many bytes.
        limit: usize,
    },
    /// They become lines of a text COPY, kept in memory.
    Lines(&'a mut Lines),
    /// They become the data of a COPY that this server waits for.
    Spool(&'a mut Server),
}

/// How far a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Every server is done.
    Done,
    /// The arrays are full; go on with another [`Take`].
    Full,
}

/// Why it failed. The servers that could be brought to an end have been.
#[derive(Debug)]
pub enum FanError {
    /// A server refused, in the user's names.
    Refused(ServerError),
    /// A server was lost: which, and how.
    Lost(usize, Lost),
    /// It committed by itself, and its wait for standbys was cancelled.
    Unacknowledged,
    /// The client is gone.
    Client(Stop),
}

struct Branch<'a> {
    server: &'a mut Server,
    done: bool,
    tag: Option<Bytes>,
}

/// Several servers at work on one statement.
pub struct Fan<'a> {
    branches: Vec<Branch<'a>>,
    catalog: &'a Catalog,
    described: bool,
    refused: Option<ServerError>,
    lost: Option<(usize, Lost)>,
    cancelled: bool,
    /// A statement that commits by itself was not acknowledged by a standby.
    unacknowledged: bool,
}

impl<'a> Fan<'a> {
    /// Over servers whose output holds the requests, each ending in `Sync` (or being a simple query).
    pub fn new(servers: Vec<&'a mut Server>, catalog: &'a Catalog) -> Self {
        let branches = servers.into_iter().map(|server| Branch { server, done: false, tag: None }).collect();
        Self { branches, catalog, described: false, refused: None, lost: None, cancelled: false, unacknowledged: false }
    }

    /// Rows counted by the tags of all servers, or of one.
    pub fn count(&self, only: Option<usize>) -> u64 {
        let counted = self.branches.iter().enumerate().filter(|(at, _)| only.is_none_or(|only| only == *at));
        counted.filter_map(|(_, branch)| branch.tag.as_deref().and_then(count_of)).sum()
    }

    /// Runs until all are done, or the arrays are full. On an error the other servers are cancelled and
    /// brought to their end first.
    pub async fn run(&mut self, client: &mut Client, mut take: Take<'_>) -> Result<Progress, FanError> {
        loop {
            let turn = poll_fn(|cx| self.turn(client, &mut take, cx)).await?;
            if (self.refused.is_some() || self.lost.is_some()) && !self.cancelled {
                self.cancelled = true;
                for branch in self.branches.iter().filter(|branch| !branch.done) {
                    cancel::running(&branch.server.link).await;
                }
            }
            match turn {
                Turn::Again => {}
                Turn::Full => return Ok(Progress::Full),
                Turn::Done => break,
            }
        }
        if let Some((at, lost)) = self.lost.take() {
            return Err(FanError::Lost(at, lost));
        }
        match self.refused.take() {
            Some(error) => Err(FanError::Refused(error)),
            None if self.unacknowledged => Err(FanError::Unacknowledged),
            None => Ok(Progress::Done),
        }
    }

    fn turn(&mut self, client: &mut Client, take: &mut Take<'_>, cx: &mut Context<'_>) -> Poll<Result<Turn, FanError>> {
        loop {
            if !client.output.is_empty()
                && let Poll::Ready(Err(stop)) = client.poll_flush(cx)
            {
                return Poll::Ready(Err(FanError::Client(stop)));
            }
            let mut moved = false;
            for at in 0..self.branches.len() {
                if !self.receiver_has_room(client, take, cx) {
                    break;
                }
                let failing = self.refused.is_some() || self.lost.is_some();
                match self.advance(at, client, take, cx) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => moved = true,
                    Poll::Ready(Err(lost)) => {
                        moved = true;
                        self.branches[at].done = true;
                        self.lost.get_or_insert((at, lost));
                    }
                }
                if !failing && (self.refused.is_some() || self.lost.is_some()) {
                    return Poll::Ready(Ok(Turn::Again));
                }
                if let Take::Collect { arrays, limit } = take
                    && arrays.bytes() > *limit
                {
                    return Poll::Ready(Ok(Turn::Full));
                }
            }
            if self.branches.iter().all(|branch| branch.done) {
                return Poll::Ready(Ok(Turn::Done));
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// May more be read? While servers are being brought to an end, always: nothing is passed on.
    fn receiver_has_room(&self, client: &mut Client, take: &mut Take<'_>, cx: &mut Context<'_>) -> bool {
        if self.refused.is_some() || self.lost.is_some() {
            return true;
        }
        match take {
            Take::Pass { .. } => client.output.len() < HIGH_WATER,
            Take::Collect { .. } | Take::Lines(_) => true,
            Take::Spool(spool) => {
                // A loss shows when the COPY ends.
                let _ = spool.poll_send(cx);
                spool.output.len() < HIGH_WATER
            }
        }
    }

    /// Uses what has come from one server, then reads more.
    fn advance(
        &mut self,
        at: usize,
        client: &mut Client,
        take: &mut Take<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Lost>> {
        if self.branches[at].done {
            return Poll::Pending;
        }
        let before = self.branches[at].server.input.len();
        self.scan(at, client, take)?;
        if self.branches[at].done {
            return Poll::Ready(Ok(()));
        }
        match self.branches[at].server.poll_exchange(cx) {
            // Bytes were used although none came: the receiver may have room for more of them.
            Poll::Pending if self.branches[at].server.input.len() != before => Poll::Ready(Ok(())),
            other => other,
        }
    }

    /// Uses whole messages up to the receiver's high water.
    fn scan(&mut self, at: usize, client: &mut Client, take: &mut Take<'_>) -> Result<(), Lost> {
        loop {
            let full = match take {
                Take::Pass { .. } => client.output.len() >= HIGH_WATER,
                Take::Collect { arrays, limit } => arrays.bytes() > *limit,
                Take::Lines(_) => false,
                Take::Spool(spool) => spool.output.len() >= HIGH_WATER,
            };
            let failing = self.refused.is_some() || self.lost.is_some();
            let server = &mut *self.branches[at].server;
            let head = frame::head(&server.input).map_err(|_| Lost::Protocol("a message of impossible length"))?;
            let Some(head) = head.filter(|head| head.size <= server.input.len()) else { return Ok(()) };
            if full && !failing {
                return Ok(());
            }
            if server.setup() > 0 {
                let message = server.input.split_to(head.size);
                server.swallow(head.tag, &message[5..])?;
            } else if head.tag == b'D' {
                if !failing {
                    row(&server.input[..head.size], at, client, take)?;
                }
                server.input.advance(head.size);
            } else {
                let message = server.input.split_to(head.size).freeze();
                self.message(at, head.tag, &message, client, take)?;
                if self.branches[at].done {
                    return Ok(());
                }
            }
        }
    }

    fn message(
        &mut self,
        at: usize,
        tag: u8,
        message: &Bytes,
        client: &mut Client,
        take: &mut Take<'_>,
    ) -> Result<(), Lost> {
        let body = message.slice(5..);
        let branch = &mut self.branches[at];
        match tag {
            b'C' => branch.tag = Some(body.slice(..body.len().saturating_sub(1))),
            b'T' => {
                if let Take::Pass { describe: true, only } = take
                    && !self.described
                    && only.is_none_or(|only| only == at)
                {
                    self.described = true;
                    client.output.extend_from_slice(message);
                }
            }
            b'E' if is_fatal(&body) => return Err(Lost::Ended(ServerError(body))),
            b'E' => {
                let error = ServerError(leaf_names::for_user(&body, self.catalog));
                // The cancellation of the others is our own doing.
                self.refused.get_or_insert(error);
            }
            b'N' if is_unacknowledged(&body) => self.unacknowledged = true,
            b'N' => {
                let body = leaf_names::for_user(&body, self.catalog);
                frame::put(&mut client.output, b'N', |out| out.extend_from_slice(&body));
            }
            b'S' => {
                if let Ok((name, value)) = backend::read_parameter(&body) {
                    branch.server.parameters.insert(name.to_owned(), value.to_owned());
                }
            }
            b'Z' => {
                branch.server.status = body.first().copied().unwrap_or(b'I');
                branch.done = true;
            }
            b'G' | b'W' => return Err(Lost::Protocol("COPY where none was asked for")),
            _ => {}
        }
        Ok(())
    }
}

enum Turn {
    Again,
    Full,
    Done,
}

/// A row goes where it belongs.
fn row(message: &[u8], at: usize, client: &mut Client, take: &mut Take<'_>) -> Result<(), Lost> {
    match take {
        Take::Pass { only, .. } if only.is_some_and(|only| only != at) => {}
        Take::Pass { .. } => client.output.extend_from_slice(message),
        Take::Collect { arrays, .. } => {
            arrays.push(&message[5..]).map_err(|_| Lost::Protocol("a row of another shape"))?;
        }
        Take::Lines(lines) => lines.push(&message[5..]).map_err(|_| Lost::Protocol("a row of another shape"))?,
        // A DataRow's body is a tuple of binary COPY: only the tag changes.
        Take::Spool(spool) => {
            spool.output.put_u8(b'd');
            spool.output.extend_from_slice(&message[1..]);
        }
    }
    Ok(())
}

/// `INSERT 0 5`, `UPDATE 5`, `SELECT 5`: 5.
pub fn count_of(tag: &[u8]) -> Option<u64> {
    std::str::from_utf8(tag).ok()?.rsplit(' ').next()?.parse().ok()
}
