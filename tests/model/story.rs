//! A path through the model as a story that a stranger can read: what happened, and how the group stood.

use std::fmt::Write as _;

use howdah::{
    coordinator::core::command::{Command, Proposal},
    model::goal::Order,
};
use stateright::Path;

use super::{
    broken::Broken,
    system::Step,
    world::{Data, NAMES, Postgres, What, World},
};

/// The steps, numbered, and how it ends.
pub fn tell(path: Path<World, Step>) -> String {
    let mut text = String::new();
    for (number, (world, step)) in path.into_vec().into_iter().enumerate() {
        match step {
            Some(step) => writeln!(text, "{:>4}. {}", number + 1, line(&step)),
            None => writeln!(text, "  end: {}", ending(&world)),
        }
        .expect("writing to a string cannot fail");
    }
    text
}

fn line(step: &Step) -> String {
    let name = |who: &usize| NAMES[*who];
    match step {
        Step::Decide(proposal, 0) => format!("the leader decides: {}", decision(proposal)),
        Step::Decide(proposal, silent) => {
            let lost = NAMES.iter().enumerate().filter(|(place, _)| silent & (1 << place) != 0);
            let lost: Vec<_> = lost.map(|(_, name)| *name).collect();
            format!("the leader, which does not hear {}, decides: {}", lost.join(" and "), decision(proposal))
        }
        Step::Depose(None) => "another coordinator leads".to_owned(),
        Step::Depose(Some(left)) => format!("another coordinator leads; under way is still: {}", decision(left)),
        Step::Straggle => "what the old leader proposed reaches the log".to_owned(),
        Step::Ask => "a person asks for a switchover".to_owned(),
        Step::Report(me) => format!("reports of {} arrive", name(me)),
        Step::Slow(me) => format!("reports of {} are delayed from now on", name(me)),
        Step::Send(me) => format!("{} sends a report, which is delayed", name(me)),
        Step::Arrive(me) => format!("the delayed report of {} arrives", name(me)),
        Step::Order(me, goal) => {
            let order = match &goal.order {
                Order::Found => "found the group".to_owned(),
                Order::Recruit => "promise, and stand still".to_owned(),
                Order::Reign { timeline, cohort } => {
                    format!("reign on timeline {timeline} with {}", Broken::names(cohort))
                }
                Order::Follow { primary, serving: true, .. } => format!("follow {primary}"),
                Order::Follow { primary, serving: false, .. } => format!("follow {primary}, which may come to reign"),
                Order::StandDown => "stand down".to_owned(),
            };
            format!("{} is told (epoch {}, revision {}): {order}", name(me), goal.epoch, goal.revision)
        }
        Step::End(me) => format!("{} has done what it began", name(me)),
        Step::Look(me) => format!("{} looks at its primary", name(me)),
        Step::Write(me) => format!("a client writes on {}", name(me)),
        Step::Stream(me) => format!("{} receives everything, and its primary hears so", name(me)),
        Step::StreamUnheard(me) => {
            format!("{} receives everything; its word is under way", name(me))
        }
        Step::Heard(me, standby) => format!("the word of {} reaches {}", name(standby), name(me)),
        Step::Break(me) => format!("{} loses its connection to its primary", name(me)),
        Step::KillPostgres(me) => format!("PostgreSQL of {} is killed", name(me)),
        Step::KillAgent(me) => format!("the agent of {} is killed and starts again", name(me)),
        Step::KillContainer(me) => {
            format!("the container of {} is killed and starts again", name(me))
        }
        Step::Wipe(me) => format!("the container of {} comes back without its disk", name(me)),
        Step::Isolate(me) => format!("{} has been cut off from everyone for long", name(me)),
    }
}

fn decision(proposal: &Proposal) -> String {
    match &proposal.command {
        Command::OpenEpoch { epoch, .. } => format!("epoch {epoch} is open"),
        Command::Elect { primary, timeline, cohort, .. } => {
            format!("{primary} is elected, timeline {timeline}, cohort {}", Broken::names(cohort))
        }
        Command::Serving { epoch, .. } => format!("epoch {epoch} serves"),
        Command::SetCohort { recorded, ordered, .. } => {
            format!("recorded {}, ordered {}", Broken::names(recorded), Broken::names(ordered))
        }
        Command::Drain { .. } => "routers drain for a switchover".to_owned(),
        Command::StandDown { .. } => "the primary is to stand down".to_owned(),
        Command::CancelDrain { .. } => "the switchover is given up".to_owned(),
        other => format!("{other:?}"),
    }
}

/// How everyone stands.
pub fn ending(world: &World) -> String {
    let group = world.group();
    let mut text = format!("epoch {} is {}", group.epoch, group.phase.name());
    if let Some(reign) = &group.reign {
        let recorded = Broken::names(&reign.recorded);
        write!(text, ", last reign {} of {}, recorded {recorded}", reign.epoch, reign.primary).expect("a string");
    }
    for (me, member) in world.members.iter().enumerate() {
        let what = match (&member.data, &member.postgres) {
            (Data::Ready, Postgres::Down { .. }) => "down".to_owned(),
            (Data::Ready, Postgres::Standby { upstream: None, .. }) => "fenced".to_owned(),
            (Data::Ready, Postgres::Standby { upstream: Some(from), .. }) => format!("follows {}", NAMES[*from]),
            (Data::Ready, Postgres::Primary(office)) => {
                let cohorts: Vec<_> = office.effective.iter().map(|cohort| Broken::names(cohort)).collect();
                format!("primary, waits for {}", cohorts.join(" or "))
            }
            (data, _) => format!("{data:?}").to_lowercase(),
        };
        let writes = |record: &&super::world::Record| record.what == What::Write;
        let count = member.wal.iter().filter(writes).count();
        let (promise, timeline) = (member.promise, member.timeline());
        write!(text, "\n       {}: {what}, promise {promise}, timeline {timeline}, {count} writes", NAMES[me])
            .expect("a string");
    }
    text
}
