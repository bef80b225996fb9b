//! How a coordinator with an empty directory becomes one of the coordinators. Called by `run`, before the
//! log is opened; `membership_service` answers others that ask the same.
//!
//! A coordinator's votes and its word for log entries are promises to the others. One that has lost its
//! directory has forgotten them: let in under its old number, it would vote twice in a term, or be
//! counted for entries that it has not. So nobody takes part in Raft before it is certain that its number
//! has promised nothing yet:
//!
//! - **A new cluster** (`--peers` names all its founders): they ask each other. The first of the list founds
//!   the cluster once *all* others say that their directories are empty, too, and writes down whose they
//!   are; everybody else waits for the word of one who knows. As one alone decides, and once, there is never
//!   a second cluster; and a founder that comes back with another directory is known as a stranger.
//! - **A cluster that exists** (`--join`, or a founder that turned out a stranger): it asks for the number of
//!   the coordinator that people added at its address, and waits until there is one. A number is given to
//!   one directory for ever, through Raft (`State::claim_coordinator`). The way back for a coordinator that
//!   lost its disk is therefore `howdah coordinator-member replace`: the old number retires, this process
//!   gets a new one.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::watch;
use tonic::Status;

use super::{
    data_dir::{DataDir, DataDirError, Identity, Origin},
    membership_service::{ask_to_join, meet},
};
use crate::{
    config::CoordinatorConfig,
    host::{backoff::Backoff, clock::Clock},
    model::{
        coordinator::Founder,
        ids::{ClusterName, CoordinatorId},
        numbers::Millis,
    },
    wire::raft::{Joined, Joining, Meeting, MeetingAnswer},
};

/// Between two rounds of questions: quick at first, as a new cluster waits for it; later a person does.
const ROUNDS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Between two lines in the log that say the same.
const SAY_AGAIN: Millis = Millis(10_000);

/// What this coordinator is, as far as others may ask.
#[derive(Debug, Clone)]
pub enum Standing {
    /// A founder with an empty directory.
    Fresh {
        /// Its number.
        me: CoordinatorId,
        /// Its directory's.
        directory: u64,
        /// The list it was started with.
        founders: BTreeMap<CoordinatorId, String>,
    },
    /// It has no part yet, and founds nothing.
    Joining,
    /// It is one.
    Member(Box<Identity>),
}

/// Becomes a coordinator, however long that takes; the identity is on disk.
pub async fn admit(
    config: &CoordinatorConfig,
    directory: &DataDir,
    standing: &watch::Sender<Standing>,
) -> Result<Identity, DataDirError> {
    let others: Vec<String>;
    if let Some(me) = config.id {
        let founders: BTreeMap<_, _> = config.peers.iter().cloned().collect();
        others = founders.iter().filter(|(id, _)| **id != me).map(|(_, url)| url.clone()).collect();
        standing.send_replace(Standing::Fresh { me, directory: directory.number(), founders: founders.clone() });
        match found(&config.cluster, me, directory.number(), &founders).await {
            Ok(founders) => return directory.settle(&config.cluster, me, Origin::Founders(founders)),
            Err(reason) => tracing::error!(coordinator = %me, "{reason}; until then this coordinator takes no part"),
        }
    } else {
        others = config.join.clone();
    }
    standing.send_replace(Standing::Joining);
    let url = config.url.clone();
    let joining = Joining { cluster: config.cluster.clone(), url: url.clone(), directory: directory.number() };
    let Joined { id, coordinators } = join(&others, joining).await;
    directory.settle(&config.cluster, id, Origin::Joined { url, coordinators })
}

/// Meets the other founders; an error says why this directory is a stranger's.
async fn found(
    cluster: &ClusterName,
    me: CoordinatorId,
    directory: u64,
    founders: &BTreeMap<CoordinatorId, String>,
) -> Result<BTreeMap<CoordinatorId, Founder>, String> {
    let (mut repeated, mut backoff) = (Repeated::default(), Backoff::new(ROUNDS.0, ROUNDS.1));
    loop {
        let meeting = Meeting { cluster: cluster.clone(), from: me, directory, founders: founders.clone() };
        let others = founders.iter().filter(|(id, _)| **id != me);
        let asked = others.map(|(id, url)| {
            let meeting = meeting.clone();
            async move { (*id, meet(url, meeting).await) }
        });
        let answers = futures_util::future::join_all(asked).await;
        let mut known: BTreeMap<_, _> = [(me, Founder { url: founders[&me].clone(), directory })].into_iter().collect();
        let mut missing = Vec::new();
        for (id, answer) in answers {
            match answer {
                Ok(MeetingAnswer::Founded(founders)) => return Ok(founders),
                Ok(MeetingAnswer::Stranger(reason)) => return Err(reason),
                Ok(MeetingAnswer::Fresh(directory)) => {
                    known.insert(id, Founder { url: founders[&id].clone(), directory });
                }
                Err(status) => missing.push(format!("{id} at {}: {}", founders[&id], status.message())),
            }
        }
        // The first of the list decides for all.
        if missing.is_empty() && founders.keys().next() == Some(&me) {
            tracing::info!(%cluster, coordinators = founders.len(), "all coordinators have met: the cluster is founded");
            return Ok(known);
        }
        if !missing.is_empty() {
            repeated.say(&format!(
                "a new cluster begins once all its coordinators have met; missing: {}",
                missing.join("; ")
            ));
        }
        tokio::time::sleep(backoff.step()).await;
    }
}

/// Asks for a number until there is one.
async fn join(others: &[String], joining: Joining) -> Joined {
    let (mut repeated, mut backoff) = (Repeated::default(), Backoff::new(ROUNDS.0, ROUNDS.1));
    loop {
        let mut refusals = Vec::new();
        for url in others {
            match ask_to_join(url, joining.clone()).await {
                Ok(joined) => {
                    tracing::info!(coordinator = %joined.id, url = joining.url, "joined the cluster");
                    return joined;
                }
                Err(status) => refusals.push(status.message().to_owned()),
            }
        }
        refusals.sort_unstable();
        refusals.dedup();
        repeated.say(&format!("waiting to join cluster {}: {}", joining.cluster, refusals.join("; ")));
        tokio::time::sleep(backoff.step()).await;
    }
}

/// Says a thing when it is new, and from time to time.
struct Repeated {
    clock: Clock,
    said: Option<(String, Millis)>,
}

impl Default for Repeated {
    fn default() -> Self {
        Self { clock: Clock::start(), said: None }
    }
}

impl Repeated {
    fn say(&mut self, text: &str) {
        let now = self.clock.now();
        if self.said.as_ref().is_none_or(|(said, at)| said != text || now.since(*at) >= SAY_AGAIN) {
            tracing::warn!("{text}");
            self.said = Some((text.to_owned(), now));
        }
    }
}

/// What a founder is told.
pub fn answer(standing: &Standing, meeting: &Meeting) -> Result<MeetingAnswer, Status> {
    let who = meeting.from;
    match standing {
        Standing::Fresh { me, directory, founders } => {
            if *founders == meeting.founders && who != *me {
                return Ok(MeetingAnswer::Fresh(*directory));
            }
            Err(Status::invalid_argument(format!(
                "{me} was started with another list of coordinators: give all the same --peers, and each its own --id"
            )))
        }
        Standing::Joining => Err(Status::unavailable("it waits to join a cluster that exists, and founds none")),
        Standing::Member(identity) => {
            let Identity { cluster, coordinator, origin, .. } = &**identity;
            if let Origin::Founders(founders) = origin
                && founders.get(&who).is_some_and(|founder| founder.directory == meeting.directory)
            {
                return Ok(MeetingAnswer::Founded(founders.clone()));
            }
            Ok(MeetingAnswer::Stranger(format!(
                "cluster {cluster} exists, as {coordinator} says, and {who} had another directory there: put that \
                 directory back, or run `howdah coordinator-member replace {}`",
                who.0
            )))
        }
    }
}

#[cfg(test)]
mod tests;
