//! A part of the cluster as a child process: started, logged to a file, started again when it ends,
//! and stopped in order. Called by `dev`.
//!
//! Children ask the kernel to end them with the *thread* that started them (`--die-with-parent`), so
//! everything here must run on a thread that lives as long as the process: `dev` uses one thread.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::host::{backoff::Backoff, clock::Clock};

/// First pause before a killed child is started again: a container engine's restart is about as quick.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause: a child that cannot start must not fill its log, nor take long once it can.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A child that lived this long had started well: the next pause is the first again.
const STEADY: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Name of the part, for people.
    pub name: String,
    /// The executable.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// File that its stdout and stderr are added to.
    pub log: PathBuf,
    /// How long it may take to stop before it is killed.
    pub grace: Duration,
    /// Start it again when it ends by itself.
    pub restart: bool,
    /// A file that it writes when it has ended for good.
    pub retired: Option<PathBuf>,
}

/// How a child is doing.
#[derive(Debug, Clone, Default)]
pub struct Life {
    /// Its process, while it runs.
    pub pid: Option<u32>,
    /// How many times it ended without being told to.
    pub endings: u32,
    /// How it ended last.
    pub last_ending: String,
}

/// A child that is taken care of.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    log: PathBuf,
    life: watch::Receiver<Life>,
    stop: CancellationToken,
    care: JoinHandle<()>,
}

impl Supervised {
    /// Starts a program; `say` is told when it ends by itself.
    pub fn start(program: Program, say: fn(&str)) -> Self {
        let (tell, life) = watch::channel(Life::default());
        let stop = CancellationToken::new();
        let (name, log) = (program.name.clone(), program.log.clone());
        let care = tokio::spawn(care(program, tell, stop.clone(), say));
        Self { name, log, life, stop, care }
    }

    /// The part's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it is doing.
    pub fn life(&self) -> Life {
        self.life.borrow().clone()
    }

    /// Tells it to stop; [`Supervised::stopped`] waits.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has stopped.
    pub async fn stopped(self) {
        if let Err(error) = self.care.await {
            tracing::error!(part = self.name, %error, "supervision failed");
        }
    }
}

/// Keeps one child running until told to stop.
async fn care(program: Program, tell: watch::Sender<Life>, stop: CancellationToken, say: fn(&str)) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    while !stop.is_cancelled() {
        let clock = Clock::start();
        let ending = match spawn(&program) {
            Err(error) => format!("cannot be started: {error}"),
            Ok(mut child) => {
                tell.send_modify(|life| life.pid = child.id());
                tokio::select! {
                    status = child.wait() => describe(status),
                    () = stop.cancelled() => {
                        end(&program, &mut child).await;
                        break;
                    }
                }
            }
        };
        tell.send_modify(|life| {
            life.pid = None;
            life.endings += 1;
            life.last_ending.clone_from(&ending);
        });
        if program.retired.as_ref().is_some_and(|file| file.exists()) {
            say(&format!("{} was removed from the cluster; it stays down", program.name));
            return;
        }
        if !program.restart {
            say(&format!("{} {ending}; it stays down (--no-restart)", program.name));
            return;
        }
        say(&format!("{} {ending}; starting it again", program.name));
        if clock.now().duration() >= STEADY {
            backoff.reset();
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.step()) => {}
            () = stop.cancelled() => {}
        }
    }
    tell.send_modify(|life| life.pid = None);
}

/// In a process group of its own, so that a Ctrl-C on the terminal reaches only the parent, which then
/// stops everything in order.
fn spawn(program: &Program) -> io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(&program.log)?;
    Command::new(&program.executable)
        .args(&program.arguments)
        .env("HOWDAH_LOG_FORMAT", "text")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// SIGTERM; after the grace SIGKILL to the child and what it started.
async fn end(program: &Program, child: &mut Child) {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) else { return };
    // It may end at this moment by itself: then there is nobody to tell.
    let _ = kill_process(pid, Signal::TERM);
    if tokio::time::timeout(program.grace, child.wait()).await.is_err() {
        tracing::warn!(part = program.name, "did not stop in time: killed");
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = child.wait().await;
    }
}

fn describe(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("ended ({status})"),
        Err(error) => format!("was lost ({error})"),
    }
}
