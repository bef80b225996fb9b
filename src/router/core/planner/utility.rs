//! What is not a query: transactions, settings, PREPARE, EXPLAIN, LISTEN, … DDL and COPY have files of
//! their own. Called by the planner.

use super::{Input, Refused, copy, ddl, plan_node};
use crate::router::core::{
    catalog::quote_name,
    hash::KeyType,
    lexer,
    plan::{Effect, Explain, Local, PinReason, Plan, Prepare, Refusal, TransactionModes},
    sql::{self, ConstValue, Node, Statement, TransactionStmtKind, VariableSetKind, location, nodes},
};

/// A statement of the query group with one effect.
pub fn local(effect: Effect) -> Plan {
    Plan::Local(Local { effects: vec![effect], ..Local::default() })
}

/// The plan of a statement that is no query.
pub fn plan<'a>(input: &Input<'a>, statement: &Statement<'a>, node: Node<'a>) -> Result<Plan, Refused> {
    Ok(match node {
        Node::TransactionStmt(transaction) => local(transaction_effect(transaction)),
        Node::VariableSetStmt(set) => set_plan(statement, set),
        Node::VariableShowStmt(show) if show.name() == Some("howdah.tier") => Plan::ShowTier,
        Node::VariableShowStmt(_) => Plan::Local(Local { read_only: true, ..Local::default() }),
        Node::ExplainStmt(explain) => return explain_plan(input, statement, explain),
        Node::PrepareStmt(prepare) => return prepare_plan(input, statement, prepare),
        Node::ExecuteStmt(execute) => local(Effect::Execute {
            name: execute.name().unwrap_or_default().to_owned(),
            arguments: execute.params().iter().map(expression).collect::<Option<_>>().unwrap_or_default(),
        }),
        Node::DeallocateStmt(deallocate) => {
            local(Effect::Deallocate(deallocate.name().filter(|_| !deallocate.isall).map(str::to_owned)))
        }
        Node::DiscardStmt(discard) => local(Effect::Discard(match discard.target {
            sql::DiscardMode::DISCARD_PLANS => "plans",
            sql::DiscardMode::DISCARD_SEQUENCES => "sequences",
            sql::DiscardMode::DISCARD_TEMP => "temp",
            _ => "all",
        })),
        Node::ListenStmt(listen) => local(Effect::Listen(listen.conditionname().unwrap_or_default().to_owned())),
        Node::UnlistenStmt(unlisten) => local(Effect::Unlisten(unlisten.conditionname().map(str::to_owned))),
        Node::CopyStmt(stmt) => return copy::plan(input, statement, stmt),
        Node::DeclareCursorStmt(declare) => return cursor(input, statement, declare),
        Node::LoadStmt(_) => local(Effect::Pin(PinReason::SessionState)),
        Node::DoStmt(_) | Node::CallStmt(_) => local(Effect::Pin(PinReason::Unknown)),
        Node::NotifyStmt(_)
        | Node::FetchStmt(_)
        | Node::ClosePortalStmt(_)
        | Node::CheckPointStmt(_)
        | Node::ConstraintsSetStmt(_) => Plan::Local(Local::default()),
        _ => return ddl::plan(input, statement, node),
    })
}

/// SQL of one expression.
fn expression(node: Node<'_>) -> Option<String> {
    super::expression::sql(node)
}

fn transaction_effect(transaction: &nodes::TransactionStmt) -> Effect {
    let name = || transaction.savepoint_name().unwrap_or_default().to_owned();
    match transaction.kind {
        TransactionStmtKind::TRANS_STMT_BEGIN | TransactionStmtKind::TRANS_STMT_START => {
            Effect::Begin(modes(transaction.options().iter()))
        }
        TransactionStmtKind::TRANS_STMT_COMMIT => Effect::Commit { chain: transaction.chain },
        TransactionStmtKind::TRANS_STMT_ROLLBACK => Effect::Rollback { chain: transaction.chain },
        TransactionStmtKind::TRANS_STMT_SAVEPOINT => Effect::Savepoint(name()),
        TransactionStmtKind::TRANS_STMT_RELEASE => Effect::Release(name()),
        TransactionStmtKind::TRANS_STMT_ROLLBACK_TO => Effect::RollbackTo(name()),
        _ => Effect::TwoPhase,
    }
}

fn modes<'a>(options: impl Iterator<Item = Node<'a>>) -> TransactionModes {
    let mut modes = TransactionModes::default();
    for option in options {
        let Node::DefElem(option) = option else { continue };
        let Node::A_Const(value) = option.arg() else { continue };
        match (option.defname(), value.val()) {
            (Some("transaction_isolation"), Some(ConstValue::String(level))) => {
                modes.isolation = Some(level.to_owned());
            }
            (Some("transaction_read_only"), Some(ConstValue::Integer(flag))) => modes.read_only = Some(flag != 0),
            (Some("transaction_deferrable"), Some(ConstValue::Integer(flag))) => modes.deferrable = Some(flag != 0),
            _ => {}
        }
    }
    modes
}

fn set_plan(statement: &Statement<'_>, set: &nodes::VariableSetStmt) -> Plan {
    let name = set.name().unwrap_or_default().to_ascii_lowercase();
    local(match set.kind {
        VariableSetKind::VAR_RESET_ALL => Effect::ResetAll,
        VariableSetKind::VAR_RESET => Effect::Reset { name },
        VariableSetKind::VAR_SET_MULTI if name == "transaction snapshot" => Effect::Pin(PinReason::SessionState),
        VariableSetKind::VAR_SET_MULTI => {
            Effect::SetTransaction { session: name == "session characteristics", modes: modes(set.args().iter()) }
        }
        VariableSetKind::VAR_SET_VALUE => {
            Effect::Set { name, value: Some(set_value(statement, set)), local: set.is_local }
        }
        _ => Effect::Set { name, value: None, local: set.is_local },
    })
}

/// The value as written.
fn set_value(statement: &Statement<'_>, set: &nodes::VariableSetStmt) -> String {
    let at = set.args().first().and_then(|node| match node {
        Node::A_Const(value) => location(value.location),
        // INTERVAL '…', whose location is the type's.
        Node::TypeCast(cast) => match cast.arg() {
            Node::A_Const(_) => cast.type_name().and_then(|name| location(name.location)),
            _ => None,
        },
        _ => None,
    });
    match at {
        Some(at) => statement.text[at..statement.end].to_owned(),
        None => set
            .args()
            .iter()
            .filter_map(|node| match node {
                Node::A_Const(value) => value.val().map(|value| match value {
                    ConstValue::String(text) => quote_name(text),
                    other => other.to_string(),
                }),
                _ => None,
            })
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// The statement that begins at `start` within another.
fn inner<'a>(statement: &Statement<'a>, start: usize, node: Node<'a>) -> Statement<'a> {
    Statement { start, node, ..*statement }
}

fn explain_plan<'a>(
    input: &Input<'a>,
    statement: &Statement<'a>,
    explain: &'a nodes::ExplainStmt,
) -> Result<Plan, Refused> {
    let text = &statement.text[..statement.end];
    let begin = lexer::token_end(text, statement.start);
    let mut at = lexer::skip_space(text, begin);
    if text.as_bytes().get(at) == Some(&b'(') {
        at = lexer::closing(text, at).unwrap_or(at);
    } else {
        while let end = lexer::token_end(text, at)
            && ["analyze", "analyse", "verbose"].iter().any(|word| text[at..end].eq_ignore_ascii_case(word))
        {
            at = lexer::skip_space(text, end);
        }
    }
    let options = text[begin..at].trim().to_owned();
    let analyze = explain.options().iter().any(|option| {
        option.defname() == Some("analyze")
            && !matches!(option.arg(), Node::String(word) if matches!(word.sval(), Some("off" | "false" | "0")))
            && !matches!(option.arg(), Node::Boolean(flag) if !flag.boolval)
    });
    let start = lexer::skip_space(text, at);
    let inner = plan_node(input, &inner(statement, start, explain.query()), explain.query())?;
    Ok(match inner {
        Plan::Local(local) => Plan::Local(Local { read_only: local.read_only || !analyze, ..local }),
        inner => Plan::Explain(Explain { options, analyze, inner: Box::new(inner) }),
    })
}

fn prepare_plan<'a>(
    input: &Input<'a>,
    statement: &Statement<'a>,
    prepare: &'a nodes::PrepareStmt,
) -> Result<Plan, Refused> {
    let text = &statement.text[..statement.end];
    let name = prepare.name().unwrap_or_default().to_owned();
    // PREPARE name [(types)] AS
    let mut at = lexer::skip_space(text, lexer::token_end(text, statement.start));
    at = lexer::skip_space(text, lexer::name_end(text, at).unwrap_or(at));
    if text.as_bytes().get(at) == Some(&b'(') {
        at = lexer::skip_space(text, lexer::closing(text, at).unwrap_or(at));
    }
    let start = lexer::skip_space(text, lexer::token_end(text, at));
    let types: Vec<Option<String>> = prepare.argtypes().iter().map(super::expression::type_sql).collect();
    let oids: Vec<u32> = types.iter().map(|name| name.as_deref().map_or(0, type_oid)).collect();
    let input = Input { param_types: &oids, ..*input };
    Ok(match plan_node(&input, &inner(statement, start, prepare.query()), prepare.query())? {
        Plan::Local(_) => local(Effect::Prepare(name)),
        Plan::Refuse(refusal) => Plan::Refuse(refusal),
        inner => Plan::Prepare(Prepare {
            name,
            types: types.into_iter().flatten().collect(),
            statement: text[start..].to_owned(),
            inner: Box::new(inner),
        }),
    })
}

/// The OID of a plain key type by its SQL name.
fn type_oid(name: &str) -> u32 {
    match name {
        "int" | "integer" | "int4" | "pg_catalog.int4" => KeyType::Int4.oid(),
        "bigint" | "int8" | "pg_catalog.int8" => KeyType::Int8.oid(),
        "smallint" | "int2" | "pg_catalog.int2" => KeyType::Int2.oid(),
        "text" => KeyType::Text.oid(),
        "varchar" | "character varying" | "pg_catalog.varchar" => KeyType::Varchar.oid(),
        "uuid" => KeyType::Uuid.oid(),
        "date" => KeyType::Date.oid(),
        "boolean" | "bool" | "pg_catalog.bool" => KeyType::Bool.oid(),
        "numeric" | "pg_catalog.numeric" => KeyType::Numeric.oid(),
        // Known to be something else: no key compares with it as it is.
        _ => u32::MAX,
    }
}

fn cursor<'a>(
    input: &Input<'a>,
    statement: &Statement<'a>,
    declare: &'a nodes::DeclareCursorStmt,
) -> Result<Plan, Refused> {
    match plan_node(input, statement, declare.query())? {
        Plan::Local(local) => {
            let local = Local { read_only: false, ..local };
            // CURSOR_OPT_HOLD.
            let effect = (declare.options & 0x0020 != 0).then_some(Effect::Pin(PinReason::HoldCursor));
            Ok(Plan::Local(Local { effects: effect.into_iter().collect(), ..local }))
        }
        Plan::Refuse(refusal) => Err(refusal),
        _ => Err(Refusal::unsupported(
            "cursors over distributed tables are not supported",
            "Run the query itself: its rows are streamed as they come.",
        )
        .into()),
    }
}
