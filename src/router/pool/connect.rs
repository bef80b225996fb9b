//! Opening a connection to a member's PostgreSQL and proving who we are: with the key that the
//! client's own login revealed, or with the password of a role of ours. Called by the pool.

use std::{collections::BTreeMap, io, rc::Rc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    Pool,
    server::{Server, ServerError},
};
use crate::{
    host::{entropy, secret::Secret},
    model::{numbers::Timeline, schema::TIMELINE},
    router::core::{
        auth::{ClientExchange, Keys, MECHANISM},
        protocol::{
            backend,
            frame::{self, Frame, put, put_text},
            frontend,
            read::{BadBody, Reader},
            startup,
        },
    },
};

/// Longest wait for a member to accept and authenticate: far above what a living one needs, below what
/// clients wait.
const DEADLINE: Duration = Duration::from_secs(5);

/// How a connection proves who it is.
#[derive(Clone)]
pub enum Credentials {
    /// What a login revealed.
    Keys(Keys),
    /// A role of our own.
    Password(Secret),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody there, or not yet: worth another attempt.
    #[error("cannot connect")]
    Unreachable(#[source] io::Error),
    /// PostgreSQL refused.
    #[error("{0}")]
    Refused(ServerError),
    /// It is a standby, and work needs a primary: worth another attempt.
    #[error("the member is a standby")]
    Standby,
    /// Its reign is not open yet, or over: worth another attempt.
    #[error("the member writes timeline {found}, not {wanted} of the reign that serves")]
    OtherReign {
        /// What it writes.
        found: Timeline,
        /// What the topology says.
        wanted: Timeline,
    },
    /// It wants a way of authentication that we do not have.
    #[error("the member asks for an unknown way of authentication ({0})")]
    Method(u32),
    /// The exchange failed on our side.
    #[error("authentication with the member failed")]
    Scram(#[from] crate::router::core::auth::ScramError),
}

impl ConnectError {
    /// Might a later attempt succeed without anyone doing anything?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Standby | Self::OtherReign { .. } => true,
            // Class 57: starting up, shutting down, crash recovery.
            Self::Refused(error) => error.sqlstate().starts_with("57P0"),
            Self::Method(_) | Self::Scram(_) => false,
        }
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

/// Opens a connection for the pool's database and user.
pub async fn connect(pool: &Rc<Pool>) -> Result<Server, ConnectError> {
    match tokio::time::timeout(DEADLINE, open(pool)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Unreachable(io::ErrorKind::TimedOut.into())),
    }
}

async fn open(pool: &Rc<Pool>) -> Result<Server, ConnectError> {
    let stream = TcpStream::connect((pool.endpoint.host.as_str(), pool.endpoint.port)).await?;
    configure(&stream)?;
    let mut raw = Raw { stream, input: BytesMut::new() };
    let mut first = BytesMut::new();
    let (user, database) = (pool.user.as_ref(), pool.database.as_ref());
    startup::session(&mut first, &[("user", user), ("database", database)]);
    raw.stream.write_all(&first).await?;
    let credentials = pool.credentials.borrow().clone();
    authenticate(&mut raw, &credentials).await?;
    let mut parameters = BTreeMap::new();
    let mut key = (0, 0);
    loop {
        let frame = raw.message().await?;
        let mut reader = Reader(frame.body());
        match frame.tag {
            b'S' => {
                if let Ok((name, value)) = backend::read_parameter(frame.body()) {
                    parameters.insert(name.to_owned(), value.to_owned());
                }
            }
            b'K' => key = (reader.uint32().map_err(malformed)?, reader.uint32().map_err(malformed)?),
            b'E' => return Err(ConnectError::Refused(ServerError(frame.shared_body()))),
            b'Z' => break,
            _ => {}
        }
    }
    if pool.needs_primary && parameters.get("in_hot_standby").is_some_and(|value| value == "on") {
        return Err(ConnectError::Standby);
    }
    if pool.needs_primary {
        let (found, wanted) = (timeline(&mut raw).await?, pool.timeline);
        if found != wanted {
            return Err(ConnectError::OtherReign { found, wanted });
        }
    }
    Ok(Server::new(raw.stream, raw.input, pool.clone(), key, parameters))
}

/// Asks which timeline the member writes. Once asked is enough: a primary changes it by a restart only.
async fn timeline(raw: &mut Raw) -> Result<Timeline, ConnectError> {
    let mut question = BytesMut::new();
    frontend::query(&mut question, TIMELINE.as_bytes());
    raw.stream.write_all(&question).await?;
    let mut found = None;
    loop {
        let frame = raw.message().await?;
        match frame.tag {
            b'D' => found = first_column(&frame),
            b'E' => return Err(ConnectError::Refused(ServerError(frame.shared_body()))),
            b'Z' => return found.map(Timeline).ok_or_else(|| malformed(BadBody)),
            _ => {}
        }
    }
}

fn first_column(frame: &Frame) -> Option<u32> {
    let mut reader = Reader(frame.body());
    let (_columns, length) = (reader.int16().ok()?, reader.uint32().ok()?);
    std::str::from_utf8(reader.bytes(usize::try_from(length).ok()?).ok()?).ok()?.parse().ok()
}

/// No delay for small writes; a dead peer is noticed in some ten seconds even without a topology.
pub fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(3))
        .with_retries(3);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

async fn authenticate(raw: &mut Raw, credentials: &Credentials) -> Result<(), ConnectError> {
    let mut exchange = ClientExchange::begin(&entropy::hex::<12>());
    loop {
        let frame = raw.message().await?;
        match frame.tag {
            b'E' => return Err(ConnectError::Refused(ServerError(frame.shared_body()))),
            b'R' => {}
            _ => continue,
        }
        let mut reader = Reader(frame.body());
        let code = reader.uint32().map_err(malformed)?;
        let text = String::from_utf8_lossy(reader.0);
        let mut answer = BytesMut::new();
        match code {
            0 => return Ok(()),
            10 => put(&mut answer, b'p', |out| {
                let first = exchange.client_first();
                put_text(out, MECHANISM.as_bytes());
                out.extend_from_slice(&u32::try_from(first.len()).expect("short").to_be_bytes());
                out.extend_from_slice(first.as_bytes());
            }),
            11 => {
                let keys = match credentials {
                    Credentials::Keys(keys) => keys.clone(),
                    Credentials::Password(password) => Keys::of_password(password.reveal(), &text)?,
                };
                let last = exchange.proof(&keys, &text)?;
                put(&mut answer, b'p', |out| out.extend_from_slice(last.as_bytes()));
            }
            12 => exchange.verify(&text)?,
            other => return Err(ConnectError::Method(other)),
        }
        raw.stream.write_all(&answer).await?;
    }
}

fn malformed(_: BadBody) -> ConnectError {
    ConnectError::Unreachable(io::ErrorKind::InvalidData.into())
}

/// A connection before it is one.
struct Raw {
    stream: TcpStream,
    input: BytesMut,
}

impl Raw {
    async fn message(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(head) = frame::head(&self.input).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?
                && head.size <= self.input.len()
            {
                return Ok(Frame { tag: head.tag, bytes: self.input.split_to(head.size).freeze() });
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
