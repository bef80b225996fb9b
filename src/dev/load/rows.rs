//! TPC-H rows in PostgreSQL's COPY text format, in chunks. Called by `tables` (which rows) on the
//! generator's thread; the loader takes the chunks.

use std::fmt::Display;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

/// A chunk is sent once it has this many bytes: many rows for one system call, few for memory.
const CHUNK: usize = 64 * 1024;

/// Some rows.
#[derive(Debug)]
pub struct Chunk {
    /// As COPY wants them.
    pub bytes: Bytes,
    /// How many have been made so far, these included.
    pub rows: u64,
}

/// Collects rows into chunks.
#[derive(Debug)]
pub struct Chunks {
    send: mpsc::Sender<Chunk>,
    bytes: BytesMut,
    rows: u64,
}

impl Chunks {
    /// Sends to the loader.
    pub fn new(send: mpsc::Sender<Chunk>) -> Self {
        Self { send, bytes: BytesMut::new(), rows: 0 }
    }

    /// Every row; ends early when the loader has gone. A row shows itself as `a|b|c|`; no value holds
    /// a bar, a tab or a backslash.
    pub fn all(&mut self, rows: impl IntoIterator<Item: Display>) {
        for row in rows {
            let text = row.to_string();
            let values = text.trim_end_matches('|');
            self.bytes.extend(values.bytes().map(|byte| if byte == b'|' { b'\t' } else { byte }));
            self.bytes.extend_from_slice(b"\n");
            self.rows += 1;
            if self.bytes.len() >= CHUNK && !self.flush() {
                return;
            }
        }
        self.flush();
    }

    /// False when the loader has gone.
    fn flush(&mut self) -> bool {
        let chunk = Chunk { bytes: self.bytes.split().freeze(), rows: self.rows };
        self.send.blocking_send(chunk).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_copy_text() {
        let (send, mut receive) = mpsc::channel(4);
        Chunks::new(send).all(["1|a b|", "2|c|"]);
        let chunk = receive.blocking_recv().expect("one chunk");
        assert_eq!((chunk.bytes.as_ref(), chunk.rows), (b"1\ta b\n2\tc\n".as_slice(), 2));
        assert!(receive.blocking_recv().is_none());
    }
}
