//! Which statements a server connection has prepared. Statements have numbers, the same on all
//! connections of a worker; the oldest give way, so that a connection's memory in PostgreSQL is bounded.

use std::collections::{BTreeMap, HashMap};

/// Statements kept on one server connection: more than applications have, and PostgreSQL's plan
/// cache stays within some ten MB.
const LIMIT: usize = 400;

/// Number of a statement; its name on the server is [`StatementId::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatementId(pub u64);

impl StatementId {
    /// Its name on every server.
    pub fn name(self) -> String {
        format!("howdah_{:x}", self.0)
    }
}

/// The statements of one connection.
#[derive(Debug, Default)]
pub struct Prepared {
    used: HashMap<StatementId, u64>,
    oldest: BTreeMap<u64, StatementId>,
    tick: u64,
    /// What the unnamed statement is.
    pub unnamed: Option<StatementId>,
}

impl Prepared {
    /// Is it there? If so it counts as used now.
    pub fn touch(&mut self, id: StatementId) -> bool {
        let Some(used) = self.used.get_mut(&id) else { return false };
        self.tick += 1;
        self.oldest.remove(used);
        self.oldest.insert(self.tick, id);
        *used = self.tick;
        true
    }

    /// It is being prepared. Returns one to be closed for it, where there are too many.
    pub fn add(&mut self, id: StatementId) -> Option<StatementId> {
        if self.touch(id) {
            return None;
        }
        self.tick += 1;
        self.used.insert(id, self.tick);
        self.oldest.insert(self.tick, id);
        if self.used.len() <= LIMIT {
            return None;
        }
        let (_, oldest) = self.oldest.pop_first()?;
        self.used.remove(&oldest);
        Some(oldest)
    }

    /// It could not be prepared, or is closed.
    pub fn remove(&mut self, id: StatementId) {
        if let Some(used) = self.used.remove(&id) {
            self.oldest.remove(&used);
        }
        if self.unnamed == Some(id) {
            self.unnamed = None;
        }
    }

    /// All are gone: `DEALLOCATE ALL`, `DISCARD ALL`.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_used_gives_way() {
        let mut prepared = Prepared::default();
        for id in 0..LIMIT as u64 {
            assert_eq!(prepared.add(StatementId(id)), None);
        }
        assert!(prepared.touch(StatementId(0)));
        assert_eq!(prepared.add(StatementId(9_999)), Some(StatementId(1)));
        assert!(prepared.touch(StatementId(0)) && !prepared.touch(StatementId(1)));
    }
}
