//! The door to the SQL parser: text in, statements out. The parser's crate is named here and nowhere
//! else; the rest of `core` uses what this module lets through.

pub mod keywords;

use std::ops::Range;

pub use pg_raw_parse::{
    ConstValue, Node,
    list::NodeList,
    nodes,
    raw::{
        A_Expr_Kind, AlterTableType, BoolExprType, ConstrType, DiscardMode, GrantTargetType, GroupingSetKind, JoinType,
        LimitOption, MinMaxOp, ObjectType, OnConflictAction, SetOperation, SortByDir, SortByNulls, SubLinkType,
        TransactionStmtKind, VariableSetKind,
    },
    walk::{Recurse, walk_manual},
};

/// A parsed query string.
pub struct Parsed {
    text: String,
    tree: pg_raw_parse::ParseResult,
}

/// One statement of it.
#[derive(Clone, Copy)]
pub struct Statement<'a> {
    /// The whole query string: locations in the tree are offsets into it.
    pub text: &'a str,
    /// Where this statement begins and ends, without white space before it and the semicolon.
    pub start: usize,
    /// Its end.
    pub end: usize,
    /// Its tree.
    pub node: Node<'a>,
}

/// The text is not SQL: `PostgreSQL` shall say so itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not parsed: {0}")]
pub struct NotSql(String);

impl Parsed {
    /// Parses a query string of any number of statements.
    pub fn new(text: &str) -> Result<Self, NotSql> {
        let tree = pg_raw_parse::parse(text).map_err(|error| NotSql(error.to_string()))?;
        Ok(Self { text: text.to_owned(), tree })
    }

    /// How many statements.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// No statement: an empty query string, or comments only.
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// A statement by its index.
    pub fn get(&self, index: usize) -> Option<Statement<'_>> {
        let raw = self.tree.get(index)?;
        let start = usize::try_from(raw.stmt_location).unwrap_or(0);
        let end = match usize::try_from(raw.stmt_len) {
            Ok(len) if len > 0 => start + len,
            _ => self.text.len(),
        };
        let skipped = super::lexer::skip_space(&self.text[..end], start);
        let text = self.text[skipped..end].trim_end();
        let end = skipped + text.strip_suffix(';').unwrap_or(text).len();
        Some(Statement { text: &self.text, start: skipped, end, node: raw.stmt() })
    }
}

impl<'a> Statement<'a> {
    /// Its own text.
    pub fn sql(&self) -> &'a str {
        &self.text[self.start..self.end]
    }

    /// Where it stands in the query string.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// A location in the tree; `None` where the grammar keeps none.
pub fn location(at: i32) -> Option<usize> {
    usize::try_from(at).ok()
}

/// The parts of a dotted name; `None` if a part is not a name (`*`, a subscript).
pub fn names(list: &NodeList) -> Option<Vec<&str>> {
    list.iter().map(Node::as_str).collect()
}

/// The last part of a dotted name.
pub fn last_name(list: &NodeList) -> Option<&str> {
    list.iter().next_back().and_then(Node::as_str)
}

/// SQL of an expression or a statement, from its tree.
pub fn deparse<'a>(node: impl Into<Node<'a>>) -> Option<String> {
    pg_raw_parse::deparse(node).ok().map(|text| text.as_str().to_owned())
}
