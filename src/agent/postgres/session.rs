//! A superuser's connection to a `PostgreSQL`, where nothing waits without a deadline.

use std::{
    error::Error as _,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::OnceCell,
    time::timeout,
};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Socket, Statement, tls::NoTlsStream};

use crate::{agent::core::settings::AGENT_ROLE, model::group::Container};

use super::{ActionError, Server, look::LOOK, patience::within};

/// An open connection. Ends when it is dropped.
pub struct Session {
    client: Client,
    /// A wait for standbys was given up: what was committed may be nowhere else.
    wait_cancelled: Arc<AtomicBool>,
    look: OnceCell<Statement>,
}

impl Session {
    /// The client. Every use of it is bounded by the caller.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The statement of every look, prepared at the first.
    pub(super) async fn look_statement(&self) -> Result<&Statement, tokio_postgres::Error> {
        self.look.get_or_try_init(|| self.client.prepare(LOOK)).await
    }

    /// True if a commit on this connection returned without its acknowledgements.
    pub fn wait_cancelled(&self) -> bool {
        self.wait_cancelled.load(Ordering::Acquire)
    }
}

/// How long a connection to another member's `PostgreSQL` may take.
const REMOTE: Duration = Duration::from_secs(1);

/// How long one to our own may take; longer means that it hangs.
const LOCAL: Duration = Duration::from_secs(1);

impl Server {
    /// A connection to this `PostgreSQL`.
    pub(super) async fn connect(&self, database: &str) -> Result<Session, ActionError> {
        self.open_session(self.own_host(), self.port, database, LOCAL).await
    }

    /// A connection to another member's.
    pub(super) async fn connect_to(&self, member: &Container) -> Result<Session, ActionError> {
        self.open_session(&member.host, member.port, "postgres", REMOTE).await
    }

    async fn open_session(
        &self,
        host: &str,
        port: u16,
        database: &str,
        limit: Duration,
    ) -> Result<Session, ActionError> {
        let what = format!("connecting to PostgreSQL at {host}:{port}");
        let mut config = Config::new();
        config.host(host).port(port).user(AGENT_ROLE).password(self.secret.password(AGENT_ROLE).reveal());
        config.dbname(database).application_name("howdah_agent").keepalives(true);
        // Our own writes never wait for standbys, but where `reign` says so.
        config.options("-c synchronous_commit=local -c statement_timeout=0 -c lock_timeout=0");
        let (client, connection) = match within(limit, config.connect(NoTls)).await {
            None => return Err(ActionError::Deadline { what, after: limit }),
            Some(connected) => connected.map_err(ActionError::sql(what))?,
        };
        let wait_cancelled = Arc::new(AtomicBool::new(false));
        tokio::spawn(drive(connection, wait_cancelled.clone()));
        Ok(Session { client, wait_cancelled, look: OnceCell::new() })
    }

    /// True if the postmaster still takes connections: it forks a process that answers an `SSLRequest`
    /// with one byte (manual, "Message Flow"). Sessions that are open would not notice that it hangs.
    pub(super) async fn takes_connections(&self) -> bool {
        let asked = async {
            let mut stream = TcpStream::connect((self.own_host(), self.port)).await?;
            stream.write_all(&[0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F]).await?;
            stream.read_u8().await
        };
        matches!(within(LOCAL, asked).await, Some(Ok(_)))
    }

    /// Opens the shared connection before it is needed; where that fails, it is opened then.
    pub(super) async fn open_shared_session(&self) {
        let prepare = async |session: &Session| session.look_statement().await.map(drop);
        if let Err(error) = self.with_session("opening a connection", LOCAL, prepare).await {
            tracing::debug!(%error, "not yet");
        }
    }

    /// Runs `work` on the shared connection, opening it first where needed.
    pub(super) async fn with_session<T>(
        &self,
        what: &str,
        limit: Duration,
        work: impl AsyncFnOnce(&Session) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, ActionError> {
        let mut shared = self.session.lock().await;
        if shared.as_ref().is_none_or(|session| session.client.is_closed()) {
            *shared = Some(self.connect("postgres").await?);
        }
        let session = shared.as_ref().expect("opened above");
        if let Ok(result) = timeout(limit, work(session)).await {
            result.map_err(ActionError::sql(what))
        } else {
            // What was asked is still running there: this connection is of no more use.
            *shared = None;
            Err(ActionError::Deadline { what: what.to_owned(), after: limit })
        }
    }
}

/// Moves a connection's bytes until it ends, and listens for the warning that `PostgreSQL` gives when
/// a wait for synchronous replication is cancelled (`syncrep.c`: SQLSTATE 01000).
async fn drive(mut connection: Connection<Socket, NoTlsStream>, wait_cancelled: Arc<AtomicBool>) {
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notice(notice) = message
            && notice.message().contains("synchronous replication")
        {
            wait_cancelled.store(true, Ordering::Release);
        }
    }
}

/// The server's own words, where it said any.
pub fn explain(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}
