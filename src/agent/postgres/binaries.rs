//! Where `PostgreSQL`'s programs are.

use std::path::{Path, PathBuf};

use super::account::Account;

/// The oldest `PostgreSQL` with everything we use (`pg_basebackup`, `pg_rewind` and logical decoding as
/// they are since 15).
const OLDEST: u32 = 15;

/// A directory with `initdb`, `postgres`, `pg_basebackup` and `pg_rewind`.
#[derive(Debug, Clone)]
pub struct Binaries {
    dir: PathBuf,
    /// Major version.
    pub major: u32,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum BinariesError {
    /// Nothing found.
    #[error(
        "PostgreSQL {OLDEST} or newer was not found ({looked}): install it (Debian, Ubuntu: apt install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql), or name its directory (HOWDAH_POSTGRES_BIN)"
    )]
    Missing {
        /// Where it was looked for.
        looked: String,
    },
    /// Too old.
    #[error("PostgreSQL in {dir} is version {version}: {OLDEST} or newer is needed")]
    Old {
        /// Where.
        dir: PathBuf,
        /// Which.
        version: u32,
    },
}

impl Binaries {
    /// The configured directory, or `pg_config`'s, or the newest in the usual places.
    pub async fn find(configured: Option<&Path>, account: &Account) -> Result<Self, BinariesError> {
        if let Some(dir) = configured {
            return match version(dir, account).await {
                Some(major) if major >= OLDEST => Ok(Self { dir: dir.to_owned(), major }),
                Some(version) => Err(BinariesError::Old { dir: dir.to_owned(), version }),
                None => Err(BinariesError::Missing { looked: dir.display().to_string() }),
            };
        }
        let mut candidates = usual_places();
        candidates.extend(from_pg_config(account).await);
        let mut found: Option<(u32, PathBuf)> = None;
        for dir in &candidates {
            if let Some(version) = version(dir, account).await
                && found.as_ref().is_none_or(|(best, _)| version > *best)
            {
                found = Some((version, dir.clone()));
            }
        }
        match found {
            Some((major, dir)) if major >= OLDEST => Ok(Self { dir, major }),
            Some((version, dir)) => Err(BinariesError::Old { dir, version }),
            None => Err(BinariesError::Missing {
                looked: "pg_config, /usr/lib/postgresql, /usr/pgsql-*, Homebrew".to_owned(),
            }),
        }
    }

    /// The path of a program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.dir.join(program)
    }
}

async fn from_pg_config(account: &Account) -> Option<PathBuf> {
    let output = account.command(Path::new("pg_config")).arg("--bindir").output().await.ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

fn usual_places() -> Vec<PathBuf> {
    let mut places =
        vec![PathBuf::from("/usr/bin"), PathBuf::from("/usr/local/bin"), PathBuf::from("/usr/local/pgsql/bin")];
    for (parent, below) in
        [("/usr/lib/postgresql", "bin"), ("/usr/local/opt", "bin"), ("/opt/homebrew/opt", "bin"), ("/usr", "bin")]
    {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        let named = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            parent.ends_with("postgresql") || name.starts_with("postgresql") || name.starts_with("pgsql-")
        };
        places.extend(entries.flatten().map(|entry| entry.path()).filter(named).map(|path| path.join(below)));
    }
    places
}

/// Major version of the `postgres` in `dir` that has the other programs beside it.
async fn version(dir: &Path, account: &Account) -> Option<u32> {
    if !["initdb", "pg_basebackup", "pg_rewind", "pg_controldata"].iter().all(|program| dir.join(program).exists()) {
        return None;
    }
    let output = account.command(&dir.join("postgres")).arg("--version").output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
