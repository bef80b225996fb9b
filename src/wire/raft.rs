//! Raft's messages in their envelope, and the words by which coordinators meet and join. The envelope is
//! checked before the bytes inside are decoded: the decoder (protobuf 2) must not meet a stranger's bytes.
//! Called by `coordinator::peers` and `coordinator::admission`.

use std::collections::BTreeMap;

use protobuf::Message as _;

use super::{InvalidMessage, invalid, name, pb::raft as pb, required};
use crate::model::{
    coordinator::Founder,
    ids::{ClusterName, CoordinatorId},
};

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
    /// What to know of the sender.
    pub sender: Sender,
}

/// The sender of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// Its process, for people on the same machine.
    pub pid: u32,
    /// Its gRPC URL; empty where it is of a version that does not say.
    pub url: String,
}

impl Envelope {
    /// Puts a message in an envelope.
    pub fn seal(cluster: ClusterName, message: &raft::eraftpb::Message, sender: Sender) -> Self {
        let bytes = message.write_to_bytes().expect("encoding to memory cannot fail: proto3 has no required fields");
        let (from, to) = (CoordinatorId(message.from), CoordinatorId(message.to));
        Self { cluster, from, to, message: bytes, sender }
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
        let Sender { pid, url } = it.sender;
        Self { cluster: it.cluster.into(), from: it.from.0, to: it.to.0, message: it.message, pid, url }
    }
}

impl TryFrom<pb::RaftMessage> for Envelope {
    type Error = InvalidMessage;

    fn try_from(it: pb::RaftMessage) -> Result<Self, InvalidMessage> {
        let cluster = name(&it.cluster, "RaftMessage.cluster")?;
        let (from, to) = (number(it.from, "RaftMessage.from")?, number(it.to, "RaftMessage.to")?);
        Ok(Self { cluster, from, to, message: it.message, sender: Sender { pid: it.pid, url: it.url } })
    }
}

/// A founder asks another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// Cluster of both.
    pub cluster: ClusterName,
    /// Who asks.
    pub from: CoordinatorId,
    /// Number drawn for its directory.
    pub directory: u64,
    /// The list it was started with.
    pub founders: BTreeMap<CoordinatorId, String>,
}

/// What the other one says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeetingAnswer {
    /// It has an empty directory as well, of this number.
    Fresh(u64),
    /// The cluster is founded by these, the asker among them.
    Founded(BTreeMap<CoordinatorId, Founder>),
    /// The cluster exists and does not know the asker's directory; what to do.
    Stranger(String),
}

/// A coordinator asks to join a cluster that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its own gRPC URL.
    pub url: String,
    /// Number drawn for its directory.
    pub directory: u64,
}

/// It may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its number.
    pub id: CoordinatorId,
    /// Where the others are.
    pub coordinators: BTreeMap<CoordinatorId, String>,
}

fn number(id: u64, field: &'static str) -> Result<CoordinatorId, InvalidMessage> {
    if id == 0 { Err(invalid(field, "coordinators are numbered from 1")) } else { Ok(CoordinatorId(id)) }
}

fn listed(coordinators: BTreeMap<CoordinatorId, String>) -> Vec<pb::Founder> {
    coordinators.into_iter().map(|(id, url)| pb::Founder { id: id.0, url, directory: 0 }).collect()
}

fn founders(list: Vec<pb::Founder>) -> Result<BTreeMap<CoordinatorId, Founder>, InvalidMessage> {
    list.into_iter()
        .map(|it| Ok((number(it.id, "Founder.id")?, Founder { url: it.url, directory: it.directory })))
        .collect()
}

fn addresses(list: Vec<pb::Founder>) -> Result<BTreeMap<CoordinatorId, String>, InvalidMessage> {
    Ok(founders(list)?.into_iter().map(|(id, founder)| (id, founder.url)).collect())
}

impl From<Meeting> for pb::MeetRequest {
    fn from(it: Meeting) -> Self {
        let (cluster, founders) = (it.cluster.into(), listed(it.founders));
        Self { cluster, from: it.from.0, directory: it.directory, founders }
    }
}

impl TryFrom<pb::MeetRequest> for Meeting {
    type Error = InvalidMessage;

    fn try_from(it: pb::MeetRequest) -> Result<Self, InvalidMessage> {
        let (cluster, from) = (name(&it.cluster, "MeetRequest.cluster")?, number(it.from, "MeetRequest.from")?);
        Ok(Self { cluster, from, directory: it.directory, founders: addresses(it.founders)? })
    }
}

impl From<MeetingAnswer> for pb::MeetAnswer {
    fn from(it: MeetingAnswer) -> Self {
        use pb::meet_answer::Answer;
        let founder =
            |(id, it): (CoordinatorId, Founder)| pb::Founder { id: id.0, url: it.url, directory: it.directory };
        Self {
            answer: Some(match it {
                MeetingAnswer::Fresh(directory) => Answer::Fresh(pb::Fresh { directory }),
                MeetingAnswer::Founded(list) => {
                    Answer::Founded(pb::Founded { founders: list.into_iter().map(founder).collect() })
                }
                MeetingAnswer::Stranger(reason) => Answer::Stranger(pb::Stranger { reason }),
            }),
        }
    }
}

impl TryFrom<pb::MeetAnswer> for MeetingAnswer {
    type Error = InvalidMessage;

    fn try_from(it: pb::MeetAnswer) -> Result<Self, InvalidMessage> {
        use pb::meet_answer::Answer;
        Ok(match required(it.answer, "MeetAnswer.answer")? {
            Answer::Fresh(it) => Self::Fresh(it.directory),
            Answer::Founded(it) => Self::Founded(founders(it.founders)?),
            Answer::Stranger(it) => Self::Stranger(it.reason),
        })
    }
}

impl From<Joining> for pb::JoinRequest {
    fn from(it: Joining) -> Self {
        Self { cluster: it.cluster.into(), url: it.url, directory: it.directory }
    }
}

impl TryFrom<pb::JoinRequest> for Joining {
    type Error = InvalidMessage;

    fn try_from(it: pb::JoinRequest) -> Result<Self, InvalidMessage> {
        let cluster = name(&it.cluster, "JoinRequest.cluster")?;
        if it.directory == 0 {
            return Err(invalid("JoinRequest.directory", "is missing"));
        }
        Ok(Self { cluster, url: it.url, directory: it.directory })
    }
}

impl From<Joined> for pb::JoinAnswer {
    fn from(it: Joined) -> Self {
        Self { id: it.id.0, coordinators: listed(it.coordinators) }
    }
}

impl TryFrom<pb::JoinAnswer> for Joined {
    type Error = InvalidMessage;

    fn try_from(it: pb::JoinAnswer) -> Result<Self, InvalidMessage> {
        Ok(Self { id: number(it.id, "JoinAnswer.id")?, coordinators: addresses(it.coordinators)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_between_coordinators_come_back() {
        let cluster: ClusterName = "demo".parse().expect("a name");
        let addresses: BTreeMap<_, _> = [(CoordinatorId(1), "http://a:1".to_owned())].into();
        let founders: BTreeMap<_, _> =
            [(CoordinatorId(1), Founder { url: "http://a:1".to_owned(), directory: 7 })].into();
        let meeting =
            Meeting { cluster: cluster.clone(), from: CoordinatorId(2), directory: 8, founders: addresses.clone() };
        assert_eq!(Meeting::try_from(pb::MeetRequest::from(meeting.clone())), Ok(meeting));
        let answers =
            [MeetingAnswer::Fresh(9), MeetingAnswer::Founded(founders), MeetingAnswer::Stranger("why".to_owned())];
        for answer in answers {
            assert_eq!(MeetingAnswer::try_from(pb::MeetAnswer::from(answer.clone())), Ok(answer));
        }
        let joining = Joining { cluster, url: "http://b:1".to_owned(), directory: 3 };
        assert_eq!(Joining::try_from(pb::JoinRequest::from(joining.clone())), Ok(joining));
        let joined = Joined { id: CoordinatorId(4), coordinators: addresses };
        let mut wire = pb::JoinAnswer::from(joined.clone());
        assert_eq!(Joined::try_from(wire.clone()), Ok(joined));
        wire.id = 0;
        assert_eq!(Joined::try_from(wire).map_err(|error| error.field), Err("JoinAnswer.id"));
    }
}
