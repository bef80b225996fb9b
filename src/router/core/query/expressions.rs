//! Expressions: what they call, which subqueries they hold, and which equalities WHERE and ON state.
//! Every node of every expression is seen; a call that cannot be trusted on a shard is refused.

use std::ops::ControlFlow;

use super::{
    Builder, Const, Fact, Level, Link, Term,
    build::not_understood,
    functions::{self, Trust},
};
use crate::router::core::{
    hash::KeyType,
    plan::Refusal,
    planner::Refused,
    sql::{A_Expr_Kind, BoolExprType, ConstValue, Node, Recurse, SubLinkType, last_name, nodes, walk_manual},
};

/// System columns: they differ between a table and its leaves, and between shards.
const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "tableoid", "xmin", "xmax", "cmin", "cmax"];

/// Types whose values are object numbers, which differ between servers.
const OBJECT_NUMBERS: [&str; 11] = [
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
];

impl<'a> Builder<'a> {
    /// Sees an expression, or a list of them.
    pub(super) fn visit(&mut self, node: Node<'a>, level: &mut Level<'a>) -> Result<(), Refused> {
        if matches!(node, Node::None) || self.enter(node, level)? == Recurse::No {
            return Ok(());
        }
        let refused = walk_manual(node, |node| match self.enter(node, level) {
            Ok(recurse) => ControlFlow::Continue(recurse),
            Err(refused) => ControlFlow::Break(refused),
        });
        refused.map_or(Ok(()), Err)
    }

    fn enter(&mut self, node: Node<'a>, level: &mut Level<'a>) -> Result<Recurse, Refused> {
        match node {
            Node::SubLink(link) => {
                self.link(link, None, level)?;
                return Ok(Recurse::No);
            }
            Node::FuncCall(call) => self.call(call, level)?,
            Node::ColumnRef(reference) => self.column(reference)?,
            Node::ParamRef(param) => {
                if let Ok(number) = u16::try_from(param.number)
                    && !self.seen.params.contains(&number)
                {
                    self.seen.params.push(number);
                }
            }
            Node::SQLValueFunction(_) => self.seen.clock = Some("current_timestamp"),
            Node::A_Const(constant) => {
                if let Some(ConstValue::String(text)) = constant.val()
                    && functions::is_clock_word(text)
                {
                    self.seen.clock = Some("now");
                }
            }
            Node::TypeName(name) => {
                let name = name.names().iter().next_back().and_then(nodes::String::sval);
                if name.is_some_and(|name| OBJECT_NUMBERS.contains(&name)) {
                    return Err(not_understood("a type that names objects by their number (regclass and its like)"));
                }
            }
            Node::GroupingFunc(_) => level.aggregated = true,
            Node::CurrentOfExpr(_) => return Err(not_understood("WHERE CURRENT OF")),
            Node::SelectStmt(_) | Node::RangeVar(_) => return Err(not_understood("a query in this place")),
            _ => {}
        }
        Ok(Recurse::Yes)
    }

    fn link(
        &mut self,
        link: &'a nodes::SubLink,
        in_term: Option<Term<'a>>,
        level: &mut Level<'a>,
    ) -> Result<(), Refused> {
        self.visit(link.testexpr(), level)?;
        let Node::SelectStmt(select) = link.subselect() else { return Err(not_understood("this subquery")) };
        let query = self.select(select)?;
        level.links.push(Link { query, in_term });
        Ok(())
    }

    fn column(&mut self, reference: &'a nodes::ColumnRef) -> Result<(), Refused> {
        let fields = reference.fields();
        self.seen.parent_only |= fields.len() > 2;
        match last_name(fields) {
            Some(name) if SYSTEM_COLUMNS.contains(&name) && self.resolve(reference).is_none() => {
                Err(Refusal::unsupported(
                    format!("system column \"{name}\" is not supported on distributed tables"),
                    "Identify rows by their primary key.",
                )
                .into())
            }
            _ => Ok(()),
        }
    }

    fn call(&mut self, call: &'a nodes::FuncCall, level: &mut Level<'a>) -> Result<(), Refused> {
        let parts = call.funcname();
        let name = last_name(parts).unwrap_or_default();
        let schema = (parts.len() > 1).then(|| parts.first().and_then(Node::as_str)).flatten();
        match functions::trust(self.input.catalog, schema, name) {
            Trust::Steady => {}
            Trust::Clock => self.seen.clock = Some(name),
            Trust::Volatile => self.seen.volatile = Some(name),
            Trust::No(why) => {
                return Err(Refusal::unsupported(
                    format!("function {name}() is not supported in a statement over distributed tables"),
                    why,
                )
                .into());
            }
        }
        let aggregate = functions::is_aggregate(name)
            || call.agg_star
            || call.agg_distinct
            || call.agg_within_group
            || !call.agg_order().is_empty()
            || !matches!(call.agg_filter(), Node::None);
        match call.over() {
            Some(window) => {
                let terms = self.partition_terms(window, level);
                level.windows.push(terms);
            }
            None if aggregate => {
                self.own_aggregate(call)?;
                level.aggregated = true;
            }
            None => {}
        }
        Ok(())
    }

    /// An aggregate whose arguments are all from an outer level belongs to that level: refused, it is
    /// rare and hard to see.
    fn own_aggregate(&self, call: &'a nodes::FuncCall) -> Result<(), Refused> {
        if self.scopes.len() < 2 {
            return Ok(());
        }
        let (mut own, mut outer) = (false, false);
        for argument in call.args() {
            let mut look = |node: Node<'a>| {
                if let Node::ColumnRef(reference) = node {
                    match self.resolve(reference) {
                        Some((depth, _)) if depth + 1 < self.scopes.len() => outer = true,
                        _ => own = true,
                    }
                }
            };
            look(argument);
            if !matches!(argument, Node::None) {
                walk_manual::<()>(argument, |node| {
                    look(node);
                    Recurse::yes()
                });
            }
        }
        if outer && !own { Err(not_understood("an aggregate of an outer query's columns")) } else { Ok(()) }
    }

    fn partition_terms(&self, window: &'a nodes::WindowDef, level: &Level<'a>) -> Vec<Term<'a>> {
        // A named window's partition is not looked up: then nothing is known about it.
        window.partition_clause().iter().filter_map(|item| self.grouping_term(item, level)).collect()
    }

    /// WHERE or ON: each conjunct is seen, and what it states kept.
    pub(super) fn conjuncts(&mut self, node: Node<'a>, level: &mut Level<'a>) -> Result<(), Refused> {
        match node {
            Node::BoolExpr(and) if and.boolop == BoolExprType::AND_EXPR => {
                for argument in and.args() {
                    self.conjuncts(argument, level)?;
                }
                Ok(())
            }
            Node::SubLink(link) if link.sub_link_type == SubLinkType::ANY_SUBLINK && link.oper_name().is_empty() => {
                let in_term = self.term(link.testexpr());
                self.link(link, in_term, level)
            }
            Node::A_Expr(expr) => {
                self.visit(node, level)?;
                self.stated(expr, level);
                Ok(())
            }
            _ => self.visit(node, level),
        }
    }

    fn stated(&self, expr: &'a nodes::A_Expr, level: &mut Level<'a>) {
        if last_name(expr.name()) != Some("=") || expr.name().len() != 1 {
            return;
        }
        match (expr.kind, expr.lexpr(), expr.rexpr()) {
            (A_Expr_Kind::AEXPR_OP, Node::RowExpr(left), Node::RowExpr(right)) => {
                for (left, right) in left.args().iter().zip(right.args()) {
                    level.facts.extend(self.fact(left, right));
                }
            }
            (A_Expr_Kind::AEXPR_OP, left, right) => level.facts.extend(self.fact(left, right)),
            (A_Expr_Kind::AEXPR_IN, left, Node::NodeList(list)) => self.listed(left, list.iter(), level),
            (A_Expr_Kind::AEXPR_OP_ANY, left, Node::A_ArrayExpr(array)) => {
                self.listed(left, array.elements().iter(), level);
            }
            _ => {}
        }
    }

    fn listed(&self, left: Node<'a>, list: impl ExactSizeIterator<Item = Node<'a>>, level: &mut Level<'a>) {
        let Some(term @ Term::Column(..)) = self.term(left) else { return };
        let count = list.len();
        let constants: Vec<_> = list
            .map_while(|node| match self.term(node) {
                Some(Term::Const(constant)) => Some(constant),
                _ => None,
            })
            .collect();
        match constants.as_slice() {
            [only] if count == 1 => level.facts.push((term, Term::Const(*only))),
            _ if constants.len() == count => level.lists.push((term, constants)),
            _ => {}
        }
    }

    fn fact(&self, left: Node<'a>, right: Node<'a>) -> Option<Fact<'a>> {
        self.comparable(self.term(left)?, self.term(right)?)
    }

    /// Two terms as a fact, where equality by `=` is equality of the hashes.
    pub(super) fn comparable(&self, left: Term<'a>, right: Term<'a>) -> Option<Fact<'a>> {
        let fits = match (left, right) {
            (Term::Column(..), Term::Column(..)) => self.term_type(left)?.same_family(self.term_type(right)?),
            // Against a constant: judged when the key's type is known.
            (Term::Column(..), Term::Const(_)) => self.term_type(left).is_some(),
            (Term::Const(_), Term::Column(..)) => self.term_type(right).is_some(),
            (Term::Const(_), Term::Const(_)) => false,
        };
        fits.then_some((left, right))
    }

    /// An expression as a term.
    pub(super) fn term(&self, node: Node<'a>) -> Option<Term<'a>> {
        match node {
            Node::ColumnRef(reference) => self.resolve(reference).map(|(_, term)| term),
            _ => constant(node).map(Term::Const),
        }
    }
}

/// An expression as a constant; `None`: it is not one, or NULL.
pub fn constant(node: Node<'_>) -> Option<Const<'_>> {
    match node {
        Node::A_Const(value) if !value.isnull => Some(match value.val()? {
            ConstValue::Integer(number) => Const::Integer(i64::from(number), None),
            ConstValue::Float(text) => text.parse().map_or(Const::Number(text, None), |n| Const::Integer(n, None)),
            ConstValue::Boolean(value) => Const::Boolean(value),
            ConstValue::String(text) => Const::String(text, None),
            _ => return None,
        }),
        Node::ParamRef(param) => Some(Const::Param(u16::try_from(param.number).ok()?, None)),
        Node::TypeCast(cast) => {
            let key_type = cast_type(cast.type_name()?)?;
            Some(match constant(cast.arg())? {
                Const::String(text, None) => Const::String(text, Some(key_type)),
                Const::Integer(number, None) => Const::Integer(number, Some(key_type)),
                Const::Number(text, None) => Const::Number(text, Some(key_type)),
                Const::Param(number, None) => Const::Param(number, Some(key_type)),
                _ => return None,
            })
        }
        _ => None,
    }
}

/// A cast's type, where it is a plain key type without length or precision.
fn cast_type(name: &nodes::TypeName) -> Option<KeyType> {
    if !name.typmods().is_empty() || !name.array_bounds().is_empty() || name.setof || name.pct_type {
        return None;
    }
    let parts: Vec<&str> = name.names().iter().filter_map(nodes::String::sval).collect();
    let name = match parts.as_slice() {
        [name] | ["pg_catalog", name] => *name,
        _ => return None,
    };
    Some(match name {
        "int2" => KeyType::Int2,
        "int4" => KeyType::Int4,
        "int8" => KeyType::Int8,
        "text" => KeyType::Text,
        "varchar" => KeyType::Varchar,
        "uuid" => KeyType::Uuid,
        "date" => KeyType::Date,
        "timestamp" => KeyType::Timestamp,
        "timestamptz" => KeyType::Timestamptz,
        "bool" => KeyType::Bool,
        "numeric" => KeyType::Numeric,
        "oid" => KeyType::Oid,
        "bytea" => KeyType::Bytea,
        _ => return None,
    })
}
