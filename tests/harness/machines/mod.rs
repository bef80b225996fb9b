//! A cluster of which every part runs on a machine of its own: a container with its own network, process
//! numbers and disk, made of Linux namespaces, so that links can be cut in one direction or both, disks
//! fill up and whole machines go silent. Needs root. Called by the tests of partitions and of chaos, and by
//! the failover benchmark.
//!
//! ```text
//! the program ── unshare ── itself again, inside: network, mounts and processes of its own
//!                             │ bridge 198.18.0.1
//!                             ├─ machine 198.18.0.11: network held by a sleeper
//!                             │    └─ container: process 1 is `howdah coordinator`
//!                             ├─ machine 198.18.0.21 …   `howdah agent`, PostgreSQL, router below it
//! ```
//!
//! Nothing has to be cleaned up: namespaces end with their last process, and when the process inside ends,
//! however it ends, the kernel ends everything below it. Nothing is ever made in the host's own network.

mod clocks;
mod container;
mod inside;
mod network;

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::Signal;

use super::{
    processes,
    site::{HOWDAH, PATIENCE, Site, eventually},
};
use clocks::Clocks;
use container::Containers;
pub use inside::{Outcome, inside, test};
pub use network::{CLIENTS, Network};

/// Ports are those of containers, as every machine has its own.
const GRPC: u16 = 7400;
const SQL: u16 = 7432;

/// For every group to be formed: nine machines begin at once, on a machine that does other things as well.
const START: Duration = Duration::from_mins(4);

/// What parts log: with the moments at which routers learn of a change.
const LOG: &str = "info,howdah::router::topology_watch=debug";

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Shards of two members each.
    pub shards: usize,
    /// Megabytes of each container's disk, in memory; `None`: the scratch directory's own disk.
    pub disk_mb: Option<u32>,
    /// Run containers with a wall clock that [`Machines::set_clock`] moves, where there is a C compiler.
    pub clocks: bool,
}

/// Two shards, two query nodes, three coordinators.
pub const USUAL: Shape = Shape { shards: 2, disk_mb: None, clocks: false };

/// A running cluster. Its parts end with this process.
pub struct Machines {
    site: Site,
    scratch: PathBuf,
    network: Network,
    containers: Containers,
    clocks: Option<Clocks>,
}

impl Machines {
    /// Starts one in a directory that is empty, and waits until it is healthy. Must be [`inside`].
    pub fn start(scratch: &Path, shape: Shape) -> Self {
        let parts = parts(shape);
        let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).collect();
        let network = Network::make(&names);
        let address = |name: &str| network.address(name).to_owned();
        let coordinators: Vec<_> = (1..=3).map(|n| address(&format!("coordinator-{n}"))).collect();
        let site = Site {
            coordinators: coordinators.iter().map(|it| format!("http://{it}:{GRPC}")).collect::<Vec<_>>().join(","),
            routers: (1..=2).map(|n| (address(&format!("query-{n}")), SQL)).collect(),
            logs: Some(scratch.join("log")),
        };
        fs::create_dir_all(scratch.join("log")).expect("a scratch directory");
        fs::write(scratch.join("secret"), "a secret of tests\n").expect("a scratch directory");
        fs::write(scratch.join("password"), "howdah\n").expect("a scratch directory");
        let clocks = if shape.clocks { Clocks::make(scratch) } else { None };
        let mut containers = Containers::new();
        for part in &parts {
            let data = scratch.join(&part.name);
            fs::create_dir_all(&data).expect("a scratch directory");
            if let Some(megabytes) = shape.disk_mb.filter(|_| part.kind.is_some()) {
                mount_memory(&data, megabytes);
            }
            let mut command = part.command(scratch, &site, &network);
            let mut environment = vec!["env".to_owned(), format!("HOWDAH_LOG={LOG}")];
            environment.extend(clocks.iter().flat_map(|clocks| clocks.environment(&part.name)));
            command.splice(0..0, environment);
            let log = scratch.join(format!("log/{}.log", part.name));
            containers.start(&part.name, network.pause(&part.name), command, log);
        }
        let machines = Self { site, scratch: scratch.to_owned(), network, containers, clocks };
        let groups = shape.shards + 1;
        machines.wait_within(START, "every group is formed and healthy", |status| {
            status.groups.len() == groups
                && status.groups.iter().all(|group| group.members.len() == 2)
                && machines.unwell(status).is_none()
        });
        machines
    }

    /// The links between the machines.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Every process of a container, by the numbers that we know them by.
    pub fn processes(&self, part: &str) -> Vec<u32> {
        self.containers.processes(part)
    }

    /// The process of a container that calls itself `own`.
    pub fn process(&self, part: &str, own: u32) -> Option<u32> {
        self.processes(part).into_iter().find(|pid| processes::own_number(*pid) == Some(own))
    }

    /// The container ends at once, all of it, and is started again a moment later.
    pub fn kill(&self, part: &str) {
        // Process 1: the kernel ends the rest.
        if let Some(first) = self.processes(part).first() {
            processes::send(*first, Signal::KILL);
        }
    }

    /// Everything in the container stands still.
    pub fn freeze(&self, part: &str) {
        // Twice: what was being started during the first round is there in the second.
        for _ in 0..2 {
            processes::send_all(&self.processes(part), Signal::STOP);
        }
    }

    /// And goes on.
    pub fn thaw(&self, part: &str) {
        processes::send_all(&self.processes(part), Signal::CONT);
    }

    /// Uses up a container's disk to the last byte. Its shape must have given it one of its own.
    pub fn fill_disk(&self, part: &str) {
        let file = self.scratch.join(part).join("ballast");
        // Written, not reserved: it must end with "no space left".
        let mut dd = Command::new("dd");
        dd.arg("if=/dev/zero").arg(format!("of={}", file.display())).args(["bs=64k", "status=none"]);
        let output = dd.output();
        let said = String::from_utf8_lossy(&output.expect("dd runs").stderr).into_owned();
        assert!(said.contains("No space left"), "the disk of {part} was not filled: {said}");
    }

    /// Gives the space back.
    pub fn free_disk(&self, part: &str) {
        let _was_full = fs::remove_file(self.scratch.join(part).join("ballast"));
    }

    /// The containers' wall clocks, where they can be set.
    pub fn clocks(&self) -> Option<&Clocks> {
        self.clocks.as_ref()
    }

    /// Makes every link, machine, disk and clock whole again.
    pub fn mend(&self) {
        self.network.heal();
        for name in self.containers.names() {
            self.thaw(name);
            self.free_disk(name);
            if let Some(clocks) = &self.clocks {
                clocks.set(name, 0);
            }
        }
    }
}

/// It is reached like any other cluster.
impl Deref for Machines {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.report());
        }
        self.containers.stop();
        let gone = || self.containers.names().all(|name| self.processes(name).is_empty());
        if !eventually(PATIENCE, gone) {
            eprintln!("containers do not end; they do with this process");
        }
    }
}

/// A machine and what runs on it.
struct Part {
    name: String,
    /// Of an agent: `query` or `shard`, and the group it wants to be in.
    kind: Option<(&'static str, String)>,
}

fn parts(shape: Shape) -> Vec<Part> {
    let coordinators = (1..=3).map(|n| Part { name: format!("coordinator-{n}"), kind: None });
    let query = |n| Part { name: format!("query-{n}"), kind: Some(("query", "query".to_owned())) };
    let data = |n: usize| Part { name: format!("data-{n}"), kind: Some(("shard", format!("shard-{}", n.div_ceil(2)))) };
    coordinators.chain((1..=2).map(query)).chain((1..=2 * shape.shards).map(data)).collect()
}

impl Part {
    /// The program and its arguments, as a container's image would have them.
    fn command(&self, scratch: &Path, site: &Site, network: &Network) -> Vec<String> {
        let data = scratch.join(&self.name).display().to_string();
        let flags: Vec<(&str, String)> = match &self.kind {
            None => {
                let id = self.name.trim_start_matches("coordinator-").to_owned();
                let peer = |n| format!("{n}=http://{}:{GRPC}", network.address(&format!("coordinator-{n}")));
                let peers = (1..=3).map(peer).collect::<Vec<_>>().join(",");
                vec![("--id", id), ("--peers", peers)]
            }
            Some((kind, wish)) => vec![
                ("--name", self.name.clone()),
                ("--kind", (*kind).to_owned()),
                ("--wish", wish.clone()),
                ("--host", network.address(&self.name).to_owned()),
                ("--coordinators", site.coordinators.clone()),
                ("--secret-file", scratch.join("secret").display().to_string()),
                ("--owner-password-file", scratch.join("password").display().to_string()),
            ],
        };
        let role = if self.kind.is_some() { "agent" } else { "coordinator" };
        let head = [HOWDAH, role, "--cluster", "machines", "--data-dir", &data].map(str::to_owned);
        head.into_iter().chain(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value])).collect()
    }
}

/// A disk of its own, in memory: a write to it can fail, and nothing of it is left.
fn mount_memory(directory: &Path, megabytes: u32) {
    let options = format!("size={megabytes}m,mode=755");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory);
    assert!(mount.status().expect("mount runs").success(), "no disk for {}", directory.display());
}
