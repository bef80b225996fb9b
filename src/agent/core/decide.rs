//! The next action and its reason. Compares the whole of what is ordered with the whole of what is
//! seen, and remembers nothing: it may be called at any time, any number of times. Called by the
//! runner after every event.

use std::collections::BTreeSet;

use crate::model::{
    goal::{Goal, Order},
    group::{Cohort, Storage},
    ids::MemberId,
    numbers::{Millis, Timeline},
    policy::Reads,
};

use super::{
    action::{Action, Decision},
    inputs::{Data, Inputs, Postgres, Primary, Standby, Unfinished},
    settings::slot_name,
    states::State,
    transitions::{OrderKind, Rule, rule},
};

#[cfg(test)]
mod tests;

/// How long a standby may fail to stream before its primary is asked why. Longer than a failover,
/// so that nobody asks while everybody is busy.
pub const STREAMING_PATIENCE: Millis = Millis(2_000);

/// How long a cloned or rewound directory may take to reach consistency before it is cloned anew:
/// what it needs may be gone for ever.
pub const SETTLING_PATIENCE: Millis = Millis(60_000);

/// What follows from the rule, before what is under way is considered.
enum Verdict {
    /// As ordered.
    Rest,
    /// Nothing to do yet; why.
    Wait(String),
    /// These, the first that can be done now.
    Do(Vec<Action>),
}

impl Verdict {
    fn wait(note: impl Into<String>) -> Self {
        Self::Wait(note.into())
    }

    fn one(action: Action) -> Self {
        Self::Do(vec![action])
    }
}

/// Decides.
pub fn decide(inputs: &Inputs) -> Decision {
    let state = State::of(inputs);
    let (action, mut note, settled) = match verdict(inputs, state) {
        Verdict::Rest => (None, String::new(), true),
        Verdict::Wait(note) => (None, note, false),
        Verdict::Do(wanted) => choose(inputs, wanted),
    };
    if let Some(under_way) = inputs.under_way.as_ref().filter(|_| action.is_none()) {
        note = under_way.to_string();
    }
    if let Postgres::Down { crashed: Some(reason) } = &inputs.postgres {
        note = format!("PostgreSQL ended: {reason}; {note}");
    }
    let healthy = match &inputs.postgres {
        // A primary that answers is in good health whatever else it is busy with: calling it ill deposes it.
        Postgres::Primary(Primary { trouble: Some(trouble), .. }) => {
            note = format!("PostgreSQL cannot write: {trouble}");
            false
        }
        Postgres::Primary(_) => true,
        _ => settled && inputs.under_way.is_none(),
    };
    Decision { action, state, healthy, note }
}

/// The first of `wanted` that can begin now; else why none can.
fn choose(inputs: &Inputs, wanted: Vec<Action>) -> (Option<Action>, String, bool) {
    let mut note = String::new();
    for action in wanted {
        if let Action::Promise(_) = action {
            return (Some(action.clone()), action.to_string(), false);
        }
        let failure = inputs.failure.as_ref().filter(|failure| failure.action == action && inputs.now < failure.until);
        let lane = if action.awaits_standbys() { &inputs.awaiting } else { &inputs.under_way };
        let (begin, why) = match (failure, lane) {
            (Some(failure), _) => (None, format!("{action} failed: {}", failure.message)),
            (None, None) => (Some(action.clone()), action.to_string()),
            (None, Some(other)) if !action.awaits_standbys() && *other != action && other.interruptible() => {
                (Some(Action::Abort), action.to_string())
            }
            (None, Some(other)) => (None, other.to_string()),
        };
        if begin.is_some() {
            return (begin, why, false);
        }
        if note.is_empty() {
            note = why;
        }
    }
    (None, note, false)
}

/// What should be done, as if nothing were under way.
fn verdict(inputs: &Inputs, state: State) -> Verdict {
    let goal = inputs.goal.as_ref();
    if let Some(goal) = goal.filter(|goal| goal.epoch > inputs.promise) {
        return Verdict::one(Action::Promise(goal.epoch));
    }
    if inputs.released.is_some() {
        return let_go(inputs);
    }
    if let (Data::Unfinished(Unfinished::Settling), Postgres::Standby(_)) = (&inputs.data, &inputs.postgres) {
        return Verdict::one(Action::Finish);
    }
    if isolated(inputs) {
        return Verdict::one(Action::StopFast);
    }
    match (rule(state, OrderKind::of(goal.map(|goal| &goal.order))), goal) {
        (Rule::Rest | Rule::Live, _) => Verdict::Rest,
        (Rule::Wait(why), Some(goal)) => settling_for_ever(inputs, goal).unwrap_or_else(|| Verdict::wait(why)),
        (Rule::Wait(why) | Rule::Blocked(why), _) => Verdict::wait(why),
        (Rule::Make, _) => Verdict::one(Action::MakeDataDirectory),
        (Rule::Start, _) => Verdict::one(Action::StartFenced),
        (Rule::Stop, _) => Verdict::one(Action::StopFast),
        (Rule::Kill, _) => Verdict::one(Action::StopImmediate),
        (Rule::Cut, Some(goal)) if inputs.cut == Some(goal.epoch) => Verdict::Rest,
        (Rule::Cut, Some(goal)) => Verdict::one(Action::Cut(goal.epoch)),
        (Rule::Promote | Rule::Reign, Some(goal)) => reign(inputs, goal),
        (Rule::Settle | Rule::Clone | Rule::Follow, Some(goal)) => follow(inputs, goal, state),
        (Rule::Cut | Rule::Promote | Rule::Reign | Rule::Settle | Rule::Clone | Rule::Follow, None) => {
            unreachable!("the table gives these rules only with an order")
        }
    }
}

/// The group that the data belongs to has let go of this container: `PostgreSQL` ends, and what it leaves is
/// never used for another group. A clone that was never complete is worth nothing to anybody.
fn let_go(inputs: &Inputs) -> Verdict {
    match (&inputs.postgres, inputs.data, inputs.storage) {
        (Postgres::Hung, ..) => Verdict::one(Action::StopImmediate),
        (Postgres::Starting | Postgres::Standby(_) | Postgres::Primary(_), ..) => Verdict::one(Action::StopFast),
        (_, Data::Empty | Data::Unfinished(Unfinished::Cloning | Unfinished::Settling), _)
        | (_, _, Storage::Ephemeral) => Verdict::one(Action::SetAside),
        (_, Data::Ready { .. } | Data::Unfinished(Unfinished::Rewinding), Storage::Persistent) => {
            let group = inputs.group.as_ref().map_or("its group", |group| group.as_str());
            Verdict::Wait(format!(
                "{group} has let go of it, and it keeps that group's data (storage = persistent): to free it for another \
                 group, stop it, move the directory postgres away and start it, or run it with --storage ephemeral"
            ))
        }
    }
}

/// Cut off from every coordinator *and* from the standbys it needs: it cannot commit, and must not
/// serve stale reads for longer. With strict reads a coordinator that does not lead is as good as none:
/// it cannot know whether another member was elected (`Policy::fenced_after` counts on that).
fn isolated(inputs: &Inputs) -> bool {
    let (Postgres::Primary(_), Some(goal)) = (&inputs.postgres, &inputs.goal) else { return false };
    let timeout = goal.settings.isolation_timeout;
    let needs_standbys = inputs.applied.as_ref().is_some_and(|cohort| cohort.acks > 0);
    let seen = match goal.settings.reads {
        Reads::Available => inputs.coordinator_seen,
        Reads::Strict => inputs.leader_seen,
    };
    needs_standbys && inputs.now.since(seen) > timeout && inputs.now.since(inputs.cohort_seen) > timeout
}

/// A clone or rewind that cannot reach consistency is fetched anew.
fn settling_for_ever(inputs: &Inputs, goal: &Goal) -> Option<Verdict> {
    let Order::Follow { primary, serving: true, .. } = &goal.order else { return None };
    let since = inputs.starting_since?;
    let too_long = inputs.now.since(since) > SETTLING_PATIENCE;
    (inputs.data == Data::Unfinished(Unfinished::Settling) && too_long)
        .then(|| Verdict::one(Action::Clone(primary.clone())))
}

/// `Order::Reign` on a `PostgreSQL` that answers.
fn reign(inputs: &Inputs, goal: &Goal) -> Verdict {
    let Order::Reign { timeline, cohort } = &goal.order else { return Verdict::Rest };
    match &inputs.postgres {
        Postgres::Standby(standby) => promote(standby, *timeline, cohort),
        Postgres::Primary(primary) if primary.position.timeline != *timeline => Verdict::one(Action::StopFast),
        Postgres::Primary(primary) => keep_reign(inputs, goal, primary, cohort),
        Postgres::Down { .. } | Postgres::Starting | Postgres::Hung => Verdict::Rest,
    }
}

fn promote(standby: &Standby, timeline: Timeline, cohort: &Cohort) -> Verdict {
    if standby.position.timeline >= timeline {
        return Verdict::Wait(format!(
            "was told to reign on timeline {timeline} but its log already reaches timeline {}: the number is used up, \
             another election must give a new one",
            standby.position.timeline
        ));
    }
    Verdict::one(Action::Promote { timeline, cohort: cohort.clone() })
}

fn keep_reign(inputs: &Inputs, goal: &Goal, primary: &Primary, cohort: &Cohort) -> Verdict {
    let mut wanted = Vec::new();
    let applied = inputs.applied.as_ref() == Some(cohort);
    if !applied {
        wanted.push(Action::ApplyCohort(cohort.clone()));
    }
    let slots = slots_of(goal, &inputs.me);
    if primary.slots != slots {
        wanted.push(Action::SetSlots(slots));
    }
    if applied && inputs.acknowledged < goal.epoch {
        wanted.push(Action::WriteEpoch(goal.epoch));
    } else if applied && inputs.objects < goal.epoch {
        wanted.push(Action::EnsureObjects(goal.epoch));
    }
    if wanted.is_empty() { Verdict::Rest } else { Verdict::Do(wanted) }
}

/// A slot for every other member.
pub fn slots_of(goal: &Goal, me: &MemberId) -> BTreeSet<String> {
    goal.members.iter().filter(|member| member.id != *me).map(|member| slot_name(&member.id)).collect()
}

/// `Order::Follow`, from no data up to streaming.
fn follow(inputs: &Inputs, goal: &Goal, state: State) -> Verdict {
    let Order::Follow { primary, timeline, serving } = &goal.order else { return Verdict::Rest };
    if *primary == inputs.me {
        return Verdict::wait("was told to follow itself");
    }
    if !goal.members.iter().any(|member| member.id == *primary) {
        return Verdict::Wait(format!("was told to follow {primary}, which is no member of the group"));
    }
    match (&inputs.postgres, state) {
        (Postgres::Standby(standby), _) => follow_on(inputs, standby, primary, *timeline, *serving),
        (_, State::Settling) => Verdict::one(Action::StartFollowing(primary.clone())),
        (_, _) if *serving => Verdict::one(Action::Clone(primary.clone())),
        (_, _) => Verdict::Wait(format!("waits to clone until {primary} serves")),
    }
}

/// `Order::Follow` in recovery: rest, point, rewind or clone.
fn follow_on(inputs: &Inputs, standby: &Standby, primary: &MemberId, timeline: Timeline, serving: bool) -> Verdict {
    let pointed = standby.upstream.as_ref() == Some(primary);
    if pointed && standby.streaming {
        return if standby.slots.is_empty() { Verdict::Rest } else { Verdict::one(Action::SetSlots(BTreeSet::new())) };
    }
    let waits_since = inputs.not_streaming_since.unwrap_or(inputs.now);
    if pointed && inputs.now.since(waits_since) < STREAMING_PATIENCE {
        return Verdict::Wait(format!("waits for {primary} to stream"));
    }
    if !pointed && !standby.still && !standby.receiver {
        return Verdict::wait("replays its own log before following anyone");
    }
    if !pointed && standby.position.timeline == timeline {
        return Verdict::one(Action::Repoint(primary.clone()));
    }
    let ancestry = inputs.ancestry.as_ref().filter(|ancestry| {
        ancestry.timeline == timeline && (!pointed || inputs.now.since(ancestry.fetched) < STREAMING_PATIENCE)
    });
    let Some(ancestry) = ancestry else {
        return Verdict::one(Action::Examine { primary: primary.clone(), timeline });
    };
    let prefix = ancestry.lineage.contains(timeline, standby.position);
    match (prefix, ancestry.has_our_wal, serving) {
        (true, true, _) | (true, false, false) if !pointed => Verdict::one(Action::Repoint(primary.clone())),
        (true, true, _) | (true, false, false) => Verdict::Wait(format!("waits for {primary} to stream")),
        (true, false, true) => Verdict::one(Action::Clone(primary.clone())),
        (false, _, true) => Verdict::one(Action::Rewind(primary.clone())),
        (false, _, false) => {
            Verdict::Wait(format!("its log has parted from {primary}'s: waits to rewind until {primary} serves"))
        }
    }
}
