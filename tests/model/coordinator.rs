//! The real coordinator code: what the leader may propose in a state, whatever it has heard and however
//! much time has passed; and what applying it leads to. Pure, so each answer is computed once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use howdah::{
    coordinator::core::{
        command::{Command, Outcome, Proposal},
        goals, invariants,
        observed::{Connection, Observed},
        planner::{World as Planned, plan},
        state::State,
    },
    model::{
        goal::Goal,
        group::{Cohort, Phase},
        numbers::{Lsn, Millis, Position, Revision, Timeline},
        observed::{PostgresSeen, Report},
    },
};

use super::{
    broken::Broken,
    hashed::Hashed,
    world::{View, Who, group_id, id},
};

/// How much time has passed since the leader saw the group become what it is, and heard of everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// None: no limit has been reached.
    Soon,
    /// The limits of the start configuration, and those of an election.
    Late,
    /// Every limit there is.
    VeryLate,
}

/// The leader's clock when it began, and between two of its turns: below what it takes for its own pause.
const BEGAN: u64 = 1_000;
const STEP: u64 = 120;
/// Turns until every limit of a first attempt has passed (the longest is 20 s).
const VERY_LATE: u64 = 170;

/// What the leader may propose, and under which circumstances.
#[derive(Debug, Clone)]
pub struct Choice {
    pub proposal: Hashed<Proposal>,
    /// Members that it has not heard for longer than `suspect_after`, one bit each.
    pub silent: u8,
    pub time: Time,
}

/// Answers of a pure function.
pub type Memo<K, V> = Mutex<HashMap<K, V>>;

/// The coordinators' code with what it has answered before.
pub struct Coordinators {
    pub broken: Broken,
    pub members: usize,
    choices: Memo<(u64, View), Arc<Vec<Choice>>>,
    applied: Memo<(u64, u64), (Hashed<State>, bool, bool)>,
    goals: Memo<(u64, Who), Option<Hashed<Goal>>>,
}

pub fn once<K: std::hash::Hash + Eq, V: Clone>(memo: &Memo<K, V>, key: K, compute: impl FnOnce() -> V) -> V {
    if let Some(known) = memo.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return known.clone();
    }
    let value = compute();
    memo.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value.clone());
    value
}

impl Coordinators {
    pub fn new(broken: Broken, members: usize) -> Self {
        Self { broken, members, choices: Memo::default(), applied: Memo::default(), goals: Memo::default() }
    }

    /// The order that a member gets in this state.
    pub fn goal(&self, state: &Hashed<State>, member: Who) -> Option<Hashed<Goal>> {
        once(&self.goals, (state.hash, member), || goals::goal(state, &id(member)).map(Hashed::new))
    }

    /// The state after a proposal, whether that was refused, and whether the state is sound.
    pub fn apply(&self, state: &Hashed<State>, proposal: &Hashed<Proposal>) -> (Hashed<State>, bool, bool) {
        once(&self.applied, (state.hash, proposal.hash), || {
            let mut after = State::clone(state);
            let refused = matches!(apply(&mut after, proposal), Outcome::Refused(_));
            if refused {
                return (state.clone(), true, true);
            }
            // The product's own check; a state that was broken on purpose is for ours.
            let sound = self.broken != Broken::Nothing || invariants::check(state, &after).is_ok();
            self.broken.decided(state, &mut after);
            (Hashed::new(after), false, sound)
        })
    }

    /// Everything the leader may propose now, without its reasons: most natural circumstances first.
    pub fn choices(&self, state: &Hashed<State>, view: &View) -> Arc<Vec<Choice>> {
        once(&self.choices, (state.hash, view.clone()), || {
            let mut choices: Vec<Choice> = Vec::new();
            for (silent, time) in self.circumstances(state) {
                for choice in self.plan(state, view, silent, time) {
                    if choices.iter().all(|known| known.proposal != choice.proposal) {
                        choices.push(choice);
                    }
                }
            }
            let opens = |choice: &Choice| matches!(choice.proposal.command, Command::OpenEpoch { .. });
            if matches!(state.groups[&group_id()].phase, Phase::Promoting { .. }) && !choices.iter().any(opens) {
                choices.extend(self.at_last(state, view));
            }
            Arc::new(choices)
        })
    }

    /// What the leader proposes once every limit has passed, and it hears everyone who has ever reported.
    pub fn at_last(&self, state: &Hashed<State>, view: &View) -> Vec<Choice> {
        self.plan(state, view, 0, Time::VeryLate)
    }

    /// Whom the leader may have lost sight of, and for how long: all that makes a difference in this phase.
    fn circumstances(&self, state: &State) -> Vec<(u8, Time)> {
        let group = &state.groups[&group_id()];
        let primary = group.primary().map_or(0, |primary| 1 << super::world::who(primary));
        let mut all = vec![(0, Time::Soon), (0, Time::Late)];
        match group.phase {
            Phase::Recruiting { .. } => all.extend((1..1 << self.members).map(|silent| (silent, Time::Late))),
            _ => all.push((primary, Time::Late)),
        }
        all
    }

    fn plan(&self, state: &State, view: &View, silent: u8, time: Time) -> Vec<Choice> {
        let state = self.broken.as_planned(state);
        let view = self.broken.as_seen(&state, view);
        let (observed, now) = self.observed(&state, &view, silent, time);
        let world = Planned { state: &state, observed: &observed, now, time_ms: 0, in_flight: false };
        let proposals = plan(&world).into_iter();
        let said = proposals.map(|proposal| {
            let proposal = self.broken.proposed(&state, &view, proposal);
            // Reasons are for people.
            let proposal = Hashed::new(Proposal { reason: String::new(), time_ms: 0, ..proposal });
            Choice { proposal, silent, time }
        });
        said.collect()
    }

    /// The leader's memory as it is after all it has heard, at a moment that fits the circumstances.
    fn observed(&self, state: &State, view: &View, silent: u8, time: Time) -> (Observed, Millis) {
        let mut now = Millis(BEGAN);
        let mut observed = remembering(state, view, now, false);
        let turns = match time {
            Time::Soon => 0,
            Time::Late => 1,
            Time::VeryLate => VERY_LATE << attempts(state),
        };
        for turn in 0..turns {
            now = now.plus(Millis(STEP));
            for member in (0..self.members).filter(|member| silent & (1 << member) == 0 && view.said[*member].is_some())
            {
                // A sign of life, and no more news than that.
                let container = state.containers[&id(member)].clone();
                observed.member_connected(container, Connection(turn + 2), now);
            }
            observed.turn(state, now);
        }
        (observed, now)
    }

    /// What the leader knows of the cohort in force once it has this report as well.
    pub fn applied_seen(state: &State, view: &View, member: Who) -> Option<(u64, Option<u64>)> {
        let group = &state.groups[&group_id()];
        let report = view.said[member].as_ref()?;
        let PostgresSeen::Primary { applied, .. } = &report.postgres else {
            return view.applied;
        };
        if group.primary() != Some(&id(member)) {
            return view.applied;
        }
        // The newest report is no repetition of the first that had this cohort: it came later.
        let observed = remembering(state, view, Millis(BEGAN), true);
        let end = observed.applied_end(&group_id(), applied.ordered_at);
        Some((applied.ordered_at.0, end.map(|lsn| lsn.0)))
    }
}

/// How often limits may have been doubled: once for each attempt since the group served, up to four times.
fn attempts(state: &State) -> u64 {
    let group = &state.groups[&group_id()];
    let served = group.reign.as_ref().map_or(0, |reign| reign.epoch.0);
    group.epoch.0.saturating_sub(served + 1).min(4)
}

/// A leader that has heard what is in the view, just now; `news`: after what it remembers of the primary.
fn remembering(state: &State, view: &View, now: Millis, news: bool) -> Observed {
    let mut observed = Observed::default();
    observed.note_leadership(now);
    let mut sequence = 0;
    let mut hear = |observed: &mut Observed, report: &Report| {
        sequence += 1;
        observed.member_connected(state.containers[&report.member].clone(), Connection(1), now);
        observed.member_reported(Connection(1), Report { sequence, ..report.clone() }, now);
    };
    // Earlier reports of the primary, as far as anything is remembered of them.
    let primary = state.groups[&group_id()].primary().cloned();
    let newest = view.said.iter().flatten().find(|report| Some(&report.member) == primary.as_ref());
    if let (Some(newest), Some((ordered_at, end))) = (newest, view.applied.filter(|(_, end)| news || end.is_some())) {
        let earlier = |end: u64| Report { postgres: seen_applied(ordered_at, end), ..Report::clone(newest) };
        hear(&mut observed, &earlier(0));
        observed.turn(state, now);
        if let Some(end) = end {
            hear(&mut observed, &earlier(end));
            observed.turn(state, now);
        }
    }
    for report in view.said.iter().flatten() {
        hear(&mut observed, report);
    }
    observed.turn(state, now);
    observed
}

fn seen_applied(ordered_at: u64, end: u64) -> PostgresSeen {
    PostgresSeen::Primary {
        position: Position { timeline: Timeline(1), lsn: Lsn(end) },
        epoch: howdah::model::numbers::Epoch(0),
        applied: Cohort { ordered_at: Revision(ordered_at), ..Cohort::default() },
        standbys: Vec::new(),
        tables: Vec::new(),
    }
}

/// Applies at the next revision that changes anything, and forgets what only people read.
pub fn apply(state: &mut State, proposal: &Proposal) -> Outcome {
    let before = state.clone();
    let outcome = state.apply(state.revision.next(), proposal);
    if matches!(outcome, Outcome::Refused(_)) {
        *state = before;
        return outcome;
    }
    state.events.clear();
    state.topology_revision = Revision(0);
    for group in state.groups.values_mut() {
        group.reason.clear();
    }
    outcome
}

/// A proposal that is not the planner's own.
pub fn asked(command: Command) -> Proposal {
    Proposal { command, reason: String::new(), time_ms: 0, based_on: None }
}
