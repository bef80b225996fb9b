//! From the tree to a [`Query`]: FROM, WITH, the parts of a SELECT. Anything not understood is refused
//! here; nothing is skipped. Called by the planner, once per statement.

use super::{Distinct, From, Join, Level, Occ, OccKind, Query, Seen};
use crate::router::core::{
    plan::Refusal,
    planner::{Input, Refused},
    sql::{JoinType, Node, NodeList, SetOperation, nodes},
};

/// Reads one statement.
pub struct Builder<'a> {
    /// Catalog and names.
    pub(super) input: &'a Input<'a>,
    /// Every occurrence of a relation.
    pub occs: Vec<Occ<'a>>,
    /// Every CTE.
    pub ctes: Vec<Cte<'a>>,
    /// What else was seen.
    pub seen: Seen<'a>,
    /// Occurrences visible in each enclosing level, innermost last.
    pub(super) scopes: Vec<Scope>,
    /// Visible CTE names, innermost last; `None`: a recursive CTE within itself.
    cte_names: Vec<(&'a str, Option<usize>)>,
}

/// One level's visible occurrences.
#[derive(Debug, Default)]
pub struct Scope {
    /// Which.
    pub occs: Vec<usize>,
    /// A RIGHT or FULL join, whose merged columns are not the left side's.
    pub merged_unclear: bool,
    /// USING or NATURAL: `*` shows merged columns once.
    pub merged: bool,
}

/// A WITH query.
pub struct Cte<'a> {
    /// Its query.
    pub query: Query<'a>,
    /// Its columns' names, where it gives them.
    pub names: &'a NodeList,
    /// How often it is named.
    pub references: u32,
}

impl<'a> Builder<'a> {
    /// A reader of one statement.
    pub fn new(input: &'a Input<'a>) -> Self {
        Self {
            input,
            occs: Vec::new(),
            ctes: Vec::new(),
            seen: Seen::default(),
            scopes: Vec::new(),
            cte_names: Vec::new(),
        }
    }

    /// A SELECT, VALUES, or set operation.
    pub fn select(&mut self, select: &'a nodes::SelectStmt) -> Result<Query<'a>, Refused> {
        let visible = self.cte_names.len();
        self.with(select.with_clause())?;
        let query = if select.op == SetOperation::SETOP_NONE {
            Query::Level(Box::new(self.level(select)?))
        } else {
            self.set_operation(select)?
        };
        self.cte_names.truncate(visible);
        Ok(query)
    }

    /// A write below the top (a WITH query), or a SELECT.
    fn any(&mut self, node: Node<'a>) -> Result<Query<'a>, Refused> {
        match node {
            Node::SelectStmt(select) => self.select(select),
            Node::UpdateStmt(update) => {
                let level = self.update(update)?;
                self.write_below(level)
            }
            Node::DeleteStmt(delete) => {
                let level = self.delete(delete)?;
                self.write_below(level)
            }
            _ => Err(Refusal::unsupported(
                "this statement cannot be part of a WITH over distributed tables",
                "Run it as a statement of its own, in one transaction with the other.",
            )
            .into()),
        }
    }

    fn write_below(&mut self, level: Level<'a>) -> Result<Query<'a>, Refused> {
        self.seen.writes_below = true;
        match level.from.first() {
            Some(From::Occ(occ)) if matches!(self.occs[*occ].kind, OccKind::Reference(_)) => Err(Refusal::unsupported(
                "a reference table cannot be changed in a WITH",
                "Run it as a statement of its own, in one transaction with the other.",
            )
            .into()),
            _ => Ok(Query::Level(Box::new(level))),
        }
    }

    /// The WITH clause: its names stay visible to what follows.
    pub fn with(&mut self, with: Option<&'a nodes::WithClause>) -> Result<(), Refused> {
        let Some(with) = with else { return Ok(()) };
        for cte in with.ctes() {
            let name = cte.ctename().unwrap_or_default();
            if with.recursive {
                self.seen.recursive = true;
                self.cte_names.push((name, None));
            }
            let outer = std::mem::take(&mut self.scopes);
            let query = self.any(cte.ctequery());
            self.scopes = outer;
            let query = query?;
            if with.recursive {
                self.cte_names.pop();
            }
            self.ctes.push(Cte { query, names: cte.aliascolnames(), references: 0 });
            self.cte_names.push((name, Some(self.ctes.len() - 1)));
        }
        Ok(())
    }

    fn set_operation(&mut self, select: &'a nodes::SelectStmt) -> Result<Query<'a>, Refused> {
        let (Some(left), Some(right)) = (select.larg(), select.rarg()) else {
            return Err(not_understood("this set operation"));
        };
        let left = Box::new(self.select(left)?);
        let right = Box::new(self.select(right)?);
        let mut level = Level::default();
        self.scopes.push(Scope::default());
        for sort in select.sort_clause() {
            self.visit(sort.node(), &mut level)?;
        }
        self.visit(select.limit_count(), &mut level)?;
        self.visit(select.limit_offset(), &mut level)?;
        self.scopes.pop();
        Ok(Query::SetOp {
            union_all: select.op == SetOperation::SETOP_UNION && select.all,
            left,
            right,
            limited: is_limited(select),
            links: level.links,
        })
    }

    fn level(&mut self, select: &'a nodes::SelectStmt) -> Result<Level<'a>, Refused> {
        let mut level = Level { limited: is_limited(select), outputs_known: true, ..Level::default() };
        self.scopes.push(Scope::default());
        self.from(select.from_clause(), &mut level)?;
        self.conjuncts(select.where_clause(), &mut level)?;
        for row in select.values_lists() {
            self.visit(row, &mut level)?;
        }
        for target in select.target_list() {
            self.visit(target.val(), &mut level)?;
            self.output(target, &mut level);
        }
        for group in select.group_clause() {
            level.aggregated = true;
            self.visit(group, &mut level)?;
        }
        level.groups = self.group_terms(select, &level);
        level.aggregated |= !matches!(select.having_clause(), Node::None);
        self.visit(select.having_clause(), &mut level)?;
        for sort in select.sort_clause() {
            level.ordered = true;
            self.visit(sort.node(), &mut level)?;
        }
        for window in select.window_clause() {
            self.visit(window, &mut level)?;
        }
        self.visit(select.limit_count(), &mut level)?;
        self.visit(select.limit_offset(), &mut level)?;
        level.distinct = self.distinct(select, &mut level)?;
        if !select.locking_clause().is_empty() {
            level.locking = true;
            self.seen.writes_below |= self.scopes.len() > 1;
        }
        level.scope = self.scopes.pop().unwrap_or_default();
        Ok(level)
    }

    fn distinct(&mut self, select: &'a nodes::SelectStmt, level: &mut Level<'a>) -> Result<Distinct<'a>, Refused> {
        let list = select.distinct_clause();
        // Plain DISTINCT is a list of one empty item.
        if list.is_empty() {
            return Ok(Distinct::No);
        }
        if list.len() == 1 && matches!(list.first(), Some(Node::None)) {
            return Ok(Distinct::All);
        }
        let mut terms = Vec::new();
        for item in list {
            self.visit(item, level)?;
            terms.extend(self.grouping_term(item, level));
        }
        Ok(Distinct::On(terms))
    }

    /// UPDATE: its target is the first occurrence of its level.
    pub fn update(&mut self, update: &'a nodes::UpdateStmt) -> Result<Level<'a>, Refused> {
        let visible = self.cte_names.len();
        self.with(update.with_clause())?;
        let mut level = Level { writes: true, ..Level::default() };
        self.scopes.push(Scope::default());
        self.target(update.relation(), &mut level)?;
        self.from(update.from_clause(), &mut level)?;
        self.conjuncts(update.where_clause(), &mut level)?;
        for target in update.target_list() {
            self.refuse_key_change(target, &level)?;
            self.visit(target.val(), &mut level)?;
        }
        self.returning(update.returning_clause(), &mut level)?;
        self.scopes.pop();
        self.cte_names.truncate(visible);
        Ok(level)
    }

    /// DELETE: its target is the first occurrence of its level.
    pub fn delete(&mut self, delete: &'a nodes::DeleteStmt) -> Result<Level<'a>, Refused> {
        let visible = self.cte_names.len();
        self.with(delete.with_clause())?;
        let mut level = Level { writes: true, ..Level::default() };
        self.scopes.push(Scope::default());
        self.target(delete.relation(), &mut level)?;
        self.from(delete.using_clause(), &mut level)?;
        self.conjuncts(delete.where_clause(), &mut level)?;
        self.returning(delete.returning_clause(), &mut level)?;
        self.scopes.pop();
        self.cte_names.truncate(visible);
        Ok(level)
    }

    /// The expressions of an INSERT beside its source: rows, ON CONFLICT, RETURNING.
    pub fn insert_parts(&mut self, insert: &'a nodes::InsertStmt) -> Result<Level<'a>, Refused> {
        let mut level = Level { writes: true, ..Level::default() };
        self.scopes.push(Scope::default());
        self.target(insert.relation(), &mut level)?;
        if let Node::SelectStmt(select) = insert.select_stmt() {
            for row in select.values_lists() {
                self.visit(row, &mut level)?;
            }
        }
        if let Some(conflict) = insert.on_conflict_clause() {
            for target in conflict.target_list() {
                self.refuse_key_change(target, &level)?;
                self.visit(target.val(), &mut level)?;
            }
            self.visit(conflict.where_clause(), &mut level)?;
        }
        self.returning(insert.returning_clause(), &mut level)?;
        self.scopes.pop();
        Ok(level)
    }

    fn target(&mut self, var: Option<&'a nodes::RangeVar>, level: &mut Level<'a>) -> Result<(), Refused> {
        let var = var.ok_or_else(|| not_understood("a write without a table"))?;
        // A write's target is never a CTE.
        let occ = self.table(var)?;
        level.from.push(From::Occ(occ));
        Ok(())
    }

    /// Changing where a row lives is a delete and an insert.
    fn refuse_key_change(&self, set: &nodes::ResTarget, level: &Level<'a>) -> Result<(), Refused> {
        let Some(From::Occ(occ)) = level.from.first() else { return Ok(()) };
        let OccKind::Distributed(table) = self.occs[*occ].kind else { return Ok(()) };
        match table.key_column() {
            Some(key) if Some(key.name.as_str()) == set.name() => Err(Refusal::unsupported(
                format!(
                    "changing distribution column \"{}\" of table \"{}\" is not supported",
                    key.name, table.name.name
                ),
                "Delete the row and insert it with its new key, in one transaction.",
            )
            .into()),
            _ => Ok(()),
        }
    }

    fn returning(
        &mut self,
        returning: Option<&'a nodes::ReturningClause>,
        level: &mut Level<'a>,
    ) -> Result<(), Refused> {
        for expression in returning.map(nodes::ReturningClause::exprs).into_iter().flatten() {
            self.visit(expression, level)?;
            if let Node::ResTarget(target) = expression {
                self.output(target, level);
            }
        }
        Ok(())
    }

    fn from(&mut self, list: &'a NodeList, level: &mut Level<'a>) -> Result<(), Refused> {
        for item in list {
            let item = self.item(item, level)?;
            level.from.push(item);
        }
        Ok(())
    }

    fn item(&mut self, item: Node<'a>, level: &mut Level<'a>) -> Result<From<'a>, Refused> {
        match item {
            Node::RangeVar(var) => self.range_var(var).map(From::Occ),
            Node::JoinExpr(join) => self.join(join, level),
            Node::RangeSubselect(sub) => self.subselect(sub),
            Node::RangeFunction(function) => {
                for call in function.functions() {
                    self.visit(call, level)?;
                }
                Ok(From::Occ(self.opaque(function.alias())))
            }
            Node::RangeTableFunc(table) => {
                self.visit(item, level)?;
                Ok(From::Occ(self.opaque(table.alias())))
            }
            Node::RangeTableSample(sample) => {
                let inner = self.item(sample.relation(), level)?;
                match &inner {
                    From::Occ(occ) if matches!(self.occs[*occ].kind, OccKind::Opaque) => Ok(inner),
                    _ => Err(Refusal::unsupported(
                        "TABLESAMPLE is not supported on distributed or reference tables",
                        "Sample with WHERE random() < fraction.",
                    )
                    .into()),
                }
            }
            _ => Err(not_understood("an item of FROM")),
        }
    }

    fn subselect(&mut self, sub: &'a nodes::RangeSubselect) -> Result<From<'a>, Refused> {
        let Node::SelectStmt(select) = sub.subquery() else { return Err(not_understood("a subquery in FROM")) };
        let query = if sub.lateral {
            self.select(select)?
        } else {
            // Not LATERAL: the siblings in FROM are not visible.
            let siblings = self.scopes.last_mut().map(std::mem::take);
            let query = self.select(select);
            if let (Some(scope), Some(siblings)) = (self.scopes.last_mut(), siblings) {
                *scope = siblings;
            }
            query?
        };
        let columns = Self::query_columns(&query);
        let name = sub.alias().and_then(|alias| alias.aliasname()).unwrap_or_default();
        let occ = self.push(Occ { name, kind: OccKind::Sub, var: None, columns }, sub.alias());
        Ok(From::Sub { occ, query: Box::new(query), lateral: sub.lateral })
    }

    fn join(&mut self, join: &'a nodes::JoinExpr, level: &mut Level<'a>) -> Result<From<'a>, Refused> {
        let kind = match join.jointype {
            JoinType::JOIN_INNER => Join::Inner,
            JoinType::JOIN_LEFT => Join::Left,
            JoinType::JOIN_RIGHT => Join::Right,
            JoinType::JOIN_FULL => Join::Full,
            _ => return Err(not_understood("this kind of join")),
        };
        let begin = self.visible();
        let left = Box::new(self.item(join.larg(), level)?);
        let middle = self.visible();
        let right = Box::new(self.item(join.rarg(), level)?);
        let mut on = Level::default();
        let names: Vec<&'a str> = join.using_clause().iter().filter_map(nodes::String::sval).collect();
        let natural = if join.is_natural { self.common_names(begin, middle)? } else { names };
        for name in &natural {
            on.facts.extend(self.merged_fact(begin, middle, name));
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.merged |= !natural.is_empty();
            scope.merged_unclear |= matches!(kind, Join::Right | Join::Full);
        }
        self.conjuncts(join.quals(), &mut on)?;
        if join.alias().is_some() || join.join_using_alias().is_some() {
            self.opaque(join.alias());
            self.opaque(join.join_using_alias());
        }
        Ok(From::Join { kind, left, right, facts: on.facts, links: on.links })
    }

    fn range_var(&mut self, var: &'a nodes::RangeVar) -> Result<usize, Refused> {
        let name = var.relname().unwrap_or_default();
        if var.schemaname().is_none()
            && let Some((_, cte)) = self.cte_names.iter().rev().find(|(cte, _)| *cte == name)
        {
            let cte = *cte;
            let alias = var.alias().and_then(|alias| alias.aliasname()).unwrap_or(name);
            let occ = match cte {
                Some(number) => {
                    self.ctes[number].references += 1;
                    let columns = self.cte_outputs(number);
                    Occ { name: alias, kind: OccKind::Cte(number), var: None, columns }
                }
                None => Occ { name: alias, kind: OccKind::Opaque, var: None, columns: None },
            };
            return Ok(self.push(occ, var.alias()));
        }
        self.table(var)
    }
}

/// LIMIT, OFFSET, or FETCH.
fn is_limited(select: &nodes::SelectStmt) -> bool {
    !matches!((select.limit_count(), select.limit_offset()), (Node::None, Node::None))
}

/// The refusal of something that the grammar knows and the planner does not.
pub(super) fn not_understood(what: &str) -> Refused {
    Refusal::unsupported(
        format!("{what} is not supported in a statement over distributed or reference tables"),
        "Rewrite the statement without it, or split it in two.",
    )
    .into()
}
