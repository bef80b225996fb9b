//! The protocol's corners, by hand: malformed and truncated messages, pipelines with errors, the first
//! packet.

use bytes::BytesMut;
use howdah::router::core::protocol::{frame, frontend};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::harness::{Postgres, Router, USER};

/// A client that speaks bytes.
struct Raw {
    stream: TcpStream,
    input: BytesMut,
}

impl Raw {
    async fn login(router: &Router) -> Self {
        use howdah::router::core::{
            auth::{ClientExchange, Keys},
            protocol::startup,
        };
        let stream = TcpStream::connect(("127.0.0.1", router.port)).await.expect("connect");
        let mut raw = Self { stream, input: BytesMut::new() };
        let mut out = BytesMut::new();
        startup::session(&mut out, &[("user", USER), ("database", "app")]);
        raw.send(&out).await;
        let mut exchange = ClientExchange::begin("abcdefgh");
        loop {
            let message = raw.next().await.expect("a message");
            let mut out = BytesMut::new();
            match (message.tag, message.body().get(3)) {
                (b'R', Some(10)) => frame::put(&mut out, b'p', |out| {
                    let first = exchange.client_first();
                    frame::put_text(out, b"SCRAM-SHA-256");
                    out.extend_from_slice(&u32::try_from(first.len()).expect("short").to_be_bytes());
                    out.extend_from_slice(first.as_bytes());
                }),
                (b'R', Some(11)) => {
                    let text = String::from_utf8_lossy(&message.body()[4..]).into_owned();
                    let keys = Keys::of_password(USER, &text).expect("keys");
                    let last = exchange.proof(&keys, &text).expect("proof");
                    frame::put(&mut out, b'p', |out| out.extend_from_slice(last.as_bytes()));
                }
                (b'Z', _) => return raw,
                (b'E', _) => panic!("refused: {message:?}"),
                _ => continue,
            }
            raw.send(&out).await;
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("written");
    }

    async fn next(&mut self) -> Option<frame::Frame> {
        loop {
            if let Ok(Some(head)) = frame::head(&self.input)
                && head.size <= self.input.len()
            {
                return Some(frame::Frame { tag: head.tag, bytes: self.input.split_to(head.size).freeze() });
            }
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Kinds of messages up to `ReadyForQuery`, whose status comes last; or up to the end.
    async fn until_ready(&mut self) -> String {
        let mut kinds = String::new();
        while let Some(frame) = self.next().await {
            kinds.push(char::from(frame.tag));
            if frame.tag == b'Z' {
                kinds.push(char::from(frame.body()[0]));
                return kinds;
            }
        }
        kinds + "."
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_messages_end_the_session_and_nothing_else() {
    let postgres = Postgres::start().await;
    let router = Router::start(&postgres).await;
    let mut bystander = Raw::login(&router).await;
    for broken in [
        &b"Q\0\0\0\x03"[..],
        b"Q\0\0\0\x06ab",
        b"Z\0\0\0\x04",
        b"P\0\0\0\x05a",
        b"B\xff\xff\xff\xff",
        b"D\0\0\0\x06xa",
        b"E\0\0\0\x05\0",
    ] {
        let mut raw = Raw::login(&router).await;
        raw.send(broken).await;
        assert_eq!(raw.until_ready().await, "E.", "{broken:?}");
    }
    for first in [&b"\0\0\0\0\0\0\0\0"[..], b"\xff\xff\xff\xffabcd", b"GET / HTTP/1.1\r\n\r\n"] {
        let stream = TcpStream::connect(("127.0.0.1", router.port)).await.expect("connect");
        let mut raw = Raw { stream, input: BytesMut::new() };
        raw.send(first).await;
        assert_eq!(raw.until_ready().await, "E.", "{first:?}");
    }
    let mut query = BytesMut::new();
    frontend::query(&mut query, b"SELECT 1");
    bystander.send(&query).await;
    assert_eq!(bystander.until_ready().await, "TDCZI");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelines_skip_to_sync_after_an_error() {
    let postgres = Postgres::start().await;
    let router = Router::start(&postgres).await;
    let mut raw = Raw::login(&router).await;
    let mut out = BytesMut::new();
    let run = |out: &mut BytesMut, sql: &str| {
        frontend::parse(out, b"", sql.as_bytes(), &[]);
        frontend::bind(out, b"", b"", &[], false);
        frontend::execute(out, b"", 0);
    };
    run(&mut out, "CREATE TABLE p (a int)");
    run(&mut out, "INSERT INTO p VALUES (1)");
    run(&mut out, "SELECT a/0 FROM p");
    run(&mut out, "INSERT INTO p VALUES (2)");
    frontend::sync(&mut out);
    run(&mut out, "SELECT 3");
    frontend::sync(&mut out);
    raw.send(&out).await;
    assert_eq!(raw.until_ready().await, "12C12C12EZI");
    assert_eq!(raw.until_ready().await, "12DCZI");
    // The pipeline was one transaction: the table is not there.
    let mut out = BytesMut::new();
    frontend::query(&mut out, b"SELECT to_regclass('p') IS NULL");
    frontend::query(&mut out, b"");
    frontend::query(&mut out, b"BEGIN");
    frontend::query(&mut out, b"SELECT 1/0");
    frontend::query(&mut out, b"SELECT 1");
    frontend::query(&mut out, b"COMMIT");
    raw.send(&out).await;
    for expected in ["TDCZI", "IZI", "CZT", "TEZE", "EZE", "CZI"] {
        let seen = raw.until_ready().await;
        // PostgreSQL may describe the row before the division fails.
        assert!(seen == expected || (expected == "TEZE" && seen == "EZE"), "{seen} for {expected}");
    }
    // An unknown statement, found by the router, fails the pipeline too.
    let mut out = BytesMut::new();
    run(&mut out, "CREATE TABLE q (a int)");
    frontend::bind(&mut out, b"", b"nothing", &[], false);
    frontend::execute(&mut out, b"", 0);
    frontend::sync(&mut out);
    frontend::query(&mut out, b"SELECT to_regclass('q') IS NULL");
    raw.send(&out).await;
    assert_eq!(raw.until_ready().await, "12CEZI");
    assert_eq!(raw.until_ready().await, "TDCZI");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_control_works_in_the_extended_protocol() {
    let postgres = Postgres::start().await;
    let router = Router::start(&postgres).await;
    let mut raw = Raw::login(&router).await;
    for (sql, expected) in [
        ("BEGIN", "12nCZT"),
        ("SET LOCAL work_mem = '5MB'", "12nCZT"),
        ("SELECT 1", "12TDCZT"),
        ("SAVEPOINT s", "12nCZT"),
        ("SELECT 1/0", "1EZE"),
        ("ROLLBACK TO s", "12nCZT"),
        ("COMMIT", "12nCZI"),
        ("SET work_mem = '6MB'", "12nCSZI"),
        ("SHOW work_mem", "12TDCZI"),
    ] {
        let mut out = BytesMut::new();
        frontend::parse(&mut out, b"", sql.as_bytes(), &[]);
        frontend::bind(&mut out, b"", b"", &[], false);
        frontend::describe(&mut out, b'P', b"");
        frontend::execute(&mut out, b"", 0);
        frontend::sync(&mut out);
        raw.send(&out).await;
        let seen = raw.until_ready().await;
        assert_eq!(seen.replace('S', ""), expected.replace('S', ""), "{sql}");
    }
    // Rows in parts, from a portal that lives as long as the transaction.
    let mut out = BytesMut::new();
    frontend::query(&mut out, b"BEGIN");
    frontend::parse(&mut out, b"st", b"SELECT generate_series(1, 5)", &[]);
    frontend::bind(&mut out, b"po", b"st", &[], false);
    frontend::execute(&mut out, b"po", 2);
    frontend::sync(&mut out);
    frontend::execute(&mut out, b"po", 0);
    frontend::close(&mut out, b'P', b"po");
    frontend::close(&mut out, b'S', b"st");
    frontend::sync(&mut out);
    frontend::query(&mut out, b"COMMIT");
    raw.send(&out).await;
    for expected in ["CZT", "12DDsZT", "DDDC33ZT", "CZI"] {
        assert_eq!(raw.until_ready().await, expected);
    }
}
