//! The user `PostgreSQL` runs as: it refuses to run as root, so a root agent runs it as another one.

use std::{os::unix::fs::chown, path::Path, process::Stdio};

use tokio::process::Command;

use super::ActionError;

/// Who runs `PostgreSQL`'s programs.
#[derive(Debug, Clone)]
pub struct Account {
    /// User and group to change to; `None`: as ourselves.
    change_to: Option<(u32, u32)>,
    name: String,
}

/// Why no user can be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Unknown.
    #[error(
        "there is no user {0:?} to run PostgreSQL as: create it (useradd --system {0}), or name another one (HOWDAH_RUN_AS)"
    )]
    Unknown(String),
    /// Root.
    #[error("PostgreSQL refuses to run as root: name an unprivileged user to run it as (HOWDAH_RUN_AS)")]
    Root,
    /// The user cannot get into the directory.
    #[error(
        "user {user} cannot enter {path}: make every directory above it passable (chmod o+x), or choose another directory"
    )]
    Path {
        /// Who.
        user: String,
        /// Where.
        path: String,
    },
}

impl Account {
    /// `name` if we are root, else ourselves.
    pub async fn find(name: &str) -> Result<Self, AccountError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { change_to: None, name: "the agent's user".to_owned() });
        }
        let unknown = || AccountError::Unknown(name.to_owned());
        let user = id("-u", name).await.ok_or_else(unknown)?;
        let group = id("-g", name).await.ok_or_else(unknown)?;
        if user == 0 {
            return Err(AccountError::Root);
        }
        Ok(Self { change_to: Some((user, group)), name: name.to_owned() })
    }

    /// A command that runs as the user. The standard library drops root's other groups with it.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((user, group)) = self.change_to {
            command.uid(user).gid(group);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Gives a file or directory to the user.
    pub fn own(&self, path: &Path) -> Result<(), ActionError> {
        let Some((user, group)) = self.change_to else { return Ok(()) };
        chown(path, Some(user), Some(group)).map_err(ActionError::io(format!(
            "giving {} to {}",
            path.display(),
            self.name
        )))
    }

    /// Checks that the user can get into `path`.
    pub async fn check_path(&self, path: &Path) -> Result<(), AccountError> {
        if self.change_to.is_none() {
            return Ok(());
        }
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", "cd \"$0\""]).arg(path).current_dir("/").stderr(Stdio::null());
        match command.status().await {
            Ok(status) if status.success() => Ok(()),
            _ => Err(AccountError::Path { user: self.name.clone(), path: path.display().to_string() }),
        }
    }
}

/// A number from `id`, which asks every source of users the system has.
async fn id(option: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([option, "--", name]).stdin(Stdio::null()).output().await.ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
