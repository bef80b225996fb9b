//! What the driver can be told and asked, and the handle by which everybody else does. The services,
//! the peers' connections and the health pages hold a [`Handle`]; the driver has the other end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
    mpsc::{Receiver, SyncSender, sync_channel},
};

use raft::eraftpb::Message;
use tokio::sync::{oneshot, watch};

use super::{
    core::{
        command::{Command, Outcome},
        observed::Connection,
        replica::Leadership,
    },
    roster::Roster,
};
use crate::{
    model::{
        ids::{CoordinatorId, MemberId, OperationId, RouterId},
        numbers::Revision,
        observed::{Registration, Report, RouterAddress, RouterReport},
        policy::Policy,
        status::{Event, OperationStatus, Status},
        topology::Topology,
    },
    wire::{agent::CoordinatorSays, raft::Sender},
};

/// Inputs that wait for the driver: 0.4 s of reports from 1,000 members. When it is full, Raft
/// messages and reports are dropped (both are repeated) and requests are refused.
const INBOX: usize = 4096;

/// One thing to take into account.
pub enum Input {
    /// A peer's Raft message, and what to know of the peer.
    Raft(Message, Sender),
    /// A peer says that this coordinator was removed.
    Removed(CoordinatorId),
    /// The connection to a peer broke.
    Unreachable(CoordinatorId),
    /// An agent registered; what it is told goes to `outbox`, the newest only.
    AgentConnected(Connection, Registration, watch::Sender<CoordinatorSays>),
    /// It reported.
    AgentReported(Connection, Box<Report>),
    /// Its stream ended.
    AgentDisconnected(Connection, MemberId),
    /// A router reported.
    RouterReported(Connection, RouterReport),
    /// Its stream ended.
    RouterDisconnected(Connection, RouterId),
    /// A question, answered by the leader only.
    Ask(Question),
    /// The process ends.
    Stop,
}

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, AskError>>;

/// What can be asked of the leader.
pub enum Question {
    /// `howdah status`.
    Status(Reply<Status>),
    /// The events after a revision.
    Events(Revision, Reply<Vec<Event>>),
    /// One operation.
    Operation(OperationId, Reply<OperationStatus>),
    /// A change, and why; answered when it is applied.
    Change(Change, String, Reply<Changed>),
}

/// A change that is asked for; what the caller left open is taken from the policy.
pub type Change = Box<dyn FnOnce(&Policy) -> Command + Send>;

/// A change that was applied, or refused.
#[derive(Debug)]
pub struct Changed {
    /// At which revision.
    pub revision: Revision,
    /// What came of it.
    pub outcome: Outcome,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Another one leads, or nobody, or that has just changed.
    #[error("this coordinator does not lead")]
    NotLeader,
    /// Too much to do.
    #[error("this coordinator has too much to do at the moment; try again")]
    Busy,
    /// No such thing.
    #[error("there is no {0}")]
    NotFound(String),
}

/// What a health page shows: renewed about once a second.
#[derive(Debug, Clone, PartialEq)]
pub struct Vitals {
    /// Raft's view.
    pub leadership: Leadership,
    /// Newest entry applied.
    pub applied: Revision,
    /// What the driver knows of the cluster; members' health only where it leads.
    pub status: Arc<Status>,
}

/// The way to the driver.
#[derive(Clone)]
pub struct Handle {
    inbox: SyncSender<Input>,
    connections: Arc<AtomicU64>,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// The newest topology; `None` before the cluster is initialised.
    pub topology: watch::Receiver<Option<Arc<Topology>>>,
    /// Routers that report to this coordinator.
    pub routers: watch::Receiver<Vec<RouterAddress>>,
    /// The newest revision applied.
    pub applied: watch::Receiver<Revision>,
    /// For health pages.
    pub vitals: watch::Receiver<Option<Vitals>>,
    /// Who the coordinators are.
    pub roster: watch::Receiver<Arc<Roster>>,
    /// Grows several times a second while the driver of a leader runs: what it says is alive.
    pub pulse: watch::Receiver<u64>,
}

/// The driver's ends of what a [`Handle`] holds.
pub struct Outlets {
    /// Its inputs.
    pub inbox: Receiver<Input>,
    /// See [`Handle::leadership`].
    pub leadership: watch::Sender<Leadership>,
    /// See [`Handle::topology`].
    pub topology: watch::Sender<Option<Arc<Topology>>>,
    /// See [`Handle::routers`].
    pub routers: watch::Sender<Vec<RouterAddress>>,
    /// See [`Handle::applied`].
    pub applied: watch::Sender<Revision>,
    /// See [`Handle::vitals`].
    pub vitals: watch::Sender<Option<Vitals>>,
    /// See [`Handle::roster`].
    pub roster: watch::Sender<Arc<Roster>>,
    /// See [`Handle::pulse`].
    pub pulse: watch::Sender<u64>,
}

/// Both ends.
pub fn open() -> (Handle, Outlets) {
    let (sender, inbox) = sync_channel(INBOX);
    let nobody = Leadership { leader: None, ours: false, term: 0 };
    let (leadership_out, leadership) = watch::channel(nobody);
    let (topology_out, topology) = watch::channel(None);
    let (routers_out, routers) = watch::channel(Vec::new());
    let (applied_out, applied) = watch::channel(Revision(0));
    let (vitals_out, vitals) = watch::channel(None);
    let (roster_out, roster) = watch::channel(Arc::new(Roster::default()));
    let (pulse_out, pulse) = watch::channel(0);
    let connections = Arc::new(AtomicU64::new(0));
    let outlets = Outlets {
        inbox,
        leadership: leadership_out,
        topology: topology_out,
        routers: routers_out,
        applied: applied_out,
        vitals: vitals_out,
        roster: roster_out,
        pulse: pulse_out,
    };
    let handle = Handle { inbox: sender, connections, leadership, topology, routers, applied, vitals, roster, pulse };
    (handle, outlets)
}

impl Handle {
    /// Tells the driver; false where it is too busy or gone.
    pub fn tell(&self, input: Input) -> bool {
        self.inbox.try_send(input).is_ok()
    }

    /// Asks the driver and waits for its answer.
    pub async fn ask<T>(&self, question: impl FnOnce(Reply<T>) -> Question) -> Result<T, AskError> {
        let (reply, answer) = oneshot::channel();
        if !self.tell(Input::Ask(question(reply))) {
            return Err(AskError::Busy);
        }
        // Dropped without an answer: the driver has ended.
        answer.await.unwrap_or(Err(AskError::NotLeader))
    }

    /// A number for a new stream; grows.
    pub fn connection(&self) -> Connection {
        Connection(self.connections.fetch_add(1, Ordering::Relaxed))
    }
}
