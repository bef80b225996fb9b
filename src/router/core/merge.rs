//! [pure] Partial rows on their way to the query group's `PostgreSQL`, which merges them. Called by
//! the router's merge executor.
//!
//! Partial rows are fetched in binary. Few of them become array parameters (`unnest($1, $2)`); many go
//! to a temporary table by `COPY … (FORMAT binary)`, whose tuples are, byte for byte, the bodies of
//! `DataRow` messages (manual, "Message Formats" and COPY, "Binary Format").

use bytes::{BufMut as _, Bytes, BytesMut};

/// Partial rows up to this go as parameters: 100 rows cost 0.1 ms, a temporary table several ms. Beyond,
/// the arrays would be copied once more than a table, and held in memory by everybody.
pub const PARAMETER_LIMIT: usize = 8 << 20;

/// Begins the data of a binary COPY: signature, no flags, no extension.
pub const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Ends it.
pub const COPY_TRAILER: &[u8] = b"\xff\xff";

/// `FirstNormalObjectId`: below it an OID is the same on every group.
const FIRST_USER_OID: u32 = 16384;

/// A type that `PostgreSQL` itself brings; of 0, "unknown", nothing is claimed.
pub fn is_builtin(type_oid: u32) -> bool {
    type_oid < FIRST_USER_OID
}

/// Types whose binary form can be an element of an array, and their names without a length (`bpchar`,
/// as `character` would mean `character(1)`).
const SIMPLE: [(u32, &str); 32] = [
    (16, "boolean"),
    (17, "bytea"),
    (18, "\"char\""),
    (19, "name"),
    (20, "bigint"),
    (21, "smallint"),
    (23, "integer"),
    (25, "text"),
    (26, "oid"),
    (114, "json"),
    (600, "point"),
    (650, "cidr"),
    (700, "real"),
    (701, "double precision"),
    (774, "macaddr8"),
    (790, "money"),
    (829, "macaddr"),
    (869, "inet"),
    (1042, "bpchar"),
    (1043, "character varying"),
    (1082, "date"),
    (1083, "time without time zone"),
    (1114, "timestamp without time zone"),
    (1184, "timestamp with time zone"),
    (1186, "interval"),
    (1266, "time with time zone"),
    (1560, "\"bit\""),
    (1562, "bit varying"),
    (1700, "numeric"),
    (2950, "uuid"),
    (3220, "pg_lsn"),
    (3802, "jsonb"),
];

/// How a column of partial rows travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialColumn {
    /// Its type's name, for casts.
    pub type_name: String,
    /// In binary, as this type; `None`: as text, because its binary form holds OIDs (arrays, composites)
    /// or its own OID differs between groups.
    pub binary: Option<u32>,
}

impl PartialColumn {
    /// For a type whose name everybody knows; `None`: ask a shard for
    /// `format_type(oid, -1)` and use [`PartialColumn::as_text`].
    pub fn simple(type_oid: u32) -> Option<Self> {
        let known = SIMPLE.iter().find(|(oid, _)| *oid == type_oid);
        known.map(|(oid, name)| Self { type_name: (*name).to_owned(), binary: Some(*oid) })
    }

    /// For a type of this name.
    pub fn as_text(type_name: String) -> Self {
        Self { type_name, binary: None }
    }

    /// The element type of its array, or the type of its column in the temporary table.
    pub fn carried_oid(&self) -> u32 {
        /// `pg_type.oid` of text.
        const TEXT: u32 = 25;
        self.binary.unwrap_or(TEXT)
    }

    fn carried_name(&self) -> &str {
        if self.binary.is_some() { &self.type_name } else { "text" }
    }

    /// 1 is binary.
    pub fn format(&self) -> u16 {
        u16::from(self.binary.is_some())
    }
}

/// The FROM item `partial` over array parameters, the first of which is `$first`.
pub fn from_arrays(columns: &[PartialColumn], first: usize) -> String {
    let arrays: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| format!("${}::{}[]", first + at, column.carried_name()))
        .collect();
    let names: Vec<String> = (1..=columns.len()).map(|number| format!("p{number}")).collect();
    let source = format!("unnest({})", arrays.join(", "));
    if columns.iter().all(|column| column.binary.is_some()) {
        return format!("{source} AS partial({})", names.join(", "));
    }
    format!("(SELECT {} FROM {source} AS u({})) AS partial", casts(columns), names.join(", "))
}

/// The FROM item `partial` over the temporary table.
pub fn from_table(columns: &[PartialColumn], table: &str) -> String {
    format!("(SELECT {} FROM {table}) AS partial", casts(columns))
}

/// The columns of the temporary table.
pub fn table_columns(columns: &[PartialColumn]) -> String {
    let define = |(at, column): (usize, &PartialColumn)| format!("p{} {}", at + 1, column.carried_name());
    columns.iter().enumerate().map(define).collect::<Vec<_>>().join(", ")
}

fn casts(columns: &[PartialColumn]) -> String {
    let cast = |(at, column): (usize, &PartialColumn)| match column.binary {
        Some(_) => format!("p{}", at + 1),
        None => format!("p{0}::{1} AS p{0}", at + 1, column.type_name),
    };
    columns.iter().enumerate().map(cast).collect::<Vec<_>>().join(", ")
}

/// A `DataRow` body that is not well-formed, or has another number of columns than was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a shard sent a row that does not fit its description")]
pub struct MalformedRow;

/// The rows' columns as arrays.
#[derive(Debug)]
pub struct Arrays {
    columns: Vec<Array>,
    rows: u32,
    bytes: usize,
}

#[derive(Debug)]
struct Array {
    element: u32,
    has_null: bool,
    values: BytesMut,
}

impl Arrays {
    /// For columns of these types: OIDs as the *query group* knows them.
    pub fn new(types: impl IntoIterator<Item = u32>) -> Self {
        let column = |element| Array { element, has_null: false, values: BytesMut::new() };
        Self { columns: types.into_iter().map(column).collect(), rows: 0, bytes: 0 }
    }

    /// Adds a `DataRow`'s body (after tag and length).
    pub fn push(&mut self, row: &[u8]) -> Result<(), MalformedRow> {
        let (count, mut rest) = row.split_first_chunk::<2>().ok_or(MalformedRow)?;
        if usize::from(u16::from_be_bytes(*count)) != self.columns.len() {
            return Err(MalformedRow);
        }
        for column in &mut self.columns {
            let length = i32::from_be_bytes(*rest.first_chunk::<4>().ok_or(MalformedRow)?);
            column.has_null |= length < 0;
            let end = 4 + usize::try_from(length).unwrap_or(0);
            column.values.extend_from_slice(rest.get(..end).ok_or(MalformedRow)?);
            rest = &rest[end..];
        }
        self.rows += 1;
        self.bytes += row.len();
        Ok(())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Rows held.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// One binary array per column, for `Bind`.
    pub fn finish(self) -> Vec<Bytes> {
        let rows = self.rows;
        self.columns.into_iter().map(|column| column.finish(rows)).collect()
    }

    /// The rows again, as the bodies of `CopyData`: the set has grown beyond [`PARAMETER_LIMIT`].
    pub fn into_rows(self) -> Bytes {
        let columns = u16::try_from(self.columns.len()).expect("PostgreSQL has at most 1,664 columns");
        let mut rests: Vec<&[u8]> = self.columns.iter().map(|column| &column.values[..]).collect();
        let mut rows = BytesMut::with_capacity(self.bytes);
        for _ in 0..self.rows {
            rows.put_u16(columns);
            for rest in &mut rests {
                let (length, _) = rest.split_first_chunk::<4>().expect("push checked it");
                let (value, tail) = rest.split_at(4 + usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0));
                rows.extend_from_slice(value);
                *rest = tail;
            }
        }
        rows.freeze()
    }
}

impl Array {
    /// As `array_recv` reads it: dimensions, whether there are nulls, element type, length and lower
    /// bound, values.
    fn finish(self, rows: u32) -> Bytes {
        let mut array = BytesMut::with_capacity(20 + self.values.len());
        array.put_u32(u32::from(rows > 0));
        array.put_u32(u32::from(self.has_null));
        array.put_u32(self.element);
        if rows > 0 {
            array.put_u32(rows);
            array.put_u32(1);
            array.extend_from_slice(&self.values);
        }
        array.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &[u8] = b"\0\x02\0\0\0\x04\0\0\0\x07\xff\xff\xff\xff";

    #[test]
    fn rows_become_arrays_and_rows_again() {
        let mut arrays = Arrays::new([23, 25]);
        arrays.push(ROW).expect("two columns");
        arrays.push(b"\0\x02\0\0\0\x04\0\0\0\x08\0\0\0\x01x").expect("two columns");
        assert_eq!(arrays.push(b"\0\x01\0\0\0\x04\0\0\0\x08"), Err(MalformedRow));
        assert_eq!(arrays.rows(), 2);
        assert_eq!(
            &arrays.finish()[1][..],
            b"\0\0\0\x01\0\0\0\x01\0\0\0\x19\0\0\0\x02\0\0\0\x01\xff\xff\xff\xff\0\0\0\x01x"
        );
        let mut arrays = Arrays::new([23, 25]);
        arrays.push(ROW).expect("two columns");
        assert_eq!(&arrays.into_rows()[..], ROW);
    }

    #[test]
    fn awkward_types_travel_as_text() {
        let columns = [PartialColumn::simple(20).expect("bigint"), PartialColumn::as_text("public.mood".to_owned())];
        assert_eq!(PartialColumn::simple(1007), None);
        assert_eq!(from_arrays(&columns[..1], 3), "unnest($3::bigint[]) AS partial(p1)");
        assert_eq!(
            from_arrays(&columns, 1),
            "(SELECT p1, p2::public.mood AS p2 FROM unnest($1::bigint[], $2::text[]) AS u(p1, p2)) AS partial"
        );
        assert_eq!(table_columns(&columns), "p1 bigint, p2 text");
    }

    #[test]
    fn no_rows_make_empty_arrays() {
        assert_eq!(&Arrays::new([23]).finish()[0][..], b"\0\0\0\0\0\0\0\0\0\0\0\x17");
    }
}
