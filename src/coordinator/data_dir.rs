//! Whose directory is this? A coordinator takes only an empty one or its own, and only while no other
//! process has it. Called by `run`, before the log is opened.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::log_store::{sync_directory, witness_bytes};
use crate::model::ids::{ClusterName, CoordinatorId};

/// Written once, when the directory is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Layout of the directory, from 1.
    pub format: u32,
    /// The cluster.
    pub cluster: ClusterName,
    /// This coordinator.
    pub coordinator: CoordinatorId,
    /// All coordinators.
    pub voters: Vec<CoordinatorId>,
}

/// Why a directory is not taken.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Cannot be used at all.
    #[error("cannot use the data directory {}: {source}", path.display())]
    Io {
        /// Directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// In use.
    #[error("the data directory {} is in use by another process; end that one first", path.display())]
    Locked {
        /// Directory.
        path: PathBuf,
    },
    /// Something else is in it.
    #[error(
        "{} is not empty and not a coordinator's (it holds {found:?}); give this coordinator a directory of its own",
        path.display()
    )]
    Stranger {
        /// Directory.
        path: PathBuf,
        /// One thing in it.
        found: String,
    },
    /// Another coordinator's.
    #[error(
        "{} belongs to {}, but this is {}; give each coordinator its own directory, and keep its settings",
        path.display(), describe(found), describe(wanted)
    )]
    Other {
        /// Directory.
        path: PathBuf,
        /// Whose it is.
        found: Box<Identity>,
        /// Who we are.
        wanted: Box<Identity>,
    },
}

fn describe(identity: &Identity) -> String {
    let voters: Vec<_> = identity.voters.iter().map(|voter| voter.0.to_string()).collect();
    let Identity { format, cluster, coordinator, .. } = identity;
    format!("{coordinator} of cluster {cluster} with coordinators {} (format {format})", voters.join(", "))
}

/// A directory that is ours, locked.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Takes the directory, or makes it.
    pub fn take(path: &Path, wanted: Identity) -> Result<Self, DataDirError> {
        let io = |source| DataDirError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(io)?;
        let found = match fs::read(path.join("identity.json")) {
            Ok(bytes) => Some(serde_json::from_slice::<Identity>(&bytes).map_err(|error| io(error.into()))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io(error)),
        };
        if found.is_none() {
            refuse_stranger(path)?;
        }
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock")).map_err(io)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(DataDirError::Locked { path: path.to_owned() }),
            other => other.map_err(|error| io(error.into()))?,
        }
        match found {
            Some(found) if found == wanted => {}
            Some(found) => {
                let (found, wanted) = (Box::new(found), Box::new(wanted));
                return Err(DataDirError::Other { path: path.to_owned(), found, wanted });
            }
            None => make(path, &wanted).map_err(io)?,
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log's witness (`log_store`).
    pub fn witness(&self) -> io::Result<File> {
        File::options().read(true).write(true).open(self.path.join("witness"))
    }
}

/// What a start that was interrupted may have left is not a stranger's.
fn refuse_stranger(path: &Path) -> Result<(), DataDirError> {
    let io = |source| DataDirError::Io { path: path.to_owned(), source };
    for file in fs::read_dir(path).map_err(io)? {
        let found = file.map_err(io)?.file_name().to_string_lossy().into_owned();
        if !["lock", "witness", "identity.json.new"].contains(&found.as_str()) {
            return Err(DataDirError::Stranger { path: path.to_owned(), found });
        }
    }
    Ok(())
}

/// The identity comes last: with it, the directory is complete.
fn make(path: &Path, identity: &Identity) -> io::Result<()> {
    write_durably(&path.join("witness"), &witness_bytes(0))?;
    write_durably(&path.join("identity.json.new"), &serde_json::to_vec_pretty(identity)?)?;
    fs::rename(path.join("identity.json.new"), path.join("identity.json"))?;
    sync_directory(path)
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
