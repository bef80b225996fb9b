//! The columns that the rest of the statement needs come from the shards, filtered and joined there;
//! the rest (any aggregate, windows, DISTINCT ON, grouping sets) runs over them in the query group.

use super::{
    super::expression,
    Parts, Refused, Subject, refused,
    text::{self, Finals, Keep},
};
use crate::router::core::{
    plan::Piece,
    query::{Distinct, Term},
    sql::{GroupingSetKind, Node},
};

struct Raw<'s, 'a> {
    subject: Subject<'s, 'a>,
    /// Columns fetched: the term, how it is written, its COLLATE.
    columns: Vec<(Term<'a>, String, String)>,
    finals: Finals,
    stuck: bool,
}

/// The two statements.
pub fn parts(subject: Subject<'_, '_>) -> Result<Parts, Refused> {
    let Subject { select, level, .. } = subject;
    if !select.window_clause().is_empty() {
        return Err(refused("WINDOW over several shards is not supported", "Write the window definition after OVER."));
    }
    let mut raw = Raw { subject, columns: Vec::new(), finals: Finals::default(), stuck: false };
    let mut heads = Vec::new();
    for target in select.target_list() {
        heads.push(format!("{} AS {}", raw.rewrite(target.val())?, Subject::target_name(target)));
    }
    let distinct = raw.distinct()?;
    if let (Some(distinct), Some(first)) = (distinct, heads.first_mut()) {
        *first = format!("{distinct} {first}");
    }
    let mut groups = Vec::new();
    for item in select.group_clause() {
        groups.push(raw.group(item)?);
    }
    let having = match select.having_clause() {
        Node::None => String::new(),
        node => format!(" HAVING {}", raw.rewrite(node)?),
    };
    let mut keys = Vec::new();
    for sort in select.sort_clause() {
        let way = text::direction(sort)?;
        keys.push(format!("{}{way}", raw.item(sort.node(), true)?));
    }
    if raw.stuck || level.outputs.is_empty() {
        return Err(refused(
            "the statement needs whole rows, or subqueries, after the shards' rows are put together",
            "Name the columns, or bind the statement to one key.",
        ));
    }
    let grouped = if groups.is_empty() { String::new() } else { format!(" GROUP BY {}", groups.join(", ")) };
    let ordered = if keys.is_empty() { String::new() } else { format!(" ORDER BY {}", keys.join(", ")) };
    let mut targets: Vec<String> = raw.columns.iter().map(|(_, sql, _)| sql.clone()).collect();
    if targets.is_empty() {
        // Rows only count.
        targets.push("1".to_owned());
    }
    let shard = text::skeleton(select, Keep::Rows, &targets)?;
    let merge = subject.finished(&raw.finals, &heads, &grouped, &having, &ordered, targets.len())?;
    Ok(Parts { shard, merge })
}

impl<'a> Raw<'_, 'a> {
    fn distinct(&mut self) -> Result<Option<String>, Refused> {
        Ok(match &self.subject.level.distinct {
            Distinct::No => None,
            Distinct::All => Some("DISTINCT".to_owned()),
            Distinct::On(_) => {
                let mut items = Vec::new();
                for item in self.subject.select.distinct_clause() {
                    items.push(self.item(item, true)?);
                }
                Some(format!("DISTINCT ON ({})", items.join(", ")))
            }
        })
    }

    /// An item of GROUP BY or ORDER BY: outputs by their number, anything else by its expression.
    fn item(&mut self, item: Node<'a>, names_first: bool) -> Result<String, Refused> {
        let is_column = match item {
            Node::ColumnRef(reference) => self.subject.built.column_at(self.subject.level, reference).is_some(),
            _ => false,
        };
        match self.subject.output_place(item, names_first || !is_column) {
            Some(place) => Ok((place + 1).to_string()),
            None => self.rewrite(item),
        }
    }

    /// An item of GROUP BY, grouping sets included.
    fn group(&mut self, item: Node<'a>) -> Result<String, Refused> {
        let (word, content) = match item {
            Node::GroupingSet(set) => match set.kind {
                GroupingSetKind::GROUPING_SET_EMPTY => return Ok("()".to_owned()),
                GroupingSetKind::GROUPING_SET_ROLLUP => ("ROLLUP", set.content()),
                GroupingSetKind::GROUPING_SET_CUBE => ("CUBE", set.content()),
                GroupingSetKind::GROUPING_SET_SETS => ("GROUPING SETS", set.content()),
                _ => return Err(text::not_written()),
            },
            Node::RowExpr(row) => ("", row.args()),
            item => return self.item(item, false),
        };
        let items: Vec<String> = content.iter().map(|item| self.group(item)).collect::<Result<_, _>>()?;
        Ok(format!("{word} ({})", items.join(", ")))
    }

    fn rewrite(&mut self, node: Node<'a>) -> Result<String, Refused> {
        expression::replaced(node, &mut |node| self.replace(node)).ok_or_else(text::not_written)
    }

    fn replace(&mut self, node: Node<'_>) -> Option<String> {
        self.stuck |= matches!(node, Node::SubLink(_));
        let Node::ColumnRef(reference) = node else { return None };
        let term = self.subject.built.column_at(self.subject.level, reference);
        let (Some(term), Some(sql)) = (term, expression::sql(node)) else {
            self.stuck = true;
            return None;
        };
        let collate = self.subject.built.collation(term).unwrap_or_else(|| {
            self.stuck |= self.subject.has_collations();
            String::new()
        });
        let at = self.columns.iter().position(|(known, ..)| *known == term).unwrap_or_else(|| {
            self.columns.push((term, sql, collate.clone()));
            self.columns.len() - 1
        });
        let column = format!("p{}", at + 1);
        let text = if collate.is_empty() { column } else { format!("({column}{collate})") };
        Some(self.finals.name(vec![Piece::Text(text)]))
    }
}
