//! The faults, and how one is chosen. Called by `chaos`.

use howdah::model::status::Status;
use rustix::process::Signal;

use crate::{
    harness::{
        machines::{CLIENTS, Machines},
        processes,
        site::{leader, primary},
    },
    simulation::random::Random,
};

/// Something done to parts of the cluster; whatever lasts is undone by `Machines::mend`.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The container ends at once.
    Kill(String),
    /// All members of a group end at once.
    KillGroup(String),
    /// kill -9 of a postmaster.
    KillPostmaster(String),
    /// kill -9 of one server process of a primary: PostgreSQL restarts all of them.
    KillBackend(String),
    /// kill -9 of a router.
    KillRouter(String),
    /// Everything in it stands still.
    Freeze(String),
    /// The plug is pulled.
    Isolate(String),
    /// It hears and is not heard.
    Mute(String),
    /// It is heard and does not hear.
    Deafen(String),
    /// Two do not reach each other.
    Part(String, String),
    /// Some reach each other only.
    Together(Vec<String>),
    /// The plug is pulled and put back, again and again.
    Flap(String),
    /// Its line is slow.
    Slow(String, u32),
    /// Its disk is full.
    FillDisk(String),
    /// Its wall clock is set, by seconds.
    SetClock(String, i64),
    /// A planned change in the midst of it.
    Switchover(String),
}

impl Fault {
    /// One that can be done as things are.
    pub fn choose(random: &mut Random, status: &Status, machines: &Machines) -> Option<Self> {
        let member = member(random, status);
        let part = if random.chance(25) { coordinator(random, status) } else { member.clone() };
        let group = status.groups[random.index(status.groups.len())].id.clone();
        Some(match random.index(18) {
            0 => Self::Kill(part),
            1 => Self::KillGroup(group),
            2 => Self::KillPostmaster(member),
            3 => Self::KillBackend(member),
            4 => Self::KillRouter(format!("query-{}", random.between(1, 2))),
            5 | 6 => Self::Freeze(part),
            7 | 8 => Self::Isolate(part),
            9 => Self::Mute(part),
            10 => Self::Deafen(part),
            11 => Self::Part(part, another(random, status)),
            12 => Self::Together(vec![format!("coordinator-{}", leader(status)), member, another(random, status)]),
            13 => Self::Flap(part),
            14 => Self::Slow(part, u32::try_from(random.between(500, 8_000)).expect("a small number")),
            15 => Self::FillDisk(member),
            16 if machines.clocks().is_some() => Self::SetClock(part, [-86_400, -30, 30, 86_400][random.index(4)]),
            17 => Self::Switchover(group),
            _ => return None,
        })
    }

    /// Whether it comes and goes.
    pub fn flaps(&self) -> bool {
        matches!(self, Self::Flap(_))
    }

    /// Does it.
    pub fn begin(&self, machines: &Machines, status: &Status) {
        let network = machines.network();
        match self {
            Self::Kill(part) => machines.kill(part),
            Self::KillGroup(group) => {
                let members = status.groups.iter().filter(|it| it.id == *group).flat_map(|it| &it.members);
                members.for_each(|it| machines.kill(&it.id));
            }
            Self::KillPostmaster(part) => kill(postmaster(machines, status, part)),
            Self::KillBackend(part) => {
                let below = postmaster(machines, status, part).map(processes::tree).unwrap_or_default();
                kill(below.get(1..).and_then(|backends| backends.last()).copied());
            }
            Self::KillRouter(part) => {
                let own = status.routers.iter().find(|it| it.id == *part).and_then(|it| it.pid);
                kill(own.and_then(|own| machines.process(part, own)));
            }
            Self::Freeze(part) => machines.freeze(part),
            Self::Isolate(part) | Self::Flap(part) => network.isolate(part),
            Self::Mute(part) => network.mute(part),
            Self::Deafen(part) => network.deafen(part),
            Self::Part(one, other) => network.part(one, other),
            Self::Together(parts) => {
                network.isolate_together(&parts.iter().map(String::as_str).collect::<Vec<_>>());
            }
            Self::Slow(part, kilobits) => network.slow(part, *kilobits),
            Self::FillDisk(part) => machines.fill_disk(part),
            Self::SetClock(part, seconds) => {
                machines.clocks().expect("it was chosen where clocks can be set").set(part, *seconds);
            }
            // It may be refused, or end in nothing: there are other faults.
            Self::Switchover(group) => drop(machines.admin(&["switchover", group, "--no-wait"])),
        }
    }
}

/// A primary as often as not.
fn member(random: &mut Random, status: &Status) -> String {
    let group = &status.groups[random.index(status.groups.len())];
    if random.chance(50) && group.primary.is_some() {
        return primary(status, &group.id).id.clone();
    }
    group.members[random.index(group.members.len())].id.clone()
}

/// The leader as often as not.
fn coordinator(random: &mut Random, status: &Status) -> String {
    let id = if random.chance(50) { leader(status) } else { random.between(1, 3) };
    format!("coordinator-{id}")
}

/// Anybody, applications included.
fn another(random: &mut Random, status: &Status) -> String {
    match random.index(6) {
        0 => CLIENTS.to_owned(),
        1 => coordinator(random, status),
        _ => member(random, status),
    }
}

fn postmaster(machines: &Machines, status: &Status, part: &str) -> Option<u32> {
    let member = status.groups.iter().flat_map(|group| &group.members).find(|it| it.id == part)?;
    machines.process(part, member.postmaster_pid?)
}

/// Gone already is as good.
fn kill(pid: Option<u32>) {
    if let Some(pid) = pid {
        processes::send(pid, Signal::KILL);
    }
}
