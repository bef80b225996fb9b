//! The command line: what `main` parses and runs. Every role and every command has its arguments
//! beside what it starts; this module only joins them. Called by `main`.

mod file;
mod policy;
pub mod process;
mod roles;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::{
    admin::{self, arguments::AdminCommand},
    agent, coordinator,
    dev::{self, DevArguments},
    router,
};

pub use self::{
    policy::PolicyArguments,
    roles::{AgentArguments, CoordinatorArguments, RouterArguments},
};

/// Sharded, self-healing PostgreSQL in containers.
#[derive(Debug, Parser)]
#[command(name = "howdah", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "A whole cluster on this machine: howdah dev\n\
    Settings of a role come from its flags, else from HOWDAH_* in the environment, else from --config FILE (TOML, \
    keys named like the flags).\n\
    Exit status: 0 done, 1 failed (the reason on stderr), 2 usage.")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// One command.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster on this machine
    Dev(DevArguments),
    /// Run one coordinator
    Coordinator(CoordinatorArguments),
    /// Run one container's agent: PostgreSQL and, on a query node, a router
    Agent(Box<AgentArguments>),
    /// Run one router: the front for SQL clients
    Router(RouterArguments),
    #[command(flatten)]
    Admin(AdminCommand),
    /// Write completions for a shell to stdout
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Parses `arguments` and runs what they ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match parse(arguments.into_iter().collect()) {
        Ok(parsed) => parsed.command.run(),
        Err(Refused::Usage(error)) => error.exit(),
        Err(Refused::File(error)) => {
            eprintln!("howdah: {error}");
            ExitCode::from(2)
        }
    }
}

/// Why nothing was run.
#[derive(Debug)]
enum Refused {
    /// The arguments; also `--help` and `--version`.
    Usage(clap::Error),
    /// The file of `--config`.
    File(file::InvalidFile),
}

fn parse(arguments: Vec<OsString>) -> Result<Arguments, Refused> {
    let mut command = Arguments::command();
    let arguments = file::with_settings(&command, arguments).map_err(Refused::File)?;
    let matches = command.try_get_matches_from_mut(arguments).map_err(Refused::Usage)?;
    Arguments::from_arg_matches(&matches).map_err(|error| Refused::Usage(error.format(&mut command)))
}

impl Command {
    fn run(self) -> ExitCode {
        match self {
            // One thread: it is the parent of everything, and children end with the thread that made them.
            Self::Dev(arguments) => process::run_command(async { Ok(dev::run(arguments).await?) }),
            Self::Coordinator(arguments) => process::run(arguments, |it| &it.process, coordinator::run),
            Self::Agent(arguments) => process::run(*arguments, |it| &it.process, agent::run),
            Self::Router(arguments) => process::run(arguments, |it| &it.process, router::run),
            Self::Admin(command) => process::run_command(admin::run(command)),
            Self::Completions { shell } => {
                clap_complete::generate(shell, &mut Arguments::command(), "howdah", &mut std::io::stdout());
                ExitCode::SUCCESS
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
