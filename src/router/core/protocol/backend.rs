//! [pure] Messages from server to client: those a router answers itself, and what it reads of a
//! server's.

use bytes::{BufMut, BytesMut};

use super::{
    frame::{put, put_text},
    read::{BadBody, Reader},
};

/// `ParseComplete`.
pub const PARSE_COMPLETE: &[u8] = &[b'1', 0, 0, 0, 4];
/// `BindComplete`.
pub const BIND_COMPLETE: &[u8] = &[b'2', 0, 0, 0, 4];
/// `CloseComplete`.
pub const CLOSE_COMPLETE: &[u8] = &[b'3', 0, 0, 0, 4];
/// `NoData`.
pub const NO_DATA: &[u8] = &[b'n', 0, 0, 0, 4];
/// `EmptyQueryResponse`.
pub const EMPTY_QUERY: &[u8] = &[b'I', 0, 0, 0, 4];
/// `ParameterDescription` of a statement without parameters.
pub const NO_PARAMETERS: &[u8] = &[b't', 0, 0, 0, 6, 0, 0];
/// `AuthenticationOk`.
pub const AUTHENTICATION_OK: &[u8] = &[b'R', 0, 0, 0, 8, 0, 0, 0, 0];
/// `AuthenticationSASL` that offers SCRAM-SHA-256 alone.
pub const AUTHENTICATION_SASL: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";

/// Appends `AuthenticationSASLContinue` (11) or `AuthenticationSASLFinal` (12).
pub fn sasl(out: &mut BytesMut, code: u32, data: &[u8]) {
    put(out, b'R', |out| {
        out.put_u32(code);
        out.extend_from_slice(data);
    });
}

/// Appends `BackendKeyData`.
pub fn key_data(out: &mut BytesMut, pid: u32, secret: u32) {
    put(out, b'K', |out| {
        out.put_u32(pid);
        out.put_u32(secret);
    });
}

/// Appends `NegotiateProtocolVersion`: 3.0 is the newest here, and `unknown` options are refused.
pub fn negotiate(out: &mut BytesMut, unknown: &[&str]) {
    put(out, b'v', |out| {
        out.put_u32(super::startup::VERSION);
        out.put_u32(u32::try_from(unknown.len()).expect("a first packet is small"));
        for name in unknown {
            put_text(out, name.as_bytes());
        }
    });
}

/// Appends `ParameterStatus`.
pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    put(out, b'S', |out| {
        put_text(out, name.as_bytes());
        put_text(out, value.as_bytes());
    });
}

/// Appends `CommandComplete`.
pub fn command_complete(out: &mut BytesMut, command: &str) {
    put(out, b'C', |out| put_text(out, command.as_bytes()));
}

/// Appends `ReadyForQuery`: `I` idle, `T` in a transaction, `E` in a failed one.
pub fn ready(out: &mut BytesMut, status: u8) {
    put(out, b'Z', |out| out.put_u8(status));
}

/// Appends `RowDescription` of columns of type text.
pub fn text_columns(out: &mut BytesMut, names: &[&str]) {
    /// `pg_type.oid` of text.
    const TEXT: u32 = 25;
    put(out, b'T', |out| {
        out.put_u16(u16::try_from(names.len()).expect("PostgreSQL allows 1,664 columns"));
        for name in names {
            put_text(out, name.as_bytes());
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(TEXT);
            out.put_i16(-1);
            out.put_i32(-1);
            out.put_u16(0);
        }
    });
}

/// Appends `DataRow`.
pub fn data_row(out: &mut BytesMut, values: &[Option<&[u8]>]) {
    put(out, b'D', |out| {
        out.put_u16(u16::try_from(values.len()).expect("PostgreSQL allows 1,664 columns"));
        for value in values {
            match value {
                None => out.put_i32(-1),
                Some(bytes) => {
                    out.put_i32(i32::try_from(bytes.len()).expect("values are bounded by 1 GiB"));
                    out.extend_from_slice(bytes);
                }
            }
        }
    });
}

/// The values of a `DataRow`'s body; `None` is NULL.
pub fn read_row(body: &[u8]) -> Result<Vec<Option<&[u8]>>, BadBody> {
    let mut reader = Reader(body);
    let count = reader.int16()?;
    let values = (0..count).map(|_| reader.value()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(values)
}

/// Name and value of a `ParameterStatus`'s body.
pub fn read_parameter(body: &[u8]) -> Result<(&str, &str), BadBody> {
    let mut reader = Reader(body);
    let name = std::str::from_utf8(reader.text()?).map_err(|_| BadBody)?;
    let value = std::str::from_utf8(reader.text()?).map_err(|_| BadBody)?;
    Ok((name, value))
}

/// One field of an `ErrorResponse`'s or `NoticeResponse`'s body (manual, "Error and Notice Message
/// Fields"): `C` is the SQLSTATE, `M` the message, `V` the severity, `R` the routine.
pub fn field(body: &[u8], kind: u8) -> Option<&[u8]> {
    let mut reader = Reader(body);
    while let Ok(found) = reader.byte() {
        if found == 0 {
            break;
        }
        let value = reader.text().ok()?;
        if found == kind {
            return Some(value);
        }
    }
    None
}

/// Appends an `ErrorResponse`'s body as one that ends the connection.
pub fn as_fatal(body: &[u8], out: &mut BytesMut) {
    put(out, b'E', |out| {
        let mut reader = Reader(body);
        while let (Ok(kind @ 1..), rest) = (reader.byte(), &mut reader) {
            let Ok(value) = rest.text() else { break };
            out.put_u8(kind);
            put_text(out, if matches!(kind, b'S' | b'V') { b"FATAL" } else { value });
        }
        out.put_u8(0);
    });
}

/// [`field`] as text.
pub fn field_text(body: &[u8], kind: u8) -> String {
    field(body, kind).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}
