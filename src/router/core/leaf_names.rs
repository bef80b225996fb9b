//! [pure] A shard's errors and notices in the user's names: `orders_b07_pkey` is not what anybody
//! made. Called wherever a shard's message is passed on to a client.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{catalog::Catalog, protocol::read::Reader};

/// The body of an `ErrorResponse` or `NoticeResponse` with leaves' names (of tables, indexes and
/// constraints: the parent's, then `_b` and the bucket) replaced by the parents'. The position is left
/// out: it counts in a text that the user did not write.
pub fn for_user(body: &[u8], catalog: &Catalog) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len());
    let mut reader = Reader(body);
    while let Ok(kind) = reader.byte() {
        let Ok(value) = reader.text() else { break };
        match kind {
            b'P' => continue,
            // Message, detail, hint, context, table, constraint.
            b'M' | b'D' | b'H' | b'W' | b't' | b'n' => {
                out.put_u8(kind);
                match std::str::from_utf8(value) {
                    Ok(text) => out.extend_from_slice(parents(text, catalog).as_bytes()),
                    Err(_) => out.extend_from_slice(value),
                }
            }
            _ => {
                out.put_u8(kind);
                out.extend_from_slice(value);
            }
        }
        out.put_u8(0);
    }
    out.put_u8(0);
    out.freeze()
}

/// An error with another context.
pub fn with_context(body: &[u8], context: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + context.len());
    let mut reader = Reader(body);
    while let Ok(kind) = reader.byte() {
        let Ok(value) = reader.text() else { break };
        if kind != b'W' {
            out.put_u8(kind);
            out.extend_from_slice(value);
            out.put_u8(0);
        }
    }
    out.put_u8(b'W');
    out.extend_from_slice(context.as_bytes());
    out.extend_from_slice(&[0, 0]);
    out.freeze()
}

/// A text with leaves' names replaced.
pub fn parents(text: &str, catalog: &Catalog) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, part) in text.split('"').enumerate() {
        if at > 0 {
            out.push('"');
        }
        match parent(part, catalog) {
            Some(name) => out.push_str(name),
            None => words(part, catalog, &mut out),
        }
    }
    out
}

fn words(text: &str, catalog: &Catalog, out: &mut String) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let mut rest = text;
    while !rest.is_empty() {
        let word_length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(word_length);
        out.push_str(parent(word, catalog).unwrap_or(word));
        let gap = tail.find(is_word).unwrap_or(tail.len());
        out.push_str(&tail[..gap]);
        rest = &tail[gap..];
    }
}

/// The parent's name, where this is a leaf's.
fn parent<'a>(name: &'a str, catalog: &Catalog) -> Option<&'a str> {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = name.len() - base.len();
    let base = base.strip_suffix("_b").filter(|_| digits >= 2)?;
    let known = catalog.knows_name(base) || catalog.tables().any(|table| table.indexes.contains(base));
    known.then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::core::catalog::{Table, TableKind, TableName};

    fn catalog() -> Catalog {
        let table = Table {
            name: TableName::new("public", "orders"),
            kind: TableKind::Reference,
            columns: Vec::new(),
            indexes: ["orders_pkey".to_owned()].into(),
            statement_triggers: false,
        };
        Catalog::new([table], [], [], [])
    }

    #[test]
    fn only_leaves_of_known_tables_are_renamed() {
        let text = r#"duplicate key "orders_pkey_b07" in orders_b31, not other_b07 or orders_b7"#;
        let want = r#"duplicate key "orders_pkey" in orders, not other_b07 or orders_b7"#;
        assert_eq!(parents(text, &catalog()), want);
        let body = for_user(b"SERROR\0Mx orders_b07\0P15\0torders_b07\0\0", &catalog());
        assert_eq!(&body[..], b"SERROR\0Mx orders\0torders\0\0");
    }
}
