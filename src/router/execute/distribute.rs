//! `create_distributed_table`, `create_reference_table`, `undistribute_table`: the table's copies on the
//! shards, its rows, its shell and its catalog row, all in one transaction. Called by [`super::run`].
//!
//! ```text
//! query group: lock, facts ─> check ─> colocation group (coordinators)
//! shards:      parents and leaves ─> rows ─> keys, indexes, foreign keys
//! query group: rows removed, guard, catalog row
//! commit: two phases, decided by the query group
//! ```

use bytes::Bytes;

use super::{
    Ask, ask, bucket,
    colocation_client::ensure_colocation,
    error::ExecError,
    move_rows::{self, Rows},
    reference::ready_shards,
};
use crate::{
    host::entropy,
    model::{
        ids::{ColocationId, GroupId},
        map::Colocation,
    },
    router::{
        core::{
            catalog::{Catalog, Table, TableName},
            distribute::{Copies, Facts, ShardDdl, check_distribute, check_reference},
            error::UserError,
            plan::{ColocateWith, Function},
            protocol::backend,
            request::Param,
            settings::literal,
        },
        housekeeping::group_number,
        session::Session,
    },
};

/// Numbers that `pg_dist_shard` keeps for each table: more than a colocation group has buckets.
const BUCKETS_PER_TABLE: u64 = 2048;

/// Runs one of the functions.
pub async fn run(session: &mut Session, function: &Function, ask: &Ask, catalog: &Catalog) -> Result<(), ExecError> {
    session.open_block();
    let query = session.query_group()?;
    super::join_all(session, std::slice::from_ref(&query), true).await?;
    let mut work = Work { session, catalog, query, search_path: String::new() };
    let name = match function {
        Function::Distribute { table, column, colocate_with, bucket_count } => {
            work.distribute(table, column, colocate_with, *bucket_count).await?;
            "create_distributed_table"
        }
        Function::Reference { table } => {
            work.reference(table).await?;
            "create_reference_table"
        }
        Function::Undistribute { table } => {
            work.undistribute(table).await?;
            "undistribute_table"
        }
        Function::ShardId { table, value } => {
            let id = work.shard_id(table, value.as_deref()).await?;
            // The client's format of a bigint.
            let value = if ask.formats.first() == Some(&1) { id.to_be_bytes().to_vec() } else { id.to_string().into() };
            answer(session, "get_shard_id_for_distribution_column", &value, ask.describe);
            return Ok(());
        }
    };
    answer(session, name, b"", ask.describe);
    Ok(())
}

/// One row of one column.
fn answer(session: &mut Session, name: &str, value: &[u8], describe: bool) {
    let out = &mut session.client.output;
    if describe {
        backend::text_columns(out, &[name]);
    }
    backend::data_row(out, &[Some(value)]);
    backend::command_complete(out, "SELECT 1");
}

struct Work<'a> {
    session: &'a mut Session,
    catalog: &'a Catalog,
    query: GroupId,
    /// The session's, while ours is `pg_catalog` so that every name PostgreSQL tells is qualified.
    search_path: String,
}

impl Work<'_> {
    async fn distribute(
        &mut self,
        table: &str,
        column: &str,
        colocate_with: &ColocateWith,
        bucket_count: Option<u32>,
    ) -> Result<(), ExecError> {
        let facts = self.lock(table).await?;
        let spread = check_distribute(&facts, column)?;
        let key_type = spread.key.base_type.clone();
        let colocation = self.colocation(&key_type, colocate_with, bucket_count).await?;
        let shards = super::distinct(&colocation.buckets);
        self.wait_until_ready(&shards).await?;
        let mut ddl = Vec::new();
        let bucket_count =
            u32::try_from(colocation.buckets.len()).expect("a colocation group has at most 1,024 buckets");
        for shard in &shards {
            let buckets: Vec<u32> = (0..bucket_count).filter(|at| colocation.buckets[*at as usize] == *shard).collect();
            let copies =
                Copies::Distributed { key: column, colocation: colocation.id.0, bucket_count, buckets: &buckets };
            ddl.push((shard.clone(), ShardDdl::new(&facts, copies, group_number(shard))?));
        }
        let rows = Rows::ByKey { column, key: spread.key_type, colocation: &colocation };
        self.make_copies(&facts, ddl, rows).await?;
        let shards: Vec<&str> = colocation.buckets.iter().map(GroupId::as_str).collect();
        let empty = if facts.referenced_by.is_empty() {
            format!("TRUNCATE {}", facts.quoted)
        } else {
            format!("SELECT howdah.empty_table({}::regclass)", literal(&facts.quoted))
        };
        self.query_sql(&empty).await?;
        self.enter(&facts, "distributed", Some(column), colocation.id, &shards).await?;
        self.done().await
    }

    async fn reference(&mut self, table: &str) -> Result<(), ExecError> {
        let facts = self.lock(table).await?;
        check_reference(&facts)?;
        // The catalog's lock first: a shard that is being prepared now is done with it, or waits.
        self.query_sql("SELECT howdah.changed()").await?;
        let shards = ready_shards(self.session, self.catalog).await?;
        let mut ddl = Vec::new();
        for shard in &shards {
            ddl.push((shard.clone(), ShardDdl::new(&facts, Copies::Reference, group_number(shard))?));
        }
        self.make_copies(&facts, ddl, Rows::Everywhere).await?;
        self.enter(&facts, "reference", None, ColocationId(0), &[]).await?;
        self.done().await
    }

    async fn undistribute(&mut self, table: &str) -> Result<(), ExecError> {
        let facts = self.lock(table).await?;
        let Some(known) = &facts.distributed else {
            let message = format!("cannot undistribute table \"{}\" because the table is not distributed", facts.name);
            return Err(UserError::error("42P16", message).into());
        };
        if let Some(other) = facts.referenced_by.iter().find(|other| other.kind.is_some()) {
            let message = format!("cannot undistribute \"{}\": \"{}\" references it", facts.name, other.table);
            return Err(UserError::error("0A000", message).hint("Undistribute the other table first.").into());
        }
        self.query_sql(&format!("SELECT howdah.forget_table({}::regclass)", literal(&facts.quoted))).await?;
        let shards = if known.kind == "reference" {
            ready_shards(self.session, self.catalog).await?
        } else {
            let placement = super::placement(self.session, ColocationId(known.colocation)).await?;
            super::distinct(&placement)
        };
        super::join_all(self.session, &shards, true).await?;
        if known.kind != "reference" {
            for shard in &shards {
                move_rows::back(self.session, &facts, shard, &self.query, self.catalog).await?;
            }
        }
        self.on_shards(&shards, &format!("DROP TABLE {}", facts.quoted)).await?;
        self.done().await
    }

    /// The bucket of a value, as the number that `pg_dist_shard` gives it.
    async fn shard_id(&mut self, table: &str, value: Option<&str>) -> Result<u64, ExecError> {
        let sql = format!(
            "SELECT relation, schema, name FROM howdah.catalog WHERE relation = to_regclass({})",
            literal(table)
        );
        let row = self.query_sql(&sql).await?.rows.into_iter().next().unwrap_or_default();
        let [Some(oid), Some(schema), Some(name)] = &row[..] else {
            return Err(UserError::error("42P01", format!("relation \"{table}\" is not distributed")).into());
        };
        let oid: u64 = oid.parse().unwrap_or(0);
        let known = self.catalog.get(&TableName::new(schema, name)).and_then(Table::distribution);
        let Some(distribution) = known else { return Ok(oid * BUCKETS_PER_TABLE) };
        let Some(value) = value else {
            return Err(UserError::error(
                "22004",
                "distribution value cannot be NULL for tables other than reference tables.",
            )
            .into());
        };
        let param = Param { type_oid: 0, binary: false, value: Some(Bytes::copy_from_slice(value.as_bytes())) };
        let question = bucket::Question { key: distribution.key_type, stored: None, param };
        let server = super::server(&mut self.session.participants, &self.query);
        let bucket = bucket::ask(server, &self.query, self.catalog, &question, distribution.bucket_count).await?;
        Ok(oid * BUCKETS_PER_TABLE + u64::from(bucket))
    }

    /// Finds the table, locks it, and learns everything about it.
    async fn lock(&mut self, table: &str) -> Result<Facts, ExecError> {
        let sql = format!("SELECT to_regclass({})::oid, current_setting('search_path')", literal(table));
        let row = self.query_sql(&sql).await?.rows.into_iter().next().unwrap_or_default();
        let mut row = row.into_iter();
        let oid = row.next().flatten().and_then(|oid| oid.parse().ok());
        self.search_path = row.next().flatten().unwrap_or_default();
        let missing = || ExecError::from(UserError::error("42P01", format!("relation \"{table}\" does not exist")));
        let oid: u32 = oid.ok_or_else(missing)?;
        self.query_sql("SET LOCAL search_path = pg_catalog").await?;
        let facts = self.facts(oid).await?.ok_or_else(missing)?;
        if facts.kind == 'r' {
            self.query_sql(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", facts.quoted)).await?;
        }
        // What was true before the lock may be no more.
        self.facts(oid).await?.ok_or_else(missing)
    }

    async fn facts(&mut self, oid: u32) -> Result<Option<Facts>, ExecError> {
        let answer = self.query_sql(&Facts::sql(oid)).await?;
        let Some(json) = answer.rows.into_iter().flatten().flatten().next() else { return Ok(None) };
        Facts::read(&json).map(Some).map_err(|error| {
            tracing::error!(%error, "facts of a table cannot be read");
            UserError::error("XX000", error.to_string()).into()
        })
    }

    async fn colocation(
        &mut self,
        key_type: &str,
        colocate_with: &ColocateWith,
        bucket_count: Option<u32>,
    ) -> Result<Colocation, ExecError> {
        let id = match colocate_with {
            ColocateWith::Default => {
                ensure_colocation(&self.session.worker.config.coordinators, key_type, bucket_count, None).await?
            }
            ColocateWith::None => {
                let key = entropy::hex::<16>();
                ensure_colocation(&self.session.worker.config.coordinators, key_type, bucket_count, Some(&key)).await?
            }
            ColocateWith::Table(other) => self.colocation_of(other, key_type).await?,
        };
        let buckets = super::placement(self.session, id).await?;
        Ok(Colocation { id, key_type: key_type.to_owned(), buckets })
    }

    async fn colocation_of(&mut self, table: &str, key_type: &str) -> Result<ColocationId, ExecError> {
        let path = self.search_path.clone();
        let sql = format!(
            "SELECT set_config('search_path', {}, true); SELECT to_regclass({})::oid; SET LOCAL search_path = pg_catalog",
            literal(&path),
            literal(table)
        );
        let oid = self.query_sql(&sql).await?.rows.into_iter().nth(1).unwrap_or_default().into_iter().flatten().next();
        let sql = format!(
            "SELECT colocation, key_type FROM howdah.catalog WHERE relation = '{}'::oid AND kind = 'distributed'",
            oid.unwrap_or_else(|| "0".to_owned())
        );
        let row = self.query_sql(&sql).await?.rows.into_iter().next().unwrap_or_default();
        let [Some(id), Some(their_type)] = &row[..] else {
            return Err(UserError::error("42P01", format!("relation \"{table}\" is not distributed")).into());
        };
        if their_type != key_type {
            let message =
                format!("cannot colocate tables: the distribution column of \"{table}\" is of type {their_type}");
            return Err(UserError::error("42804", message)
                .hint(format!("Distribute by a column of type {their_type}."))
                .into());
        }
        Ok(ColocationId(id.parse().unwrap_or(0)))
    }

    /// Tables on the shards, rows, then what is built over rows.
    async fn make_copies(
        &mut self,
        facts: &Facts,
        ddl: Vec<(GroupId, ShardDdl)>,
        rows: Rows<'_>,
    ) -> Result<(), ExecError> {
        let shards: Vec<GroupId> = ddl.iter().map(|(shard, _)| shard.clone()).collect();
        super::join_all(self.session, &shards, true).await?;
        let script = |statements: &[String]| format!("SET LOCAL search_path = pg_catalog; {}", statements.join(";\n"));
        self.each_shard(ddl.iter().map(|(shard, ddl)| (shard.clone(), script(&ddl.before))).collect()).await?;
        move_rows::out(self.session, facts, &rows, &shards, &self.query, self.catalog).await?;
        self.each_shard(ddl.iter().map(|(shard, ddl)| (shard.clone(), script(&ddl.after))).collect()).await
    }

    async fn enter(
        &mut self,
        facts: &Facts,
        kind: &str,
        key: Option<&str>,
        colocation: ColocationId,
        shards: &[&str],
    ) -> Result<(), ExecError> {
        let key = key.map_or_else(|| "NULL".to_owned(), literal);
        let shards: Vec<String> = shards.iter().map(|shard| literal(shard)).collect();
        let sql = format!(
            "SELECT howdah.enter_table({}::regclass, '{kind}', {key}, {colocation}, ARRAY[{}]::text[])",
            literal(&facts.quoted),
            shards.join(", ")
        );
        self.query_sql(&sql).await.map(drop)
    }

    /// Gives the session its `search_path` back, everywhere.
    async fn done(&mut self) -> Result<(), ExecError> {
        let sql = format!("SELECT set_config('search_path', {}, true)", literal(&self.search_path));
        let joined = self.session.participants.iter().filter(|participant| participant.joined);
        let groups: Vec<GroupId> = joined.map(|participant| participant.group().clone()).collect();
        self.on_shards(&groups, &sql).await
    }

    /// Every shard must have what is propagated before it gets its first bucket.
    async fn wait_until_ready(&mut self, shards: &[GroupId]) -> Result<(), ExecError> {
        super::reference::wait_until_ready(self.session, shards, self.catalog).await
    }

    async fn query_sql(&mut self, sql: &str) -> Result<ask::Answer, ExecError> {
        let server = super::server(&mut self.session.participants, &self.query);
        ask::one(server, sql).await.map_err(|error| ExecError::call(&self.query, error, self.catalog))
    }

    async fn on_shards(&mut self, shards: &[GroupId], sql: &str) -> Result<(), ExecError> {
        self.each_shard(shards.iter().map(|shard| (shard.clone(), sql.to_owned())).collect()).await
    }

    async fn each_shard(&mut self, scripts: Vec<(GroupId, String)>) -> Result<(), ExecError> {
        super::each(self.session, scripts, self.catalog).await
    }
}
