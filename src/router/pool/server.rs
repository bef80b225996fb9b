//! One connection to a member's PostgreSQL: buffers, framing, and what is known of its state. Owned by
//! whoever works on it; the pool keeps it in between. Called by the session and the executors.
//!
//! How to use it: append messages to `output` (`core::protocol::frontend`), then `message()` writes
//! them and answers the next whole message, or `exchange()` writes and reads bytes into `input` for
//! those who scan by header. Nothing here waits for ever once the member loses its office: `Link::revoke`
//! ends every wait at once.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite as _},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};

use super::{Counters, Pool, prepared::Prepared};
use crate::router::core::{
    protocol::{
        backend,
        frame::{self, Frame},
        frontend,
    },
    settings::Settings,
};

/// Bytes to make room for before a read: one system call fetches what a wide result's flush sends.
const READ_CHUNK: usize = 16 * 1024;
/// Room after a read that filled the last one: bulk data in fewer calls, bounded per connection.
const READ_BULK: usize = 128 * 1024;

/// A server connection that is gone, or cannot be trusted any more.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Its member is no longer the primary.
    #[error("the member lost its office")]
    Revoked,
    /// The connection was closed.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection to the server broke")]
    Broken(#[source] std::io::Error),
    /// The server ended it, saying why.
    #[error("the server ended the connection: {0}")]
    Ended(ServerError),
    /// The server's bytes are not the protocol's.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
}

/// A statement of our own that failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// PostgreSQL refused.
    #[error("{0}")]
    Refused(ServerError),
    /// It committed, but its wait for standbys was cancelled: that is no success.
    #[error("the commit was not acknowledged by a standby")]
    Unacknowledged,
}

/// An error that PostgreSQL reported: the body of its `ErrorResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError(pub Bytes);

impl ServerError {
    /// Five characters.
    pub fn sqlstate(&self) -> String {
        backend::field_text(&self.0, b'C')
    }

    /// One of its fields.
    pub fn field(&self, kind: u8) -> Option<&[u8]> {
        backend::field(&self.0, kind)
    }

    /// Appends it as PostgreSQL sent it.
    pub fn encode(&self, out: &mut BytesMut) {
        frame::put(out, b'E', |out| out.extend_from_slice(&self.0));
    }
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", backend::field_text(&self.0, b'M'), self.sqlstate())
    }
}

/// What others may know of a connection that somebody works on: whom to cancel, and how to end it.
#[derive(Debug)]
pub struct Link {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Process that serves it.
    pub pid: u32,
    /// That process's secret.
    pub secret: u32,
    revoked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Link {
    /// Ends every wait on the connection: it is lost.
    pub fn revoke(&self) {
        self.revoked.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// A connection.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Server {
    stream: TcpStream,
    /// Bytes read and not yet used.
    pub input: BytesMut,
    /// Bytes to be written.
    pub output: BytesMut,
    /// What others may know of it.
    pub link: Rc<Link>,
    /// Last transaction status: `I`, `T` or `E`.
    pub status: u8,
    /// The session settings it has.
    pub applied: Rc<Settings>,
    /// Statements prepared on it.
    pub prepared: Prepared,
    /// `ParameterStatus` values as last reported.
    pub parameters: BTreeMap<String, String>,
    /// It has something a next session must not see: never goes back to the pool.
    pub pinned: bool,
    /// Where it belongs.
    pub pool: Rc<Pool>,
    /// Command tag of the last statement of our own.
    pub tag: Vec<u8>,
    /// Something has been written since the session began to work on it: what that was may have run.
    pub sent: bool,
    /// Simple queries of ours written in front, whose answers nobody else is to see.
    setup: u32,
    bulk: bool,
    /// The place among those in use; given back with the connection.
    permit: Option<OwnedSemaphorePermit>,
    at_work: bool,
    counters: Option<Arc<Counters>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.set_at_work(false);
        if let Some(counters) = &self.counters {
            counters.connections.fetch_sub(1, Ordering::Relaxed);
        }
        // A polite end where it costs nothing; the close that follows says the same.
        let _ = self.stream.try_write(b"X\0\0\0\x04");
    }
}

impl Server {
    /// A connection that has just been authenticated; `input` may hold bytes already.
    pub(super) fn new(
        stream: TcpStream,
        input: BytesMut,
        pool: Rc<Pool>,
        (pid, secret): (u32, u32),
        parameters: BTreeMap<String, String>,
    ) -> Self {
        let (host, port) = (pool.endpoint.host.clone(), pool.endpoint.port);
        let link = Rc::new(Link { host, port, pid, secret, revoked: Cell::new(false), waker: RefCell::default() });
        Self {
            stream,
            input,
            output: BytesMut::new(),
            link,
            status: b'I',
            applied: Rc::default(),
            prepared: Prepared::default(),
            parameters,
            pinned: false,
            pool,
            tag: Vec::new(),
            sent: false,
            setup: 0,
            bulk: false,
            permit: None,
            at_work: false,
            counters: None,
        }
    }

    pub(super) fn keep(&mut self, permit: OwnedSemaphorePermit) {
        self.permit = Some(permit);
    }

    pub(super) fn counted(&mut self, counters: Arc<Counters>) {
        counters.connections.fetch_add(1, Ordering::Relaxed);
        self.counters = Some(counters);
    }

    /// Between transactions a connection does not count as one, not even where a session keeps it.
    pub fn set_at_work(&mut self, at_work: bool) {
        if at_work && !self.at_work {
            self.pool.open.fetch_add(1, Ordering::Relaxed);
        }
        if !at_work && self.at_work {
            self.pool.open.fetch_sub(1, Ordering::Relaxed);
        }
        self.at_work = at_work;
    }

    /// Nobody works on it: its place among those in use is free.
    pub(super) fn rest(&mut self) {
        self.set_at_work(false);
        self.permit = None;
    }

    /// It is lost, and its owner has yet to find out what became of its work: it keeps nobody waiting for its
    /// place among those in use, nor for the end of its transaction.
    pub fn give_up(&mut self) {
        self.rest();
    }

    /// Puts a query of ours in front of what follows, without waiting: `BEGIN` and its like, which
    /// cannot fail. Its answer is swallowed; should it fail after all, the connection counts as lost.
    pub fn prefix(&mut self, sql: &str) {
        frontend::query(&mut self.output, sql.as_bytes());
        self.setup += 1;
    }

    /// Answers of [`Server::prefix`] still to come.
    pub fn setup(&self) -> u32 {
        self.setup
    }

    /// Uses up a message while [`Server::setup`] is not 0.
    pub fn swallow(&mut self, tag: u8, body: &[u8]) -> Result<(), Lost> {
        match tag {
            b'Z' => {
                self.setup -= 1;
                self.status = body.first().copied().unwrap_or(b'I');
                Ok(())
            }
            b'E' => Err(Lost::Ended(ServerError(Bytes::copy_from_slice(body)))),
            _ => Ok(()),
        }
    }

    /// Writes all output, reading meanwhile what comes, so that neither side blocks the other.
    pub async fn send(&mut self) -> Result<(), Lost> {
        while !self.output.is_empty() {
            self.send_some().await?;
        }
        Ok(())
    }

    /// Writes until all is written or something has been read.
    pub async fn send_some(&mut self) -> Result<(), Lost> {
        poll_fn(|cx| match self.poll_send(cx) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => self.poll_fill(cx),
        })
        .await
    }

    /// Writes output and reads: returns once bytes have come.
    pub async fn exchange(&mut self) -> Result<(), Lost> {
        poll_fn(|cx| self.poll_exchange(cx)).await
    }

    /// See [`Server::exchange`].
    pub fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if !self.output.is_empty()
            && let Poll::Ready(Err(lost)) = self.poll_send(cx)
        {
            return Poll::Ready(Err(lost));
        }
        self.poll_fill(cx)
    }

    /// Writes as much output as goes.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if self.link.revoked.get() {
            return Poll::Ready(Err(Lost::Revoked));
        }
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Lost::Closed)),
                Poll::Ready(Ok(count)) => {
                    self.sent = true;
                    self.output.advance(count);
                }
                // What the server said before it closed tells why: read it first.
                Poll::Ready(Err(_)) => {
                    self.output.clear();
                    return self.poll_fill(cx);
                }
                Poll::Pending => {
                    self.link.watch(cx);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what is there into `input`.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if self.link.revoked.get() {
            return Poll::Ready(Err(Lost::Revoked));
        }
        let room = if self.bulk { READ_BULK } else { READ_CHUNK };
        if self.input.capacity() - self.input.len() < room / 2 {
            self.input.reserve(room);
        }
        let free = self.input.capacity() - self.input.len();
        match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(Lost::Closed)),
            Poll::Ready(Ok(count)) => {
                self.bulk = count == free;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(Lost::Broken(error))),
            Poll::Pending => {
                self.link.watch(cx);
                Poll::Pending
            }
        }
    }

    /// An idle connection that has something to say is being closed, or says it will be.
    pub(super) fn is_stale(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.link.revoked.get() || matches!(self.poll_fill(&mut cx), Poll::Ready(_))
    }

    /// The next whole message, after writing all output. Answers to [`Server::prefix`] are swallowed,
    /// status and parameters are kept up to date. A FATAL error is [`Lost::Ended`].
    pub async fn message(&mut self) -> Result<Frame, Lost> {
        loop {
            let Some(frame) = self.take()? else {
                self.exchange().await?;
                continue;
            };
            if self.setup > 0 {
                self.swallow(frame.tag, frame.body())?;
                continue;
            }
            match frame.tag {
                b'Z' => self.status = frame.body().first().copied().unwrap_or(b'I'),
                b'S' => {
                    if let Ok((name, value)) = backend::read_parameter(frame.body()) {
                        self.parameters.insert(name.to_owned(), value.to_owned());
                    }
                }
                b'E' if is_fatal(frame.body()) => return Err(Lost::Ended(ServerError(frame.shared_body()))),
                _ => {}
            }
            return Ok(frame);
        }
    }

    /// Uses messages up to `ReadyForQuery`.
    pub async fn until_ready(&mut self) -> Result<(), Lost> {
        while self.message().await?.tag != b'Z' {}
        Ok(())
    }

    /// A whole message that has been read already.
    pub fn take(&mut self) -> Result<Option<Frame>, Lost> {
        match frame::head(&self.input) {
            Err(_) => Err(Lost::Protocol("a message of impossible length")),
            Ok(Some(head)) if head.size <= self.input.len() => {
                Ok(Some(Frame { tag: head.tag, bytes: self.input.split_to(head.size).freeze() }))
            }
            Ok(_) => Ok(None),
        }
    }

    /// Runs statements of our own by the simple protocol: the rows of all of them, as text.
    pub async fn call(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, CallError> {
        frontend::query(&mut self.output, sql.as_bytes());
        let (mut rows, mut failed) = (Vec::new(), None);
        loop {
            let frame = self.message().await?;
            match frame.tag {
                b'D' => {
                    let row = backend::read_row(frame.body()).map_err(|_| Lost::Protocol("a row that is none"))?;
                    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                    rows.push(row.into_iter().map(|value| value.map(text)).collect());
                }
                b'N' if is_unacknowledged(frame.body()) => failed = Some(CallError::Unacknowledged),
                b'C' => {
                    self.tag.clear();
                    self.tag.extend_from_slice(&frame.body()[..frame.body().len().saturating_sub(1)]);
                }
                b'E' => failed = Some(CallError::Refused(ServerError(frame.shared_body()))),
                b'Z' => return failed.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// Gives it the session settings `wanted`, if it has others. Where that fails half-way the
    /// connection has unknown settings and must be dropped.
    pub async fn apply(&mut self, wanted: &Rc<Settings>) -> Result<(), CallError> {
        if !Rc::ptr_eq(&self.applied, wanted) {
            for statement in self.applied.difference(wanted) {
                self.call(&statement).await?;
            }
            self.applied = wanted.clone();
        }
        Ok(())
    }
}

/// Does an `ErrorResponse`'s body end the connection?
pub fn is_fatal(body: &[u8]) -> bool {
    matches!(backend::field(body, b'V'), Some(b"FATAL" | b"PANIC"))
}

/// The routine of `PostgreSQL` that waits for standbys: a notice of it says that the wait was cancelled. The
/// name is not translated, and the same in all versions from 15 on.
pub const WAIT_ROUTINE: &str = "SyncRepWaitForLSN";

/// Does a `NoticeResponse`'s body say that a commit's wait for standbys was cancelled?
pub fn is_unacknowledged(body: &[u8]) -> bool {
    backend::field(body, b'R') == Some(WAIT_ROUTINE.as_bytes())
}
