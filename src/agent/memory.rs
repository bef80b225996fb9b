//! What an agent must not forget: whose directory this is, its promise, and a clone or rewind that
//! was begun. `<data_dir>/agent.json`, on disk before anything that depends on it is said or done.
//! Called by the runner.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::{
    host::entropy,
    model::{
        ids::{ClusterName, GroupId, MemberId},
        numbers::{Epoch, Revision},
    },
};

use super::core::inputs::Unfinished;

const FILE: &str = "agent.json";
const LOCK: &str = "agent.lock";

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The cluster this directory belongs to.
    pub cluster: ClusterName,
    /// The member it belongs to.
    pub member: MemberId,
    /// The group, once it had one.
    pub group: Option<GroupId>,
    /// No epoch below this is served.
    pub promise: Epoch,
    /// Revision of the newest goal whose cohort was applied: a restarted agent obeys no older one, which a
    /// deposed leader may still send.
    #[serde(default)]
    pub revision: Revision,
    /// Revision at which this container joined that group: a coordinator that knows of no later change cannot
    /// send it away.
    #[serde(default)]
    pub joined: Revision,
    /// Drawn when this directory was begun (`Container::birth`).
    #[serde(default)]
    pub birth: u64,
    /// The system identifier of the data, once there was any.
    pub system_identifier: Option<u64>,
    /// A clone or rewind that was begun.
    pub unfinished: Option<Unfinished>,
    /// Where the coordinators were when one last said: those that the agent was started with may be gone.
    #[serde(default)]
    pub coordinators: Vec<String>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something is in it that we did not write.
    #[error("{0} is not empty and has no {FILE}: it is not a howdah agent's directory; choose another one")]
    Foreign(PathBuf),
    /// Another cluster's or member's.
    #[error(
        "{dir} belongs to member {theirs_member} of cluster {theirs_cluster}, not to {member} of {cluster}: choose another directory"
    )]
    Other {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        theirs_member: MemberId,
        /// Whose it is.
        theirs_cluster: ClusterName,
        /// Who asks.
        member: MemberId,
        /// Who asks.
        cluster: ClusterName,
    },
    /// Another agent runs on it.
    #[error("another agent is running on {0}: stop it first")]
    Busy(PathBuf),
    /// The file is damaged.
    #[error("{path} cannot be read ({source}): restore it, or start with an empty directory")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An agent's directory, locked for as long as this lives.
pub struct Store {
    dir: PathBuf,
    memory: Memory,
    _lock: File,
}

impl Store {
    /// Opens or begins the directory of `member`.
    pub fn open(dir: &Path, cluster: &ClusterName, member: &MemberId) -> Result<Self, OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(io(dir))?;
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io(&path)(error)),
        };
        if text.is_none() && holds_foreign_files(dir).map_err(io(dir))? {
            return Err(OpenError::Foreign(dir.to_owned()));
        }
        let lock_path = dir.join(LOCK);
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(io(&lock_path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| OpenError::Busy(dir.to_owned()))?;
        let memory = match text {
            None => Memory {
                cluster: cluster.clone(),
                member: member.clone(),
                group: None,
                promise: Epoch(0),
                revision: Revision(0),
                joined: Revision(0),
                birth: entropy::number(),
                system_identifier: None,
                unfinished: None,
                coordinators: Vec::new(),
            },
            Some(text) => serde_json::from_slice::<Memory>(&text)
                .map_err(|source| OpenError::Damaged { path: path.clone(), source })?,
        };
        if memory.cluster != *cluster || memory.member != *member {
            return Err(OpenError::Other {
                dir: dir.to_owned(),
                theirs_member: memory.member,
                theirs_cluster: memory.cluster,
                member: member.clone(),
                cluster: cluster.clone(),
            });
        }
        let mut store = Self { dir: dir.to_owned(), memory, _lock: lock };
        store.save().map_err(io(&path))?;
        Ok(store)
    }

    /// What is remembered.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Changes it; on disk when this returns.
    pub fn change(&mut self, change: impl FnOnce(&mut Memory)) -> io::Result<()> {
        let before = self.memory.clone();
        change(&mut self.memory);
        if before == self.memory {
            return Ok(());
        }
        // Forgetting what could not be written keeps the two alike.
        self.save().inspect_err(|_| self.memory = before)
    }

    /// Written beside, synced, renamed over, directory synced: the old or the new, never half.
    fn save(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&self.memory)?;
        let (path, beside) = (self.dir.join(FILE), self.dir.join("agent.json.new"));
        let mut file = File::create(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(&self.dir)?.sync_all()
    }
}

/// True if something is there that neither an agent nor a file system puts into a new directory.
fn holds_foreign_files(dir: &Path) -> io::Result<bool> {
    const OURS: [&str; 4] = [LOCK, "agent.json.new", "lost+found", "postgres.log"];
    for entry in fs::read_dir(dir)? {
        if !OURS.iter().any(|name| entry.as_ref().is_ok_and(|entry| entry.file_name() == *name)) {
            return Ok(true);
        }
    }
    Ok(false)
}
