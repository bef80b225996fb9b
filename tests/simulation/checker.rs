//! The independent checker: knows what was acknowledged and by whom, and nothing of how it was decided.

use std::collections::{BTreeMap, BTreeSet};

use super::postgres::Postgres;

#[derive(Default)]
pub struct Checker {
    /// Every acknowledged commit of a client.
    pub acknowledged: BTreeSet<u64>,
    /// Who committed in an epoch.
    committers: BTreeMap<u64, usize>,
    /// Who began a timeline.
    timelines: BTreeMap<u32, usize>,
    promises: BTreeMap<usize, u64>,
}

impl Checker {
    /// A client's commit was acknowledged by `member`; `reigning` is the last primary known to serve.
    pub fn committed(&mut self, id: u64, member: usize, own: &Postgres, reigning: Option<(usize, &Postgres)>) {
        self.acknowledged.insert(id);
        let epoch = own.wal.iter().take_while(|record| record.id != id).filter_map(|record| record.row).last();
        let epoch = epoch.expect("clients commit only where a reign began");
        let first = *self.committers.entry(epoch).or_insert(member);
        assert_eq!(first, member, "two members commit in epoch {epoch}");
        if let Some((other, postgres)) = reigning
            && other != member
        {
            assert!(
                postgres.wal.iter().any(|record| record.id == id),
                "member {member} acknowledged {id} in epoch {epoch} although {other} reigns without it"
            );
        }
    }

    /// A reign is open: it has everything.
    pub fn serves(&self, member: usize, postgres: &Postgres) {
        if let Some(missing) = postgres.has_all(&self.acknowledged) {
            panic!("acknowledged commit {missing} is missing from the reign of member {member}");
        }
    }

    pub fn promoted(&mut self, member: usize, timeline: u32) {
        let before = self.timelines.insert(timeline, member);
        assert!(before.is_none(), "timeline {timeline} of {before:?} is begun again by {member}");
    }

    pub fn promised(&mut self, member: usize, epoch: u64) {
        let before = self.promises.insert(member, epoch).unwrap_or(0);
        assert!(epoch >= before, "member {member} went back from epoch {before} to {epoch}");
    }

    /// A standby streams: what it has is the beginning of what its primary has.
    pub fn streams(standby: usize, own: &Postgres, upstream: &Postgres) {
        let same = upstream.wal.get(own.wal.len() - 1) == own.wal.last();
        assert!(same, "standby {standby} streams from a primary of another history");
    }
}
