//! The end of a run: what is broken is mended, or enough of it, and everything must be well again within a
//! bound.

use howdah::model::{
    group::{Group, Phase},
    ids::GroupId,
};

use super::{
    coordinator::Coordinator,
    story,
    world::{Event, World},
};

/// With a majority of coordinators and a recruitable cohort alive a group serves again within this: several
/// elections and epochs, each with a detection (0.6 s, patience 3 s), a promotion's limit of 20 s where a
/// candidate does not come, a rewind or a clone, and retries of up to 5 s in between.
pub const RECOVERY_LIMIT: u64 = 45_000;
/// What was frozen thaws within this.
const THAW: u64 = 3_000;

impl World {
    /// From here on nothing breaks any more, and what is broken works again; in some runs one coordinator,
    /// and a member that its group can do without, never come back.
    pub fn mend(&mut self) {
        self.tell(|| "MENDED".to_owned());
        self.network.mend();
        let without = self.random.chance(30).then(|| self.random.index(self.coordinators.len()));
        for index in 0..self.coordinators.len() {
            self.mend_coordinator(index, without == Some(index));
        }
        let spared = self.random.chance(30).then(|| self.random.index(self.members.len()));
        let spared = spared.filter(|member| self.can_spare(*member));
        for member in 0..self.members.len() {
            self.mend_member(member, spared == Some(member));
        }
    }

    fn mend_coordinator(&mut self, index: usize, lost: bool) {
        let now = self.now;
        (self.coordinators[index].dies_after, self.coordinators[index].dies_writing) = (None, false);
        if lost {
            self.crash_coordinator(index, u64::MAX);
            self.coordinators[index].machine.down_until = u64::MAX;
            return;
        }
        let Coordinator { machine, disk, .. } = &mut self.coordinators[index];
        disk.latency = disk.latency.min(3);
        if machine.is_down(now) {
            machine.down_until = now;
            let life = machine.life;
            self.after(0, Event::Wake { coordinator: index, life });
        }
    }

    fn mend_member(&mut self, member: usize, lost: bool) {
        let now = self.now;
        if lost {
            self.tell(|| format!("member {member} never comes back"));
            self.crash_container(member, u64::MAX);
            self.members[member].machine.down_until = u64::MAX;
            return;
        }
        let trouble = &mut self.members[member].postgres.trouble;
        (trouble.slow, trouble.full_until, trouble.slow_replay_until) = (0, 0, 0);
        (trouble.hung_until, trouble.stopped_until) =
            (trouble.hung_until.min(now + THAW), trouble.stopped_until.min(now + THAW));
        let machine = &mut self.members[member].machine;
        if machine.is_down(now) {
            machine.down_until = now;
            let life = machine.life;
            self.after(0, Event::Seek { member, life });
        }
    }

    /// Its group can elect without it: by the rule of failover.md, written down once more.
    fn can_spare(&self, member: usize) -> bool {
        let id = &self.members[member].id;
        let Some(group) = self.checker.newest().group_of(id) else { return true };
        let Some(reign) = &group.reign else { return false };
        let usable = |index: usize| {
            let member = &self.members[index];
            member.postgres.system_identifier.is_some() && member.memory.unfinished.is_none()
        };
        let standbys = reign.recorded.standbys.iter().filter(|other| *other != id && usable(self.index(other)));
        let by_cohort =
            reign.recorded.acks > 0 && standbys.count() + reign.recorded.acks as usize > reign.recorded.standbys.len();
        let by_primary = reign.primary != *id && usable(self.index(&reign.primary));
        let settled = group.phase == Phase::Serving && reign.recorded.same(&reign.ordered);
        // `strict` needs its acknowledgements from those who are left.
        let strict = self.policy.durability == howdah::model::policy::Durability::Strict;
        let enough = !strict || group.members.len() - 1 > self.policy.acks as usize;
        settled && enough && by_cohort && by_primary
    }

    pub fn is_well(&self, since: u64) -> bool {
        let groups: Vec<_> = self.checker.newest().groups.values().collect();
        !groups.is_empty() && groups.into_iter().all(|group| self.group_is_well(group, since)) && self.all_applied()
    }

    fn group_is_well(&self, group: &Group, since: u64) -> bool {
        let there = group.members.keys().filter(|id| !self.members[self.index(id)].machine.is_down(self.now)).count();
        let others = there - 1;
        let acks = self.policy.acks.min(u32::try_from(others).expect("few"));
        let full = group.reign.as_ref().is_some_and(|reign| {
            let counted = reign.recorded.standbys.len();
            let whole = there == group.members.len();
            reign.recorded.same(&reign.ordered) && (!whole || (reign.recorded.acks == acks && counted == others))
        });
        group.phase == Phase::Serving && full && self.clients_are_served(&group.id, since)
    }

    /// Every router's client was told success since.
    fn clients_are_served(&self, group: &GroupId, since: u64) -> bool {
        self.routers.iter().all(|router| router.clients.get(group).is_some_and(|client| client.succeeded > since))
    }

    /// Every coordinator that runs has applied what any has.
    fn all_applied(&self) -> bool {
        let newest = self.checker.newest();
        self.coordinators
            .iter()
            .filter_map(|it| it.process.as_ref())
            .all(|process| process.state.revision == newest.revision && process.state == *newest)
    }
}

/// What a run came to.
pub struct Ended {
    pub hash: u64,
    pub tally: story::Tally,
}

/// Runs one seed to its end; panics where something is wrong.
pub fn run(world: &mut World) -> Ended {
    while world.now < world.faults_end {
        world.step();
    }
    world.mend();
    let mended = world.now + THAW;
    let mut looked = 0;
    loop {
        world.step();
        if world.now < looked + 20 {
            continue;
        }
        looked = world.now;
        if world.is_well(mended) {
            break;
        }
        assert!(world.now < mended + RECOVERY_LIMIT, "does not recover within {RECOVERY_LIMIT} ms");
    }
    world.tally.slowest_recovery = world.now - mended;
    Ended { hash: world.story.hash, tally: world.tally.clone() }
}
