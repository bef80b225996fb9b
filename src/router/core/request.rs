//! [pure] One statement with its parameters, as a server is asked: `Parse`, `Bind`, `Describe`,
//! `Execute`, `Sync` in one go. Called by the router's executors.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::protocol::{
    frame::{put, put_text},
    frontend,
};

/// `pg_type.oid` of text.
const TEXT: u32 = 25;

/// A parameter's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Its type as the query group knows it; 0: let the server infer it.
    pub type_oid: u32,
    /// Binary format.
    pub binary: bool,
    /// `None` is NULL.
    pub value: Option<Bytes>,
}

impl Param {
    const UNUSED: Self = Self { type_oid: TEXT, binary: false, value: None };
}

/// A statement with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The text.
    pub sql: String,
    /// `$1`, `$2`, …
    pub params: Vec<Param>,
    /// Formats of the result's columns, as in `Bind`: none for all text, one for all, or one each.
    pub formats: Vec<u16>,
}

impl Request {
    /// A text that uses only the parameters `used` (from 1) of `given`: the others keep their positions
    /// and are NULL. Types made by users have another OID on each group: those are left to inference.
    pub fn new(sql: String, used: &[u16], given: &[Param], formats: &[u16]) -> Self {
        let count = used.iter().max().copied().unwrap_or(0);
        let pick = |number: u16| {
            let param = given.get(usize::from(number) - 1).filter(|_| used.contains(&number));
            param.map_or(Param::UNUSED, |param| Param {
                type_oid: if super::merge::is_builtin(param.type_oid) { param.type_oid } else { 0 },
                ..param.clone()
            })
        };
        Self { sql, params: (1..=count).map(pick).collect(), formats: formats.to_vec() }
    }

    /// Appends `Parse` of the unnamed statement and, for `describe`, `Describe` of it.
    pub fn parse(&self, describe: bool, out: &mut BytesMut) {
        let types: Vec<u32> = self.params.iter().map(|param| param.type_oid).collect();
        frontend::parse(out, b"", self.sql.as_bytes(), &types);
        if describe {
            frontend::describe(out, b'S', b"");
        }
    }

    /// Appends `Bind` to the unnamed portal, for `describe` `Describe` of it, `Execute` and `Sync`.
    pub fn bind_and_execute(&self, describe: bool, out: &mut BytesMut) {
        let count = |length: usize| u16::try_from(length).expect("PostgreSQL allows 65,535 parameters");
        put(out, b'B', |out| {
            put_text(out, b"");
            put_text(out, b"");
            out.put_u16(count(self.params.len()));
            self.params.iter().for_each(|param| out.put_u16(u16::from(param.binary)));
            out.put_u16(count(self.params.len()));
            for param in &self.params {
                match &param.value {
                    None => out.put_i32(-1),
                    Some(value) => {
                        out.put_i32(i32::try_from(value.len()).expect("values are bounded by 1 GiB"));
                        out.extend_from_slice(value);
                    }
                }
            }
            out.put_u16(count(self.formats.len()));
            self.formats.iter().for_each(|format| out.put_u16(*format));
        });
        if describe {
            frontend::describe(out, b'P', b"");
        }
        frontend::execute(out, b"", 0);
        frontend::sync(out);
    }

    /// Appends all of it.
    pub fn encode(&self, describe: bool, out: &mut BytesMut) {
        self.parse(false, out);
        self.bind_and_execute(describe, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_parameters_keep_their_places() {
        let param = |type_oid| Param { type_oid, binary: true, value: Some(Bytes::from_static(b"\0\0\0\x01")) };
        let given = [param(23), param(20_000), param(20)];
        let request = Request::new("SELECT $2, $3".to_owned(), &[2, 3], &given, &[1]);
        assert_eq!(request.params[0], Param::UNUSED);
        assert_eq!((request.params[1].type_oid, request.params[2].type_oid), (0, 20));
        assert!(Request::new("SELECT 1".to_owned(), &[], &given, &[]).params.is_empty());
        let mut out = BytesMut::new();
        request.encode(false, &mut out);
        assert_eq!((out[0], out[out.len() - 5]), (b'P', b'S'));
    }
}
