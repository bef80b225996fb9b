//! Texts of the two statements: skeletons with marks where parts go in, names quoted, parameters
//! counted.

use super::{super::expression, Refused, Subject, collations, refused};
use crate::router::core::{
    catalog::quote_name,
    lexer,
    plan::{Merge, Piece, Template},
    query::{Term, expression_name},
    sql::{self, ConstValue, LimitOption, Node, Recurse, SortByDir, SortByNulls, nodes, walk_manual},
};
use pg_raw_parse::make;

/// What every mark begins with.
pub const MARK: &str = "howdah_";
/// Where a statement for shards has its target list, or the end of it.
const TARGETS: &str = "howdah_targets";
/// A final expression, by number: `howdah_x3_`.
const FINAL: &str = "howdah_x";

/// What a skeleton keeps of the statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// WITH, FROM, WHERE.
    Rows,
    /// All but ORDER BY and LIMIT; targets are added to its own.
    AllButOrder,
}

/// The statement for shards with `targets` in (or after) its target list.
pub fn skeleton(select: &nodes::SelectStmt, keep: Keep, targets: &[String]) -> Result<String, Refused> {
    let tree = make::owned(|mem| {
        let mut copy = mem.make_unique(select);
        let mark = mem.make_column_ref(mem.make_list(&[mem.make_string(Some(TARGETS)).uncast()]));
        let mark = mem.make_res_target(None, mem.empty(), mark.uncast());
        let mut list = Vec::new();
        if keep == Keep::AllButOrder {
            list.extend(select.target_list().iter().map(|target| mem.make_unique(target)));
        }
        if keep == Keep::Rows || !targets.is_empty() {
            list.push(mark);
        }
        let mut tree = copy.as_mut();
        tree.set_target_list(mem.make_list(&list));
        tree.set_sort_clause(mem.make_list::<&nodes::SortBy>(&[]));
        tree.set_limit_count(mem.none());
        tree.set_limit_offset(mem.none());
        tree.set_limit_option(LimitOption::LIMIT_OPTION_DEFAULT);
        if keep == Keep::Rows {
            tree.set_group_clause(mem.empty());
            tree.set_having_clause(mem.none());
            tree.set_window_clause(mem.empty());
            tree.set_distinct_clause(mem.empty());
        }
        copy
    });
    let text = sql::deparse(&*tree).ok_or_else(not_written)?;
    Ok(if targets.is_empty() { text } else { text.replacen(TARGETS, &targets.join(", "), 1) })
}

pub fn not_written() -> Refused {
    refused("this statement cannot be split for several shards", "Bind it to one key, or simplify it.")
}

/// Parameters in a text, ascending.
pub fn params(text: &str) -> Vec<u16> {
    let mut params = Vec::new();
    let mut at = lexer::skip_space(text, 0);
    while at < text.len() {
        let end = lexer::token_end(text, at);
        if &text[at..end] == "$" {
            let digits = text[end..].bytes().take_while(u8::is_ascii_digit).count();
            params.extend(text[end..end + digits].parse::<u16>());
        }
        at = lexer::skip_space(text, end);
    }
    params.sort_unstable();
    params.dedup();
    params
}

/// Expressions of the final statement that stand for a part of the original.
#[derive(Default)]
pub struct Finals {
    list: Vec<Vec<Piece>>,
}

impl Finals {
    /// A name for an expression, to be put where the part stood.
    pub fn name(&mut self, pieces: Vec<Piece>) -> String {
        let at = self.list.iter().position(|known| *known == pieces).unwrap_or_else(|| {
            self.list.push(pieces);
            self.list.len() - 1
        });
        format!("{FINAL}{at}_")
    }

    /// The final statement: names become the expressions they stand for.
    pub fn template(&self, head: &str, tail: &str) -> Template {
        let mut pieces = Vec::new();
        self.fill(head, &mut pieces);
        push(&mut pieces, Piece::Text(" FROM ".to_owned()));
        push(&mut pieces, Piece::Partial);
        self.fill(tail, &mut pieces);
        Template { pieces, params: params(&format!("{head} {tail}")) }
    }

    fn fill(&self, text: &str, pieces: &mut Vec<Piece>) {
        let mut rest = text;
        while let Some(at) = rest.find(FINAL) {
            push(pieces, Piece::Text(rest[..at].to_owned()));
            let after = &rest[at + FINAL.len()..];
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let number: usize = after[..digits].parse().unwrap_or(usize::MAX);
            for piece in self.list.get(number).into_iter().flatten() {
                push(pieces, piece.clone());
            }
            rest = after[digits..].strip_prefix('_').unwrap_or(&after[digits..]);
        }
        push(pieces, Piece::Text(rest.to_owned()));
    }
}

fn push(pieces: &mut Vec<Piece>, piece: Piece) {
    match (pieces.last_mut(), piece) {
        (_, Piece::Text(text)) if text.is_empty() => {}
        (Some(Piece::Text(last)), Piece::Text(text)) => last.push_str(&text),
        (_, piece) => pieces.push(piece),
    }
}

/// ORDER BY's direction.
pub fn direction(sort: &nodes::SortBy) -> Result<String, Refused> {
    let way = match sort.sortby_dir {
        SortByDir::SORTBY_DEFAULT => "",
        SortByDir::SORTBY_ASC => " ASC",
        SortByDir::SORTBY_DESC => " DESC",
        _ => return Err(not_written()),
    };
    let nulls = match sort.sortby_nulls {
        SortByNulls::SORTBY_NULLS_FIRST => " NULLS FIRST",
        SortByNulls::SORTBY_NULLS_LAST => " NULLS LAST",
        _ => "",
    };
    Ok(format!("{way}{nulls}"))
}

impl<'a> Subject<'_, 'a> {
    /// The output that an ORDER BY or GROUP BY item names: by its number, or by a name; `by_name`:
    /// output names count (in ORDER BY they come first).
    pub fn output_place(self, item: Node<'a>, by_name: bool) -> Option<usize> {
        match item {
            Node::A_Const(constant) => match constant.val() {
                Some(ConstValue::Integer(number)) => usize::try_from(number).ok()?.checked_sub(1),
                _ => None,
            },
            Node::ColumnRef(reference) if by_name && reference.fields().len() == 1 => {
                let name = reference.fields().first()?.as_str()?;
                self.level.outputs.iter().position(|output| output.name == name)
            }
            _ => None,
        }
    }

    /// A target's name as the client sees it.
    pub fn target_name(target: &nodes::ResTarget) -> String {
        quote_label(target.name().unwrap_or_else(|| expression_name(target.val())))
    }

    /// ` LIMIT … OFFSET …` of the final statement.
    pub fn limit(self) -> Result<String, Refused> {
        let expression = |node: Node<'a>| match node {
            Node::None => Ok(None),
            // LIMIT ALL
            Node::A_Const(constant) if constant.isnull => Ok(None),
            node => expression::sql(node).map(Some).ok_or_else(not_written),
        };
        let offset = expression(self.select.limit_offset())?.map(|offset| format!(" OFFSET ({offset})"));
        let count = expression(self.select.limit_count())?.map(|count| {
            if self.with_ties() {
                format!(" FETCH FIRST ({count}) ROWS WITH TIES")
            } else {
                format!(" LIMIT ({count})")
            }
        });
        Ok(offset.unwrap_or_default() + &count.unwrap_or_default())
    }

    /// ` LIMIT …` for the shards: as many rows as the final statement could need of one of them.
    pub fn shard_limit(self) -> Result<String, Refused> {
        let (count, offset) = (self.select.limit_count(), self.select.limit_offset());
        let written = |node| expression::sql(node).ok_or_else(not_written);
        Ok(match (count, offset) {
            (Node::None, _) => String::new(),
            _ if self.with_ties() => String::new(),
            (Node::A_Const(count), _) if count.isnull => String::new(),
            (count, Node::None) => format!(" LIMIT ({})", written(count)?),
            // A NULL offset is 0, but NULL here means no limit: more rows than needed.
            (count, offset) => format!(" LIMIT ({})::bigint + ({})::bigint", written(count)?, written(offset)?),
        })
    }

    fn with_ties(self) -> bool {
        self.select.limit_option == LimitOption::LIMIT_OPTION_WITH_TIES
    }

    /// `COLLATE …` that a column of the partial rows needs to compare as the expression does.
    pub fn collate(self, node: Node<'_>) -> Result<String, Refused> {
        if let Node::ColumnRef(reference) = node
            && let Some(term) = self.built.column_at(self.level, reference)
            && let Some(collation) = self.built.collation(term)
        {
            return Ok(collation);
        }
        if self.is_default_collated(node) { Ok(String::new()) } else { Err(collations()) }
    }

    /// Nothing in the expression has a collation other than the database's.
    fn is_default_collated(self, node: Node<'_>) -> bool {
        if !self.has_collations() {
            return true;
        }
        let is_plain = |node: Node<'_>| match node {
            Node::ColumnRef(reference) => {
                let term = self.built.column_at(self.level, reference);
                term.and_then(|term| self.built.collation(term)).is_some_and(|collation| collation.is_empty())
            }
            Node::SubLink(_) => false,
            _ => true,
        };
        let mut plain = is_plain(node);
        walk_manual::<()>(node, |node| {
            plain &= is_plain(node);
            Recurse::yes()
        });
        plain
    }

    /// As [`Self::collate`], for an output.
    pub fn collate_output(self, place: usize) -> Result<String, Refused> {
        if !self.has_collations() {
            return Ok(String::new());
        }
        // Outputs are targets one to one only where no star stands among them.
        let targets = self.select.target_list();
        if targets.len() == self.level.outputs.len()
            && let Some(target) = targets.get(place)
        {
            return self.collate(target.val());
        }
        let term: Option<Term<'a>> = self.level.outputs.get(place).and_then(|output| output.term);
        term.and_then(|term| self.built.collation(term)).ok_or_else(collations)
    }

    /// The final statement over partial rows, its parts replaced by `replace`: targets, GROUP BY,
    /// HAVING, ORDER BY, LIMIT.
    pub fn finished(
        self,
        finals: &Finals,
        heads: &[String],
        grouped: &str,
        having: &str,
        ordered: &str,
        columns: usize,
    ) -> Result<Merge, Refused> {
        let head = format!("SELECT {}", heads.join(", "));
        let tail = format!("{grouped}{having}{ordered}{}", self.limit()?);
        let columns = u16::try_from(columns).map_err(|_| not_written())?;
        Ok(Merge::Final { query: finals.template(&head, &tail), columns })
    }
}

/// A column label: quoted whenever it is not plain.
pub fn quote_label(name: &str) -> String {
    quote_name(name)
}
