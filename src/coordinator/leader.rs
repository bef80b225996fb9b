//! Where the leader is, and the way there: services of a follower pass calls on. Held by every
//! service.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Request, Status, metadata::MetadataValue, transport::Channel};

use super::{
    core::replica::Leadership,
    inbox::{AskError, Handle},
};

/// How long a call waits for a leader: an election takes 0.5 to 1 s, a split vote as much again.
const FIND_LEADER: Duration = Duration::from_secs(2);
/// Marks a call that a coordinator passed on: it is passed on once only.
const FORWARDED: &str = "howdah-forwarded";
/// Names the leader in the metadata of an UNAVAILABLE.
const LEADER: &str = "howdah-leader";

/// Who answers a call.
pub enum Answers {
    /// This coordinator.
    Here,
    /// That one.
    There(Channel),
}

/// The way to the leader.
#[derive(Clone)]
pub struct Leader {
    /// The driver of this coordinator; knows who the others are as well.
    pub handle: Handle,
}

impl Leader {
    /// Waits, a little, until somebody leads; a leader that was heard of counts.
    pub async fn find(&self) -> Leadership {
        let mut leadership = self.handle.leadership.clone();
        let known = timeout(FIND_LEADER, leadership.wait_for(|seen| seen.leader.is_some())).await;
        match known {
            Ok(Ok(seen)) => *seen,
            Ok(Err(_)) | Err(_) => *self.handle.leadership.borrow(),
        }
    }

    /// The leader's URL, where it is known.
    pub fn url(&self, leadership: &Leadership) -> Option<String> {
        self.handle.roster.borrow().urls.get(&leadership.leader?).cloned()
    }

    /// Who answers this call.
    pub async fn route<T>(&self, request: &Request<T>) -> Result<Answers, Status> {
        let leadership = self.find().await;
        let channel = leadership.leader.and_then(|id| self.handle.roster.borrow().channels.get(&id).cloned());
        match channel {
            _ if leadership.ours => Ok(Answers::Here),
            Some(channel) if !request.metadata().contains_key(FORWARDED) => Ok(Answers::There(channel)),
            _ => Err(self.unavailable()),
        }
    }

    /// Waits for the leader's answer for as long as it leads: one that hangs gives none, and the caller asks
    /// the next as soon as there is one.
    pub async fn forward<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let mut leadership = self.handle.leadership.clone();
        let asked = leadership.borrow_and_update().leader;
        tokio::select! {
            biased;
            answer = call => answer,
            _ = leadership.wait_for(|seen| seen.leader != asked) => Err(self.unavailable()),
        }
    }

    /// What a caller is told when the leader is not here.
    pub fn unavailable(&self) -> Status {
        let Some(url) = self.url(&self.handle.leadership.borrow()) else {
            return Status::unavailable(
                "the coordinators have no leader at the moment; try again, and see that most of them run",
            );
        };
        let mut status = Status::unavailable(format!("the leader is {url}; ask there"));
        if let Ok(value) = MetadataValue::try_from(&url) {
            status.metadata_mut().insert(LEADER, value);
        }
        status
    }

    /// The driver's refusal as a status.
    pub fn refusal(&self, error: &AskError) -> Status {
        match error {
            AskError::NotLeader => self.unavailable(),
            AskError::Busy => Status::resource_exhausted(error.to_string()),
            AskError::NotFound(_) => Status::not_found(error.to_string()),
        }
    }
}

/// The call as the leader gets it.
pub fn forwarded<T>(request: Request<T>) -> Request<T> {
    let mut forwarded = Request::new(request.into_inner());
    forwarded.metadata_mut().insert(FORWARDED, MetadataValue::from_static("1"));
    forwarded
}
