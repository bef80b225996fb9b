//! The agent's line to the coordinators: finds the leader, registers, sends reports, hands on goals, and
//! begins anew whenever the line breaks. Called by `run`, once.
//!
//! A leader that hangs breaks no line. It is noticed by its silence, as it otherwise speaks ten times a
//! second; but silence is no proof, so the line is kept while the others are asked whether one of them
//! leads by now. The budget, from the moment a leader and a primary stop together:
//!
//! ```text
//! 0.50–1.00 s  followers stand for election (median of the first of two: 0.67 s)
//!      0.05 s  pre-vote, vote, a write on two disks each
//!      0.10 s  agents, who began to ask at 0.3 s, find the new leader: each asks every 0.05–0.1 s
//!      0.60 s  the new leader hears nothing of the primary (`suspect_after`, counted from its beginning)
//!      0.10 s  recruit, elect, promote, follow
//!      1.5 s   median; 2.0 s with a split vote
//! ```

use std::{pin::Pin, time::Duration};

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

/// A leader answers a registration at once; a follower without a leader holds it for up to 2 s, and knows
/// sooner than anybody who leads next.
const FIRST_WORD: Duration = Duration::from_millis(2_500);

/// How long others are waited for once one has said that it does not lead: it may be the hung leader that
/// is silent, and who leads next is known any moment.
const OTHERS: Millis = Millis(100);

/// The longest round: the longest answer, and the connection before it.
const ROUND: Millis = Millis(2_800);

/// Back-off between rounds: quick, because a failover waits for it, and few agents ask at once.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(30), Duration::from_millis(500));

/// The same while a leader is silent: for the second that an election takes.
const SEARCH: (Duration, Duration) = (Duration::from_millis(30), Duration::from_millis(100));

/// A leader that speaks every 100 ms and has not for this long is looked past.
const QUIET: Millis = Millis(300);

/// HTTP/2 pings: a line that is dead both ways is known within these two together.
const PING_EVERY: Duration = Duration::from_millis(500);
const PING_ANSWER: Duration = Duration::from_secs(1);

/// While a line to a leader that does not tell that it is alive (of an earlier version) is open, it counts
/// as contact this often.
const CONTACT_EVERY: Duration = Duration::from_millis(200);

/// Messages on their way: newer reports replace older ones, so a slow line needs no more.
const OUTGOING: usize = 4;

/// When coordinators last answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Any of them.
    pub any: Millis,
    /// One that leads, as far as it knows.
    pub leader: Millis,
}

/// What the client is connected to.
pub struct Line {
    /// URLs that the agent was started with.
    pub configured: Vec<String>,
    /// URLs that a coordinator told.
    pub coordinators: watch::Sender<Vec<String>>,
    /// The first words.
    pub registration: Registration,
    /// The newest report.
    pub reports: watch::Receiver<Option<Report>>,
    /// Where goals go.
    pub orders: mpsc::Sender<CoordinatorSays>,
    /// When they last answered.
    pub contact: watch::Sender<Contact>,
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

/// How a line ended.
enum Ended {
    /// Look for the leader again.
    Broken,
    /// This one leads now.
    Superseded(Box<Accepted>),
    /// The agent itself has ended.
    Over,
}

/// Everything that asks needs.
#[derive(Clone)]
struct Asking {
    registration: Registration,
    /// Where what is told of the coordinators goes.
    told: watch::Sender<Vec<String>>,
    clock: Clock,
}

/// Whom to ask: first those that a coordinator told, then those that were configured; each once.
pub fn addresses(told: &[String], configured: &[String]) -> Vec<String> {
    let mut all = told.to_vec();
    all.extend(configured.iter().filter(|url| !told.contains(url)).cloned());
    all
}

impl Line {
    /// Keeps a line open for as long as the agent lives.
    pub async fn keep(mut self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let mut next = None;
        loop {
            let answer = match next.take() {
                Some(accepted) => Answer::Accepted(accepted),
                None => self.asking().round(self.addresses(), None).await,
            };
            match answer {
                Answer::Accepted(accepted) => {
                    backoff.reset();
                    tracing::info!(coordinator = %accepted.url, "registered");
                    match self.attend(*accepted).await {
                        Ended::Broken => {
                            tracing::warn!("the line to the coordinator has ended: looking for the leader");
                        }
                        Ended::Superseded(accepted) => next = Some(accepted),
                        Ended::Over => return,
                    }
                }
                Answer::NotLeader(_) => {
                    let now = self.clock.now();
                    self.contact.send_modify(|contact| contact.any = now);
                    sleep(backoff.step()).await;
                }
                Answer::Silent => sleep(backoff.step()).await,
            }
        }
    }

    fn met_leader(&self) {
        let now = self.clock.now();
        self.contact.send_replace(Contact { any: now, leader: now });
    }

    fn addresses(&self) -> Vec<String> {
        addresses(&self.coordinators.borrow(), &self.configured)
    }

    fn asking(&self) -> Asking {
        Asking { registration: self.registration.clone(), told: self.coordinators.clone(), clock: self.clock }
    }

    /// Reports out, goals in, until the line ends or another coordinator leads.
    async fn attend(&mut self, line: Accepted) -> Ended {
        let Accepted { url, outgoing, mut incoming, first } = line;
        self.met_leader();
        if self.orders.send(first).await.is_err() {
            return Ended::Over;
        }
        self.reports.mark_changed();
        let told = self.coordinators.clone();
        let mut open = interval(CONTACT_EVERY);
        // Whether this leader tells that it is alive, and when it last spoke; the search that its silence began.
        let (mut speaks, mut heard) = (false, self.clock.now());
        let mut search: Option<Pin<Box<dyn Future<Output = Box<Accepted>> + Send>>> = None;
        loop {
            tokio::select! {
                said = incoming.message() => match said.map(|said| said.map(|it| hear(it, &told))) {
                    Ok(Some(Ok(CoordinatorSays::NotLeader(_))) | None) | Err(_) => return Ended::Broken,
                    Ok(Some(Ok(said))) => {
                        heard = self.clock.now();
                        search = None;
                        self.met_leader();
                        if said == CoordinatorSays::Alive {
                            speaks = true;
                        } else if self.orders.send(said).await.is_err() {
                            return Ended::Over;
                        }
                    }
                    Ok(Some(Err(error))) => tracing::error!(%error, "the coordinator said something unintelligible"),
                },
                changed = self.reports.changed() => {
                    if changed.is_err() {
                        return Ended::Over;
                    }
                    let report = self.reports.borrow_and_update().clone();
                    if let Some(report) = report
                        && let Err(mpsc::error::TrySendError::Closed(_)) = outgoing.try_send(AgentSays::Report(report).into())
                    {
                        return Ended::Broken;
                    }
                }
                _ = open.tick(), if !speaks => self.met_leader(),
                () = sleep(heard.plus(QUIET).since(self.clock.now()).duration()), if speaks && search.is_none() => {
                    search = Some(Box::pin(self.asking().search(self.addresses(), url.clone())));
                }
                accepted = async { search.as_mut().expect("it is there").await }, if search.is_some() => {
                    tracing::warn!(silent = url, coordinator = accepted.url, "the leader is silent, and another one leads");
                    return Ended::Superseded(accepted);
                }
            }
        }
    }
}

impl Asking {
    /// Asks all of `urls` at once, but for the `silent` one; the first that leads wins.
    async fn round(&self, urls: Vec<String>, silent: Option<&str>) -> Answer {
        let mut asking = JoinSet::new();
        let mut asked = Vec::new();
        for url in urls.into_iter().filter(|url| Some(url.as_str()) != silent) {
            asking.spawn(ask(url.clone(), self.clone()));
            asked.push(url);
        }
        let mut best = Answer::Silent;
        let mut until = self.clock.now().plus(ROUND);
        while let Ok(Some(answer)) = timeout(until.since(self.clock.now()).duration(), asking.join_next()).await {
            match answer {
                Ok(Answer::Accepted(accepted)) => return Answer::Accepted(accepted),
                Ok(Answer::NotLeader(leader)) => {
                    until = until.min(self.clock.now().plus(OTHERS));
                    // One that we did not know of is asked as well, once.
                    if let Some(url) = leader.clone().filter(|url| !asked.contains(url) && Some(url.as_str()) != silent)
                    {
                        until = self.clock.now().plus(OTHERS).plus(OTHERS);
                        asking.spawn(ask(url.clone(), self.clone()));
                        asked.push(url);
                    }
                    if !matches!(best, Answer::NotLeader(Some(_))) {
                        best = Answer::NotLeader(leader);
                    }
                }
                Ok(Answer::Silent) | Err(_) => {}
            }
        }
        best
    }

    /// Asks the others until one of them leads.
    async fn search(self, urls: Vec<String>, silent: String) -> Box<Accepted> {
        let mut backoff = Backoff::new(SEARCH.0, SEARCH.1);
        loop {
            if let Answer::Accepted(accepted) = self.round(urls.clone(), Some(&silent)).await {
                return accepted;
            }
            sleep(backoff.step()).await;
        }
    }
}

/// What was said; what was told of the coordinators on the way is kept.
fn hear(
    message: pb::CoordinatorMessage,
    told: &watch::Sender<Vec<String>>,
) -> Result<CoordinatorSays, crate::wire::InvalidMessage> {
    if !message.coordinators.is_empty() {
        told.send_if_modified(|known| {
            let news = *known != message.coordinators;
            known.clone_from(&message.coordinators);
            news
        });
    }
    message.try_into()
}

async fn ask(url: String, asking: Asking) -> Answer {
    let Ok(endpoint) = Endpoint::from_shared(url.clone()) else { return Answer::Silent };
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let Ok(Ok(channel)) = timeout(CONNECT, endpoint.connect()).await else { return Answer::Silent };
    let (outgoing, messages) = mpsc::channel(OUTGOING);
    if outgoing.try_send(AgentSays::Registration(asking.registration).into()).is_err() {
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
    match hear(first, &asking.told) {
        Ok(CoordinatorSays::NotLeader(leader)) => Answer::NotLeader(leader),
        Ok(first) => Answer::Accepted(Box::new(Accepted { url, outgoing, incoming, first })),
        Err(error) => {
            tracing::error!(%url, %error, "a coordinator said something unintelligible");
            Answer::Silent
        }
    }
}
