//! Coordinators with an empty directory ask others: founders meet, newcomers join (`admission` says why).
//! Both ends of these calls. The service is called by tonic and talks to the driver.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};
use tonic::{Request, Response, Status, transport::Channel};

use super::{
    admission::{Standing, answer},
    core::command::{Command, Outcome},
    inbox::{Change, Changed, Question},
    leader::{Answers, Leader, forwarded},
    roster,
};
use crate::{
    model::ids::ClusterName,
    wire::{
        pb::raft::{
            JoinAnswer, JoinRequest, MeetAnswer, MeetRequest, membership_service_client::MembershipServiceClient,
            membership_service_server::MembershipService,
        },
        raft::{Joined, Joining, Meeting, MeetingAnswer},
    },
};

/// One answer; a coordinator that waits for a leader takes longer, and is asked again.
const ANSWER: Duration = Duration::from_secs(3);

/// Asks another founder.
pub async fn meet(url: &str, meeting: Meeting) -> Result<MeetingAnswer, Status> {
    let mut client = MembershipServiceClient::new(connect(url)?);
    let answer = timeout(ANSWER, client.meet(MeetRequest::from(meeting))).await;
    Ok(answer.map_err(|_| Status::deadline_exceeded("no answer in time"))??.into_inner().try_into()?)
}

/// Asks for a number.
pub async fn ask_to_join(url: &str, joining: Joining) -> Result<Joined, Status> {
    let mut client = MembershipServiceClient::new(connect(url)?);
    let answer = timeout(ANSWER, client.join(JoinRequest::from(joining))).await;
    Ok(answer
        .map_err(|_| Status::deadline_exceeded(format!("{url} gives no answer in time")))??
        .into_inner()
        .try_into()?)
}

fn connect(url: &str) -> Result<Channel, Status> {
    roster::channel(url).map_err(|error| Status::invalid_argument(format!("{url} is not an address: {error}")))
}

/// The service.
pub struct Membership {
    /// The cluster.
    pub cluster: ClusterName,
    /// What this coordinator is.
    pub standing: watch::Receiver<Standing>,
    /// The way to the leader, and to the driver.
    pub leader: Leader,
}

impl Membership {
    fn check(&self, cluster: &ClusterName) -> Result<(), Status> {
        if *cluster == self.cluster {
            return Ok(());
        }
        let (ours, theirs) = (self.cluster.as_str(), cluster.as_str());
        Err(Status::failed_precondition(format!("this is a coordinator of cluster {ours:?}, not {theirs:?}")))
    }
}

#[tonic::async_trait]
impl MembershipService for Membership {
    async fn meet(&self, request: Request<MeetRequest>) -> Result<Response<MeetAnswer>, Status> {
        let meeting = Meeting::try_from(request.into_inner())?;
        self.check(&meeting.cluster)?;
        let answer = answer(&self.standing.borrow(), &meeting)?;
        Ok(Response::new(answer.into()))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinAnswer>, Status> {
        if let Answers::There(channel) = self.leader.route(&request).await? {
            let mut client = MembershipServiceClient::new(channel);
            return self.leader.forward(client.join(forwarded(request))).await;
        }
        let Joining { cluster, url, directory } = request.into_inner().try_into()?;
        self.check(&cluster)?;
        let reason = format!("a coordinator has come to {url}");
        let change: Change = Box::new(move |_| Command::ClaimCoordinator { url, directory });
        let asked = self.leader.handle.ask(|reply| Question::Change(change, reason, reply)).await;
        let Changed { outcome, .. } = asked.map_err(|error| self.leader.refusal(&error))?;
        match outcome {
            Outcome::Coordinator(id) => {
                let coordinators = self.leader.handle.roster.borrow().urls.clone();
                Ok(Response::new(Joined { id, coordinators }.into()))
            }
            Outcome::Refused(refusal) => Err(refusal.into()),
            Outcome::Applied | Outcome::Operation(_) | Outcome::Colocation(_) => {
                unreachable!("the number of a coordinator was asked for")
            }
        }
    }
}
