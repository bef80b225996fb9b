//! What a server was sent and has not answered yet, and passing its answers on: by header only, without
//! looking into rows. Called by the session.

use std::{collections::VecDeque, rc::Rc, sync::Arc};

use bytes::{Buf as _, Bytes, BytesMut};

use super::{guard::names_guard, statement::Statement};
use crate::{
    model::ids::GroupId,
    router::{
        core::{
            catalog::Catalog,
            error::UserError,
            leaf_names,
            protocol::{backend, frame},
        },
        pool::{
            prepared::StatementId,
            server::{Lost, Server, ServerError, is_fatal, is_unacknowledged},
        },
    },
};

/// An answer that is due, in the order of what was asked.
#[derive(Debug)]
pub enum Due {
    /// Ours: these bytes.
    Emit(Bytes),
    /// `ParseComplete`; hidden where the client did not ask. `name`: to be forgotten if it fails.
    Parse { id: StatementId, name: Option<Bytes>, hidden: bool },
    /// `BindComplete`; hidden where the client was told already.
    Bind { hidden: bool },
    /// `RowDescription` or `NoData`.
    Describe,
    /// Up to `CommandComplete`, `EmptyQueryResponse` or `PortalSuspended`.
    Execute(Rc<Statement>),
    /// `CloseComplete`; hidden where the client did not ask.
    Close { hidden: bool },
    /// `ReadyForQuery` after `Sync`.
    Sync,
    /// Everything up to `ReadyForQuery` after a simple query or function call.
    Query,
}

impl Due {
    /// Did the client not ask for it, or was it told already?
    fn is_hidden(&self) -> bool {
        matches!(self, Self::Parse { hidden: true, .. } | Self::Bind { hidden: true } | Self::Close { hidden: true })
    }
}

/// Output held back at most until a commit is certain.
const HELD_SUCCESS: usize = 1 << 20;

/// Why scanning stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// Everything due has come.
    Done,
    /// More must be read.
    More,
    /// The server waits for COPY data.
    CopyIn,
}

/// The state of passing answers on.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Relay {
    /// What is due.
    pub due: VecDeque<Due>,
    /// An error came since the batch began.
    pub failed: bool,
    /// First bytes of the last command tag: `COMMIT`, `ROLLBACK`, `SELECT 1`.
    pub tag: Vec<u8>,
    /// Statements that completed and that mean something to the session.
    pub completed: Vec<Rc<Statement>>,
    /// Names of statements that failed to be prepared.
    pub forgotten: Vec<Bytes>,
    /// Anything but an error was passed on since the batch began.
    pub answered: bool,
    /// A server refused, by this error, what a router with an old catalog would ask.
    pub old_catalog: Option<ServerError>,
    /// Rest of a message that is passed on in parts.
    passing: usize,
    /// A commit's wait for standbys was cancelled.
    unacknowledged: bool,
    /// Where in the output a success begins that must not be sent before the commit is certain.
    success_at: Option<usize>,
    /// A COPY of the extended protocol is being answered: clients take its end for a success, although it is
    /// committed only by the `Sync` after it.
    pub copied: bool,
    /// What shards' messages are put into users' names by; known once a shard has been asked.
    pub names: Option<Names>,
}

/// The user's names of what shards call by leaves' names.
#[derive(Debug)]
pub struct Names {
    /// Version of the catalog.
    pub version: i64,
    /// The query group, whose messages are in the user's names already.
    pub query: GroupId,
    /// Parents of leaves.
    pub catalog: Arc<Catalog>,
}

impl Relay {
    /// A new batch begins.
    pub fn begin(&mut self) {
        debug_assert!(self.due.is_empty());
        self.failed = false;
        self.answered = false;
        self.unacknowledged = false;
        self.copied = false;
    }

    /// Passes our own answers on that are next in line.
    pub fn emit(&mut self, out: &mut BytesMut) {
        while let Some(Due::Emit(bytes)) = self.due.front() {
            out.extend_from_slice(bytes);
            self.due.pop_front();
            self.answered = true;
        }
    }

    /// May the output be written now? Not while it holds a success that `ReadyForQuery` must confirm;
    /// but a pipeline that answers more than fits into [`HELD_SUCCESS`] is not held back.
    pub fn may_flush(&mut self, output: usize) -> bool {
        if output > HELD_SUCCESS {
            self.success_at = None;
        }
        self.success_at.is_none()
    }

    /// Is the end of a COPY held back until its commit is certain?
    pub fn holds_copy(&self) -> bool {
        self.copied && self.success_at.is_some() && self.due.is_empty()
    }

    /// Uses what `server` has sent: moves what is the client's to `out`.
    pub fn scan(&mut self, server: &mut Server, out: &mut BytesMut) -> Result<Scan, Lost> {
        self.emit(out);
        let mut input = std::mem::take(&mut server.input);
        let mut at = 0;
        let scan = self.scan_bytes(&input, &mut at, server, out);
        input.advance(at);
        server.input = input;
        scan
    }

    fn scan_bytes(
        &mut self,
        input: &[u8],
        at: &mut usize,
        server: &mut Server,
        out: &mut BytesMut,
    ) -> Result<Scan, Lost> {
        // Rows between `from` and `at` are passed on in one piece.
        let mut from = 0;
        let scan = loop {
            let rest = &input[*at..];
            if self.passing > 0 {
                let count = self.passing.min(rest.len());
                *at += count;
                self.passing -= count;
                if self.passing > 0 {
                    break Scan::More;
                }
                continue;
            }
            if self.due.is_empty() {
                break Scan::Done;
            }
            let Some(head) = frame::head(rest).map_err(|_| Lost::Protocol("a message of impossible length"))? else {
                break Scan::More;
            };
            // A row, or COPY data; a long one need not be there as a whole.
            if server.setup() == 0 && matches!(head.tag, b'D' | b'd') {
                self.passing = head.size;
                self.answered = true;
                continue;
            }
            if rest.len() < head.size {
                break Scan::More;
            }
            out.extend_from_slice(&input[from..*at]);
            let copy_in = head.tag == b'G' && server.setup() == 0;
            *at += head.size;
            from = *at;
            self.message(server, head.tag, &rest[..head.size], out)?;
            self.emit(out);
            if copy_in {
                break Scan::CopyIn;
            }
        };
        out.extend_from_slice(&input[from..*at]);
        Ok(scan)
    }

    fn message(&mut self, server: &mut Server, tag: u8, message: &[u8], out: &mut BytesMut) -> Result<(), Lost> {
        let body = &message[5..];
        if server.setup() > 0 {
            return server.swallow(tag, body);
        }
        let hidden = match tag {
            b'Z' => {
                self.ready(server, body, out);
                // The session says what the client is told.
                true
            }
            b'C' if self.unacknowledged => {
                self.fail(server);
                UserError::not_acknowledged().encode(out);
                true
            }
            b'C' => {
                self.tag.clear();
                self.tag.extend_from_slice(&body[..body.len().saturating_sub(1).min(32)]);
                self.complete(out.len());
                false
            }
            b'I' | b's' | b'T' | b'n' => {
                if self.expects(tag) {
                    self.due.pop_front();
                }
                false
            }
            b'1' | b'2' | b'3' => self.due.pop_front().is_some_and(|due| due.is_hidden()),
            b'N' if is_unacknowledged(body) => {
                self.not_acknowledged(server, out);
                false
            }
            b'E' if self.shows_old_catalog(server, body) => {
                self.old_catalog = Some(ServerError(Bytes::copy_from_slice(body)));
                self.fail(server);
                true
            }
            b'E' if is_fatal(body) => return Err(Lost::Ended(ServerError(Bytes::copy_from_slice(body)))),
            b'E' => {
                self.fail(server);
                false
            }
            b'S' => {
                if let Ok((name, value)) = backend::read_parameter(body) {
                    server.parameters.insert(name.to_owned(), value.to_owned());
                }
                false
            }
            _ => false,
        };
        if !hidden {
            match &self.names {
                Some(names) if matches!(tag, b'E' | b'N') && server.pool.group != names.query => {
                    let body = leaf_names::for_user(body, &names.catalog);
                    frame::put(out, tag, |out| out.extend_from_slice(&body));
                }
                _ => out.extend_from_slice(message),
            }
            self.answered |= !matches!(tag, b'E' | b'N' | b'S');
        }
        Ok(())
    }

    /// The server is ready: what was to be committed is, or the wait for its standbys was cancelled.
    fn ready(&mut self, server: &mut Server, body: &[u8], out: &mut BytesMut) {
        server.status = body.first().copied().unwrap_or(b'I');
        // Its success has gone to the client already: as PostgreSQL does where a commit fails at `Sync`, an
        // error follows it.
        if std::mem::take(&mut self.unacknowledged) {
            self.failed = true;
            UserError::not_acknowledged().encode(out);
        }
        self.success_at = None;
        self.copied = false;
        self.due.pop_front();
    }

    /// Is the next answer due complete with this message?
    fn expects(&self, tag: u8) -> bool {
        match self.due.front() {
            Some(Due::Execute(_)) => matches!(tag, b'I' | b's'),
            Some(Due::Describe) => matches!(tag, b'T' | b'n'),
            _ => false,
        }
    }

    /// A statement completed; what it will write to the output begins at `at`.
    fn complete(&mut self, at: usize) {
        let committed_later = matches!(self.due.back(), Some(Due::Sync)) || self.copied;
        if committed_later && self.success_at.is_none() {
            self.success_at = Some(at);
        }
        if let Some(Due::Execute(_)) = self.due.front()
            && let Some(Due::Execute(statement)) = self.due.pop_front()
            && statement.has_effects()
        {
            self.completed.push(statement);
        }
    }

    /// The client's success waits for a commit whose wait for standbys was cancelled: it is none.
    fn not_acknowledged(&mut self, server: &mut Server, out: &mut BytesMut) {
        match self.success_at.take() {
            Some(at) => {
                out.truncate(at);
                self.fail(server);
                UserError::not_acknowledged().encode(out);
            }
            None => self.unacknowledged = true,
        }
    }

    /// The guard of a shell, or a leaf that is not where it was.
    fn shows_old_catalog(&self, server: &Server, body: &[u8]) -> bool {
        match backend::field(body, b'C') {
            Some(b"55000" | b"2BP01") => names_guard(&ServerError(Bytes::copy_from_slice(body))),
            Some(b"42P01") => self.names.as_ref().is_some_and(|names| server.pool.group != names.query),
            _ => false,
        }
    }

    /// As the server does after an error: everything up to `Sync` is skipped.
    pub fn fail(&mut self, server: &mut Server) {
        self.failed = true;
        self.unacknowledged = false;
        while let Some(due) = self.due.front() {
            if matches!(due, Due::Sync | Due::Query) {
                break;
            }
            if let Some(Due::Parse { id, name, .. }) = self.due.pop_front() {
                server.prepared.remove(id);
                self.forgotten.extend(name);
            }
        }
    }
}
