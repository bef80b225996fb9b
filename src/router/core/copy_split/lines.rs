//! Rows of `FORMAT text` and `FORMAT csv`: lines, where a line end may be part of a value.

use std::borrow::Cow;

use super::{Key, Piece, SplitError};
use crate::router::core::plan::CopyFormat;

/// How far the search for the end of the row in progress has come.
#[derive(Debug, Clone, Copy, Default)]
struct Search {
    at: usize,
    in_quote: bool,
    /// The byte before `at` takes the special meaning from the one at `at`.
    escaped: bool,
}

pub(super) struct Lines {
    format: CopyFormat,
    key: usize,
    /// What ends a line, known from the first one on: `\n` (also for `\r\n`), or `\r`.
    end: Option<u8>,
    search: Search,
    line: u64,
    header: bool,
    /// `\.` has been seen: the rest is ignored, as by `PostgreSQL`.
    done: bool,
}

impl Lines {
    pub(super) fn new(format: CopyFormat, key: usize) -> Self {
        let header = match &format {
            CopyFormat::Text { header, .. } | CopyFormat::Csv { header, .. } => *header,
            CopyFormat::Binary => false,
        };
        Self { format, key, end: None, search: Search::default(), line: 1, header, done: false }
    }

    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The piece at the head of `data` and its length.
    pub(super) fn take<'a>(&mut self, data: &'a [u8], ended: bool) -> Result<Option<(usize, Piece<'a>)>, SplitError> {
        if self.done {
            return Ok(None);
        }
        let length = match self.find_end(data, ended) {
            Some(length) => length,
            None if ended && self.search.in_quote => return Err(SplitError::Unterminated { line: self.line }),
            None if ended && !data.is_empty() => data.len(),
            None => return Ok(None),
        };
        self.search = Search::default();
        let (bytes, line) = (&data[..length], self.line);
        self.line += 1;
        let content = without_end(bytes);
        if content == b"\\." {
            self.done = true;
            return Ok(None);
        }
        if std::mem::take(&mut self.header) {
            return Ok(Some((length, Piece::Header(bytes))));
        }
        let key = match &self.format {
            CopyFormat::Csv { delimiter, quote, escape, null, key_force_null, key_force_not_null, .. } => {
                csv_field(content, self.key, *delimiter, *quote, *escape).map(|field| match field {
                    Csv { value, .. } if *value == *null.as_bytes() && *key_force_null => Key::Null,
                    Csv { value, quoted: false } if *value == *null.as_bytes() && !key_force_not_null => Key::Null,
                    Csv { value, .. } => Key::Text(value),
                })
            }
            CopyFormat::Text { delimiter, null, .. } => text_field(content, self.key, *delimiter, null.as_bytes()),
            CopyFormat::Binary => unreachable!("binary rows have their own reader"),
        };
        let key = key.ok_or(SplitError::KeyMissing { line })?;
        Ok(Some((length, Piece::Row { bytes, key, line })))
    }

    /// Length of the first row with its line end; goes on where it stopped last time.
    fn find_end(&mut self, data: &[u8], ended: bool) -> Option<usize> {
        let (quote, escape) = match &self.format {
            CopyFormat::Csv { quote, escape, .. } => (Some(*quote), (escape != quote).then_some(*escape)),
            _ => (None, None),
        };
        let mut search = self.search;
        while let Some(&byte) = data.get(search.at) {
            let escaped = std::mem::take(&mut search.escaped);
            if let Some(quote) = quote {
                // Where quote and escape are the same, a doubled quote closes and opens again.
                if search.in_quote && Some(byte) == escape && !escaped {
                    search.escaped = true;
                } else if byte == quote && !escaped {
                    search.in_quote = !search.in_quote;
                }
            } else if byte == b'\\' && !escaped {
                search.escaped = true;
            }
            let free = !search.in_quote && (quote.is_some() || !escaped);
            if free && (byte == b'\n' || byte == b'\r') {
                let end = match self.end {
                    Some(end) => end,
                    None if byte == b'\n' => b'\n',
                    None => match data.get(search.at + 1) {
                        Some(b'\n') => b'\n',
                        None if !ended => break,
                        _ => b'\r',
                    },
                };
                self.end = Some(end);
                if byte == end {
                    return Some(search.at + 1);
                }
            }
            search.at += 1;
        }
        self.search = search;
        None
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Field number `wanted` of a text row; `None` where the row has fewer.
fn text_field<'a>(row: &'a [u8], wanted: usize, delimiter: u8, null: &[u8]) -> Option<Key<'a>> {
    let (mut field, mut start, mut at, mut escapes) = (0, 0, 0, false);
    while at < row.len() && !(row[at] == delimiter && field == wanted) {
        match row[at] {
            b'\\' => {
                escapes = true;
                at += 1;
            }
            byte if byte == delimiter => {
                field += 1;
                start = at + 1;
                escapes = false;
            }
            _ => {}
        }
        at += 1;
    }
    if field < wanted {
        return None;
    }
    let raw = &row[start..at.min(row.len())];
    Some(match raw {
        raw if raw == null => Key::Null,
        raw if escapes => Key::Text(Cow::Owned(unescape(raw))),
        raw => Key::Text(Cow::Borrowed(raw)),
    })
}

/// Undoes the backslash sequences of the text format.
fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let Some((&next, after)) = tail.split_first().filter(|_| byte == b'\\') else {
            plain.push(byte);
            continue;
        };
        rest = after;
        match next {
            b'b' => plain.push(8),
            b'f' => plain.push(12),
            b'n' => plain.push(b'\n'),
            b'r' => plain.push(b'\r'),
            b't' => plain.push(b'\t'),
            b'v' => plain.push(11),
            b'0'..=b'7' => {
                let (value, length) = digits(tail, 8, 3);
                plain.push(value);
                rest = &tail[length..];
            }
            b'x' if after.first().is_some_and(u8::is_ascii_hexdigit) => {
                let (value, length) = digits(after, 16, 2);
                plain.push(value);
                rest = &after[length..];
            }
            other => plain.push(other),
        }
    }
    plain
}

/// Up to `most` digits as a byte, and how many there were.
fn digits(text: &[u8], radix: u32, most: usize) -> (u8, usize) {
    let values = text.iter().take(most).map_while(|&byte| char::from(byte).to_digit(radix));
    let (value, count) = values.fold((0, 0), |(value, count), digit| (value * radix + digit, count + 1));
    (u8::try_from(value & 0xff).expect("masked to a byte"), count)
}

/// A CSV field without its quotes.
struct Csv<'a> {
    value: Cow<'a, [u8]>,
    quoted: bool,
}

/// Field number `wanted` of a CSV row; `None` where the row has fewer.
fn csv_field(row: &[u8], wanted: usize, delimiter: u8, quote: u8, escape: u8) -> Option<Csv<'_>> {
    let (mut field, mut at, mut in_quote, mut quoted) = (0, 0, false, false);
    let mut start = 0;
    let mut plain = Vec::new();
    while at < row.len() {
        let byte = row[at];
        if in_quote {
            let next = row.get(at + 1).copied();
            if byte == escape && next.is_some_and(|next| next == escape || next == quote) {
                at += 1;
                push(&mut plain, row[at], field == wanted);
            } else if byte == quote {
                in_quote = false;
            } else {
                push(&mut plain, byte, field == wanted);
            }
        } else if byte == quote {
            in_quote = true;
            quoted |= field == wanted;
        } else if byte == delimiter {
            if field == wanted {
                break;
            }
            field += 1;
            start = at + 1;
        } else {
            push(&mut plain, byte, field == wanted);
        }
        at += 1;
    }
    if field < wanted {
        return None;
    }
    let raw = &row[start..at.min(row.len())];
    let value = if quoted { Cow::Owned(plain) } else { Cow::Borrowed(raw) };
    Some(Csv { value, quoted })
}

fn push(plain: &mut Vec<u8>, byte: u8, wanted: bool) {
    if wanted {
        plain.push(byte);
    }
}
