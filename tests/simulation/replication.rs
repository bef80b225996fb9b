//! Streaming between the members' servers: a standby's receiver takes what its upstream has flushed, writes,
//! flushes and says so; the upstream counts it.

use super::{
    checker::Checker,
    network::Node,
    postgres::{Happening, Receiver, Running, Sender},
    world::{Event, World},
};

/// `wal_receiver_timeout` and `wal_sender_timeout`.
const TIMEOUT: u64 = 5_000;
/// `wal_retrieve_retry_interval`.
const RETRY: u64 = 100;
/// A standby with nothing new says where it is this often.
const STATUS: u64 = 500;

impl World {
    /// One turn of a standby's receiver, and of its replay.
    pub fn receive(&mut self, member: usize, run: u64) {
        let now = self.now;
        let postgres = &self.members[member].postgres;
        if postgres.run != run || !matches!(postgres.running, Running::Standby | Running::Starting { .. }) {
            return;
        }
        let stopped = postgres.trouble.stopped_until.max(postgres.trouble.full_until);
        if stopped > now {
            return self.at(stopped, Event::Receive { member, run });
        }
        self.replay(member);
        let postgres = &self.members[member].postgres;
        let wait = match (postgres.upstream, &postgres.receiver) {
            (None, None) => return self.after(RETRY, Event::Receive { member, run }),
            (Some(upstream), None) => self.connect(member, upstream),
            (_, Some(_)) => self.stream(member),
        };
        self.after(wait, Event::Receive { member, run });
    }

    fn replay(&mut self, member: usize) {
        let slow = self.members[member].postgres.trouble.slow_replay_until > self.now;
        let most = if slow { self.random.index(2) } else { usize::MAX };
        let postgres = &mut self.members[member].postgres;
        postgres.replayed = postgres.flushed.min(postgres.replayed.saturating_add(most));
        if matches!(postgres.running, Running::Starting { until } if until <= self.now)
            && postgres.replayed >= postgres.consistent_at
        {
            postgres.running = Running::Standby;
        }
    }

    /// The receiver's server listens and answers.
    fn answers(&self, member: usize, upstream: usize) -> bool {
        let (machine, postgres) = (&self.members[upstream].machine, &self.members[upstream].postgres);
        let up = matches!(postgres.running, Running::Standby | Running::Primary(_) | Running::Promoting { .. });
        let runs = !machine.is_frozen(self.now) && postgres.trouble.stopped_until <= self.now;
        up && runs && self.data_link(member, upstream)
    }

    fn connect(&mut self, member: usize, upstream: usize) -> u64 {
        let now = self.now;
        let slot = howdah::agent::core::settings::slot_name(&self.members[member].id);
        let (own, theirs) = (&self.members[member].postgres, &self.members[upstream].postgres);
        if upstream == member
            || !self.answers(member, upstream)
            || !theirs.slots.contains(&slot)
            || !own.may_stream_from(theirs)
        {
            return RETRY;
        }
        let receiver = Receiver { from: upstream, run: theirs.run, heard: now, said: 0 };
        self.members[member].postgres.receiver = Some(receiver);
        self.random.between(2, 30)
    }

    fn stream(&mut self, member: usize) -> u64 {
        let now = self.now;
        let Some(Receiver { from, run, heard, said }) = self.members[member].postgres.receiver else { return RETRY };
        let theirs = &self.members[from].postgres;
        let ended = theirs.run != run || theirs.is_down();
        if ended && self.data_link(member, from) && !self.members[from].machine.is_frozen(now) {
            // Its kernel says so.
            self.members[member].postgres.receiver = None;
            return RETRY;
        }
        if !self.answers(member, from) {
            if heard + TIMEOUT < now {
                self.members[member].postgres.receiver = None;
            }
            return 20;
        }
        let (own, theirs) = (&self.members[member].postgres, &self.members[from].postgres);
        let have = own.wal.len();
        let fits = theirs.wal.get(own.flushed.wrapping_sub(1)).map(|record| record.timeline)
            == own.wal.get(own.flushed.wrapping_sub(1)).map(|record| record.timeline);
        if !fits || have < theirs.kept_from || have > theirs.flushed {
            self.members[member].postgres.receiver = None;
            return RETRY;
        }
        Checker::streams(member, own, theirs);
        let most = self.random.index(30);
        let end = theirs.flushed.min(have + most);
        let news = theirs.wal[have..end].to_vec();
        let postgres = &mut self.members[member].postgres;
        if let Some(receiver) = &mut postgres.receiver {
            receiver.heard = now;
        }
        if !news.is_empty() {
            postgres.wal.extend(news);
            self.flush_later(member);
        } else if said + STATUS < now {
            let flushed = self.members[member].postgres.flushed;
            self.say_flushed(member, flushed);
        }
        self.random.between(3, 20)
    }

    /// More of a standby's log is durable.
    pub fn standby_flushed(&mut self, member: usize) {
        let flushed = self.members[member].postgres.flushed;
        self.say_flushed(member, flushed);
    }

    fn say_flushed(&mut self, member: usize, flushed: usize) {
        let (now, delay) = (self.now, self.random.delay());
        let Some(receiver) = &mut self.members[member].postgres.receiver else { return };
        receiver.said = now;
        let (primary, run) = (receiver.from, receiver.run);
        self.after(delay, Event::Flushed { primary, run, standby: member, flushed });
    }

    /// A standby's word has come to its primary's WAL sender.
    pub fn acknowledge(&mut self, primary: usize, run: u64, standby: usize, flushed: usize) {
        let now = self.now;
        let standbys_run = self.members[standby].postgres.run;
        if !self.network.passes(Node::Member(standby), Node::Member(primary), now) {
            return;
        }
        let postgres = &mut self.members[primary].postgres;
        if postgres.run != run {
            return;
        }
        let Some(this) = postgres.primary_mut() else { return };
        let sender = this.senders.entry(standby).or_insert(Sender { flushed, heard: now, run: standbys_run });
        if sender.run != standbys_run {
            *sender = Sender { flushed, heard: now, run: standbys_run };
        }
        sender.flushed = sender.flushed.max(flushed);
        sender.heard = now;
        self.release(primary);
    }

    /// Senders whose standby has hung up, or is silent for too long, are no more.
    pub fn prune_senders(&mut self, member: usize) {
        let now = self.now;
        let Some(primary) = self.members[member].postgres.primary() else { return };
        let gone: Vec<_> = primary
            .senders
            .iter()
            .filter(|(standby, sender)| {
                let there = &self.members[**standby];
                let receives = there.postgres.run == sender.run
                    && there.postgres.receiver.as_ref().is_some_and(|receiver| receiver.from == member);
                let told = !receives && self.data_link(member, **standby) && !there.machine.is_frozen(now);
                told || sender.heard + TIMEOUT < now
            })
            .map(|(standby, _)| *standby)
            .collect();
        if let Some(primary) = self.members[member].postgres.primary_mut() {
            primary.senders.retain(|standby, _| !gone.contains(standby));
        }
    }

    /// The receiver is told to end; what it received stays.
    pub fn end_receiver(&mut self, member: usize) {
        let wait = self.random.between(1, 25);
        let postgres = &mut self.members[member].postgres;
        postgres.upstream = None;
        let run = postgres.run;
        self.after(wait, Event::Postgres { member, run, what: Happening::ReceiverGone });
    }
}
