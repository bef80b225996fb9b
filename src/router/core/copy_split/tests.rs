//! Every format, cut at every place.

use super::*;
use crate::router::core::plan::CopyFormat;

fn text_format() -> CopyFormat {
    CopyFormat::Text { delimiter: b'\t', null: "\\N".to_owned(), header: false }
}

fn csv_format(delimiter: u8, quote: u8, escape: u8, null: &str, header: bool) -> CopyFormat {
    let null = null.to_owned();
    CopyFormat::Csv { delimiter, quote, escape, null, header, key_force_null: false, key_force_not_null: false }
}

/// Rows as (bytes, key), headers as key `header`.
fn split(format: &CopyFormat, key: usize, data: &[u8], chunk: usize) -> Result<Vec<(Vec<u8>, String)>, SplitError> {
    let mut splitter = Splitter::new(format.clone(), key);
    let mut found = Vec::new();
    let mut drain = |splitter: &mut Splitter| {
        while let Some(piece) = splitter.next()? {
            found.push(match piece {
                Piece::Header(bytes) => (bytes.to_vec(), "header".to_owned()),
                Piece::Row { bytes, key, .. } => (bytes.to_vec(), show(&key)),
            });
        }
        Ok(())
    };
    for part in data.chunks(chunk) {
        splitter.push(part);
        drain(&mut splitter)?;
    }
    splitter.finish();
    drain(&mut splitter)?;
    Ok(found)
}

fn show(key: &Key<'_>) -> String {
    match key {
        Key::Null => "null".to_owned(),
        Key::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
        Key::Binary(bytes) => format!("{bytes:?}"),
    }
}

/// Splits with every chunk size and compares the keys; the rows must add up to the input.
fn check(format: &CopyFormat, key: usize, data: &[u8], keys: &[&str]) {
    for chunk in 1..=data.len() {
        let found = split(format, key, data, chunk).expect("the data is well-formed");
        let shown: Vec<_> = found.iter().map(|(_, key)| key.as_str()).collect();
        assert_eq!(shown, keys, "chunks of {chunk}");
        let joined: Vec<u8> = found.into_iter().flat_map(|(bytes, _)| bytes).collect();
        assert!(data.starts_with(&joined));
    }
}

#[test]
fn text() {
    let format = text_format();
    check(&format, 0, b"1\ta\n2\tb\n", &["\"1\"", "\"2\""]);
    check(&format, 1, b"1\ta\r\n2\tb\r\n", &["\"a\"", "\"b\""]);
    check(&format, 1, b"1\ta\r2\tb\r", &["\"a\"", "\"b\""]);
    check(&format, 1, b"1\t\\N\n2\tb", &["null", "\"b\""]);
    check(&format, 1, b"1\ta\\tb\n2\tb\\\nc\n", &["\"a\\tb\"", "\"b\\nc\""]);
    check(&format, 1, b"1\ta\\\\\n2\t\\101\\x42\\.\n", &["\"a\\\\\"", "\"AB.\""]);
    check(&format, 0, b"1\ta\n\\.\nrubbish", &["\"1\""]);
    assert_eq!(split(&format, 1, b"1\n", 2), Err(SplitError::KeyMissing { line: 1 }));
}

#[test]
fn csv() {
    let format = csv_format(b',', b'"', b'"', "", false);
    check(&format, 0, b"1,a\n2,b\n", &["\"1\"", "\"2\""]);
    check(&format, 1, b"1,\"a\nb\"\r\n2,\"c\"\"d\"\r\n", &["\"a\\nb\"", "\"c\\\"d\""]);
    check(&format, 1, b"1,,x\n2,\"\",y\n", &["null", "\"\""]);
    check(&format, 1, b"\"a,b\",c\n", &["\"c\""]);
    let header = csv_format(b';', b'\'', b'\\', "-", true);
    check(&header, 1, b"a;b\n1;'it\\'s\n'\n2;-\n3;'\\\\'\n", &["header", "\"it's\\n\"", "null", "\"\\\\\""]);
    assert_eq!(split(&format, 0, b"\"1,a\n", 3), Err(SplitError::Unterminated { line: 1 }));
}

#[test]
fn binary() {
    let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    data.extend_from_slice(b"\0\x02\0\0\0\x01A\xff\xff\xff\xff");
    data.extend_from_slice(b"\0\x02\0\0\0\0\0\0\0\x02BC");
    let mut whole = data.clone();
    whole.extend_from_slice(b"\xff\xff");
    check(&CopyFormat::Binary, 0, &whole, &["header", "[65]", "[]"]);
    check(&CopyFormat::Binary, 1, &whole, &["header", "null", "[66, 67]"]);
    assert_eq!(split(&CopyFormat::Binary, 0, &data, 7), Err(SplitError::Truncated { line: 3 }));
    assert_eq!(split(&CopyFormat::Binary, 0, b"PGDUMP", 7), Err(SplitError::Signature));
    assert_eq!(split(&CopyFormat::Binary, 2, &whole, 7), Err(SplitError::KeyMissing { line: 1 }));
}
