//! What every role's process does around its role: log, die with its parent where asked, turn
//! signals into cancellation, and report how it ended. Called by `cli`.

use std::{error::Error, future::Future, path::PathBuf, process::ExitCode};

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{
    config::ConfigError,
    host::{causes::with_causes, shutdown, telemetry},
};

/// What every role takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Process")]
pub struct ProcessArguments {
    /// TOML file with settings, keys named like the flags
    #[arg(long, env = "HOWDAH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Stop when the process that started this one ends
    #[arg(long)]
    die_with_parent: bool,
}

/// Runs a role with the settings that its flags make, until it ends by itself or a signal ends it.
pub fn run<A, C, F, E>(
    arguments: A,
    process: impl FnOnce(&A) -> &ProcessArguments,
    role: impl FnOnce(C, CancellationToken) -> F,
) -> ExitCode
where
    C: TryFrom<A, Error = ConfigError>,
    F: Future<Output = Result<(), E>>,
    E: Error,
{
    let die_with_parent = process(&arguments).die_with_parent;
    let config = match C::try_from(arguments) {
        Ok(config) => config,
        Err(error) => return failed(&error.to_string()),
    };
    if let Err(error) = telemetry::start() {
        return failed(&error.to_string());
    }
    if die_with_parent && let Err(error) = shutdown::die_with_parent() {
        return failed(&format!("--die-with-parent: {error}"));
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start threads: {error}")),
    };
    let outcome = runtime.block_on(async {
        let stop = shutdown::on_signal().map_err(|error| format!("cannot watch for signals: {error}"))?;
        role(config, stop).await.map_err(|error| with_causes(&error))
    });
    // Threads that still block (file system, name look-up) must not keep a stopped role alive.
    runtime.shutdown_background();
    outcome.map_or_else(|reason| failed(&reason), |()| ExitCode::SUCCESS)
}

/// Runs a command of the command line on this thread.
pub fn run_command(command: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start: {error}")),
    };
    let outcome = runtime.block_on(command);
    outcome.map_or_else(|error| failed(&with_causes(error.as_ref())), |()| ExitCode::SUCCESS)
}

/// One line on stderr, exit status 1.
pub fn failed(reason: &str) -> ExitCode {
    eprintln!("howdah: {reason}");
    ExitCode::FAILURE
}
