//! Settles what dead routers left prepared, and deletes decisions nobody needs any more. Every router
//! runs it; an advisory lock on the query group's primary lets one work. Called by the router's `run`.
//!
//! ```text
//! lead? ── no ──> wait
//!   │ yes
//!   ▼
//! list prepared parts on all groups ─> for each old one: insert `abort` unless decided
//!   ─> read the decision ─> COMMIT PREPARED or ROLLBACK PREPARED every part
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::{
    core::two_phase::{
        BARRIER, DELETE_DECISIONS, Gid, LIST_PREPARED, OLD_DECISIONS, Unsettled, deletable, settle_sql, unsettled,
    },
    own_session::{OwnSession, OwnSessionError},
};
use crate::{
    host::{clock::Clock, secret::Secret},
    model::{ids::GroupId, numbers::Millis, topology::Topology},
};

/// Advisory lock of the leader: "howdah" in ASCII.
const LOCK: i64 = 0x0068_6f77_6461_6800;

/// Between two looks: with the patience below, what a dead router left is settled within some 3 s.
const PERIOD: Duration = Duration::from_secs(1);

/// How old a prepared part must be before its router is taken for dead. A living one takes
/// milliseconds; one that is merely slow finds its transaction aborted, never half done.
const PATIENCE_MS: i64 = 2000;

/// Between two deletions of old decisions: rows are small, and nobody waits for this.
const SWEEP: Millis = Millis(30_000);

/// A session that waits longer for a living owner, or for an acknowledgement, tries again later.
const STATEMENT_TIMEOUT: &str = "SET statement_timeout = '5s'";

/// Why a round ended early; the next one tries again.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("group {group}: {source}")]
    Session { group: GroupId, source: OwnSessionError },
    #[error("group {group}: {source}")]
    Statement { group: GroupId, source: tokio_postgres::Error },
    #[error("group {group}: a commit's wait for standbys was cancelled")]
    Unacknowledged { group: GroupId },
    #[error("the topology has no query group")]
    NoQueryGroup,
}

/// Runs until cancelled.
pub async fn run(topology: watch::Receiver<Arc<Topology>>, secret: Secret, clock: Clock, cancel: CancellationToken) {
    let mut resolver =
        Resolver { topology, secret, clock, sessions: BTreeMap::new(), leads: false, swept: clock.now() };
    let mut failing = false;
    while cancel.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
        let round = cancel.run_until_cancelled(resolver.round()).await;
        match round {
            Some(Err(error)) if !failing => {
                tracing::info!(%error, "the resolver cannot work now");
                failing = true;
            }
            Some(Ok(())) => failing = false,
            Some(Err(_)) | None => {}
        }
    }
}

struct Resolver {
    topology: watch::Receiver<Arc<Topology>>,
    secret: Secret,
    clock: Clock,
    sessions: BTreeMap<GroupId, OwnSession>,
    /// The lock is held by the present session with the query group.
    leads: bool,
    swept: Millis,
}

impl Resolver {
    async fn round(&mut self) -> Result<(), RoundError> {
        let topology = self.topology.borrow().clone();
        let query = topology.query_group().ok_or(RoundError::NoQueryGroup)?.id.clone();
        self.drop_old_sessions(&topology, &query);
        if !self.lead(&topology, &query).await? {
            return Ok(());
        }
        super::housekeeping::publish_nodes(&self.sessions[&query].client, &topology)
            .await
            .map_err(|source| RoundError::Statement { group: query, source })?;
        let (seen, complete) = self.list(&topology).await?;
        for transaction in unsettled(&seen, PATIENCE_MS) {
            self.settle(&topology, &transaction).await?;
        }
        if complete && self.clock.now().since(self.swept) >= SWEEP {
            self.sweep(&topology).await?;
            self.swept = self.clock.now();
        }
        Ok(())
    }

    fn drop_old_sessions(&mut self, topology: &Topology, query: &GroupId) {
        self.sessions.retain(|group, session| session.is_current(topology, group));
        self.leads &= self.sessions.contains_key(query);
    }

    async fn lead(&mut self, topology: &Topology, query: &GroupId) -> Result<bool, RoundError> {
        if !self.leads {
            let session = self.session(topology, query).await?;
            let locked = session.client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await;
            self.leads = locked.map_err(|source| RoundError::Statement { group: query.clone(), source })?.get(0);
        }
        Ok(self.leads)
    }

    async fn session(&mut self, topology: &Topology, group: &GroupId) -> Result<&OwnSession, RoundError> {
        if !self.sessions.contains_key(group) {
            let session = OwnSession::connect(topology, group, &self.secret)
                .await
                .map_err(|source| RoundError::Session { group: group.clone(), source })?;
            let set = session.client.batch_execute(STATEMENT_TIMEOUT).await;
            set.map_err(|source| RoundError::Statement { group: group.clone(), source })?;
            self.sessions.insert(group.clone(), session);
        }
        Ok(&self.sessions[group])
    }

    /// What all groups show, and whether all of them answered: one that has no primary now must not
    /// keep the others from being settled.
    async fn list(&mut self, topology: &Topology) -> Result<(Vec<(Gid, i64)>, bool), RoundError> {
        let (mut seen, mut complete) = (Vec::new(), true);
        for group in topology.groups.keys() {
            let session = match self.session(topology, group).await {
                Ok(session) => session,
                Err(error) => {
                    tracing::debug!(%error, "not looked at");
                    complete = false;
                    continue;
                }
            };
            let rows = session.client.query(LIST_PREPARED, &[]).await;
            for row in rows.map_err(|source| RoundError::Statement { group: group.clone(), source })? {
                // A text that is not ours, though it begins like ours, is nobody's business here.
                if let Ok(gid) = row.get::<_, &str>(0).parse() {
                    seen.push((gid, row.get(1)));
                }
            }
        }
        Ok((seen, complete))
    }

    async fn settle(&mut self, topology: &Topology, transaction: &Unsettled) -> Result<(), RoundError> {
        let failed = |source| RoundError::Statement { group: transaction.decision.clone(), source };
        let decider = self.session(topology, &transaction.decision).await?;
        let row = decider.client.query_one(&settle_sql(&transaction.id), &[]).await.map_err(failed)?;
        let outcome: Option<String> = row.get(0);
        // Without an acknowledgement it may be taken back by a failover; without a row the next round looks
        // again, if anything is still to be settled.
        let Some(outcome) = outcome.filter(|_| decider.is_acknowledged()) else {
            return Err(RoundError::Unacknowledged { group: transaction.decision.clone() });
        };
        let verb = if outcome == "commit" { "COMMIT" } else { "ROLLBACK" };
        for gid in &transaction.parts {
            let client = &self.session(topology, &gid.participant).await?.client;
            match client.batch_execute(&format!("{verb} PREPARED '{gid}'")).await {
                Ok(()) => tracing::info!(%gid, outcome, "settled a transaction that its router left prepared"),
                // Its router lives after all, and was quicker; the outcome is the same.
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => {}
                Err(source) => return Err(RoundError::Statement { group: gid.participant.clone(), source }),
            }
        }
        Ok(())
    }

    async fn sweep(&mut self, topology: &Topology) -> Result<(), RoundError> {
        let mut old = BTreeMap::new();
        for group in topology.groups.keys() {
            let client = &self.session(topology, group).await?.client;
            let rows = client.query(OLD_DECISIONS, &[]).await;
            let rows = rows.map_err(|source| RoundError::Statement { group: group.clone(), source })?;
            old.insert(group.clone(), rows.iter().map(|row| row.get(0)).collect::<Vec<String>>());
        }
        let (seen, complete) = self.list(topology).await?;
        if !complete {
            return Ok(());
        }
        for group in topology.groups.keys() {
            let session = self.session(topology, group).await?;
            let written = session.client.query_one(BARRIER, &[]).await;
            written.map_err(|source| RoundError::Statement { group: group.clone(), source })?;
            if !session.is_acknowledged() {
                return Err(RoundError::Unacknowledged { group: group.clone() });
            }
        }
        for (group, ids) in old {
            let ids = deletable(ids, &seen);
            if !ids.is_empty() {
                let client = &self.session(topology, &group).await?.client;
                let deleted = client.execute(DELETE_DECISIONS, &[&ids]).await;
                deleted.map_err(|source| RoundError::Statement { group, source })?;
            }
        }
        Ok(())
    }
}
