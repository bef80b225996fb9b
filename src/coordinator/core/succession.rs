//! The quick way to a new leader. Raft waits for 0.5 to 1 s of silence, because silence is all it
//! knows; but when a process dies, its kernel breaks the connections at once. A follower whose
//! connection to the leader is broken, and that misses its heartbeats as well, forgets the leader (so
//! that it may vote) and stands for election in its turn. Only time is at stake: a leader that lives
//! keeps its majority's ear and is followed again at its next heartbeat. Called by the driver's loop.

use std::collections::BTreeSet;

use crate::model::{ids::CoordinatorId, numbers::Millis};

/// Two heartbeats missed: one may be late.
const MISSED: Millis = Millis(100);
/// Between one follower's candidacy and the next one's: an election between living coordinators takes
/// a round trip and a write on each side, and two candidates at once would split the vote.
const TURN: Millis = Millis(75);

/// What a coordinator is to do about its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Stay,
    /// The leader is believed dead: `Replica::forget_leader`.
    Forget,
    /// It is our turn: `Replica::campaign`.
    Stand,
}

/// What is known of broken connections.
#[derive(Debug, Default)]
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

    /// Once a tick: `leader` was last heard of at `heard`.
    pub fn look<'a>(
        &mut self,
        me: CoordinatorId,
        coordinators: impl Iterator<Item = &'a CoordinatorId>,
        leader: Option<CoordinatorId>,
        heard: Millis,
        now: Millis,
    ) -> Verdict {
        let Some(leader) = leader else {
            let due = self.candidacy.take_if(|at| now >= *at).is_some();
            return if due { Verdict::Stand } else { Verdict::Stay };
        };
        self.candidacy = None;
        if leader == me || !self.broken.contains(&leader) || now.since(heard) < MISSED {
            return Verdict::Stay;
        }
        // Everybody forgets within two ticks; then the others stand one after another.
        let before_me = coordinators.filter(|id| **id != leader && **id < me).count();
        let turns = u64::try_from(before_me).expect("coordinators are few") + 1;
        self.candidacy = Some(now.plus(Millis(TURN.0 * turns)));
        Verdict::Forget
    }
}
