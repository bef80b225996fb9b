//! The agent's hands on one `PostgreSQL`: finding it, making, starting, stopping, looking, fencing,
//! promoting, pointing, rewinding, cloning. Decides nothing. Called by the runner.

mod account;
mod binaries;
mod copy;
mod cut;
mod files;
mod look;
mod objects;
mod process;
mod reign;
mod session;
mod wal;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, watch};

use crate::{config::AgentConfig, host::secret::Secret, model::ids::MemberId};

use self::{account::Account, binaries::Binaries};
pub use self::{
    account::AccountError,
    binaries::BinariesError,
    copy::Progress,
    files::Layout,
    look::{Look, Observer},
    process::Life,
    session::Session,
};

/// Why an action on `PostgreSQL` failed. Every action may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// The file system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// `PostgreSQL` refused.
    #[error("{what}: {}", session::explain(source))]
    Sql {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: tokio_postgres::Error,
    },
    /// It took too long.
    #[error("{what} took longer than {} ms", after.as_millis())]
    Deadline {
        /// What was tried.
        what: String,
        /// How long it was given.
        after: Duration,
    },
    /// One of `PostgreSQL`'s programs failed.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// Which.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        output: String,
    },
    /// It cannot be done as things are.
    #[error("{0}")]
    Refused(String),
}

impl ActionError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    fn sql(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let what = what.into();
        move |source| Self::Sql { what, source }
    }
}

/// One `PostgreSQL`, running or not.
pub struct Server {
    me: MemberId,
    layout: Layout,
    account: Account,
    binaries: Binaries,
    secret: Secret,
    owner_password: Secret,
    listen: String,
    port: u16,
    life: watch::Sender<Life>,
    /// The postmaster was told to stop: its end is no crash.
    told_to_stop: Arc<AtomicBool>,
    /// Numbers the versions of the dynamic settings.
    generation: AtomicU64,
    /// The fewest acknowledgements that any process may still take for enough; `None`: not known.
    acks_in_effect: std::sync::Mutex<Option<u32>>,
    /// The connection that actions share; none of them waits for standbys on it.
    session: Mutex<Option<Session>>,
    /// The connection that will write the next epoch row.
    epoch_session: Mutex<Option<Session>>,
}

/// Why there is no `PostgreSQL` to work with.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No programs.
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    /// No user to run it as.
    #[error(transparent)]
    Account(#[from] AccountError),
}

impl Server {
    /// Finds programs and user; takes over a `PostgreSQL` that runs in the directory already.
    pub async fn open(config: &AgentConfig) -> Result<Self, ServerError> {
        let account = Account::find(&config.run_as).await?;
        let binaries = Binaries::find(config.postgres_bin.as_deref(), &account).await?;
        account.check_path(&config.data_dir).await?;
        let server = Self {
            me: config.container.id.clone(),
            layout: Layout::new(&config.data_dir),
            account,
            binaries,
            secret: config.secret.clone(),
            owner_password: config.owner_password.clone(),
            listen: config.postgres_listen.clone(),
            port: config.container.port,
            life: watch::Sender::new(Life::Down { crashed: None }),
            told_to_stop: Arc::default(),
            generation: AtomicU64::new(crate::host::clock::unix_ms()),
            acks_in_effect: std::sync::Mutex::new(None),
            session: Mutex::new(None),
            epoch_session: Mutex::new(None),
        };
        if let Err(error) = server.end_programs().await {
            // Tried again before anything is written where they write.
            tracing::error!(%error, "an earlier agent's programs go on");
        }
        server.take_over();
        Ok(server)
    }

    /// Whether a postmaster runs; changes at the moment it exits.
    pub fn life(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

    /// Where its files are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The postmaster's process id, where one runs.
    pub fn postmaster(&self) -> Option<u32> {
        match &*self.life.borrow() {
            Life::Alive { pid } => Some(*pid),
            Life::Down { .. } => None,
        }
    }

    /// The address to reach this `PostgreSQL` from here.
    fn own_host(&self) -> &str {
        match self.listen.split(',').next().map(str::trim) {
            None | Some("" | "*" | "0.0.0.0" | "::") => "127.0.0.1",
            Some(first) => first,
        }
    }

    fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn program(&self, name: &str) -> PathBuf {
        self.binaries.path(name)
    }
}
