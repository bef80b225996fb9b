//! A query as the proof needs it: which tables occur where, which columns are known to be equal, what
//! stands between a table's rows and the result. Built from the tree by `build`, judged by
//! `super::prove`.

#![allow(clippy::unnecessary_box_returns, reason = "a refusal travels boxed: it is rare and wide")]

mod build;
mod columns;
mod expressions;
mod functions;

pub use build::{Builder, Scope};
pub use columns::expression_name;
pub use expressions::constant;
pub use functions::is_aggregate;

use super::{catalog::Table, hash::KeyType, sql::nodes};

/// Number of an occurrence of a relation in the statement.
pub type OccId = usize;

/// One occurrence of a relation in some FROM.
#[derive(Debug)]
pub struct Occ<'a> {
    /// What columns are qualified by: alias or table name.
    pub name: &'a str,
    /// What it is.
    pub kind: OccKind<'a>,
    /// Where the table's name stands, if it was written.
    pub var: Option<&'a nodes::RangeVar>,
    /// Its columns' names as the query sees them; `None`: not known (functions, VALUES).
    pub columns: Option<Vec<Named<'a>>>,
}

/// A column of an occurrence.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Name in the query.
    pub name: &'a str,
    /// Type that can be compared and hashed by bytes, in the default collation; else `None`.
    pub key_type: Option<KeyType>,
}

/// What an occurrence is.
#[derive(Debug, Clone, Copy)]
pub enum OccKind<'a> {
    /// A distributed table.
    Distributed(&'a Table),
    /// A reference table.
    Reference(&'a Table),
    /// A subquery in FROM: its columns are the subquery's outputs.
    Sub,
    /// A CTE, by its number; columns are its outputs.
    Cte(usize),
    /// A function, VALUES, or a CTE's reference to itself: no table behind it.
    Opaque,
}

/// Something that equality is known about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term<'a> {
    /// A column of an occurrence, by its place there.
    Column(OccId, usize),
    /// A constant or parameter.
    Const(Const<'a>),
}

/// A constant as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Const<'a> {
    /// `'…'`, perhaps cast: text that the type's input function reads.
    String(&'a str, Option<KeyType>),
    /// An integer of any size, perhaps cast.
    Integer(i64, Option<KeyType>),
    /// A number that is no integer or too large for one.
    Number(&'a str, Option<KeyType>),
    /// `true`, `false`.
    Boolean(bool),
    /// `$n`, perhaps cast.
    Param(u16, Option<KeyType>),
}

/// Two terms that are equal for every row that matters.
pub type Fact<'a> = (Term<'a>, Term<'a>);

/// A query: SELECT, or a write with its FROM.
#[derive(Debug)]
pub enum Query<'a> {
    /// One level with FROM and WHERE.
    Level(Box<Level<'a>>),
    /// UNION, INTERSECT, EXCEPT.
    SetOp {
        /// UNION ALL: nothing is removed.
        union_all: bool,
        /// Left.
        left: Box<Query<'a>>,
        /// Right.
        right: Box<Query<'a>>,
        /// LIMIT or OFFSET over all of it.
        limited: bool,
        /// Subqueries in its ORDER BY and LIMIT.
        links: Vec<Link<'a>>,
    },
}

/// One SELECT, or the FROM and WHERE of an UPDATE or DELETE.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "clauses that are there or not, independently")]
pub struct Level<'a> {
    /// What its column names can mean.
    pub scope: Scope,
    /// FROM, comma-separated.
    pub from: Vec<From<'a>>,
    /// Equalities of WHERE.
    pub facts: Vec<Fact<'a>>,
    /// `column IN (constants)` of WHERE.
    pub lists: Vec<(Term<'a>, Vec<Const<'a>>)>,
    /// Subqueries in its expressions.
    pub links: Vec<Link<'a>>,
    /// Output columns.
    pub outputs: Vec<Output<'a>>,
    /// Every output is known by its place (no `*` over something unknown).
    pub outputs_known: bool,
    /// It has aggregates, GROUP BY or HAVING.
    pub aggregated: bool,
    /// GROUP BY's plain columns; none count where there are grouping sets.
    pub groups: Vec<Term<'a>>,
    /// DISTINCT.
    pub distinct: Distinct<'a>,
    /// PARTITION BY's plain columns, for each window function call.
    pub windows: Vec<Vec<Term<'a>>>,
    /// LIMIT or OFFSET.
    pub limited: bool,
    /// ORDER BY.
    pub ordered: bool,
    /// FOR UPDATE and the like.
    pub locking: bool,
    /// INSERT, UPDATE or DELETE.
    pub writes: bool,
}

/// DISTINCT of a level.
#[derive(Debug, Default)]
pub enum Distinct<'a> {
    /// Not there.
    #[default]
    No,
    /// Over all outputs.
    All,
    /// ON these plain columns (and perhaps others).
    On(Vec<Term<'a>>),
}

/// An output column.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    /// Its name.
    pub name: &'a str,
    /// The column it is, where it is a plain one.
    pub term: Option<Term<'a>>,
    /// Its type, where known and fit for keys.
    pub key_type: Option<KeyType>,
}

/// A subquery in an expression.
#[derive(Debug)]
pub struct Link<'a> {
    /// The subquery.
    pub query: Query<'a>,
    /// `x IN (SELECT …)` as a conjunct of WHERE: x.
    pub in_term: Option<Term<'a>>,
}

/// A FROM item.
#[derive(Debug)]
pub enum From<'a> {
    /// A table, function, CTE.
    Occ(OccId),
    /// A subquery.
    Sub {
        /// Its occurrence.
        occ: OccId,
        /// Itself.
        query: Box<Query<'a>>,
        /// LATERAL.
        lateral: bool,
    },
    /// A join.
    Join {
        /// How.
        kind: Join,
        /// Left.
        left: Box<From<'a>>,
        /// Right.
        right: Box<From<'a>>,
        /// Equalities of ON or USING.
        facts: Vec<Fact<'a>>,
        /// Subqueries in ON.
        links: Vec<Link<'a>>,
    },
}

/// How two FROM items are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "SQL's own words")]
pub enum Join {
    Inner,
    Left,
    Right,
    Full,
}

/// What the statement as a whole was seen to hold.
#[derive(Debug, Default)]
pub struct Seen<'a> {
    /// Parameters, as they occur.
    pub params: Vec<u16>,
    /// Its meaning depends on the parent tables' names, for this reason.
    pub parent_only: bool,
    /// A local relation, if one occurs.
    pub local: Option<&'a str>,
    /// A call whose answer differs between evaluations (`random()`), if one occurs.
    pub volatile: Option<&'a str>,
    /// The time of day, if asked for: differs between servers.
    pub clock: Option<&'a str>,
    /// A recursive CTE occurs.
    pub recursive: bool,
    /// A WITH that writes, or locking, occurs below the top.
    pub writes_below: bool,
}
