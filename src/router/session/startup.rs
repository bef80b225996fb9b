//! The beginning of a session: first packet, authentication, settings, what PostgreSQL reports. Called by
//! the worker for each accepted socket.

use std::{collections::BTreeMap, rc::Rc, sync::atomic::Ordering, time::Duration};

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::{Batch, Client, Session, Stop, relay::Relay, statement::Statements};
use crate::{
    host::entropy,
    router::{
        cancel,
        core::{
            auth::{Keys, MECHANISM, ServerExchange, Verifier},
            error::UserError,
            protocol::{
                backend,
                read::Reader,
                startup::{self, Opening},
            },
            settings::Settings,
        },
        pool::{
            CheckoutError, Identity, Wanted,
            connect::{Credentials, configure},
            server::{CallError, ServerError},
        },
        verifiers,
        worker::Worker,
    },
};

/// Longest time from the first byte to the login's end: PostgreSQL's `authentication_timeout`.
const LOGIN: Duration = Duration::from_mins(1);

/// What a login that waits for a primary keeps: buffers for a packet either way.
const LOGIN_BYTES: usize = 16 * 1024;

/// Why there is no session.
enum Refused {
    Stop(Stop),
    /// In PostgreSQL's words.
    Server(ServerError),
}

impl From<Stop> for Refused {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<UserError> for Refused {
    fn from(error: UserError) -> Self {
        Self::Stop(Stop::Fatal(UserError { severity: crate::router::core::error::Severity::Fatal, ..error }))
    }
}

/// Serves a client from its first packet to its end.
pub async fn serve(worker: Rc<Worker>, stream: TcpStream, wanted: Wanted) {
    if configure(&stream).is_err() {
        return;
    }
    let mut client = Client::new(stream);
    let login = tokio::time::timeout(LOGIN, open(&worker, &mut client));
    let (minor, parameters) = match login.await {
        Ok(Ok(Some(opened))) => opened,
        Ok(Err(stop)) => return end(&mut client, stop).await,
        Ok(Ok(None)) | Err(_) => return,
    };
    worker.shared.counters.sessions.fetch_add(1, Ordering::Relaxed);
    let begun = tokio::time::timeout(LOGIN, begin(&worker, &mut client, wanted, minor, &parameters)).await;
    match begun {
        Ok(Ok(parts)) => {
            let handle = parts.handle.clone();
            let mut session = parts.into_session(&worker, client);
            let stop = session.run().await;
            worker.forget(&handle);
            session.abandon().await;
            end(&mut session.client, stop).await;
        }
        Ok(Err(Refused::Stop(stop))) => end(&mut client, stop).await,
        Ok(Err(Refused::Server(error))) => {
            backend::as_fatal(&error.0, &mut client.output);
            let _ = tokio::time::timeout(FAREWELL, client.flush()).await;
        }
        Err(_) => {}
    }
    worker.shared.counters.sessions.fetch_sub(1, Ordering::Relaxed);
}

/// Longest wait for a client to take the reason why it is sent away.
const FAREWELL: Duration = Duration::from_secs(5);

async fn end(client: &mut Client, stop: Stop) {
    if let Stop::Fatal(error) = stop {
        tracing::debug!(%error, "session ended");
        error.encode(&mut client.output);
        // Who has gone meanwhile needs no reason.
        let _ = tokio::time::timeout(FAREWELL, client.flush()).await;
    }
}

type Opened = (u16, BTreeMap<String, String>);

/// Up to the packet that opens a session; `None`: it was a request to cancel.
async fn open(worker: &Rc<Worker>, client: &mut Client) -> Result<Option<Opened>, Stop> {
    // TLS and GSS may each be asked for once.
    for _ in 0..3 {
        let opening = loop {
            match startup::take(&mut client.input) {
                Ok(Some(opening)) => break opening,
                Ok(None) => client.fill().await?,
                Err(error) => return Err(Stop::Fatal(UserError::protocol(error))),
            }
        };
        match opening {
            Opening::Tls | Opening::Gss => {
                // Bytes that came before the answer could have been put there by anybody.
                if !client.input.is_empty() {
                    return Err(Stop::Fatal(UserError::protocol("received unencrypted data after SSL request")));
                }
                client.output.extend_from_slice(b"N");
                client.flush().await?;
            }
            Opening::Cancel { pid, secret } => {
                cancel::requested(worker, pid, &secret).await;
                return Ok(None);
            }
            Opening::Session { minor, parameters } => return Ok(Some((minor, parameters))),
        }
    }
    Err(Stop::Fatal(UserError::protocol("too many encryption requests")))
}

/// What makes a session, once the client is let in.
struct Parts {
    identity: Identity,
    wanted: Wanted,
    settings: Rc<Settings>,
    context: Rc<super::Context>,
    handle: Rc<crate::router::worker::Handle>,
}

impl Parts {
    fn into_session(self, worker: &Rc<Worker>, client: Client) -> Session {
        Session {
            worker: worker.clone(),
            client,
            identity: self.identity,
            wanted: self.wanted,
            startup: self.settings.clone(),
            settings: self.settings,
            block: None,
            participants: Vec::new(),
            context: self.context,
            context_stale: false,
            statements: Statements::default(),
            relay: Relay::default(),
            active: None,
            skip: false,
            batch: Batch::default(),
            copying: None,
            again: std::collections::VecDeque::new(),
            cached_pools: Vec::new(),
            handle: self.handle,
            tier: "local",
            catalog_touched: false,
            own_catalog: None,
        }
    }
}

async fn begin(
    worker: &Rc<Worker>,
    client: &mut Client,
    wanted: Wanted,
    minor: u16,
    parameters: &BTreeMap<String, String>,
) -> Result<Parts, Refused> {
    let unknown: Vec<_> = parameters.keys().map(String::as_str).filter(|name| name.starts_with("_pq_.")).collect();
    if minor > 0 || !unknown.is_empty() {
        backend::negotiate(&mut client.output, &unknown);
    }
    let user = parameters
        .get("user")
        .filter(|user| !user.is_empty())
        .ok_or_else(|| UserError::fatal("28000", "no PostgreSQL user name specified in startup packet"))?;
    if parameters.get("replication").is_some_and(|value| !matches!(value.as_str(), "false" | "off" | "no" | "0")) {
        return Err(UserError::unsupported("replication through a router", "Connect to the member itself.").into());
    }
    let mut settings = Settings::of_startup(parameters).map_err(|word| {
        UserError::fatal("42601", format!("invalid command-line argument for server process: {word}"))
    })?;
    if wanted == Wanted::Standby {
        settings.choose("default_transaction_read_only", "on");
    }
    let keys = authenticate(worker, client, user).await?;
    let database = parameters.get("database").filter(|name| !name.is_empty()).unwrap_or(user);
    let identity = Identity {
        database: Rc::from(database.as_str()),
        user: Rc::from(user.as_str()),
        credentials: Credentials::Keys(keys),
    };
    worker.pools.learn(&identity);
    greet(worker, client, wanted, identity, Rc::new(settings)).await
}

/// Gives a server connection the session's settings and tells the client what PostgreSQL reports.
async fn greet(
    worker: &Rc<Worker>,
    client: &mut Client,
    wanted: Wanted,
    identity: Identity,
    settings: Rc<Settings>,
) -> Result<Parts, Refused> {
    let topology = worker.pools.topology();
    let query = topology.query_group().ok_or_else(|| UserError::no_primary("query"))?.id.clone();
    // A pooled connection may have died unnoticed: the third one is new.
    for _ in 0..3 {
        let mut server = match worker.pools.checkout(&query, wanted, &identity, &settings, LOGIN_BYTES, &mut None).await
        {
            Ok(server) => server,
            Err(CheckoutError::Refused(error)) => return Err(error.into()),
            Err(CheckoutError::Server(error)) => return Err(Refused::Server(error)),
        };
        let asked = match server.apply(&settings).await {
            Ok(()) => super::context::of_new_session(worker, &identity, &settings, &mut server).await,
            Err(error) => Err(error),
        };
        let context = match asked {
            Ok(context) => context,
            Err(CallError::Refused(error)) => return Err(Refused::Server(error)),
            Err(CallError::Lost(_) | CallError::Unacknowledged) => continue,
        };
        let handle = worker.register();
        for (name, value) in &server.parameters {
            backend::parameter_status(&mut client.output, name, value);
        }
        backend::key_data(&mut client.output, handle.pid, handle.secret);
        backend::ready(&mut client.output, b'I');
        worker.pools.give_back(server);
        client.flush().await?;
        return Ok(Parts { identity, wanted, settings, context, handle });
    }
    Err(UserError::no_primary(&query).into())
}

/// SCRAM in front (RFC 5802): the same dance for everybody, one answer to whoever fails.
async fn authenticate(worker: &Rc<Worker>, client: &mut Client, user: &str) -> Result<Keys, Refused> {
    let role = verifiers::role(worker, user).await?;
    let known = role.as_ref().filter(|role| !role.expired).and_then(|role| role.verifier.clone());
    let verifier = known.clone().unwrap_or_else(|| Verifier::mock(user, &worker.shared.mock_secret));
    let failed = || {
        worker.verifiers.forget(user);
        UserError::fatal("28P01", format!("password authentication failed for user \"{user}\""))
    };
    client.output.extend_from_slice(backend::AUTHENTICATION_SASL);
    client.flush().await?;
    let first = sasl_message(client).await?;
    let data = initial_response(&first).ok_or_else(|| UserError::protocol("malformed SCRAM message"))?;
    let exchange = ServerExchange::begin(verifier, data, &entropy::hex::<12>())
        .map_err(|_| UserError::protocol("malformed SCRAM message"))?;
    backend::sasl(&mut client.output, 11, exchange.server_first().as_bytes());
    client.flush().await?;
    let last = sasl_message(client).await?;
    let (signature, keys) = exchange.finish(&last).map_err(|_| failed())?;
    if known.is_none() {
        return Err(failed().into());
    }
    if !role.is_some_and(|role| role.can_login) {
        return Err(UserError::fatal("28000", format!("role \"{user}\" is not permitted to log in")).into());
    }
    backend::sasl(&mut client.output, 12, signature.as_bytes());
    client.output.extend_from_slice(backend::AUTHENTICATION_OK);
    Ok(keys)
}

/// The mechanism's data in a `SASLInitialResponse`.
fn initial_response(body: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(body);
    let mechanism = reader.text().ok()?;
    let data = reader.value().ok()??;
    (mechanism == MECHANISM.as_bytes()).then_some(data)
}

/// Longest message of a login: PostgreSQL's `PG_MAX_SASL_MESSAGE_LENGTH`.
const MAX_SASL: usize = 1_024;

async fn sasl_message(client: &mut Client) -> Result<BytesMut, Stop> {
    loop {
        if let [tag, ..] = client.input[..]
            && tag != b'p'
        {
            return Err(if tag == b'X' {
                Stop::Gone
            } else {
                Stop::Fatal(UserError::protocol(format!("expected SASL response, got message type {tag}")))
            });
        }
        if let Some(frame) = client.take()? {
            return Ok(BytesMut::from(frame.body()));
        }
        if client.input.len() > MAX_SASL {
            return Err(Stop::Fatal(UserError::protocol("SASL message too long")));
        }
        client.fill().await?;
    }
}
