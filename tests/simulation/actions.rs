//! What an agent's actions do to `PostgreSQL`, how long they take, and how they fail.

use howdah::{
    agent::core::{
        action::Action,
        decide::slots_of,
        history::Lineage,
        inputs::{Ancestry, Unfinished},
    },
    model::{
        ids::MemberId,
        numbers::{Epoch, Millis, Timeline},
    },
};

use super::{
    postgres::{Happening, Record, Running, Waiter},
    world::{Event, World},
};

/// Between two looks at something that takes its time.
const POLL: u64 = 10;

/// An action under way.
#[derive(Debug, Clone)]
pub struct Doing {
    pub number: u64,
    pub action: Action,
    begun: u64,
    /// The run of `PostgreSQL` it began in.
    run: u64,
    /// The record it waits for.
    record: Option<u64>,
    stage: u8,
}

/// How an action stands.
pub enum Ended {
    Not(u64),
    Well(Option<Ancestry>),
    Badly(&'static str),
}

const WELL: Ended = Ended::Well(None);

impl World {
    pub fn begin_action(&mut self, member: usize, action: &Action) {
        let number = self.id();
        self.tell(|| format!("member {member}: begins {action}"));
        let (now, run) = (self.now, self.members[member].postgres.run);
        let doing = Doing { number, action: action.clone(), begun: now, run, record: None, stage: 0 };
        let this = &mut self.members[member];
        let Some(agent) = &mut this.agent else { return };
        if let Action::ApplyCohort(_) = action {
            this.memory.revision = agent.inputs.newest_revision;
        }
        let lane = if action.awaits_standbys() { &mut agent.awaiting } else { &mut agent.exclusive };
        assert!(lane.replace(doing).is_none(), "an action begins only in a free lane");
        let life = this.machine.life;
        let wait = self.random.between(1, 8);
        self.after(wait, Event::ActionEnds { member, life, number });
    }

    /// It goes on, or has ended.
    pub fn action_ends(&mut self, member: usize, life: u64, number: u64) {
        if self.members[member].machine.life != life {
            return;
        }
        let is_it = |doing: &&Doing| doing.number == number;
        let Some(agent) = &self.members[member].agent else { return };
        let found = agent.exclusive.as_ref().filter(is_it).or_else(|| agent.awaiting.as_ref().filter(is_it));
        let Some(mut doing) = found.cloned() else { return };
        let ended = self.go_on(member, &mut doing);
        let Some(agent) = &mut self.members[member].agent else { return };
        let lane = if doing.action.awaits_standbys() { &mut agent.awaiting } else { &mut agent.exclusive };
        let result = match ended {
            Ended::Not(wait) => {
                *lane = Some(doing);
                return self.after(wait, Event::ActionEnds { member, life, number });
            }
            Ended::Well(answer) => Ok(answer),
            Ended::Badly(why) => Err(why.to_owned()),
        };
        *lane = None;
        self.action_ended(member, doing.action, result);
    }

    fn go_on(&mut self, member: usize, doing: &mut Doing) -> Ended {
        let stage = doing.stage;
        doing.stage = stage.saturating_add(1);
        match doing.action.clone() {
            Action::MakeDataDirectory => self.make(member, stage),
            Action::StartFenced => self.start(member, None),
            Action::StartFollowing(primary) => self.start(member, Some(&primary)),
            Action::Finish => {
                self.members[member].memory.unfinished = None;
                WELL
            }
            Action::Cut(_) => self.cut(member, doing, stage),
            Action::Promote { timeline, cohort } => self.promote(member, doing, stage, timeline, cohort),
            Action::ApplyCohort(cohort) => self.apply_cohort(member, stage, &cohort),
            Action::WriteEpoch(epoch) => self.write_row(member, doing, stage, Some(epoch)),
            Action::EnsureObjects(_) => self.write_row(member, doing, stage, None),
            Action::SetSlots(slots) => {
                self.members[member].postgres.slots = slots;
                WELL
            }
            Action::Examine { primary, timeline } => self.examine(member, stage, &primary, timeline),
            Action::Repoint(primary) => {
                let primary = self.index(&primary);
                let postgres = &mut self.members[member].postgres;
                (postgres.upstream, postgres.receiver) = (Some(primary), None);
                if postgres.is_down() { Ended::Badly("PostgreSQL is down") } else { WELL }
            }
            Action::Rewind(primary) => self.rewind(member, stage, &primary),
            Action::Clone(primary) => self.copy(member, stage, &primary),
            Action::SetAside => Ended::Badly("no group of this simulation lets go of anybody"),
            Action::StopFast => self.stop(member, stage),
            Action::StopImmediate => {
                self.end_postgres_hard(member);
                WELL
            }
            Action::Promise(_) | Action::Abort => Ended::Badly("the loop itself carries this out"),
        }
    }

    fn make(&mut self, member: usize, stage: u8) -> Ended {
        if stage == 0 {
            return Ended::Not(self.random.between(20, 200));
        }
        let (identifier, id) = (self.id(), self.id());
        let postgres = &mut self.members[member].postgres;
        postgres.system_identifier = Some(identifier);
        postgres.wal = vec![Record { timeline: 1, id, row: None }];
        (postgres.flushed, postgres.replayed, postgres.consistent_at) = (1, 1, 0);
        WELL
    }

    fn start(&mut self, member: usize, upstream: Option<&MemberId>) -> Ended {
        if self.members[member].postgres.is_down() {
            let upstream = upstream.map(|primary| self.index(primary));
            self.start_postgres(member, upstream);
        }
        WELL
    }

    /// The receiver ends, and nothing can start another.
    fn cut(&mut self, member: usize, doing: &Doing, stage: u8) -> Ended {
        let postgres = &self.members[member].postgres;
        if postgres.is_down() || postgres.run != doing.run {
            return Ended::Badly("PostgreSQL has ended");
        }
        if stage == 0 {
            self.end_receiver(member);
            return Ended::Not(self.random.between(5, 50));
        }
        let hangs = postgres.trouble.stopped_until > self.now;
        let over = self.now > doing.begun + 5_000;
        match (postgres.receiver.is_some(), hangs) {
            (false, false) => {
                let postgres = &mut self.members[member].postgres;
                // What was received is flushed by the receiver at its end.
                postgres.flushed = postgres.wal.len();
                WELL
            }
            _ if over => {
                self.end_postgres_hard(member);
                self.start_postgres(member, None);
                WELL
            }
            _ => Ended::Not(POLL),
        }
    }

    fn promote(
        &mut self,
        member: usize,
        doing: &Doing,
        stage: u8,
        timeline: Timeline,
        cohort: howdah::model::group::Cohort,
    ) -> Ended {
        if self.members[member].postgres.run != doing.run || self.members[member].postgres.is_down() {
            return Ended::Badly("PostgreSQL has ended");
        }
        let slow = self.random.chance(10);
        let wait = if slow { self.random.between(400, 3_000) } else { self.random.between(15, 60) };
        let until = self.now + wait;
        let this = &mut self.members[member];
        if stage == 0 {
            if !matches!(this.postgres.running, Running::Standby) {
                return if this.postgres.primary().is_some() { WELL } else { Ended::Badly("it is not in recovery") };
            }
            let goal = this.agent.as_ref().and_then(|agent| agent.inputs.goal.as_ref());
            let slots = goal.map(|goal| slots_of(goal, &this.id)).unwrap_or_default();
            let postgres = &mut this.postgres;
            // What it has received it replays first.
            postgres.flushed = postgres.wal.len();
            (postgres.upstream, postgres.receiver, postgres.slots) = (None, None, slots);
            postgres.running = Running::Promoting { until, timeline: timeline.0, cohort };
            let run = postgres.run;
            self.at(until, Event::Postgres { member, run, what: Happening::Promoted });
            return Ended::Not(wait + 1);
        }
        if this.postgres.primary().is_none() {
            return Ended::Not(POLL);
        }
        WELL
    }

    fn apply_cohort(&mut self, member: usize, stage: u8, cohort: &howdah::model::group::Cohort) -> Ended {
        let wait = self.random.between(2, 30);
        let Some(primary) = self.members[member].postgres.primary_mut() else {
            return Ended::Badly("it is no primary");
        };
        let new = Some(cohort.clone());
        if stage == 0 {
            // Some processes have read it, others have not.
            if !primary.effective.contains(&new) {
                primary.effective.push(new);
            }
            self.release(member);
            return Ended::Not(wait);
        }
        primary.effective = vec![new];
        self.release(member);
        WELL
    }

    /// A row, and its acknowledgements.
    fn write_row(&mut self, member: usize, doing: &mut Doing, stage: u8, epoch: Option<Epoch>) -> Ended {
        if stage == 0 {
            doing.record = self.write(member, epoch.map(|epoch| epoch.0), Waiter::Agent);
            doing.run = self.members[member].postgres.run;
            return if doing.record.is_some() { Ended::Not(3) } else { Ended::Badly("it cannot be written") };
        }
        let postgres = &self.members[member].postgres;
        let Some(primary) = postgres.primary().filter(|_| postgres.run == doing.run) else {
            return Ended::Badly("the connection broke");
        };
        if primary.stopping.is_some() {
            return Ended::Badly("the server shuts down");
        }
        let record = doing.record.expect("written in the first stage");
        if primary.acknowledged.contains(&record) { WELL } else { Ended::Not(POLL) }
    }

    fn reaches_primary(&self, member: usize, primary: usize) -> bool {
        let there = &self.members[primary];
        let up = matches!(there.postgres.running, Running::Standby | Running::Primary(_) | Running::Promoting { .. });
        up && self.data_link(member, primary) && !there.machine.is_frozen(self.now)
    }

    fn examine(&mut self, member: usize, stage: u8, primary: &MemberId, timeline: Timeline) -> Ended {
        let primary = self.index(primary);
        if stage == 0 {
            return Ended::Not(self.random.between(2, 30));
        }
        let theirs = &self.members[primary].postgres;
        if !self.reaches_primary(member, primary) || theirs.timeline_at(theirs.flushed) != timeline.0 {
            return if stage < 60 { Ended::Not(25) } else { Ended::Badly("no answer within the deadline") };
        }
        let ours = self.members[member].postgres.flushed;
        let lineage = Lineage::parse(&theirs.history()).expect("as PostgreSQL writes it");
        let has_our_wal = ours >= theirs.kept_from;
        Ended::Well(Some(Ancestry { timeline, lineage, has_our_wal, fetched: Millis(0) }))
    }

    fn rewind(&mut self, member: usize, stage: u8, primary: &MemberId) -> Ended {
        let primary = self.index(primary);
        if !self.reaches_primary(member, primary) || self.members[primary].postgres.primary().is_none() {
            return Ended::Badly("the primary does not answer");
        }
        match stage {
            0 => Ended::Not(self.random.between(5, 100)),
            1 => {
                self.members[member].memory.unfinished = Some(Unfinished::Rewinding);
                self.stop_postgres(member);
                Ended::Not(20)
            }
            _ if !self.members[member].postgres.is_down() => Ended::Not(20),
            2..=4 => Ended::Not(self.random.between(20, 150)),
            _ => {
                self.tally.rewinds += 1;
                self.take_copy(member, primary);
                WELL
            }
        }
    }

    fn copy(&mut self, member: usize, stage: u8, primary: &MemberId) -> Ended {
        let primary = self.index(primary);
        if !self.reaches_primary(member, primary) || self.members[primary].postgres.primary().is_none() {
            return Ended::Badly("the primary does not answer");
        }
        if stage < 5 {
            return Ended::Not(self.random.between(20, 200));
        }
        // Until here what was there before is as good as ever.
        self.end_postgres_hard(member);
        self.tally.clones += 1;
        self.take_copy(member, primary);
        WELL
    }

    /// A copy of what the primary has now; it is consistent once it has replayed that.
    fn take_copy(&mut self, member: usize, primary: usize) {
        let theirs = &self.members[primary].postgres;
        let (wal, system_identifier) = (theirs.wal[..theirs.flushed].to_vec(), theirs.system_identifier);
        let kept_from = theirs.kept_from;
        let this = &mut self.members[member];
        let end = wal.len();
        let postgres = &mut this.postgres;
        (postgres.wal, postgres.system_identifier, postgres.kept_from) = (wal, system_identifier, kept_from);
        (postgres.flushed, postgres.replayed, postgres.consistent_at) = (end, 0, end);
        postgres.slots.clear();
        this.memory.unfinished = Some(Unfinished::Settling);
    }

    fn stop(&mut self, member: usize, stage: u8) -> Ended {
        let postgres = &self.members[member].postgres;
        if postgres.is_down() {
            return WELL;
        }
        if postgres.trouble.stopped_until > self.now && stage > 100 {
            self.end_postgres_hard(member);
            return WELL;
        }
        if stage == 0 {
            self.stop_postgres(member);
        }
        Ended::Not(POLL)
    }

    /// Killed by its agent: told to, so no crash, but nothing is written any more.
    pub fn end_postgres_hard(&mut self, member: usize) {
        if self.members[member].postgres.is_down() {
            return;
        }
        let postgres = &mut self.members[member].postgres;
        let kept = postgres.flushed;
        postgres.wal.truncate(kept);
        self.end_postgres(member, None);
    }
}
