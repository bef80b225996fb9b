//! What people and automation ask. Any coordinator answers: a follower passes the call on to the
//! leader. Called by tonic; talks to the driver.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Channel};

use super::{
    core::command::{Command, OperationKind, Outcome},
    inbox::{Change, Changed, Question},
    leader::{Answers, Leader, forwarded},
};
use crate::{
    config::ServiceUrl,
    model::{
        ids::{CoordinatorId, GroupId, InvalidName, OperationId},
        numbers::Revision,
        policy::Policy,
        status::OperationStatus,
    },
    wire::pb::admin::{
        AddCoordinatorRequest, AddShardRequest, FailoverRequest, GetOperationRequest, GetStatusRequest,
        GetStatusResponse, ListEventsRequest, ListEventsResponse, Operation, PauseRequest, RemoveCoordinatorRequest,
        RemoveMemberRequest, ReplaceCoordinatorRequest, SetGroupRequest, SwitchoverRequest,
        admin_service_client::AdminServiceClient, admin_service_server::AdminService,
    },
};

/// Bytes of an answer: the status of 1,000 shards is about 2 MB.
const MAX_ANSWER: usize = 64 << 20;
/// Changes of an operation that wait for a slow watcher; it is asked for anew after each, so none is
/// needed to catch up.
const WATCHED: usize = 1;

/// The service.
#[derive(Clone)]
pub struct Admin {
    /// The way to the leader, and to the driver.
    pub leader: Leader,
    /// Ends the streams.
    pub shutdown: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_status(&self, request: Request<GetStatusRequest>) -> Answer<GetStatusResponse> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            return self.leader.forward(client(leader).get_status(forwarded(request))).await;
        }
        let status = self.ask(Question::Status).await?;
        Ok(Response::new(GetStatusResponse { status: Some(status.into()) }))
    }

    async fn list_events(&self, request: Request<ListEventsRequest>) -> Answer<ListEventsResponse> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            return self.leader.forward(client(leader).list_events(forwarded(request))).await;
        }
        let after = Revision(request.into_inner().after_revision);
        let events = self.ask(|reply| Question::Events(after, reply)).await?;
        Ok(Response::new(ListEventsResponse { events: events.into_iter().map(Into::into).collect() }))
    }

    async fn add_shard(&self, request: Request<AddShardRequest>) -> Answer<Operation> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            return self.leader.forward(client(leader).add_shard(forwarded(request))).await;
        }
        let AddShardRequest { idempotency_key, replicas } = request.into_inner();
        let kind = move |policy: &Policy| OperationKind::AddShard { replicas: replicas.unwrap_or(policy.replicas) };
        self.begin(idempotency_key, kind, "a person asked for a shard").await
    }

    async fn switchover(&self, request: Request<SwitchoverRequest>) -> Answer<Operation> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            return self.leader.forward(client(leader).switchover(forwarded(request))).await;
        }
        let SwitchoverRequest { idempotency_key, group, to } = request.into_inner();
        let group = group.parse().map_err(|error| invalid("SwitchoverRequest.group", &error))?;
        let to = (!to.is_empty()).then(|| to.parse()).transpose();
        let to = to.map_err(|error| invalid("SwitchoverRequest.to", &error))?;
        self.begin(idempotency_key, |_| OperationKind::Switchover { group, to }, "a person asked for a switchover")
            .await
    }

    async fn failover(&self, request: Request<FailoverRequest>) -> Answer<Operation> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            return self.leader.forward(client(leader).failover(forwarded(request))).await;
        }
        let FailoverRequest { idempotency_key, group, accept_data_loss } = request.into_inner();
        let group = group.parse().map_err(|error| invalid("FailoverRequest.group", &error))?;
        let kind = OperationKind::Failover { group, accept_data_loss };
        self.begin(idempotency_key, |_| kind, "a person asked for a failover").await
    }

    async fn add_coordinator(&self, request: Request<AddCoordinatorRequest>) -> Answer<Operation> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            return self.leader.forward(client(leader).add_coordinator(forwarded(request))).await;
        }
        let AddCoordinatorRequest { idempotency_key, url } = request.into_inner();
        let url = service_url("AddCoordinatorRequest.url", &url)?;
        let kind = OperationKind::AddCoordinator { url };
        self.begin(idempotency_key, |_| kind, "a person asked for a coordinator").await
    }

    async fn remove_coordinator(&self, request: Request<RemoveCoordinatorRequest>) -> Answer<Operation> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            return self.leader.forward(client(leader).remove_coordinator(forwarded(request))).await;
        }
        let RemoveCoordinatorRequest { idempotency_key, id, force } = request.into_inner();
        let kind = OperationKind::RemoveCoordinator { coordinator: CoordinatorId(id), force };
        self.begin(idempotency_key, |_| kind, "a person asked for a coordinator fewer").await
    }

    async fn replace_coordinator(&self, request: Request<ReplaceCoordinatorRequest>) -> Answer<Operation> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            return self.leader.forward(client(leader).replace_coordinator(forwarded(request))).await;
        }
        let ReplaceCoordinatorRequest { idempotency_key, id, url } = request.into_inner();
        let coordinator = CoordinatorId(id);
        let url = if url.is_empty() {
            let known = self.leader.handle.roster.borrow().urls.get(&coordinator).cloned();
            // Unknown: the state says so, in its words.
            known.unwrap_or_default()
        } else {
            service_url("ReplaceCoordinatorRequest.url", &url)?
        };
        let kind = OperationKind::ReplaceCoordinator { coordinator, url };
        self.begin(idempotency_key, |_| kind, "a person asked for another coordinator instead").await
    }

    async fn remove_member(&self, request: Request<RemoveMemberRequest>) -> Answer<Operation> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            return self.leader.forward(client(leader).remove_member(forwarded(request))).await;
        }
        let RemoveMemberRequest { idempotency_key, member } = request.into_inner();
        let member = member.parse().map_err(|error| invalid("RemoveMemberRequest.member", &error))?;
        self.begin(idempotency_key, |_| OperationKind::RemoveMember { member }, "a person let go of it").await
    }

    async fn set_group(&self, request: Request<SetGroupRequest>) -> Answer<Operation> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            return self.leader.forward(client(leader).set_group(forwarded(request))).await;
        }
        let SetGroupRequest { idempotency_key, group, replicas } = request.into_inner();
        let group = group.parse().map_err(|error| invalid("SetGroupRequest.group", &error))?;
        let kind = OperationKind::SetReplicas { group, replicas };
        self.begin(idempotency_key, |_| kind, "a person asked for another number of standbys").await
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Answer<Operation> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            return self.leader.forward(client(leader).pause(forwarded(request))).await;
        }
        let (key, group) = maintenance(request.into_inner())?;
        self.begin(key, |_| OperationKind::Pause { group }, "a person began maintenance").await
    }

    async fn resume(&self, request: Request<PauseRequest>) -> Answer<Operation> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            return self.leader.forward(client(leader).resume(forwarded(request))).await;
        }
        let (key, group) = maintenance(request.into_inner())?;
        self.begin(key, |_| OperationKind::Resume { group }, "a person ended maintenance").await
    }

    async fn get_operation(&self, request: Request<GetOperationRequest>) -> Answer<Operation> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            return self.leader.forward(client(leader).get_operation(forwarded(request))).await;
        }
        let operation = self.operation(&operation_id(&request.into_inner())?).await?;
        Ok(Response::new(operation.into()))
    }

    type WatchOperationStream = Pin<Box<dyn Stream<Item = Result<Operation, Status>> + Send>>;

    async fn watch_operation(&self, request: Request<GetOperationRequest>) -> Answer<Self::WatchOperationStream> {
        if let Answers::There(leader) = self.leader.route(&request).await? {
            let stream = self.leader.forward(client(leader).watch_operation(forwarded(request))).await?.into_inner();
            return Ok(Response::new(Box::pin(stream)));
        }
        let id = operation_id(&request.into_inner())?;
        let first = self.operation(&id).await?;
        let (watcher, stream) = mpsc::channel(WATCHED);
        let watching = self.clone().watch(id, first, watcher);
        tokio::spawn(self.shutdown.clone().run_until_cancelled_owned(watching));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl Admin {
    async fn ask<T>(&self, question: impl FnOnce(super::inbox::Reply<T>) -> Question) -> Result<T, Status> {
        self.leader.handle.ask(question).await.map_err(|error| self.leader.refusal(&error))
    }

    async fn operation(&self, id: &OperationId) -> Result<OperationStatus, Status> {
        self.ask(|reply| Question::Operation(id.clone(), reply)).await
    }

    /// Begins an operation, or finds the one that its key began.
    async fn begin(
        &self,
        key: String,
        kind: impl FnOnce(&Policy) -> OperationKind + Send + 'static,
        reason: &str,
    ) -> Answer<Operation> {
        if !(1..=100).contains(&key.chars().count()) {
            return Err(Status::invalid_argument("idempotency_key: write 1 to 100 characters, a UUID for example"));
        }
        let change: Change = Box::new(|policy| Command::BeginOperation { key, kind: kind(policy) });
        let Changed { outcome, .. } = self.ask(|reply| Question::Change(change, reason.to_owned(), reply)).await?;
        match outcome {
            Outcome::Operation(id) => Ok(Response::new(self.operation(&id).await?.into())),
            Outcome::Refused(refusal) => Err(refusal.into()),
            Outcome::Applied | Outcome::Colocation(_) | Outcome::Coordinator(_) => {
                unreachable!("an operation was asked for")
            }
        }
    }

    /// Tells the operation now and whenever it changes, until it has ended or nobody listens.
    async fn watch(
        self,
        id: OperationId,
        mut operation: OperationStatus,
        watcher: mpsc::Sender<Result<Operation, Status>>,
    ) {
        // Progress shows what is observed as well, which moves without any change of state.
        let mut vitals = self.leader.handle.vitals.clone();
        let mut applied = self.leader.handle.applied.clone();
        loop {
            let ended = operation.state != "running";
            if watcher.send(Ok(operation.clone().into())).await.is_err() || ended {
                return;
            }
            let newer = loop {
                tokio::select! {
                    changed = applied.changed() => if changed.is_err() { return },
                    changed = vitals.changed() => if changed.is_err() { return },
                    () = watcher.closed() => return,
                }
                match self.operation(&id).await {
                    Ok(newer) if newer == operation => {}
                    other => break other,
                }
            };
            operation = match newer {
                Ok(newer) => newer,
                // The one who listens finds the new leader by asking again.
                Err(status) => return drop(watcher.send(Err(status)).await),
            };
        }
    }
}

fn client(channel: Channel) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}

fn maintenance(request: PauseRequest) -> Result<(String, Option<GroupId>), Status> {
    let group = (!request.group.is_empty()).then(|| request.group.parse()).transpose();
    Ok((request.idempotency_key, group.map_err(|error| invalid("PauseRequest.group", &error))?))
}

fn operation_id(request: &GetOperationRequest) -> Result<OperationId, Status> {
    request.id.parse().map_err(|error| invalid("GetOperationRequest.id", &error))
}

/// A gRPC address, as everybody writes it.
fn service_url(field: &str, text: &str) -> Result<String, Status> {
    let url = text.parse::<ServiceUrl>();
    url.map(|url| url.to_string()).map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}

fn invalid(field: &str, error: &InvalidName) -> Status {
    Status::invalid_argument(format!("{field}: {error}"))
}
