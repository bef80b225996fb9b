//! Ends a transaction over several groups: commits it as one, or rolls it back everywhere. The order of
//! steps is `core::two_phase`'s. Called by the session at COMMIT, and after a statement of its own that
//! wrote on several groups.
//!
//! A decision whose answer is lost is looked up (`super::lookup`), so that the client learns the outcome.
//! A transaction of one writer leaves no row behind that could be looked up, and its outcome stays unknown
//! (08007). `PostgreSQL`'s own memory of it, `pg_xact_status`, would have to be asked by the transaction's
//! id, which the router does not know: asking for it costs a round trip per transaction, and an id that
//! never left the lost primary is given out again by the next one. A row of our own in each such
//! transaction would cost every client for the sake of these few.

use std::collections::BTreeMap;

use super::{
    ask::{self, Answer},
    lookup::{Outcome, Witness},
};
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
pub async fn commit(servers: &mut [Participant], query: &GroupId, witness: &Witness<'_>) -> Result<(), CommitError> {
    let part = |participant: &Participant| if participant.wrote { Part::Wrote } else { Part::Read };
    let joined = servers.iter().filter(|participant| participant.joined);
    let parts: BTreeMap<_, _> = joined.map(|participant| (participant.group().clone(), part(participant))).collect();
    match plan_commit(&parts, query, &entropy::hex::<16>()) {
        Commit::Plain(order) => commit_plainly(servers, &order).await,
        Commit::TwoPhase { prepare, decide, id, readers } => {
            prepare_all(servers, &prepare, &decide).await?;
            match make_decision(servers, &prepare, &decide, &id).await {
                Ok(()) => {}
                Err(Undecided::Failed(error)) => return Err(error),
                Err(Undecided::Unanswered) => find_out(servers, &prepare, &decide, &id, witness).await?,
            }
            finish(servers, &prepare, &readers, "COMMIT").await;
            Ok(())
        }
    }
}

/// The answer to the decision was lost: asks whoever is the primary now. `Ok`: it was made.
async fn find_out(
    servers: &mut [Participant],
    prepare: &[Gid],
    decide: &GroupId,
    id: &str,
    witness: &Witness<'_>,
) -> Result<(), CommitError> {
    server(servers, decide).give_up();
    let found = witness.outcome(decide, id).await;
    let aborted = match found {
        Some(Outcome::Committed) => {
            tracing::info!(group = %decide, id, "a commit that was not answered had been made");
            return Ok(());
        }
        Some(Outcome::Aborted) => {
            finish(servers, prepare, &[], "ROLLBACK").await;
            true
        }
        // There was no row before ours. A committed one goes only once no group shows a part of the
        // transaction: a part that is still there proves that there never was one.
        Some(Outcome::AbortedByUs) => finish(servers, prepare, &[], "ROLLBACK").await > 0,
        // The resolver settles the parts.
        None => false,
    };
    if !aborted {
        return Err(CommitError::Failed(UserError::outcome_unknown(decide)));
    }
    tracing::info!(group = %decide, id, "a commit that was not answered had not been made");
    Err(CommitError::Failed(UserError::lost_transaction(decide)))
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

/// Why there is no decision, as far as is known.
enum Undecided {
    /// The client is told this.
    Failed(CommitError),
    /// It was sent, and the connection was lost before the answer.
    Unanswered,
}

/// The decision: its row and the last participant's work commit together.
async fn make_decision(
    servers: &mut [Participant],
    prepare: &[Gid],
    decide: &GroupId,
    id: &str,
) -> Result<(), Undecided> {
    let decision = format!("INSERT INTO howdah.decision (id, outcome) VALUES ('{id}', 'commit'); COMMIT");
    let answer = ask::one(server(servers, decide), &decision).await;
    if let Err(CallError::Lost(lost)) = &answer {
        tracing::info!(group = %decide, %lost, id, "a decision was not answered");
        return Err(Undecided::Unanswered);
    }
    let Err(error) = certain(decide, answer, "COMMIT") else { return Ok(()) };
    match error {
        // Committed on the primary and maybe nowhere else: the resolver settles it once it is certain.
        CommitError::Failed(unknown) => Err(Undecided::Failed(CommitError::Failed(unknown))),
        CommitError::Refused(refused) => {
            rollback(servers).await;
            finish(servers, prepare, &[], "ROLLBACK").await;
            // 23505: a resolver took this router for dead and decided first.
            if refused.sqlstate() == "23505" && refused.to_string().contains("decision_pkey") {
                return Err(Undecided::Failed(CommitError::Failed(UserError::lost_transaction(decide))));
            }
            Err(Undecided::Failed(CommitError::Refused(refused)))
        }
    }
}

/// Second phase; also ends `readers`. The outcome is certain by now: what is not answered, the resolver
/// finishes. Answers how many were.
async fn finish(servers: &mut [Participant], prepared: &[Gid], readers: &[GroupId], verb: &str) -> usize {
    let asked = servers.iter_mut().filter_map(|participant| {
        if readers.contains(participant.group()) {
            return Some((&mut participant.server, verb.to_owned()));
        }
        let gid = prepared.iter().find(|gid| gid.participant == *participant.group())?;
        Some((&mut participant.server, format!("{verb} PREPARED '{gid}'")))
    });
    let mut done = 0;
    for answer in ask::all(asked).await {
        match answer {
            Ok(_) => done += 1,
            Err(error) => tracing::info!(%error, "a prepared part was not finished; the resolver will"),
        }
    }
    done
}

fn server<'a>(servers: &'a mut [Participant], group: &GroupId) -> &'a mut Server {
    let found = servers.iter_mut().find(|participant| participant.group() == group);
    &mut found.expect("the plan names participants only").server
}
