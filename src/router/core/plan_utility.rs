//! Plans of what is not a query: effects on the session, COPY, DDL, Howdah's functions, EXPLAIN,
//! PREPARE.

use super::{
    catalog::TableName,
    hash::KeyType,
    plan::{Plan, Template},
};
use crate::model::ids::ColocationId;

/// What a local statement does to the session beyond its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// `SET [LOCAL] name TO value`; also `SET TIME ZONE`, `SET NAMES`, `SET ROLE`, `SET SESSION
    /// AUTHORIZATION` (names `timezone`, `client_encoding`, `role`, `session_authorization`).
    Set {
        /// Setting, lower case.
        name: String,
        /// The text that follows `TO`, as written; `None`: `DEFAULT`.
        value: Option<String>,
        /// `SET LOCAL`.
        local: bool,
    },
    /// `RESET name`.
    Reset {
        /// Setting, lower case.
        name: String,
    },
    /// `RESET ALL`.
    ResetAll,
    /// `SET TRANSACTION …`, `SET SESSION CHARACTERISTICS`: every later participant needs the same.
    SetTransaction {
        /// `SESSION CHARACTERISTICS`.
        session: bool,
        /// The modes.
        modes: TransactionModes,
    },
    /// From here on the session needs its own server connection on the query group.
    Pin(PinReason),
    /// `BEGIN`, `START TRANSACTION`.
    Begin(TransactionModes),
    /// `COMMIT`, `END`.
    Commit {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`.
    Rollback {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// `SAVEPOINT name`.
    Savepoint(String),
    /// `RELEASE name`.
    Release(String),
    /// `ROLLBACK TO name`.
    RollbackTo(String),
    /// `PREPARE TRANSACTION`, `COMMIT PREPARED`, `ROLLBACK PREPARED`: the client's own two-phase commit,
    /// right only while no shard takes part.
    TwoPhase,
    /// SQL `PREPARE name` of a local statement.
    Prepare(String),
    /// SQL `EXECUTE name`: of a distributed statement where the session has a [`Prepare`] plan by that
    /// name.
    Execute {
        /// Name.
        name: String,
        /// Each argument's text as an SQL expression, in order.
        arguments: Vec<String>,
    },
    /// `DEALLOCATE name`; `None`: `ALL`.
    Deallocate(Option<String>),
    /// `DISCARD ALL|PLANS|SEQUENCES|TEMP`, lower case.
    Discard(&'static str),
    /// `LISTEN channel`.
    Listen(String),
    /// `UNLISTEN channel`; `None`: `*`.
    Unlisten(Option<String>),
    /// `COPY … FROM STDIN`: `PostgreSQL` will ask for data.
    CopyIn,
    /// `COPY … TO STDOUT`.
    CopyOut,
    /// It changes the schema of local tables: catalogs of names may be older now.
    SchemaChange,
}

/// Why a session keeps its server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinReason {
    /// A temporary table, view or sequence.
    Temporary,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// A cursor that outlives its transaction.
    HoldCursor,
    /// `nextval`/`setval` here, `currval`/`lastval` later.
    Sequence,
    /// `set_config(…, false)`, `setseed`, `LOAD`.
    SessionState,
    /// `DO`, `CALL`: anything may have happened. Only if the transaction ends and nothing shows it may
    /// the session be released; the executor may choose not to pin for these.
    Unknown,
}

/// `ISOLATION LEVEL`, `READ ONLY`, `DEFERRABLE`; `None`: not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionModes {
    /// `read committed`, `repeatable read`, `serializable`, `read uncommitted`.
    pub isolation: Option<String>,
    /// `READ ONLY` true, `READ WRITE` false.
    pub read_only: Option<bool>,
    /// `DEFERRABLE`.
    pub deferrable: Option<bool>,
}

/// `COPY` into a distributed or reference table.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyIn {
    /// The table.
    pub table: TableName,
    /// The columns that rows have, in their order.
    pub columns: Vec<String>,
    /// How rows are spread; `None`: a reference table, the same bytes to every group.
    pub key: Option<CopyKey>,
    /// How the bytes are to be read.
    pub format: CopyFormat,
    /// The client's whole statement: it is right on every shard too (by the parent).
    pub text: String,
}

/// Where the key is in a COPY row.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyKey {
    /// Whose buckets.
    pub colocation: ColocationId,
    /// The modulus.
    pub bucket_count: u32,
    /// Index of the distribution column in [`CopyIn::columns`].
    pub field: usize,
    /// Its name, for the error of a NULL.
    pub column: String,
    /// Its type.
    pub key: KeyType,
    /// As in `KeySource::Param`: always ask, with this type.
    pub stored: Option<String>,
}

/// `COPY`'s options that matter to reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFormat {
    /// The default.
    Text {
        /// One byte.
        delimiter: u8,
        /// What stands for NULL.
        null: String,
        /// The first line is a header.
        header: bool,
    },
    /// RFC 4180 and more.
    Csv {
        /// One byte.
        delimiter: u8,
        /// What stands for NULL, unquoted.
        null: String,
        /// The first line is a header.
        header: bool,
        /// One byte.
        quote: u8,
        /// One byte.
        escape: u8,
        /// The key column is in `FORCE_NULL`: its NULL text means NULL quoted too.
        key_force_null: bool,
        /// The key column is in `FORCE_NOT_NULL`.
        key_force_not_null: bool,
    },
    /// `PGCOPY`.
    Binary,
}

/// `COPY … TO STDOUT`.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyOut {
    /// Whose shards.
    pub colocation: ColocationId,
    /// The modulus.
    pub bucket_count: u32,
    /// One bucket is enough.
    pub key: Option<super::plan::KeySource>,
    /// `COPY (…) TO STDOUT …` for every shard.
    pub shard: Template,
    /// Every shard answers with a header line (text, csv: `header`) or header and trailer (binary): keep
    /// the first's header and the last's trailer only.
    pub header: bool,
    /// Binary.
    pub binary: bool,
}

/// DDL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ddl {
    /// The client's text; the same everywhere.
    pub text: String,
    /// What it does.
    pub kind: DdlKind,
    /// The distributed and reference tables it changes; none for what is merely propagated.
    pub tables: Vec<TableName>,
}

/// What a DDL statement does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DdlKind {
    /// `DROP TABLE`: also their rows in the catalog.
    DropTables,
    /// `TRUNCATE`; not on the shells, which are empty and guarded.
    Truncate,
    /// `CREATE INDEX`, `DROP INDEX`, `ALTER TABLE`, `COMMENT`, `GRANT ON TABLE`, …: on shards (by the
    /// parent) and on the query group.
    Everywhere,
    /// `VACUUM` of everything: group by group, outside of any transaction.
    Vacuum,
    /// `CREATE SCHEMA`, `CREATE EXTENSION`, `CREATE TYPE`, roles and grants on them: on every group
    /// though no distributed table is touched.
    Propagate,
}

/// A call of one of Howdah's functions as the whole of a `SELECT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Function {
    /// `create_distributed_table`.
    Distribute {
        /// The table as given, resolved by `search_path` on the query group (`to_regclass`).
        table: String,
        /// Column.
        column: String,
        /// `colocate_with`.
        colocate_with: ColocateWith,
        /// `shard_count`: buckets.
        bucket_count: Option<u32>,
    },
    /// `create_reference_table`.
    Reference {
        /// The table as given.
        table: String,
    },
    /// `undistribute_table`.
    Undistribute {
        /// The table as given.
        table: String,
    },
    /// `get_shard_id_for_distribution_column`: answers one bigint column of that name.
    ShardId {
        /// The table as given.
        table: String,
        /// The value's text; `None`: NULL.
        value: Option<String>,
    },
}

/// `colocate_with =>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColocateWith {
    /// Not said, or `default`.
    Default,
    /// `none`.
    None,
    /// That table's group, the name as given.
    Table(String),
}

/// `EXPLAIN` of a distributed statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Explain {
    /// The options as written: `(ANALYZE, BUFFERS)`, `VERBOSE`, or nothing. Put `EXPLAIN` and these
    /// before a shard's text to ask the shard.
    pub options: String,
    /// It executes.
    pub analyze: bool,
    /// The statement's plan.
    pub inner: Box<Plan>,
}

/// SQL `PREPARE` of a distributed statement: the session keeps it, as it keeps the protocol's.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepare {
    /// Name.
    pub name: String,
    /// Parameter types as written.
    pub types: Vec<String>,
    /// The statement's text.
    pub statement: String,
    /// Its plan.
    pub inner: Box<Plan>,
}
