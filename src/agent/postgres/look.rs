//! What one look at `PostgreSQL` shows: one statement, one answer. Called by the observer every
//! heartbeat, and by actions that wait for something to have happened.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::{
    agent::core::inputs::{Primary, Standby},
    model::{
        ids::MemberId,
        numbers::{Lsn, Millis, Position, Timeline},
        observed::StandbySeen,
    },
};

use super::{Server, Session, wal};

/// Prepared once for each connection: it is asked a hundred times a second while something is about to happen.
pub(super) const LOOK: &str = "SELECT json_build_object(
  'recovery', r,
  'upstream', coalesce(current_setting('howdah.upstream', true), ''),
  'received', CASE WHEN r THEN pg_last_wal_receive_lsn()::text END,
  'replayed', CASE WHEN r THEN pg_last_wal_replay_lsn()::text END,
  'receiver', (SELECT json_build_object('pid', pid, 'status', status, 'timeline', received_tli, 'silence',
                greatest(0, extract(epoch FROM clock_timestamp() - last_msg_receipt_time) * 1000)::bigint) FROM pg_stat_wal_receiver),
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
    /// Milliseconds since the primary last sent anything.
    silence: Option<u64>,
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
    pub(super) async fn take(session: &Session) -> Result<Self, tokio_postgres::Error> {
        let text: String = session.client().query_one(session.look_statement().await?, &[]).await?.get(0);
        Ok(serde_json::from_str(&text).expect("the statement above builds this shape"))
    }

    /// Its process that receives WAL.
    pub(super) fn receiver_pid(&self) -> Option<u32> {
        self.receiver.as_ref()?.pid
    }

    /// The end of its flushed log, out of recovery.
    pub(super) fn flushed(&self) -> Lsn {
        lsn(self.flushed.as_deref())
    }

    /// No receiver, and the startup process sleeps after it has tried every source of WAL: it has
    /// replayed all there is. In `PostgreSQL`'s `WaitForWALToBecomeAvailable` this wait comes only after
    /// a WAL receiver has been shut down, and settings are read again right after it.
    pub(super) fn stands_still(&self) -> bool {
        self.receiver.is_none() && self.startup.as_ref().is_some_and(|it| it.wait == "RecoveryRetrieveRetryInterval")
    }

    pub(super) fn standby(&self, server: &Server) -> std::io::Result<Standby> {
        let replayed = lsn(self.replayed.as_deref());
        let end = lsn(self.received.as_deref()).max(replayed);
        let streaming = self.receiver.as_ref().filter(|it| it.status.as_deref() == Some("streaming"));
        let position = wal::position(&server.layout().data(), end, Timeline(self.timeline))?;
        let position = match streaming.and_then(|receiver| receiver.timeline) {
            Some(timeline) => Position { timeline: position.timeline.max(Timeline(timeline)), ..position },
            None => position,
        };
        Ok(Standby {
            position,
            replayed,
            receiver: self.receiver.is_some(),
            streaming: streaming.is_some(),
            stream_silence: streaming.and_then(|receiver| receiver.silence).map(Millis),
            upstream: self.upstream.parse().ok(),
            // What a receiver left behind is final once it is gone, even before all of it is replayed.
            still: self.stands_still() || self.receiver.is_none() && self.received.is_some() && end > replayed,
            slots: self.slots.clone(),
        })
    }

    pub(super) fn primary(&self) -> Primary {
        let standbys = self.senders.iter().filter_map(|sender| {
            Some(StandbySeen {
                // A base backup's sender is nobody's standby.
                member: sender.name.parse::<MemberId>().ok()?,
                streaming: sender.state.as_deref() == Some("streaming"),
                flushed: lsn(sender.flushed.as_deref()),
                synchronous: sender.priority.unwrap_or(0) > 0,
            })
        });
        Primary {
            position: Position { timeline: Timeline(self.timeline), lsn: self.flushed() },
            standbys: standbys.collect(),
            slots: self.slots.clone(),
            ..Primary::default()
        }
    }
}

/// A position as `PostgreSQL` writes it; 0 where there is none.
fn lsn(text: Option<&str>) -> Lsn {
    text.and_then(|text| text.parse().ok()).unwrap_or(Lsn(0))
}
