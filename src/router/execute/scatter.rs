//! One statement per shard, side by side: rows passed on as they come, or merged by the query group.
//! Called by [`super::run`].

use super::{
    Ask,
    bucket::{self, Found},
    complete,
    error::ExecError,
    fan::{Fan, FanError, Take},
    merge,
};
use crate::{
    model::ids::GroupId,
    router::{
        core::{
            catalog::Catalog,
            copy_lines::Lines,
            error::UserError,
            plan::{Command, InsertRows, KeySource, Leaf, Merge, NullKey, Scatter, Targets, null_key},
            request::Request,
        },
        session::Session,
    },
};

/// Runs a scatter.
pub async fn scatter(
    session: &mut Session,
    plan: &Scatter,
    ask: &Ask,
    catalog: &Catalog,
    output: &mut Output<'_>,
) -> Result<(), ExecError> {
    let placement = super::placement(session, plan.colocation).await?;
    let groups = match &plan.targets {
        Targets::All => super::distinct(&placement),
        Targets::Keys(keys) => targets(session, keys, ask, catalog, plan.bucket_count, &placement).await?,
    };
    if plan.is_write && groups.len() > 1 {
        session.open_block();
    }
    super::join_all(session, &groups, plan.is_write).await?;
    let mut sql = String::new();
    plan.shard.render(None, &mut sql);
    match &plan.merge {
        Merge::Concat => {
            let request = Request::new(sql, &plan.shard.params, &ask.params, &ask.formats);
            let requests = groups.into_iter().map(|group| (group, request.clone())).collect();
            let count = pass(session, requests, ask, catalog, output).await?;
            output.complete(session, plan.command, count);
            Ok(())
        }
        Merge::Final { query, columns } => {
            merge::run(session, &groups, sql, plan, (query, *columns), ask, catalog, output).await
        }
    }
}

/// The shards of some keys; at least one shard.
pub(super) async fn targets(
    session: &mut Session,
    keys: &[KeySource],
    ask: &Ask,
    catalog: &Catalog,
    bucket_count: u32,
    placement: &[GroupId],
) -> Result<Vec<GroupId>, ExecError> {
    let mut groups = Vec::new();
    for key in keys {
        if let Some(bucket) = bucket_of(session, key, ask, catalog, bucket_count).await? {
            groups.push(placement[bucket as usize].clone());
        }
    }
    if groups.is_empty() {
        groups.extend(placement.first().cloned());
    }
    Ok(super::distinct(&groups))
}

/// A key's bucket; `None`: it is NULL. Joins the query group where it has to be asked.
pub async fn bucket_of(
    session: &mut Session,
    key: &KeySource,
    ask: &Ask,
    catalog: &Catalog,
    bucket_count: u32,
) -> Result<Option<u32>, ExecError> {
    match bucket::of_source(key, &ask.params, bucket_count) {
        Found::Bucket(bucket) => Ok(Some(bucket)),
        Found::Null => Ok(None),
        Found::Ask(question) => {
            let query = session.query_group()?;
            let at = session.join(&query).await?;
            let server = &mut session.participants[at].server;
            bucket::ask(server, &query, catalog, &question, bucket_count).await.map(Some)
        }
    }
}

/// `INSERT … VALUES` of several rows: each to the shard of its key.
pub async fn insert_rows(
    session: &mut Session,
    plan: &InsertRows,
    ask: &Ask,
    catalog: &Catalog,
) -> Result<(), ExecError> {
    let placement = super::placement(session, plan.colocation).await?;
    let mut buckets = Vec::with_capacity(plan.rows.len());
    for row in &plan.rows {
        let bucket = bucket_of(session, &row.key, ask, catalog, plan.bucket_count).await?;
        buckets.push(bucket.ok_or_else(|| match &plan.null_key {
            NullKey::NotNull { table, column } => ExecError::from(null_key(table, column)),
            NullKey::AnyBucket => unreachable!("an insert needs a key"),
        })?);
    }
    let groups: Vec<GroupId> = buckets.iter().map(|bucket| placement[*bucket as usize].clone()).collect();
    let distinct = super::distinct(&groups);
    if distinct.len() > 1 {
        session.open_block();
    }
    super::join_all(session, &distinct, true).await?;
    let mut requests = Vec::new();
    for group in distinct {
        let rows: Vec<usize> = (0..groups.len()).filter(|row| groups[*row] == group).collect();
        let one = rows.iter().all(|row| buckets[*row] == buckets[rows[0]]);
        let leaf = one.then(|| Leaf { bucket: buckets[rows[0]], bucket_count: plan.bucket_count });
        let mut sql = String::new();
        let used = plan.render(&rows, leaf, &mut sql);
        requests.push((group, Request::new(sql, &used, &ask.params, &ask.formats)));
    }
    let count = pass(session, requests, ask, catalog, &mut Output::Client { only: None }).await?;
    complete(session, Command::Insert, count);
    Ok(())
}

/// Where rows go.
pub enum Output<'a> {
    /// To the client; of `only` one group where all do the same.
    Client {
        /// That group.
        only: Option<GroupId>,
    },
    /// They are kept, as lines of a text COPY.
    Lines(&'a mut Lines),
}

impl Output<'_> {
    /// The client's `CommandComplete`, where it gets the rows.
    pub fn complete(&self, session: &mut Session, command: Command, count: u64) {
        if matches!(self, Self::Client { .. }) {
            complete(session, command, count);
        }
    }
}

/// Sends each joined group its request and passes the rows on. Answers how many rows the tags count.
pub async fn pass(
    session: &mut Session,
    requests: Vec<(GroupId, Request)>,
    ask: &Ask,
    catalog: &Catalog,
    output: &mut Output<'_>,
) -> Result<u64, ExecError> {
    let Session { client, participants, .. } = session;
    let (mut names, mut servers) = (Vec::new(), Vec::new());
    for participant in participants.iter_mut() {
        if let Some((group, request)) = requests.iter().find(|(group, _)| group == participant.group()) {
            participant.server.prepared.unnamed = None;
            request.encode(ask.describe, &mut participant.server.output);
            names.push(group.clone());
            servers.push(&mut participant.server);
        }
    }
    let mut only = None;
    let take = match output {
        Output::Client { only: wanted } => {
            // A group that is not among them: nobody's rows.
            only = wanted.as_ref().map(|only| names.iter().position(|name| name == only).unwrap_or(usize::MAX));
            Take::Pass { describe: ask.describe, only }
        }
        Output::Lines(lines) => Take::Lines(lines),
    };
    let mut fan = Fan::new(servers, catalog);
    let result = fan.run(client, take).await;
    let count = fan.count(only);
    result.map_err(|error| fan_error(error, &names))?;
    Ok(count)
}

/// With the group's name in place of its number.
pub fn fan_error(error: FanError, names: &[GroupId]) -> ExecError {
    match error {
        FanError::Refused(error) => ExecError::Refused(error),
        FanError::Lost(at, lost) => ExecError::Lost(names[at].clone(), lost),
        FanError::Unacknowledged => ExecError::User(UserError::not_acknowledged()),
        FanError::Client(stop) => ExecError::Stop(stop),
    }
}
