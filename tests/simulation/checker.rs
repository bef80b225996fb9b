//! The independent checker: knows what was acknowledged, applied and promised, and by whom; knows nothing of
//! how it was decided, and shares no code with what decides.

use std::collections::{BTreeMap, BTreeSet};

use howdah::{
    coordinator::core::{
        command::{Command, Outcome, Proposal},
        invariants,
        replica::Saved,
        state::State,
    },
    model::{group::Phase, ids::GroupId, numbers::Revision},
};

use super::{coordinator::Process, postgres::Postgres, world::World};

#[derive(Default)]
pub struct Checker {
    /// The state at the newest entry that anyone has applied.
    newest: State,
    /// What was applied at each index, and by whom first.
    entries: BTreeMap<u64, (u64, usize)>,
    /// Who led in each term.
    leaders: BTreeMap<u64, usize>,
    /// Term and vote on each coordinator's disk.
    votes: BTreeMap<usize, (u64, u64)>,
    /// Commits that had their acknowledgements, by group.
    acknowledged: BTreeMap<GroupId, BTreeSet<u64>>,
    /// Who committed in an epoch.
    committers: BTreeMap<(GroupId, u64), usize>,
    /// Who began a timeline.
    timelines: BTreeMap<(GroupId, u32), usize>,
    promises: Vec<u64>,
    epochs_reported: BTreeMap<usize, u64>,
    /// Groups where a person has accepted a loss.
    pub lossy: BTreeSet<GroupId>,
}

impl Checker {
    pub fn newest(&self) -> &State {
        &self.newest
    }

    /// A coordinator begins with what its disk has.
    pub fn started(&mut self, coordinator: usize, saved: &Saved) {
        self.written(coordinator, saved);
    }

    /// Terms only grow, and a vote once given stays.
    pub fn written(&mut self, coordinator: usize, saved: &Saved) {
        let (term, vote) = (saved.hard_state.term, saved.hard_state.vote);
        let (old_term, old_vote) = self.votes.insert(coordinator, (term, vote)).unwrap_or_default();
        assert!(term >= old_term, "coordinator {coordinator} went back from term {old_term} to {term}");
        let changed = term == old_term && old_vote != 0 && vote != old_vote;
        assert!(!changed, "coordinator {coordinator} voted for {old_vote} and for {vote} in term {term}");
    }

    pub fn leads(&mut self, coordinator: usize, term: u64) {
        let first = *self.leaders.entry(term).or_insert(coordinator);
        assert_eq!(first, coordinator, "two coordinators lead in term {term}");
    }

    /// No two coordinators apply different entries at one index. True: it is the first to apply it.
    fn applied(&mut self, coordinator: usize, revision: Revision, data: &[u8]) -> bool {
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        let hash = data.iter().fold(0xCBF2_9CE4_8422_2325, fold);
        let new = !self.entries.contains_key(&revision.0);
        let (known, first) = *self.entries.entry(revision.0).or_insert((hash, coordinator));
        assert_eq!(known, hash, "coordinators {first} and {coordinator} applied different entries at {revision}");
        new
    }

    pub fn restored(&self, coordinator: usize, state: &State) {
        let same = state.revision != self.newest.revision || *state == self.newest;
        assert!(same, "coordinator {coordinator} restored another state at {}", state.revision);
    }

    pub fn promised(&mut self, member: usize, epoch: u64) {
        if self.promises.len() <= member {
            self.promises.resize(member + 1, 0);
        }
        let before = std::mem::replace(&mut self.promises[member], epoch);
        assert!(epoch >= before, "member {member} went back from epoch {before} to {epoch}");
    }

    /// A container that lost its disk has lost its word as well.
    pub fn wiped(&mut self, member: usize) {
        if let Some(promise) = self.promises.get_mut(member) {
            *promise = 0;
        }
        self.epochs_reported.remove(&member);
    }

    /// The epoch whose row a primary says is acknowledged (0: not since its agent began).
    pub fn reports_epoch(&mut self, member: usize, epoch: u64) {
        let before = self.epochs_reported.entry(member).or_insert(0);
        assert!(epoch == 0 || epoch >= *before, "member {member} reports epoch {epoch} after {before}");
        *before = epoch.max(*before);
    }

    pub fn promoted(&mut self, group: &GroupId, member: usize, timeline: u32) {
        let before = self.timelines.insert((group.clone(), timeline), member);
        assert!(before.is_none(), "timeline {timeline} of {before:?} is begun again by {member} in {group}");
    }

    /// A standby streams: what it has flushed is the beginning of what its upstream has.
    pub fn streams(standby: usize, own: &Postgres, upstream: &Postgres) {
        let last = own.flushed.checked_sub(1);
        let same = last.is_none_or(|last| upstream.wal.get(last) == own.wal.get(last));
        assert!(same, "standby {standby} streams from a primary of another history");
    }

    /// A client is told success: the write was acknowledged by more than the primary's own disk.
    pub fn told_success(&self, group: &GroupId, id: u64) {
        let known = self.acknowledged.get(group).is_some_and(|ids| ids.contains(&id));
        assert!(known, "a client of {group} was told success for {id}, which was committed locally only");
    }

    fn committed(&mut self, group: &GroupId, id: u64, member: usize, epoch: u64) {
        self.acknowledged.entry(group.clone()).or_default().insert(id);
        let first = *self.committers.entry((group.clone(), epoch)).or_insert(member);
        assert_eq!(first, member, "two members commit in epoch {epoch} of {group}");
    }

    fn missing(&self, group: &GroupId, postgres: &Postgres) -> Option<u64> {
        let mine: BTreeSet<u64> = postgres.wal[..postgres.flushed].iter().map(|record| record.id).collect();
        self.acknowledged.get(group)?.difference(&mine).next().copied()
    }
}

impl World {
    /// After every event: what only grows, everywhere.
    pub fn check(&mut self) {
        for (member, promised) in self.members.iter().zip(&self.checker.promises) {
            let kept = member.memory.promise.0;
            assert!(kept >= *promised, "{} promised epoch {promised} and has {kept} on its disk", member.id);
        }
    }

    /// A client's commit has its acknowledgements.
    pub fn commit_acknowledged(&mut self, member: usize, group: &GroupId, id: u64, end: usize) {
        let own = &self.members[member].postgres;
        let epoch = own.wal[..end].iter().rev().find_map(|record| record.row);
        let epoch = epoch.expect("clients commit only where a reign began");
        self.checker.committed(group, id, member, epoch);
        let state = self.checker.newest.groups.get(group);
        if state
            .is_some_and(|it| matches!(&it.phase, Phase::Promoting { next } if next.primary == self.members[member].id))
        {
            // A router that lives by an old topology may find in office again whom it knew there, before the
            // reign is open. Whether that is lost, the next reign will show.
            self.tally.early += 1;
            return;
        }
        let reign = state.and_then(|group| group.reign.as_ref());
        let Some(reign) = reign.filter(|_| !self.checker.lossy.contains(group)) else { return };
        let other = self.index(&reign.primary);
        let has = self.members[other].postgres.wal.iter().any(|record| record.id == id);
        assert!(
            other == member || has,
            "member {member} acknowledged {id} in epoch {epoch} of {group} although {other} reigns without it"
        );
    }

    /// A coordinator applies an entry.
    pub fn apply(&mut self, index: usize, process: &mut Process, revision: Revision, data: &[u8], proposal: &Proposal) {
        let new = self.checker.applied(index, revision, data);
        let before = new.then(|| process.state.clone());
        let outcome = process.state.apply(revision, proposal);
        let Some(before) = before else {
            return self.checker.restored(index, &process.state);
        };
        let disks = self.coordinators.iter().filter(|coordinator| coordinator.disk.has(revision.0, data)).count();
        assert!(
            disks > self.coordinators.len() / 2,
            "coordinator {index} applied entry {revision}, which is on {disks} disks only"
        );
        if let Err(why) = invariants::check(&before, &process.state) {
            panic!("{why}");
        }
        self.checker.newest = process.state.clone();
        self.tally.entries += 1;
        self.decided(&before, proposal, &outcome);
    }

    /// Something was decided: for the first time anywhere.
    fn decided(&mut self, before: &State, proposal: &Proposal, outcome: &Outcome) {
        self.tell(|| format!("{:?}: {} => {outcome:?}", proposal.command, proposal.reason));
        if matches!(outcome, Outcome::Refused(_)) {
            return;
        }
        match &proposal.command {
            Command::OpenEpoch { group, accept_data_loss, .. } => {
                self.tally.epochs += 1;
                if *accept_data_loss {
                    self.checker.lossy.insert(group.clone());
                }
            }
            Command::StandDown { .. } => self.tally.switchovers += 1,
            Command::Serving { group, .. } => self.serves(before, group),
            _ => {}
        }
    }

    /// A reign is open: it has everything.
    fn serves(&mut self, before: &State, group: &GroupId) {
        let now = &self.checker.newest.groups[group];
        assert_eq!(now.phase, Phase::Serving, "the command for it was applied");
        let primary = now.reign.as_ref().expect("it serves").primary.clone();
        let old = before.groups.get(group).and_then(|group| group.reign.as_ref());
        match old {
            Some(old) if old.primary == primary => self.tally.kept += 1,
            Some(_) => self.tally.failovers += 1,
            None => {}
        }
        let member = self.index(&primary);
        let missing = self.checker.missing(group, &self.members[member].postgres);
        let lossy = self.checker.lossy.contains(group);
        assert!(
            lossy || missing.is_none(),
            "acknowledged commit {missing:?} is missing from the reign of member {member} in {group}"
        );
    }
}
