//! [pure] Rows in text format as lines of a text COPY (manual, COPY, "Text Format"). Called by the
//! router's `INSERT … SELECT`.

use super::protocol::read::{BadBody, Reader};

/// Bytes of lines that one statement may hold in a router's memory: many sessions share it.
pub const LINES_LIMIT: usize = 256 << 20;

/// Lines as they are gathered.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    too_many: bool,
}

/// There were more than [`LINES_LIMIT`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the statement moves more than {} MiB of rows through the router", LINES_LIMIT >> 20)]
pub struct TooMany;

impl Lines {
    /// Adds a `DataRow`'s body whose values are in text format.
    pub fn push(&mut self, row: &[u8]) -> Result<(), BadBody> {
        self.too_many |= self.bytes.len() + row.len() > LINES_LIMIT;
        if self.too_many {
            return Ok(());
        }
        let mut reader = Reader(row);
        let count = reader.int16()?;
        for column in 0..count {
            if column > 0 {
                self.bytes.push(b'\t');
            }
            match reader.value()? {
                None => self.bytes.extend_from_slice(b"\\N"),
                Some(value) => escape(value, &mut self.bytes),
            }
        }
        self.bytes.push(b'\n');
        reader.end()
    }

    /// All lines.
    pub fn finish(self) -> Result<Vec<u8>, TooMany> {
        if self.too_many { Err(TooMany) } else { Ok(self.bytes) }
    }
}

fn escape(value: &[u8], out: &mut Vec<u8>) {
    for &byte in value {
        let letter = match byte {
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            other => {
                out.push(other);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_lines() {
        let mut lines = Lines::default();
        lines.push(b"\0\x02\0\0\0\x03a\tb\xff\xff\xff\xff").expect("well-formed");
        lines.push(b"\0\x02\0\0\0\0\0\0\0\x02\\\n").expect("well-formed");
        assert_eq!(lines.finish().expect("few"), b"a\\tb\t\\N\n\t\\\\\\n\n");
        assert!(Lines::default().push(b"\0\x01").is_err());
    }
}
