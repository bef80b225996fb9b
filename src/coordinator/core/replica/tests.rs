//! Three replicas in memory, with a network that can be cut.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// The durable part of a replica, and what it has applied: the text of all entries so far.
#[derive(Default)]
struct Disk {
    saved: Saved,
    applied: Vec<String>,
}

struct Net {
    replicas: BTreeMap<u64, Replica>,
    disks: BTreeMap<u64, Disk>,
    down: BTreeSet<u64>,
}

fn replica(id: u64, saved: Saved) -> Replica {
    begun(id, &[1, 2, 3], saved)
}

/// `founders` is empty for one that joins.
fn begun(id: u64, founders: &[u64], saved: Saved) -> Replica {
    let founders: Vec<_> = founders.iter().copied().map(CoordinatorId).collect();
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    Replica::new(CoordinatorId(id), &founders, saved, Tuning::default(), &logger).expect("a valid configuration")
}

/// What is proposed to change the membership, as text.
fn text(change: &CoordinatorChange) -> String {
    format!("change {}", serde_json::to_string(change).expect("it is plain"))
}

impl Disk {
    fn write(&mut self, persist: Persist) {
        if let Some(hard_state) = persist.hard_state {
            self.saved.hard_state = hard_state;
        }
        if let Some(snapshot) = persist.snapshot {
            self.saved.entries.clear();
            self.saved.snapshot = snapshot;
        }
        if let Some(first) = persist.entries.first() {
            let first = first.index;
            self.saved.entries.retain(|entry| entry.index < first);
        }
        self.saved.entries.extend(persist.entries);
    }
}

impl Net {
    fn new() -> Self {
        Self::of(&[1, 2, 3])
    }

    fn of(founders: &[u64]) -> Self {
        let replicas = founders.iter().map(|id| (*id, begun(*id, founders, Saved::default()))).collect();
        let disks = founders.iter().map(|id| (*id, Disk::default())).collect();
        Self { replicas, disks, down: BTreeSet::new() }
    }

    /// A process that knows nobody.
    fn join(&mut self, id: u64) {
        self.replicas.insert(id, begun(id, &[], Saved::default()));
        self.disks.insert(id, Disk::default());
    }

    /// Proposes a change and lets it settle.
    fn change(&mut self, change: CoordinatorChange) {
        let leader = self.leader();
        let proposed = self.replicas.get_mut(&leader).expect("it leads").propose_change(text(&change).into(), &change);
        proposed.expect("it leads, and nothing else is under way");
        self.settle();
        (0..3).for_each(|_| self.tick());
    }

    /// Everything that is on disk, and nothing else.
    fn restart(&mut self, founders: &[u64]) {
        for (id, disk) in &mut self.disks {
            // The state is read from the snapshot; the entries after it are applied again.
            disk.applied = match disk.saved.snapshot.data.as_ref() {
                [] => Vec::new(),
                state => serde_json::from_slice(state).expect("we wrote it"),
            };
            let founders = if founders.contains(id) { founders } else { &[] };
            self.replicas.insert(*id, begun(*id, founders, disk.saved.clone()));
        }
    }

    fn voters(&self, id: u64) -> Vec<u64> {
        let mut voters = self.replicas[&id].node.store().conf_state().voters.clone();
        voters.sort_unstable();
        voters
    }

    /// Handles everything there is to do, and delivers messages until none is left.
    fn settle(&mut self) {
        loop {
            let mut messages = Vec::new();
            for (id, replica) in self.replicas.iter_mut().filter(|(id, _)| !self.down.contains(id)) {
                let disk = self.disks.get_mut(id).expect("every replica has a disk");
                while let Some(effects) = replica.turn() {
                    messages.extend(effects.send_now);
                    if let Some(persist) = effects.persist {
                        disk.write(persist);
                    }
                    messages.extend(effects.send_after_persist);
                    if let Some(state) = effects.restore {
                        disk.applied = serde_json::from_slice(&state.data).expect("we wrote it");
                    }
                    for entry in effects.apply {
                        let text = String::from_utf8(entry.data.to_vec()).expect("we proposed text");
                        if let Some(change) = text.strip_prefix("change ") {
                            replica.change(&serde_json::from_str(change).expect("ours")).expect("it fits");
                        }
                        disk.applied.push(text);
                    }
                    replica.finished(effects.number);
                }
                if replica.wants_compaction() {
                    let state = serde_json::to_vec(&disk.applied).expect("strings");
                    let snapshot = replica.compact(state).expect("applied entries are in the log");
                    let index = snapshot.get_metadata().index;
                    disk.saved.entries.retain(|entry| entry.index > index);
                    disk.saved.snapshot = snapshot;
                }
            }
            if messages.is_empty() {
                return;
            }
            for message in messages {
                let (from, to) = (message.from, message.to);
                if self.down.contains(&to) {
                    let sender = self.replicas.get_mut(&from).expect("it sent a message");
                    sender.unreachable(CoordinatorId(to));
                } else {
                    // What a member is told of one that it does not know is refused by raft itself.
                    let stepped = self.replicas.get_mut(&to).expect("it exists").step(message);
                    assert!(!matches!(stepped, Err(StepError::Forgotten { .. })), "{stepped:?}");
                }
            }
        }
    }

    /// Lets time pass until somebody who is up may decide.
    fn leader(&mut self) -> u64 {
        for _ in 0..200 {
            let up = |id: &u64| !self.down.contains(id);
            if let Some((id, _)) = self.replicas.iter().find(|(id, replica)| up(id) && replica.may_decide()) {
                return *id;
            }
            self.tick();
        }
        panic!("no leader after 200 ticks");
    }

    fn tick(&mut self) {
        for (id, replica) in &mut self.replicas {
            if !self.down.contains(id) {
                replica.tick();
            }
        }
        self.settle();
    }

    fn propose(&mut self, text: &str) {
        let leader = self.leader();
        self.replicas.get_mut(&leader).expect("it leads").propose(text.into()).expect("it leads");
        self.settle();
    }
}

#[test]
fn a_proposal_survives_its_leader_and_a_restart_of_all() {
    let mut net = Net::new();
    net.propose("one");
    let old = net.leader();
    net.down.insert(old);
    net.propose("two");
    assert_ne!(net.leader(), old);
    let saved = |net: &Net, id| net.disks[&id].saved.clone();
    net.replicas = [1, 2, 3].map(|id| (id, replica(id, saved(&net, id)))).into();
    net.disks.values_mut().for_each(|disk| disk.applied.clear());
    net.down.clear();
    net.leader();
    net.tick();
    for disk in net.disks.values() {
        assert_eq!(disk.applied, ["one", "two"]);
    }
}

#[test]
fn a_replica_starts_again_from_its_own_snapshot() {
    let mut net = Net::new();
    for number in 0..=Tuning::default().compact_after {
        net.propose(&number.to_string());
    }
    let leader = net.leader();
    let mut saved = net.disks[&leader].saved.clone();
    let index = saved.snapshot.get_metadata().index;
    assert!(index > 0, "it was compacted");
    // It may be older on disk than the snapshot: nobody waits for it alone.
    saved.hard_state.commit = index - 1;
    assert_eq!(replica(leader, saved).applied(), Revision(index));
}

#[test]
fn a_follower_that_forgot_what_it_acknowledged_stops() {
    let mut net = Net::new();
    net.propose("one");
    let leader = net.leader();
    let follower = [1, 2, 3].into_iter().find(|id| *id != leader).expect("there are three");
    let mut emptied = replica(follower, Saved::default());
    net.replicas.get_mut(&leader).expect("it leads").tick();
    let effects = net.replicas.get_mut(&leader).expect("it leads").turn().expect("a heartbeat");
    let heartbeat = effects.send_now.into_iter().find(|message| message.to == follower).expect("one for each");
    assert!(matches!(emptied.step(heartbeat), Err(StepError::Forgotten { ours: 0, .. })));
}

#[test]
fn a_follower_does_not_take_proposals() {
    let mut net = Net::new();
    let leader = net.leader();
    let follower = net.replicas.iter_mut().find(|(id, _)| **id != leader).expect("there are three").1;
    assert_eq!(follower.propose(b"x".into()), Err(ProposeError::NotLeader));
    assert_eq!(follower.leadership().leader, Some(CoordinatorId(leader)));
}

#[test]
fn a_follower_far_behind_gets_the_snapshot() {
    let mut net = Net::new();
    let leader = net.leader();
    let lagging = [1, 2, 3].into_iter().find(|id| *id != leader).expect("there are three");
    net.down.insert(lagging);
    for number in 0..Tuning::default().compact_after + 10 {
        net.propose(&number.to_string());
    }
    net.down.clear();
    for _ in 0..5 {
        net.tick();
    }
    assert!(net.disks[&lagging].saved.snapshot.get_metadata().index > 0);
    assert_eq!(net.disks[&lagging].applied, net.disks[&leader].applied);
}

const fn add(id: u64) -> CoordinatorChange {
    CoordinatorChange::AddLearner { coordinator: CoordinatorId(id) }
}

const fn promote(id: u64) -> CoordinatorChange {
    CoordinatorChange::Promote { coordinator: CoordinatorId(id) }
}

const fn remove(id: u64) -> CoordinatorChange {
    CoordinatorChange::Remove { coordinator: CoordinatorId(id) }
}

#[test]
fn one_becomes_three_becomes_five_and_three_again() {
    let mut net = Net::of(&[1]);
    net.propose("alone");
    for id in 2..=5 {
        net.join(id);
        net.change(add(id));
        assert_eq!(net.disks[&id].applied.first().map(String::as_str), Some("alone"), "{id} has the log");
        assert!(!net.voters(1).contains(&id), "a learner does not vote");
        net.change(promote(id));
        net.propose(&format!("with {id}"));
    }
    assert_eq!(net.voters(5), [1, 2, 3, 4, 5]);
    // Two of five may be lost, the first leader among them.
    net.down.extend([1, 2]);
    net.propose("without 1 and 2");
    net.change(remove(1));
    net.change(remove(2));
    let leader = net.leader();
    assert_eq!(net.voters(leader), [3, 4, 5]);
    net.restart(&[1]);
    net.propose("after a restart");
    for id in 3..=5 {
        net.tick();
        assert_eq!(net.disks[&id].applied.last().map(String::as_str), Some("after a restart"));
        assert_eq!(net.voters(id), [3, 4, 5]);
    }
}

#[test]
fn a_newcomer_founds_nothing_and_disturbs_nobody() {
    let mut alone = Net::of(&[]);
    alone.join(4);
    (0..100).for_each(|_| alone.tick());
    assert_eq!(alone.replicas[&4].leadership(), Leadership { leader: None, ours: false, term: 0 });
    alone.replicas.get_mut(&4).expect("it exists").campaign();
    alone.settle();
    assert!(!alone.replicas[&4].leadership().ours);
}

#[test]
fn membership_changes_one_at_a_time() {
    let mut net = Net::new();
    let leader = net.leader();
    net.join(4);
    let replica = net.replicas.get_mut(&leader).expect("it leads");
    replica.propose_change(text(&add(4)).into(), &add(4)).expect("nothing else is under way");
    assert_eq!(replica.propose_change(text(&add(5)).into(), &add(5)), Err(ProposeError::Changing));
    net.settle();
    let replica = net.replicas.get_mut(&leader).expect("it leads");
    replica.propose_change(text(&add(5)).into(), &add(5)).expect("the first is applied");
}

#[test]
fn a_removed_one_that_was_not_told_disturbs_nobody() {
    let mut net = Net::new();
    let leader = net.leader();
    let removed = [1, 2, 3].into_iter().find(|id| *id != leader).expect("there are three");
    net.down.insert(removed);
    net.change(remove(removed));
    net.down.clear();
    let term = net.replicas[&leader].leadership().term;
    (0..100).for_each(|_| net.tick());
    assert_eq!(
        net.replicas[&leader].leadership(),
        Leadership { leader: Some(CoordinatorId(leader)), ours: true, term }
    );
    net.propose("undisturbed");
}

/// A commit index is not made durable for its own sake, but no entry may be durable without the one that
/// came before it: a restarted coordinator would else stand for election in an older membership.
#[test]
fn what_was_committed_before_an_entry_is_durable_with_it() {
    let mut net = Net::of(&[1]);
    net.join(2);
    net.change(add(2));
    net.change(promote(2));
    // The snapshot that follows a change hides the matter: look at the entry alone.
    let leader = net.leader();
    let follower = 3 - leader;
    net.propose("one");
    net.tick();
    net.propose("two");
    for id in [leader, follower] {
        let Saved { hard_state, entries, .. } = &net.disks[&id].saved;
        let last = entries.last().expect("proposed").index;
        assert!(hard_state.commit >= last - 1, "{id}: entry {last} is durable, the commit of the one before is not");
    }
}

#[test]
fn leadership_is_not_handed_to_a_learner() {
    let mut net = Net::of(&[1]);
    net.join(2);
    net.change(add(2));
    assert!(!net.replicas.get_mut(&1).expect("it leads").hand_over());
    net.change(promote(2));
    assert!(net.replicas.get_mut(&1).expect("it leads").hand_over());
    net.settle();
    assert_eq!(net.leader(), 2);
}
