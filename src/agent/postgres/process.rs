//! The postmaster: making its directory, starting, taking over, stopping, and knowing at once that it
//! has exited.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::{process::Child, sync::watch, time::timeout};

use crate::model::{goal::Goal, ids::MemberId};

use super::{ActionError, Server, files};

/// Whether a postmaster runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// No.
    Down {
        /// It ended without being told to; how.
        crashed: Option<String>,
    },
    /// Yes.
    Alive {
        /// Its process id.
        pid: u32,
    },
}

/// A clean stop waits for WAL senders to hand over everything; `wal_sender_timeout` (5 s) ends those
/// whose standby is silent.
const FAST: Duration = Duration::from_secs(6);

/// An immediate stop writes nothing; what takes longer is killed.
const IMMEDIATE: Duration = Duration::from_secs(1);

/// How long killed processes may take to go.
const KILLED: Duration = Duration::from_secs(5);

/// initdb on a slow disk.
const INITDB: Duration = Duration::from_mins(2);

/// The log is moved aside above this size: one old and one new are kept.
const LOG_LIMIT: u64 = 64 * 1024 * 1024;

impl Server {
    /// initdb, fenced from its first start on.
    pub async fn make_data_directory(&self) -> Result<(), ActionError> {
        let (data, password) = (self.layout.fresh(), self.layout.password_file());
        let text = self.secret.password(crate::agent::core::settings::AGENT_ROLE);
        let io = |what: &str| ActionError::io(format!("{what} {}", data.display()));
        // Made beside and renamed, so that what bears the name is whole.
        if data.exists() {
            fs::remove_dir_all(&data).map_err(io("removing the unfinished"))?;
        }
        make_dir(self, &data)?;
        fs::write(&password, text.reveal()).map_err(io("writing the password for"))?;
        files::restrict(&password).map_err(io("restricting the password for"))?;
        self.account.own(&password)?;
        let mut result = Ok(());
        for locale in ["C.UTF-8", "C"] {
            let mut command = self.account.command(&self.program("initdb"));
            command.arg("-D").arg(&data).args(["-k", "--encoding=UTF8", "--username=postgres", "--auth=scram-sha-256"]);
            command.arg(format!("--locale={locale}")).args(["--lc-messages=C", "--no-instructions"]);
            command.arg(format!("--pwfile={}", password.display()));
            result = self.run("initdb", &mut command, INITDB).await;
            if result.is_ok() {
                break;
            }
        }
        fs::remove_file(&password).map_err(io("removing the password for"))?;
        result?;
        fs::rename(&data, self.layout.data()).map_err(io("renaming"))?;
        files::sync_dir(self.layout.root()).map_err(io("syncing the directory of"))
    }

    /// Starts in recovery: following nobody, or `upstream` where the data came from it. Returns when the
    /// process runs; it answers later.
    pub async fn start(&self, goal: Option<&Goal>, upstream: Option<&MemberId>) -> Result<(), ActionError> {
        if self.postmaster().is_some() {
            return Ok(());
        }
        let data = self.layout.data();
        self.end_orphans().await?;
        self.write_for_start(goal, upstream)?;
        self.started_fenced();
        match fs::remove_file(data.join("postmaster.pid")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ActionError::io("removing a stale postmaster.pid")(error));
            }
            _ => {}
        }
        self.bound_log().map_err(ActionError::io("moving the log aside"))?;
        let log = OpenOptions::new().create(true).append(true).open(self.layout.log());
        let log = log.map_err(ActionError::io("opening PostgreSQL's log"))?;
        let error_log = log.try_clone().map_err(ActionError::io("opening PostgreSQL's log"))?;
        let mut command = self.account.command(&self.program("postgres"));
        // A group of its own: a Ctrl-C on the terminal is the agent's to answer.
        command.arg("-D").arg(&data).current_dir(&data).process_group(0);
        command.stdout(Stdio::from(log)).stderr(Stdio::from(error_log)).env("LC_ALL", "C").env_remove("PGDATA");
        let child = command.spawn().map_err(ActionError::io("starting PostgreSQL"))?;
        let pid = child.id().ok_or_else(|| ActionError::Refused("PostgreSQL ended at once".to_owned()))?;
        self.told_to_stop.store(false, Ordering::Release);
        self.life.send_replace(Life::Alive { pid });
        tokio::spawn(watch_child(child, self.life.clone(), self.told_to_stop.clone()));
        Ok(())
    }

    /// Adopts a postmaster that outlived an earlier agent.
    pub(super) fn take_over(&self) {
        let data = self.layout.data();
        let Some(pid) = recorded_postmaster(&data).filter(|pid| runs_in(*pid, &data)) else { return };
        tracing::info!(pid, "taking over a PostgreSQL that runs already");
        self.life.send_replace(Life::Alive { pid });
        tokio::spawn(watch_stranger(pid, self.life.clone(), self.told_to_stop.clone()));
    }

    /// Clean shutdown; what is not done in time is ended at once.
    pub async fn stop_fast(&self) -> Result<(), ActionError> {
        if self.signal_and_wait(Signal::INT, FAST).await { Ok(()) } else { self.stop_immediate().await }
    }

    /// Shutdown without writing anything more.
    pub async fn stop_immediate(&self) -> Result<(), ActionError> {
        if !self.signal_and_wait(Signal::QUIT, IMMEDIATE).await {
            self.signal_and_wait(Signal::KILL, KILLED).await;
        }
        self.end_orphans().await
    }

    /// True if the postmaster is gone within `limit`.
    async fn signal_and_wait(&self, signal: Signal, limit: Duration) -> bool {
        let mut life = self.life.subscribe();
        let Some(pid) = self.postmaster() else { return true };
        self.told_to_stop.store(true, Ordering::Release);
        send(pid, signal);
        let gone = life.wait_for(|life| matches!(life, Life::Down { .. }));
        timeout(limit, gone).await.is_ok()
    }

    /// Processes that outlived their postmaster still write and still acknowledge; and no new one starts
    /// beside them, because they hold the shared memory.
    pub async fn end_orphans(&self) -> Result<(), ActionError> {
        let data = self.layout.data();
        let gone = async {
            let mut every = tokio::time::interval(Duration::from_millis(5));
            loop {
                every.tick().await;
                let orphans = processes_in(&data);
                if orphans.is_empty() {
                    return;
                }
                for pid in orphans {
                    send(pid, Signal::KILL);
                }
            }
        };
        timeout(KILLED, gone).await.map_err(|_| ActionError::Deadline {
            what: format!("ending the processes that an earlier PostgreSQL left in {}", data.display()),
            after: KILLED,
        })
    }

    /// Programs that an agent started which was killed itself: `pg_basebackup` and `pg_rewind` go on without it,
    /// and would write into what is made anew under the same names. Nobody else starts any here: the agent's
    /// directory is locked.
    pub async fn end_programs(&self) -> Result<(), ActionError> {
        let places = [self.layout.data(), self.layout.fresh()];
        let gone = async {
            let mut every = tokio::time::interval(Duration::from_millis(5));
            loop {
                every.tick().await;
                let programs = programs_on(&places);
                if programs.is_empty() {
                    return;
                }
                for pid in programs {
                    tracing::warn!(pid, "ending a program that an earlier agent left behind");
                    send(pid, Signal::KILL);
                }
            }
        };
        timeout(KILLED, gone).await.map_err(|_| ActionError::Deadline {
            what: format!("ending the programs that an earlier agent left in {}", self.layout.root().display()),
            after: KILLED,
        })
    }

    /// Tells the postmaster, and the processes given, that the settings have changed.
    pub(super) fn reload(&self, also: impl IntoIterator<Item = u32>) {
        for pid in self.postmaster().into_iter().chain(also) {
            send(pid, Signal::HUP);
        }
    }

    /// Moves a long log aside; `PostgreSQL` appends, so a cut file goes on from its beginning.
    pub fn bound_log(&self) -> io::Result<()> {
        let log = self.layout.log();
        if !fs::metadata(&log).is_ok_and(|file| file.len() > LOG_LIMIT) {
            return Ok(());
        }
        fs::copy(&log, log.with_extension("log.1"))?;
        OpenOptions::new().write(true).open(&log)?.set_len(0)
    }

    /// Runs one of `PostgreSQL`'s programs to its end.
    pub(super) async fn run(
        &self,
        name: &str,
        command: &mut tokio::process::Command,
        limit: Duration,
    ) -> Result<(), ActionError> {
        command.kill_on_drop(true).env("LC_ALL", "C").current_dir("/");
        let output = timeout(limit, command.output()).await;
        let output = output.map_err(|_| ActionError::Deadline { what: name.to_owned(), after: limit })?;
        let output = output.map_err(ActionError::io(format!("running {name}")))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(name, output.status, &String::from_utf8_lossy(&output.stderr)))
    }
}

/// A program's failure with the last of what it said.
pub(super) fn failed(program: &str, status: std::process::ExitStatus, said: &str) -> ActionError {
    // The last three lines hold the error, its detail and its hint.
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let output = lines[lines.len().saturating_sub(3)..].join("; ");
    ActionError::Program { program: program.to_owned(), status: status.to_string(), output }
}

/// Sends a signal; a process that is gone needs none.
pub(super) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone_already = kill_process(pid, signal);
    }
}

async fn watch_child(mut child: Child, life: watch::Sender<Life>, told_to_stop: Arc<AtomicBool>) {
    let how = match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    life.send_replace(Life::Down { crashed: (!told_to_stop.load(Ordering::Acquire)).then_some(how) });
}

/// A process that is not our child has no status to wait for, and nothing that wakes us.
async fn watch_stranger(pid: u32, life: watch::Sender<Life>, told_to_stop: Arc<AtomicBool>) {
    // 10 ms: a tenth of the time within which a lost postmaster is to be reported.
    let mut every = tokio::time::interval(Duration::from_millis(10));
    while alive(pid) {
        every.tick().await;
    }
    let how = "it was not this agent's child, so its status is not known".to_owned();
    life.send_replace(Life::Down { crashed: (!told_to_stop.load(Ordering::Acquire)).then_some(how) });
}

/// True while the process exists and is not a zombie that nobody has reaped yet.
fn alive(pid: u32) -> bool {
    let exists = i32::try_from(pid).ok().and_then(Pid::from_raw).is_some_and(|pid| test_kill_process(pid).is_ok());
    exists && !is_zombie(pid)
}

fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name is in parentheses and may hold anything; the state follows the last of them.
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

fn recorded_postmaster(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
}

/// True if the process lives in this data directory (`PostgreSQL` changes to it and stays).
fn runs_in(pid: u32, data: &Path) -> bool {
    if cfg!(target_os = "linux") {
        return alive(pid) && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == *data);
    }
    alive(pid)
}

/// Every process that lives in this data directory; none where there is no `/proc`.
fn processes_in(data: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| runs_in(*pid, data)).collect()
}

/// `PostgreSQL`'s programs that were told to work on one of `places`.
fn programs_on(places: &[PathBuf]) -> Vec<u32> {
    const PROGRAMS: [&str; 3] = ["initdb", "pg_basebackup", "pg_rewind"];
    let works_here = |pid: &u32| {
        // The arguments, each ended by a zero byte; nothing for a zombie.
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let mut words = line.split(|byte| *byte == 0).map(OsStr::from_bytes).map(Path::new);
        let ours = words.next().and_then(Path::file_name).is_some_and(|name| PROGRAMS.iter().any(|it| name == *it));
        ours && words.any(|word| places.iter().any(|place| word == place))
    };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(works_here).collect()
}

fn restrict_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Makes an empty directory that `PostgreSQL`'s user owns.
pub(super) fn make_dir(server: &Server, path: &Path) -> Result<(), ActionError> {
    let make = || {
        fs::create_dir(path)?;
        restrict_dir(path)
    };
    make().map_err(ActionError::io(format!("making {}", path.display())))?;
    server.account.own(path)
}
