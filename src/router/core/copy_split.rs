//! [pure] Splits the data of `COPY … FROM STDIN` into rows while it streams, and finds each row's
//! distribution key, without decoding anything else. Called by the router's COPY executor, which
//! passes every row on, unchanged, to the shard of its key.
//!
//! Follows the manual, COPY, "File Formats"; rows are bounded by [`ROW_LIMIT`].

mod binary;
mod lines;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use binary::Binary;
use lines::Lines;

use super::plan::CopyFormat;

/// The longest row: `PostgreSQL`'s own limit on a line is 1 GiB; a router serves many sessions from one
/// memory, so a row may take an eighth of that.
pub const ROW_LIMIT: usize = 128 << 20;

/// A row's distribution key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key<'a> {
    /// `NULL`, which has no shard.
    Null,
    /// In the type's text form, unescaped.
    Text(Cow<'a, [u8]>),
    /// In the type's binary form.
    Binary(&'a [u8]),
}

/// What the splitter found.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes that every shard needs before its first row: a header line, or the binary header.
    Header(&'a [u8]),
    /// One row.
    Row {
        /// As it came, with its line end.
        bytes: &'a [u8],
        /// Its key.
        key: Key<'a>,
        /// Its number among the lines (from 1, the header counted), for messages.
        line: u64,
    },
}

/// Why the data cannot be split. All are `bad_copy_file_format` (22P04) but the limit (54000).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Too few columns to have a key.
    #[error("missing data for the distribution column, line {line}")]
    KeyMissing {
        /// The line.
        line: u64,
    },
    /// CSV ended within quotes.
    #[error("unterminated CSV quoted field, line {line}")]
    Unterminated {
        /// The line it began in.
        line: u64,
    },
    /// Not `PGCOPY\n…`.
    #[error("COPY file signature not recognized")]
    Signature,
    /// A length or count that cannot be.
    #[error("invalid binary COPY data, row {line}")]
    Malformed {
        /// The row.
        line: u64,
    },
    /// The data ended within a row.
    #[error("unexpected EOF in COPY data, row {line}")]
    Truncated {
        /// The row.
        line: u64,
    },
    /// A row above [`ROW_LIMIT`].
    #[error("row {line} is longer than {ROW_LIMIT} bytes")]
    TooLong {
        /// The line it began in.
        line: u64,
    },
}

enum Reader {
    Lines(Lines),
    Binary(Binary),
}

/// Splits one COPY's data. Feed it with [`Splitter::push`], then take what is ready with
/// [`Splitter::next`] until there is nothing; at the end call [`Splitter::finish`] once and take the
/// rest. Holds at most one unfinished row beside what was pushed last.
pub struct Splitter {
    buffer: Vec<u8>,
    /// Everything before it has been given out.
    start: usize,
    reader: Reader,
    /// Text and CSV may end without a line end; binary has a trailer.
    ended: bool,
}

impl Splitter {
    /// For rows whose key is field number `key`, from 0.
    pub fn new(format: CopyFormat, key: usize) -> Self {
        let reader = match format {
            CopyFormat::Binary => Reader::Binary(Binary::new(key)),
            other => Reader::Lines(Lines::new(other, key)),
        };
        Self { buffer: Vec::new(), start: 0, reader, ended: false }
    }

    /// More data, cut anywhere.
    pub fn push(&mut self, data: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(data);
    }

    /// No more data will come.
    pub fn finish(&mut self) {
        self.ended = true;
    }

    /// The next piece, where all of it is there. `None`: push more, or, after
    /// [`Splitter::finish`], the end.
    #[expect(clippy::should_implement_trait, reason = "pieces borrow from the splitter: it lends, it is no iterator")]
    pub fn next(&mut self) -> Result<Option<Piece<'_>>, SplitError> {
        let rest = &self.buffer[self.start..];
        let found = match &mut self.reader {
            Reader::Lines(lines) => lines.take(rest, self.ended)?,
            Reader::Binary(binary) => binary.take(rest, self.ended)?,
        };
        let Some((length, piece)) = found else {
            return if rest.len() > ROW_LIMIT { Err(SplitError::TooLong { line: self.line() }) } else { Ok(None) };
        };
        self.start += length;
        Ok(Some(piece))
    }

    /// The line that comes next.
    fn line(&self) -> u64 {
        match &self.reader {
            Reader::Lines(lines) => lines.line(),
            Reader::Binary(binary) => binary.row(),
        }
    }
}
