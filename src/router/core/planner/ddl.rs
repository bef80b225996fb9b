//! DDL and the other utility statements: what touches distributed or reference tables runs everywhere
//! where the same text is right everywhere, and is refused where it is not.

use super::{Input, Refused, Survey, alter, survey::name_of};
use crate::router::core::{
    catalog::Table,
    lexer,
    plan::{Ddl, DdlKind, Effect, Local, PinReason, Plan, Probe, Refusal},
    sql::{GrantTargetType, Node, ObjectType, Statement, names, nodes},
};

/// The plan of a utility statement.
pub fn plan<'a>(input: &Input<'a>, statement: &Statement<'a>, node: Node<'a>) -> Result<Plan, Refused> {
    match node {
        Node::CreateStmt(create) => return create_table(input, create),
        Node::DropStmt(drop) => return drop_objects(input, statement, drop),
        Node::TruncateStmt(truncate) => {
            let vars = truncate.relations().iter().map(|node| match node {
                Node::RangeVar(var) => (var.schemaname(), var.relname()),
                _ => (None, None),
            });
            return all_or_none(input, statement, vars, DdlKind::Truncate);
        }
        Node::IndexStmt(index) => return create_index(input, statement, index),
        Node::AlterTableStmt(alter) => return alter::table(input, statement, alter),
        Node::RenameStmt(rename) => return alter::rename(input, statement, rename),
        Node::VacuumStmt(vacuum) if !vacuum.is_vacuumcmd => return analyze(input, statement, vacuum),
        // Of everything: on every group, whatever the catalog knows.
        Node::VacuumStmt(vacuum) if vacuum.rels().iter().next().is_none() => {
            return Ok(everywhere(statement, DdlKind::Vacuum, Vec::new()));
        }
        // The other targets' objects are no tables: names of schemas.
        Node::GrantStmt(grant) if grant.targtype != GrantTargetType::ACL_TARGET_OBJECT => {
            return Ok(everywhere(statement, DdlKind::Propagate, Vec::new()));
        }
        Node::GrantStmt(grant) if grant.objtype == ObjectType::OBJECT_TABLE => {
            let vars = grant.objects().iter().map(|var| (var.schemaname(), var.relname()));
            let plan = all_or_none(input, statement, vars, DdlKind::Everywhere)?;
            return Ok(if matches!(plan, Plan::Local(_)) { by_name(node) } else { plan });
        }
        Node::CommentStmt(comment) => return comment_on(input, statement, comment),
        Node::CreateRoleStmt(_)
        | Node::AlterRoleStmt(_)
        | Node::AlterRoleSetStmt(_)
        | Node::DropRoleStmt(_)
        | Node::GrantRoleStmt(_)
        | Node::CreateExtensionStmt(_)
        | Node::CreateEnumStmt(_)
        | Node::AlterEnumStmt(_)
        | Node::CompositeTypeStmt(_)
        | Node::CreateDomainStmt(_) => return Ok(everywhere(statement, DdlKind::Propagate, Vec::new())),
        Node::CreateSchemaStmt(schema) if schema.schema_elts().is_empty() => {
            return Ok(everywhere(statement, DdlKind::Propagate, Vec::new()));
        }
        Node::ViewStmt(view) => {
            refuse_query(input, view.query(), "a view")?;
            return Ok(created(view.view()));
        }
        Node::CreateTableAsStmt(create) => {
            if !matches!(create.query(), Node::ExecuteStmt(_)) {
                refuse_query(input, create.query(), "CREATE TABLE AS")?;
            }
            return Ok(created(create.into().and_then(nodes::IntoClause::rel)));
        }
        Node::CreateSeqStmt(create) => return Ok(created(create.sequence())),
        // Bodies are strings; what they read is found out when they run.
        Node::CreateFunctionStmt(create) if matches!(create.sql_body(), Node::None) => return Ok(schema_change()),
        _ => {}
    }
    // The tree of any other statement is not looked into: a word that is a table's name is enough.
    match mentioned(input, statement) {
        Some(table) => Err(Refusal::unsupported(
            format!("this statement is not supported on distributed or reference table \"{}\"", table.name.name),
            "Run it before the table is distributed, or on each shard directly.",
        )
        .into()),
        None => Ok(by_name(node)),
    }
}

/// A local statement that works on relations by name where neither plans nor triggers notice it.
fn by_name(node: Node<'_>) -> Plan {
    let vars: Vec<Option<&nodes::RangeVar>> = match node {
        Node::LockStmt(lock) => lock.relations().iter().map(as_var).collect(),
        Node::VacuumStmt(vacuum) => vacuum.rels().iter().map(nodes::VacuumRelation::relation).collect(),
        Node::ClusterStmt(cluster) => vec![cluster.relation()],
        Node::ReindexStmt(reindex) => vec![reindex.relation()],
        Node::GrantStmt(grant) if grant.objtype == ObjectType::OBJECT_TABLE => {
            grant.objects().iter().map(Some).collect()
        }
        _ => Vec::new(),
    };
    let unguarded = vars.into_iter().flatten().filter_map(name_of).map(Probe::Name).collect();
    let effects = if matches!(node, Node::LockStmt(_)) { Vec::new() } else { vec![Effect::SchemaChange] };
    Plan::Local(Local { effects, read_only: false, unguarded })
}

fn as_var(node: Node<'_>) -> Option<&nodes::RangeVar> {
    if let Node::RangeVar(var) = node { Some(var) } else { None }
}

/// A local change of schema.
pub fn schema_change() -> Plan {
    Plan::Local(Local { effects: vec![Effect::SchemaChange], ..Local::default() })
}

/// The statement, run everywhere.
pub fn everywhere(statement: &Statement<'_>, kind: DdlKind, tables: Vec<&Table>) -> Plan {
    let tables = tables.into_iter().map(|table| table.name.clone()).collect();
    Plan::Ddl(Ddl { text: statement.sql().to_owned(), kind, tables })
}

/// A relation was created in the query group.
fn created(var: Option<&nodes::RangeVar>) -> Plan {
    let mut effects = vec![Effect::SchemaChange];
    let temporary = var.is_some_and(|var| {
        u8::try_from(var.relpersistence) == Ok(b't') || var.schemaname().is_some_and(|name| name == "pg_temp")
    });
    if temporary {
        effects.push(Effect::Pin(PinReason::Temporary));
    }
    Plan::Local(Local { effects, ..Local::default() })
}

/// Its query may not read what is not in the query group.
fn refuse_query<'a>(input: &Input<'a>, query: Node<'a>, what: &str) -> Result<(), Refused> {
    if Survey::of(input, query).named {
        let reads_ours = match query {
            Node::SelectStmt(select) => {
                let mut built = super::Builder::new(input);
                built.select(select)?;
                super::route::has_distributed(&built)
            }
            _ => true,
        };
        if reads_ours {
            return Err(Refusal::unsupported(
                format!("{what} over distributed tables is not supported"),
                "For a table: create it first, then INSERT … SELECT. For a view: put its query into the statements.",
            )
            .into());
        }
    }
    Ok(())
}

/// A distributed or reference table whose name stands in the statement as a word.
fn mentioned<'a>(input: &Input<'a>, statement: &Statement<'a>) -> Option<&'a Table> {
    if input.catalog.is_empty() {
        return None;
    }
    let text = &statement.text[..statement.end];
    let mut at = statement.start;
    loop {
        at = lexer::skip_space(text, at);
        if at >= text.len() {
            return None;
        }
        let end = lexer::token_end(text, at);
        let word = &text[at..end];
        let name = match word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => word.to_ascii_lowercase(),
        };
        if let Some(table) = input.catalog.tables().find(|table| table.name.name == name) {
            return Some(table);
        }
        at = end;
    }
}

fn create_table(input: &Input<'_>, create: &nodes::CreateStmt) -> Result<Plan, Refused> {
    let ours = |var: &nodes::RangeVar| {
        input.table(var.schemaname(), var.relname().unwrap_or_default()).filter(|table| table.distribution().is_some())
    };
    for node in create.inh_relations() {
        if let Node::RangeVar(var) = node
            && let Some(table) = input.table(var.schemaname(), var.relname().unwrap_or_default())
        {
            return Err(inherits(table));
        }
    }
    let column_constraints = create.table_elts().iter().flat_map(|element| match element {
        Node::ColumnDef(column) => column.constraints().iter().collect::<Vec<_>>(),
        other => vec![other],
    });
    for node in column_constraints {
        if let Node::Constraint(constraint) = node
            && let Some(table) = constraint.pktable().and_then(ours)
        {
            return Err(Refusal::unsupported(
                format!("a local table cannot reference distributed table \"{}\"", table.name.name),
                "Create the table without the foreign key and distribute it with colocate_with, or make the other one a \
                 reference table.",
            )
            .into());
        }
    }
    Ok(created(create.relation()))
}

fn inherits(table: &Table) -> Refused {
    Refusal::unsupported(
        format!(
            "a table cannot inherit from, or be a partition of, distributed or reference table \"{}\"",
            table.name.name
        ),
        "Distribute it as a table of its own.",
    )
    .into()
}

fn unqualified<'n>(parts: &[&'n str]) -> (Option<&'n str>, &'n str) {
    match parts {
        [name] => (None, name),
        [.., schema, name] => (Some(schema), name),
        [] => (None, ""),
    }
}

fn drop_objects(input: &Input<'_>, statement: &Statement<'_>, drop: &nodes::DropStmt) -> Result<Plan, Refused> {
    let parts: Vec<Vec<&str>> = drop
        .objects()
        .iter()
        .filter_map(|object| match object {
            Node::NodeList(list) => names(list),
            Node::String(name) => name.sval().map(|name| vec![name]),
            _ => None,
        })
        .collect();
    match drop.remove_type {
        ObjectType::OBJECT_TABLE => {
            let names = parts.iter().map(|parts| unqualified(parts)).map(|(schema, name)| (schema, Some(name)));
            all_or_none(input, statement, names, DdlKind::DropTables)
        }
        ObjectType::OBJECT_INDEX => {
            let tables: Vec<Option<&Table>> = parts
                .iter()
                .map(|parts| unqualified(parts))
                .map(|(schema, name)| input.catalog.table_of_index(schema, name, input.search_path))
                .collect();
            if drop.concurrent && tables.iter().any(Option::is_some) {
                return Err(Refusal::unsupported(
                    "DROP INDEX CONCURRENTLY is not supported on distributed and reference tables",
                    "Use DROP INDEX.",
                )
                .into());
            }
            together(statement, tables, DdlKind::Everywhere)
        }
        ObjectType::OBJECT_SCHEMA => {
            let inside =
                input.catalog.tables().find(|table| parts.iter().any(|name| name == &[table.name.schema.as_str()]));
            match inside {
                Some(table) => Err(Refusal::unsupported(
                    format!(
                        "schema \"{}\" holds distributed or reference table \"{}\"",
                        table.name.schema, table.name.name
                    ),
                    "Drop its distributed and reference tables first.",
                )
                .into()),
                None => Ok(everywhere(statement, DdlKind::Propagate, Vec::new())),
            }
        }
        ObjectType::OBJECT_TYPE | ObjectType::OBJECT_DOMAIN | ObjectType::OBJECT_EXTENSION => {
            Ok(everywhere(statement, DdlKind::Propagate, Vec::new()))
        }
        _ => Ok(schema_change()),
    }
}

/// Names of tables that are either all ours or none.
fn all_or_none<'n>(
    input: &Input<'_>,
    statement: &Statement<'_>,
    names: impl Iterator<Item = (Option<&'n str>, Option<&'n str>)>,
    kind: DdlKind,
) -> Result<Plan, Refused> {
    let tables = names.map(|(schema, name)| input.table(schema, name.unwrap_or_default())).collect();
    together(statement, tables, kind)
}

/// Tables that are either all ours or none.
fn together(statement: &Statement<'_>, tables: Vec<Option<&Table>>, kind: DdlKind) -> Result<Plan, Refused> {
    let count = tables.len();
    let ours: Vec<&Table> = tables.into_iter().flatten().collect();
    match ours.len() {
        0 => Ok(schema_change()),
        found if found == count => Ok(everywhere(statement, kind, ours)),
        _ => Err(Refusal::unsupported(
            "the statement names local tables together with distributed or reference tables",
            "Use one statement for each kind.",
        )
        .into()),
    }
}

fn create_index(input: &Input<'_>, statement: &Statement<'_>, index: &nodes::IndexStmt) -> Result<Plan, Refused> {
    let Some(var) = index.relation() else { return Ok(schema_change()) };
    let Some(table) = input.table(var.schemaname(), var.relname().unwrap_or_default()) else {
        return Ok(schema_change());
    };
    if index.concurrent || !var.inh {
        return Err(Refusal::unsupported(
            format!("CREATE INDEX CONCURRENTLY, or ON ONLY, is not supported on table \"{}\"", table.name.name),
            "Use CREATE INDEX: it holds writes while it builds, on all shards at once.",
        )
        .into());
    }
    let key = table.key_column().map(|column| column.name.as_str());
    if index.unique && key.is_some() && !index.index_params().iter().any(|element| element.name() == key) {
        return Err(Refusal::unsupported(
            format!(
                "a unique index on distributed table \"{}\" must contain its distribution column \"{}\"",
                table.name.name,
                key.unwrap_or_default()
            ),
            "Add the distribution column to the index.",
        )
        .into());
    }
    Ok(everywhere(statement, DdlKind::Everywhere, vec![table]))
}

fn analyze(input: &Input<'_>, statement: &Statement<'_>, vacuum: &nodes::VacuumStmt) -> Result<Plan, Refused> {
    let tables: Vec<Option<&Table>> = vacuum
        .rels()
        .iter()
        .map(|relation| relation.relation())
        .map(|var| input.table(var?.schemaname(), var?.relname()?))
        .collect();
    // Of everything: the shards too, and not the shells, which are guarded.
    if tables.is_empty() && !input.catalog.is_empty() {
        return Ok(everywhere(statement, DdlKind::Everywhere, Vec::new()));
    }
    if tables.iter().all(Option::is_none) {
        return Ok(Plan::Local(Local::default()));
    }
    together(statement, tables, DdlKind::Everywhere)
}

fn comment_on(input: &Input<'_>, statement: &Statement<'_>, comment: &nodes::CommentStmt) -> Result<Plan, Refused> {
    let parts = comment.object().as_node_list().and_then(names).unwrap_or_default();
    let table = match (comment.objtype, parts.as_slice()) {
        (ObjectType::OBJECT_TABLE, parts) => Some(unqualified(parts)),
        (ObjectType::OBJECT_COLUMN, [table @ .., _column]) => Some(unqualified(table)),
        _ => None,
    };
    let tables = vec![table.and_then(|(schema, name)| input.table(schema, name))];
    together(statement, tables, DdlKind::Everywhere)
}
