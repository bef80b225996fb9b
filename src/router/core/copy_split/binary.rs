//! Rows of `FORMAT binary`: a count of fields, then each field's length and bytes.

use super::{Key, Piece, SplitError};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags and the length of the header's extension.
const HEADER: usize = SIGNATURE.len() + 8;

pub(super) struct Binary {
    key: usize,
    /// Rows seen, once the header has been.
    rows: Option<u64>,
    /// The trailer has been seen; what follows is not ours to read.
    done: bool,
}

impl Binary {
    pub(super) fn new(key: usize) -> Self {
        Self { key, rows: None, done: false }
    }

    pub(super) fn row(&self) -> u64 {
        self.rows.unwrap_or(0) + 1
    }

    /// The piece at the head of `data` and its length.
    pub(super) fn take<'a>(&mut self, data: &'a [u8], ended: bool) -> Result<Option<(usize, Piece<'a>)>, SplitError> {
        if self.done {
            return Ok(None);
        }
        let Some(rows) = self.rows else {
            return self.take_header(data, ended);
        };
        let line = rows + 1;
        match read_row(data, self.key, line)? {
            Found::Row(length, key) => {
                self.rows = Some(line);
                Ok(Some((length, Piece::Row { bytes: &data[..length], key, line })))
            }
            Found::Trailer => {
                self.done = true;
                Ok(None)
            }
            // Nothing at all after the last row: PostgreSQL wants the trailer, and so do we.
            Found::Unfinished if ended => Err(SplitError::Truncated { line }),
            Found::Unfinished => Ok(None),
        }
    }

    fn take_header<'a>(&mut self, data: &'a [u8], ended: bool) -> Result<Option<(usize, Piece<'a>)>, SplitError> {
        let known = data.len().min(SIGNATURE.len());
        if data[..known] != SIGNATURE[..known] {
            return Err(SplitError::Signature);
        }
        let extension = number(data, HEADER - 4).map(usize::try_from).transpose();
        let extension = extension.map_err(|_| SplitError::Malformed { line: 0 })?;
        match extension {
            Some(extension) if data.len() >= HEADER + extension => {
                self.rows = Some(0);
                let length = HEADER + extension;
                Ok(Some((length, Piece::Header(&data[..length]))))
            }
            _ if ended => Err(SplitError::Signature),
            _ => Ok(None),
        }
    }
}

enum Found<'a> {
    Row(usize, Key<'a>),
    Trailer,
    Unfinished,
}

fn read_row(data: &[u8], key: usize, line: u64) -> Result<Found<'_>, SplitError> {
    let Some(count) = data.get(..2) else { return Ok(Found::Unfinished) };
    let count = i16::from_be_bytes([count[0], count[1]]);
    if count == -1 {
        return Ok(Found::Trailer);
    }
    let count = usize::try_from(count).map_err(|_| SplitError::Malformed { line })?;
    let mut at = 2;
    let mut found = None;
    for field in 0..count {
        let Some(length) = number(data, at) else { return Ok(Found::Unfinished) };
        at += 4;
        if length == -1 {
            if field == key {
                found = Some(Key::Null);
            }
            continue;
        }
        let length = usize::try_from(length).map_err(|_| SplitError::Malformed { line })?;
        let Some(value) = data.get(at..at + length) else { return Ok(Found::Unfinished) };
        if field == key {
            found = Some(Key::Binary(value));
        }
        at += length;
    }
    found.map(|key| Found::Row(at, key)).ok_or(SplitError::KeyMissing { line })
}

fn number(data: &[u8], at: usize) -> Option<i32> {
    let bytes = data.get(at..at + 4)?;
    Some(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}
