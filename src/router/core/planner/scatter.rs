//! SELECT on every shard.

use super::{Input, Refused, route, spread};
use crate::router::core::{
    plan::{Command, Merge, Plan, Scatter, Targets},
    query::{Builder, Query},
    sql::{Statement, nodes},
};

/// The plan.
pub fn plan<'a>(
    _input: &Input<'a>,
    statement: &Statement<'a>,
    _select: &'a nodes::SelectStmt,
    query: &Query<'a>,
    built: &Builder<'a>,
) -> Result<Plan, Refused> {
    let simple = matches!(query, Query::Level(level) if !level.ordered && spread::level(built, level, &[])
        .is_ok_and(|judged| spread::grouped_by_key(level, &judged)));
    if !simple {
        return Err(super::write_unsupported());
    }
    let spread::Complete::Split { colocation, bucket_count, .. } = spread::complete(built, query, &[])? else {
        return Err(super::write_unsupported());
    };
    Ok(Plan::Scatter(Scatter {
        colocation,
        bucket_count,
        targets: Targets::All,
        shard: route::by_parent(statement, &built.seen.params),
        merge: Merge::Concat,
        command: Command::Select,
        is_write: false,
    }))
}
