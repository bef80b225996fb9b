//! Raft's messages on their way: one outgoing stream per peer, and the service that takes theirs.
//! Messages may be lost, never waited for: Raft repeats what matters. Called by `run`; the driver
//! puts messages into the queues.

use std::{collections::BTreeMap, time::Duration};

use raft::eraftpb::Message;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use super::inbox::{Handle, Input};
use crate::{
    host::backoff::Backoff,
    model::ids::{ClusterName, CoordinatorId},
    wire::{
        pb::raft::{
            RaftAck, RaftMessage, raft_transport_client::RaftTransportClient, raft_transport_server::RaftTransport,
        },
        raft::Envelope,
    },
};

/// Messages that wait for one peer. A follower has at most 256 entry messages on the way
/// (`replica::MAX_INFLIGHT`); beyond that the peer does not keep up and more would only grow old.
const QUEUE: usize = 512;
/// Bytes of one message: a snapshot of the whole state fits many times.
pub const MAX_MESSAGE: usize = 64 << 20;
/// Between attempts to connect: quick at first, as a restarted coordinator is back within a second.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The queues to all peers.
pub struct Peers {
    queues: BTreeMap<CoordinatorId, mpsc::Sender<Message>>,
}

impl Peers {
    /// Starts a stream to each of `channels`.
    pub fn start(
        cluster: &ClusterName,
        channels: &BTreeMap<CoordinatorId, Channel>,
        handle: &Handle,
        shutdown: &CancellationToken,
    ) -> Self {
        let mut queues = BTreeMap::new();
        for (peer, channel) in channels {
            let (sender, queue) = mpsc::channel(QUEUE);
            queues.insert(*peer, sender);
            let stream = Outgoing { cluster: cluster.clone(), peer: *peer, handle: handle.clone() };
            let client = RaftTransportClient::new(channel.clone()).max_encoding_message_size(MAX_MESSAGE);
            tokio::spawn(shutdown.clone().run_until_cancelled_owned(stream.run(client, queue)));
        }
        Self { queues }
    }

    /// Sends, or drops where the peer does not keep up.
    pub fn send(&self, messages: Vec<Message>) {
        for message in messages {
            let Some(queue) = self.queues.get(&CoordinatorId(message.to)) else { continue };
            if let Err(TrySendError::Full(message)) = queue.try_send(message) {
                tracing::debug!(peer = message.to, "queue is full: message dropped");
            }
        }
    }
}

struct Outgoing {
    cluster: ClusterName,
    peer: CoordinatorId,
    handle: Handle,
}

impl Outgoing {
    /// Connects, sends until the stream breaks, tells Raft, and begins anew.
    async fn run(self, mut client: RaftTransportClient<Channel>, mut queue: mpsc::Receiver<Message>) {
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
                        // The driver has ended: so do we.
                        let Some(message) = message else { return };
                        let sealed = RaftMessage::from(Envelope::seal(self.cluster.clone(), &message, std::process::id()));
                        // Full or broken: lost, and Raft repeats it.
                        sent += u64::from(sender.try_send(sealed).is_ok());
                    }
                }
            };
            // A stream that carried something worked: the next attempt comes soon.
            if sent > 1 {
                backoff.reset();
            }
            let reason = ended.err().map_or_else(|| "ended by the peer".to_owned(), |status| describe(&status));
            if std::mem::take(&mut reachable) || sent > 1 {
                tracing::info!(peer = %self.peer, reason, "stream to peer ended; connecting again");
            }
            self.handle.tell(Input::Unreachable(self.peer));
            tokio::time::sleep(backoff.step()).await;
            // What gathered meanwhile is old.
            while queue.try_recv().is_ok() {}
        }
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
    /// This one.
    pub me: CoordinatorId,
    /// The others.
    pub peers: Vec<CoordinatorId>,
    /// Where messages go.
    pub handle: Handle,
    /// Ends the streams.
    pub shutdown: CancellationToken,
}

impl Incoming {
    fn check(&self, envelope: &Envelope) -> Result<(), Status> {
        let Envelope { cluster, from, to, .. } = envelope;
        if *cluster != self.cluster {
            let text =
                format!("this is a coordinator of cluster {:?}, not {:?}", self.cluster.as_str(), cluster.as_str());
            return Err(Status::failed_precondition(text));
        }
        if *to != self.me || !self.peers.contains(from) {
            let text = format!("{from} sent a message for {to} to {}: check the list of coordinators", self.me);
            return Err(Status::failed_precondition(text));
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
            self.handle.tell(Input::Raft(envelope.open()?, envelope.pid));
        }
        Ok(Response::new(RaftAck {}))
    }
}
