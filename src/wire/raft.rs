//! Raft's messages in their envelope. The envelope is checked before the bytes inside are decoded:
//! the decoder (protobuf 2) must not meet a stranger's bytes. Called by `coordinator::peers`.

use protobuf::Message as _;

use super::{InvalidMessage, invalid, name, pb::raft as pb};
use crate::model::ids::{ClusterName, CoordinatorId};

/// One message between two coordinators.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Cluster of both.
    pub cluster: ClusterName,
    /// Sender.
    pub from: CoordinatorId,
    /// Receiver.
    pub to: CoordinatorId,
    /// raft-rs's message, encoded.
    pub message: Vec<u8>,
    /// Process id of the sender, for people on the same machine.
    pub pid: u32,
}

impl Envelope {
    /// Puts a message in an envelope.
    pub fn seal(cluster: ClusterName, message: &raft::eraftpb::Message, pid: u32) -> Self {
        let bytes = message.write_to_bytes().expect("encoding to memory cannot fail: proto3 has no required fields");
        Self { cluster, from: CoordinatorId(message.from), to: CoordinatorId(message.to), message: bytes, pid }
    }

    /// Takes the message out; only after cluster, sender and receiver have been checked.
    pub fn open(&self) -> Result<raft::eraftpb::Message, InvalidMessage> {
        let message = raft::eraftpb::Message::parse_from_bytes(&self.message)
            .map_err(|error| invalid("RaftMessage.message", error))?;
        if (message.from, message.to) == (self.from.0, self.to.0) {
            Ok(message)
        } else {
            Err(invalid("RaftMessage.message", "names another sender or receiver than its envelope"))
        }
    }
}

impl From<Envelope> for pb::RaftMessage {
    fn from(it: Envelope) -> Self {
        Self { cluster: it.cluster.into(), from: it.from.0, to: it.to.0, message: it.message, pid: it.pid }
    }
}

impl TryFrom<pb::RaftMessage> for Envelope {
    type Error = InvalidMessage;

    fn try_from(it: pb::RaftMessage) -> Result<Self, InvalidMessage> {
        if it.from == 0 || it.to == 0 {
            return Err(invalid("RaftMessage.from", "sender and receiver are numbered from 1"));
        }
        let cluster = name(&it.cluster, "RaftMessage.cluster")?;
        Ok(Self { cluster, from: CoordinatorId(it.from), to: CoordinatorId(it.to), message: it.message, pid: it.pid })
    }
}
