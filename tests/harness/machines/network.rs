//! The network of the machines: a bridge, and for each machine a link that can be cut in either direction,
//! towards some or towards all, or made slow. A cut is what a receiver drops, before anything else sees it:
//! senders notice nothing but silence. Called by `machines`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::Write as _,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::harness::site::eventually;

/// The name of the place where applications and administrators are.
pub const CLIENTS: &str = "clients";

/// Addresses for tests of networks (RFC 2544), in a network of our own.
const NET: &str = "198.18.0";

/// For a sleeper to have its network.
const SOON: Duration = Duration::from_secs(5);

/// One machine's place on the network.
struct Seat {
    address: String,
    /// Holds the network; `None` for the clients, who are here.
    pause: Option<Child>,
}

/// The whole network.
pub struct Network {
    seats: BTreeMap<String, Seat>,
    /// From whom to whom nothing arrives.
    cuts: Mutex<BTreeSet<(String, String)>>,
    slow: Mutex<BTreeSet<String>>,
}

impl Network {
    /// Makes a bridge and a link for each machine.
    pub fn make(names: &[&str]) -> Self {
        run("ip", &["link", "set", "lo", "up"]);
        run("ip", &["link", "add", "herd", "type", "bridge"]);
        run("ip", &["address", "add", &format!("{NET}.1/24"), "dev", "herd"]);
        run("ip", &["link", "set", "herd", "up"]);
        let clients = Seat { address: format!("{NET}.1"), pause: None };
        let mut seats = BTreeMap::from([(CLIENTS.to_owned(), clients)]);
        for (number, name) in names.iter().enumerate() {
            let address = format!("{NET}.{}", number + 11);
            let seat = Seat { pause: Some(attach(number, &address)), address };
            seats.insert((*name).to_owned(), seat);
        }
        Self { seats, cuts: Mutex::default(), slow: Mutex::default() }
    }

    /// A machine's address.
    pub fn address(&self, name: &str) -> &str {
        &self.seat(name).address
    }

    /// The process that holds a machine's network.
    pub fn pause(&self, name: &str) -> u32 {
        self.seat(name).pause.as_ref().expect("a machine of its own").id()
    }

    fn seat(&self, name: &str) -> &Seat {
        self.seats.get(name).unwrap_or_else(|| panic!("no machine is called {name}"))
    }

    fn others<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.seats.keys().map(String::as_str).filter(move |other| *other != name)
    }

    /// Nothing that `from` sends to `to` arrives.
    pub fn cut(&self, from: &str, to: &str) {
        self.change(|cuts| {
            cuts.insert((from.to_owned(), to.to_owned()));
        });
    }

    /// Nothing passes between the two.
    pub fn part(&self, one: &str, other: &str) {
        self.change(|cuts| {
            cuts.insert((one.to_owned(), other.to_owned()));
            cuts.insert((other.to_owned(), one.to_owned()));
        });
    }

    /// It hears, and nobody hears it.
    pub fn mute(&self, name: &str) {
        self.change(|cuts| cuts.extend(self.others(name).map(|other| (name.to_owned(), other.to_owned()))));
    }

    /// It is heard, and hears nobody.
    pub fn deafen(&self, name: &str) {
        self.change(|cuts| cuts.extend(self.others(name).map(|other| (other.to_owned(), name.to_owned()))));
    }

    /// The plug is pulled.
    pub fn isolate(&self, name: &str) {
        self.isolate_together(&[name]);
    }

    /// These reach each other and nobody else.
    pub fn isolate_together(&self, names: &[&str]) {
        self.change(|cuts| {
            for name in names {
                for other in self.others(name).filter(|other| !names.contains(other)) {
                    cuts.insert(((*name).to_owned(), other.to_owned()));
                    cuts.insert((other.to_owned(), (*name).to_owned()));
                }
            }
        });
    }

    /// At most so many kilobits a second leave it, in a queue of a third of a second.
    pub fn slow(&self, name: &str, kilobits: u32) {
        let rate = format!("{kilobits}kbit");
        let queue = ["qdisc", "replace", "dev", "eth0", "root", "tbf", "rate"];
        let shape = ["burst", "16kb", "latency", "300ms"];
        let arguments: Vec<_> = queue.into_iter().chain([rate.as_str()]).chain(shape).collect();
        self.run_on(name, "tc", &arguments, "");
        self.slow.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// No link is cut or slow any more.
    pub fn heal(&self) {
        self.change(BTreeSet::clear);
        for name in std::mem::take(&mut *self.slow.lock().unwrap_or_else(PoisonError::into_inner)) {
            self.run_on(&name, "tc", &["qdisc", "del", "dev", "eth0", "root"], "");
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<(String, String)>)) {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = cuts.clone();
        change(&mut cuts);
        let receivers: BTreeSet<_> = before.symmetric_difference(&cuts).map(|(_, to)| to.clone()).collect();
        for to in receivers {
            let mut rules = "*raw\n:PREROUTING ACCEPT\n".to_owned();
            for (from, _) in cuts.iter().filter(|(_, receiver)| *receiver == to) {
                let address = self.address(from);
                writeln!(rules, "-A PREROUTING -s {address} -j DROP").expect("writing to a string cannot fail");
            }
            rules.push_str("COMMIT\n");
            self.run_on(&to, "iptables-restore", &[], &rules);
        }
    }

    /// Runs a program on a machine's network.
    fn run_on(&self, name: &str, program: &str, arguments: &[&str], input: &str) {
        let mut command = match &self.seat(name).pause {
            Some(pause) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/proc/{}/ns/net", pause.id())).arg(program);
                command
            }
            None => Command::new(program),
        };
        finish(command.args(arguments), input);
    }
}

/// A machine: a sleeper in a network of its own, and a cable to the bridge.
fn attach(number: usize, address: &str) -> Child {
    let mut sleeper = Command::new("unshare");
    let pause = sleeper.args(["--net", "sleep", "infinity"]).spawn().expect("unshare runs");
    let ours = fs::read_link("/proc/self/ns/net").expect("/proc is mounted");
    let network = format!("/proc/{}/ns/net", pause.id());
    let apart = eventually(SOON, || fs::read_link(&network).is_ok_and(|theirs| theirs != ours));
    assert!(apart, "no network of its own for a machine");
    let (port, pid) = (format!("port{number}"), pause.id().to_string());
    run("ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
    run("ip", &["link", "set", &port, "master", "herd", "up"]);
    let script = format!("ip link set lo up; ip address add {address}/24 dev eth0; ip link set eth0 up");
    run("nsenter", &[&format!("--net={network}"), "sh", "-ec", &script]);
    pause
}

fn run(program: &str, arguments: &[&str]) {
    finish(Command::new(program).args(arguments), "");
}

fn finish(command: &mut Command, input: &str) {
    let told = format!("{command:?}");
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{told}: {error}"));
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads its input");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{told}: {}", String::from_utf8_lossy(&output.stderr));
}
