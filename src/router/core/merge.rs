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
    fn no_rows_make_empty_arrays() {
        assert_eq!(&Arrays::new([23]).finish()[0][..], b"\0\0\0\0\0\0\0\0\0\0\0\x17");
    }
}
