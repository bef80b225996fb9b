//! The files of a data directory that are ours, and what can be read from it while it is stopped.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{
    agent::core::{
        inputs::Data,
        settings::{self, Dynamic, Fixed, Upstream},
    },
    model::{goal::Goal, group::Cohort, ids::MemberId},
};

use super::{ActionError, Server, wal};

/// `max_slot_wal_keep_size` before any goal has said another: the default policy's.
const SLOT_WAL_KEEP_MB: u32 = 4_096;

/// Where things are below the agent's directory.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Below `root`; absolute, so that `PostgreSQL` and its tools agree on it.
    pub fn new(root: &Path) -> Self {
        Self { root: fs::canonicalize(root).unwrap_or_else(|_| root.to_owned()) }
    }

    /// The agent's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.root.join("postgres")
    }

    /// Where a clone is fetched to.
    pub fn fresh(&self) -> PathBuf {
        self.root.join("postgres.new")
    }

    /// What a clone has replaced, until it has proved itself.
    pub fn aside(&self) -> PathBuf {
        self.root.join("postgres.old")
    }

    /// `PostgreSQL`'s log.
    pub fn log(&self) -> PathBuf {
        self.root.join("postgres.log")
    }

    /// The password file for initdb, which lives as long as it runs.
    pub fn password_file(&self) -> PathBuf {
        self.root.join("initdb.pw")
    }
}

impl Server {
    /// What the data directory holds, as far as its own files tell.
    pub async fn data(&self) -> Result<Data, ActionError> {
        if !self.layout.data().join("PG_VERSION").exists() {
            return Ok(Data::Empty);
        }
        Ok(Data::Ready { system_identifier: self.system_identifier().await? })
    }

    async fn system_identifier(&self) -> Result<u64, ActionError> {
        let mut command = self.account.command(&self.program("pg_controldata"));
        let output = command.arg("-D").arg(self.layout.data()).env("LC_ALL", "C").output().await;
        let output = output.map_err(ActionError::io("running pg_controldata"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = text.lines().find_map(|line| line.strip_prefix("Database system identifier:"));
        found.and_then(|number| number.trim().parse().ok()).ok_or_else(|| ActionError::Program {
            program: "pg_controldata".to_owned(),
            status: output.status.to_string(),
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// Writes everything that a start needs: fenced, or following `upstream`.
    pub(super) fn write_for_start(&self, goal: Option<&Goal>, upstream: Option<&MemberId>) -> Result<(), ActionError> {
        let data = self.layout.data();
        self.write(&data.join("postgresql.conf"), "include 'howdah.conf'\ninclude 'howdah_dynamic.conf'\n")?;
        let slot_wal_keep_mb = goal.map_or(SLOT_WAL_KEEP_MB, |goal| goal.settings.slot_wal_keep_mb);
        let fixed = Fixed { listen: &self.listen, port: self.port, slot_wal_keep_mb, major: self.binaries.major };
        self.write(&data.join("howdah.conf"), &settings::fixed(&fixed))?;
        self.write_dynamic(goal, upstream, None)?;
        self.write_access(goal)?;
        self.drop_own_settings_from_auto_conf()?;
        self.write(&data.join("standby.signal"), "")?;
        wal::remove_leading_placeholders(&data).map_err(ActionError::io("removing placeholders of timelines"))
    }

    /// Writes the settings that change while `PostgreSQL` runs; gives their generation.
    pub(super) fn write_dynamic(
        &self,
        goal: Option<&Goal>,
        upstream: Option<&MemberId>,
        cohort: Option<&Cohort>,
    ) -> Result<u64, ActionError> {
        let container = match upstream {
            None => None,
            Some(primary) => {
                let found = goal.and_then(|goal| goal.members.iter().find(|member| member.id == *primary));
                Some(found.ok_or_else(|| ActionError::Refused(format!("the address of {primary} is not known")))?)
            }
        };
        let password = self.secret.password(settings::REPLICATION_ROLE);
        let generation = self.next_generation();
        let text = settings::dynamic(&Dynamic {
            upstream: container.map(|primary| Upstream { primary, password: password.reveal(), me: &self.me }),
            cohort,
            generation,
            major: self.binaries.major,
        });
        self.write(&self.layout.data().join("howdah_dynamic.conf"), &text)?;
        Ok(generation)
    }

    /// Members have changed: so has who may connect.
    pub fn refresh_access(&self, goal: &Goal) -> Result<(), ActionError> {
        self.write_access(Some(goal))?;
        self.reload(None);
        Ok(())
    }

    /// Writes who may connect; without a goal, what was written before stands.
    pub(super) fn write_access(&self, goal: Option<&Goal>) -> Result<(), ActionError> {
        let path = self.layout.data().join("pg_hba.conf");
        let written = fs::read_to_string(&path).is_ok_and(|text| text.starts_with("# Written by howdah"));
        match goal {
            None if written => Ok(()),
            _ => self.write(&path, &settings::host_based_access(goal.map_or(&[], |goal| &goal.members))),
        }
    }

    /// `ALTER SYSTEM` beats every file: what it says about our settings is dropped.
    fn drop_own_settings_from_auto_conf(&self) -> Result<(), ActionError> {
        let path = self.layout.data().join("postgresql.auto.conf");
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let major = u32::MAX;
        let ours = settings::fixed(&Fixed { listen: "", port: 0, slot_wal_keep_mb: 0, major })
            + &settings::dynamic(&Dynamic { major, ..Dynamic::default() });
        let name = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let ours: Vec<_> = ours.lines().map(name).collect();
        let kept = |line: &&str| line.starts_with('#') || !ours.contains(&name(line));
        let kept: String = text.lines().filter(kept).flat_map(|line| [line, "\n"]).collect();
        if kept == text { Ok(()) } else { self.write(&path, &kept) }
    }

    /// Written beside and renamed over, so that a reader sees the old or the new; owned by `PostgreSQL`'s user.
    fn write(&self, path: &Path, text: &str) -> Result<(), ActionError> {
        let beside = path.with_extension("howdah-new");
        let write = || -> io::Result<()> {
            fs::write(&beside, text)?;
            restrict(&beside)
        };
        write().map_err(ActionError::io(format!("writing {}", beside.display())))?;
        self.account.own(&beside)?;
        fs::rename(&beside, path).map_err(ActionError::io(format!("writing {}", path.display())))
    }
}

/// Readable by its owner alone: connection strings hold passwords.
pub(super) fn restrict(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// Makes renames in a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
