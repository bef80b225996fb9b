//! Running plans that concern shards: scattering, merging, splitting, and Howdah's own DDL, all on the
//! session's own server connections. Called by the session.

pub mod ask;
mod bucket;
mod colocation_client;
pub mod commit;
mod copy_in;
mod copy_out;
mod ddl;
mod distribute;
mod error;
mod explain;
mod fan;
mod insert_select;
pub mod lookup;
mod merge;
mod move_rows;
mod reference;
mod scatter;

use std::time::Duration;

pub use self::error::ExecError;
use self::scatter::Output;
use super::{
    catalog_load::{CATALOG, Loaded, read_catalog},
    core::{
        catalog::Catalog,
        error::UserError,
        plan::{Command, Plan},
        protocol::backend,
        request::Param,
    },
    pool::server::Server,
    session::{Participant, Session},
};
use crate::model::ids::{ColocationId, GroupId};

/// Longest wait for a colocation group that the catalog names and the topology does not yet: the
/// topology comes at once and is only late while coordinators change their leader.
const PLACEMENT_WAIT: Duration = Duration::from_secs(10);

/// What the client asked for beside the statement.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Parameters, with their types as described by the query group.
    pub params: Vec<Param>,
    /// Formats of the result's columns, as in `Bind`.
    pub formats: Vec<u16>,
    /// Answer `RowDescription` too, as the simple protocol does.
    pub describe: bool,
}

/// Runs a plan that is neither local nor of one shard. Rows and `CommandComplete` go to the client's
/// output.
pub async fn run(session: &mut Session, plan: &Plan, ask: &Ask) -> Result<(), ExecError> {
    let catalog = session.catalog().catalog;
    match plan {
        Plan::Scatter(plan) => scatter::scatter(session, plan, ask, &catalog, &mut Output::Client { only: None }).await,
        Plan::InsertSelect(plan) => insert_select::run(session, plan, ask, &catalog).await,
        Plan::InsertRows(plan) => scatter::insert_rows(session, plan, ask, &catalog).await,
        Plan::ReferenceWrite(plan) => reference::write(session, plan, ask, &catalog).await,
        Plan::CopyIn(plan) => copy_in::run(session, plan, &catalog).await,
        Plan::CopyOut(plan) => copy_out::run(session, plan, ask, &catalog).await,
        Plan::Function(function) => distribute::run(session, function, ask, &catalog).await,
        Plan::Ddl(plan) => ddl::run(session, plan, &catalog).await,
        Plan::Explain(plan) => explain::run(session, plan, ask, &catalog).await,
        Plan::Prepare(_) => {
            let hint = "Use prepared statements of the protocol, as drivers do.";
            Err(UserError::unsupported("SQL PREPARE of a statement on distributed tables", hint).into())
        }
        Plan::Refuse(refusal) => Err(ExecError::from((**refusal).clone())),
        other => {
            let what = format!("running a plan of tier \"{}\" here", other.tier());
            Err(ExecError::User(UserError::unsupported(what, "Use another statement.")))
        }
    }
}

/// The catalog as the session's transaction sees it, on the query group.
pub async fn catalog_now(session: &mut Session) -> Result<Loaded, ExecError> {
    let query = session.query_group()?;
    join_all(session, std::slice::from_ref(&query), false).await?;
    let server = server(&mut session.participants, &query);
    let answer =
        ask::one(server, CATALOG).await.map_err(|error| ExecError::call(&query, error, &Catalog::default()))?;
    let mut row = answer.rows.into_iter().next().unwrap_or_default().into_iter().flatten();
    let version = row.next().and_then(|version| version.parse().ok()).unwrap_or(0);
    read_catalog(version, &row.next().unwrap_or_default()).map_err(|error| {
        tracing::error!(%error, "the catalog is not what this router expects");
        UserError::error("XX000", "the catalog could not be read").into()
    })
}

/// Which shard holds bucket `i`.
async fn placement(session: &Session, colocation: ColocationId) -> Result<Vec<GroupId>, ExecError> {
    let pools = &session.worker.pools;
    let known = || pools.topology().colocations.get(&colocation).map(|colocation| colocation.buckets.clone());
    let wait = async {
        loop {
            let changed = pools.changed();
            if let Some(placement) = known() {
                return placement;
            }
            changed.await;
        }
    };
    tokio::time::timeout(PLACEMENT_WAIT, wait).await.map_err(|_| {
        let message = format!("the placement of colocation group {colocation} is not known");
        ExecError::User(
            UserError::error("57P03", message).hint("Run `howdah status`; the coordinators may have no leader."),
        )
    })
}

/// Each group once, in order of name.
fn distinct(groups: &[GroupId]) -> Vec<GroupId> {
    let mut distinct = groups.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

/// Makes groups take part, in order of name so that no two sessions wait for each other's connections
/// in a circle.
async fn join_all(session: &mut Session, groups: &[GroupId], write: bool) -> Result<(), ExecError> {
    for group in groups {
        let at = session.join(group).await?;
        session.participants[at].wrote |= write;
    }
    Ok(())
}

/// Runs scripts on joined groups, side by side; the first refusal is the answer.
async fn each(session: &mut Session, scripts: Vec<(GroupId, String)>, catalog: &Catalog) -> Result<(), ExecError> {
    let (mut names, mut asked) = (Vec::new(), Vec::new());
    for participant in &mut session.participants {
        if let Some((group, sql)) = scripts.iter().find(|(group, _)| group == participant.group()) {
            names.push(group.clone());
            asked.push((&mut participant.server, sql.clone()));
        }
    }
    let mut failed = None;
    for (group, answer) in names.iter().zip(ask::all(asked).await) {
        if let Err(error) = answer {
            failed = Some(failed.unwrap_or_else(|| ExecError::call(group, error, catalog)));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Appends `CommandComplete`.
fn complete(session: &mut Session, command: Command, count: u64) {
    let tag = match command {
        Command::Select => format!("SELECT {count}"),
        Command::Insert => format!("INSERT 0 {count}"),
        Command::Update => format!("UPDATE {count}"),
        Command::Delete => format!("DELETE {count}"),
    };
    backend::command_complete(&mut session.client.output, &tag);
}

fn server<'a>(servers: &'a mut [Participant], group: &GroupId) -> &'a mut Server {
    let found = servers.iter_mut().find(|participant| participant.group() == group);
    &mut found.expect("executors join what they use").server
}
