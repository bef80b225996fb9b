//! `howdah dev`: a whole cluster on this machine. Every coordinator and every container is a child
//! process of this one; the same binary, the same roles and flags as in production. Called by `cli`.
//!
//! ```text
//! check everything → start coordinators and containers → wait until all is healthy → load → ready
//!                                       ▲ a child that ends is started again        │
//!                                       └── until Ctrl-C: containers stop, then coordinators
//! ```

pub mod arguments;
mod directory;
mod layout;
mod load;
mod parts;
mod preflight;
mod ready;
mod show;

use std::{io, time::Duration};

pub use self::arguments::DevArguments;
use self::{
    directory::{Directory, DirectoryError},
    layout::{Layout, LayoutError},
    load::LoadError,
    parts::Parts,
    preflight::PreflightError,
};
use crate::{
    admin::client::Client,
    host::{clock::Clock, shutdown},
    model::status::Status,
    provision::{
        postgres::{self, PostgresError},
        process::Supervised,
    },
};

/// From start to ready: some 10 s on two processors; a slow or busy machine gets its time.
const READY_LIMIT: Duration = Duration::from_mins(3);

/// One look at the cluster while it comes up.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// A part that ended this often before the cluster was up will not come up.
const HOPELESS: u32 = 5;

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The numbers do not fit.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// No directory for it.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The machine is not ready.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// No PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The operating system said no.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A part ends again and again.
    #[error("{part} {ending}, again and again; its log {log} ends with: {last}")]
    Hopeless {
        /// The part.
        part: String,
        /// How it ended.
        ending: String,
        /// Its log.
        log: String,
        /// The last line of it.
        last: String,
    },
    /// It did not come up.
    #[error("the cluster was not up after {} s: {missing}; the logs are in {logs}", READY_LIMIT.as_secs())]
    Late {
        /// What was missing.
        missing: String,
        /// Where to look.
        logs: String,
    },
    /// The data could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Runs a cluster until a signal, and stops it.
pub async fn run(arguments: DevArguments) -> Result<(), DevError> {
    if arguments.die_with_parent {
        shutdown::die_with_parent().map_err(|source| DevError::System { what: "die with the parent", source })?;
    }
    let stop = shutdown::on_signal().map_err(|source| DevError::System { what: "watch for signals", source })?;
    let postgres_bin = postgres::find(arguments.postgres_bin.as_deref())?;
    let directory = Directory::open(&arguments.dir, arguments.shape(), arguments.wanted())?;
    let mut layout = directory.shape().layout()?;
    // Removed by `howdah coordinator-member remove`: not started again, and not waited for.
    layout.coordinators.retain(|it| !parts::retired(&directory, it).exists());
    preflight::reachable(directory.path())?;
    preflight::ports(&layout, &directory).await?;
    directory.begin()?;
    let verb = if directory.is_new() { "making" } else { "starting" };
    say(&format!("{verb} cluster {} in {}", directory.cluster(), directory.path().display()));

    let parts = Parts::new(&directory, &layout, &postgres_bin, !arguments.no_restart)
        .map_err(|source| DevError::System { what: "find this program's own file", source })?;
    let mut programs = Vec::new();
    for it in &layout.coordinators {
        programs.push(parts.coordinator(it)?);
    }
    for it in &layout.containers {
        programs.push(parts.container(it)?);
    }
    let running: Vec<_> = programs.into_iter().map(|program| Supervised::start(program, say)).collect();
    let outcome = tokio::select! {
        outcome = bring_up(&arguments, &directory, &layout, &running) => outcome,
        () = stop.cancelled() => Ok(()),
    };
    if outcome.is_ok() {
        stop.cancelled().await;
    }
    stop_in_order(running, layout.coordinators.len()).await;
    outcome
}

/// Waits until everything is healthy, loads what was asked for, and says so.
async fn bring_up(
    arguments: &DevArguments,
    directory: &Directory,
    layout: &Layout,
    running: &[Supervised],
) -> Result<(), DevError> {
    let status = wait_until_healthy(directory, layout, running).await?;
    if let Some(set) = arguments.load {
        load::tpch(&layout.connection_string(false), set.scale, say).await?;
    }
    println!("\n{}\nready", show::picture(layout, directory, running, &status));
    Ok(())
}

async fn wait_until_healthy(
    directory: &Directory,
    layout: &Layout,
    running: &[Supervised],
) -> Result<Status, DevError> {
    let clock = Clock::start();
    let client = Client::new(layout.coordinator_urls(), LOOK_DEADLINE);
    let mut said = String::new();
    loop {
        let missing = match client.status().await {
            Err(_) => "the coordinators are electing a leader".to_owned(),
            Ok(status) => match ready::missing(&status, directory.shape(), layout) {
                Some(missing) => missing,
                None => match ready::sql(layout).await {
                    Ok(()) => return Ok(status),
                    Err(missing) => missing,
                },
            },
        };
        if missing != said {
            say(&format!("waiting: {missing}"));
            said.clone_from(&missing);
        }
        if let Some(part) = running.iter().find(|part| part.life().endings >= HOPELESS) {
            return Err(hopeless(part));
        }
        if clock.now().duration() >= READY_LIMIT {
            return Err(DevError::Late { missing, logs: directory.path().join("log").display().to_string() });
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn hopeless(part: &Supervised) -> DevError {
    let text = std::fs::read_to_string(part.log()).unwrap_or_default();
    DevError::Hopeless {
        part: part.name().to_owned(),
        ending: part.life().last_ending,
        log: part.log().display().to_string(),
        last: text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("(empty)").to_owned(),
    }
}

/// Containers first, so that they can tell the coordinators; all at once within a kind.
async fn stop_in_order(mut running: Vec<Supervised>, coordinators: usize) {
    say("stopping");
    let containers = running.split_off(coordinators);
    for parts in [containers, running] {
        parts.iter().for_each(Supervised::stop);
        for part in parts {
            part.stopped().await;
        }
    }
    say("stopped");
}

/// One line of progress.
fn say(text: &str) {
    println!("{text}");
}
