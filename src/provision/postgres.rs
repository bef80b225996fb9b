//! Finds PostgreSQL's programs and checks that they are new enough, before anything is started that
//! needs them. Called by `dev`.

use std::{
    cmp::Reverse,
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The oldest major version Howdah works with.
pub const OLDEST: u32 = 15;

/// What a user can do about a missing or old PostgreSQL.
const INSTALL: &str = "install PostgreSQL 15 or newer (Debian, Ubuntu: apt-get install postgresql; Fedora: dnf install \
     postgresql-server; macOS: brew install postgresql@16), or run deploy/quickstart.sh, which does it, or name its \
     directory with --postgres-bin";

/// PostgreSQL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Nowhere.
    #[error("PostgreSQL is not installed ({looked}): {INSTALL}")]
    Missing {
        /// Where we looked.
        looked: String,
    },
    /// There, but it does not run.
    #[error("{program} does not run: {reason}; {INSTALL}")]
    Broken {
        /// The program.
        program: PathBuf,
        /// Why.
        reason: String,
    },
    /// Too old.
    #[error("PostgreSQL in {directory} is version {version}, too old: {INSTALL}")]
    TooOld {
        /// Where it is.
        directory: PathBuf,
        /// Its major version.
        version: u32,
    },
}

/// Directory of `initdb` and `postgres`: the one asked for, else `pg_config`'s, else the newest in the
/// usual places. Its version is checked.
pub fn find(wanted: Option<&Path>) -> Result<PathBuf, PostgresError> {
    let candidates = match wanted {
        Some(directory) => vec![directory.to_owned()],
        None => from_pg_config().into_iter().chain(usual_places()).chain(from_path()).collect(),
    };
    let mut too_old = None;
    for directory in candidates.iter().filter(|directory| is_complete(directory)) {
        let version = major_version(directory)?;
        if version >= OLDEST {
            return Ok(directory.clone());
        }
        too_old.get_or_insert(PostgresError::TooOld { directory: directory.clone(), version });
    }
    let looked = match wanted {
        Some(directory) => format!("no initdb and postgres in --postgres-bin {}", directory.display()),
        None => "pg_config, /usr/lib/postgresql, /usr/pgsql-*, Homebrew and PATH have none".to_owned(),
    };
    Err(too_old.unwrap_or(PostgresError::Missing { looked }))
}

fn is_complete(directory: &Path) -> bool {
    ["initdb", "postgres", "pg_basebackup", "pg_rewind"].iter().all(|program| directory.join(program).is_file())
}

fn from_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Directories named for a version, the newest first.
fn usual_places() -> Vec<PathBuf> {
    const PLACES: [(&str, &str, &str); 4] = [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
    ];
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix, below) in PLACES {
        for entry in fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(version) = name.strip_prefix(prefix).and_then(|version| version.parse().ok()) {
                found.push((version, entry.path().join(below)));
            }
        }
    }
    found.sort_by_key(|(version, _)| Reverse(*version));
    found.into_iter().map(|(_, directory)| directory).collect()
}

fn from_path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

/// Reads `postgres (PostgreSQL) 15.4 (Debian …)`.
fn major_version(directory: &Path) -> Result<u32, PostgresError> {
    let program = directory.join("postgres");
    let broken = |reason: String| PostgresError::Broken { program: program.clone(), reason };
    let output =
        Command::new(&program).arg("--version").output().map_err(|error: io::Error| broken(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    parse_version(&text).ok_or_else(|| broken(format!("--version says {text:?}")))
}

fn parse_version(text: &str) -> Option<u32> {
    let number = text.split_once("(PostgreSQL) ")?.1;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_version("nonsense"), None);
    }

    #[test]
    fn missing_and_old_ones_are_refused_with_the_way_out() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let missing = find(Some(directory.path())).expect_err("it is empty").to_string();
        assert!(missing.contains("apt-get install postgresql"), "{missing}");
        for name in ["initdb", "postgres", "pg_basebackup", "pg_rewind"] {
            let program = directory.path().join(name);
            fs::write(&program, "#!/bin/sh\necho 'postgres (PostgreSQL) 12.3'\n").expect("a script");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
        let old = find(Some(directory.path())).expect_err("12 is too old").to_string();
        assert!(old.contains("version 12, too old"), "{old}");
    }
}
