//! A router whose catalog is old must not answer from the empty shell of a table that has just been
//! distributed. The guard below each shell, its triggers and the query group's event triggers refuse
//! nearly everything that would; what they cannot notice is preceded by a question that they do. Either
//! way the refusal names the guard, the catalog is read anew, and the batch is run again. Called by both
//! protocols before a local statement that has [`Probe`]s.

use super::{Fault, Session};
use crate::router::{
    core::plan::{Local, Probe},
    pool::server::{CallError, ServerError},
};

impl Session {
    /// Asks what the guards know of the relations that a statement names. A statement that reads must
    /// find them as the question did: both are in one transaction.
    pub(super) async fn probe(&mut self, local: &Local) -> Result<(), Fault> {
        // Only the cluster's own database has distributed tables.
        if local.unguarded.is_empty() || *self.worker.pools.topology().database != *self.identity.database {
            return Ok(());
        }
        self.drain().await?;
        if local.unguarded.iter().any(|probe| matches!(probe, Probe::Read(_))) {
            self.open_block();
        }
        let query = self.query_group()?;
        let at = self.switch(&query).await?;
        for probe in &local.unguarded {
            match self.participants[at].server.call(&probe.sql()).await {
                Ok(_) => {}
                Err(CallError::Refused(error)) if names_guard(&error) => {
                    return Err(self.catalog_was_old(error).await);
                }
                Err(error) => return Err(self.call_failed(at, error)),
            }
        }
        Ok(())
    }
}

/// Does an error come from the guard of a distributed table's shell?
pub(super) fn names_guard(error: &ServerError) -> bool {
    const GUARD: &[u8] = b"howdah_guard";
    let named = |message: &[u8]| message.windows(GUARD.len()).any(|window| window == GUARD);
    match error.sqlstate().as_str() {
        "55000" => error.field(b'M').is_some_and(named),
        // DROP TABLE without CASCADE: the guard depends on the shell.
        "2BP01" => error.field(b'D').is_some_and(|detail| detail.windows(13).any(|window| window == b"howdah.guard_")),
        _ => false,
    }
}
