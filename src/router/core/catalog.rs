//! The tables of one database as the planner sees them: which are distributed and by what, which are
//! reference tables. Every other relation is local. Built by the router's shell from schema `howdah`
//! of the query group; read by the planner.

use std::collections::{BTreeMap, BTreeSet};

use super::hash::KeyType;
use crate::model::ids::ColocationId;

/// `PostgreSQL`'s limit on a name (`NAMEDATALEN` - 1), in bytes.
pub const NAME_BYTES: usize = 63;

/// A relation's schema and name, as in `pg_class`: unquoted, case as stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
}

impl TableName {
    /// A name out of its parts.
    pub fn new(schema: &str, name: &str) -> Self {
        Self { schema: schema.to_owned(), name: name.to_owned() }
    }
}

/// `schema.name`, quoted where SQL needs it.
impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", quote_name(&self.schema), quote_name(&self.name))
    }
}

/// One live column, in `attnum` order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// `pg_type` OID; a type outside `pg_catalog` has another one on each group.
    pub type_oid: u32,
    /// `format_type(atttypid, NULL)`: without length or precision.
    pub type_name: String,
    /// `COLLATE` clause's name (`"C"`, `public.german`, quoted), where it is not the type's default.
    pub collation: Option<String>,
    /// `NOT NULL`.
    pub not_null: bool,
    /// `format_type(atttypid, atttypmod)` where `atttypmod` is not -1 and storing may change a value
    /// (`numeric(10,2)`, `timestamp(0) …`, `character varying(3)`, but not `character(3)`).
    pub declared_type: Option<String>,
    /// What an insert without a value for it stores.
    pub fill: Fill,
}

/// What a column gets that an insert leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// NULL.
    Null,
    /// A default without function calls: the same wherever it is evaluated.
    Constant,
    /// Another default: `nextval(…)`, `now()`, …
    Default,
    /// `GENERATED … AS IDENTITY`: the sequence belongs to the parent, a leaf has none.
    Identity,
    /// `GENERATED ALWAYS AS (…) STORED`: no value may be given.
    Generated,
}

/// How a table is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distribution {
    /// The distribution column's index in [`Table::columns`].
    pub key: usize,
    /// How its values hash.
    pub key_type: KeyType,
    /// Its colocation group.
    pub colocation: ColocationId,
    /// Buckets of that group: the modulus.
    pub bucket_count: u32,
}

/// What a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// Hash-distributed over the shards; an empty shell in the query group.
    Distributed(Distribution),
    /// A full copy in every shard and in the query group.
    Reference,
}

/// A distributed or reference table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// What it is.
    pub kind: TableKind,
    /// Its live columns.
    pub columns: Vec<Column>,
    /// Names of its indexes (in its schema), for `DROP INDEX` and `ALTER INDEX`.
    pub indexes: BTreeSet<String>,
    /// It has statement-level triggers: a write must name the parent.
    pub statement_triggers: bool,
}

impl Table {
    /// Its distribution, where it is distributed.
    pub fn distribution(&self) -> Option<&Distribution> {
        match &self.kind {
            TableKind::Distributed(distribution) => Some(distribution),
            TableKind::Reference => None,
        }
    }

    /// The distribution column, where it is distributed.
    pub fn key_column(&self) -> Option<&Column> {
        self.distribution().map(|distribution| &self.columns[distribution.key])
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// An identity column's sequence belongs to the parent: an insert without its value must name the
    /// parent.
    pub fn has_identity(&self) -> bool {
        self.columns.iter().any(|column| column.fill == Fill::Identity)
    }
}

/// The catalog of one database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Distributed and reference tables.
    tables: BTreeMap<TableName, Table>,
    /// Names alone, for the early test that nothing of a statement concerns us.
    names: BTreeSet<String>,
    /// Local relations that share a name with one of `tables`, `pg_catalog` included: which of them an
    /// unqualified name means depends on `search_path`.
    local_namesakes: BTreeSet<TableName>,
    /// Names of functions and aggregates outside `pg_catalog`: a call by such a name is not taken for
    /// the built-in one.
    user_functions: BTreeSet<String>,
    /// Names of operators outside `pg_catalog`, likewise.
    user_operators: BTreeSet<String>,
}

impl Catalog {
    /// A catalog; see the fields of [`Catalog`] for what each argument is.
    pub fn new(
        tables: impl IntoIterator<Item = Table>,
        local_namesakes: impl IntoIterator<Item = TableName>,
        user_functions: impl IntoIterator<Item = String>,
        user_operators: impl IntoIterator<Item = String>,
    ) -> Self {
        let tables: BTreeMap<_, _> = tables.into_iter().map(|table| (table.name.clone(), table)).collect();
        Self {
            names: tables.keys().map(|name| name.name.clone()).collect(),
            tables,
            local_namesakes: local_namesakes.into_iter().collect(),
            user_functions: user_functions.into_iter().collect(),
            user_operators: user_operators.into_iter().collect(),
        }
    }

    /// Every distributed and reference table, in order of name.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values()
    }

    /// Nothing is distributed, nothing is a reference table.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// By its full name.
    pub fn get(&self, name: &TableName) -> Option<&Table> {
        self.tables.get(name)
    }

    /// Some distributed or reference table, in whatever schema, has this name.
    pub fn knows_name(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The table that a name means: `schema` as written, else the first schema of `search_path` that
    /// has a relation of that name. `None`: a local relation, or none.
    pub fn resolve(&self, schema: Option<&str>, name: &str, search_path: &[String]) -> Option<&Table> {
        if !self.names.contains(name) {
            return None;
        }
        if let Some(schema) = schema {
            return self.tables.get(&TableName::new(schema, name));
        }
        let explicit = search_path.iter().any(|schema| schema == "pg_catalog");
        let implicit = (!explicit).then_some("pg_catalog");
        for schema in implicit.into_iter().chain(search_path.iter().map(String::as_str)) {
            let full = TableName::new(schema, name);
            if let Some(table) = self.tables.get(&full) {
                return Some(table);
            }
            if self.local_namesakes.contains(&full) {
                return None;
            }
        }
        None
    }

    /// The table that has an index of this name.
    pub fn table_of_index(&self, schema: Option<&str>, index: &str, search_path: &[String]) -> Option<&Table> {
        let has = |table: &&Table, schema: &str| table.name.schema == schema && table.indexes.contains(index);
        match schema {
            Some(schema) => self.tables.values().find(|table| has(table, schema)),
            None => {
                search_path.iter().find_map(|schema| self.tables.values().find(|table| has(table, schema.as_str())))
            }
        }
    }

    /// A function of this name exists outside `pg_catalog`.
    pub fn is_user_function(&self, name: &str) -> bool {
        self.user_functions.contains(name)
    }

    /// An operator of this name exists outside `pg_catalog`.
    pub fn is_user_operator(&self, name: &str) -> bool {
        self.user_operators.contains(name)
    }
}

/// The leaf that holds a bucket: `orders_b07`, as wide as the highest bucket and at least two digits.
/// A name that would be too long is cut and gets a hash of the whole, so that leaves stay distinct.
pub fn leaf_name(table: &str, bucket: u32, bucket_count: u32) -> String {
    let width = bucket_count.saturating_sub(1).checked_ilog10().map_or(1, |digits| digits as usize + 1).max(2);
    let suffix = format!("_b{bucket:0width$}");
    if table.len() + suffix.len() <= NAME_BYTES {
        return format!("{table}{suffix}");
    }
    let hash = super::hash::bytes_extended(table.as_bytes(), 0) & 0xffff_ffff;
    let tail = format!("_{hash:08x}{suffix}");
    let mut cut = NAME_BYTES - tail.len();
    while !table.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{tail}", &table[..cut])
}

/// A name as an SQL identifier: quoted unless it is plainly lower case and no keyword.
pub fn quote_name(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !super::sql::keywords::is_reserved(name);
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_named_by_the_width_of_the_highest_bucket() {
        assert_eq!(leaf_name("orders", 7, 32), "orders_b07");
        assert_eq!(leaf_name("orders", 7, 1), "orders_b07");
        assert_eq!(leaf_name("orders", 7, 100), "orders_b07");
        assert_eq!(leaf_name("orders", 7, 101), "orders_b007");
        let long = "x".repeat(63);
        let other = format!("{}y", "x".repeat(62));
        assert_eq!(leaf_name(&long, 7, 32).len(), 63);
        assert_ne!(leaf_name(&long, 7, 32), leaf_name(&other, 7, 32));
        assert!(leaf_name(&"é".repeat(31), 7, 32).len() <= 63);
    }

    #[test]
    fn names_are_quoted_where_needed() {
        assert_eq!(quote_name("orders"), "orders");
        assert_eq!(quote_name("Orders"), "\"Orders\"");
        assert_eq!(quote_name("order"), "\"order\"");
        assert_eq!(quote_name("a\"b"), "\"a\"\"b\"");
    }
}
