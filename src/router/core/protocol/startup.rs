//! [pure] The first packet of a connection, which has no tag (manual, "Start-up").

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};

use super::read::Reader;

/// Longest first packet: PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
pub const MAX_STARTUP: usize = 10_000;
/// Protocol 3.0, which we speak.
pub const VERSION: u32 = 196_608;
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;

/// What a client wants of a new connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// TLS (manual, "SSL Session Encryption").
    Tls,
    /// GSSAPI encryption.
    Gss,
    /// To cancel what another connection is doing.
    Cancel {
        /// Process of that connection, as `BackendKeyData` gave it.
        pid: u32,
        /// Its secret.
        secret: Vec<u8>,
    },
    /// To work.
    Session {
        /// Minor version asked for: above 0 is answered by `NegotiateProtocolVersion`.
        minor: u16,
        /// `user`, `database`, `options` and settings.
        parameters: BTreeMap<String, String>,
    },
}

/// Why a first packet is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOpening {
    /// Too long or too short.
    #[error("invalid length of startup packet")]
    Length,
    /// Not pairs of texts.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// Protocol 1, 2 or one from the future.
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0")]
    Version {
        /// Major version asked for.
        major: u32,
        /// Minor version asked for.
        minor: u32,
    },
}

/// Takes the first packet off `input`; `None` until it is complete.
pub fn take(input: &mut BytesMut) -> Result<Option<Opening>, BadOpening> {
    let [a, b, c, d, ..] = **input else { return Ok(None) };
    let size = u32::from_be_bytes([a, b, c, d]) as usize;
    if !(8..=MAX_STARTUP).contains(&size) {
        return Err(BadOpening::Length);
    }
    if input.len() < size {
        return Ok(None);
    }
    let packet = input.split_to(size);
    let mut reader = Reader(&packet[4..]);
    let code = reader.uint32().map_err(|_| BadOpening::Length)?;
    match code {
        SSL => Ok(Some(Opening::Tls)),
        GSSENC => Ok(Some(Opening::Gss)),
        CANCEL => {
            let pid = reader.uint32().map_err(|_| BadOpening::Length)?;
            Ok(Some(Opening::Cancel { pid, secret: reader.0.to_vec() }))
        }
        _ if code >> 16 == 3 => {
            let minor = u16::try_from(code & 0xffff).expect("masked to 16 bits");
            Ok(Some(Opening::Session { minor, parameters: pairs(reader)? }))
        }
        _ => Err(BadOpening::Version { major: code >> 16, minor: code & 0xffff }),
    }
}

fn pairs(mut reader: Reader<'_>) -> Result<BTreeMap<String, String>, BadOpening> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| BadOpening::Layout);
    let mut pairs = BTreeMap::new();
    loop {
        let name = reader.text().map_err(|_| BadOpening::Layout)?;
        if name.is_empty() {
            break;
        }
        let value = reader.text().map_err(|_| BadOpening::Layout)?;
        pairs.insert(text(name)?, text(value)?);
    }
    reader.end().map_err(|_| BadOpening::Layout)?;
    Ok(pairs)
}

/// Appends the first packet of a session of our own.
pub fn session(out: &mut BytesMut, parameters: &[(&str, &str)]) {
    untagged(out, |out| {
        out.put_u32(VERSION);
        for (name, value) in parameters {
            super::frame::put_text(out, name.as_bytes());
            super::frame::put_text(out, value.as_bytes());
        }
        out.put_u8(0);
    });
}

/// Appends a request to cancel.
pub fn cancel(out: &mut BytesMut, pid: u32, secret: u32) {
    untagged(out, |out| {
        out.put_u32(CANCEL);
        out.put_u32(pid);
        out.put_u32(secret);
    });
}

fn untagged(out: &mut BytesMut, fill: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    fill(out);
    let length = u32::try_from(out.len() - at).expect("a first packet is small");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}
