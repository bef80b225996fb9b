//! Whether a world can serve again: from here on nothing fails, everything arrives, everyone acts. A
//! group that does not come to serve with its full cohort then is wedged, and only a person could help.

use howdah::model::group::Phase;

use super::{
    coordinator::Time,
    system::{Step, System},
    world::{Postgres, World, who},
};

/// Rounds in which a calm group is well again: an election, a rewind, a join and a larger cohort take
/// some twenty.
const ROUNDS: usize = 60;

impl System {
    /// Why the group does not come to serve; `None`: it does.
    pub fn wedge(&self, world: &World) -> Option<World> {
        let mut world = world.clone();
        for _ in 0..ROUNDS {
            if self.is_well(&world) {
                return None;
            }
            self.calm_round(&mut world);
        }
        Some(world)
    }

    fn calm_round(&self, world: &mut World) {
        let before = world.members.clone();
        for me in 0..world.members.len() {
            if let Some(goal) = self.newest_order(world, me) {
                self.obey(world, me, &goal);
            }
            self.end(world, me);
            self.settle(world, me);
            Self::stream(world, me, true);
        }
        for me in 0..world.members.len() {
            if let Postgres::Primary(office) = world.members[me].postgres.clone() {
                for standby in office.senders.keys() {
                    Self::acknowledge(world, me, *standby);
                }
            }
            self.settle(world, me);
            self.hear(world, me);
        }
        let choices = self.choices(world);
        // Everyone is heard: what is decided at once comes first, then what takes time.
        let heard = |time: Time| choices.iter().find(move |choice| choice.silent == 0 && choice.time == time);
        // The longest limits pass only where nothing moves.
        let mut next = heard(Time::Soon).or_else(|| heard(Time::Late)).cloned();
        if next.is_none() && before == world.members {
            next = self.coordinators.at_last(world.state(), &world.view).into_iter().next();
        }
        if let Some(choice) = next {
            self.carry_out(world, &Step::Decide(choice.proposal, 0));
        }
    }

    fn is_well(&self, world: &World) -> bool {
        let group = world.group();
        let Some(reign) = group.reign.as_ref().filter(|_| group.phase == Phase::Serving) else {
            return false;
        };
        let primary = &world.members[who(&reign.primary)];
        let Postgres::Primary(office) = &primary.postgres else {
            return false;
        };
        let acks = self.start.acks.min(u32::try_from(self.start.members).expect("few") - 1);
        reign.recorded.same(&reign.ordered)
            && reign.recorded.standbys.len() == self.start.members - 1
            && reign.recorded.acks == acks
            && office.effective.len() == 1
            && office.effective[0].same(&reign.recorded)
            && primary.acknowledged == reign.epoch.0
            && office.senders.values().filter(|sender| sender.connected).count() == self.start.members - 1
    }
}
