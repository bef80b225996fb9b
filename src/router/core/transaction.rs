//! [pure] A session's transaction block as the router sees it: whether there is one, whether it has
//! failed, and what a participant that joins late must be told first. Called by the session.

use std::rc::Rc;

use super::settings::Settings;

/// A transaction block. Without one a session is idle or autocommits.
#[derive(Debug, Clone)]
pub struct Block {
    /// The statement that opened it, run by each participant when it joins.
    pub begin: String,
    /// Opened by the router around a query of several statements, not by the client: the client sees
    /// no block, and its end commits.
    pub implicit: bool,
    /// An earlier batch did something in it, and was answered: it cannot be begun anew behind the client's
    /// back.
    pub worked: bool,
    /// A statement failed: everything but the block's end, or a way back to a savepoint, is refused.
    pub failed: bool,
    /// What a late participant must run after `begin`, in order.
    replay: Vec<Replay>,
    /// The session's settings when the block began: a rollback restores them.
    before: Rc<Settings>,
}

#[derive(Debug, Clone)]
enum Replay {
    /// `SET`, `SET LOCAL`, `SET TRANSACTION`, `SET CONSTRAINTS`.
    Statement(String),
    /// A savepoint, and the session's settings when it was set.
    Savepoint { name: String, before: Rc<Settings> },
}

impl Block {
    /// A block opened by `begin`.
    pub fn new(begin: impl Into<String>, implicit: bool, settings: Rc<Settings>) -> Self {
        Self { begin: begin.into(), implicit, failed: false, worked: false, replay: Vec::new(), before: settings }
    }

    /// What `ReadyForQuery` says.
    pub fn status(&self) -> u8 {
        match (self.implicit, self.failed) {
            (true, _) => b'I',
            (false, true) => b'E',
            (false, false) => b'T',
        }
    }

    /// The settings outside the block: those that a participant has when it joins, and that a
    /// rollback restores.
    pub fn before(&self) -> &Rc<Settings> {
        &self.before
    }

    /// A statement that every participant must have run.
    pub fn remember(&mut self, statement: &str) {
        self.replay.push(Replay::Statement(statement.to_owned()));
    }

    /// `SAVEPOINT name`.
    pub fn savepoint(&mut self, name: &str, settings: Rc<Settings>) {
        self.replay.push(Replay::Savepoint { name: name.to_owned(), before: settings });
    }

    /// `RELEASE name`: it and the savepoints after it are forgotten, what they set stays.
    pub fn release(&mut self, name: &str) {
        if let Some(at) = self.find(name) {
            let mut index = 0;
            self.replay.retain(|entry| {
                index += 1;
                index <= at || matches!(entry, Replay::Statement(_))
            });
        }
    }

    /// `ROLLBACK TO name`: what came after it is undone. Returns the settings to go back to.
    pub fn rollback_to(&mut self, name: &str) -> Option<Rc<Settings>> {
        let at = self.find(name)?;
        self.replay.truncate(at + 1);
        self.failed = false;
        match &self.replay[at] {
            Replay::Savepoint { before, .. } => Some(before.clone()),
            Replay::Statement(_) => None,
        }
    }

    /// Is there such a savepoint?
    pub fn has_savepoint(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// A participant was lost: there is no way back to any savepoint.
    pub fn forget_savepoints(&mut self) {
        self.replay.retain(|entry| matches!(entry, Replay::Statement(_)));
    }

    /// What a participant that joins now runs after `begin`, if anything.
    pub fn replay(&self) -> Vec<String> {
        let statement = |entry: &Replay| match entry {
            Replay::Statement(statement) => statement.clone(),
            Replay::Savepoint { name, .. } => format!("SAVEPOINT \"{}\"", name.replace('"', "\"\"")),
        };
        self.replay.iter().map(statement).collect()
    }

    fn find(&self, wanted: &str) -> Option<usize> {
        self.replay.iter().rposition(|entry| matches!(entry, Replay::Savepoint { name, .. } if name == wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_participants_are_told_what_still_counts() {
        let mut block = Block::new("BEGIN", false, Rc::default());
        block.remember("SET LOCAL a = 1");
        block.savepoint("s", Rc::default());
        block.remember("SET LOCAL a = 2");
        block.savepoint("t", Rc::default());
        assert_eq!(block.replay().len(), 4);
        block.release("t");
        assert_eq!(block.replay(), ["SET LOCAL a = 1", "SAVEPOINT \"s\"", "SET LOCAL a = 2"]);
        block.failed = true;
        assert!(block.rollback_to("s").is_some());
        assert_eq!((block.replay().len(), block.status()), (2, b'T'));
        assert!(block.rollback_to("nothing").is_none());
    }

    #[test]
    fn names_shadow_and_release_takes_the_newest() {
        let mut block = Block::new("BEGIN", false, Rc::default());
        block.savepoint("s", Rc::default());
        block.savepoint("s", Rc::default());
        block.release("s");
        assert!(block.has_savepoint("s"));
        block.release("s");
        assert!(!block.has_savepoint("s"));
    }
}
