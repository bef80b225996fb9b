//! `EXPLAIN` of a distributed statement: the tier, where it runs and what is sent there, then what
//! PostgreSQL says on one shard. Called by [`super::run`].

use super::{
    Ask, ask,
    error::ExecError,
    scatter::{bucket_of, targets},
};
use crate::{
    model::ids::{ColocationId, GroupId},
    router::{
        core::{
            catalog::Catalog,
            plan::{Explain, Leaf, Merge, Plan, Refusal, Targets},
            protocol::backend,
        },
        session::Session,
    },
};

/// What there is to say of a plan.
struct Told {
    lines: Vec<String>,
    /// A statement and where to ask about it.
    ask: Option<(GroupId, String)>,
}

/// Explains.
pub async fn run(session: &mut Session, plan: &Explain, ask: &Ask, catalog: &Catalog) -> Result<(), ExecError> {
    let mut told = tell(session, &plan.inner, ask, catalog).await?;
    if let Some((group, sql)) = told.ask {
        let writes = match &*plan.inner {
            Plan::OneShard(one) => one.is_write,
            Plan::Scatter(scatter) => scatter.is_write,
            _ => true,
        };
        if plan.analyze && writes && !matches!(&*plan.inner, Plan::OneShard(_)) {
            let refusal = Refusal::unsupported(
                "EXPLAIN ANALYZE of a statement that writes on several shards is not supported",
                "Use EXPLAIN without ANALYZE.",
            );
            return Err(refusal.into());
        }
        super::join_all(session, std::slice::from_ref(&group), plan.analyze && writes).await?;
        let server = super::server(&mut session.participants, &group);
        let answer = ask::one(server, &format!("EXPLAIN {} {sql}", plan.options)).await;
        let answer = answer.map_err(|error| ExecError::call(&group, error, catalog))?;
        told.lines.push(format!("  Plan on {group}:"));
        told.lines.extend(answer.rows.into_iter().flatten().flatten().map(|line| format!("    {line}")));
    }
    let out = &mut session.client.output;
    if ask.describe {
        backend::text_columns(out, &["QUERY PLAN"]);
    }
    for line in &told.lines {
        backend::data_row(out, &[Some(line.as_bytes())]);
    }
    backend::command_complete(out, "EXPLAIN");
    Ok(())
}

async fn tell(session: &mut Session, plan: &Plan, ask: &Ask, catalog: &Catalog) -> Result<Told, ExecError> {
    let mut lines = vec![format!("Howdah ({})", plan.tier())];
    let mut text = String::new();
    let mut about = None;
    match plan {
        Plan::OneShard(one) => {
            let bucket = bucket_of(session, &one.key, ask, catalog, one.bucket_count).await?.unwrap_or(0);
            let shard = placed(session, one.colocation, bucket).await?;
            one.text.render(Some(Leaf { bucket, bucket_count: one.bucket_count }), &mut text);
            lines.push(format!("  Shard: {shard}, bucket {bucket} of {}", one.bucket_count));
            lines.push(format!("  Statement: {}", one_line(&text)));
            about = one.text.params.is_empty().then_some((shard, text));
        }
        Plan::Scatter(scatter) => {
            let placement = super::placement(session, scatter.colocation).await?;
            let shards = match &scatter.targets {
                Targets::All => super::distinct(&placement),
                Targets::Keys(keys) => targets(session, keys, ask, catalog, scatter.bucket_count, &placement).await?,
            };
            scatter.shard.render(None, &mut text);
            let names: Vec<&str> = shards.iter().map(GroupId::as_str).collect();
            lines.push(format!("  Shards: {}", names.join(", ")));
            lines.push(format!("  Statement: {}", one_line(&text)));
            if let Merge::Final { query, .. } = &scatter.merge {
                let mut last = String::new();
                query.render_final(None, "partial", &|_| "…", &mut last);
                lines.push(format!("  Merged on the query group by: {}", one_line(&last)));
            }
            about = shards.into_iter().next().filter(|_| scatter.shard.params.is_empty()).map(|shard| (shard, text));
        }
        Plan::InsertRows(rows) => lines.push(format!("  Rows: {}, each to the shard of its key", rows.rows.len())),
        Plan::InsertSelect(insert) => {
            let source = Box::pin(tell(session, &insert.source, ask, catalog)).await?;
            lines.push("  Source:".to_owned());
            lines.extend(source.lines.into_iter().map(|line| format!("    {line}")));
        }
        Plan::ReferenceWrite(_) => lines.push("  Every copy, in one transaction".to_owned()),
        _ => {}
    }
    Ok(Told { lines, ask: about })
}

async fn placed(session: &Session, colocation: ColocationId, bucket: u32) -> Result<GroupId, ExecError> {
    Ok(super::placement(session, colocation).await?[bucket as usize].clone())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
