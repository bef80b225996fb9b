//! One coordinator's part in Raft, without any I/O: inputs go in, [`Effects`] come out, and whoever
//! calls ([`super::super::driver`], or a simulation) persists, sends and applies them in that order.

pub mod storage;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use raft::{
    Config, RawNode, SnapshotStatus, StateRole,
    eraftpb::{ConfChange, ConfChangeType, Entry, EntryType, HardState, Message, MessageType, Snapshot},
};

use super::command::CoordinatorChange;
use crate::model::{ids::CoordinatorId, numbers::Revision};
use storage::MemoryLog;

/// Time between two ticks.
pub const TICK_MS: u64 = 50;
/// Ticks between the leader's heartbeats: every tick, they are a few bytes.
const HEARTBEAT_TICKS: usize = 1;
/// Bytes of entries in one message: fits any follower's receive limit many times.
const MAX_MESSAGE_BYTES: u64 = 1 << 20;
/// Messages on their way to one follower: more than it can be behind without a snapshot.
const MAX_INFLIGHT: usize = 256;
/// Proposals not yet committed, in bytes: without a quorum the leader refuses more and stays small.
const MAX_UNCOMMITTED_BYTES: u64 = 16 << 20;

/// What a simulation sets otherwise than a coordinator, which takes the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// Ticks without the leader before an election; each wait is drawn from these, here 0.5 to 1 s. Long
    /// enough for a slow fsync or a busy machine, short enough that a lost leader is replaced well within 2 s
    /// even when the first vote is split. (Raft's only randomness: one number to draw from leaves none.)
    pub election_ticks: Range<usize>,
    /// Entries after which the state is written down and the log begins anew. Reading this many again at
    /// a start takes milliseconds.
    pub compact_after: u64,
    /// Entries kept behind a new snapshot, so that a follower that is a little behind gets entries and not
    /// the whole state. A follower 100 changes behind has been away for minutes.
    pub trailing: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { election_ticks: 10..20, compact_after: 1_000, trailing: 100 }
    }
}

/// What was durable when the process began.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Saved {
    /// Vote, term, commit index.
    pub hard_state: HardState,
    /// The newest snapshot; index 0 where there is none.
    pub snapshot: Snapshot,
    /// The entries after it.
    pub entries: Vec<Entry>,
}

/// What must be durable before the rest of a turn's effects may happen.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Persist {
    /// New vote, term or commit index.
    pub hard_state: Option<HardState>,
    /// The leader's snapshot: it replaces the whole log.
    pub snapshot: Option<Snapshot>,
    /// New entries; they replace those with the same and later indexes.
    pub entries: Vec<Entry>,
}

/// Who leads, as far as this replica knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// The leader.
    pub leader: Option<CoordinatorId>,
    /// It is us.
    pub ours: bool,
    /// Raft's term.
    pub term: u64,
}

/// An entry that a majority has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its index.
    pub revision: Revision,
    /// What was proposed.
    pub data: Bytes,
}

/// Everything that follows from the inputs of a turn; [`Effects::steps`] has the order in which it must
/// happen.
#[derive(Debug, Default)]
pub struct Effects {
    /// Number of the turn, for [`Replica::finished`].
    pub number: u64,
    /// Messages that need not wait for the disk (a leader's).
    pub send_now: Vec<Message>,
    /// To be made durable; `None` when nothing must be.
    pub persist: Option<Persist>,
    /// Messages that promise what is durable by now.
    pub send_after_persist: Vec<Message>,
    /// The state to go on from instead of the one there was.
    pub restore: Option<Committed>,
    /// Entries to apply, in order.
    pub apply: Vec<Committed>,
}

/// One thing to do. The process may die between any two.
#[derive(Debug)]
pub enum Step {
    /// Messages to send; losing them is no harm.
    Send(Vec<Message>),
    /// To be made durable; no later step may begin before it is.
    Persist(Persist),
    /// Take note of who leads now: what was promised as the leader of another term is void.
    NoteLeadership,
    /// The state to go on from.
    Restore(Committed),
    /// An entry to apply.
    Apply(Committed),
    /// To be told to [`Replica::finished`].
    Finish(u64),
}

impl Effects {
    /// The order in which it must happen: what a message promises is durable before it is sent, and what is
    /// applied was committed by a majority's disks.
    pub fn steps(self) -> Vec<Step> {
        let Self { number, send_now, persist, send_after_persist, restore, apply } = self;
        let sends = |messages: Vec<Message>| (!messages.is_empty()).then_some(Step::Send(messages));
        let mut steps: Vec<Step> = sends(send_now).into_iter().collect();
        steps.extend(persist.map(Step::Persist));
        steps.extend(sends(send_after_persist));
        steps.push(Step::NoteLeadership);
        steps.extend(restore.map(Step::Restore));
        steps.extend(apply.into_iter().map(Step::Apply));
        steps.push(Step::Finish(number));
        steps
    }
}

/// Why a proposal was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another one leads, or nobody.
    #[error("this coordinator does not lead")]
    NotLeader,
    /// Too much is waiting for a majority already.
    #[error("too many changes wait for a majority of coordinators")]
    Full,
    /// Membership changes one at a time.
    #[error("another change of the coordinators is under way")]
    Changing,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The peer's mistake, to be logged.
    #[error(transparent)]
    Refused(#[from] raft::Error),
    /// This replica's log is not the one it acknowledged: going on could undo what was decided.
    #[error(
        "the leader has this coordinator's word for log entry {acknowledged}, but its log ends at {ours}: its \
         directory was replaced by an older one. Put the right one back; or keep it aside, start this coordinator \
         with an empty one, and run `howdah coordinator-member replace` with its number"
    )]
    Forgotten {
        /// What it acknowledged, at least.
        acknowledged: u64,
        /// What it has.
        ours: u64,
    },
}

/// raft-rs's node over a log in memory.
pub struct Replica {
    node: RawNode<MemoryLog>,
    tuning: Tuning,
    /// The hard state that is durable, or will be with the turn given out last.
    saved: HardState,
}

/// How far a coordinator has come, as the leader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// It has the log up to here.
    pub matched: u64,
    /// It counts in majorities.
    pub votes: bool,
}

impl Replica {
    /// A replica as it was saved. `founders` are those that vote in a new cluster; a coordinator that joins
    /// one knows none, takes part in nothing until the leader's snapshot names it, and so founds nothing.
    pub fn new(
        id: CoordinatorId,
        founders: &[CoordinatorId],
        saved: Saved,
        tuning: Tuning,
        logger: &slog::Logger,
    ) -> Result<Self, raft::Error> {
        let config = Config {
            id: id.0,
            election_tick: tuning.election_ticks.start,
            min_election_tick: tuning.election_ticks.start,
            max_election_tick: tuning.election_ticks.end,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: saved.snapshot.get_metadata().index,
            max_size_per_msg: MAX_MESSAGE_BYTES,
            max_inflight_msgs: MAX_INFLIGHT,
            max_uncommitted_size: MAX_UNCOMMITTED_BYTES,
            // A leader that hears from no majority steps down; one that comes back disturbs nobody.
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        let founders: Vec<u64> = founders.iter().map(|founder| founder.0).collect();
        let durable = saved.hard_state.clone();
        let log = MemoryLog::new(&founders, saved.hard_state, saved.snapshot, saved.entries);
        let alone = log.conf_state().voters == [id.0];
        let mut node = RawNode::new(&config, log, logger)?;
        if alone {
            node.campaign()?;
        }
        Ok(Self { node, tuning, saved: durable })
    }

    /// [`TICK_MS`] have passed.
    pub fn tick(&mut self) {
        self.node.tick();
    }

    /// A message from a peer has come.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        let ours = self.node.raft.raft_log.last_index();
        // A heartbeat's commit index is at most what we acknowledged to this leader.
        if message.get_msg_type() == MessageType::MsgHeartbeat && message.commit > ours {
            return Err(StepError::Forgotten { acknowledged: message.commit, ours });
        }
        Ok(self.node.step(message)?)
    }

    /// The connection to a peer broke: messages and snapshots on their way to it may be lost.
    pub fn unreachable(&mut self, peer: CoordinatorId) {
        self.node.report_unreachable(peer.0);
        self.node.report_snapshot(peer.0, SnapshotStatus::Failure);
    }

    /// The leader is believed dead: others may be voted for from now on.
    pub fn forget_leader(&mut self) {
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Follower {
            raft.become_follower(raft.term, raft::INVALID_ID);
        }
    }

    /// Stands for election, if a majority would vote for us (pre-vote). One that does not vote does not:
    /// raft-rs would let it, and one that knows nobody would win.
    pub fn campaign(&mut self) {
        if self.node.raft.promotable() {
            // Refused only while a change of membership is committed and not applied.
            let _ = self.node.campaign();
        }
    }

    /// Asks the follower that has most of the log to lead instead of us; false where there is none.
    pub fn hand_over(&mut self) -> bool {
        let me = self.node.raft.id;
        let voters = self.node.raft.prs().conf().voters();
        let others = self.node.raft.prs().iter();
        let others = others.filter(|(id, progress)| **id != me && voters.contains(**id) && progress.recent_active);
        let heir = others.max_by_key(|(_, progress)| progress.matched).map(|(id, _)| *id);
        heir.inspect(|id| self.node.transfer_leader(*id)).is_some()
    }

    /// Asks for an entry.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<(), ProposeError> {
        if self.node.raft.state != StateRole::Leader {
            return Err(ProposeError::NotLeader);
        }
        self.node.propose(Vec::new(), data).map_err(|_| ProposeError::Full)
    }

    /// Asks for an entry that changes who takes part. It contains `data` for the state, as any other; when it
    /// is applied, and the state agrees, [`Replica::change`] must follow.
    pub fn propose_change(&mut self, data: Vec<u8>, change: &CoordinatorChange) -> Result<(), ProposeError> {
        if self.node.raft.state != StateRole::Leader {
            return Err(ProposeError::NotLeader);
        }
        // raft-rs would write an empty entry instead, and nobody would hear of ours again.
        if self.node.raft.has_pending_conf() {
            return Err(ProposeError::Changing);
        }
        self.node.propose_conf_change(data, conf_change(change)).map_err(|_| ProposeError::Full)
    }

    /// The change of an entry that was just applied is in force from now on.
    pub fn change(&mut self, change: &CoordinatorChange) -> Result<(), raft::Error> {
        let conf_state = self.node.apply_conf_change(&conf_change(change))?;
        self.node.mut_store().set_conf_state(conf_state);
        Ok(())
    }

    /// How far everybody is; only the leader knows.
    pub fn progress(&self) -> BTreeMap<CoordinatorId, Progress> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return BTreeMap::new();
        }
        let voters = raft.prs().conf().voters();
        let progress = |(id, it): (&u64, &raft::Progress)| {
            (CoordinatorId(*id), Progress { matched: it.matched, votes: voters.contains(*id) })
        };
        raft.prs().iter().map(progress).collect()
    }

    /// What is to be done now; `None`: nothing, until the next input.
    pub fn turn(&mut self) -> Option<Effects> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let log = self.node.mut_store();
        let snapshot = Some(ready.snapshot().clone()).filter(|it| it.get_metadata().index > 0);
        let mut persist = Persist { hard_state: None, snapshot, entries: ready.take_entries() };
        let must_sync = ready.must_sync();
        if let Some(snapshot) = &persist.snapshot {
            log.restore(snapshot.clone());
        }
        log.append(&persist.entries);
        if let Some(hard_state) = ready.hs() {
            log.set_hard_state(hard_state.clone());
        }
        // A commit index alone need not be durable at once: the next leader tells it again. But no entry may
        // be durable without the commit index that came before it: after a change of membership was committed,
        // a restarted coordinator that has a later entry must know that it was, or it would stand for election
        // by the majority of an older membership.
        if must_sync && self.saved != *log.hard_state() {
            self.saved = log.hard_state().clone();
            persist.hard_state = Some(self.saved.clone());
        }
        let restore = persist.snapshot.as_ref().map(|snapshot| Committed {
            revision: Revision(snapshot.get_metadata().index),
            data: snapshot.data.clone(),
        });
        let effects = Effects {
            number: ready.number(),
            send_now: ready.take_messages(),
            persist: must_sync.then_some(persist),
            send_after_persist: ready.take_persisted_messages(),
            restore,
            apply: ready.take_committed_entries().into_iter().filter_map(committed).collect(),
        };
        self.node.advance_append_async(ready);
        Some(effects)
    }

    /// The turn's `persist` is durable and what it gave to apply is applied.
    pub fn finished(&mut self, number: u64) {
        self.node.on_persist_ready(number);
        self.node.advance_apply();
    }

    /// Enough entries have gathered behind the last snapshot.
    pub fn wants_compaction(&self) -> bool {
        let log = self.node.store();
        log.reconfigured() || self.node.raft.raft_log.applied >= log.snapshot_index() + self.tuning.compact_after
    }

    /// Cuts the log after the entries contained in `state`, which is the state now. The snapshot that
    /// is returned must become durable; it replaces the entries it contains, not those after it.
    pub fn compact(&mut self, state: Vec<u8>) -> Result<Snapshot, raft::Error> {
        let applied = self.node.raft.raft_log.applied;
        self.node.mut_store().compact(applied, state, self.tuning.trailing)
    }

    /// Who leads.
    pub fn leadership(&self) -> Leadership {
        let raft = &self.node.raft;
        let leader = Some(CoordinatorId(raft.leader_id)).filter(|leader| leader.0 != 0);
        Leadership { leader, ours: raft.state == StateRole::Leader, term: raft.term }
    }

    /// We lead, and the state contains everything that any leader before us committed: decisions may
    /// be made on it.
    pub fn may_decide(&self) -> bool {
        let raft = &self.node.raft;
        raft.state == StateRole::Leader
            && raft.commit_to_current_term()
            && raft.raft_log.applied == raft.raft_log.committed
    }

    /// Index of the newest entry applied.
    pub fn applied(&self) -> Revision {
        Revision(self.node.raft.raft_log.applied)
    }
}

/// A new leader's first entry is empty and concerns Raft alone. A change of membership has Raft's words
/// in its data, and ours in its context.
fn committed(entry: Entry) -> Option<Committed> {
    let data = if entry.entry_type == EntryType::EntryNormal { entry.data } else { entry.context };
    (!data.is_empty()).then_some(Committed { revision: Revision(entry.index), data })
}

fn conf_change(change: &CoordinatorChange) -> ConfChange {
    let (coordinator, kind) = match change {
        CoordinatorChange::AddLearner { coordinator } => (coordinator, ConfChangeType::AddLearnerNode),
        CoordinatorChange::Promote { coordinator } => (coordinator, ConfChangeType::AddNode),
        CoordinatorChange::Remove { coordinator } => (coordinator, ConfChangeType::RemoveNode),
    };
    ConfChange { node_id: coordinator.0, change_type: kind, ..ConfChange::default() }
}
