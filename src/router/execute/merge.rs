//! Partial rows from the shards, merged by the query group's PostgreSQL: exactly its semantics for
//! numeric, collations, ORDER BY and the rest. Called by [`super::scatter`].
//!
//! Few rows go as array parameters of the final query; beyond a limit they are spooled to a temporary
//! table by changing one byte of each message.

use super::{
    Ask, ask,
    error::ExecError,
    fan::{Fan, Progress, Take},
    scatter::{Output, fan_error},
};
use crate::{
    model::ids::GroupId,
    router::{
        core::{
            catalog::Catalog,
            merge::{
                Arrays, COPY_HEADER, COPY_TRAILER, PARAMETER_LIMIT, PartialColumn, from_arrays, from_table,
                table_columns,
            },
            plan::{Scatter, Template},
            protocol::{frontend, read::Reader},
            request::{Param, Request},
        },
        pool::server::{Lost, Server, ServerError},
        session::Session,
    },
};

/// Where spooled rows are. One at a time: a statement has one set of partial rows.
const TABLE: &str = "pg_temp.howdah_partial";

/// Partial rows above this are refused where no temporary table may be made (read-only transactions):
/// they would be held in memory by the router and by PostgreSQL.
const READ_ONLY_LIMIT: usize = 32 * PARAMETER_LIMIT;

/// Runs the shards' statement `sql`, then the final query over what comes.
#[expect(clippy::too_many_arguments, reason = "one caller, and all of it is the statement")]
pub async fn run(
    session: &mut Session,
    groups: &[GroupId],
    sql: String,
    plan: &Scatter,
    (query, columns): (&Template, u16),
    ask: &Ask,
    catalog: &Catalog,
    output: &mut Output<'_>,
) -> Result<(), ExecError> {
    let coordinator = session.query_group()?;
    super::join_all(session, std::slice::from_ref(&coordinator), false).await?;
    let mut request = Request::new(sql, &plan.shard.params, &ask.params, &[]);
    let carried =
        describe(session, groups, &request, columns, catalog).await.map_err(|error| error.abandoning(groups))?;
    request.formats = carried.iter().map(PartialColumn::format).collect();
    let spooled = collect(session, groups, &coordinator, &request, &carried, catalog).await?;
    let given = ask.params.len();
    let (item, mut params) = match &spooled {
        Collected::Arrays(_) => (from_arrays(&carried, given + 1), ask.params.clone()),
        Collected::Table => (from_table(&carried, TABLE), ask.params.clone()),
    };
    let mut used: Vec<u16> = query.params.clone();
    if let Collected::Arrays(arrays) = spooled {
        for (at, array) in arrays.finish().into_iter().enumerate() {
            // The type comes from the cast in the text.
            params.push(Param { type_oid: 0, binary: true, value: Some(array) });
            used.push(u16::try_from(given + at + 1).expect("as many as columns and parameters"));
        }
    }
    let mut text = String::new();
    let type_of = |number: u16| carried.get(usize::from(number) - 1).map_or("text", |column| column.type_name.as_str());
    query.render_final(None, &item, &type_of, &mut text);
    let last = Request::new(text, &used, &params, &ask.formats);
    let count = super::scatter::pass(session, vec![(coordinator.clone(), last)], ask, catalog, output).await;
    let dropped = drop_table(session, &coordinator, &item, count.is_ok(), catalog).await;
    output.complete(session, plan.command, count?);
    dropped
}

/// A temporary table goes as soon as it is read, or with the failed transaction.
async fn drop_table(
    session: &mut Session,
    group: &GroupId,
    item: &str,
    succeeded: bool,
    catalog: &Catalog,
) -> Result<(), ExecError> {
    let server = super::server(&mut session.participants, group);
    if !item.contains(TABLE) || (!succeeded && server.status != b'I') {
        return Ok(());
    }
    let dropped = ask::one(server, &format!("DROP TABLE {TABLE}")).await;
    dropped.map(|_| ()).map_err(|error| ExecError::call(group, error, catalog))
}

/// Prepares the statement on every shard, and learns what its columns are.
async fn describe(
    session: &mut Session,
    groups: &[GroupId],
    request: &Request,
    columns: u16,
    catalog: &Catalog,
) -> Result<Vec<PartialColumn>, ExecError> {
    for group in groups {
        let server = super::server(&mut session.participants, group);
        server.prepared.unnamed = None;
        request.parse(true, &mut server.output);
        frontend::sync(&mut server.output);
        server.send().await.map_err(|lost| ExecError::lost(group, lost))?;
    }
    let (mut types, mut refused) = (None, None);
    for group in groups {
        let server = super::server(&mut session.participants, group);
        loop {
            let frame = server.message().await.map_err(|lost| ExecError::lost(group, lost))?;
            match frame.tag {
                b'T' => types = read_types(frame.body()),
                b'E' => refused = Some(super::error::in_user_names(&ServerError(frame.shared_body()), catalog)),
                b'Z' => break,
                _ => {}
            }
        }
    }
    if let Some(error) = refused {
        return Err(ExecError::Refused(error));
    }
    let (last, types) = (groups.last(), types.filter(|types| types.len() == usize::from(columns)));
    let (Some(last), Some(types)) = (last, types) else {
        return Err(ExecError::lost(&groups[0], Lost::Protocol("partial rows of another shape than planned")));
    };
    let mut carried = Vec::with_capacity(types.len());
    for type_oid in types {
        carried.push(match PartialColumn::simple(type_oid) {
            Some(column) => column,
            // The OID is the last shard's, and so is the name; the unnamed statement goes, and comes again.
            None => type_name(session, last, type_oid, request, catalog).await?,
        });
    }
    Ok(carried)
}

async fn type_name(
    session: &mut Session,
    group: &GroupId,
    type_oid: u32,
    request: &Request,
    catalog: &Catalog,
) -> Result<PartialColumn, ExecError> {
    let server = super::server(&mut session.participants, group);
    let sql = format!("SELECT format_type({type_oid}, -1)");
    let answer = ask::one(server, &sql).await.map_err(|error| ExecError::call(group, error, catalog))?;
    request.parse(false, &mut server.output);
    let name = answer.rows.into_iter().flatten().flatten().next();
    Ok(PartialColumn::as_text(name.unwrap_or_else(|| "text".to_owned())))
}

/// Type OIDs of a `RowDescription`.
fn read_types(body: &[u8]) -> Option<Vec<u32>> {
    let mut reader = Reader(body);
    let count = reader.int16().ok()?;
    let mut types = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        reader.text().ok()?;
        // Table, column.
        reader.bytes(6).ok()?;
        types.push(reader.uint32().ok()?);
        // Length, modifier, format.
        reader.bytes(8).ok()?;
    }
    Some(types)
}

enum Collected {
    Arrays(Arrays),
    Table,
}

/// Runs the prepared statement everywhere and keeps the rows.
async fn collect(
    session: &mut Session,
    groups: &[GroupId],
    coordinator: &GroupId,
    request: &Request,
    carried: &[PartialColumn],
    catalog: &Catalog,
) -> Result<Collected, ExecError> {
    let may_spool = !session.is_read_only();
    let Session { client, participants, .. } = session;
    let (mut names, mut servers, mut spool) = (Vec::new(), Vec::new(), None);
    for participant in participants.iter_mut() {
        if groups.contains(participant.group()) {
            request.bind_and_execute(false, &mut participant.server.output);
            names.push(participant.group().clone());
            servers.push(&mut participant.server);
        } else if participant.group() == coordinator {
            spool = Some(participant);
        }
    }
    let spool = spool.expect("the query group has joined, and is no shard");
    let mut arrays = Arrays::new(carried.iter().map(PartialColumn::carried_oid));
    let mut fan = Fan::new(servers, catalog);
    let failed = |error| fan_error(error, &names);
    let limit = if may_spool { PARAMETER_LIMIT } else { READ_ONLY_LIMIT };
    let take = Take::Collect { arrays: &mut arrays, limit };
    if fan.run(client, take).await.map_err(failed)? == Progress::Done {
        return Ok(Collected::Arrays(arrays));
    }
    if let Err(error) = begin_spool(&mut spool.server, coordinator, carried, catalog).await {
        return Err(ExecError::Abandoned(groups.to_vec(), Box::new(error)));
    }
    spool.wrote = true;
    frontend::copy_data(&mut spool.server.output, &arrays.into_rows());
    let spooled = fan.run(client, Take::Spool(&mut spool.server)).await.map_err(failed);
    let ended = end_spool(&mut spool.server, coordinator, spooled.is_ok(), catalog).await;
    spooled?;
    ended.map(|()| Collected::Table)
}

async fn begin_spool(
    server: &mut Server,
    group: &GroupId,
    carried: &[PartialColumn],
    catalog: &Catalog,
) -> Result<(), ExecError> {
    let create = format!("CREATE TEMP TABLE {TABLE} ({})", table_columns(carried));
    ask::one(server, &create).await.map_err(|error| ExecError::call(group, error, catalog))?;
    frontend::query(&mut server.output, format!("COPY {TABLE} FROM STDIN (FORMAT binary)").as_bytes());
    let mut refused = None;
    loop {
        let frame = server.message().await.map_err(|lost| ExecError::lost(group, lost))?;
        match frame.tag {
            b'G' => break,
            b'E' => refused = Some(ServerError(frame.shared_body())),
            b'Z' => {
                return Err(refused
                    .map_or_else(|| ExecError::lost(group, Lost::Protocol("COPY did not begin")), ExecError::Refused));
            }
            _ => {}
        }
    }
    frontend::copy_data(&mut server.output, COPY_HEADER);
    Ok(())
}

async fn end_spool(server: &mut Server, group: &GroupId, succeeded: bool, catalog: &Catalog) -> Result<(), ExecError> {
    if succeeded {
        frontend::copy_data(&mut server.output, COPY_TRAILER);
        frontend::copy_done(&mut server.output);
    } else {
        frontend::copy_fail(&mut server.output, "a shard failed");
    }
    ask::read(server).await.map(|_| ()).map_err(|error| ExecError::call(group, error, catalog))
}
