//! What is to be done for a statement: the planner's answer, the executor's order. A plan holds no
//! placement: buckets become shards when it runs, by the map of that moment.

use std::ops::Range;

use super::{
    catalog::{TableName, leaf_name, quote_name},
    hash::KeyType,
};
use crate::model::ids::ColocationId;

pub use super::plan_utility::*;

/// One statement of a query string.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Where it stands in the text, in bytes, without the semicolon.
    pub range: Range<usize>,
    /// What to do.
    pub plan: Plan,
}

/// What to do for one statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// No distributed table is involved: the bytes go unchanged to the query group.
    Local(Local),
    /// All it touches is in one bucket.
    OneShard(OneShard),
    /// `INSERT … VALUES` of several rows, split by key. All or nothing.
    InsertRows(InsertRows),
    /// `INSERT … SELECT` whose rows do not stay on their shard: run the source, split its rows by key.
    InsertSelect(InsertSelect),
    /// One statement per shard.
    Scatter(Scatter),
    /// A write to a reference table: the same text on every shard *and* the query group, in one
    /// transaction; the answer is the query group's.
    ReferenceWrite(ReferenceWrite),
    /// `COPY … FROM STDIN` into a distributed or reference table.
    CopyIn(CopyIn),
    /// `COPY … TO STDOUT` of distributed data.
    CopyOut(CopyOut),
    /// A call of one of Howdah's functions.
    Function(Function),
    /// DDL that touches distributed or reference tables, or is propagated everywhere.
    Ddl(Ddl),
    /// `EXPLAIN` of a distributed statement.
    Explain(Explain),
    /// SQL `PREPARE` of a distributed statement.
    Prepare(Prepare),
    /// `SHOW howdah.tier`.
    ShowTier,
    /// Not run, with the reason. Boxed: refusals are rare and wide.
    Refuse(Box<Refusal>),
}

/// What `SHOW howdah.tier` and `EXPLAIN` call the way a statement runs.
impl Plan {
    /// `local`, `one shard`, `scatter`, …
    pub fn tier(&self) -> &'static str {
        match self {
            Self::Local(_) | Self::ShowTier => "local",
            Self::OneShard(_) => "one shard",
            Self::InsertRows(_) => "rows by key",
            Self::InsertSelect(_) | Self::CopyIn(_) => "split by key",
            Self::Scatter(_) | Self::CopyOut(_) => "scatter",
            Self::ReferenceWrite(_) => "reference write",
            Self::Function(_) => "function",
            Self::Ddl(_) => "ddl",
            Self::Explain(explain) => explain.inner.tier(),
            Self::Prepare(prepare) => prepare.inner.tier(),
            Self::Refuse(_) => "refused",
        }
    }
}

/// For the query group alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Local {
    /// What it does to the session, in order. Empty for nearly every statement.
    pub effects: Vec<Effect>,
    /// It surely changes nothing but its own snapshot: plain SELECT without locking, without calls of
    /// functions that could write. (For the read-only port, and for knowing whether the query group
    /// takes part in the commit as a writer.)
    pub read_only: bool,
    /// What must be asked first, because the guard of a distributed table would not notice the statement
    /// itself: the catalog it was planned by may be older than that table. Empty for nearly every one.
    pub unguarded: Vec<Probe>,
}

/// A relation that a local statement names, as an SQL name, and how to find out that it is not local.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Its rows are read without its children (`ONLY`, `COPY … TO`), which are the guard: a query that
    /// would read them too says so, and keeps a lock to the end of the transaction.
    Read(String),
    /// It is used by name (`LOCK`, `VACUUM`, `GRANT`, …): the catalog of the query group says so.
    Name(String),
}

impl Probe {
    /// The question: refused by the guard, or without meaning.
    pub fn sql(&self) -> String {
        match self {
            Self::Read(name) => format!("SELECT FROM {name} LIMIT 0"),
            Self::Name(name) => format!("SELECT howdah.refuse_shell({})", super::settings::literal(name)),
        }
    }
}

/// Which command tag the client gets; its count is the sum over shards (`INSERT 0 n`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `SELECT n`.
    Select,
    /// `INSERT 0 n`.
    Insert,
    /// `UPDATE n`.
    Update,
    /// `DELETE n`.
    Delete,
}

/// Everything in one bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct OneShard {
    /// Whose buckets.
    pub colocation: ColocationId,
    /// The modulus.
    pub bucket_count: u32,
    /// Which bucket.
    pub key: KeySource,
    /// The text for the shard.
    pub text: Template,
    /// Its tag.
    pub command: Command,
    /// It may change rows (a SELECT with locking counts, a WITH that writes too).
    pub is_write: bool,
    /// NULL as the key's value: for an insert an error ([`null_key`]), else no row is touched; the
    /// statement may then go to any shard of the colocation, say bucket 0's.
    pub null_key: NullKey,
}

impl OneShard {
    /// The text for a bucket's leaf.
    pub fn text_for(&self, bucket: u32) -> String {
        let mut text = String::new();
        self.text.render(Some(Leaf { bucket, bucket_count: self.bucket_count }), &mut text);
        text
    }
}

/// What a parameter that turns out to be NULL means where the key was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NullKey {
    /// `key = NULL` is never true: any bucket will do.
    AnyBucket,
    /// 23502, as `PostgreSQL` has it: [`null_key`] makes the refusal.
    NotNull {
        /// Table, without schema.
        table: String,
        /// Column.
        column: String,
    },
}

/// The error of a NULL key: `PostgreSQL`'s own words for a NOT NULL column.
pub fn null_key(table: &str, column: &str) -> Refusal {
    Refusal {
        sqlstate: "23502",
        message: format!("null value in column \"{column}\" of relation \"{table}\" violates not-null constraint"),
        detail: Some("The distribution column decides where a row lives, so it cannot be null.".to_owned()),
        hint: None,
    }
}

/// Where the bucket comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A constant, hashed while planning.
    Bucket(u32),
    /// A parameter: `key.bucket(value, bucket_count)` when it is bound; on `Unparsed`, or where
    /// `stored` says so, ask `PostgreSQL` by `key.ask_sql(stored)` with the parameter as it came.
    Param {
        /// `$index`, from 1.
        index: u16,
        /// Type of the distribution column.
        key: KeyType,
        /// The value will be stored and the column's declared type may change it (`numeric(10,2)`
        /// rounds): always ask, with this type.
        stored: Option<String>,
    },
    /// A constant the router cannot parse: ask `PostgreSQL` by `key.ask_sql(stored)` with this text.
    Ask {
        /// The constant's input text.
        text: String,
        /// Type of the distribution column.
        key: KeyType,
        /// As in `Param`.
        stored: Option<String>,
    },
}

/// Text with holes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    /// In order.
    pub pieces: Vec<Piece>,
    /// Parameters that occur in it, ascending. The others keep their positions and are sent as type
    /// `text` (25) and NULL, so that nothing is renumbered.
    pub params: Vec<u16>,
}

/// A part of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// The leaf of a table: `schema.table_bNN`, or by the parent where no bucket is given. Any alias
    /// follows as text.
    Leaf(TableName),
    /// The partial rows, as a FROM item named `partial` with columns `p1`, `p2`, …:
    /// `unnest($n::t1[], …) AS partial(p1, …)`, or a temporary table `AS partial`.
    Partial,
    /// The SQL name (`format_type`) of a partial column's type, by its number from 1.
    TypeOf(u16),
}

/// Which leaf a [`Template`] is rendered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Bucket.
    pub bucket: u32,
    /// The modulus: decides the width of leaf names.
    pub bucket_count: u32,
}

impl Template {
    /// Text without holes.
    pub fn plain(text: impl Into<String>, params: Vec<u16>) -> Self {
        Self { pieces: vec![Piece::Text(text.into())], params }
    }

    /// Appends the text for a leaf, or by the parents where `leaf` is `None`. `Partial` and `TypeOf` do
    /// not occur in texts for shards.
    pub fn render(&self, leaf: Option<Leaf>, out: &mut String) {
        self.render_final(leaf, "partial", &|_| "", out);
    }

    /// Appends the text of a final query: `partial` is the FROM item, `type_of` names the type of a
    /// partial column by its number from 1.
    pub fn render_final<'a>(
        &'a self,
        leaf: Option<Leaf>,
        partial: &str,
        type_of: &dyn Fn(u16) -> &'a str,
        out: &mut String,
    ) {
        for piece in &self.pieces {
            match (piece, leaf) {
                (Piece::Text(text), _) => out.push_str(text),
                (Piece::Leaf(table), Some(leaf)) => {
                    out.push_str(&quote_name(&table.schema));
                    out.push('.');
                    out.push_str(&quote_name(&leaf_name(&table.name, leaf.bucket, leaf.bucket_count)));
                }
                (Piece::Leaf(table), None) => out.push_str(&table.to_string()),
                (Piece::Partial, _) => out.push_str(partial),
                (Piece::TypeOf(number), _) => out.push_str(type_of(*number)),
            }
        }
    }
}

/// Rows to be split by key.
#[derive(Debug, Clone, PartialEq)]
pub struct InsertRows {
    /// Whose buckets.
    pub colocation: ColocationId,
    /// The modulus.
    pub bucket_count: u32,
    /// Up to and including `VALUES`; names the table by [`Piece::Leaf`] where a leaf would do.
    pub head: Template,
    /// The rows, in order.
    pub rows: Vec<InsertRow>,
    /// What follows the rows: `ON CONFLICT …`, `RETURNING …`; may be empty.
    pub tail: Template,
    /// See [`OneShard::null_key`]; always `NotNull`.
    pub null_key: NullKey,
}

/// One row of [`InsertRows`].
#[derive(Debug, Clone, PartialEq)]
pub struct InsertRow {
    /// Which bucket.
    pub key: KeySource,
    /// `(…)`, without the comma.
    pub text: Template,
}

impl InsertRows {
    /// The statement for some of the rows, by index: by the parent (any buckets of one shard), or by a
    /// leaf (all rows of its bucket). Answers the parameters that occur in it, ascending.
    pub fn render(&self, rows: &[usize], leaf: Option<Leaf>, out: &mut String) -> Vec<u16> {
        self.head.render(leaf, out);
        let mut params: Vec<u16> = self.head.params.iter().chain(&self.tail.params).copied().collect();
        for (at, row) in rows.iter().enumerate() {
            out.push_str(if at == 0 { " " } else { ", " });
            self.rows[*row].text.render(leaf, out);
            params.extend(&self.rows[*row].text.params);
        }
        out.push(' ');
        self.tail.render(leaf, out);
        params.sort_unstable();
        params.dedup();
        params
    }
}

/// Rows out of a query, to be split by key.
#[derive(Debug, Clone, PartialEq)]
pub struct InsertSelect {
    /// Runs the source; its columns are those of `copy.columns`. Take its rows in *text* format.
    pub source: Box<Plan>,
    /// The source's text as a statement of its own. For `Local`, send this; for other plans their own
    /// templates hold the text.
    pub text: Template,
    /// How its rows go in (text rows). Answer `INSERT 0 n`.
    pub copy: CopyIn,
}

/// One statement for each shard.
#[derive(Debug, Clone, PartialEq)]
pub struct Scatter {
    /// Whose shards.
    pub colocation: ColocationId,
    /// The modulus.
    pub bucket_count: u32,
    /// Which of them.
    pub targets: Targets,
    /// The text for every shard, by the parents.
    pub shard: Template,
    /// How the rows come together.
    pub merge: Merge,
    /// Its tag.
    pub command: Command,
    /// It may change rows.
    pub is_write: bool,
}

/// Which shards take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// All that hold a bucket.
    All,
    /// Those of these keys are enough (more would do no harm): `key IN (1, 2)`. NULL keys match nothing;
    /// if no key is left, any one shard must still be asked.
    Keys(Vec<KeySource>),
}

/// How the shards' rows come together.
#[derive(Debug, Clone, PartialEq)]
pub enum Merge {
    /// The rows as they come, in any order; counts of changed rows summed.
    Concat,
    /// The rows are partial: this query over them, on the query group, gives the answer.
    Final {
        /// Its text.
        query: Template,
        /// How many columns the partial rows have; the shard's description must agree.
        columns: u16,
    },
}

/// A write that every copy makes alike.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceWrite {
    /// The statement's text.
    pub text: Template,
    /// Its tag.
    pub command: Command,
    /// A serial or identity column, or another default that is not the same everywhere, is left to its
    /// default: run it on the query group with `RETURNING *` and copy the rows, or refuse.
    pub uneven_default: bool,
}

/// Why a statement is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Five characters.
    pub sqlstate: &'static str,
    /// What, to which table.
    pub message: String,
    /// More.
    pub detail: Option<String>,
    /// What would work.
    pub hint: Option<String>,
}

impl Refusal {
    /// 0A000.
    pub fn unsupported(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { sqlstate: "0A000", message: message.into(), detail: None, hint: Some(hint.into()) }
    }
}

impl From<Refusal> for Plan {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(Box::new(refusal))
    }
}
