//! Agents attend the leader: registration and reports in, goals out. Called by tonic; talks to the
//! driver.

use std::pin::Pin;

use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    core::observed::Connection,
    inbox::{Handle, Input},
    leader::Leader,
};
use crate::{
    model::{
        ids::{ClusterName, MemberId},
        observed::Registration,
    },
    wire::{
        agent::{AgentSays, CoordinatorSays},
        pb::agent::{AgentMessage, CoordinatorMessage, agent_service_server::AgentService},
    },
};

/// Words that wait for a slow agent: the newest of each kind is taken when it is ready, so none is lost.
const UNSAID: usize = 1;

/// The service.
pub struct Agents {
    /// The cluster.
    pub cluster: ClusterName,
    /// The way to the leader, and to the driver.
    pub leader: Leader,
    /// Ends the streams.
    pub shutdown: CancellationToken,
}

#[tonic::async_trait]
impl AgentService for Agents {
    type AttendStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn attend(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::AttendStream>, Status> {
        let mut stream = request.into_inner();
        let registration = self.registration(&mut stream).await?;
        let leadership = self.leader.find().await;
        if !leadership.ours {
            let answer = CoordinatorSays::NotLeader(self.leader.url(&leadership));
            let coordinators = self.leader.handle.roster.borrow().addresses();
            let answer = CoordinatorMessage { coordinators, ..answer.into() };
            return Ok(Response::new(Box::pin(tokio_stream::once(Ok(answer)))));
        }
        let handle = self.leader.handle.clone();
        // Before the sender is given away: what is told from now on is a change.
        let (outbox, goals) = watch::channel(CoordinatorSays::Idle { free_since: None });
        let (connection, member) = (handle.connection(), registration.container.id.clone());
        if !handle.tell(Input::AgentConnected(connection, registration, outbox)) {
            return Err(Status::resource_exhausted("this coordinator has too much to do at the moment; try again"));
        }
        let (words, stream_out) = mpsc::channel(UNSAID);
        tokio::spawn(self.shutdown.clone().run_until_cancelled_owned(speak(handle.clone(), goals, words)));
        tokio::spawn(self.shutdown.clone().run_until_cancelled_owned(listen(handle, stream, connection, member)));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream_out))))
    }
}

impl Agents {
    async fn registration(&self, stream: &mut Streaming<AgentMessage>) -> Result<Registration, Status> {
        let first = stream.message().await?.ok_or_else(|| Status::invalid_argument("the stream ended at once"))?;
        let AgentSays::Registration(registration) = first.try_into()? else {
            return Err(Status::invalid_argument("the first message must be a Registration"));
        };
        if registration.cluster != self.cluster {
            let (ours, theirs) = (self.cluster.as_str(), registration.cluster.as_str());
            let text = format!("this is a coordinator of cluster {ours:?}, the agent belongs to {theirs:?}");
            return Err(Status::failed_precondition(text));
        }
        Ok(registration)
    }
}

/// Tells an agent its goals, and between them that the driver is alive, until the driver drops it or it
/// is gone. The coordinators' addresses go out with the first word and whenever they change.
async fn speak(
    handle: Handle,
    mut goals: watch::Receiver<CoordinatorSays>,
    words: mpsc::Sender<Result<CoordinatorMessage, Status>>,
) {
    let Handle { mut pulse, roster, .. } = handle;
    let mut told = Vec::new();
    // The first word is a goal: a leader that cannot decide yet has nothing to say.
    let mut says = None;
    loop {
        tokio::select! {
            biased;
            changed = goals.changed() => match changed {
                Ok(()) => says = Some(goals.borrow_and_update().clone()),
                Err(_) => return,
            },
            changed = pulse.changed(), if says.is_some() => match changed {
                Ok(()) => says = Some(CoordinatorSays::Alive),
                Err(_) => return,
            },
            () = words.closed() => return,
        }
        let Some(word) = says.clone() else { continue };
        let mut message = CoordinatorMessage::from(word);
        let newest = roster.borrow().addresses();
        if newest != told {
            message.coordinators.clone_from(&newest);
            told = newest;
        }
        if words.send(Ok(message)).await.is_err() {
            return;
        }
    }
}

/// Passes reports on until the stream ends: that its kernel or its process ended it is the quickest
/// sign that an agent has gone. (HTTP/2 keepalive ends it as well, long after silence is suspicious.)
async fn listen(handle: Handle, mut stream: Streaming<AgentMessage>, connection: Connection, member: MemberId) {
    let reason = loop {
        let says = match stream.message().await {
            Ok(Some(message)) => AgentSays::try_from(message),
            Ok(None) => break "closed by the agent".to_owned(),
            Err(status) => break status.message().to_owned(),
        };
        match says {
            Ok(AgentSays::Report(report)) if report.member == member => {
                handle.tell(Input::AgentReported(connection, Box::new(report)));
            }
            Ok(AgentSays::Report(report)) => break format!("{} reported on the stream of {member}", report.member),
            Ok(AgentSays::Registration(_)) => break "registered twice".to_owned(),
            Err(invalid) => break invalid.to_string(),
        }
    };
    tracing::debug!(%member, reason, "agent's stream ended");
    handle.tell(Input::AgentDisconnected(connection, member));
}
