//! The types a table can be distributed by, and from a value on the wire or in a statement to its
//! hash.

use super::{
    SEED, Unparsed, bucket_of,
    jenkins::{bytes_extended, int8_extended, uint32_extended},
    parse,
};

/// A value as the router meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Input text of the key's type: a string literal's value, a text parameter, a COPY text field.
    Text(&'a str),
    /// Binary format of a type of the same family as the key's (`type_oid` 0: the key's own).
    Binary {
        /// Type of the parameter.
        type_oid: u32,
        /// `typsend` output.
        bytes: &'a [u8],
    },
}

/// A type that rows can be distributed by. Equal values hash equally within a family (int2, int4, int8;
/// text, varchar).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are PostgreSQL's")]
pub enum KeyType {
    Bool,
    Bytea,
    Char,
    Name,
    Int8,
    Int2,
    Int4,
    Text,
    Oid,
    Float4,
    Float8,
    Inet,
    Bpchar,
    Varchar,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Numeric,
    Uuid,
}

/// Type, OID, SQL name.
const TYPES: [(KeyType, u32, &str); 21] = [
    (KeyType::Bool, 16, "boolean"),
    (KeyType::Bytea, 17, "bytea"),
    (KeyType::Char, 18, "\"char\""),
    (KeyType::Name, 19, "name"),
    (KeyType::Int8, 20, "bigint"),
    (KeyType::Int2, 21, "smallint"),
    (KeyType::Int4, 23, "integer"),
    (KeyType::Text, 25, "text"),
    (KeyType::Oid, 26, "oid"),
    (KeyType::Float4, 700, "real"),
    (KeyType::Float8, 701, "double precision"),
    (KeyType::Inet, 869, "inet"),
    (KeyType::Bpchar, 1042, "character"),
    (KeyType::Varchar, 1043, "character varying"),
    (KeyType::Date, 1082, "date"),
    (KeyType::Time, 1083, "time without time zone"),
    (KeyType::Timestamp, 1114, "timestamp without time zone"),
    (KeyType::Timestamptz, 1184, "timestamp with time zone"),
    (KeyType::Interval, 1186, "interval"),
    (KeyType::Numeric, 1700, "numeric"),
    (KeyType::Uuid, 2950, "uuid"),
];

impl KeyType {
    /// The type with this `pg_type` OID; `None`: nothing can be distributed by it.
    pub fn from_oid(oid: u32) -> Option<Self> {
        TYPES.iter().find(|row| row.1 == oid).map(|row| row.0)
    }

    fn row(self) -> &'static (Self, u32, &'static str) {
        TYPES.iter().find(|row| row.0 == self).expect("every type has its row")
    }

    /// Its `pg_type` OID.
    pub fn oid(self) -> u32 {
        self.row().1
    }

    /// Its name, as `format_type` gives it.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// It takes a collation: only a deterministic one hashes by its bytes.
    pub fn is_collatable(self) -> bool {
        matches!(self, Self::Text | Self::Varchar | Self::Bpchar)
    }

    /// int2, int4, int8: one family, whose members compare and hash alike.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Int2 | Self::Int4 | Self::Int8)
    }

    /// Values of `self` and `other` that are equal by SQL's `=` hash alike.
    pub fn same_family(self, other: Self) -> bool {
        let text = |key| matches!(key, Self::Text | Self::Varchar);
        self == other || (self.is_integer() && other.is_integer()) || (text(self) && text(other))
    }

    /// A statement that answers (as one bigint, to be read as unsigned) the hash of its one parameter;
    /// pass the answer to [`bucket_of`]. `typmod_type`: the column's declared type where the value is to
    /// be *stored* (`numeric(10,2)` rounds), else `None`. Run it in the client's own session: `TimeZone`
    /// and `DateStyle` count.
    pub fn ask_sql(self, typmod_type: Option<&str>) -> String {
        let declared = typmod_type.map(|declared| format!("::{declared}")).unwrap_or_default();
        // The hash of a row of one column is the column's: unlike hashvarlenaextended and its like, this
        // takes every type.
        let value = format!("$1::{}{declared}", self.name());
        format!("SELECT pg_catalog.hash_record_extended(ROW({value}), {}::bigint)", SEED.cast_signed())
    }

    /// `hash<type>extended(value, SEED)`.
    pub fn hash(self, value: Value<'_>) -> Result<u64, Unparsed> {
        match value {
            Value::Text(text) => self.hash_text(text),
            Value::Binary { type_oid, bytes } => {
                let from = if type_oid == 0 { self } else { Self::from_oid(type_oid).ok_or(Unparsed)? };
                if !self.same_family(from) {
                    // A parameter of type text that the statement casts to the key's type.
                    return match from {
                        Self::Text | Self::Varchar => self.hash_text(str::from_utf8(bytes).map_err(|_| Unparsed)?),
                        _ => Err(Unparsed),
                    };
                }
                self.hash_binary(bytes)
            }
        }
    }

    /// The bucket of a value.
    pub fn bucket(self, value: Value<'_>, bucket_count: u32) -> Result<u32, Unparsed> {
        Ok(bucket_of(self.hash(value)?, bucket_count))
    }

    fn hash_text(self, text: &str) -> Result<u64, Unparsed> {
        Ok(match self {
            Self::Bool => uint32_extended(u32::from(parse::boolean(text)?), SEED),
            Self::Int2 | Self::Int4 | Self::Int8 => int8_extended(parse::integer(text)?, SEED),
            Self::Oid => uint32_extended(u32::try_from(parse::integer(text)?).map_err(|_| Unparsed)?, SEED),
            Self::Text | Self::Varchar => bytes_extended(text.as_bytes(), SEED),
            Self::Bpchar => bytes_extended(text.trim_end_matches(' ').as_bytes(), SEED),
            Self::Name if text.len() <= crate::router::core::catalog::NAME_BYTES => {
                bytes_extended(text.as_bytes(), SEED)
            }
            Self::Bytea => bytes_extended(&parse::hex(text)?, SEED),
            Self::Uuid => bytes_extended(&parse::uuid(text)?, SEED),
            Self::Date => uint32_extended(parse::date(text)?.cast_unsigned(), SEED),
            Self::Timestamp => int8_extended(parse::timestamp(text)?, SEED),
            Self::Timestamptz => int8_extended(parse::timestamptz(text)?, SEED),
            Self::Numeric => parse::numeric(text)?.hash(SEED),
            Self::Name | Self::Char | Self::Float4 | Self::Float8 | Self::Inet | Self::Time | Self::Interval => {
                return Err(Unparsed);
            }
        })
    }

    fn hash_binary(self, bytes: &[u8]) -> Result<u64, Unparsed> {
        Ok(match self {
            Self::Bool => match bytes {
                [byte] => uint32_extended(u32::from(*byte != 0), SEED),
                _ => return Err(Unparsed),
            },
            Self::Int2 | Self::Int4 | Self::Int8 => int8_extended(parse::binary_integer(bytes)?, SEED),
            Self::Oid | Self::Date => match bytes.first_chunk::<4>() {
                Some(word) if bytes.len() == 4 => uint32_extended(u32::from_be_bytes(*word), SEED),
                _ => return Err(Unparsed),
            },
            Self::Time | Self::Timestamp | Self::Timestamptz => match bytes.first_chunk::<8>() {
                Some(word) if bytes.len() == 8 => int8_extended(i64::from_be_bytes(*word), SEED),
                _ => return Err(Unparsed),
            },
            Self::Text | Self::Varchar | Self::Bytea => bytes_extended(bytes, SEED),
            Self::Name if bytes.len() <= crate::router::core::catalog::NAME_BYTES => bytes_extended(bytes, SEED),
            Self::Bpchar => bytes_extended(bytes.trim_ascii_end_spaces(), SEED),
            Self::Uuid if bytes.len() == 16 => bytes_extended(bytes, SEED),
            Self::Numeric => parse::binary_numeric(bytes)?.hash(SEED),
            Self::Name | Self::Uuid | Self::Char | Self::Float4 | Self::Float8 | Self::Inet | Self::Interval => {
                return Err(Unparsed);
            }
        })
    }
}

/// `bcTruelen`: only the space counts, no other white space.
trait TrimSpaces {
    fn trim_ascii_end_spaces(&self) -> &[u8];
}

impl TrimSpaces for [u8] {
    fn trim_ascii_end_spaces(&self) -> &[u8] {
        let end = self.iter().rposition(|byte| *byte != b' ').map_or(0, |at| at + 1);
        &self[..end]
    }
}
