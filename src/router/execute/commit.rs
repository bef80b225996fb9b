//! Ends a transaction over several groups: commits it as one, or rolls it back everywhere. The order of
//! steps is `core::two_phase`'s. Called by the session at COMMIT, and after a statement of its own that
//! wrote on several groups.

use std::collections::BTreeMap;

use super::ask::{self, Answer};
use crate::{
    host::entropy,
    model::ids::GroupId,
    router::{
        core::{
            error::UserError,
            two_phase::{Commit, Gid, Part, plan_commit},
        },
        pool::server::{CallError, Server, ServerError},
        session::Participant,
    },
};

/// Why a commit did not succeed.
#[derive(Debug)]
pub enum CommitError {
    /// A server refused (a deferred constraint, a serialization failure): all is rolled back.
    Refused(ServerError),
    /// Rolled back (40001), or unknown (08007): the text says which.
    Failed(UserError),
}

/// Commits on every participant that has joined, or on none. Afterwards none is in the transaction;
/// those that were lost are unusable.
pub async fn commit(servers: &mut [Participant], query: &GroupId) -> Result<(), CommitError> {
    let part = |participant: &Participant| if participant.wrote { Part::Wrote } else { Part::Read };
    let joined = servers.iter().filter(|participant| participant.joined);
    let parts: BTreeMap<_, _> = joined.map(|participant| (participant.group().clone(), part(participant))).collect();
    match plan_commit(&parts, query, &entropy::hex::<16>()) {
        Commit::Plain(order) => commit_plainly(servers, &order).await,
        Commit::TwoPhase { prepare, decide, id, readers } => {
            prepare_all(servers, &prepare, &decide).await?;
            make_decision(servers, &prepare, &decide, &id).await?;
            finish(servers, &prepare, &readers, "COMMIT").await;
            Ok(())
        }
    }
}

/// Rolls back everywhere. A server that is lost has done so by itself.
pub async fn rollback(servers: &mut [Participant]) {
    let open = servers.iter_mut().map(|participant| &mut participant.server).filter(|server| server.status != b'I');
    for answer in ask::all(open.map(|server| (server, "ROLLBACK".to_owned()))).await {
        if let Err(error) = answer {
            tracing::debug!(%error, "a rollback was not answered");
        }
    }
}

async fn commit_plainly(servers: &mut [Participant], order: &[GroupId]) -> Result<(), CommitError> {
    let Some((first, rest)) = order.split_first() else { return Ok(()) };
    let answer = ask::one(server(servers, first), "COMMIT").await;
    if let Err(error) = certain(first, answer, "COMMIT") {
        rollback(servers).await;
        return Err(error);
    }
    // Readers: nothing of theirs can be lost.
    let others = servers.iter_mut().filter(|participant| rest.contains(participant.group()));
    ask::all(others.map(|participant| (&mut participant.server, "COMMIT".to_owned()))).await;
    Ok(())
}

/// A commit's answer: success only where it is certain.
fn certain(group: &GroupId, answer: Result<Answer, CallError>, tag: &str) -> Result<(), CommitError> {
    match answer {
        Ok(answer) if answer.tag == tag => Ok(()),
        // PostgreSQL answers COMMIT of a failed transaction by ROLLBACK.
        Ok(_) => Err(CommitError::Failed(UserError::lost_transaction(group))),
        Err(CallError::Refused(error)) => Err(CommitError::Refused(error)),
        Err(CallError::Unacknowledged) => Err(CommitError::Failed(UserError::not_acknowledged())),
        Err(CallError::Lost(lost)) => {
            tracing::info!(%group, %lost, "a commit was not answered");
            Err(CommitError::Failed(UserError::outcome_unknown(group)))
        }
    }
}

/// First phase. On failure everything is undone; what is lost meanwhile, the resolver undoes.
async fn prepare_all(servers: &mut [Participant], prepare: &[Gid], decide: &GroupId) -> Result<(), CommitError> {
    let (mut gids, mut asked) = (Vec::new(), Vec::new());
    for participant in servers.iter_mut() {
        if let Some(gid) = prepare.iter().find(|gid| gid.participant == *participant.group()) {
            gids.push(gid);
            asked.push((&mut participant.server, format!("PREPARE TRANSACTION '{gid}'")));
        }
    }
    let answers = ask::all(asked).await;
    let (mut prepared, mut failure) = (Vec::new(), None);
    for (gid, answer) in gids.into_iter().zip(answers) {
        match certain(&gid.participant, answer, "PREPARE TRANSACTION") {
            Ok(()) => prepared.push(gid.clone()),
            Err(error) => failure = Some(failure.unwrap_or((gid.participant.clone(), error))),
        }
    }
    let Some((group, error)) = failure else { return Ok(()) };
    finish(servers, &prepared, std::slice::from_ref(decide), "ROLLBACK").await;
    rollback(servers).await;
    Err(match error {
        // Whatever happened to the part, without a decision it is void.
        CommitError::Failed(_) => CommitError::Failed(UserError::lost_transaction(group)),
        refused @ CommitError::Refused(_) => refused,
    })
}

/// The decision: its row and the last participant's work commit together.
async fn make_decision(
    servers: &mut [Participant],
    prepare: &[Gid],
    decide: &GroupId,
    id: &str,
) -> Result<(), CommitError> {
    let decision = format!("INSERT INTO howdah.decision (id, outcome) VALUES ('{id}', 'commit'); COMMIT");
    let Err(error) = certain(decide, ask::one(server(servers, decide), &decision).await, "COMMIT") else {
        return Ok(());
    };
    match error {
        // Nobody can say now; the resolver will find out, from the row.
        CommitError::Failed(unknown) => Err(CommitError::Failed(unknown)),
        CommitError::Refused(refused) => {
            rollback(servers).await;
            finish(servers, prepare, &[], "ROLLBACK").await;
            // 23505: a resolver took this router for dead and decided first.
            if refused.sqlstate() == "23505" && refused.to_string().contains("decision_pkey") {
                return Err(CommitError::Failed(UserError::lost_transaction(decide)));
            }
            Err(CommitError::Refused(refused))
        }
    }
}

/// Second phase; also ends `readers`. The outcome is certain by now: what is not answered, the resolver
/// finishes.
async fn finish(servers: &mut [Participant], prepared: &[Gid], readers: &[GroupId], verb: &str) {
    let asked = servers.iter_mut().filter_map(|participant| {
        if readers.contains(participant.group()) {
            return Some((&mut participant.server, verb.to_owned()));
        }
        let gid = prepared.iter().find(|gid| gid.participant == *participant.group())?;
        Some((&mut participant.server, format!("{verb} PREPARED '{gid}'")))
    });
    for answer in ask::all(asked).await {
        if let Err(error) = answer {
            tracing::info!(%error, "a prepared part was not finished; the resolver will");
        }
    }
}

fn server<'a>(servers: &'a mut [Participant], group: &GroupId) -> &'a mut Server {
    let found = servers.iter_mut().find(|participant| participant.group() == group);
    &mut found.expect("the plan names participants only").server
}
