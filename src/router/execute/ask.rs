//! Our own short statements on several servers at once: all are sent before any answer is read, so they
//! run side by side. Called by the commit and by DDL.

use bytes::Bytes;

use crate::router::{
    core::protocol::{backend, frontend},
    pool::server::{CallError, Lost, Server, ServerError, is_unacknowledged},
};

/// What one server answered.
#[derive(Debug, Default)]
pub struct Answer {
    /// Rows of all statements, as text.
    pub rows: Vec<Vec<Option<String>>>,
    /// The last command tag.
    pub tag: String,
}

/// Sends each server its simple query, then reads the answers, in order.
pub async fn all<'a>(asked: impl IntoIterator<Item = (&'a mut Server, String)>) -> Vec<Result<Answer, CallError>> {
    let mut sent = Vec::new();
    for (server, sql) in asked {
        server.prepared.unnamed = None;
        frontend::query(&mut server.output, sql.as_bytes());
        let result = server.send().await;
        sent.push((server, result));
    }
    let mut answers = Vec::with_capacity(sent.len());
    for (server, result) in sent {
        answers.push(match result {
            Ok(()) => read(server).await,
            Err(lost) => Err(lost.into()),
        });
    }
    answers
}

/// Sends one server a simple query and reads the answer.
pub async fn one(server: &mut Server, sql: &str) -> Result<Answer, CallError> {
    server.prepared.unnamed = None;
    frontend::query(&mut server.output, sql.as_bytes());
    read(server).await
}

/// Reads up to `ReadyForQuery`.
pub async fn read(server: &mut Server) -> Result<Answer, CallError> {
    let (mut answer, mut failed) = (Answer::default(), None);
    loop {
        let frame = server.message().await?;
        match frame.tag {
            b'D' => {
                let row = backend::read_row(frame.body()).map_err(|_| Lost::Protocol("a row that is none"))?;
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                answer.rows.push(row.into_iter().map(|value| value.map(text)).collect());
            }
            b'C' => answer.tag = tag(&frame.shared_body()),
            b'N' if is_unacknowledged(frame.body()) => failed = Some(CallError::Unacknowledged),
            b'E' => failed = Some(CallError::Refused(ServerError(frame.shared_body()))),
            b'Z' => return failed.map_or(Ok(answer), Err),
            _ => {}
        }
    }
}

fn tag(body: &Bytes) -> String {
    String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body)).into_owned()
}
