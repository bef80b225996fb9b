//! Where the cluster under measurement runs, and how each fault is done there. Called by `main` and `round`.

use std::path::Path;

use howdah::model::status::Status;
use rustix::process::Signal;

use crate::{
    fault::Fault,
    harness::{
        machines::{Machines, USUAL},
        processes,
        running::{Cluster, container},
        site::{Site, leader, primary},
    },
};

/// A running cluster of two shards.
pub enum Place {
    /// Every part on a machine of its own.
    Machines(Machines),
    /// Every part a process of this machine.
    Dev(Cluster),
}

impl Place {
    /// Machines, made in an empty directory.
    pub fn machines(scratch: &Path) -> Self {
        Self::Machines(Machines::start(scratch, USUAL))
    }

    /// `howdah dev`.
    pub fn dev() -> Self {
        Self::Dev(Cluster::start(&[]))
    }

    /// How it is reached.
    pub fn site(&self) -> &Site {
        match self {
            Self::Machines(machines) => machines,
            Self::Dev(cluster) => cluster,
        }
    }

    /// Whether a fault can be done here.
    pub fn can(&self, fault: Fault) -> bool {
        fault != Fault::Cut || matches!(self, Self::Machines(_))
    }

    /// kill -9 of the postmaster of a group's primary.
    pub fn kill_postmaster(&self, status: &Status, group: &str) {
        let member = primary(status, group);
        let own = member.postmaster_pid.expect("a primary runs PostgreSQL");
        let pid = match self {
            Self::Machines(machines) => machines.process(&member.id, own).expect("a primary runs PostgreSQL"),
            Self::Dev(_) => own,
        };
        processes::send(pid, Signal::KILL);
    }

    /// Everything in the container of a group's primary ends.
    pub fn kill_container(&self, status: &Status, group: &str) {
        let member = primary(status, group);
        match self {
            Self::Machines(machines) => machines.kill(&member.id),
            Self::Dev(_) => processes::send_all(&container(member), Signal::KILL),
        }
    }

    /// kill -9 of the leader.
    pub fn kill_leader(&self, status: &Status) {
        let id = leader(status);
        match self {
            Self::Machines(machines) => machines.kill(&format!("coordinator-{id}")),
            Self::Dev(_) => {
                let leader = status.coordinators.iter().find(|it| it.id == id).and_then(|it| it.pid);
                processes::send(leader.expect("a coordinator of this machine"), Signal::KILL);
            }
        }
    }

    /// The container of a group's primary stands still.
    pub fn freeze(&self, status: &Status, group: &str) {
        let member = primary(status, group);
        match self {
            Self::Machines(machines) => machines.freeze(&member.id),
            Self::Dev(_) => processes::send_all(&container(member), Signal::STOP),
        }
    }

    /// The machine of a group's primary reaches nobody, and nobody reaches it.
    pub fn isolate(&self, status: &Status, group: &str) {
        match self {
            Self::Machines(machines) => machines.network().isolate(&primary(status, group).id),
            Self::Dev(_) => panic!("howdah dev has no machines to cut off"),
        }
    }

    /// What was frozen or cut off, as of `status`, is as before.
    pub fn mend(&self, status: &Status, group: &str) {
        match self {
            Self::Machines(machines) => machines.mend(),
            Self::Dev(_) => processes::send_all(&container(primary(status, group)), Signal::CONT),
        }
    }
}
