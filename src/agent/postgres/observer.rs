//! Looking at `PostgreSQL` again and again: whether it lives, answers, takes connections and writes.
//! Called by the runner every heartbeat, and after every action.
//!
//! | what is noticed | by | within |
//! |---|---|---|
//! | the postmaster has exited | its parent, the agent, is told by the kernel | 1 ms |
//! | the stream from the primary has broken | the exit of the process that received it | some ms |
//! | it answers nothing | a trivial statement that is not answered | [`DEADLINE`] |
//! | the disk takes no writes | a write of our own, where nobody else's is seen to reach the disk | [`IDLE`] + [`DEADLINE`] |
//! | it takes no new connections | a connection of our own | [`CONNECT_EVERY`] + [`DEADLINE`] |

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::{sync::Notify, task::JoinHandle, time::timeout};

use crate::{
    agent::core::inputs::{Postgres, Primary},
    host::clock::Clock,
    model::{
        numbers::{Lsn, Millis},
        observed::TableSeen,
    },
};

use super::{Life, Look, Server, Session, exits, patience::within};

/// Silence of a `PostgreSQL` after which it hangs. Longer than a busy machine makes anyone wait for a
/// trivial statement, because a wrong verdict costs an election.
const DEADLINE: Duration = Duration::from_secs(1);

/// A primary whose log has not grown on disk for this long tries a write of its own: while others' writes
/// get there, the disk is known to take them.
const IDLE: Millis = Millis(500);

/// Open sessions would not notice a postmaster that starts no new ones.
const CONNECT_EVERY: Millis = Millis(1_000);

/// A message in the log that nobody reads: the smallest durable write there is.
const TRIAL_WRITE: &str = "SELECT pg_logical_emit_message(true, 'howdah', '')";

/// A query group's tables are listed this often, for `howdah status`.
const TABLES_EVERY: Millis = Millis(1_000);

/// Tables reported at most: what a status page can show and a report can carry.
const TABLES: &str = "SELECT coalesce(json_agg(t), '[]')::text FROM (
    SELECT current_database() AS database, n.nspname AS schema, c.relname AS name, t.kind,
           coalesce(a.attname::text, '') AS key, CASE t.kind WHEN 'distributed' THEN t.colocation ELSE 0 END AS colocation
      FROM howdah.tables t JOIN pg_class c ON c.oid = t.relation JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.key_attnum
     ORDER BY 2, 3 LIMIT 1000) t";

/// A row of [`TABLES`].
#[derive(Deserialize)]
struct Table {
    database: String,
    schema: String,
    name: String,
    kind: String,
    key: String,
    colocation: u32,
}

/// Keeps a connection of its own, and looks.
pub struct Observer {
    server: Arc<Server>,
    clock: Clock,
    session: Option<Session>,
    /// On the group's database; only where tables are to be listed.
    catalog: Option<Session>,
    /// It has answered since it started: silence now means that it hangs.
    answered: Option<u32>,
    /// Where the log on disk ended, and since when it has.
    flushed: (Lsn, Millis),
    connected: Millis,
    listed: Millis,
    tables: Vec<TableSeen>,
    trouble: Option<String>,
    /// The process whose exit is waited for.
    receiver: Option<(u32, JoinHandle<()>)>,
    stream_broke: Arc<Notify>,
}

/// Why a look gave nothing.
enum Blind {
    /// Refused, or the connection broke: it starts, or ends.
    Refused,
    /// No answer within the deadline.
    Silent,
}

impl Observer {
    /// Looks at `server`; tells `stream_broke` when the process that received the primary's WAL has exited.
    pub fn new(server: Arc<Server>, clock: Clock, stream_broke: Arc<Notify>) -> Self {
        Self {
            server,
            clock,
            session: None,
            catalog: None,
            answered: None,
            flushed: (Lsn(0), Millis(0)),
            connected: Millis(0),
            listed: Millis(0),
            tables: Vec::new(),
            trouble: None,
            receiver: None,
            stream_broke,
        }
    }

    /// What `PostgreSQL` does now. `catalog` names the database whose distributed tables are to be listed.
    pub async fn look(&mut self, catalog: Option<&str>) -> Postgres {
        let pid = match &*self.server.life.borrow() {
            Life::Down { crashed } => {
                let crashed = crashed.clone();
                (self.session, self.catalog, self.answered) = (None, None, None);
                return Postgres::Down { crashed };
            }
            Life::Alive { pid } => *pid,
        };
        match self.ask(catalog).await {
            Ok(seen) => {
                if self.answered.replace(pid) != Some(pid) {
                    let server = self.server.clone();
                    tokio::spawn(async move { server.open_shared_session().await });
                }
                seen
            }
            Err(blind) => {
                (self.session, self.catalog) = (None, None);
                match (blind, self.answered == Some(pid), &*self.server.life.borrow()) {
                    (_, _, Life::Down { crashed }) => Postgres::Down { crashed: crashed.clone() },
                    (Blind::Silent, true, Life::Alive { .. }) => Postgres::Hung,
                    _ => Postgres::Starting,
                }
            }
        }
    }

    async fn ask(&mut self, catalog: Option<&str>) -> Result<Postgres, Blind> {
        if self.session.as_ref().is_none_or(|session| session.client().is_closed()) {
            // Its own word spares it a process for every attempt.
            if self.server.says_not_ready() {
                return Err(Blind::Refused);
            }
            let opened = self.server.connect("postgres").await;
            self.session = Some(opened.map_err(|error| match error {
                super::ActionError::Deadline { .. } => Blind::Silent,
                _ => Blind::Refused,
            })?);
        }
        let session = self.session.as_ref().expect("opened above");
        let look = within(DEADLINE, Look::take(session)).await.ok_or(Blind::Silent)?;
        let look = look.map_err(|_| Blind::Refused)?;
        self.watch_receiver(look.receiver_pid());
        if look.recovery {
            self.tables.clear();
            return look.standby(&self.server).map(Postgres::Standby).map_err(|_| Blind::Refused);
        }
        self.try_out(look.flushed()).await?;
        if let Some(database) = catalog.filter(|_| self.clock.now().since(self.listed) >= TABLES_EVERY) {
            self.listed = self.clock.now();
            self.list_tables(database).await;
        }
        Ok(Postgres::Primary(Primary { tables: self.tables.clone(), trouble: self.trouble.clone(), ..look.primary() }))
    }

    /// Whether a primary still writes and takes connections. What was not answered is asked again at the
    /// next look, so that it hangs for as long as it does.
    async fn try_out(&mut self, end: Lsn) -> Result<(), Blind> {
        let now = self.clock.now();
        if end != self.flushed.0 {
            self.flushed = (end, now);
            self.trouble = None;
        } else if now.since(self.flushed.1) >= IDLE {
            let client = self.session.as_ref().expect("it has just answered").client();
            let tried = within(DEADLINE, client.simple_query(TRIAL_WRITE)).await.ok_or(Blind::Silent)?;
            self.trouble = tried.err().map(|error| super::session::explain(&error));
            self.flushed.1 = now;
        }
        if now.since(self.connected) >= CONNECT_EVERY {
            if !self.server.takes_connections().await {
                return Err(Blind::Silent);
            }
            self.connected = now;
        }
        Ok(())
    }

    /// Its end is told by the kernel, so that nobody has to wait for the next look.
    fn watch_receiver(&mut self, pid: Option<u32>) {
        if self.receiver.as_ref().map(|(watched, _)| *watched) == pid {
            return;
        }
        if let Some((_, watching)) = self.receiver.take() {
            watching.abort();
        }
        self.receiver = pid.map(|pid| {
            let stream_broke = self.stream_broke.clone();
            let watch = async move {
                if exits::exit_of(pid).await {
                    stream_broke.notify_one();
                }
            };
            (pid, tokio::spawn(watch))
        });
    }

    /// Lists distributed tables; what cannot be listed now stays as it was.
    async fn list_tables(&mut self, database: &str) {
        if self.catalog.as_ref().is_none_or(|session| session.client().is_closed()) {
            self.catalog = self.server.connect(database).await.ok();
        }
        let Some(session) = &self.catalog else { return };
        let Ok(Ok(row)) = timeout(DEADLINE, session.client().query_one(TABLES, &[])).await else { return };
        let rows: Vec<Table> = serde_json::from_str(row.get(0)).expect("the statement above builds this shape");
        let seen = |it: Table| TableSeen {
            database: it.database,
            schema: it.schema,
            name: it.name,
            kind: it.kind,
            key: it.key,
            colocation: it.colocation,
        };
        self.tables = rows.into_iter().map(seen).collect();
    }
}
