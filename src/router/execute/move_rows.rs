//! The rows of a table on their way between the query group and the shards, as COPY streams within the
//! session's transaction. Called by [`super::distribute`].

use bytes::Bytes;

use super::{
    copy_in::CopyInto,
    error::{ExecError, in_user_names},
    fan::HIGH_WATER,
};
use crate::{
    model::{ids::GroupId, map::Colocation},
    router::{
        core::{
            catalog::{Catalog, TableName, quote_name},
            copy_split::Splitter,
            distribute::Facts,
            error::UserError,
            hash::{KeyType, row_hash},
            plan::{CopyFormat, CopyIn, CopyKey},
            protocol::{frame::Frame, frontend},
        },
        pool::server::{Lost, Server, ServerError},
        session::{Participant, Session},
    },
};

/// Which rows go where.
pub enum Rows<'a> {
    /// By their key.
    ByKey {
        /// Distribution column.
        column: &'a str,
        /// Its type.
        key: KeyType,
        /// Where buckets are.
        colocation: &'a Colocation,
    },
    /// All of them to every shard.
    Everywhere,
}

/// Copies the rows of a local table to its copies on the shards, which have joined.
pub async fn out(
    session: &mut Session,
    facts: &Facts,
    rows: &Rows<'_>,
    shards: &[GroupId],
    query: &GroupId,
    catalog: &Catalog,
) -> Result<(), ExecError> {
    // No shard is ready yet: each gets the rows when it is prepared.
    if shards.is_empty() {
        return Ok(());
    }
    let participants = &mut session.participants[..];
    let busy = |error: ExecError| ExecError::Abandoned([shards, std::slice::from_ref(query)].concat(), Box::new(error));
    let columns = facts.copied_columns().join(", ");
    let options = options(facts);
    let select = format!("COPY (SELECT {columns} FROM ONLY {}) TO STDOUT {options}", facts.quoted);
    match rows {
        Rows::Everywhere => pipe(participants, query, shards, &select, facts, catalog).await.map_err(busy),
        Rows::ByKey { key, column, colocation } if splits(*key) && facts.copies_in_binary() => {
            split(participants, facts, (column, *key, colocation), shards, query, catalog).await.map_err(busy)
        }
        Rows::ByKey { key, column, colocation } => {
            for shard in shards {
                let select = format!(
                    "COPY (SELECT {columns} FROM ONLY {} WHERE {} = ANY ('{{{}}}')) TO STDOUT {options}",
                    facts.quoted,
                    bucket_sql(*key, column, colocation.buckets.len()),
                    buckets(colocation, shard)
                );
                let to = std::slice::from_ref(shard);
                pipe(participants, query, to, &select, facts, catalog).await.map_err(busy)?;
            }
            Ok(())
        }
    }
}

/// Copies a shard's rows back into the query group's table.
pub async fn back(
    session: &mut Session,
    facts: &Facts,
    shard: &GroupId,
    query: &GroupId,
    catalog: &Catalog,
) -> Result<(), ExecError> {
    let columns = facts.copied_columns().join(", ");
    let select = format!("COPY (SELECT {columns} FROM {}) TO STDOUT {}", facts.quoted, options(facts));
    let piped = pipe(&mut session.participants, shard, std::slice::from_ref(query), &select, facts, catalog).await;
    piped.map_err(|error| ExecError::Abandoned(vec![shard.clone(), query.clone()], Box::new(error)))
}

fn options(facts: &Facts) -> &'static str {
    if facts.copies_in_binary() { "(FORMAT binary)" } else { "(FORMAT text)" }
}

/// Types whose binary form the router hashes itself, always.
fn splits(key: KeyType) -> bool {
    !matches!(key, KeyType::Char | KeyType::Float4 | KeyType::Float8 | KeyType::Inet | KeyType::Interval)
}

fn buckets(colocation: &Colocation, shard: &GroupId) -> String {
    let numbers = colocation.buckets.iter().enumerate().filter(|(_, holder)| *holder == shard);
    numbers.map(|(bucket, _)| bucket.to_string()).collect::<Vec<_>>().join(",")
}

/// The bucket as PostgreSQL computes it: the hash, as unsigned, plus the constant that
/// `hash_combine64(0, hash)` adds.
fn bucket_sql(key: KeyType, column: &str, bucket_count: usize) -> String {
    const WRAP: &str = "18446744073709551616";
    let hash = key.ask_sql(None).replacen("SELECT ", "", 1).replace("$1", &quote_name(column));
    format!("mod(mod({hash}::numeric + {WRAP} + {}, {WRAP}), {bucket_count})::int", row_hash(0))
}

/// Sends rows to several servers as they come from one.
async fn pipe(
    participants: &mut [Participant],
    from: &GroupId,
    to: &[GroupId],
    select: &str,
    facts: &Facts,
    catalog: &Catalog,
) -> Result<(), ExecError> {
    let plan = copy_plan(facts, None);
    let mut copy = CopyInto::new(&plan, catalog, to, &[]);
    copy.begin(participants, &copy_text(facts)).await?;
    let mut source = Source::begin(participants, from, select).await?;
    while let Some(data) = source.next(participants, catalog).await? {
        copy.everywhere(participants, &data);
        copy.settle(participants, HIGH_WATER).await?;
    }
    copy.finish(participants, from).await.map(drop)
}

/// Sends each row to the shard of its key.
async fn split(
    participants: &mut [Participant],
    facts: &Facts,
    (column, key, colocation): (&str, KeyType, &Colocation),
    shards: &[GroupId],
    query: &GroupId,
    catalog: &Catalog,
) -> Result<(), ExecError> {
    let copied = facts.columns.iter().filter(|column| column.generated.is_none());
    let field = copied.into_iter().position(|known| known.name == column).unwrap_or(0);
    let bucket_count = u32::try_from(colocation.buckets.len()).expect("a colocation group has at most 1,024 buckets");
    let (colocation_id, name) = (colocation.id, column.to_owned());
    let key = CopyKey { colocation: colocation_id, bucket_count, field, column: name, key, stored: None };
    let plan = copy_plan(facts, Some(key));
    let mut copy = CopyInto::new(&plan, catalog, shards, &colocation.buckets);
    copy.begin(participants, &copy_text(facts)).await?;
    let mut splitter = Splitter::new(CopyFormat::Binary, field);
    let mut source = Source::begin(
        participants,
        query,
        &format!(
            "COPY (SELECT {} FROM ONLY {}) TO STDOUT (FORMAT binary)",
            facts.copied_columns().join(", "),
            facts.quoted
        ),
    )
    .await?;
    while let Some(data) = source.next(participants, catalog).await? {
        splitter.push(&data);
        copy.route_known(&mut splitter, participants)?;
        copy.settle(participants, HIGH_WATER).await?;
    }
    copy.finish(participants, query).await.map(drop)
}

fn copy_text(facts: &Facts) -> String {
    format!("COPY {} ({}) FROM STDIN {}", facts.quoted, facts.copied_columns().join(", "), options(facts))
}

fn copy_plan(facts: &Facts, key: Option<CopyKey>) -> CopyIn {
    CopyIn {
        table: TableName::new(&facts.schema, &facts.name),
        columns: Vec::new(),
        key,
        format: CopyFormat::Binary,
        text: String::new(),
    }
}

/// A COPY TO STDOUT being read.
struct Source {
    group: GroupId,
}

impl Source {
    async fn begin(participants: &mut [Participant], group: &GroupId, select: &str) -> Result<Self, ExecError> {
        let server = super::server(participants, group);
        frontend::query(&mut server.output, select.as_bytes());
        server.send().await.map_err(|lost| ExecError::lost(group, lost))?;
        Ok(Self { group: group.clone() })
    }

    /// The next data; `None` at the end.
    async fn next(&mut self, participants: &mut [Participant], catalog: &Catalog) -> Result<Option<Bytes>, ExecError> {
        let server = super::server(participants, &self.group);
        let mut refused = None;
        loop {
            let message = read(server, &self.group).await?;
            match message.tag {
                b'd' => return Ok(Some(message.shared_body())),
                b'E' => refused = Some(in_user_names(&ServerError(message.shared_body()), catalog)),
                b'Z' => return refused.map_or(Ok(None), |error| Err(ExecError::Refused(error))),
                b'G' => return Err(ExecError::lost(&self.group, Lost::Protocol("COPY in the wrong direction"))),
                _ => {}
            }
        }
    }
}

async fn read(server: &mut Server, group: &GroupId) -> Result<Frame, ExecError> {
    server.message().await.map_err(|lost| ExecError::lost(group, lost))
}

/// A row whose key cannot be hashed here, though its type can.
pub fn cannot_hash(table: &str) -> ExecError {
    UserError::error("XX000", format!("a row of \"{table}\" has a key that cannot be hashed")).into()
}
