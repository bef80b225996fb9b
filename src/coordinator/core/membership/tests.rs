//! The steps of each change, told as a story: what is planned is applied, until nothing is left to do.

use super::*;
use crate::{
    coordinator::core::command::{Command, Outcome, Proposal},
    model::{coordinator::UNNUMBERED, policy::Policy},
};

/// The state, the leader, and who lives.
struct Group {
    state: State,
    me: u64,
    dead: BTreeSet<u64>,
    /// What was done.
    steps: Vec<String>,
}

fn url(id: u64) -> String {
    format!("http://c:{id}")
}

impl Group {
    fn of(voters: u64) -> Self {
        let mut group = Self { state: State::default(), me: 1, dead: BTreeSet::new(), steps: Vec::new() };
        let cluster = "demo".parse().expect("a name");
        group.apply(Command::Initialise { cluster, policy: Policy::default() });
        let voter = |id| Coordinator { url: url(id), role: CoordinatorRole::Voter, directory: Some(id) };
        let coordinators = (1..=voters).map(|id| (CoordinatorId(id), voter(id))).collect();
        assert_eq!(group.apply(Command::RecordCoordinators { coordinators }), Outcome::Applied);
        group
    }

    fn apply(&mut self, command: Command) -> Outcome {
        let proposal = Proposal { command, reason: "test".into(), time_ms: 0, based_on: None };
        self.state.apply(Revision(self.state.revision.0 + 1), &proposal)
    }

    fn ask(&mut self, kind: OperationKind) -> Outcome {
        let key = format!("key-{}", self.state.revision);
        self.apply(Command::BeginOperation { key, kind })
    }

    fn claim(&mut self, address: u64, directory: u64) -> Outcome {
        self.apply(Command::ClaimCoordinator { url: url(address), directory })
    }

    fn attendance(&self) -> Attendance {
        let alive = |id: &&CoordinatorId| !self.dead.contains(&id.0);
        let progress = Progress { matched: self.state.revision.0, votes: true };
        Attendance {
            me: CoordinatorId(self.me),
            applied: self.state.revision,
            progress: self.state.coordinators.keys().filter(alive).map(|id| (*id, progress)).collect(),
            alive: self.state.coordinators.keys().filter(alive).copied().collect(),
        }
    }

    /// Does what is planned until nothing is.
    fn run(&mut self) -> Vec<String> {
        for _ in 0..20 {
            let Some(step) = plan(&self.state, &self.attendance()).step else { break };
            match step {
                Step::Change(change, _) => {
                    assert_eq!(self.apply(Command::ChangeCoordinators { change }), Outcome::Applied);
                    self.steps.push(match change {
                        CoordinatorChange::AddLearner { coordinator } => format!("add {}", coordinator.0),
                        CoordinatorChange::Promote { coordinator } => format!("promote {}", coordinator.0),
                        CoordinatorChange::Remove { coordinator } => format!("remove {}", coordinator.0),
                    });
                }
                Step::HandOver => {
                    let other = self.state.voters().find(|id| id.0 != self.me && !self.dead.contains(&id.0));
                    self.me = other.expect("another voter lives").0;
                    self.steps.push(format!("hand over to {}", self.me));
                }
            }
        }
        std::mem::take(&mut self.steps)
    }

    fn outcomes(&self) -> Vec<Option<OperationOutcome>> {
        self.state.operations.iter().map(|operation| outcome(&self.state, operation)).collect()
    }

    fn voters(&self) -> Vec<u64> {
        self.state.voters().map(|id| id.0).collect()
    }
}

fn add(id: u64) -> OperationKind {
    OperationKind::AddCoordinator { url: url(id) }
}

fn remove_of(id: u64, force: bool) -> OperationKind {
    OperationKind::RemoveCoordinator { coordinator: CoordinatorId(id), force }
}

fn replace_of(id: u64, address: u64) -> OperationKind {
    OperationKind::ReplaceCoordinator { coordinator: CoordinatorId(id), url: url(address) }
}

fn refusal(outcome: Outcome) -> String {
    let Outcome::Refused(refusal) = outcome else { panic!("{outcome:?}") };
    refusal.to_string()
}

#[test]
fn a_newcomer_waits_learns_and_votes() {
    let mut group = Group::of(1);
    assert!(matches!(group.ask(add(2)), Outcome::Operation(_)));
    assert_eq!(group.run(), [""; 0], "nobody has come");
    let waits = plan(&group.state, &group.attendance()).waits;
    assert!(waits.values().all(|why| why.contains("--join") && why.contains("http://c:2")), "{waits:?}");
    assert_eq!(group.claim(2, 22), Outcome::Coordinator(CoordinatorId(2)));
    assert_eq!(group.claim(2, 22), Outcome::Coordinator(CoordinatorId(2)), "asked again");
    assert!(refusal(group.claim(2, 23)).contains("coordinator-member replace 2"), "another directory");
    assert_eq!(group.run(), ["add 2", "promote 2"]);
    assert!(matches!(&group.outcomes()[..], [Some(OperationOutcome::Done { .. })]));
    assert_eq!(group.voters(), [1, 2]);
}

#[test]
fn a_learner_is_promoted_only_once_it_has_the_log() {
    let mut group = Group::of(3);
    group.ask(add(4));
    group.claim(4, 44);
    let change = CoordinatorChange::AddLearner { coordinator: CoordinatorId(4) };
    group.apply(Command::ChangeCoordinators { change });
    let mut attendance = group.attendance();
    attendance.applied = Revision(10_000);
    assert_eq!(plan(&group.state, &attendance).step, None);
    attendance.progress.insert(CoordinatorId(4), Progress { matched: 9_990, votes: false });
    let promote = CoordinatorChange::Promote { coordinator: CoordinatorId(4) };
    assert!(matches!(plan(&group.state, &attendance).step, Some(Step::Change(change, _)) if change == promote));
    attendance.alive.remove(&CoordinatorId(4));
    assert_eq!(plan(&group.state, &attendance).step, None, "it has gone again");
}

#[test]
fn a_leader_that_is_removed_hands_over_first() {
    let mut group = Group::of(3);
    group.ask(remove_of(1, false));
    let steps = group.run();
    assert_eq!(steps, ["hand over to 2", "remove 1"]);
    assert!(matches!(&group.outcomes()[..], [Some(OperationOutcome::Done { .. })]));
    assert!(group.state.was_removed(CoordinatorId(1)) && !group.state.was_removed(CoordinatorId(4)));
}

#[test]
fn a_dead_one_retires_before_its_successor_votes_a_live_one_after() {
    let mut group = Group::of(3);
    group.dead.insert(3);
    group.ask(replace_of(3, 3));
    group.claim(3, 33);
    assert_eq!(group.run(), ["add 4", "remove 3", "promote 4"]);
    assert_eq!(group.voters(), [1, 2, 4]);
    group.dead.clear();
    group.ask(replace_of(2, 9));
    group.claim(9, 99);
    assert_eq!(group.run(), ["add 5", "promote 5", "remove 2"]);
    group.ask(replace_of(1, 10));
    group.claim(10, 100);
    assert_eq!(group.run(), ["add 6", "promote 6", "hand over to 4", "remove 1"]);
    assert_eq!(group.voters(), [4, 5, 6]);
    assert!(group.outcomes().iter().all(|outcome| matches!(outcome, Some(OperationOutcome::Done { .. }))));
}

#[test]
fn no_majority_is_given_up() {
    let mut group = Group::of(3);
    group.dead.insert(3);
    for force in [false, true] {
        let check = check_removal(&group.state, &group.attendance(), CoordinatorId(2), force);
        let why = check.expect_err("1 of 2 is no majority").to_string();
        assert!(why.contains("no majority") && why.contains("coordinator-3"), "{why}");
    }
    check_removal(&group.state, &group.attendance(), CoordinatorId(3), false).expect("the dead one may go");
    let mut five = Group::of(5);
    five.dead.insert(5);
    let check = check_removal(&five.state, &five.attendance(), CoordinatorId(2), false);
    assert!(check.expect_err("another one is down").to_string().contains("--force"));
    check_removal(&five.state, &five.attendance(), CoordinatorId(2), true).expect("3 of 4 answer");
    // Two die after the operation has begun: it waits.
    five.ask(remove_of(2, true));
    five.dead.insert(4);
    assert_eq!(five.run(), [""; 0]);
    assert!(plan(&five.state, &five.attendance()).waits.values().all(|why| why.contains("no majority")));
    five.dead.remove(&4);
    assert_eq!(five.run(), ["remove 2"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut group = Group::of(1);
    assert!(refusal(group.ask(remove_of(1, true))).contains("only coordinator that votes"));
    assert!(refusal(group.ask(remove_of(7, true))).contains("there is no coordinator-7"));
    assert!(refusal(group.ask(replace_of(7, 7))).contains("there is no coordinator-7"));
    assert!(refusal(group.ask(add(1))).contains("coordinator-1 is at http://c:1 already"));
    assert!(matches!(group.ask(add(2)), Outcome::Operation(_)));
    assert!(refusal(group.ask(add(2))).contains("coordinator-2 is at http://c:2 already"));
    assert!(refusal(group.claim(5, 55)).contains("coordinator-member add http://c:5"));
    let coordinators = group.state.coordinators.clone();
    assert!(matches!(group.apply(Command::RecordCoordinators { coordinators }), Outcome::Refused(_)));
    // A step that does not fit the state, proposed by a leader that was wrong about it.
    let change = CoordinatorChange::Promote { coordinator: CoordinatorId(2) };
    assert!(matches!(group.apply(Command::ChangeCoordinators { change }), Outcome::Refused(_)));
    for _ in 0..12 {
        let next = group.state.last_coordinator + 1;
        assert!(matches!(group.ask(add(next)), Outcome::Operation(_)));
    }
    assert!(refusal(group.ask(add(99))).contains("remove some first"));
}

#[test]
fn one_that_never_came_can_be_called_off() {
    let mut group = Group::of(3);
    group.ask(add(4));
    group.ask(remove_of(4, false));
    assert_eq!(group.run(), ["remove 4"]);
    let outcomes = group.outcomes();
    assert!(matches!(&outcomes[..], [Some(OperationOutcome::Failed { .. }), Some(OperationOutcome::Done { .. })]));
    group.ask(add(4));
    assert_eq!(group.claim(4, 44), Outcome::Coordinator(CoordinatorId(5)), "a number is not used again");
}

#[test]
fn an_unnumbered_founder_does_not_come_back_empty() {
    let mut group = Group::of(1);
    let founder = group.state.coordinators.get_mut(&CoordinatorId(1)).expect("it is there");
    founder.directory = Some(UNNUMBERED);
    assert!(refusal(group.claim(1, 77)).contains("replace 1"));
}
