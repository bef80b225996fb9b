//! Every member's own data, asked of its PostgreSQL directly: standbys must hold what their primary holds,
//! and nothing may be left prepared. Called at the end of everything that breaks things.

use std::{collections::BTreeMap, time::Duration};

use howdah::{
    host::{causes::with_causes, clock::Clock},
    model::status::{GroupStatus, MemberStatus, Status},
};
use tokio_postgres::Client;

use super::ledger::connect;

/// For standbys to replay what there is, and for what was left prepared to be finished.
const SETTLE: Duration = Duration::from_secs(30);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Tables that the owner may read, with their rows and a sum over their contents.
const TABLES: &str = "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1";

/// What a member's tables hold: rows and sum of each.
type Contents = BTreeMap<String, (i64, String)>;

/// What is wrong in the end; empty if nothing. Nobody may be writing.
pub async fn differences(status: &Status) -> Vec<String> {
    let mut wrong = Vec::new();
    for group in &status.groups {
        if let Some(left) = settle(async || prepared(group).await).await {
            wrong.push(left);
        }
        if let Some(difference) = settle(async || difference(group).await).await {
            wrong.push(difference);
        }
    }
    wrong
}

/// The last complaint, once there was time to settle it.
async fn settle(mut look: impl AsyncFnMut() -> Option<String>) -> Option<String> {
    let clock = Clock::start();
    loop {
        let complaint = look().await;
        if complaint.is_none() || clock.now().duration() > SETTLE {
            return complaint;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn prepared(group: &GroupStatus) -> Option<String> {
    let client = primary_of(group).await.map_err(Some);
    let client = match client {
        Ok(client) => client,
        Err(complaint) => return complaint,
    };
    let gids = client.query("SELECT gid FROM pg_prepared_xacts", &[]).await;
    let gids = match gids {
        Ok(rows) => rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(),
        Err(error) => return Some(format!("{}: {}", group.id, with_causes(&error))),
    };
    (!gids.is_empty()).then(|| format!("{} has transactions left prepared: {}", group.id, gids.join(", ")))
}

async fn difference(group: &GroupStatus) -> Option<String> {
    let mut first: Option<(&str, Contents)> = None;
    for member in &group.members {
        let contents = match contents(member).await {
            Ok(contents) => contents,
            Err(error) => return Some(format!("{} of {}: {}", member.id, group.id, with_causes(&error))),
        };
        match &first {
            None => first = Some((&member.id, contents)),
            Some((name, expected)) => {
                let differs = |table: &&String| expected.get(*table) != contents.get(*table);
                let tables = expected.keys().chain(contents.keys());
                if let Some(table) = tables.clone().find(differs) {
                    let (one, other) = (expected.get(table), contents.get(table));
                    return Some(format!("{table} of {}: {name} has {one:?}, {} has {other:?}", group.id, member.id));
                }
            }
        }
    }
    None
}

async fn contents(member: &MemberStatus) -> Result<Contents, tokio_postgres::Error> {
    let client = direct(member).await?;
    let mut contents = Contents::new();
    for row in client.query(TABLES, &[]).await? {
        let table: String = row.get(0);
        // ONLY: the shell of a distributed table has a child that refuses to be read.
        let sum = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM ONLY";
        let sum = format!("{sum} {table} t");
        let row = client.query_one(&sum, &[]).await?;
        contents.insert(table, (row.get(0), row.get(1)));
    }
    Ok(contents)
}

async fn primary_of(group: &GroupStatus) -> Result<Client, String> {
    let primary = group.members.iter().find(|it| group.primary.as_deref() == Some(it.id.as_str()));
    let primary = primary.ok_or_else(|| format!("{} has no primary", group.id))?;
    direct(primary).await.map_err(|error| format!("{} of {}: {}", primary.id, group.id, with_causes(&error)))
}

async fn direct(member: &MemberStatus) -> Result<Client, tokio_postgres::Error> {
    let (host, port) = (&member.address, member.port);
    connect(&format!("host={host} port={port} user=howdah password=howdah dbname=howdah connect_timeout=2")).await
}
