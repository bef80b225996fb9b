//! The quick way to a new leader. Raft waits for 0.5 to 1 s of silence, because silence is all it
//! knows; but when a process dies, its kernel breaks the connections at once. A follower whose
//! connection to the leader is broken, and that misses its heartbeats as well, forgets the leader (so
//! that it may vote) and stands for election in its turn. Only time is at stake: a leader that lives
//! keeps its majority's ear and is followed again at its next heartbeat. Called by the driver's loop.

use std::collections::BTreeSet;

use super::Driver;
use crate::model::{ids::CoordinatorId, numbers::Millis};

/// Two heartbeats missed: one may be late.
const MISSED: Millis = Millis(100);
/// Between one follower's candidacy and the next one's: an election between living coordinators takes
/// a round trip and a write on each side, and two candidates at once would split the vote.
const TURN: Millis = Millis(75);

/// What is known of broken connections.
#[derive(Default)]
pub struct Succession {
    /// Peers whose connection broke after we last heard from them.
    broken: BTreeSet<CoordinatorId>,
    /// When to stand for election, unless somebody leads by then.
    candidacy: Option<Millis>,
}

impl Succession {
    /// The connection to a peer broke, or could not be made.
    pub fn broke(&mut self, peer: CoordinatorId) {
        self.broken.insert(peer);
    }

    /// A peer sent something.
    pub fn heard(&mut self, peer: CoordinatorId) {
        self.broken.remove(&peer);
    }
}

impl Driver {
    /// Once a tick.
    pub(super) fn watch_leader(&mut self, now: Millis) {
        let me = self.identity.me;
        let Some(leader) = self.replica.leadership().leader else {
            if self.succession.candidacy.take_if(|at| now >= *at).is_some() {
                self.replica.campaign();
            }
            return;
        };
        self.succession.candidacy = None;
        let heard = self.heard.get(&leader).map_or(Millis(0), |(at, _)| *at);
        if leader != me && self.succession.broken.contains(&leader) && now.since(heard) >= MISSED {
            tracing::info!(%leader, "connection to the leader is broken and its heartbeats are missing");
            self.replica.forget_leader();
            // Everybody forgets within two ticks; then the others stand one after another.
            let before_me = self.identity.coordinators.keys().filter(|id| **id != leader && **id < me).count();
            let turns = u64::try_from(before_me).expect("coordinators are few") + 1;
            self.succession.candidacy = Some(now.plus(Millis(TURN.0 * turns)));
        }
    }
}
