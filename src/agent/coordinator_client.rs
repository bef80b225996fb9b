//! The agent's line to the coordinators: finds the leader, registers, sends reports, hands on goals, and
//! begins anew whenever the line breaks. Called by `run`, once.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use crate::{
    host::{backoff::Backoff, clock::Clock},
    model::{
        numbers::Millis,
        observed::{Registration, Report},
    },
    wire::{
        agent::{AgentSays, CoordinatorSays},
        pb::agent::{self as pb, agent_service_client::AgentServiceClient},
    },
};

/// On one network a connection takes a millisecond; more means that the machine is gone.
const CONNECT: Duration = Duration::from_millis(300);

/// A leader answers a registration at once.
const FIRST_WORD: Duration = Duration::from_millis(700);

/// Back-off between rounds: quick, because a failover waits for it, and few agents ask at once.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(30), Duration::from_millis(500));

/// HTTP/2 pings: a line that is dead both ways is known within these two together.
const PING_EVERY: Duration = Duration::from_millis(500);
const PING_ANSWER: Duration = Duration::from_secs(1);

/// While a line is open it counts as contact this often.
const CONTACT_EVERY: Duration = Duration::from_millis(200);

/// Messages on their way: newer reports replace older ones, so a slow line needs no more.
const OUTGOING: usize = 4;

/// What the client is connected to.
pub struct Line {
    /// URLs of the coordinators.
    pub coordinators: Vec<String>,
    /// The first words.
    pub registration: Registration,
    /// The newest report.
    pub reports: watch::Receiver<Option<Report>>,
    /// Where goals go.
    pub orders: mpsc::Sender<CoordinatorSays>,
    /// When a coordinator last answered.
    pub contact: watch::Sender<Millis>,
    /// Time.
    pub clock: Clock,
}

/// A line to a coordinator that takes our reports.
struct Accepted {
    url: String,
    outgoing: mpsc::Sender<pb::AgentMessage>,
    incoming: Streaming<pb::CoordinatorMessage>,
    first: CoordinatorSays,
}

/// What came of asking one coordinator.
enum Answer {
    /// It leads.
    Accepted(Box<Accepted>),
    /// It does not; perhaps it knows who does.
    NotLeader(Option<String>),
    /// Nothing.
    Silent,
}

impl Line {
    /// Keeps a line open for as long as the agent lives.
    pub async fn keep(mut self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let mut hint = None;
        loop {
            let asked = hint.take().map_or_else(|| self.coordinators.clone(), |url| vec![url]);
            match self.find(asked).await {
                Answer::Accepted(accepted) => {
                    backoff.reset();
                    tracing::info!(coordinator = %accepted.url, "registered");
                    if self.attend(*accepted).await.is_err() {
                        return;
                    }
                    tracing::warn!("the line to the coordinator has ended: looking for the leader");
                }
                Answer::NotLeader(leader) => {
                    self.contact.send_replace(self.clock.now());
                    hint = leader;
                    sleep(backoff.step()).await;
                }
                Answer::Silent => sleep(backoff.step()).await,
            }
        }
    }

    /// Asks all of `urls` at once; the first that leads wins.
    async fn find(&self, urls: Vec<String>) -> Answer {
        let mut asking = JoinSet::new();
        for url in urls {
            asking.spawn(ask(url, self.registration.clone()));
        }
        let mut best = Answer::Silent;
        while let Some(answer) = asking.join_next().await {
            match answer {
                Ok(Answer::Accepted(accepted)) => return Answer::Accepted(accepted),
                Ok(Answer::NotLeader(leader)) => match &best {
                    Answer::NotLeader(Some(_)) => {}
                    _ => best = Answer::NotLeader(leader),
                },
                Ok(Answer::Silent) | Err(_) => {}
            }
        }
        best
    }

    /// Reports out, goals in, until the line ends; an error when the agent itself has ended.
    async fn attend(&mut self, line: Accepted) -> Result<(), mpsc::error::SendError<CoordinatorSays>> {
        let Accepted { outgoing, mut incoming, first, .. } = line;
        self.contact.send_replace(self.clock.now());
        self.orders.send(first).await?;
        self.reports.mark_changed();
        let mut open = interval(CONTACT_EVERY);
        loop {
            tokio::select! {
                said = incoming.message() => match said.map(|said| said.map(CoordinatorSays::try_from)) {
                    Ok(Some(Ok(CoordinatorSays::NotLeader(_))) | None) | Err(_) => return Ok(()),
                    Ok(Some(Ok(said))) => self.orders.send(said).await?,
                    Ok(Some(Err(error))) => tracing::error!(%error, "the coordinator said something unintelligible"),
                },
                changed = self.reports.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let report = self.reports.borrow_and_update().clone();
                    if let Some(report) = report
                        && let Err(mpsc::error::TrySendError::Closed(_)) = outgoing.try_send(AgentSays::Report(report).into())
                    {
                        return Ok(());
                    }
                }
                _ = open.tick() => { self.contact.send_replace(self.clock.now()); }
            }
        }
    }
}

async fn ask(url: String, registration: Registration) -> Answer {
    let Ok(endpoint) = Endpoint::from_shared(url.clone()) else { return Answer::Silent };
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let Ok(Ok(channel)) = timeout(CONNECT, endpoint.connect()).await else { return Answer::Silent };
    let (outgoing, messages) = mpsc::channel(OUTGOING);
    if outgoing.try_send(AgentSays::Registration(registration).into()).is_err() {
        return Answer::Silent;
    }
    let mut client = AgentServiceClient::new(channel);
    let first = timeout(FIRST_WORD, async {
        let mut incoming = client.attend(ReceiverStream::new(messages)).await?.into_inner();
        let first = incoming.message().await?;
        Ok::<_, tonic::Status>((incoming, first))
    });
    let (incoming, first) = match first.await {
        Ok(Ok((incoming, Some(first)))) => (incoming, first),
        Ok(Ok((_, None))) | Err(_) => return Answer::Silent,
        Ok(Err(status)) => {
            tracing::debug!(%url, %status, "a coordinator refused");
            return Answer::Silent;
        }
    };
    match CoordinatorSays::try_from(first) {
        Ok(CoordinatorSays::NotLeader(leader)) => Answer::NotLeader(leader),
        Ok(first) => Answer::Accepted(Box::new(Accepted { url, outgoing, incoming, first })),
        Err(error) => {
            tracing::error!(%url, %error, "a coordinator said something unintelligible");
            Answer::Silent
        }
    }
}
