//! The leader's memory: the newest report of each member and router, and when what was first seen.
//! Never replicated, and empty when a leader begins. Filled by the driver; read by `plan` and
//! `status`.

use std::collections::BTreeMap;

use super::{operations::Operation, state::State};
use crate::model::{
    group::{Container, Phase},
    ids::{GroupId, MemberId, OperationId, RouterId},
    numbers::{Epoch, Lsn, Millis, Revision},
    observed::{PostgresSeen, Report, RouterAddress, RouterReport},
};

/// A leader whose turns, one every 20 ms, are further apart than `suspect_after` divided by this was itself
/// paused: what looks like silence of members may be its own, and is not counted. Shorter gaps are counted,
/// so that a leader that is always a little late on a busy machine still suspects in time; alone they never
/// add up to a suspicion, because what came meanwhile is taken in before anything is decided.
const OWN_PAUSE_SHARE: u64 = 2;

/// One stream of an agent or a router, numbered by the driver; a newer one replaces an older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection(pub u64);

/// How a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Open.
    Up,
    /// Broken by the other side's kernel or closed by its process: that process is gone.
    Reset {
        /// When.
        at: Millis,
    },
}

/// What is known of a member.
#[derive(Debug, Clone)]
pub struct MemberSeen {
    /// What its agent registered.
    pub container: Container,
    /// Its newest stream.
    pub connection: Connection,
    /// How that stands.
    pub link: Link,
    /// Last sign of life: registration or report.
    pub heard: Millis,
    /// Newest report of this stream or an earlier one of the same leader.
    pub report: Option<Report>,
    /// Since when its reports of `PostgreSQL` fit the same description.
    pub condition: (Condition, Millis),
}

/// What matters for suspicion in a report of `PostgreSQL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// No report yet.
    Unknown,
    /// No postmaster.
    Down,
    /// Does not answer yet.
    Starting,
    /// A standby that streams.
    Streaming,
    /// A standby that does not.
    Standing,
    /// A primary that is well.
    Primary,
    /// A primary that says something is wrong or under way.
    Troubled,
}

/// What is known of a router.
#[derive(Debug, Clone)]
pub struct RouterSeen {
    /// Its newest stream.
    pub connection: Connection,
    /// How that stands.
    pub link: Link,
    /// When its newest report came.
    pub heard: Millis,
    /// That report.
    pub report: RouterReport,
}

/// When the leader first saw a group as it is.
#[derive(Debug, Clone)]
pub struct GroupSeen {
    /// Which state of it: the newest epoch and the phase's place in the protocol.
    stage: (Epoch, u8),
    /// Since when.
    pub since: Millis,
    /// Where the primary's log ended once the ordered cohort was surely in force.
    applied: Option<AppliedSeen>,
    /// When a standby had last acknowledged all that its primary had written at an earlier report: what
    /// streams and acknowledges nothing is as good as gone.
    streamed: BTreeMap<MemberId, Millis>,
    /// What each standby that streams has to acknowledge for that.
    owed: BTreeMap<MemberId, Lsn>,
}

#[derive(Debug, Clone)]
struct AppliedSeen {
    ordered_at: Revision,
    first: (u64, u64),
    end: Option<Lsn>,
}

/// The leader's memory.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Members that attended this leader.
    pub members: BTreeMap<MemberId, MemberSeen>,
    /// Routers that reported to this leader.
    pub routers: BTreeMap<RouterId, RouterSeen>,
    /// What changes of the coordinators wait for.
    pub waits: BTreeMap<OperationId, String>,
    groups: BTreeMap<GroupId, GroupSeen>,
    /// When a running operation was first seen.
    operations: BTreeMap<OperationId, Millis>,
    /// Since when this coordinator leads: no silence is counted from before.
    leads_since: Millis,
    last_turn: Millis,
}

impl Observed {
    /// This coordinator leads from now on: what it remembers of an earlier term is void.
    pub fn note_leadership(&mut self, now: Millis) {
        *self = Self { leads_since: now, last_turn: now, ..Self::default() };
    }

    /// To be called before every `plan`: notices the leader's own pauses (true: one just ended), and
    /// since when each group is as it is.
    pub fn turn(&mut self, state: &State, now: Millis) -> bool {
        let gap = now.since(self.last_turn);
        let paused = gap > Millis(state.policy.suspect_after.0 / OWN_PAUSE_SHARE);
        if paused {
            self.leave_out(self.last_turn, gap);
        }
        self.last_turn = now;
        for group in state.groups.values() {
            let at = (group.epoch, place(&group.phase));
            let seen = self.groups.entry(group.id.clone()).or_insert_with(|| GroupSeen::new(at, now));
            if seen.stage != at {
                *seen = GroupSeen { applied: seen.applied.take(), ..GroupSeen::new(at, now) };
            }
            if let Some(primary) = group.primary().and_then(|id| self.members.get(id)) {
                seen.note_primary(primary);
            }
        }
        self.groups.retain(|id, _| state.groups.contains_key(id));
        for operation in state.operations.iter().filter(|operation| operation.runs()) {
            self.operations.entry(operation.id.clone()).or_insert(now);
        }
        self.operations.retain(|id, _| state.operation(id).is_some_and(Operation::runs));
        paused
    }

    /// A span that began at `from` did not happen, as far as time limits are concerned. What came in since
    /// then is as new as it was.
    fn leave_out(&mut self, from: Millis, span: Millis) {
        let later = |at: &mut Millis| {
            if *at <= from {
                *at = at.plus(span);
            }
        };
        later(&mut self.leads_since);
        for seen in self.members.values_mut() {
            later(&mut seen.heard);
            later(&mut seen.condition.1);
            if let Link::Reset { at } = &mut seen.link {
                later(at);
            }
        }
        self.routers.values_mut().for_each(|seen| later(&mut seen.heard));
        for seen in self.groups.values_mut() {
            later(&mut seen.since);
            seen.streamed.values_mut().for_each(later);
        }
        self.operations.values_mut().for_each(later);
    }

    /// An agent opened a stream and registered.
    pub fn member_connected(&mut self, container: Container, connection: Connection, now: Millis) {
        let before = self.members.get(&container.id);
        if before.is_some_and(|seen| seen.connection > connection) {
            return;
        }
        let report = before.and_then(|seen| seen.report.clone());
        let condition = before.map_or((Condition::Unknown, now), |seen| seen.condition);
        let id = container.id.clone();
        let seen = MemberSeen { container, connection, link: Link::Up, heard: now, report, condition };
        self.members.insert(id, seen);
    }

    /// An agent's stream ended by a reset or a close (not: by our own deadline).
    pub fn member_disconnected(&mut self, member: &MemberId, connection: Connection, now: Millis) {
        if let Some(seen) = self.members.get_mut(member).filter(|seen| seen.connection == connection) {
            seen.link = Link::Reset { at: now };
        }
    }

    /// An agent reported. Reports of an older stream, and repeated ones, are ignored.
    pub fn member_reported(&mut self, connection: Connection, report: Report, now: Millis) {
        let Some(seen) = self.members.get_mut(&report.member).filter(|seen| seen.connection == connection) else {
            return;
        };
        let old = seen.report.as_ref();
        if old.is_some_and(|old| old.incarnation == report.incarnation && old.sequence >= report.sequence) {
            return;
        }
        let condition = condition(&report);
        if seen.condition.0 != condition {
            seen.condition = (condition, now);
        }
        seen.heard = now;
        seen.report = Some(report);
    }

    /// A router reported.
    pub fn router_reported(&mut self, connection: Connection, report: RouterReport, now: Millis) {
        if self.routers.get(&report.router).is_some_and(|seen| seen.connection > connection) {
            return;
        }
        self.routers.insert(report.router.clone(), RouterSeen { connection, link: Link::Up, heard: now, report });
    }

    /// A router's stream ended.
    pub fn router_disconnected(&mut self, router: &RouterId, connection: Connection, now: Millis) {
        if let Some(seen) = self.routers.get_mut(router).filter(|seen| seen.connection == connection) {
            seen.link = Link::Reset { at: now };
        }
    }

    /// Where the routers with a stream to this coordinator are, in order of name.
    pub fn router_addresses(&self) -> impl Iterator<Item = RouterAddress> {
        self.routers.values().filter(|seen| seen.link == Link::Up).map(|seen| RouterAddress {
            router: seen.report.router.clone(),
            host: seen.report.host.clone(),
            port: seen.report.port,
        })
    }

    /// How long nothing was heard of a member, counted from this leader's beginning at most.
    pub fn silence(&self, member: &MemberId, now: Millis) -> Millis {
        let heard = self.members.get(member).map_or(Millis(0), |seen| seen.heard);
        now.since(heard.max(self.leads_since))
    }

    /// How long since `at`, counted from this leader's beginning at most.
    pub fn lasted(&self, at: Millis, now: Millis) -> Millis {
        now.since(at.max(self.leads_since))
    }

    /// The newest report of a member, however old.
    pub fn report(&self, member: &MemberId) -> Option<&Report> {
        self.members.get(member)?.report.as_ref()
    }

    /// How long the leader has seen the group in its epoch and phase.
    pub fn in_phase(&self, group: &GroupId, now: Millis) -> Millis {
        self.groups.get(group).map_or(Millis(0), |seen| self.lasted(seen.since, now))
    }

    /// How long this coordinator leads.
    pub fn leads_for(&self, now: Millis) -> Millis {
        now.since(self.leads_since)
    }

    /// How long the leader has seen an operation run.
    pub fn runs_for(&self, operation: &OperationId, now: Millis) -> Millis {
        self.operations.get(operation).map_or(Millis(0), |since| now.since(*since))
    }

    /// How long this standby has not acknowledged what its primary had written before, by the primary's word.
    pub fn not_streaming(&self, group: &GroupId, standby: &MemberId, now: Millis) -> Millis {
        let Some(seen) = self.groups.get(group) else { return Millis(0) };
        let last = seen.streamed.get(standby).copied().unwrap_or_default();
        self.lasted(last.max(seen.since), now)
    }

    /// Where the primary's log ended at some moment after the cohort `ordered_at` came into force:
    /// what was committed under earlier cohorts is before it. `None`: not known yet.
    pub fn applied_end(&self, group: &GroupId, ordered_at: Revision) -> Option<Lsn> {
        let applied = self.groups.get(group)?.applied.as_ref()?;
        if applied.ordered_at == ordered_at { applied.end } else { None }
    }
}

impl GroupSeen {
    fn new(stage: (Epoch, u8), now: Millis) -> Self {
        Self { stage, since: now, applied: None, streamed: BTreeMap::new(), owed: BTreeMap::new() }
    }

    fn note_primary(&mut self, seen: &MemberSeen) {
        let Some(report) = &seen.report else { return };
        let PostgresSeen::Primary { position, applied, standbys, .. } = &report.postgres else { return };
        for standby in standbys.iter().filter(|standby| standby.streaming) {
            let owed = self.owed.entry(standby.member.clone()).or_insert(standby.flushed);
            if standby.flushed >= *owed {
                *owed = position.lsn;
                self.streamed.insert(standby.member.clone(), seen.heard);
            }
        }
        self.owed.retain(|member, _| standbys.iter().any(|standby| standby.streaming && standby.member == *member));
        // The end of the log is taken from a later report than the first that has the cohort applied: in
        // the same report the position may have been read before the cohort was.
        let at = (report.incarnation, report.sequence);
        match &mut self.applied {
            Some(old) if old.ordered_at == applied.ordered_at => {
                if old.first != at && old.end.is_none() {
                    old.end = Some(position.lsn);
                }
            }
            _ => self.applied = Some(AppliedSeen { ordered_at: applied.ordered_at, first: at, end: None }),
        }
    }
}

/// A phase's place in the protocol.
fn place(phase: &Phase) -> u8 {
    match phase {
        Phase::Forming { .. } => 0,
        Phase::Recruiting { .. } => 1,
        Phase::Promoting { .. } => 2,
        Phase::Serving => 3,
        Phase::Draining { .. } => 4,
        Phase::StandingDown { .. } => 5,
    }
}

fn condition(report: &Report) -> Condition {
    match &report.postgres {
        PostgresSeen::Down { .. } => Condition::Down,
        PostgresSeen::Starting => Condition::Starting,
        PostgresSeen::Standby { streaming: true, .. } => Condition::Streaming,
        PostgresSeen::Standby { streaming: false, .. } => Condition::Standing,
        PostgresSeen::Primary { .. } if report.healthy => Condition::Primary,
        PostgresSeen::Primary { .. } => Condition::Troubled,
    }
}
