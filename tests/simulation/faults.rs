//! What goes wrong, and how it is mended.

use super::{
    cluster::{Cluster, TURN},
    postgres::Running,
    story,
};

/// A fault every so many milliseconds, on average.
const EVERY: u64 = 500;
/// The group has this long to form before anything breaks.
const QUIET: u64 = 2_000;

impl Cluster {
    /// Now and then, breaks one thing.
    pub fn break_something(&mut self) {
        if self.now < QUIET || self.random.between(1, EVERY) > TURN {
            return;
        }
        let member = self.victim();
        let other = self.random.index(self.members.len());
        let span = self.random.between(100, 3_000);
        let until = self.now + span;
        let fault = self.random.index(11);
        story::tell(self, || format!("fault {fault}: member {member}, other {other}, for {span} ms"));
        match fault {
            0 | 1 => self.crash_postgres(member),
            2 | 3 => self.crash_container(member, until),
            4 => self.crash_agent(member, until),
            5 => self.members[member].frozen_until = until,
            6 => self.isolate(member, until),
            7 if member != other => {
                self.cut_data.insert((member.min(other), member.max(other)), until);
            }
            7 | 8 => self.depose(self.now.is_multiple_of(2)),
            9 => self.pause_leader(self.now + span / 3),
            _ => self.ask(),
        }
    }

    /// The primary half of the time: that is where it hurts.
    fn victim(&mut self) -> usize {
        let primary = self.group().and_then(|group| group.primary()).map(|id| self.index(id));
        match primary {
            Some(primary) if self.random.chance(50) => primary,
            _ => self.random.index(self.members.len()),
        }
    }

    fn crash_postgres(&mut self, member: usize) {
        let postgres = &mut self.members[member].postgres;
        if !matches!(postgres.running, Running::Down { .. }) {
            postgres.stop(Some("killed"));
        }
    }

    fn crash_container(&mut self, member: usize, until: u64) {
        self.members[member].postgres.stop(None);
        self.crash_agent(member, until);
    }

    fn crash_agent(&mut self, member: usize, until: u64) {
        self.hang_up(member);
        self.members[member].agent.crash(until);
    }

    fn isolate(&mut self, member: usize, until: u64) {
        for coordinator in 0..self.coordinators.len() {
            self.cut_control.insert((member, coordinator), until);
        }
        // From its standbys as well, or from the coordinators only.
        if self.random.chance(50) {
            for other in 0..self.members.len() {
                self.cut_data.insert((member.min(other), member.max(other)), until);
            }
        }
    }

    /// From here on nothing breaks any more, and what is broken works again.
    pub fn mend(&mut self) {
        story::tell(self, || "mended".to_owned());
        self.cut_control.clear();
        self.cut_data.clear();
        for member in &mut self.members {
            member.frozen_until = member.frozen_until.min(self.now);
            member.agent.restart_at = member.agent.restart_at.min(self.now);
        }
    }
}
