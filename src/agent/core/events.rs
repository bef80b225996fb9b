//! What each event changes in what an agent knows. Called by the runner, which then decides anew; and by
//! the simulation, so that both live by the same memory.

use crate::model::{
    goal::Goal,
    group::Storage,
    ids::{ClusterName, MemberId},
    numbers::{Epoch, Millis, Revision},
};

use super::{
    action::Action,
    inputs::{Ancestry, Data, Failure, Inputs, Postgres},
};

/// First wait after a failure, doubled each time.
const FIRST_RETRY: Millis = Millis(100);

/// Longest wait: what a person who has just repaired something will bear.
const LAST_RETRY: Millis = Millis(5_000);

/// What is new in a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// Another order, or another epoch.
    pub order: bool,
    /// Other members, or other addresses.
    pub members: bool,
}

impl Inputs {
    /// A process that has just begun, with nothing on disk.
    pub fn new(cluster: ClusterName, me: MemberId, now: Millis) -> Self {
        Self {
            cluster,
            me,
            birth: 0,
            storage: Storage::Persistent,
            group: None,
            joined: Revision(0),
            released: None,
            now,
            goal: None,
            newest_revision: Revision(0),
            promise: Epoch(0),
            data: Data::Empty,
            postgres: Postgres::Down { crashed: None },
            under_way: None,
            awaiting: None,
            acknowledged: Epoch(0),
            applied: None,
            cut: None,
            objects: Epoch(0),
            ancestry: None,
            not_streaming_since: None,
            starting_since: None,
            coordinator_seen: now,
            leader_seen: now,
            cohort_seen: now,
            failure: None,
        }
    }

    /// A goal that `goals::check` lets through.
    pub fn obey(&mut self, goal: Goal) -> News {
        let before = self.goal.as_ref();
        let news = News {
            order: before.is_none_or(|before| before.order != goal.order || before.epoch != goal.epoch),
            members: before.is_none_or(|before| before.members != goal.members),
        };
        if news.order {
            (self.failure, self.ancestry) = (None, None);
        }
        (self.group, self.joined, self.released) = (Some(goal.group.clone()), goal.joined, None);
        self.newest_revision = goal.revision;
        self.goal = Some(goal);
        news
    }

    /// The group has let go of this container (`goals::released`); true: this is news.
    pub fn let_go(&mut self, since: Revision) -> bool {
        self.goal = None;
        self.released.replace(since).is_none()
    }

    /// The postmaster has ended.
    pub fn postmaster_ended(&mut self, crashed: Option<String>) {
        self.postgres = Postgres::Down { crashed };
        (self.applied, self.cut) = (None, None);
    }

    /// A look at `PostgreSQL`; `alive`: there is a postmaster now.
    pub fn see(&mut self, seen: Postgres, promoting: bool, alive: bool, now: Millis) {
        // A look that began before the postmaster's end tells of the past.
        if matches!(self.postgres, Postgres::Down { .. }) && !alive && !matches!(seen, Postgres::Down { .. }) {
            return;
        }
        // A promotion makes the files of its timeline before it leaves recovery: until it has, or has failed,
        // the position stands as it was.
        if promoting && matches!((&seen, &self.postgres), (Postgres::Standby(_), Postgres::Standby(_))) {
            return;
        }
        let since = |still: bool, before: Option<Millis>| still.then(|| before.unwrap_or(now));
        self.starting_since = since(matches!(seen, Postgres::Starting), self.starting_since);
        let waits = matches!(&seen, Postgres::Standby(standby) if standby.upstream.is_some() && !standby.streaming);
        self.not_streaming_since = since(waits, self.not_streaming_since);
        if let (Postgres::Primary(primary), Some(cohort)) = (&seen, &self.applied) {
            let there = primary.standbys.iter().filter(|it| it.streaming && cohort.standbys.contains(&it.member));
            if there.count() >= cohort.acks as usize {
                self.cohort_seen = now;
            }
        } else {
            self.cohort_seen = now;
        }
        self.postgres = seen;
    }

    /// An action has done what no look shows.
    pub fn done(&mut self, action: &Action, answer: Option<Ancestry>, now: Millis) {
        self.failure = None;
        match action {
            Action::StartFenced | Action::StartFollowing(_) | Action::Repoint(_) => {
                (self.cut, self.ancestry, self.not_streaming_since) = (None, None, None);
            }
            Action::Cut(epoch) => self.cut = Some(*epoch),
            Action::ApplyCohort(cohort) => {
                self.applied = Some(cohort.clone());
                self.cohort_seen = now;
            }
            Action::SetAside => {
                let since = self.released.take().unwrap_or_default();
                (self.group, self.promise, self.joined) = (None, Epoch(0), since);
                self.newest_revision = self.newest_revision.max(since);
                (self.data, self.acknowledged, self.objects) = (Data::Empty, Epoch(0), Epoch(0));
                (self.applied, self.cut, self.ancestry) = (None, None, None);
            }
            Action::WriteEpoch(epoch) => self.acknowledged = *epoch,
            Action::EnsureObjects(epoch) => self.objects = *epoch,
            Action::Promise(_)
            | Action::MakeDataDirectory
            | Action::Finish
            | Action::Promote { .. }
            | Action::SetSlots(_)
            | Action::Examine { .. }
            | Action::Rewind(_)
            | Action::Clone(_)
            | Action::StopFast
            | Action::StopImmediate
            | Action::Abort => {}
        }
        if let Some(ancestry) = answer {
            self.ancestry = Some(Ancestry { fetched: now, ..ancestry });
        }
    }

    /// An action has failed: it waits longer each time.
    pub fn failed(&mut self, action: Action, message: String, now: Millis) {
        let before = self.failure.take().filter(|before| before.action == action).map_or(0, |before| before.times);
        let times = before + 1;
        // Doubled each time, up to the limit: 2^6 times the first is above it.
        let wait = Millis(FIRST_RETRY.0 << before.min(6)).min(LAST_RETRY);
        self.failure = Some(Failure { action, message, times, until: now.plus(wait) });
    }
}
