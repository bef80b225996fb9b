//! Who reaches whom. A cut has a direction: a message may pass where its answer does not.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Coordinator(usize),
    Member(usize),
    Router(usize),
}

#[derive(Default)]
pub struct Network {
    /// Cut until then.
    cuts: BTreeMap<(Node, Node), u64>,
}

impl Network {
    pub fn passes(&self, from: Node, to: Node, now: u64) -> bool {
        self.cuts.get(&(from, to)).is_none_or(|until| *until <= now)
    }

    pub fn both_ways(&self, a: Node, b: Node, now: u64) -> bool {
        self.passes(a, b, now) && self.passes(b, a, now)
    }

    pub fn cut(&mut self, from: Node, to: Node, until: u64) {
        self.cuts.insert((from, to), until);
    }

    pub fn mend(&mut self) {
        self.cuts.clear();
    }
}
