//! Whose directory is this? A coordinator takes only an empty one or its own, and only while no other
//! process has it. Called by `run`, before the log is opened.
//!
//! `number` is drawn when the directory is made: the cluster knows each coordinator by its directory's
//! number, so one that comes with an empty directory is not taken for the one it was. `identity.json` is
//! written once the cluster has said who this coordinator is; with it the directory is complete. `retired`
//! says that the coordinator was removed, and ends every later start.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::log_store::{sync_directory, witness_bytes};
use crate::{
    host::entropy,
    model::{
        coordinator::{Founder, UNNUMBERED},
        ids::{ClusterName, CoordinatorId},
    },
};

/// Layout of the directory. 1 had no number, and its identity named only who voted.
const FORMAT: u32 = 2;

const IDENTITY: &str = "identity.json";
const NUMBER: &str = "number";
const RETIRED: &str = "retired";

/// Written once, when the coordinator has become one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Layout of the directory, from 1.
    pub format: u32,
    /// The cluster.
    pub cluster: ClusterName,
    /// This coordinator.
    pub coordinator: CoordinatorId,
    /// How it became one.
    pub origin: Origin,
}

/// What all formats have in common.
#[derive(Deserialize)]
struct Probe {
    format: u64,
}

/// Format 1.
#[derive(Deserialize)]
struct First {
    cluster: ClusterName,
    coordinator: CoordinatorId,
    voters: Vec<CoordinatorId>,
}

/// How a coordinator became one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It was there when the cluster began.
    Founders(BTreeMap<CoordinatorId, Founder>),
    /// It was added to a cluster that existed.
    Joined {
        /// Its own gRPC URL.
        url: String,
        /// Where the others were.
        coordinators: BTreeMap<CoordinatorId, String>,
    },
    /// Format 1: who voted.
    Voters(Vec<CoordinatorId>),
}

/// Who a process is meant to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its number among the founders, where it was given one.
    pub founder: Option<CoordinatorId>,
    /// Its own gRPC URL.
    pub url: String,
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
    #[error("{} belongs to {found}, but this is {wanted}; give each coordinator its own directory, and keep its \
             settings", path.display())]
    Other {
        /// Directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who we are.
        wanted: String,
    },
    /// A file that says who we are cannot be read.
    #[error(
        "{} is damaged ({source}): keep the directory aside, start this coordinator with an empty one, and run \
         `howdah coordinator-member replace` with its number", path.display()
    )]
    Damaged {
        /// File.
        path: PathBuf,
        /// How it shows.
        source: serde_json::Error,
    },
    /// A later version made it.
    #[error("{} has format {found}, this version reads formats up to {FORMAT}: upgrade this coordinator", path.display())]
    Newer {
        /// Directory.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// Its coordinator was removed.
    #[error(
        "{} belongs to {coordinator}, which was removed from cluster {cluster}: end this process for good, or give it \
         an empty directory and run `howdah coordinator-member add` with its address", path.display()
    )]
    Retired {
        /// Directory.
        path: PathBuf,
        /// Whose it is.
        coordinator: CoordinatorId,
        /// Of which cluster.
        cluster: ClusterName,
    },
}

/// A directory that nobody else has, locked.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    number: u64,
    _lock: File,
}

impl DataDir {
    /// Takes the directory, or makes it; with it comes who we are, where that is settled.
    pub fn take(path: &Path, wanted: &Wanted) -> Result<(Self, Option<Identity>), DataDirError> {
        let io = |source| DataDirError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(io)?;
        let found = identity(path)?;
        if found.is_none() {
            refuse_stranger(path)?;
        }
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock")).map_err(io)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(DataDirError::Locked { path: path.to_owned() }),
            other => other.map_err(|error| io(error.into()))?,
        }
        let number = match &found {
            Some(found) => {
                refuse_other(path, found, wanted)?;
                number(path)?.unwrap_or(UNNUMBERED)
            }
            None => match number(path)? {
                Some(number) => number,
                None => draw(path).map_err(io)?,
            },
        };
        Ok((Self { path: path.to_owned(), number, _lock: lock }, found))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Drawn when it was made.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// This is who we are, from now on. The identity comes last: with it, the directory is complete.
    pub fn settle(
        &self,
        cluster: &ClusterName,
        coordinator: CoordinatorId,
        origin: Origin,
    ) -> Result<Identity, DataDirError> {
        let identity = Identity { format: FORMAT, cluster: cluster.clone(), coordinator, origin };
        let write = || {
            write_durably(&self.path.join("witness"), &witness_bytes(0))?;
            write_whole(&self.path, IDENTITY, &serde_json::to_vec_pretty(&identity)?)
        };
        write().map_err(|source| DataDirError::Io { path: self.path.clone(), source })?;
        Ok(identity)
    }

    /// The coordinator was removed: the directory is of no use any more.
    pub fn retire(&self) -> io::Result<()> {
        write_whole(&self.path, RETIRED, b"removed from the cluster\n")
    }

    /// The log's witness (`log_store`).
    pub fn witness(&self) -> io::Result<File> {
        File::options().read(true).write(true).open(self.path.join("witness"))
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, DataDirError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataDirError::Io { path: path.to_owned(), source }),
    }
}

fn identity(directory: &Path) -> Result<Option<Identity>, DataDirError> {
    let path = directory.join(IDENTITY);
    let Some(bytes) = read(&path)? else { return Ok(None) };
    let damaged = |source| DataDirError::Damaged { path: path.clone(), source };
    let Probe { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
    let identity = if format > FORMAT.into() {
        return Err(DataDirError::Newer { path: directory.to_owned(), found: format });
    } else if format == 1 {
        let First { cluster, coordinator, voters } = serde_json::from_slice(&bytes).map_err(damaged)?;
        Identity { format: 1, cluster, coordinator, origin: Origin::Voters(voters) }
    } else {
        serde_json::from_slice(&bytes).map_err(damaged)?
    };
    if directory.join(RETIRED).exists() {
        let Identity { coordinator, cluster, .. } = identity;
        return Err(DataDirError::Retired { path: directory.to_owned(), coordinator, cluster });
    }
    Ok(Some(identity))
}

fn number(directory: &Path) -> Result<Option<u64>, DataDirError> {
    let path = directory.join(NUMBER);
    let Some(bytes) = read(&path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| DataDirError::Damaged { path, source })
}

/// A number that no other directory has.
fn draw(directory: &Path) -> io::Result<u64> {
    let number = entropy::number().max(UNNUMBERED + 1);
    write_whole(directory, NUMBER, number.to_string().as_bytes())?;
    Ok(number)
}

/// A founder is known by its number, one that joined by its address: its number was given to it.
fn refuse_other(path: &Path, found: &Identity, wanted: &Wanted) -> Result<(), DataDirError> {
    let same = match &found.origin {
        Origin::Founders(_) | Origin::Voters(_) => wanted.founder.is_none_or(|number| number == found.coordinator),
        Origin::Joined { url, .. } => *url == wanted.url,
    };
    if same && found.cluster == wanted.cluster {
        return Ok(());
    }
    let place = match &found.origin {
        Origin::Joined { url, .. } => format!(" at {url}"),
        Origin::Founders(_) | Origin::Voters(_) => String::new(),
    };
    let who = wanted.founder.map_or_else(|| "a coordinator".to_owned(), |number| number.to_string());
    Err(DataDirError::Other {
        path: path.to_owned(),
        found: format!("{} of cluster {}{place}", found.coordinator, found.cluster),
        wanted: format!("{who} of cluster {} at {}", wanted.cluster, wanted.url),
    })
}

/// What a start that was interrupted may have left is not a stranger's.
fn refuse_stranger(path: &Path) -> Result<(), DataDirError> {
    const OURS: [&str; 6] = ["lock", "witness", NUMBER, "number.new", "identity.json.new", "lost+found"];
    let io = |source| DataDirError::Io { path: path.to_owned(), source };
    for file in fs::read_dir(path).map_err(io)? {
        let found = file.map_err(io)?.file_name().to_string_lossy().into_owned();
        if !OURS.contains(&found.as_str()) {
            return Err(DataDirError::Stranger { path: path.to_owned(), found });
        }
    }
    Ok(())
}

/// The old or the new, never half.
fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let draft = directory.join(format!("{name}.new"));
    write_durably(&draft, bytes)?;
    fs::rename(draft, directory.join(name))?;
    sync_directory(directory)
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
