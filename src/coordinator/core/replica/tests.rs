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
    let voters = [1, 2, 3].map(CoordinatorId);
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    Replica::new(CoordinatorId(id), &voters, saved, Tuning::default(), &logger).expect("a valid configuration")
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
        let replicas = [1, 2, 3].map(|id| (id, replica(id, Saved::default()))).into();
        let disks = [1, 2, 3].map(|id| (id, Disk::default())).into();
        Self { replicas, disks, down: BTreeSet::new() }
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
                    let texts = effects.apply.into_iter().map(|entry| String::from_utf8(entry.data.to_vec()));
                    disk.applied.extend(texts.map(|text| text.expect("we proposed text")));
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
                    self.replicas.get_mut(&to).expect("a voter").step(message).expect("a valid message");
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
    let saved = net.disks[&leader].saved.clone();
    let index = saved.snapshot.get_metadata().index;
    assert!(index > 0, "it was compacted");
    assert!(saved.hard_state.commit < index, "the commit index on disk is older, as nobody waits for it");
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
