//! [pure] Where one message ends and the next begins: a tag and a length, nothing else is looked at.

use bytes::{BufMut, BytesMut};

/// Longest message either side may send: PostgreSQL's `PQ_LARGE_MESSAGE_LIMIT` (1 GiB less one).
pub const LARGE: usize = 0x3fff_ffff - 1;
/// Longest message of the kinds that carry names only: PostgreSQL's `PQ_SMALL_MESSAGE_LIMIT`.
pub const SMALL: usize = 10_000;

/// What a message's first five bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Kind of message.
    pub tag: u8,
    /// Bytes of the whole message, tag and length included.
    pub size: usize,
}

/// Bytes that cannot be the beginning of a message; the stream is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// No such kind of message from a client.
    #[error("invalid frontend message type {0}")]
    Tag(u8),
    /// A length below four, or above the limit of its kind.
    #[error("invalid message length")]
    Length,
}

/// The head of the message that `bytes` begins with; `None` until five bytes are there.
pub fn head(bytes: &[u8]) -> Result<Option<Head>, BadFrame> {
    let [tag, a, b, c, d, ..] = *bytes else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if !(4..=LARGE).contains(&length) {
        return Err(BadFrame::Length);
    }
    Ok(Some(Head { tag, size: length + 1 }))
}

/// As [`head`], for a client: unknown kinds and lengths that PostgreSQL refuses are refused.
pub fn client_head(bytes: &[u8]) -> Result<Option<Head>, BadFrame> {
    let Some(&tag) = bytes.first() else { return Ok(None) };
    let limit = match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' | b'p' => LARGE,
        b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' => SMALL,
        _ => return Err(BadFrame::Tag(tag)),
    };
    match head(bytes)? {
        Some(head) if head.size > limit + 1 => Err(BadFrame::Length),
        other => Ok(other),
    }
}

/// Takes the next complete message of a client off `input`, or says how many bytes are needed in all.
pub fn take(input: &mut BytesMut) -> Result<Option<Frame>, BadFrame> {
    match client_head(input)? {
        Some(head) if head.size <= input.len() => {
            Ok(Some(Frame { tag: head.tag, bytes: input.split_to(head.size).freeze() }))
        }
        _ => Ok(None),
    }
}

/// One whole message. Cheap to clone: the bytes are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Kind of message.
    pub tag: u8,
    /// All of it, tag and length included.
    pub bytes: bytes::Bytes,
}

impl Frame {
    /// What follows the length.
    pub fn body(&self) -> &[u8] {
        &self.bytes[5..]
    }

    /// What follows the length, sharing the bytes.
    pub fn shared_body(&self) -> bytes::Bytes {
        self.bytes.slice(5..)
    }
}

/// Appends a message: `fill` writes the body, the length is set afterwards.
///
/// Panics where the body exceeds 2 GiB, which the limits on what is read exclude.
pub fn put(out: &mut BytesMut, tag: u8, fill: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_u32(0);
    fill(out);
    let length = u32::try_from(out.len() - at).expect("messages are bounded by 1 GiB");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a text with its closing zero.
pub fn put_text(out: &mut BytesMut, text: &[u8]) {
    out.extend_from_slice(text);
    out.put_u8(0);
}
