//! Looking at `PostgreSQL`: one statement, one answer, one deadline. Called by the runner every
//! heartbeat, and after every action.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    agent::core::inputs::{Postgres, Primary, Standby},
    host::clock::Clock,
    model::{
        ids::MemberId,
        numbers::{Lsn, Millis, Timeline},
        observed::{StandbySeen, TableSeen},
    },
};

use super::{Life, Server, Session, wal};

/// Silence of a `PostgreSQL` after which it hangs. Longer than a busy machine makes anyone wait for a
/// trivial statement, because a wrong verdict costs an election.
const DEADLINE: Duration = Duration::from_secs(1);

/// A primary tries a write of its own this often: enough to notice a disk that no longer takes any.
const TRIAL_WRITE_EVERY: Millis = Millis(1_000);

/// A query group's tables are listed this often, for `howdah status`.
const TABLES_EVERY: Millis = Millis(1_000);

/// A message in the log that nobody reads: the smallest durable write there is.
const TRIAL_WRITE: &str = "SELECT pg_logical_emit_message(true, 'howdah', '')";

/// Tables reported at most: what a status page can show and a report can carry.
const TABLES: &str = "SELECT coalesce(json_agg(t), '[]')::text FROM (
    SELECT current_database() AS database, n.nspname AS schema, c.relname AS name, t.kind,
           coalesce(a.attname::text, '') AS key, CASE t.kind WHEN 'distributed' THEN t.colocation ELSE 0 END AS colocation
      FROM howdah.tables t JOIN pg_class c ON c.oid = t.relation JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.key_attnum
     ORDER BY 2, 3 LIMIT 1000) t";

const LOOK: &str = "SELECT json_build_object(
  'recovery', r,
  'upstream', coalesce(current_setting('howdah.upstream', true), ''),
  'received', CASE WHEN r THEN pg_last_wal_receive_lsn()::text END,
  'replayed', CASE WHEN r THEN pg_last_wal_replay_lsn()::text END,
  'receiver', (SELECT json_build_object('pid', pid, 'status', status, 'timeline', received_tli) FROM pg_stat_wal_receiver),
  'startup', (SELECT json_build_object('pid', pid, 'wait', coalesce(wait_event, '')) FROM pg_stat_activity WHERE backend_type = 'startup'),
  'flushed', CASE WHEN NOT r THEN pg_current_wal_flush_lsn()::text END,
  'timeline', CASE WHEN r THEN (SELECT timeline_id FROM pg_control_checkpoint())
                   ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer END,
  'slots', (SELECT coalesce(json_agg(slot_name), '[]') FROM pg_replication_slots
             WHERE slot_type = 'physical' AND NOT temporary AND wal_status IS DISTINCT FROM 'lost'),
  'senders', (SELECT coalesce(json_agg(json_build_object('name', application_name, 'state', state, 'pid', pid,
               'flushed', flush_lsn::text, 'priority', sync_priority)), '[]') FROM pg_stat_replication)
)::text FROM (SELECT pg_is_in_recovery() AS r) AS x";

/// The answer, as `PostgreSQL` gives it.
#[derive(Debug, Clone, Deserialize)]
pub struct Look {
    pub(super) recovery: bool,
    pub(super) upstream: String,
    received: Option<String>,
    replayed: Option<String>,
    pub(super) receiver: Option<Receiver>,
    pub(super) startup: Option<Startup>,
    flushed: Option<String>,
    pub(super) timeline: u32,
    slots: BTreeSet<String>,
    pub(super) senders: Vec<Sender>,
}

/// `pg_stat_wal_receiver`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Receiver {
    pub(super) pid: Option<u32>,
    status: Option<String>,
    timeline: Option<u32>,
}

/// The startup process.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Startup {
    pub(super) pid: u32,
    wait: String,
}

/// A row of `pg_stat_replication`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Sender {
    pub(super) name: String,
    state: Option<String>,
    pub(super) pid: u32,
    flushed: Option<String>,
    pub(super) priority: Option<i32>,
}

impl Look {
    /// One look over `session`.
    pub(super) async fn take(client: &tokio_postgres::Client) -> Result<Self, tokio_postgres::Error> {
        let text: String = client.query_one(LOOK, &[]).await?.get(0);
        Ok(serde_json::from_str(&text).expect("the statement above builds this shape"))
    }

    /// No receiver, and the startup process sleeps after it has tried every source of WAL: it has
    /// replayed all there is. In `PostgreSQL`'s `WaitForWALToBecomeAvailable` this wait comes only after
    /// a WAL receiver has been shut down, and settings are read again right after it.
    pub(super) fn stands_still(&self) -> bool {
        self.receiver.is_none() && self.startup.as_ref().is_some_and(|it| it.wait == "RecoveryRetrieveRetryInterval")
    }

    fn standby(&self, server: &Server) -> std::io::Result<Standby> {
        let lsn = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok()).unwrap_or(Lsn(0));
        let replayed: Lsn = lsn(&self.replayed);
        let end = lsn(&self.received).max(replayed);
        let streaming = self.receiver.as_ref().filter(|it| it.status.as_deref() == Some("streaming"));
        let position = wal::position(&server.layout().data(), end, Timeline(self.timeline))?;
        let position = match streaming.and_then(|receiver| receiver.timeline) {
            Some(timeline) => {
                crate::model::numbers::Position { timeline: position.timeline.max(Timeline(timeline)), ..position }
            }
            None => position,
        };
        Ok(Standby {
            position,
            replayed,
            receiver: self.receiver.is_some(),
            streaming: streaming.is_some(),
            upstream: self.upstream.parse().ok(),
            // What a receiver left behind is final once it is gone, even before all of it is replayed.
            still: self.stands_still() || self.receiver.is_none() && self.received.is_some() && end > replayed,
            slots: self.slots.clone(),
        })
    }

    fn primary(&self) -> Primary {
        let flushed = self.flushed.as_deref().and_then(|text| text.parse().ok()).unwrap_or(Lsn(0));
        let standbys = self.senders.iter().filter_map(|sender| {
            Some(StandbySeen {
                // A base backup's sender is nobody's standby.
                member: sender.name.parse::<MemberId>().ok()?,
                streaming: sender.state.as_deref() == Some("streaming"),
                flushed: sender.flushed.as_deref().and_then(|text| text.parse().ok()).unwrap_or(Lsn(0)),
                synchronous: sender.priority.unwrap_or(0) > 0,
            })
        });
        Primary {
            position: crate::model::numbers::Position { timeline: Timeline(self.timeline), lsn: flushed },
            standbys: standbys.collect(),
            slots: self.slots.clone(),
            ..Primary::default()
        }
    }
}

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
    tried_write: Millis,
    listed: Millis,
    tables: Vec<TableSeen>,
    trouble: Option<String>,
}

/// Why a look gave nothing.
enum Blind {
    /// Refused, or the connection broke: it starts, or ends.
    Refused,
    /// No answer within the deadline.
    Silent,
}

impl Observer {
    /// Looks at `server`.
    pub fn new(server: Arc<Server>, clock: Clock) -> Self {
        Self {
            server,
            clock,
            session: None,
            catalog: None,
            answered: None,
            tried_write: Millis(0),
            listed: Millis(0),
            tables: Vec::new(),
            trouble: None,
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
            let opened = timeout(DEADLINE, self.server.connect("postgres")).await.map_err(|_| Blind::Silent)?;
            self.session = Some(opened.map_err(|error| match error {
                super::ActionError::Deadline { .. } => Blind::Silent,
                _ => Blind::Refused,
            })?);
        }
        let client = self.session.as_ref().expect("opened above").client();
        let look = timeout(DEADLINE, Look::take(client)).await.map_err(|_| Blind::Silent)?;
        let look = look.map_err(|_| Blind::Refused)?;
        if look.recovery {
            self.tables.clear();
            return look.standby(&self.server).map(Postgres::Standby).map_err(|_| Blind::Refused);
        }
        let now = self.clock.now();
        if now.since(self.tried_write) >= TRIAL_WRITE_EVERY {
            let tried = timeout(DEADLINE, client.simple_query(TRIAL_WRITE)).await.map_err(|_| Blind::Silent)?;
            self.trouble = tried.err().map(|error| super::session::explain(&error));
            if !self.server.takes_connections().await {
                return Err(Blind::Silent);
            }
            self.tried_write = now;
        }
        if let Some(database) = catalog.filter(|_| now.since(self.listed) >= TABLES_EVERY) {
            self.listed = now;
            self.list_tables(database).await;
        }
        Ok(Postgres::Primary(Primary { tables: self.tables.clone(), trouble: self.trouble.clone(), ..look.primary() }))
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
