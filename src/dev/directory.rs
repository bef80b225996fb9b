//! The directory of a cluster on this machine: whose it is, who runs on it, what it was made with,
//! its secrets. Called by `dev`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::layout::{LayoutError, Shape};
use crate::{host::entropy, model::ids::ClusterName};

/// Says what a directory is, and by whom it was made.
const RECORD: &str = "cluster.json";

/// Held by the process that runs the cluster.
const LOCK: &str = "lock";

/// `made_by` of [`Record`].
const MAKER: &str = "howdah dev";

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The file system said no.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The numbers of a new cluster do not fit.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Somebody's files.
    #[error("--dir {0} is not empty and was not made by howdah dev: choose another directory")]
    NotOurs(PathBuf),
    /// Made by something else, or by another version.
    #[error("--dir {directory} belongs to something else ({reason}): choose another directory")]
    OtherKind {
        /// The directory.
        directory: PathBuf,
        /// What its record says.
        reason: String,
    },
    /// In use.
    #[error("another howdah dev ({holder}) runs on --dir {directory}: stop it, or choose another directory")]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Its process.
        holder: String,
    },
    /// Flags that the cluster was not made with.
    #[error(
        "--dir {directory} holds a cluster made with {flag} {kept}, not {given}: leave the flag out to go on with it, \
         or choose another directory for a new cluster"
    )]
    Conflict {
        /// The directory.
        directory: PathBuf,
        /// The flag.
        flag: &'static str,
        /// What it was made with.
        kept: u16,
        /// What is asked for now.
        given: u16,
    },
}

/// The directory, locked for as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    record: Record,
    is_new: bool,
    _lock: File,
}

/// What `cluster.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    made_by: String,
    cluster: ClusterName,
    shape: Shape,
}

impl Record {
    fn new(shape: Shape) -> Self {
        let cluster = format!("dev-{}", entropy::hex::<3>());
        let cluster = cluster.parse().expect("letters, a dash and hexadecimal digits are a name");
        Self { made_by: MAKER.to_owned(), cluster, shape }
    }
}

/// Flags as given; `None` was not given.
#[derive(Debug, Clone, Copy)]
pub struct Wanted(pub [(&'static str, Option<u16>); 8]);

impl Directory {
    /// Opens the directory, or makes it; `shape` is what a new cluster gets, `wanted` what an existing
    /// one must have been made with.
    pub fn open(path: &Path, shape: Shape, wanted: Wanted) -> Result<Self, DirectoryError> {
        let record = read_record(path)?;
        match &record {
            Some(record) => conflict(path, &record.shape, wanted)?,
            None if path.exists() && !is_empty(path)? => return Err(DirectoryError::NotOurs(path.to_owned())),
            None => drop(shape.layout()?),
        }
        make(path, 0o755)?;
        let path = fs::canonicalize(path).map_err(|source| io_error("find", path, source))?;
        let lock = lock(&path)?;
        let is_new = record.is_none();
        let record = record.unwrap_or_else(|| Record::new(shape));
        Ok(Self { path, record, is_new, _lock: lock })
    }

    /// Makes it a cluster's: from now on it remembers its flags, and what is in it is ours. Before, a
    /// new directory is as good as empty, and flags that turned out not to work can be changed.
    pub fn begin(&self) -> Result<(), DirectoryError> {
        let text = serde_json::to_string_pretty(&self.record).expect("names and numbers are JSON") + "\n";
        write_once(&self.path.join(RECORD), &text)?;
        make(&self.path.join("log"), 0o755)?;
        // A cluster of one machine, reached by loopback only: the password is in the documentation.
        write_once(&self.path.join("owner-password"), "howdah\n")?;
        write_once(&self.path.join("secret"), &(entropy::hex::<32>() + "\n"))
    }

    /// Absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name of the cluster in it: of this directory alone, so that parts of another are refused.
    pub fn cluster(&self) -> &ClusterName {
        &self.record.cluster
    }

    /// What it was made with.
    pub fn shape(&self) -> &Shape {
        &self.record.shape
    }

    /// Nothing was in it before.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// A part's directory, made where it is missing.
    pub fn part(&self, name: &str) -> Result<PathBuf, DirectoryError> {
        let path = self.path.join(name);
        make(&path, 0o755)?;
        Ok(path)
    }

    /// A part's log.
    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join("log").join(format!("{name}.log"))
    }

    /// The cluster's secret.
    pub fn secret_file(&self) -> PathBuf {
        self.path.join("secret")
    }

    /// The owner role's password.
    pub fn owner_password_file(&self) -> PathBuf {
        self.path.join("owner-password")
    }
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> DirectoryError {
    DirectoryError::Io { what, path: path.to_owned(), source }
}

/// Open to other users: PostgreSQL may run as one. What is secret below has its own mode.
fn make(path: &Path, mode: u32) -> Result<(), DirectoryError> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|source| io_error("make", path, source))?;
    // The umask may have taken bits away.
    let current = fs::metadata(path).map_err(|source| io_error("read", path, source))?.permissions().mode();
    if current & mode == mode {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(current | mode))
        .map_err(|source| io_error("open to others", path, source))
}

fn is_empty(path: &Path) -> Result<bool, DirectoryError> {
    let mut entries = fs::read_dir(path).map_err(|source| io_error("read", path, source))?;
    // A lock without a record: made by us, a moment before we were stopped.
    Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == LOCK)))
}

fn read_record(directory: &Path) -> Result<Option<Record>, DirectoryError> {
    let path = directory.join(RECORD);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error("read", &path, source)),
    };
    let other = |reason: String| DirectoryError::OtherKind { directory: directory.to_owned(), reason };
    let record: Record = serde_json::from_str(&text).map_err(|error| other(format!("{RECORD}: {error}")))?;
    if record.made_by == MAKER { Ok(Some(record)) } else { Err(other(format!("made by {}", record.made_by))) }
}

/// Writes a file for our eyes only, unless it is there already. It appears whole or not at all.
fn write_once(path: &Path, text: &str) -> Result<(), DirectoryError> {
    if path.exists() {
        return Ok(());
    }
    let draft = path.with_extension("new");
    let mut options = OpenOptions::new();
    let options = options.create(true).write(true).truncate(true).mode(0o600);
    let write = || -> io::Result<()> {
        let mut file = options.open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|source| io_error("write", path, source))
}

fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK);
    let mut options = OpenOptions::new();
    let mut file = options
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| io_error("open", &path, source))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        // Only for the message.
        let _ = file.read_to_string(&mut holder);
        let holder = format!("process {}", holder.trim());
        return Err(DirectoryError::InUse { directory: directory.to_owned(), holder });
    }
    let write = |file: &mut File| file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    write(&mut file).map_err(|source| io_error("write", &path, source))?;
    Ok(file)
}

fn conflict(directory: &Path, kept: &Shape, wanted: Wanted) -> Result<(), DirectoryError> {
    let Shape { shards, replicas, coordinators, query_nodes, spares, sql_port, base_port, zones } = *kept;
    let kept = [shards, replicas, coordinators, query_nodes, spares, sql_port, base_port, zones];
    for ((flag, given), kept) in wanted.0.into_iter().zip(kept) {
        if let Some(given) = given.filter(|given| *given != kept) {
            return Err(DirectoryError::Conflict { directory: directory.to_owned(), flag, kept, given });
        }
    }
    Ok(())
}
