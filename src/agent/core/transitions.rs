//! The table: state × order → rule. Read it as "a container in this state that has this order …".
//! The compiler proves it complete; `tests/model/reach.rs` walks every goal that the coordinator gives from
//! every state to its end: at rest with the goal fulfilled, at a wait with the event that ends it, or at a
//! block upon which another is elected.

use crate::model::goal::Order;

use super::states::State;

/// What is ordered, without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrderKind {
    /// No goal yet, or in no group.
    None,
    /// [`Order::Found`].
    Found,
    /// [`Order::Recruit`].
    Recruit,
    /// [`Order::Reign`].
    Reign,
    /// [`Order::Follow`].
    Follow,
    /// [`Order::StandDown`].
    StandDown,
}

impl OrderKind {
    /// The kind of an order.
    pub fn of(order: Option<&Order>) -> Self {
        match order {
            None => Self::None,
            Some(Order::Found) => Self::Found,
            Some(Order::Recruit) => Self::Recruit,
            Some(Order::Reign { .. }) => Self::Reign,
            Some(Order::Follow { .. }) => Self::Follow,
            Some(Order::StandDown) => Self::StandDown,
        }
    }
}

/// What follows from a state and an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// As ordered: nothing to do.
    Rest,
    /// Nothing can be done but wait; why.
    Wait(&'static str),
    /// The order cannot be carried out from here; why.
    Blocked(&'static str),
    /// Make the data directory.
    Make,
    /// Start fenced.
    Start,
    /// Start following the primary that the data came from.
    Settle,
    /// End the receiver and stand still.
    Cut,
    /// Promote.
    Promote,
    /// Keep the reign as ordered: cohort, epoch row, objects, slots.
    Reign,
    /// Keep running as the primary that may be elected again.
    Live,
    /// Find out whether to point, rewind or clone; do it.
    Follow,
    /// Clone.
    Clone,
    /// Shut down cleanly.
    Stop,
    /// Shut down at once.
    Kill,
}

const STARTS: Rule = Rule::Wait("PostgreSQL is starting");
const NO_DATA: Rule = Rule::Blocked("has no usable data to reign with: another member must be elected");

/// The table.
#[expect(clippy::match_same_arms, reason = "a table is read by its rows: each state has its own")]
pub fn rule(state: State, order: OrderKind) -> Rule {
    use OrderKind as O;
    use State as S;
    match (state, order) {
        (S::Empty, O::Found) => Rule::Make,
        (S::Empty, O::None | O::Recruit | O::StandDown) => Rule::Rest,
        (S::Empty | S::Unfinished | S::Settling, O::Reign) => NO_DATA,
        (S::Empty | S::Unfinished, O::Follow) => Rule::Clone,

        (S::Unfinished | S::Settling, O::Found) => Rule::Blocked("cannot found a group on an unfinished clone"),
        (S::Unfinished | S::Settling, O::None | O::Recruit | O::StandDown) => {
            Rule::Wait("a clone or rewind is unfinished: it goes on when there is a primary to follow")
        }
        (S::Settling, O::Follow) => Rule::Settle,

        // Nobody starts as a primary: every start is fenced, whatever comes after.
        (S::Stopped, _) => Rule::Start,
        (S::Starting, _) => STARTS,

        // A hung primary that is followed or fenced elsewhere must not come back to life as one.
        (S::Hung, O::Follow | O::StandDown) => Rule::Kill,
        (S::Hung, O::None | O::Found | O::Recruit | O::Reign) => Rule::Wait("PostgreSQL does not answer"),

        (S::Fenced, O::None | O::Found | O::StandDown) => Rule::Rest,
        (S::Fenced, O::Recruit) => Rule::Cut,
        (S::Fenced, O::Reign) => Rule::Promote,
        (S::Fenced, O::Follow) => Rule::Follow,

        (S::Standby, O::None) => Rule::Rest,
        (S::Standby, O::Found | O::Recruit | O::StandDown) => Rule::Cut,
        (S::Standby, O::Reign) => Rule::Promote,
        (S::Standby, O::Follow) => Rule::Follow,

        (S::Primary, O::None) => Rule::Rest,
        (S::Primary, O::Recruit) => Rule::Live,
        (S::Primary, O::Reign) => Rule::Reign,
        (S::Primary, O::Found | O::Follow | O::StandDown) => Rule::Stop,
    }
}
