//! [pure] Messages from client to server: the bodies a router reads, and those it writes itself.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    frame::{Frame, put, put_text},
    read::{BadBody, Reader},
};

/// `Parse`: a statement to prepare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parse {
    /// Statement's name; empty is the unnamed one.
    pub name: Bytes,
    /// SQL, without the closing zero.
    pub sql: Bytes,
    /// Types of the parameters as far as the client says; 0 is unsaid.
    pub types: Vec<u32>,
}

impl Parse {
    /// Reads the body of a `P` message.
    pub fn read(frame: &Frame) -> Result<Self, BadBody> {
        let body = frame.shared_body();
        let mut reader = Reader(&body);
        let name = body.slice_ref(reader.text()?);
        let sql = body.slice_ref(reader.text()?);
        let count = reader.int16()?;
        let types = (0..count).map(|_| reader.uint32()).collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { name, sql, types })
    }
}

/// `Bind`: parameters for a prepared statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Portal's name; empty is the unnamed one.
    pub portal: Bytes,
    /// Statement's name.
    pub statement: Bytes,
    /// The rest: formats, values, result formats.
    pub rest: Bytes,
}

/// A parameter's value: true for binary format, and its bytes or `None` for NULL.
pub type Parameter<'a> = (bool, Option<&'a [u8]>);

impl Bind {
    /// Reads the two names of a `B` message; the rest is kept as it is.
    pub fn read(frame: &Frame) -> Result<Self, BadBody> {
        let body = frame.shared_body();
        let mut reader = Reader(&body);
        let portal = body.slice_ref(reader.text()?);
        let statement = body.slice_ref(reader.text()?);
        let rest = body.slice_ref(reader.0);
        Ok(Self { portal, statement, rest })
    }

    /// The parameters, in order.
    pub fn parameters(&self) -> Result<Vec<Parameter<'_>>, BadBody> {
        self.values().map(|(values, _)| values)
    }

    /// Result format codes: none for all text, one for all columns, or one per column.
    pub fn result_formats(&self) -> Result<Vec<u16>, BadBody> {
        let (_, mut reader) = self.values()?;
        let count = reader.int16()?;
        let formats = (0..count).map(|_| reader.int16()).collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(formats)
    }

    fn values(&self) -> Result<(Vec<Parameter<'_>>, Reader<'_>), BadBody> {
        let mut reader = Reader(&self.rest);
        let count = usize::from(reader.int16()?);
        let mut formats = Reader(reader.bytes(2 * count)?);
        let single = if count == 1 { Some(formats.int16()? == 1) } else { None };
        let values = usize::from(reader.int16()?);
        if count > 1 && count != values {
            return Err(BadBody);
        }
        let mut parameters = Vec::with_capacity(values);
        for _ in 0..values {
            let binary = match single {
                Some(binary) => binary,
                None => count > 1 && formats.int16()? == 1,
            };
            parameters.push((binary, reader.value()?));
        }
        Ok((parameters, reader))
    }
}

/// What `Describe` and `Close` are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement.
    Statement(Bytes),
    /// A portal.
    Portal(Bytes),
}

impl Target {
    /// Reads the body of a `D` or `C` message.
    pub fn read(frame: &Frame) -> Result<Self, BadBody> {
        let body = frame.shared_body();
        let mut reader = Reader(&body);
        let kind = reader.byte()?;
        let name = body.slice_ref(reader.text()?);
        reader.end()?;
        match kind {
            b'S' => Ok(Self::Statement(name)),
            b'P' => Ok(Self::Portal(name)),
            _ => Err(BadBody),
        }
    }
}

/// The portal and the row limit (0: all) of an `E` message.
pub fn read_execute(frame: &Frame) -> Result<(Bytes, i32), BadBody> {
    let body = frame.shared_body();
    let mut reader = Reader(&body);
    let portal = body.slice_ref(reader.text()?);
    let limit = reader.int32()?;
    reader.end()?;
    Ok((portal, limit))
}

/// The SQL of a `Q` message.
pub fn read_query(frame: &Frame) -> Result<Bytes, BadBody> {
    let body = frame.shared_body();
    let mut reader = Reader(&body);
    let sql = body.slice_ref(reader.text()?);
    reader.end()?;
    Ok(sql)
}

/// Appends a simple query.
pub fn query(out: &mut BytesMut, sql: &[u8]) {
    put(out, b'Q', |out| put_text(out, sql));
}

/// Appends `Parse`.
pub fn parse(out: &mut BytesMut, name: &[u8], sql: &[u8], types: &[u32]) {
    put(out, b'P', |out| {
        put_text(out, name);
        put_text(out, sql);
        out.put_u16(count(types.len()));
        for oid in types {
            out.put_u32(*oid);
        }
    });
}

/// Appends `Bind` with a rest (formats, values, result formats) as a client sent it.
pub fn bind_raw(out: &mut BytesMut, portal: &[u8], statement: &[u8], rest: &[u8]) {
    put(out, b'B', |out| {
        put_text(out, portal);
        put_text(out, statement);
        out.extend_from_slice(rest);
    });
}

/// Appends `Bind` with values of our own, all in the same format, results too.
pub fn bind(out: &mut BytesMut, portal: &[u8], statement: &[u8], values: &[Option<&[u8]>], binary: bool) {
    put(out, b'B', |out| {
        put_text(out, portal);
        put_text(out, statement);
        let values: Vec<Parameter<'_>> = values.iter().map(|value| (binary, *value)).collect();
        bind_values(out, &values, binary);
    });
}

/// Appends what follows the names in `Bind`: values, each with its format, and one result format for all.
pub fn bind_values(out: &mut BytesMut, values: &[Parameter<'_>], binary_results: bool) {
    out.put_u16(count(values.len()));
    for (binary, _) in values {
        out.put_u16(u16::from(*binary));
    }
    out.put_u16(count(values.len()));
    for (_, value) in values {
        match value {
            None => out.put_i32(-1),
            Some(bytes) => {
                out.put_i32(i32::try_from(bytes.len()).expect("values are bounded by 1 GiB"));
                out.extend_from_slice(bytes);
            }
        }
    }
    out.put_u16(1);
    out.put_u16(u16::from(binary_results));
}

/// Appends `Describe` of a statement (`S`) or portal (`P`).
pub fn describe(out: &mut BytesMut, kind: u8, name: &[u8]) {
    put(out, b'D', |out| {
        out.put_u8(kind);
        put_text(out, name);
    });
}

/// Appends `Close` of a statement (`S`) or portal (`P`).
pub fn close(out: &mut BytesMut, kind: u8, name: &[u8]) {
    put(out, b'C', |out| {
        out.put_u8(kind);
        put_text(out, name);
    });
}

/// Appends `Execute`; `limit` 0 is all rows.
pub fn execute(out: &mut BytesMut, portal: &[u8], limit: i32) {
    put(out, b'E', |out| {
        put_text(out, portal);
        out.put_i32(limit);
    });
}

/// Appends `Sync`.
pub fn sync(out: &mut BytesMut) {
    put(out, b'S', |_| {});
}

/// Appends `Flush`.
pub fn flush(out: &mut BytesMut) {
    put(out, b'H', |_| {});
}

/// Appends `CopyData`.
pub fn copy_data(out: &mut BytesMut, data: &[u8]) {
    put(out, b'd', |out| out.extend_from_slice(data));
}

/// Appends `CopyDone`.
pub fn copy_done(out: &mut BytesMut) {
    put(out, b'c', |_| {});
}

/// Appends `CopyFail`.
pub fn copy_fail(out: &mut BytesMut, reason: &str) {
    put(out, b'f', |out| put_text(out, reason.as_bytes()));
}

/// Appends `Terminate`.
pub fn terminate(out: &mut BytesMut) {
    put(out, b'X', |_| {});
}

/// A list's length as the protocol counts.
fn count(length: usize) -> u16 {
    u16::try_from(length).expect("PostgreSQL allows 65,535 parameters")
}
