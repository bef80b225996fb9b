//! Rules broken on purpose, from outside: what goes into the real functions, or what comes out of them,
//! is changed on its way. The checker must find each.

use std::collections::BTreeSet;

use howdah::{
    agent::core::{
        goals,
        inputs::{Inputs, Postgres},
        report,
    },
    coordinator::core::{
        command::{Command, Proposal},
        state::State,
    },
    model::{
        goal::{Goal, Order},
        group::{Cohort, Phase},
        ids::MemberId,
        numbers::{Epoch, Revision},
        observed::{PostgresSeen, Recruited, Report},
    },
};

use super::{
    hashed::Hashed,
    world::{Member, View, group_id},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Everything as it is.
    Nothing,
    /// n − k recruits are enough.
    RecruitsOneFewer,
    /// A standby that joins is ordered before it is recorded.
    AppliesBeforeRecordWhenOneJoins,
    /// A standby that leaves is taken out of the record before the primary is known to do without it.
    RecordsBeforeApplyWhenOneLeaves,
    /// Fewer acknowledgements are applied before they are recorded.
    AppliesBeforeRecordWhenAcksShrink,
    /// More acknowledgements are recorded before they are applied.
    RecordsBeforeApplyWhenAcksGrow,
    /// A reign is declared open once its primary is promoted, without waiting for its epoch row.
    OpensWithoutTheRow,
    /// The first of the recruits by name wins, not the furthest.
    ElectsByName,
    /// A promise is not on disk: an agent that starts again has forgotten it.
    ForgetsItsPromise,
    /// An order is obeyed whatever its epoch and revision.
    ObeysOldOrders,
    /// A standby answers a recruitment before its receiver is cut.
    AnswersBeforeTheCut,
    /// A new reign gets the timeline after that of the last one that served, whoever has tried it.
    UsesATimelineTwice,
    /// Routers work on whatever accepts writes where they were told of a reign, be it an earlier one.
    RoutersDoNotAskForTheTimeline,
}

/// All that break something.
pub const ALL: [Broken; 12] = [
    Broken::RecruitsOneFewer,
    Broken::AppliesBeforeRecordWhenOneJoins,
    Broken::RecordsBeforeApplyWhenOneLeaves,
    Broken::AppliesBeforeRecordWhenAcksShrink,
    Broken::RecordsBeforeApplyWhenAcksGrow,
    Broken::OpensWithoutTheRow,
    Broken::ElectsByName,
    Broken::ForgetsItsPromise,
    Broken::ObeysOldOrders,
    Broken::AnswersBeforeTheCut,
    Broken::UsesATimelineTwice,
    Broken::RoutersDoNotAskForTheTimeline,
];

impl Broken {
    /// The state as the planner is shown it.
    pub fn as_planned(self, state: &State) -> State {
        let mut state = state.clone();
        let group = state.groups.get_mut(&group_id()).expect("the model's group");
        let recruits = matches!(group.phase, Phase::Recruiting { .. });
        if let (Self::RecruitsOneFewer, Some(reign)) = (self, group.reign.as_mut().filter(|_| recruits)) {
            // n − k + 1 of a cohort with one more acknowledgement.
            reign.recorded.acks =
                (reign.recorded.acks + 1).min(u32::try_from(reign.recorded.standbys.len()).expect("few"));
        }
        state
    }

    /// What the leader has heard as the planner is shown it.
    pub fn as_seen(self, state: &State, view: &View) -> View {
        let mut view = view.clone();
        let Phase::Promoting { next } = &state.groups[&group_id()].phase else {
            return view;
        };
        if self == Self::OpensWithoutTheRow {
            for said in view.said.iter_mut().flatten().filter(|said| said.member == next.primary) {
                let mut report = Report::clone(said);
                if let PostgresSeen::Primary { epoch, applied, .. } = &mut report.postgres {
                    (*epoch, *applied) = (next.epoch, next.ordered.clone());
                    *said = Hashed::new(report);
                }
            }
        }
        view
    }

    /// What the planner proposes as it is sent on.
    pub fn proposed(self, state: &State, view: &View, mut proposal: Proposal) -> Proposal {
        let Command::Elect { primary, cohort, .. } = &mut proposal.command else {
            return proposal;
        };
        let epoch = state.groups[&group_id()].epoch;
        let recruited = |report: &&Hashed<Report>| report.recruited.is_some_and(|answer| answer.epoch == epoch);
        let first = view.said.iter().flatten().filter(recruited).map(|report| report.member.clone()).min();
        if let (Self::ElectsByName, Some(first)) = (self, first)
            && cohort.standbys.remove(&first)
        {
            cohort.standbys.insert(std::mem::replace(primary, first));
        }
        proposal
    }

    /// What a decision has led to as everyone gets to know it.
    pub fn decided(self, before: &State, after: &mut State) {
        let (Some(old), Some(group)) = (before.groups.get(&group_id()), after.groups.get_mut(&group_id())) else {
            return;
        };
        if let (Self::UsesATimelineTwice, Phase::Promoting { next }, Some(reign)) =
            (self, &mut group.phase, &group.reign)
            && next.timeline != reign.timeline
        {
            next.timeline = reign.timeline.next();
        }
        let (Some(old), Some(new)) = (&old.reign, &mut group.reign) else {
            return;
        };
        if group.phase != Phase::Serving || old.epoch != new.epoch {
            return;
        }
        let joined = new.ordered.standbys.len() > old.ordered.standbys.len();
        let left = new.ordered.standbys.len() < old.ordered.standbys.len();
        let shrunk = new.ordered.acks < old.ordered.acks;
        let grown = new.ordered.acks > old.ordered.acks;
        match self {
            Self::AppliesBeforeRecordWhenOneJoins if joined => new.recorded = old.recorded.clone(),
            Self::AppliesBeforeRecordWhenAcksShrink if shrunk => new.recorded = old.recorded.clone(),
            Self::RecordsBeforeApplyWhenOneLeaves if left => new.recorded = new.ordered.clone(),
            Self::RecordsBeforeApplyWhenAcksGrow if grown => new.recorded = new.ordered.clone(),
            _ => {}
        }
    }

    /// An agent begins again.
    pub fn restarted(self, member: &mut Member) {
        if self == Self::ForgetsItsPromise {
            (member.promise, member.remembered, member.newest) = (0, 0, 0);
        }
    }

    /// Whether an agent takes an order.
    pub fn takes(self, inputs: &Inputs, goal: &Goal) -> bool {
        if self == Self::ObeysOldOrders {
            let blind = Inputs { promise: Epoch(0), newest_revision: Revision(0), ..inputs.clone() };
            return goals::check(&blind, goal).is_ok();
        }
        goals::check(inputs, goal).is_ok()
    }

    /// An agent's answer to a recruitment.
    pub fn recruited(self, inputs: &Inputs) -> Option<Recruited> {
        let mut inputs = inputs.clone();
        if let (Self::AnswersBeforeTheCut, Postgres::Standby(standby)) = (self, &mut inputs.postgres) {
            standby.still = true;
            inputs.cut = inputs.goal.as_ref().map(|goal| goal.epoch);
        }
        report::recruited(&inputs)
    }

    /// Whether an agent ends its receiver when it is told to.
    pub fn cuts(self, order: Option<&Order>) -> bool {
        !(self == Self::AnswersBeforeTheCut && order == Some(&Order::Recruit))
    }

    /// The members that a cohort names, for stories.
    pub fn names(cohort: &Cohort) -> String {
        let names: BTreeSet<&str> = cohort.standbys.iter().map(MemberId::as_str).collect();
        format!("ANY {} ({})", cohort.acks, names.into_iter().collect::<Vec<_>>().join(", "))
    }
}
