//! Sessions that wait for a primary, counted and bounded per worker. Called by the pools' checkout.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Counters;
use crate::{
    host::clock::Clock,
    model::{ids::GroupId, numbers::Millis},
    router::core::hold::Load,
};

/// What all workers hold for one group, for metrics.
#[derive(Debug, Default)]
pub struct HoldCounts {
    /// Sessions that wait now.
    pub waiting: AtomicU64,
    /// Bytes that they keep.
    pub bytes: AtomicU64,
    /// Sessions that ever waited.
    pub total: AtomicU64,
    /// Sessions that were not let wait.
    pub refused: AtomicU64,
    /// Milliseconds waited, in all.
    pub waited_ms: AtomicU64,
}

/// What one worker holds.
pub struct Holds {
    all: Cell<Load>,
    groups: RefCell<HashMap<GroupId, (Load, Arc<HoldCounts>)>>,
    counters: Arc<Counters>,
    clock: Clock,
}

/// The bound is reached: the session must not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Holds {
    /// Nothing yet.
    pub fn new(counters: Arc<Counters>, clock: Clock) -> Self {
        Self { all: Cell::default(), groups: RefCell::default(), counters, clock }
    }

    /// A session with so many bytes begins to wait for a group, until the answer is dropped.
    pub fn begin(&self, group: &GroupId, bytes: usize) -> Result<Held<'_>, Full> {
        let mut groups = self.groups.borrow_mut();
        let (load, counts) =
            groups.entry(group.clone()).or_insert_with(|| (Load::default(), self.counters.held(group)));
        if !self.all.get().admits(*load, bytes) {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Full);
        }
        *load = load.plus(bytes);
        self.all.set(self.all.get().plus(bytes));
        counts.waiting.fetch_add(1, Ordering::Relaxed);
        counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        counts.total.fetch_add(1, Ordering::Relaxed);
        Ok(Held { holds: self, group: group.clone(), bytes, since: self.clock.now() })
    }
}

/// A session that waits.
pub struct Held<'a> {
    holds: &'a Holds,
    group: GroupId,
    bytes: usize,
    since: Millis,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let holds = self.holds;
        holds.all.set(holds.all.get().minus(self.bytes));
        let mut groups = holds.groups.borrow_mut();
        let (load, counts) = groups.get_mut(&self.group).expect("it was made when the wait began");
        *load = load.minus(self.bytes);
        counts.waiting.fetch_sub(1, Ordering::Relaxed);
        counts.bytes.fetch_sub(self.bytes as u64, Ordering::Relaxed);
        counts.waited_ms.fetch_add(holds.clock.now().since(self.since).0, Ordering::Relaxed);
        // Groups come and go with the topology; those that nobody waits for are forgotten.
        if *load == Load::default() {
            groups.remove(&self.group);
        }
    }
}
