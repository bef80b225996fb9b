//! DDL on distributed and reference tables, and what is propagated: the same text on the query group and
//! on every shard, in one transaction. The query group comes first: its locks, and the catalog's version
//! row, put everybody in one order. Called by [`super::run`].

use super::{
    ask,
    error::ExecError,
    reference::{ANNOUNCE, ready_shards},
};
use crate::{
    host::{entropy, secret::Secret},
    model::ids::GroupId,
    router::{
        core::{
            catalog::{Catalog, TableKind, TableName},
            error::UserError,
            plan::{Ddl, DdlKind},
            protocol::backend,
            role_password,
            settings::literal,
        },
        session::Session,
    },
};

/// What an ANALYZE without tables looks at in the query group: all that the user may, but for shells.
const ANALYZED: &str = "SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND pg_has_role(c.relowner, 'USAGE')
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'howdah') AND n.nspname !~ '^pg_'
      AND c.oid NOT IN (SELECT relation::oid FROM howdah.tables WHERE kind = 'distributed')";

/// Without it the query group refuses what would change a shell alone: a router with an old catalog would.
const RUNS_EVERYWHERE: &str = "SET LOCAL howdah.runs_everywhere = on";

/// Runs it.
pub async fn run(session: &mut Session, plan: &Ddl, catalog: &Catalog) -> Result<(), ExecError> {
    if plan.kind == DdlKind::Vacuum {
        return vacuum(session, plan, catalog).await;
    }
    session.open_block();
    let query = session.query_group()?;
    super::join_all(session, std::slice::from_ref(&query), true).await?;
    query_sql(session, &query, RUNS_EVERYWHERE, catalog).await?;
    let text = same_verifier(&plan.text);
    let distributed = |name: &&TableName| is_distributed(catalog, name);
    let shells_only = !plan.tables.is_empty() && plan.tables.iter().all(|name| distributed(&name));
    let forget = |name: &TableName| format!("SELECT howdah.forget_table({}::regclass);\n", literal(&name.to_string()));
    let mut on_query = match plan.kind {
        DdlKind::DropTables => plan.tables.iter().map(forget).collect(),
        DdlKind::Truncate => format!("{ANNOUNCE};\n"),
        DdlKind::Everywhere | DdlKind::Propagate | DdlKind::Vacuum => String::new(),
    };
    // The shells are empty, and guarded against anything that would look for rows.
    let about_rows = plan.kind == DdlKind::Truncate || is_analyze(&text);
    if about_rows && shells_only {
        on_query.clear();
    } else if is_analyze(&text) && plan.tables.is_empty() {
        let tables = query_sql(session, &query, ANALYZED, catalog).await?.rows;
        let tables: Vec<String> = tables.into_iter().flatten().flatten().collect();
        on_query = if tables.is_empty() { String::new() } else { format!("ANALYZE {}", tables.join(", ")) };
    } else {
        on_query += &text;
    }
    let mut tag = String::new();
    if !on_query.is_empty() {
        tag = query_sql(session, &query, &on_query, catalog).await?.tag;
    }
    if !about_rows {
        query_sql(session, &query, "SELECT howdah.changed()", catalog).await?;
    }
    let shards = ready_shards(session, catalog).await?;
    super::join_all(session, &shards, true).await?;
    let align = |name: &TableName| format!(";\nSELECT howdah.align_leaves({}::regclass)", literal(&name.to_string()));
    let mut on_shards = text;
    if plan.kind == DdlKind::Everywhere && !about_rows {
        on_shards.extend(plan.tables.iter().filter(distributed).map(align));
    }
    let scripts = shards.into_iter().map(|shard| (shard, on_shards.clone())).collect();
    super::each(session, scripts, catalog).await?;
    if tag.is_empty() {
        tag = if plan.kind == DdlKind::Truncate { "TRUNCATE TABLE".to_owned() } else { "ANALYZE".to_owned() };
    }
    backend::command_complete(&mut session.client.output, &tag);
    Ok(())
}

/// A VACUUM of everything, which cannot be in a transaction: one group after the other, each by itself. It
/// may be repeated.
async fn vacuum(session: &mut Session, plan: &Ddl, catalog: &Catalog) -> Result<(), ExecError> {
    if session.block.is_some() {
        return Err(UserError::error("25001", "VACUUM cannot run inside a transaction block").into());
    }
    let query = session.query_group()?;
    super::join_all(session, std::slice::from_ref(&query), false).await?;
    let tables = query_sql(session, &query, ANALYZED, catalog).await?.rows;
    let tables: Vec<String> = tables.into_iter().flatten().flatten().collect();
    if !tables.is_empty() {
        query_sql(session, &query, &format!("{} {}", plan.text, tables.join(", ")), catalog).await?;
    }
    let shards = ready_shards(session, catalog).await?;
    super::join_all(session, &shards, false).await?;
    let scripts = shards.into_iter().map(|shard| (shard, plan.text.clone())).collect();
    super::each(session, scripts, catalog).await?;
    backend::command_complete(&mut session.client.output, "VACUUM");
    Ok(())
}

async fn query_sql(
    session: &mut Session,
    query: &GroupId,
    sql: &str,
    catalog: &Catalog,
) -> Result<ask::Answer, ExecError> {
    let server = super::server(&mut session.participants, query);
    ask::one(server, sql).await.map_err(|error| ExecError::call(query, error, catalog))
}

fn is_distributed(catalog: &Catalog, name: &TableName) -> bool {
    catalog.get(name).is_some_and(|table| matches!(table.kind, TableKind::Distributed(_)))
}

fn is_analyze(text: &str) -> bool {
    let word = text.trim_start().split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    word.eq_ignore_ascii_case("analyze") || word.eq_ignore_ascii_case("analyse")
}

/// With a verifier of ours in place of a plain password: every group must keep the same.
fn same_verifier(text: &str) -> String {
    match role_password::find(text) {
        // Passwords that are not ASCII would need SASLprep: PostgreSQL does that, each in its own way.
        Some(password) if password.text.is_ascii() && !password.text.is_empty() => {
            let salt = Secret::new(entropy::hex::<16>());
            let verifier = salt.verifier("role", &Secret::new(password.text.clone()));
            role_password::replace(text, &password, &verifier)
        }
        _ => text.to_owned(),
    }
}
