//! A small `PostgreSQL`: logs on timelines, synchronous commit, crash. The log is durable, all else is
//! lost with the postmaster.

use std::collections::BTreeMap;

use howdah::model::group::Cohort;

use super::{
    hashed::Hashed,
    system::System,
    world::{Data, Office, Postgres, Record, Sender, What, Who, World},
};

impl Office {
    pub fn new(cohort: Hashed<Cohort>) -> Self {
        Self { effective: vec![cohort], senders: BTreeMap::new(), sessions: false, waiting: None, row: None }
    }

    /// What is written up to `end` counts as committed: by any cohort that some process may still use.
    fn releases(&self, end: usize) -> bool {
        self.effective.iter().any(|cohort| {
            let flushed = |standby: &&Who| self.senders[standby].flushed >= end;
            let counted = self.senders.keys().filter(|standby| cohort.standbys.contains(&super::world::id(**standby)));
            counted.filter(flushed).count() >= cohort.acks as usize
        })
    }
}

impl System {
    /// A record at the end of a primary's log, whose writer waits for its acknowledgements.
    pub fn write(world: &mut World, me: Who, what: What) {
        let timeline = world.members[me].timeline();
        let end = world.members[me].wal.len() + 1;
        let Some(office) = world.members[me].office() else {
            return;
        };
        match what {
            What::Row(epoch) => office.row = Some((end, epoch)),
            What::Write | What::Begun => office.waiting = Some(end),
        }
        world.members[me].wal.push(Record { timeline, writer: me, what });
        Self::release(world, me);
    }

    /// Tells those who wait what has its acknowledgements now.
    pub fn release(world: &mut World, me: Who) {
        let Some(office) = world.members[me].office() else {
            return;
        };
        let office = office.clone();
        if let Some(end) = office.waiting.filter(|end| office.releases(*end)) {
            world.ledger.committed(me, &world.members[me].wal[..end]);
            world.members[me].office().expect("as above").waiting = None;
        }
        if let Some((_, epoch)) = office.row.filter(|(end, _)| office.releases(*end)) {
            let member = &mut world.members[me];
            member.office().expect("as above").row = None;
            if member.awaiting.take_if(|awaited| *awaited == epoch).is_some() {
                member.acknowledged = epoch;
            }
        }
    }

    /// What the server of `upstream` checks when this standby asks to stream: timeline and position, not
    /// contents.
    pub fn may_stream(world: &World, me: Who, upstream: Who) -> bool {
        let (own, source) = (&world.members[me], &world.members[upstream]);
        matches!(source.postgres, Postgres::Primary(_))
            && source.end_of(own.timeline()).is_some_and(|end| own.wal.len() <= end)
    }

    /// A standby receives and flushes all there is; its acknowledgement arrives, or is under way.
    pub fn stream(world: &mut World, me: Who, acknowledged: bool) -> bool {
        let Postgres::Standby { upstream: Some(from), .. } = world.members[me].postgres else {
            return false;
        };
        if !Self::may_stream(world, me, from) {
            return false;
        }
        let wal = world.members[from].wal.clone();
        world.ledger.streams(&world.members[me].wal, &wal);
        let end = wal.len();
        world.members[me].wal = wal;
        world.members[me].postgres = Postgres::Standby { upstream: Some(from), streaming: true };
        let sender = world.members[from].office().expect("may_stream() saw it").senders.entry(me).or_default();
        (sender.connected, sender.under_way) = (true, end);
        if acknowledged {
            Self::acknowledge(world, from, me);
        }
        true
    }

    /// A standby's word arrives at its primary.
    pub fn acknowledge(world: &mut World, primary: Who, standby: Who) {
        let Some(office) = world.members[primary].office() else {
            return;
        };
        let Some(sender) = office.senders.get_mut(&standby) else {
            return;
        };
        sender.flushed = sender.under_way;
        let connected = sender.connected;
        Self::release(world, primary);
        if let Some(office) = world.members[primary].office().filter(|_| !connected) {
            office.senders.remove(&standby);
        }
    }

    /// A standby's receiver ends. What it has said before may still arrive.
    pub fn disconnect(world: &mut World, me: Who) {
        let Postgres::Standby { upstream: Some(from), streaming: true } = world.members[me].postgres else {
            return;
        };
        world.members[me].postgres = Postgres::Standby { upstream: Some(from), streaming: false };
        let Some(office) = world.members[from].office() else {
            return;
        };
        let all_said = office.senders.get(&me).is_none_or(|sender| sender.flushed == sender.under_way);
        if all_said {
            office.senders.remove(&me);
        } else {
            office.senders.entry(me).and_modify(|sender| *sender = Sender { connected: false, ..*sender });
        }
    }

    /// Points a `PostgreSQL` in recovery at a primary, or at nobody.
    pub fn point(world: &mut World, me: Who, upstream: Option<Who>) {
        Self::disconnect(world, me);
        world.members[me].postgres = Postgres::Standby { upstream, streaming: false };
    }

    /// The postmaster ends, and with it what only its processes knew.
    pub fn stop(world: &mut World, me: Who, crashed: bool) {
        Self::disconnect(world, me);
        if let Postgres::Primary(_) = world.members[me].postgres {
            for other in 0..world.members.len() {
                if let Postgres::Standby { upstream: Some(from), streaming } = &mut world.members[other].postgres
                    && *from == me
                {
                    *streaming = false;
                }
            }
        }
        let member = &mut world.members[me];
        member.postgres = Postgres::Down { crashed };
        (member.applied, member.cut, member.awaiting) = (None, None, None);
    }

    /// As `stop`, without anyone having asked for it: what was under way on it fails.
    pub fn crash(world: &mut World, me: Who) {
        Self::stop(world, me, true);
        let member = &mut world.members[me];
        if !matches!(member.data, Data::Cloning | Data::Rewinding) {
            member.under_way = None;
        }
    }
}
