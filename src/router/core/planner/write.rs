//! UPDATE and DELETE. One bucket where the key is bound, else every shard by itself; reference tables
//! everywhere alike.

use super::{Input, Refused, bind, route, spread, survey::Survey};
use crate::router::core::{
    plan::{Command, Merge, NullKey, OneShard, Plan, ReferenceWrite, Refusal, Scatter, Targets},
    query::{Builder, Level, OccKind},
    sql::Statement,
};

/// The plan of an UPDATE or DELETE whose FROM and WHERE are `level`.
pub fn plan<'a>(
    input: &Input<'a>,
    statement: &Statement<'a>,
    command: Command,
    built: &Builder<'a>,
    level: &Level<'a>,
    survey: &Survey,
) -> Result<Plan, Refused> {
    let kind = match level.from.first() {
        Some(crate::router::core::query::From::Occ(occ)) => built.occs[*occ].kind,
        _ => OccKind::Opaque,
    };
    let distributed = route::has_distributed(built);
    match kind {
        OccKind::Reference(_) if distributed => {
            return Err(Refusal::unsupported(
                "a reference table cannot be changed by what distributed tables hold",
                "Read the values first, then write them as constants.",
            )
            .into());
        }
        OccKind::Reference(_) => return reference(statement, command, built),
        OccKind::Distributed(_) => route::refuse_local(built)?,
        _ if distributed => route::refuse_local(built)?,
        _ => return Ok(Plan::Local(survey.local(statement.node))),
    }
    let OccKind::Distributed(table) = kind else {
        return Err(Refusal::unsupported(
            "a local table cannot be changed by what distributed tables hold",
            "Read the values first, then write them.",
        )
        .into());
    };
    if let Some(bound) = bind::bind(input, built, &[], &[level], None) {
        return Ok(Plan::OneShard(OneShard {
            colocation: bound.colocation,
            bucket_count: bound.bucket_count,
            key: bound.key,
            text: route::one_bucket(statement, built, table.statement_triggers),
            command,
            is_write: true,
            null_key: NullKey::AnyBucket,
        }));
    }
    everywhere(statement, command, built, level)
}

fn everywhere<'a>(
    statement: &Statement<'a>,
    command: Command,
    built: &Builder<'a>,
    level: &Level<'a>,
) -> Result<Plan, Refused> {
    if built.seen.writes_below || built.seen.recursive {
        return Err(Refusal::unsupported(
            "WITH RECURSIVE, or a WITH that writes, is not supported in a write on several shards",
            "Bind every distributed table in it to one key, or run the parts as statements of their own.",
        )
        .into());
    }
    let judged = spread::level(built, level, &[])?;
    let spread::Spread::Split { colocation, bucket_count, .. } = judged.spread else {
        return Err(Refusal::unsupported("this write is not supported", "Bind it to one key.").into());
    };
    Ok(Plan::Scatter(Scatter {
        colocation,
        bucket_count,
        targets: Targets::All,
        shard: route::by_parent(statement, &built.seen.params),
        merge: Merge::Concat,
        command,
        is_write: true,
    }))
}

/// A write that every copy of a reference table makes alike.
pub fn reference(statement: &Statement<'_>, command: Command, built: &Builder<'_>) -> Result<Plan, Refused> {
    if built.seen.local.is_some() {
        return Err(Refusal::unsupported(
            "a reference table cannot be changed by what local tables hold",
            "Read the values first, then write them as constants; or make the other table a reference table too.",
        )
        .into());
    }
    if let Some(name) = built.seen.volatile.or(built.seen.clock) {
        return Err(Refusal::unsupported(
            format!("{name}() in a write to a reference table would differ between its copies"),
            "Compute the value first and pass it as a constant or parameter.",
        )
        .into());
    }
    Ok(Plan::ReferenceWrite(ReferenceWrite {
        text: route::by_parent(statement, &built.seen.params),
        command,
        uneven_default: false,
    }))
}
