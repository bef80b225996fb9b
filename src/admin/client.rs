//! A client of the admin API: knows several coordinators, asks one after the other until one answers,
//! follows the leader it is told of. Called by the admin commands and by `dev`.

use std::{future::Future, time::Duration};

use tonic::{
    Code, Request, Response, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    host::{causes::with_causes, clock::Clock},
    model::{
        ids::{GroupId, MemberId},
        status::{Event, OperationStatus, Status},
    },
    wire::{
        InvalidMessage,
        pb::admin::{self as pb, admin_service_client::AdminServiceClient},
    },
};

/// One coordinator's time to answer: a paused one must not use up the whole deadline.
const ATTEMPT: Duration = Duration::from_millis(1_500);

/// Between two rounds over all coordinators: an election of theirs takes some of these.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody answered in time.
    #[error(
        "no coordinator answered ({tried}; last: {last}): is the cluster running? \
         --coordinator URL[,URL] or HOWDAH_COORDINATORS say where"
    )]
    Unreachable {
        /// Whom we asked.
        tried: String,
        /// The last failure.
        last: String,
    },
    /// The cluster said no.
    #[error("{message}")]
    Refused {
        /// gRPC status code.
        code: Code,
        /// The reason, and what to do.
        message: String,
    },
    /// An answer that this version cannot read.
    #[error("the coordinator's answer cannot be read: {0}; use the cluster's own version of howdah")]
    Unreadable(#[from] InvalidMessage),
}

/// The client.
#[derive(Debug, Clone)]
pub struct Client {
    urls: Vec<String>,
    deadline: Duration,
}

impl Client {
    /// Asks `urls` (`http://host:port`), and gives up after `deadline`.
    pub fn new(urls: Vec<String>, deadline: Duration) -> Self {
        Self { urls, deadline }
    }

    /// Everything about the cluster.
    pub async fn status(&self) -> Result<Status, CallError> {
        let answer = self.call(async |mut to| to.get_status(pb::GetStatusRequest {}).await).await?;
        let status = answer
            .status
            .ok_or_else(|| InvalidMessage { field: "GetStatusResponse.status", problem: "is missing".to_owned() })?;
        Ok(status.try_into()?)
    }

    /// Events after a revision, oldest first.
    pub async fn events(&self, after: u64) -> Result<Vec<Event>, CallError> {
        let request = pb::ListEventsRequest { after_revision: after };
        let answer = self.call(async |mut to| to.list_events(request).await).await?;
        answer.events.into_iter().map(|event| Ok(event.try_into()?)).collect()
    }

    /// Adds a shard.
    pub async fn add_shard(&self, key: &str, replicas: Option<u32>) -> Result<OperationStatus, CallError> {
        let request = pb::AddShardRequest { idempotency_key: key.to_owned(), replicas };
        Ok(self.call(async |mut to| to.add_shard(request.clone()).await).await?.try_into()?)
    }

    /// Changes a primary as planned.
    pub async fn switchover(
        &self,
        key: &str,
        group: &GroupId,
        to: Option<&MemberId>,
    ) -> Result<OperationStatus, CallError> {
        let request = pb::SwitchoverRequest {
            idempotency_key: key.to_owned(),
            group: group.to_string(),
            to: to.map(ToString::to_string).unwrap_or_default(),
        };
        Ok(self.call(async |mut to| to.switchover(request.clone()).await).await?.try_into()?)
    }

    /// Changes a primary without waiting for the old one.
    pub async fn failover(
        &self,
        key: &str,
        group: &GroupId,
        accept_data_loss: bool,
    ) -> Result<OperationStatus, CallError> {
        let idempotency_key = key.to_owned();
        let request = pb::FailoverRequest { idempotency_key, group: group.to_string(), accept_data_loss };
        Ok(self.call(async |mut to| to.failover(request.clone()).await).await?.try_into()?)
    }

    /// Adds a coordinator.
    pub async fn add_coordinator(&self, key: &str, url: &str) -> Result<OperationStatus, CallError> {
        let request = pb::AddCoordinatorRequest { idempotency_key: key.to_owned(), url: url.to_owned() };
        Ok(self.call(async |mut to| to.add_coordinator(request.clone()).await).await?.try_into()?)
    }

    /// Removes a coordinator.
    pub async fn remove_coordinator(&self, key: &str, id: u64, force: bool) -> Result<OperationStatus, CallError> {
        let request = pb::RemoveCoordinatorRequest { idempotency_key: key.to_owned(), id, force };
        Ok(self.call(async |mut to| to.remove_coordinator(request.clone()).await).await?.try_into()?)
    }

    /// Replaces a coordinator; an empty `url` is its own.
    pub async fn replace_coordinator(&self, key: &str, id: u64, url: &str) -> Result<OperationStatus, CallError> {
        let request = pb::ReplaceCoordinatorRequest { idempotency_key: key.to_owned(), id, url: url.to_owned() };
        Ok(self.call(async |mut to| to.replace_coordinator(request.clone()).await).await?.try_into()?)
    }

    /// Lets go of a member.
    pub async fn remove_member(&self, key: &str, member: &MemberId) -> Result<OperationStatus, CallError> {
        let request = pb::RemoveMemberRequest { idempotency_key: key.to_owned(), member: member.to_string() };
        Ok(self.call(async |mut to| to.remove_member(request.clone()).await).await?.try_into()?)
    }

    /// Sets the number of a group's standbys.
    pub async fn set_replicas(&self, key: &str, group: &GroupId, replicas: u32) -> Result<OperationStatus, CallError> {
        let request = pb::SetGroupRequest { idempotency_key: key.to_owned(), group: group.to_string(), replicas };
        Ok(self.call(async |mut to| to.set_group(request.clone()).await).await?.try_into()?)
    }

    /// Begins maintenance of a group, or of all.
    pub async fn pause(&self, key: &str, group: Option<&GroupId>) -> Result<OperationStatus, CallError> {
        let request = maintenance(key, group);
        Ok(self.call(async |mut to| to.pause(request.clone()).await).await?.try_into()?)
    }

    /// Ends it.
    pub async fn resume(&self, key: &str, group: Option<&GroupId>) -> Result<OperationStatus, CallError> {
        let request = maintenance(key, group);
        Ok(self.call(async |mut to| to.resume(request.clone()).await).await?.try_into()?)
    }

    /// Follows an operation, calling `seen` at every change, until it has ended; takes any time. A
    /// coordinator that goes away is replaced by another.
    pub async fn watch(&self, id: &str, mut seen: impl FnMut(&OperationStatus)) -> Result<OperationStatus, CallError> {
        loop {
            let mut changes = self.watch_stream(id).await?;
            while let Ok(Some(change)) = changes.message().await {
                let operation: OperationStatus = change.try_into()?;
                seen(&operation);
                if operation.state != "running" {
                    return Ok(operation);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn watch_stream(&self, id: &str) -> Result<Streaming<pb::Operation>, CallError> {
        self.call(async |mut to| {
            let mut request = Request::new(pb::GetOperationRequest { id: id.to_owned() });
            // Longer than any operation should take; the watch is taken up again after it.
            request.set_timeout(Duration::from_hours(1));
            to.watch_operation(request).await
        })
        .await
    }

    /// Asks the coordinators in turn, a leader that one names first, until one answers for good.
    async fn call<T>(
        &self,
        ask: impl AsyncFn(AdminServiceClient<Channel>) -> Result<Response<T>, tonic::Status>,
    ) -> Result<T, CallError> {
        let clock = Clock::start();
        let mut last = String::new();
        loop {
            let mut queue: Vec<String> = self.urls.iter().rev().cloned().collect();
            // Each is asked once and may name one leader: bounded by twice their number.
            let mut redirects = self.urls.len();
            while let Some(url) = queue.pop() {
                let left = self.deadline.saturating_sub(clock.now().duration());
                if left.is_zero() {
                    return Err(CallError::Unreachable { tried: self.urls.join(", "), last });
                }
                match attempt(&url, left.min(ATTEMPT), &ask).await {
                    Ok(answer) => return Ok(answer),
                    Err(Attempt::Final(error)) => return Err(error),
                    Err(Attempt::Next { reason, leader }) => {
                        last = format!("{url}: {reason}");
                        if let (Some(leader), true) = (leader.filter(|leader| *leader != url), redirects > 0) {
                            redirects -= 1;
                            queue.push(leader);
                        }
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn maintenance(key: &str, group: Option<&GroupId>) -> pb::PauseRequest {
    let group = group.map(ToString::to_string).unwrap_or_default();
    pb::PauseRequest { idempotency_key: key.to_owned(), group }
}

/// How one coordinator's answer was none.
enum Attempt {
    /// Another may answer.
    Next { reason: String, leader: Option<String> },
    /// Asking others is useless.
    Final(CallError),
}

async fn attempt<T>(
    url: &str,
    limit: Duration,
    ask: &impl AsyncFn(AdminServiceClient<Channel>) -> Result<Response<T>, tonic::Status>,
) -> Result<T, Attempt> {
    let next = |reason: String| Attempt::Next { reason, leader: None };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| next(error.to_string()))?;
    let channel = within(limit, endpoint.connect_timeout(limit).connect())
        .await
        .ok_or_else(|| next("no connection in time".to_owned()))?
        .map_err(|error| next(with_causes(&error)))?;
    let answer = within(limit, ask(AdminServiceClient::new(channel)));
    match answer.await.ok_or_else(|| next("no answer in time".to_owned()))? {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
                Attempt::Next { leader: named_leader(&status), reason: status.message().to_owned() }
            }
            code => Attempt::Final(CallError::Refused { code, message: status.message().to_owned() }),
        }),
    }
}

async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

/// The address in a follower's refusal.
fn named_leader(status: &tonic::Status) -> Option<String> {
    let word = status.message().split_whitespace().find(|word| word.starts_with("http://"))?;
    Some(word.trim_end_matches(['.', ',', ';', ')', '/']).to_owned())
}
