//! SELECT: local, in one bucket, or on every shard.

use super::{Input, Refused, bind, route, scatter, survey::Survey};
use crate::router::core::{
    plan::{Command, NullKey, OneShard, Plan, Refusal},
    query::{Builder, Query},
    sql::{Statement, nodes},
};

/// The plan of a SELECT that names something of ours.
pub fn plan<'a>(
    input: &Input<'a>,
    statement: &Statement<'a>,
    select: &'a nodes::SelectStmt,
    mut built: Builder<'a>,
    survey: &Survey,
) -> Result<Plan, Refused> {
    let query = built.select(select)?;
    if !route::has_distributed(&built) {
        return Ok(Plan::Local(survey.local(statement.node)));
    }
    route::refuse_local(&built)?;
    if survey.into {
        return Err(Refusal::unsupported(
            "SELECT INTO from distributed tables is not supported",
            "Create the table first, then INSERT … SELECT into it.",
        )
        .into());
    }
    if let Some(bound) = bind::bind(input, &built, &[&query], &[], None) {
        let locking = matches!(&query, Query::Level(level) if level.locking);
        return Ok(Plan::OneShard(OneShard {
            colocation: bound.colocation,
            bucket_count: bound.bucket_count,
            key: bound.key,
            text: route::one_bucket(statement, &built, false),
            command: Command::Select,
            is_write: locking || built.seen.writes_below,
            null_key: NullKey::AnyBucket,
        }));
    }
    if built.seen.recursive || built.seen.writes_below {
        return Err(Refusal::unsupported(
            "WITH RECURSIVE, and a WITH that writes or locks, are not supported over several shards",
            "Bind every distributed table in it to one key, or run the parts as statements of their own.",
        )
        .into());
    }
    scatter::plan(input, statement, select, &query, &built)
}
