//! Requests to cancel: from a client to the session they name, through whichever router they come in, and
//! from the session to the members that work for it. There is no answer by design (manual, "Canceling
//! Requests in Progress"); a request that fails leaves the statement to its end. Called by the listener and
//! the sessions.
//!
//! ```text
//! client ─> any router ─ not its session ─> the router that may have it ─> worker ─> session ─> members
//! ```

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    core::{protocol::startup, session_number},
    pool::server::Link,
    worker::{Job, Shared, Worker},
};
use crate::model::observed::RouterAddress;

/// Longest wait for a member or router to take a request: one that does not is about to be replaced.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Requests passed on to other routers at once; above this they are dropped: whoever invents requests must
/// not make this router open connections without end, and people who press Ctrl-C are fewer.
pub const PASSING_ON: usize = 32;

/// A client asks for it. Wrong numbers and secrets do nothing.
pub async fn requested(worker: &Rc<Worker>, pid: u32, secret: &[u8]) {
    let Ok(secret) = <[u8; 4]>::try_from(secret) else { return };
    let secret = u32::from_be_bytes(secret);
    let shared = &worker.shared;
    let place = shared.numbering.place(pid);
    match place.worker {
        Some(index) => {
            let job = Job::Cancel { pid: place.pid, secret, fresh: place.fresh };
            // A worker that is gone has no session to cancel.
            let _ = shared.doors[index].send(job).await;
        }
        None if place.fresh => pass_on(shared, place.pid, secret).await,
        None => {}
    }
}

/// Does it, on the session's worker. A session that is not here may be in a router with the same tag.
pub async fn perform(worker: &Rc<Worker>, pid: u32, secret: u32, fresh: bool) {
    let Some(session) = worker.session(pid, secret) else {
        if fresh {
            pass_on(&worker.shared, pid, secret).await;
        }
        return;
    };
    session.cancelled.notify_waiters();
    let links: Vec<_> = session.links.borrow().clone();
    for link in links {
        tokio::task::spawn_local(async move { running(&link).await });
    }
}

/// Asks the routers that may have the session, once: none of them passes it on.
async fn pass_on(shared: &Arc<Shared>, pid: u32, secret: u32) {
    let own = &shared.config.name;
    let may_have = |other: &RouterAddress| other.router != *own && session_number::may_have(&other.router, pid);
    let mut others: Vec<RouterAddress> = {
        let known = shared.routers.lock().expect("nobody panics while holding it");
        known.values().flatten().filter(|other| may_have(other)).cloned().collect()
    };
    others.sort_unstable();
    others.dedup();
    for other in others {
        let Ok(_permit) = shared.passing_on.try_acquire() else {
            tracing::info!(limit = PASSING_ON, "too many requests to cancel are being passed on; one was dropped");
            return;
        };
        send(&other.host, other.port, session_number::passed_on(pid), secret).await;
    }
}

/// Asks the member to cancel what a server connection is doing.
pub async fn running(link: &Link) {
    send(&link.host, link.port, link.pid, link.secret).await;
}

/// Sends a request and waits until it has been taken: whoever takes it closes the connection.
async fn send(host: &str, port: u16, pid: u32, secret: u32) {
    let mut packet = BytesMut::new();
    startup::cancel(&mut packet, pid, secret);
    let send = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        stream.write_all(&packet).await?;
        stream.read(&mut [0]).await
    };
    match tokio::time::timeout(TIMEOUT, send).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(host, port, %error, "a request to cancel was not sent"),
        Err(_) => tracing::debug!(host, port, "a request to cancel was not taken in time"),
    }
}
