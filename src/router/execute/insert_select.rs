//! `INSERT … SELECT` whose rows do not stay on their shard: the source runs as any query, its rows are
//! kept as lines, then go to the shards of their keys by COPY. A connection cannot do both at once, and
//! both must be in one transaction; so the rows wait here in between. Called by [`super::run`].

use super::{
    Ask, complete,
    copy_in::CopyInto,
    error::ExecError,
    scatter::{Output, bucket_of, pass, scatter},
};
use crate::{
    model::ids::GroupId,
    router::{
        core::{
            catalog::Catalog,
            copy_lines::Lines,
            copy_split::Splitter,
            error::UserError,
            plan::{Command, InsertSelect, Leaf, Plan},
            request::Request,
        },
        session::Session,
    },
};

/// Lines are split in pieces of this size: as COPY messages would come.
const PIECE: usize = 64 * 1024;

/// Runs it.
pub async fn run(session: &mut Session, plan: &InsertSelect, ask: &Ask, catalog: &Catalog) -> Result<(), ExecError> {
    session.open_block();
    let query = session.query_group()?;
    super::join_all(session, std::slice::from_ref(&query), false).await?;
    let mut lines = Lines::default();
    source(session, plan, ask, catalog, &query, &mut lines).await?;
    let lines = lines.finish().map_err(|error| {
        UserError::error("54000", error.to_string()).hint("Insert in several statements, each for a part of the rows.")
    })?;
    let (groups, placement) = if let Some(key) = &plan.copy.key {
        let placement = super::placement(session, key.colocation).await?;
        (super::distinct(&placement), placement)
    } else {
        (super::reference::copies(session, &plan.copy.table, catalog).await?, Vec::new())
    };
    super::join_all(session, &groups, false).await?;
    let mut copy = CopyInto::new(&plan.copy, catalog, &groups, &placement);
    let participants = &mut session.participants[..];
    let copied = async {
        copy.begin(participants, &plan.copy.text).await?;
        let mut splitter = plan.copy.key.as_ref().map(|key| Splitter::new(plan.copy.format.clone(), key.field));
        for piece in lines.chunks(PIECE) {
            copy.feed(participants, splitter.as_mut(), piece, &query).await?;
        }
        copy.feed_end(participants, splitter.as_mut(), &query).await?;
        copy.finish(participants, &query).await
    };
    let copied = copied.await.map_err(|error| error.abandoning(&groups))?;
    for participant in participants.iter_mut() {
        participant.wrote |= copied.wrote.contains(participant.group());
    }
    complete(session, Command::Insert, copied.rows);
    Ok(())
}

/// Keeps the source's rows, in text.
async fn source(
    session: &mut Session,
    plan: &InsertSelect,
    ask: &Ask,
    catalog: &Catalog,
    query: &GroupId,
    lines: &mut Lines,
) -> Result<(), ExecError> {
    let ask = Ask { params: ask.params.clone(), formats: Vec::new(), describe: false };
    let mut output = Output::Lines(lines);
    let mut sql = String::new();
    match &*plan.source {
        Plan::Scatter(plan) => scatter(session, plan, &ask, catalog, &mut output).await,
        Plan::Local(local) => {
            plan.text.render(None, &mut sql);
            super::join_all(session, std::slice::from_ref(query), !local.read_only).await?;
            let request = Request::new(sql, &plan.text.params, &ask.params, &[]);
            pass(session, vec![(query.clone(), request)], &ask, catalog, &mut output).await.map(drop)
        }
        Plan::OneShard(one) => {
            let bucket = bucket_of(session, &one.key, &ask, catalog, one.bucket_count).await?.unwrap_or(0);
            let shard = super::placement(session, one.colocation).await?[bucket as usize].clone();
            super::join_all(session, std::slice::from_ref(&shard), one.is_write).await?;
            one.text.render(Some(Leaf { bucket, bucket_count: one.bucket_count }), &mut sql);
            let request = Request::new(sql, &one.text.params, &ask.params, &[]);
            pass(session, vec![(shard, request)], &ask, catalog, &mut output).await.map(drop)
        }
        other => {
            let what = format!("INSERT … SELECT from a source of tier \"{}\"", other.tier());
            Err(UserError::unsupported(what, "Keep the rows in a table first.").into())
        }
    }
}
