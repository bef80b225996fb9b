//! What `facts.sql` tells about a table. Expressions and definitions are `PostgreSQL`'s own deparse,
//! read with `search_path = pg_catalog`, so that every name in them is qualified.

use serde::Deserialize;

/// A table.
#[derive(Debug, Clone, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "facts of a table, as facts.sql tells them")]
pub struct Facts {
    /// `pg_class.oid` in the query group.
    pub oid: u32,
    /// Schema, as stored.
    pub schema: String,
    /// Name, as stored.
    pub name: String,
    /// `schema.name`, quoted.
    pub quoted: String,
    /// `pg_class.relkind`.
    pub kind: char,
    /// `pg_class.relpersistence`.
    pub persistence: char,
    /// Owner, quoted.
    pub owner: String,
    /// The current user is the owner itself.
    pub owner_is_me: bool,
    /// The current user may alter it.
    pub owned: bool,
    /// Storage parameters, `a=1, b=2`.
    pub options: Option<String>,
    /// It is a partition.
    pub partition: bool,
    /// It has parents or children.
    pub inherits: bool,
    /// Row security is on.
    pub row_security: bool,
    /// It has rules.
    pub rules: bool,
    /// Its triggers.
    pub triggers: Vec<String>,
    /// What it is already.
    pub distributed: Option<Known>,
    /// `COMMENT ON TABLE`.
    pub comment: Option<String>,
    /// Rights of others than its owner.
    pub grants: Vec<Grant>,
    /// Columns, by `attnum`.
    pub columns: Vec<Column>,
    /// Keys, checks, foreign keys.
    pub constraints: Vec<Constraint>,
    /// Foreign keys of other tables to this one.
    pub referenced_by: Vec<Reference>,
    /// Indexes that belong to no constraint.
    pub indexes: Vec<Index>,
}

/// What `howdah.tables` says.
#[derive(Debug, Clone, Deserialize)]
pub struct Known {
    /// `distributed` or `reference`.
    pub kind: String,
    /// Colocation group; 0 for a reference table.
    pub colocation: u32,
    /// Distribution column.
    pub key: Option<String>,
}

/// One right.
#[derive(Debug, Clone, Deserialize)]
pub struct Grant {
    /// Role, quoted, or `PUBLIC`.
    pub grantee: String,
    /// `SELECT`, …
    pub privilege: String,
    /// `WITH GRANT OPTION`.
    pub grantable: bool,
}

/// One column.
#[derive(Debug, Clone, Deserialize)]
pub struct Column {
    /// Name, as stored.
    pub name: String,
    /// Name, quoted.
    pub quoted: String,
    /// Declared type.
    #[serde(rename = "type")]
    pub declared: String,
    /// Its type without length or precision.
    pub base_type: String,
    /// `pg_type.oid`.
    pub type_oid: u32,
    /// `pg_type.typtype`: `e` is an enum, `d` a domain.
    pub type_kind: char,
    /// Collation, quoted, where it is not the type's.
    pub collation: Option<String>,
    /// Equal by its collation means equal bytes.
    pub deterministic: bool,
    /// `NOT NULL`.
    pub not_null: bool,
    /// Default expression.
    pub default: Option<String>,
    /// `GENERATED ALWAYS AS (…) STORED`.
    pub generated: Option<String>,
    /// `GENERATED … AS IDENTITY`.
    pub identity: bool,
    /// `COMMENT ON COLUMN`.
    pub comment: Option<String>,
    /// The sequence its default or identity draws from.
    pub sequence: Option<Sequence>,
}

/// A sequence.
#[derive(Debug, Clone, Deserialize)]
pub struct Sequence {
    /// `schema.name`, quoted.
    pub quoted: String,
    /// `bigint`, `integer`, `smallint`.
    #[serde(rename = "type")]
    pub declared: String,
    /// `INCREMENT BY`.
    pub increment: i64,
    /// `CACHE`.
    pub cache: i64,
}

/// One constraint.
#[derive(Debug, Clone, Deserialize)]
pub struct Constraint {
    /// Name, quoted.
    pub name: String,
    /// `pg_constraint.contype`: `p`, `u`, `x`, `c`, `f`.
    pub kind: char,
    /// `pg_get_constraintdef`.
    pub definition: String,
    /// Its columns in order.
    pub columns: Option<Vec<String>>,
    /// Where a foreign key points.
    pub target: Option<Target>,
}

/// Where a foreign key points.
#[derive(Debug, Clone, Deserialize)]
pub struct Target {
    /// Schema, as stored.
    pub schema: String,
    /// Name, as stored.
    pub name: String,
    /// `schema.name`, quoted.
    pub quoted: String,
    /// `pg_class.oid` in the query group.
    pub oid: u32,
    /// `distributed`, `reference`; `None`: local.
    pub kind: Option<String>,
    /// Its colocation group.
    pub colocation: Option<u32>,
    /// Its distribution column.
    pub key: Option<String>,
    /// Referenced columns in order.
    pub columns: Vec<String>,
}

/// Another table's foreign key to this one.
#[derive(Debug, Clone, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// The other table.
    pub table: String,
    /// `distributed`, `reference`; `None`: local.
    pub kind: Option<String>,
}

/// One index.
#[derive(Debug, Clone, Deserialize)]
pub struct Index {
    /// Name.
    pub name: String,
    /// `UNIQUE`.
    pub unique: bool,
    /// `pg_get_indexdef`.
    pub definition: String,
    /// Its plain columns; `None`: expressions only.
    pub columns: Option<Vec<String>>,
}

/// `facts.sql` and this file disagree.
#[derive(Debug, thiserror::Error)]
#[error("what pg_catalog says of a table could not be read")]
pub struct FactsError(#[from] serde_json::Error);

impl Facts {
    /// The statement that tells them; run it with `search_path = pg_catalog`.
    pub fn sql(oid: u32) -> String {
        include_str!("facts.sql").replace("$TABLE", &format!("'{oid}'"))
    }

    /// Reads its answer.
    pub fn read(json: &str) -> Result<Self, FactsError> {
        Ok(serde_json::from_str(json)?)
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The columns that rows are copied with, quoted: all but generated ones.
    pub fn copied_columns(&self) -> Vec<&str> {
        self.columns.iter().filter(|column| column.generated.is_none()).map(|column| column.quoted.as_str()).collect()
    }

    /// Binary COPY works between groups: types made by users have another OID on each, and arrays and
    /// composites carry OIDs.
    pub fn copies_in_binary(&self) -> bool {
        /// `FirstNormalObjectId`: below it an OID is the same everywhere.
        const FIRST_USER_OID: u32 = 16384;
        self.columns.iter().all(|column| column.type_oid < FIRST_USER_OID)
    }
}
