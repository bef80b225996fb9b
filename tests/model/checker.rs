//! The independent checker: knows what was acknowledged and by whom, and nothing of how anything was
//! decided.

use std::collections::{BTreeMap, BTreeSet};

use howdah::model::group::{Cohort, Phase, Reign};

use super::world::{Data, Postgres, Record, What, Who, World, id, who};
use super::{
    coordinator::{Memo, once},
    hashed::Hashed,
};

/// What must never happen. The order is that of failover.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Violation {
    TwoCommitInOneEpoch,
    AcknowledgedIsMissing,
    EpochWentBack,
    TimelineUsedTwice,
    CohortRule,
    /// What was acknowledged could be missed by whoever may elect next.
    ElectionWouldMiss,
    /// `PostgreSQL` compares timelines and positions, never contents.
    StreamsAnotherHistory,
    /// What `State` asserts.
    Asserted,
}

/// What clients and the checker remember.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// The log up to the last write that a client knows to be committed.
    acknowledged: Vec<Record>,
    committers: BTreeMap<u64, Who>,
    timelines: BTreeMap<u32, Who>,
    /// The newest epoch for which each member has done anything.
    served: BTreeMap<Who, u64>,
    pub violation: Option<Violation>,
}

impl Ledger {
    pub fn found(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// A client was told that its commit, the last of `log`, is durable.
    pub fn committed(&mut self, by: Who, log: &[Record]) {
        let epoch = log.iter().rev().find_map(|record| match record.what {
            What::Row(epoch) => Some(epoch),
            What::Begun | What::Write => None,
        });
        if *self.committers.entry(epoch.unwrap_or(0)).or_insert(by) != by {
            self.found(Violation::TwoCommitInOneEpoch);
        }
        if log.starts_with(&self.acknowledged) {
            self.acknowledged = log.to_vec();
        } else if !self.acknowledged.starts_with(log) {
            self.found(Violation::AcknowledgedIsMissing);
        }
    }

    /// A member leaves recovery on a timeline.
    pub fn promoted(&mut self, by: Who, timeline: u32) {
        if self.timelines.insert(timeline, by).is_some() {
            self.found(Violation::TimelineUsedTwice);
        }
    }

    /// A member takes an order of this epoch.
    pub fn serves(&mut self, member: Who, epoch: u64) {
        let before = self.served.insert(member, epoch).unwrap_or(0);
        if epoch < before {
            self.found(Violation::EpochWentBack);
        }
    }

    /// The log of a standby that begins to stream, and its primary's.
    pub fn streams(&mut self, own: &[Record], upstream: &[Record]) {
        if !upstream.starts_with(own) {
            self.found(Violation::StreamsAnotherHistory);
        }
    }

    /// A member has lost its disk, and with it all it had promised.
    pub fn wiped(&mut self, member: Who) {
        self.served.remove(&member);
    }

    /// The newest epoch in which a client's commit was acknowledged.
    pub fn committed_in(&self) -> u64 {
        self.committers.keys().next_back().copied().unwrap_or(0)
    }

    /// Whether something was acknowledged that this log does not have.
    fn misses(&self, log: &[Record]) -> bool {
        !log.starts_with(&self.acknowledged)
    }
}

/// What can be seen by looking at everything at once.
pub fn look(world: &mut World, known: &Memo<(u64, u64), bool>) {
    let group = world.group();
    let Some(reign) = group.reign.clone() else {
        return;
    };
    let primary = &world.members[who(&reign.primary)];
    let mut violation = None;
    if group.phase == Phase::Serving && primary.data == Data::Ready && world.ledger.misses(&primary.wal) {
        violation = Some(Violation::AcknowledgedIsMissing);
    }
    if let Postgres::Primary(office) = &primary.postgres {
        let reigns = primary.timeline() == reign.timeline.0;
        let recorded = Hashed::new(reign.recorded.clone());
        let hears = |applied: &Hashed<Cohort>| {
            once(known, (applied.hash, recorded.hash), || every_election_hears(applied, &recorded))
        };
        if reigns && !office.effective.iter().all(hears) {
            violation = Some(Violation::CohortRule);
        }
    }
    if an_election_would_miss(world, &reign) {
        violation = violation.or(Some(Violation::ElectionWouldMiss));
    }
    if let Some(violation) = violation {
        world.ledger.found(violation);
    }
}

/// Whether the furthest of some members that may elect lacks what a client was told to be durable.
fn an_election_would_miss(world: &World, reign: &Reign) -> bool {
    if world.ledger.acknowledged.is_empty() {
        return false;
    }
    let usable: Vec<Who> =
        (0..world.members.len()).filter(|member| world.members[*member].data == Data::Ready).collect();
    (1_u32..1 << usable.len()).any(|set| {
        let asked = || usable.iter().enumerate().filter(move |(place, _)| set & (1 << place) != 0).map(|(_, who)| *who);
        let primary = asked().any(|member| id(member) == reign.primary);
        let standbys = asked().filter(|member| reign.recorded.standbys.contains(&id(*member))).count();
        let acks = reign.recorded.acks as usize;
        let may_elect = primary || (acks > 0 && standbys + acks > reign.recorded.standbys.len());
        let furthest = asked().map(|member| &world.members[member]).max_by_key(|it| (it.timeline(), it.wal.len()));
        may_elect && furthest.is_some_and(|it| world.ledger.misses(&it.wal))
    })
}

/// The rule, by going through all sets: whoever acknowledged is among those who are asked.
fn every_election_hears(applied: &Cohort, recorded: &Cohort) -> bool {
    if recorded.acks == 0 {
        return true;
    }
    let everyone: BTreeSet<_> = applied.standbys.union(&recorded.standbys).collect();
    let absent = recorded.acks as usize - 1;
    (0_u32..1 << everyone.len()).all(|set| {
        let (ackers, others): (Vec<_>, Vec<_>) =
            everyone.iter().enumerate().partition(|(place, _)| set & (1 << place) != 0);
        let enough_acks =
            ackers.iter().filter(|(_, id)| applied.standbys.contains(**id)).count() >= applied.acks as usize;
        let recruits = others.iter().filter(|(_, id)| recorded.standbys.contains(**id)).count();
        !(enough_acks && recruits + absent >= recorded.standbys.len())
    })
}
