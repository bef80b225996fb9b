//! Recovery: ending the WAL receiver, pointing it elsewhere, leaving recovery on a given timeline.

use std::{fs, time::Duration};

use rustix::process::Signal;
use tokio::time::interval;
use tokio_postgres::SimpleQueryMessage;

use crate::{
    agent::core::history::PLACEHOLDER,
    model::{goal::Goal, group::Cohort, ids::MemberId, numbers::Timeline},
};

use super::{ActionError, Look, Server, Session, files, process::send, wal};

/// Usually some 20 ms; longer where much received WAL is still to be replayed.
const CUT: Duration = Duration::from_secs(5);

/// No receiver for this long after every process was told: long enough to be certain without having
/// seen the startup process at rest, which replays its backlog first.
const RECEIVER_GONE: Duration = Duration::from_millis(300);

/// Promotion of a standby that has replayed everything takes some 25 ms; a checkpoint may delay it.
const PROMOTE: Duration = Duration::from_secs(30);

/// Between two looks while something is about to happen within milliseconds.
const POLL: Duration = Duration::from_millis(2);

/// A statement that only reads or sets something small.
pub(super) const SMALL: Duration = Duration::from_secs(2);

impl Server {
    /// Ends the WAL receiver and makes certain that no other one starts: when this returns, nothing more
    /// is received or acknowledged. Where it cannot be certain in time, `PostgreSQL` is restarted fenced,
    /// which is certain as well.
    pub async fn cut(&self, goal: Option<&Goal>) -> Result<(), ActionError> {
        self.write_dynamic(goal, None, None)?;
        let cut = self.with_session("cutting the WAL receiver", CUT, async |session| {
            let mut every = interval(POLL);
            let look = Look::take(session).await?;
            // Told directly, the startup process has the signal pending before we look again: at its next
            // rest it has either read the new settings or will read them before it can start a receiver.
            self.reload(look.startup.as_ref().map(|startup| startup.pid));
            let mut gone = 0;
            loop {
                every.tick().await;
                let look = Look::take(session).await?;
                if !look.recovery || look.stands_still() && look.upstream.is_empty() {
                    return Ok(());
                }
                match look.receiver.and_then(|receiver| receiver.pid) {
                    Some(pid) => {
                        send(pid, Signal::TERM);
                        gone = 0;
                    }
                    None => gone += 1,
                }
                if POLL * gone >= RECEIVER_GONE && look.upstream.is_empty() {
                    return Ok(());
                }
            }
        });
        if let Err(error) = cut.await {
            tracing::warn!(%error, "the WAL receiver could not be cut in time: restarting PostgreSQL fenced");
            self.stop_immediate().await?;
            self.start(goal, None).await?;
        }
        Ok(())
    }

    /// Follows `primary` from where it is; no restart.
    pub async fn repoint(&self, goal: &Goal, primary: &MemberId) -> Result<(), ActionError> {
        let generation = self.write_dynamic(Some(goal), Some(primary), None)?;
        self.with_session("pointing at the primary", SMALL, async |session| {
            let look = Look::take(session).await?;
            self.reload(look.startup.map(|startup| startup.pid));
            settle(session, generation).await
        })
        .await
    }

    /// Leaves recovery on exactly `timeline`, with `cohort` in force. True if it certainly is.
    ///
    /// The cohort's settings are read while the promotion runs: until they are, the fenced ones hold, under
    /// which nothing commits.
    pub async fn promote(&self, goal: &Goal, timeline: Timeline, cohort: &Cohort) -> Result<bool, ActionError> {
        self.occupy_below(timeline)?;
        let generation = self.write_dynamic(Some(goal), None, Some(cohort))?;
        let before = self.lower_acks_in_effect(cohort.acks);
        let (reached, in_force) = self
            .with_session("promoting", PROMOTE, async |session| {
                // Before the promotion: its checkpoint keeps the checkpointer from its settings, and who is told
                // afterwards that nobody is to be waited for waits until that ends.
                self.reload(None);
                if Look::take(session).await?.recovery {
                    session.client().simple_query("SELECT pg_promote(false)").await?;
                }
                let reached = out_of_recovery(session).await?;
                if reached != timeline.0 {
                    return Ok((reached, false));
                }
                settle(session, generation).await?;
                Ok((reached, self.only_new_senders(session, cohort, before).await?))
            })
            .await?;
        if in_force {
            self.note_acks_in_effect(cohort.acks);
        }
        if reached == timeline.0 {
            return Ok(in_force);
        }
        // It must not reign there: two reigns on one timeline cannot be told apart.
        self.stop_immediate().await?;
        Err(ActionError::Refused(format!("promotion led to timeline {reached} instead of {timeline}: stopped")))
    }

    /// Takes every free number below `timeline`, so that it is the next one.
    fn occupy_below(&self, timeline: Timeline) -> Result<(), ActionError> {
        let data = self.layout.data();
        let write = || {
            for number in wal::missing_below(&data, timeline)? {
                let path = data.join(wal::history_file(number));
                fs::write(&path, PLACEHOLDER)?;
                files::restrict(&path)?;
            }
            Ok(())
        };
        write().map_err(ActionError::io("taking the numbers of skipped timelines"))?;
        for number in (2..timeline.0).map(Timeline) {
            self.account.own(&data.join(wal::history_file(number)))?;
        }
        Ok(())
    }
}

/// Waits for the end of recovery; gives the timeline. Asks little, because the promotion needs the processor.
async fn out_of_recovery(session: &Session) -> Result<u32, tokio_postgres::Error> {
    let mut every = interval(POLL);
    while text_of(session, "SELECT pg_is_in_recovery()").await?.as_deref() == Some("t") {
        every.tick().await;
    }
    loop {
        match Look::take(session).await {
            Ok(look) if !look.recovery => return Ok(look.timeline),
            // Between its two halves the question itself may fail: functions that are refused in recovery.
            Err(error) if session.client().is_closed() => return Err(error),
            _ => every.tick().await,
        };
    }
}

/// Waits until the session's own process has read settings of `generation`: the postmaster read them
/// before it told its children.
pub(super) async fn settle(session: &Session, generation: u64) -> Result<(), tokio_postgres::Error> {
    let mut every = interval(POLL);
    loop {
        every.tick().await;
        let read = text_of(session, "SELECT current_setting('howdah.generation', true)").await?;
        if read.and_then(|text| text.parse().ok()) == Some(generation) {
            return Ok(());
        }
    }
}

/// The one value of a statement's one row.
async fn text_of(session: &Session, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let answer = session.client().simple_query(sql).await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
