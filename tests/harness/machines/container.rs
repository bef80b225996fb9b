//! Containers: process 1 is a role, in process numbers and mounts of its own, on a network that a machine
//! holds. One that ends is started again, as a container engine does it. Called by `machines`.

use std::{collections::BTreeMap, path::PathBuf, sync::mpsc, thread, time::Duration};

use howdah::provision::process::{Program, Supervised};

use crate::harness::processes;

/// Containers are killed, not asked: what they hold is scratch.
const GRACE: Duration = Duration::from_millis(1);

/// All of them.
pub struct Containers {
    parts: BTreeMap<String, Supervised>,
    programs: mpsc::Sender<(Program, mpsc::Sender<Supervised>)>,
}

impl Containers {
    /// None yet, and the thread that takes care of them.
    pub fn new() -> Self {
        let (programs, wanted) = mpsc::channel::<(Program, mpsc::Sender<Supervised>)>();
        // Supervision needs a runtime of its own thread: this one lives as long as the process.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                loop {
                    while let Ok((program, answer)) = wanted.try_recv() {
                        // Whoever asked waits for it.
                        let _ = answer.send(Supervised::start(program, |_| ()));
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        });
        Self { parts: BTreeMap::new(), programs }
    }

    /// Starts one: `command` as process 1, on the network that process `pause` holds.
    pub fn start(&mut self, name: &str, pause: u32, command: Vec<String>, log: PathBuf) {
        let head = [format!("--net=/proc/{pause}/ns/net"), "unshare".to_owned()];
        let namespaces = ["--pid", "--mount", "--mount-proc", "--fork", "--kill-child=KILL"].map(str::to_owned);
        let arguments = head.into_iter().chain(namespaces).chain(command);
        let program = Program {
            name: name.to_owned(),
            executable: "nsenter".into(),
            arguments: arguments.map(Into::into).collect(),
            log,
            grace: GRACE,
            restart: true,
            retired: None,
        };
        let (answer, started) = mpsc::channel();
        self.programs.send((program, answer)).expect("the thread of containers lives");
        self.parts.insert(name.to_owned(), started.recv().expect("the thread of containers lives"));
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.keys().map(String::as_str)
    }

    /// Process 1 first; empty while it is being started.
    pub fn processes(&self, name: &str) -> Vec<u32> {
        let outer = self.parts.get(name).expect("a part of the cluster").life().pid;
        // The outermost only waits for the others.
        outer.map(|pid| processes::tree(pid).split_off(1)).unwrap_or_default()
    }

    /// Ends them all.
    pub fn stop(&self) {
        self.parts.values().for_each(Supervised::stop);
    }
}
