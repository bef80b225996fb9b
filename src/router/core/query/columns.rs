//! Names: which table a name in FROM means, which occurrence a column belongs to, what a query puts
//! out. A name that could mean two things means nothing: then no equality is known from it.

use super::{Builder, Level, Named, Occ, OccId, OccKind, Output, Query, Scope, Term, build::not_understood};
use crate::router::core::{
    catalog::{Column, Table},
    hash::KeyType,
    plan::Refusal,
    planner::Refused,
    sql::{ConstValue, MinMaxOp, Node, SubLinkType, names, nodes},
};

/// How a column's values compare and hash, where that is by their bytes: the default collation, or the
/// distribution column (whose collation was checked when the table was distributed).
fn key_type(table: &Table, place: usize, column: &Column) -> Option<KeyType> {
    let key_type = KeyType::from_oid(column.type_oid)?;
    let is_key = table.distribution().is_some_and(|distribution| distribution.key == place);
    (column.collation.is_none() || is_key).then_some(key_type)
}

impl<'a> Builder<'a> {
    /// An occurrence of a table that is no CTE.
    pub(super) fn table(&mut self, var: &'a nodes::RangeVar) -> Result<OccId, Refused> {
        let name = var.relname().unwrap_or_default();
        let alias = var.alias().and_then(|alias| alias.aliasname()).unwrap_or(name);
        let Some(table) = self.input.table(var.schemaname(), name) else {
            self.seen.local = Some(name);
            let occ = Occ { name: alias, kind: OccKind::Opaque, var: None, columns: None };
            return Ok(self.push(occ, var.alias()));
        };
        if !var.inh {
            return Err(Refusal::unsupported(
                format!("ONLY is not supported on distributed table \"{name}\""),
                "Leave ONLY out: a distributed table has no children of its own.",
            )
            .into());
        }
        let kind = match table.distribution() {
            Some(_) => OccKind::Distributed(table),
            None => OccKind::Reference(table),
        };
        let columns = table
            .columns
            .iter()
            .enumerate()
            .map(|(place, column)| Named { name: &column.name, key_type: key_type(table, place, column) })
            .collect();
        Ok(self.push(Occ { name: alias, kind, var: Some(var), columns: Some(columns) }, var.alias()))
    }

    /// Adds an occurrence to the innermost level, its columns renamed by its alias.
    pub(super) fn push(&mut self, mut occ: Occ<'a>, alias: Option<&'a nodes::Alias>) -> OccId {
        if let (Some(alias), Some(columns)) = (alias, &mut occ.columns) {
            for (column, name) in columns.iter_mut().zip(alias.colnames()) {
                column.name = name.as_str().unwrap_or_default();
            }
        }
        self.occs.push(occ);
        let id = self.occs.len() - 1;
        if let Some(scope) = self.scopes.last_mut() {
            scope.occs.push(id);
        }
        id
    }

    /// An occurrence nothing is known about.
    pub(super) fn opaque(&mut self, alias: Option<&'a nodes::Alias>) -> OccId {
        let name = alias.and_then(|alias| alias.aliasname()).unwrap_or_default();
        self.push(Occ { name, kind: OccKind::Opaque, var: None, columns: None }, None)
    }

    /// How many occurrences the innermost level shows so far.
    pub(super) fn visible(&self) -> usize {
        self.scopes.last().map_or(0, |scope| scope.occs.len())
    }

    /// The column that a reference means.
    pub(super) fn resolve(&self, reference: &'a nodes::ColumnRef) -> Option<(usize, Term<'a>)> {
        self.resolve_in(&self.scopes, reference)
    }

    /// The column of a level that a reference at that level means.
    pub fn column_at(&self, level: &Level<'a>, reference: &nodes::ColumnRef) -> Option<Term<'a>> {
        self.resolve_in(std::slice::from_ref(&level.scope), reference).map(|(_, term)| term)
    }

    /// The ` COLLATE …` that a table's column carries, empty where it is its type's default; `None`: not
    /// known (a subquery's column).
    pub fn collation(&self, term: Term<'a>) -> Option<String> {
        let Term::Column(occ, place) = term else { return Some(String::new()) };
        match self.occs[occ].kind {
            OccKind::Distributed(table) | OccKind::Reference(table) => {
                let collation = table.columns.get(place)?.collation.as_ref();
                Some(collation.map(|name| format!(" COLLATE {name}")).unwrap_or_default())
            }
            _ => None,
        }
    }

    /// The type of a table's column; `None`: a subquery's.
    pub fn type_oid(&self, term: Term<'a>) -> Option<u32> {
        let Term::Column(occ, place) = term else { return None };
        match self.occs[occ].kind {
            OccKind::Distributed(table) | OccKind::Reference(table) => Some(table.columns.get(place)?.type_oid),
            _ => None,
        }
    }

    fn resolve_in(&self, scopes: &[Scope], reference: &nodes::ColumnRef) -> Option<(usize, Term<'a>)> {
        let mut fields = reference.fields().iter();
        match (fields.next()?.as_str()?, fields.next(), fields.next()) {
            (column, None, _) => self.unqualified(scopes, column),
            (table, Some(column), None) => self.qualified(scopes, table, column.as_str()?),
            // schema.table.column
            (_, Some(table), Some(column)) => self.qualified(scopes, table.as_str()?, column.as_str()?),
        }
    }

    fn qualified(&self, scopes: &[Scope], table: &str, column: &str) -> Option<(usize, Term<'a>)> {
        for (depth, scope) in scopes.iter().enumerate().rev() {
            let mut found = scope.occs.iter().filter(|occ| self.occs[**occ].name == table);
            if let Some(occ) = found.next() {
                // Two schemas' tables of one name: unclear.
                return if found.next().is_some() { None } else { self.column_of(*occ, column).map(|t| (depth, t)) };
            }
        }
        None
    }

    fn unqualified(&self, scopes: &[Scope], column: &str) -> Option<(usize, Term<'a>)> {
        for (depth, scope) in scopes.iter().enumerate().rev() {
            let mut found = scope.occs.iter().filter_map(|occ| self.column_of(*occ, column));
            if let Some(first) = found.next() {
                // Several matches that PostgreSQL accepts are one merged column: the left one, unless a
                // RIGHT or FULL join is about.
                let unclear = scope.merged_unclear && found.next().is_some();
                return (!unclear).then_some((depth, first));
            }
            if scope.occs.iter().any(|occ| self.occs[*occ].columns.is_none()) {
                return None;
            }
        }
        None
    }

    /// A column of an occurrence by name.
    pub(super) fn column_of(&self, occ: OccId, column: &str) -> Option<Term<'a>> {
        let place = self.occs[occ].columns.as_ref()?.iter().position(|named| named.name == column)?;
        Some(Term::Column(occ, place))
    }

    /// The type of a term, where it is fit for keys.
    pub(super) fn term_type(&self, term: Term<'a>) -> Option<KeyType> {
        match term {
            Term::Column(occ, place) => self.occs[occ].columns.as_ref()?.get(place)?.key_type,
            Term::Const(_) => None,
        }
    }

    /// The equality that USING makes of a name.
    pub(super) fn merged_fact(&self, begin: usize, middle: usize, name: &str) -> Option<(Term<'a>, Term<'a>)> {
        let occs = &self.scopes.last()?.occs;
        let mut left = occs[begin..middle].iter().filter_map(|occ| self.column_of(*occ, name));
        let mut right = occs[middle..].iter().filter_map(|occ| self.column_of(*occ, name));
        self.comparable(left.next()?, right.next()?)
    }

    /// The names that a NATURAL join merges.
    pub(super) fn common_names(&self, begin: usize, middle: usize) -> Result<Vec<&'a str>, Refused> {
        let occs = self.scopes.last().map_or(&[][..], |scope| &scope.occs);
        let columns = |occs: &[OccId]| {
            let mut names = Vec::new();
            for occ in occs {
                let columns = self.occs[*occ].columns.as_ref().ok_or_else(|| not_understood("this NATURAL join"))?;
                names.extend(columns.iter().map(|column| column.name));
            }
            Ok::<_, Refused>(names)
        };
        let right = columns(&occs[middle..])?;
        Ok(columns(&occs[begin..middle])?.into_iter().filter(|name| right.contains(name)).collect())
    }

    /// A target list's item, as the columns it puts out.
    pub(super) fn output(&self, target: &'a nodes::ResTarget, level: &mut Level<'a>) {
        if let Node::ColumnRef(reference) = target.val() {
            if let Some(Node::A_Star(_)) = reference.fields().iter().next_back() {
                self.star(reference, level);
                return;
            }
            let term = self.resolve(reference).map(|(_, term)| term);
            let name = target.name().or_else(|| reference.fields().iter().next_back().and_then(Node::as_str));
            let key_type = term.and_then(|term| self.term_type(term));
            level.outputs.push(Output { name: name.unwrap_or_default(), term, key_type });
            return;
        }
        let name = target.name().unwrap_or_else(|| expression_name(target.val()));
        level.outputs.push(Output { name, term: None, key_type: None });
    }

    fn star(&self, reference: &'a nodes::ColumnRef, level: &mut Level<'a>) {
        let Some(scope) = self.scopes.last() else { return };
        let qualifier = names_before_star(reference);
        let occs: Vec<OccId> = scope
            .occs
            .iter()
            .copied()
            .filter(|occ| qualifier.is_none_or(|name| self.occs[*occ].name == name))
            .collect();
        level.outputs_known &= !(occs.is_empty() || scope.merged && qualifier.is_none());
        for occ in occs {
            let Some(columns) = &self.occs[occ].columns else {
                level.outputs_known = false;
                return;
            };
            level.outputs.extend(columns.iter().enumerate().map(|(place, column)| Output {
                name: column.name,
                term: Some(Term::Column(occ, place)),
                key_type: column.key_type,
            }));
        }
    }

    /// What a query's columns look like from outside.
    pub(super) fn query_columns(query: &Query<'a>) -> Option<Vec<Named<'a>>> {
        match query {
            Query::Level(level) if level.outputs_known && !level.outputs.is_empty() => {
                Some(level.outputs.iter().map(|out| Named { name: out.name, key_type: out.key_type }).collect())
            }
            Query::Level(_) => None,
            Query::SetOp { left, right, .. } => {
                let (left, right) = (Self::query_columns(left)?, Self::query_columns(right)?);
                let merged = left.into_iter().zip(right).map(|(left, right)| {
                    // Branches of different types meet in a third.
                    let key_type = left.key_type.filter(|key_type| right.key_type == Some(*key_type));
                    Named { name: left.name, key_type }
                });
                Some(merged.collect())
            }
        }
    }

    /// GROUP BY's plain columns.
    pub(super) fn group_terms(&self, select: &'a nodes::SelectStmt, level: &Level<'a>) -> Vec<Term<'a>> {
        if select.group_clause().iter().any(|item| matches!(item, Node::GroupingSet(_))) {
            return Vec::new();
        }
        select.group_clause().iter().filter_map(|item| self.grouping_term(item, level)).collect()
    }

    /// An item of GROUP BY, PARTITION BY or DISTINCT ON as a plain column: by name, by an output's
    /// name, or by its number.
    pub(super) fn grouping_term(&self, item: Node<'a>, level: &Level<'a>) -> Option<Term<'a>> {
        match item {
            Node::ColumnRef(reference) => {
                if let Some((depth, term)) = self.resolve(reference) {
                    return (depth + 1 == self.scopes.len()).then_some(term);
                }
                let name = names(reference.fields())?;
                let [name] = name.as_slice() else { return None };
                level.outputs.iter().find(|output| output.name == *name)?.term
            }
            Node::A_Const(number) => match number.val() {
                Some(ConstValue::Integer(number)) if level.outputs_known => {
                    level.outputs.get(usize::try_from(number).ok()?.checked_sub(1)?)?.term
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// A CTE's columns, renamed by its own list of names.
    pub(super) fn cte_outputs(&self, number: usize) -> Option<Vec<Named<'a>>> {
        let cte = &self.ctes[number];
        let mut columns = Self::query_columns(&cte.query)?;
        for (column, name) in columns.iter_mut().zip(cte.names) {
            column.name = name.as_str().unwrap_or_default();
        }
        Some(columns)
    }
}

fn names_before_star(reference: &nodes::ColumnRef) -> Option<&str> {
    let fields = reference.fields();
    let before = fields.len().checked_sub(2)?;
    fields.get(before)?.as_str()
}

/// `FigureColname`: what `PostgreSQL` calls an unnamed expression.
pub fn expression_name(node: Node<'_>) -> &str {
    figured(node).unwrap_or("?column?")
}

fn figured(node: Node<'_>) -> Option<&str> {
    match node {
        Node::ColumnRef(reference) => reference.fields().iter().rev().find_map(Node::as_str),
        Node::A_Indirection(node) => {
            node.indirection().iter().rev().find_map(Node::as_str).or_else(|| figured(node.arg()))
        }
        Node::FuncCall(call) => call.funcname().iter().next_back().and_then(Node::as_str),
        Node::TypeCast(cast) => figured(cast.arg()).or_else(|| {
            cast.type_name().and_then(|name| name.names().iter().next_back().and_then(nodes::String::sval))
        }),
        Node::CollateClause(clause) => figured(clause.arg()),
        Node::CaseExpr(case) => figured(case.defresult()).or(Some("case")),
        Node::A_ArrayExpr(_) => Some("array"),
        Node::RowExpr(_) => Some("row"),
        Node::CoalesceExpr(_) => Some("coalesce"),
        Node::MinMaxExpr(expr) => Some(if expr.op == MinMaxOp::IS_GREATEST { "greatest" } else { "least" }),
        Node::SubLink(link) => match link.sub_link_type {
            SubLinkType::EXISTS_SUBLINK => Some("exists"),
            SubLinkType::ARRAY_SUBLINK => Some("array"),
            _ => match link.subselect() {
                Node::SelectStmt(select) => select
                    .target_list()
                    .first()
                    .map(|target| target.name().unwrap_or_else(|| expression_name(target.val()))),
                _ => None,
            },
        },
        Node::GroupingFunc(_) => Some("grouping"),
        Node::A_Expr(expr) if expr.kind == crate::router::core::sql::A_Expr_Kind::AEXPR_NULLIF => Some("nullif"),
        _ => None,
    }
}
