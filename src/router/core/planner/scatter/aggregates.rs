//! Aggregates over all shards, split: each shard aggregates its rows, the merge aggregates the
//! results. Exact: `sum` is cast back to the type its partial has, `avg` is the sum divided by the count
//! as `PostgreSQL` itself does it.

use super::{
    super::expression,
    Parts, Refused, Subject, refused,
    text::{self, Finals, Keep},
};
use crate::router::core::{
    plan::Piece,
    query::{Distinct, Term, is_aggregate},
    sql::{Node, Recurse, last_name, nodes, walk_manual},
};

/// The partial columns so far.
struct Split<'s, 'a> {
    subject: Subject<'s, 'a>,
    /// GROUP BY's expressions, as text and, where they are plain columns, as terms.
    groups: Vec<(String, Option<Term<'a>>, String)>,
    /// Partial aggregates, as text.
    partials: Vec<String>,
    finals: Finals,
    /// An aggregate that cannot be split was met.
    unsplit: bool,
    /// Something else that cannot be moved to the merge was met.
    stuck: bool,
}

/// The two statements; `None`: some aggregate cannot be split.
pub fn parts(subject: Subject<'_, '_>) -> Result<Option<Parts>, Refused> {
    let Subject { select, level, .. } = subject;
    if !level.aggregated {
        return Ok(None);
    }
    let mut split = Split {
        subject,
        groups: Vec::new(),
        partials: Vec::new(),
        finals: Finals::default(),
        unsplit: false,
        stuck: false,
    };
    for item in select.group_clause() {
        if !split.group(item)? {
            return Ok(None);
        }
    }
    let mut heads = Vec::new();
    for target in select.target_list() {
        heads.push(format!("{} AS {}", split.rewrite(target.val())?, Subject::target_name(target)));
    }
    let having = match select.having_clause() {
        Node::None => String::new(),
        node => format!(" HAVING {}", split.rewrite(node)?),
    };
    let mut keys = Vec::new();
    for sort in select.sort_clause() {
        let way = text::direction(sort)?;
        let key = match subject.output_place(sort.node(), true) {
            Some(place) => (place + 1).to_string(),
            None => split.rewrite(sort.node())?,
        };
        keys.push(format!("{key}{way}"));
    }
    if split.unsplit {
        return Ok(None);
    }
    if split.stuck {
        return Err(refused(
            "the select list, HAVING or ORDER BY holds something beside aggregates and grouped expressions that cannot be \
             computed after the shards' rows are put together",
            "Group by it, or compute it in a subquery.",
        ));
    }
    if matches!(level.distinct, Distinct::All)
        && let Some(first) = heads.first_mut()
    {
        *first = format!("DISTINCT {first}");
    }
    split.finish(&heads, &having, &keys).map(Some)
}

impl<'a> Split<'_, 'a> {
    /// Takes an item of GROUP BY; false: it is of a kind that is not split.
    fn group(&mut self, item: Node<'a>) -> Result<bool, Refused> {
        let select = self.subject.select;
        let as_column = match item {
            Node::ColumnRef(reference) => self.subject.built.column_at(self.subject.level, reference).is_some(),
            _ => false,
        };
        let node = if as_column {
            item
        } else if let Some(place) = self.subject.output_place(item, true) {
            // Outputs are targets one to one only where no star stands among them.
            if select.target_list().len() != self.subject.level.outputs.len() {
                return Ok(false);
            }
            select.target_list().get(place).map(nodes::ResTarget::val).ok_or_else(text::not_written)?
        } else {
            item
        };
        if matches!(node, Node::GroupingSet(_)) {
            return Ok(false);
        }
        let term = match node {
            Node::ColumnRef(reference) => self.subject.built.column_at(self.subject.level, reference),
            _ => None,
        };
        let sql = expression::sql(node).ok_or_else(text::not_written)?;
        let collate = self.subject.collate(node)?;
        self.groups.push((sql, term, collate));
        Ok(true)
    }

    /// An expression of the final statement: grouped expressions and aggregates replaced.
    fn rewrite(&mut self, node: Node<'a>) -> Result<String, Refused> {
        expression::replaced(node, &mut |node| self.replace(node)).ok_or_else(text::not_written)
    }

    fn replace(&mut self, node: Node<'_>) -> Option<String> {
        match node {
            Node::FuncCall(call)
                if call.over().is_none() && is_aggregate(last_name(call.funcname()).unwrap_or_default()) =>
            {
                return Some(self.aggregate(call));
            }
            Node::SubLink(_) | Node::A_Star(_) | Node::GroupingFunc(_) => self.stuck = true,
            Node::A_Const(_) | Node::ParamRef(_) | Node::NodeList(_) | Node::TypeName(_) | Node::String(_) => {
                return None;
            }
            _ => {}
        }
        let term = match node {
            Node::ColumnRef(reference) => self.subject.built.column_at(self.subject.level, reference),
            _ => None,
        };
        let sql = match term {
            Some(_) => None,
            None => expression::sql(node),
        };
        let found = self.groups.iter().position(|(text, group, _)| {
            (term.is_some() && *group == term) || sql.as_ref().is_some_and(|sql| sql == text)
        });
        let Some(at) = found else {
            self.stuck |= matches!(node, Node::ColumnRef(_));
            return None;
        };
        let collate = &self.groups[at].2;
        let column = format!("p{}", at + 1);
        let text = if collate.is_empty() { column } else { format!("({column}{collate})") };
        Some(self.finals.name(vec![Piece::Text(text)]))
    }

    /// The number of a partial column.
    fn partial(&mut self, sql: String) -> u16 {
        let at = self.partials.iter().position(|known| *known == sql).unwrap_or_else(|| {
            self.partials.push(sql);
            self.partials.len() - 1
        });
        u16::try_from(self.groups.len() + at + 1).unwrap_or(u16::MAX)
    }

    fn aggregate(&mut self, call: &nodes::FuncCall) -> String {
        let Some(pieces) = self.split(call) else {
            self.unsplit = true;
            return "NULL".to_owned();
        };
        self.finals.name(pieces)
    }

    fn split(&mut self, call: &nodes::FuncCall) -> Option<Vec<Piece>> {
        if call.agg_distinct || call.agg_within_group || !call.agg_order().is_empty() || call.func_variadic {
            return None;
        }
        let name = last_name(call.funcname())?;
        let whole = expression::sql(Node::FuncCall(call))?;
        let text = |text: String| vec![Piece::Text(text)];
        match name {
            "count" => {
                let number = self.partial(whole);
                Some(text(format!("coalesce(sum(p{number}), 0)::bigint")))
            }
            "sum" => {
                let number = self.partial(whole);
                Some(vec![
                    Piece::Text(format!("CAST(sum(p{number}) AS ")),
                    Piece::TypeOf(number),
                    Piece::Text(")".to_owned()),
                ])
            }
            "min" | "max" => {
                let collate = self.subject.collate(call.args().first()?).ok()?;
                let number = self.partial(whole);
                Some(text(format!("{name}(p{number}{collate})")))
            }
            "bool_and" | "bool_or" | "every" | "bit_and" | "bit_or" | "bit_xor" => {
                let number = self.partial(whole);
                Some(text(format!("{name}(p{number})")))
            }
            "avg" => self.average(call).map(text),
            _ => None,
        }
    }

    /// `avg(x)` as `sum(x) / count(x)`: what its final function computes.
    fn average(&mut self, call: &nodes::FuncCall) -> Option<String> {
        let argument = call.args().first()?;
        let sql = expression::sql(argument)?;
        let filter = match call.agg_filter() {
            Node::None => String::new(),
            node => format!(" FILTER (WHERE {})", expression::sql(node)?),
        };
        // avg(real) accumulates in double precision, sum(real) does not.
        let summed = match self.single(argument) {
            Single::Column => format!("({sql})::double precision"),
            Single::Somewhere => return None,
            Single::No => sql.clone(),
        };
        let sum = self.partial(format!("sum({summed}){filter}"));
        let count = self.partial(format!("count({sql}){filter}"));
        Some(format!("(sum(p{sum}) / nullif(sum(p{count}), 0))"))
    }

    fn single(&self, argument: Node<'_>) -> Single {
        let is_real = |node: Node<'_>| match node {
            Node::ColumnRef(reference) => match self.subject.built.column_at(self.subject.level, reference) {
                // A subquery's column: its type is not known.
                Some(term) => self.subject.built.type_oid(term).is_none_or(|oid| oid == REAL),
                None => true,
            },
            Node::TypeName(name) => name
                .names()
                .iter()
                .next_back()
                .and_then(nodes::String::sval)
                .is_some_and(|name| matches!(name, "float4" | "real")),
            _ => false,
        };
        if let Node::ColumnRef(reference) = argument {
            let oid = self
                .subject
                .built
                .column_at(self.subject.level, reference)
                .and_then(|term| self.subject.built.type_oid(term));
            return match oid {
                Some(REAL) => Single::Column,
                Some(_) => Single::No,
                None => Single::Somewhere,
            };
        }
        let mut found = is_real(argument);
        walk_manual::<()>(argument, |node| {
            found |= is_real(node);
            Recurse::yes()
        });
        if found { Single::Somewhere } else { Single::No }
    }

    fn finish(self, heads: &[String], having: &str, keys: &[String]) -> Result<Parts, Refused> {
        let subject = self.subject;
        let columns = self.groups.len() + self.partials.len();
        let mut targets: Vec<String> = self.groups.iter().map(|(sql, ..)| sql.clone()).collect();
        targets.extend(self.partials.iter().cloned());
        if targets.is_empty() {
            // HAVING or GROUP BY () without any aggregate.
            return Err(text::not_written());
        }
        let mut shard = text::skeleton(subject.select, Keep::Rows, &targets)?;
        let mut grouped = String::new();
        if !self.groups.is_empty() {
            let numbers: Vec<String> = (1..=self.groups.len()).map(|number| number.to_string()).collect();
            shard.push_str(" GROUP BY ");
            shard.push_str(&numbers.join(", "));
            let names: Vec<String> = self
                .groups
                .iter()
                .enumerate()
                .map(
                    |(at, (_, _, collate))| {
                        if collate.is_empty() { format!("p{}", at + 1) } else { format!("(p{}{collate})", at + 1) }
                    },
                )
                .collect();
            grouped = format!(" GROUP BY {}", names.join(", "));
        }
        let ordered = if keys.is_empty() { String::new() } else { format!(" ORDER BY {}", keys.join(", ")) };
        let merge = subject.finished(&self.finals, heads, &grouped, having, &ordered, columns)?;
        Ok(Parts { shard, merge })
    }
}

/// `float4`.
const REAL: u32 = 700;

/// Where single-precision numbers are in an argument.
enum Single {
    /// It is a column of that type.
    Column,
    /// Perhaps somewhere in it.
    Somewhere,
    /// Nowhere.
    No,
}
