//! How proposals and snapshots are written: JSON with a format number, so that a later version can read
//! what an earlier one wrote, and an earlier one refuses what it does not understand instead of guessing.
//! Called by whoever proposes and applies: the driver, or a simulation.

use serde::{Deserialize, Serialize};

use super::{command::Proposal, state::State};

/// The format that is written. 0 is what was written before formats were numbered: the same entries, and
/// snapshots that are the bare state.
pub const FORMAT: u32 = 1;

/// What an entry of the log contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Always the first thing that is looked at.
    #[serde(default)]
    format: u32,
    /// The process that proposed it, and its number there: where the answer goes.
    pub origin: u64,
    /// See `origin`.
    pub number: u64,
    /// What was proposed.
    pub proposal: Proposal,
}

/// Why bytes of the log mean nothing to this version.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Says so itself.
    #[error("it has format {found}, this version reads formats up to {FORMAT}")]
    Newer {
        /// What it says.
        found: u32,
    },
    /// Something in it is unknown here.
    #[error(transparent)]
    Unreadable(#[from] serde_json::Error),
}

/// What all formats have in common.
#[derive(Deserialize)]
struct Probe {
    #[serde(default)]
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct Snapshot<S> {
    format: u32,
    state: S,
}

impl Entry {
    /// An entry of today's format.
    pub fn new(origin: u64, number: u64, proposal: Proposal) -> Self {
        Self { format: FORMAT, origin, number, proposal }
    }

    /// As the log keeps it.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a proposal has text keys and no failing parts")
    }

    /// Out of the log.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        check(bytes)?;
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// A snapshot of the state.
pub fn encode_state(state: &State) -> Vec<u8> {
    let snapshot = Snapshot { format: FORMAT, state };
    serde_json::to_vec(&snapshot).expect("the state has text keys and no failing parts")
}

/// The state out of a snapshot.
pub fn decode_state(bytes: &[u8]) -> Result<State, FormatError> {
    if check(bytes)? == 0 {
        return Ok(serde_json::from_slice(bytes)?);
    }
    Ok(serde_json::from_slice::<Snapshot<State>>(bytes)?.state)
}

fn check(bytes: &[u8]) -> Result<u32, FormatError> {
    let Probe { format } = serde_json::from_slice(bytes)?;
    if format > FORMAT { Err(FormatError::Newer { found: format }) } else { Ok(format) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        coordinator::core::command::Command,
        model::{ids::GroupId, numbers::Revision, policy::Policy},
    };

    fn entry() -> Entry {
        let group: GroupId = "query".parse().expect("a name");
        let based_on = Some((group.clone(), Revision(3)));
        let command = Command::CancelDrain { group };
        Entry::new(7, 8, Proposal { command, reason: "because".into(), time_ms: 9, based_on })
    }

    #[test]
    fn what_is_written_is_read() {
        let entry = entry();
        assert_eq!(Entry::decode(&entry.encode()).expect("ours"), entry);
        let state = State { policy: Policy { shards: 5, ..Policy::default() }, ..State::default() };
        assert_eq!(decode_state(&encode_state(&state)).expect("ours"), state);
    }

    #[test]
    fn the_first_version_s_log_is_read() {
        let text = r#"{"origin":7,"number":8,"proposal":{"command":{"CancelDrain":{"group":"query"}},
            "reason":"because","time_ms":9,"based_on":["query",3]}}"#;
        let read = Entry::decode(text.as_bytes()).expect("the first version wrote it");
        assert_eq!((read.origin, read.number, read.proposal), (7, 8, entry().proposal));
        let bare = serde_json::to_value(State::default()).expect("a state");
        let mut bare = bare.as_object().cloned().expect("an object");
        bare.remove("coordinators");
        bare.remove("last_coordinator");
        let bytes = serde_json::to_vec(&bare).expect("JSON");
        assert_eq!(decode_state(&bytes).expect("the first version wrote it"), State::default());
    }

    #[test]
    fn a_later_version_s_log_is_refused() {
        let later = br#"{"format":2,"whatever":true}"#;
        assert!(matches!(Entry::decode(later), Err(FormatError::Newer { found: 2 })));
        assert!(matches!(decode_state(later), Err(FormatError::Newer { found: 2 })));
        let unknown =
            br#"{"format":1,"origin":1,"number":1,"proposal":{"command":{"Sing":{}},"reason":"","time_ms":0}}"#;
        assert!(matches!(Entry::decode(unknown), Err(FormatError::Unreadable(_))));
        assert!(matches!(decode_state(b"{}}"), Err(FormatError::Unreadable(_))));
    }
}
