//! Bad input: whatever the bytes are, decoders answer and never panic.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{
    backend,
    frame::{self, BadFrame, Frame},
    frontend::{self, Bind, Parse, Target},
    startup::{self, BadOpening, Opening},
};

fn decode_all(tag: u8, body: &[u8]) {
    let mut bytes = vec![tag, 0, 0, 0, 0];
    bytes.extend_from_slice(body);
    let frame = Frame { tag, bytes: Bytes::from(bytes) };
    let _ = Parse::read(&frame);
    if let Ok(bind) = Bind::read(&frame) {
        let _ = bind.parameters();
        let _ = bind.result_formats();
    }
    let _ = Target::read(&frame);
    let _ = frontend::read_execute(&frame);
    let _ = frontend::read_query(&frame);
    let _ = backend::read_row(body);
    let _ = backend::read_parameter(body);
    let _ = backend::field(body, b'C');
}

proptest! {
    #[test]
    fn bodies_never_panic(tag: u8, body: Vec<u8>) {
        decode_all(tag, &body);
    }

    #[test]
    fn streams_never_panic_and_never_stall(bytes: Vec<u8>) {
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = frame::take(&mut input) {
            prop_assert!(frame.bytes.len() >= 5);
        }
        let _ = startup::take(&mut BytesMut::from(&bytes[..]));
    }

    #[test]
    fn what_is_written_is_read_back(name: Vec<u8>, sql: Vec<u8>, types: Vec<u32>, cut in 0usize..64) {
        let clean = |mut text: Vec<u8>| { text.retain(|byte| *byte != 0); text };
        let (name, sql) = (clean(name), clean(sql));
        let mut out = BytesMut::new();
        frontend::parse(&mut out, &name, &sql, &types);
        let whole = out.clone();
        let frame = frame::take(&mut out).expect("well-formed").expect("complete");
        let parse = Parse::read(&frame).expect("well-formed");
        prop_assert_eq!((&parse.name[..], &parse.sql[..], parse.types), (&name[..], &sql[..], types));
        let mut truncated = whole;
        truncated.truncate(truncated.len().saturating_sub(1 + cut));
        prop_assert_eq!(frame::take(&mut truncated), Ok(None));
    }

    #[test]
    fn bound_values_are_read_back(values: Vec<Option<Vec<u8>>>) {
        let mut out = BytesMut::new();
        let borrowed: Vec<_> = values.iter().map(Option::as_deref).collect();
        frontend::bind(&mut out, b"p", b"s", &borrowed, true);
        let frame = frame::take(&mut out).expect("well-formed").expect("complete");
        let bind = Bind::read(&frame).expect("well-formed");
        let read: Vec<_> = bind.parameters().expect("well-formed").into_iter().collect();
        prop_assert_eq!(read, borrowed.into_iter().map(|value| (true, value)).collect::<Vec<_>>());
        prop_assert_eq!(bind.result_formats(), Ok(vec![1]));
    }
}

#[test]
fn impossible_lengths_and_kinds_are_refused() {
    let head = |bytes: &[u8]| frame::client_head(bytes);
    assert_eq!(head(b"Q\0\0\0\x03"), Err(BadFrame::Length));
    assert_eq!(head(b"Q\xff\xff\xff\xff"), Err(BadFrame::Length));
    assert_eq!(head(b"S\0\0\xff\xff"), Err(BadFrame::Length));
    assert_eq!(head(b"G"), Err(BadFrame::Tag(b'G')));
    assert_eq!(head(b"Q\0\0"), Ok(None));
}

#[test]
fn first_packets() {
    let take = |bytes: &[u8]| startup::take(&mut BytesMut::from(bytes));
    assert_eq!(take(b"\0\0\0\x08\x04\xd2\x16\x2f"), Ok(Some(Opening::Tls)));
    assert_eq!(take(b"\0\0\0\x08\x04\xd2\x16\x30"), Ok(Some(Opening::Gss)));
    assert_eq!(take(b"\0\0\xff\xff\0\x03\0\0"), Err(BadOpening::Length));
    assert_eq!(take(b"\0\0\0\x08\0\x02\0\0"), Err(BadOpening::Version { major: 2, minor: 0 }));
    assert_eq!(take(b"\0\0\0\x0auser\0\0"), Err(BadOpening::Version { major: 0x7573, minor: 0x6572 }));
    assert_eq!(take(b"\0\0\0\x0b\0\x03\0\0abc"), Err(BadOpening::Layout));
    let mut packet = BytesMut::new();
    startup::session(&mut packet, &[("user", "u")]);
    let opened = startup::take(&mut packet).expect("well-formed");
    assert!(matches!(opened, Some(Opening::Session { minor: 0, parameters }) if parameters["user"] == "u"));
}
