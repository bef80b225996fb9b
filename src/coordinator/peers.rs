//! Raft's messages on their way: one outgoing stream per peer, and the service that takes theirs.
//! Messages may be lost, never waited for: Raft repeats what matters. The driver keeps the streams in
//! step with the coordinators and puts messages into their queues.

use std::{collections::BTreeMap, time::Duration};

use raft::eraftpb::Message;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataValue, transport::Channel};

use super::{
    inbox::{Handle, Input},
    roster,
};
use crate::{
    host::backoff::Backoff,
    model::ids::{ClusterName, CoordinatorId},
    wire::{
        pb::raft::{
            RaftAck, RaftMessage, raft_transport_client::RaftTransportClient, raft_transport_server::RaftTransport,
        },
        raft::{Envelope, Sender},
    },
};

/// Messages that wait for one peer. A follower has at most 256 entry messages on the way
/// (`replica::MAX_INFLIGHT`); beyond that the peer does not keep up and more would only grow old.
const QUEUE: usize = 512;
/// Bytes of one message: a snapshot of the whole state fits many times.
pub const MAX_MESSAGE: usize = 64 << 20;
/// Between attempts to connect: quick at first, as a restarted coordinator is back within a second.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Peers that the state does not name yet and whose messages are answered: twice as many as may vote.
const ACQUAINTANCES: usize = 14;
/// Metadata of a refusal: the number of the sender, which was removed.
const REMOVED: &str = "howdah-removed";

/// The queues to all peers.
pub struct Peers {
    outgoing: Outgoing,
    shutdown: CancellationToken,
    streams: BTreeMap<CoordinatorId, Stream>,
}

struct Stream {
    url: String,
    queue: mpsc::Sender<Message>,
    channel: Channel,
    /// Ends it.
    _end: DropGuard,
}

/// What every stream carries along.
#[derive(Clone)]
pub struct Outgoing {
    /// The cluster.
    pub cluster: ClusterName,
    /// Our own URL.
    pub url: String,
    /// The driver.
    pub handle: Handle,
}

impl Peers {
    /// No streams yet.
    pub fn new(outgoing: Outgoing, shutdown: CancellationToken) -> Self {
        Self { outgoing, shutdown, streams: BTreeMap::new() }
    }

    /// Keeps a stream to each of `wanted`, and those to others that `keep` says to.
    pub fn follow(&mut self, wanted: &BTreeMap<CoordinatorId, String>, keep: impl Fn(CoordinatorId) -> bool) {
        self.streams.retain(|id, stream| wanted.get(id).map_or_else(|| keep(*id), |url| *url == stream.url));
        for (id, url) in wanted {
            if !self.streams.contains_key(id) {
                self.open(*id, url);
            }
        }
    }

    /// A peer that the state does not name yet has written to us, because our log is behind: without an
    /// answer it would stay so.
    pub fn meet(&mut self, id: CoordinatorId, url: &str) {
        if !url.is_empty() && !self.streams.contains_key(&id) && self.streams.len() < ACQUAINTANCES {
            self.open(id, url);
        }
    }

    /// The ways to all.
    pub fn channels(&self) -> BTreeMap<CoordinatorId, Channel> {
        self.streams.iter().map(|(id, stream)| (*id, stream.channel.clone())).collect()
    }

    fn open(&mut self, id: CoordinatorId, url: &str) {
        let channel = match roster::channel(url) {
            Ok(channel) => channel,
            Err(error) => return tracing::error!(peer = %id, url, %error, "not an address: write http://HOST:PORT"),
        };
        let (sender, queue) = mpsc::channel(QUEUE);
        let end = self.shutdown.child_token();
        let client = RaftTransportClient::new(channel.clone()).max_encoding_message_size(MAX_MESSAGE);
        let running = run(self.outgoing.clone(), id, client, queue);
        tokio::spawn(end.clone().run_until_cancelled_owned(running));
        self.streams.insert(id, Stream { url: url.to_owned(), queue: sender, channel, _end: end.drop_guard() });
    }

    /// Sends, or drops where the peer does not keep up.
    pub fn send(&self, messages: Vec<Message>) {
        for message in messages {
            let Some(stream) = self.streams.get(&CoordinatorId(message.to)) else { continue };
            if let Err(TrySendError::Full(message)) = stream.queue.try_send(message) {
                tracing::debug!(peer = message.to, "queue is full: message dropped");
            }
        }
    }
}

/// Connects, sends until the stream breaks, tells Raft, and begins anew.
async fn run(
    to: Outgoing,
    peer: CoordinatorId,
    mut client: RaftTransportClient<Channel>,
    mut queue: mpsc::Receiver<Message>,
) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut reachable = true;
    loop {
        let (sender, stream) = mpsc::channel(QUEUE);
        let mut call = std::pin::pin!(client.send(ReceiverStream::new(stream)));
        let mut sent = 0_u64;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut call => break ended,
                message = queue.recv() => {
                    // The driver has ended, or the peer was removed: so do we.
                    let Some(message) = message else { return };
                    let from = Sender { pid: std::process::id(), url: to.url.clone() };
                    let sealed = RaftMessage::from(Envelope::seal(to.cluster.clone(), &message, from));
                    // Full or broken: lost, and Raft repeats it.
                    sent += u64::from(sender.try_send(sealed).is_ok());
                }
            }
        };
        // A stream that carried something worked: the next attempt comes soon.
        if sent > 1 {
            backoff.reset();
        }
        if ended.as_ref().is_err_and(|status| status.metadata().contains_key(REMOVED)) {
            to.handle.tell(Input::Removed(peer));
        }
        let reason = ended.err().map_or_else(|| "ended by the peer".to_owned(), |status| describe(&status));
        if std::mem::take(&mut reachable) || sent > 1 {
            tracing::info!(%peer, reason, "stream to peer ended; connecting again");
        }
        to.handle.tell(Input::Unreachable(peer));
        tokio::time::sleep(backoff.step()).await;
        // What gathered meanwhile is old.
        while queue.try_recv().is_ok() {}
    }
}

/// A status with its causes: tonic's own text often says "transport error" only.
fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The receiving side.
pub struct Incoming {
    /// The cluster of all coordinators.
    pub cluster: ClusterName,
    /// Where messages go, and who the coordinators are.
    pub handle: Handle,
    /// Ends the streams.
    pub shutdown: CancellationToken,
}

impl Incoming {
    /// A sender that the state does not name is taken in: our log may be behind. One that it has removed
    /// is told so.
    fn check(&self, envelope: &Envelope) -> Result<(), Status> {
        let Envelope { cluster, from, to, .. } = envelope;
        if *cluster != self.cluster {
            let text =
                format!("this is a coordinator of cluster {:?}, not {:?}", self.cluster.as_str(), cluster.as_str());
            return Err(Status::failed_precondition(text));
        }
        let roster = self.handle.roster.borrow();
        if roster.me != Some(*to) {
            let us = roster.me.map_or_else(|| "a coordinator that has no number yet".to_owned(), |me| me.to_string());
            return Err(Status::failed_precondition(format!("{from} sent a message for {to} to {us}")));
        }
        if roster.was_removed(*from) {
            let mut status = Status::failed_precondition(format!("{from} was removed from cluster {cluster}"));
            status.metadata_mut().insert(REMOVED, MetadataValue::from(from.0));
            return Err(status);
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl RaftTransport for Incoming {
    async fn send(&self, request: Request<Streaming<RaftMessage>>) -> Result<Response<RaftAck>, Status> {
        let mut stream = request.into_inner();
        while let Some(Some(message)) = self.shutdown.run_until_cancelled(stream.message()).await.transpose()? {
            let envelope = Envelope::try_from(message)?;
            self.check(&envelope)?;
            self.handle.tell(Input::Raft(envelope.open()?, envelope.sender));
        }
        Ok(Response::new(RaftAck {}))
    }
}
