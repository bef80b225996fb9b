//! One client's session: reads its messages, runs them on the members they belong to, passes answers
//! on. It lives on one worker thread with all its server connections. Called by the listener.
//!
//! For executors of distributed plans, the parts that matter:
//! - [`Session::join`] makes a group's primary take part in the transaction and answers its index in
//!   `session.participants`; `BEGIN` and settings are seen to. A [`Server`](super::pool::server::Server)
//!   there sends and receives messages; mark `wrote` before sending what may write.
//! - [`Session::begin_implicit`] opens a block around a statement that needs several writers; it is
//!   committed (by two phases where needed) or rolled back at the end of the query or at `Sync`.
//! - Answers for the client go to `session.client.output`; call `client.flush()` for back-pressure.
//! - Errors are a [`Fault`]; a lost server goes through [`Session::lost`].
//!
//! Executors are called with nothing due on any connection.

mod block;
mod client;
mod commit;
mod context;
mod control;
mod copy;
mod distributed;
mod extended;
mod guard;
mod loss;
mod participants;
mod pump;
mod relay;
mod shard;
mod simple;
mod startup;
mod statement;

use std::{collections::VecDeque, future::poll_fn, rc::Rc, task::Poll};

use bytes::Bytes;

pub use self::{
    client::Client,
    context::Context,
    participants::Participant,
    startup::serve,
    statement::{Portal, Statement, Text},
};
use self::{relay::Relay, statement::Statements};
use super::{
    catalog_load::Loaded,
    core::{
        error::UserError,
        protocol::{backend, frame::Frame, frontend},
        settings::Settings,
        transaction::Block,
    },
    pool::{
        Identity, Wanted,
        server::{CallError, ServerError},
    },
    worker::{Handle, Worker},
};
use crate::model::{ids::GroupId, numbers::Epoch};

/// Output that is written before the client is asked for more: a few system calls' worth.
const FLUSH_AT: usize = 64 * 1024;

/// A longer batch is not run again: it would have to be kept until its end.
const REPEATABLE: usize = 1 << 20;
/// How often the same batch is run again: each time a primary was lost, or a catalog was old. Above,
/// something else is wrong.
const MAX_ATTEMPTS: u32 = 5;

/// The end of a session.
#[derive(Debug)]
pub enum Stop {
    /// The client has gone, or said so.
    Gone,
    /// It is told why.
    Fatal(UserError),
}

/// Why a message was not run to its end.
#[derive(Debug)]
pub enum Fault {
    /// The session ends.
    Stop(Stop),
    /// The client is told this.
    Refused(UserError),
    /// The client is told what PostgreSQL said to the router.
    Server(ServerError),
    /// The client has been told already.
    Reported,
    /// Nothing has happened yet: run the batch again.
    Retry,
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<UserError> for Fault {
    fn from(error: UserError) -> Self {
        Self::Refused(error)
    }
}

/// What has been done since the last `ReadyForQuery`, as far as a loss must know.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
struct Batch {
    /// The client's messages, to run them again.
    frames: Vec<Frame>,
    /// Something was sent that may have written and that commits by itself.
    may_have_written: bool,
    /// A `COMMIT` was sent.
    commit_sent: bool,
    /// Something was executed in it, beside what every participant that joins is told anyway.
    worked: bool,
    /// A part of it is committed.
    committed: bool,
    /// What it commits was read only: nothing of it can be lost.
    commit_of_reads: bool,
    /// The block that it found, and the settings, while the block has done nothing before.
    found: Option<(Option<Block>, Rc<Settings>)>,
    /// It is run again because this primary's process for it was ended.
    ended: Option<(GroupId, Epoch)>,
    /// How often the batch was run again.
    attempts: u32,
    /// `Sync` has come, or it is a simple query: `ReadyForQuery` is due whatever happens.
    ends: bool,
    /// It has begun.
    open: bool,
    /// Bytes of `frames`.
    bytes: usize,
    /// Bytes for the client, written or not, before it began.
    begun_at: u64,
}

/// A session.
pub struct Session {
    /// Its thread's state.
    pub worker: Rc<Worker>,
    /// The client.
    pub client: Client,
    /// Who it is.
    pub identity: Identity,
    /// Primaries, or standbys for reading.
    pub wanted: Wanted,
    /// Its settings.
    pub settings: Rc<Settings>,
    /// Its transaction block.
    pub block: Option<Block>,
    /// Server connections that work for it, in the order of joining.
    pub participants: Vec<Participant>,
    /// What names mean to it.
    context: Rc<Context>,
    context_stale: bool,
    /// Settings of the start-up packet.
    startup: Rc<Settings>,
    statements: Statements,
    relay: Relay,
    /// The participant that answers are due from.
    active: Option<usize>,
    /// After an error in the extended protocol: until `Sync`.
    skip: bool,
    batch: Batch,
    /// While the server waits for COPY data: bytes left of the `CopyData` message that was begun.
    copying: Option<usize>,
    again: VecDeque<Frame>,
    cached_pools: Vec<(GroupId, Option<Rc<super::pool::Pool>>)>,
    handle: Rc<Handle>,
    /// How the last statement ran, for `SHOW howdah.tier`.
    pub tier: &'static str,
    /// The transaction changes the catalog: plans after it need the new one.
    catalog_touched: bool,
    /// The catalog as this transaction has made it; nobody else sees it yet.
    own_catalog: Option<Loaded>,
}

impl Session {
    /// Serves until the client goes.
    async fn run(&mut self) -> Stop {
        loop {
            let frame = match self.next().await {
                Ok(frame) => frame,
                Err(stop) => return stop,
            };
            if let Err(stop) = self.handle(frame).await {
                return stop;
            }
        }
    }

    /// The client's next message.
    async fn next(&mut self) -> Result<Frame, Stop> {
        if let Some(frame) = self.again.pop_front() {
            return Ok(frame);
        }
        loop {
            if let Some(frame) = self.client.take()? {
                if self.client.output.len() > FLUSH_AT {
                    self.client.flush().await?;
                }
                return Ok(frame);
            }
            if self.relay.holds_copy() {
                self.commit_copy().await?;
            }
            self.client.flush().await?;
            self.wait().await?;
        }
    }

    /// Waits for the client; what a connection that the session keeps says meanwhile (notifications) is
    /// passed on.
    async fn wait(&mut self) -> Result<(), Stop> {
        let Some(kept) = self.participants.iter().position(|participant| participant.server.pinned) else {
            return self.client.fill().await;
        };
        let (client, server) = (&mut self.client, &mut self.participants[kept].server);
        let lost = poll_fn(|cx| match client.poll_fill(cx) {
            Poll::Ready(done) => Poll::Ready(done.map(|()| false)),
            Poll::Pending => server.poll_fill(cx).map(|read| Ok(read.is_err())),
        })
        .await?;
        if lost {
            return Err(self.lost_while_idle(kept));
        }
        self.pass_notifications(kept);
        Ok(())
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), Stop> {
        let done = match frame.tag {
            b'X' => return Err(Stop::Gone),
            b'Q' | b'F' => return self.simple(frame).await,
            b'S' => return self.sync(frame).await,
            // COPY data after COPY has ended is no error, as in PostgreSQL.
            b'd' | b'c' | b'f' => return Ok(()),
            _ if self.skip => return Ok(()),
            b'p' => return Err(Stop::Fatal(UserError::protocol("invalid frontend message type 112"))),
            _ => {
                self.note(&frame);
                self.extended(&frame).await
            }
        };
        match done {
            Ok(()) => Ok(()),
            Err(fault) => self.settle(fault).await,
        }
    }

    /// After a fault in the extended protocol: the client is told, and messages are skipped until `Sync`.
    async fn settle(&mut self, fault: Fault) -> Result<(), Stop> {
        match fault {
            Fault::Stop(stop) => return Err(stop),
            Fault::Retry => {
                self.run_again();
                return Ok(());
            }
            Fault::Reported => {}
            Fault::Refused(_) | Fault::Server(_) => match self.drain().await {
                Ok(()) => self.report(&fault),
                Err(Fault::Stop(stop)) => return Err(stop),
                // What went wrong before is what the client is told.
                Err(earlier) => self.report(&earlier),
            },
        }
        self.skip = true;
        Ok(())
    }

    /// Tells the client, and fails the transaction.
    fn report(&mut self, fault: &Fault) {
        match fault {
            Fault::Refused(error) => error.encode(&mut self.client.output),
            Fault::Server(error) => error.encode(&mut self.client.output),
            Fault::Stop(_) | Fault::Reported | Fault::Retry => {}
        }
        self.relay.failed = true;
        if let Some(block) = &mut self.block {
            block.failed = true;
        } else if let Some(at) = self.active {
            // What the pipeline did so far is part of the same implicit transaction.
            if self.participants[at].unsynced {
                self.participants[at].server.prefix("ROLLBACK");
            }
        }
    }

    /// Notes a message of the batch, so that it can be run again while the client was told nothing.
    fn note(&mut self, frame: &Frame) {
        if !self.batch.open {
            self.batch.open = true;
            self.batch.begun_at = self.told();
            // A block in which something was done stays as it is; any other may be begun anew.
            let worked = self.block.as_ref().is_some_and(|block| block.worked);
            self.batch.found = (!worked).then(|| (self.block.clone(), self.settings.clone()));
            self.relay.begin();
        }
        self.batch.bytes += frame.bytes.len();
        if self.batch.bytes > REPEATABLE {
            self.batch.frames.clear();
        } else {
            self.batch.frames.push(frame.clone());
        }
    }

    /// Bytes for the client so far, written or not.
    fn told(&self) -> u64 {
        self.client.written() + self.client.output.len() as u64
    }

    /// May the batch be run again? Not once the client has been sent a part of its answer.
    fn may_run_again(&self) -> bool {
        self.batch.attempts < MAX_ATTEMPTS
            && !self.batch.frames.is_empty()
            && self.client.written() <= self.batch.begun_at
    }

    /// Runs the batch's messages once more, from the first.
    fn run_again(&mut self) {
        let kept = self.batch.begun_at.saturating_sub(self.client.written());
        self.client.output.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        self.batch.attempts += 1;
        self.batch.bytes = 0;
        self.copying = None;
        self.relay.due.clear();
        self.relay.begin();
        self.batch.may_have_written = false;
        self.batch.commit_sent = false;
        self.batch.commit_of_reads = false;
        self.batch.ends = false;
        if let Some((block, settings)) = self.batch.found.clone() {
            self.block = block;
            self.restore(settings);
        }
        for frame in std::mem::take(&mut self.batch.frames).into_iter().rev() {
            if frame.tag == b'P'
                && let Ok(parse) = frontend::Parse::read(&frame)
            {
                self.statements.remove(&parse.name);
            }
            self.again.push_front(frame);
        }
    }

    /// A statement runs this way.
    pub(super) fn ran(&mut self, tier: &'static str) {
        self.tier = tier;
        self.worker.ran(tier);
    }

    /// What `ReadyForQuery` says.
    pub fn status(&self) -> u8 {
        self.block.as_ref().map_or(b'I', Block::status)
    }

    /// The group that local work goes to.
    pub fn query_group(&self) -> Result<GroupId, UserError> {
        let topology = self.worker.pools.topology();
        let group = topology.query_group().ok_or_else(|| UserError::no_primary("query"))?;
        Ok(group.id.clone())
    }

    /// Ends a batch: the transaction's state is what the servers say, idle connections go back.
    async fn finish(&mut self) -> Result<(), Stop> {
        self.batch.ends = true;
        if self.block.as_ref().is_some_and(|block| block.implicit) {
            let done = self.end_implicit().await;
            self.conclude(done)?;
        }
        self.follow_servers();
        if self.block.is_none() {
            self.release();
        }
        if let Some(block) = &mut self.block {
            block.worked |= self.batch.worked;
        }
        let status = self.status();
        backend::ready(&mut self.client.output, status);
        self.batch.frames.clear();
        self.batch = Batch { frames: std::mem::take(&mut self.batch.frames), ..Batch::default() };
        Ok(())
    }

    fn conclude(&mut self, done: Result<(), Fault>) -> Result<(), Stop> {
        match done {
            Err(Fault::Stop(stop)) => Err(stop),
            Err(fault) => {
                self.report(&fault);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Turns what went wrong with a statement of ours into what the client is told.
    pub fn call_failed(&mut self, at: usize, error: CallError) -> Fault {
        match error {
            CallError::Lost(lost) => self.lost(at, &lost),
            CallError::Refused(error) => Fault::Server(error),
            CallError::Unacknowledged => Fault::Refused(UserError::not_acknowledged()),
        }
    }

    /// Queues an answer of ours behind what is due.
    fn answer(&mut self, bytes: impl Into<Bytes>) {
        self.relay.due.push_back(relay::Due::Emit(bytes.into()));
        if self.relay.due.len() == 1 {
            self.relay.emit(&mut self.client.output);
        }
    }
}
