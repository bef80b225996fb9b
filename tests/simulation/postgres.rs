//! A model of `PostgreSQL`: a log on timelines of which only the flushed part survives a crash, synchronous
//! commit, recovery, promotion, slots. What members' servers say to each other is in `replication`.

use std::collections::{BTreeMap, BTreeSet};

use howdah::{
    agent::core::inputs,
    model::{
        group::Cohort,
        ids::GroupId,
        numbers::{Lsn, Position, Timeline},
        observed::StandbySeen,
    },
};

use super::world::{Event, Sabotage, World};

/// A record is so many bytes: sixteen of them are a lag.
pub const UNIT: u64 = 1 << 20;

/// One record of the log. Ids are never used twice, so two logs are the same history exactly as far as
/// their ids are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub timeline: u32,
    pub id: u64,
    /// The row of `howdah.epoch` it writes.
    pub row: Option<u64>,
}

/// A commit that waits for its acknowledgements.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Records up to its end.
    pub end: usize,
    pub id: u64,
    pub who: Waiter,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiter {
    Agent,
    Client { router: usize, group: GroupId, number: u64 },
}

#[derive(Debug)]
pub enum Running {
    Down {
        crashed: Option<String>,
    },
    /// Replays what it needs to be consistent.
    Starting {
        until: u64,
    },
    Standby,
    Promoting {
        until: u64,
        timeline: u32,
        cohort: Cohort,
    },
    Primary(Primary),
}

/// A primary's memory.
#[derive(Debug, Default)]
pub struct Primary {
    /// What its processes work by; several while a change is on its way through them. `None`:
    /// `ANY 1 (howdah_fenced)`, which nobody is.
    pub effective: Vec<Option<Cohort>>,
    /// WAL senders, by standby.
    pub senders: BTreeMap<usize, Sender>,
    pub waiting: Vec<Commit>,
    /// Agents' rows that have their acknowledgements.
    pub acknowledged: BTreeSet<u64>,
    /// Since when it shuts down.
    pub stopping: Option<u64>,
}

#[derive(Debug)]
pub struct Sender {
    pub flushed: usize,
    pub heard: u64,
    /// The run of the standby's `PostgreSQL`.
    pub run: u64,
}

/// A standby's WAL receiver.
#[derive(Debug)]
pub struct Receiver {
    pub from: usize,
    pub run: u64,
    pub heard: u64,
    /// When it last said how far it is.
    pub said: u64,
}

/// What comes to pass in one run of it.
#[derive(Debug)]
pub enum Happening {
    Started,
    Promoted,
    Flush {
        end: usize,
    },
    Stop,
    /// A receiver that was told to end is gone.
    ReceiverGone,
}

/// What is wrong with its disk.
#[derive(Debug, Default)]
pub struct Trouble {
    pub slow: u64,
    pub hung_until: u64,
    pub full_until: u64,
    /// Replay is slower than the stream.
    pub slow_replay_until: u64,
    /// It was stopped (SIGSTOP) until then; its agent was not.
    pub stopped_until: u64,
}

/// One `PostgreSQL` with its data directory.
#[derive(Debug)]
pub struct Postgres {
    pub system_identifier: Option<u64>,
    pub wal: Vec<Record>,
    /// What survives a crash.
    pub flushed: usize,
    pub replayed: usize,
    /// It answers only once it has replayed so much.
    pub consistent_at: usize,
    /// WAL before this is recycled.
    pub kept_from: usize,
    pub slots: BTreeSet<String>,
    pub run: u64,
    pub running: Running,
    pub upstream: Option<usize>,
    pub receiver: Option<Receiver>,
    pub trouble: Trouble,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            system_identifier: None,
            wal: Vec::new(),
            flushed: 0,
            replayed: 0,
            consistent_at: 0,
            kept_from: 0,
            slots: BTreeSet::new(),
            run: 0,
            running: Running::Down { crashed: None },
            upstream: None,
            receiver: None,
            trouble: Trouble::default(),
        }
    }
}

impl Postgres {
    /// The timeline of the last record before `end`.
    pub fn timeline_at(&self, end: usize) -> u32 {
        end.checked_sub(1).and_then(|last| self.wal.get(last)).map_or(0, |record| record.timeline)
    }

    pub fn position(&self) -> Position {
        let end = self.flushed.max(self.replayed);
        Position { timeline: Timeline(self.timeline_at(end)), lsn: Lsn(end as u64 * UNIT) }
    }

    pub fn is_down(&self) -> bool {
        matches!(self.running, Running::Down { .. })
    }

    pub fn primary(&self) -> Option<&Primary> {
        if let Running::Primary(primary) = &self.running { Some(primary) } else { None }
    }

    pub fn primary_mut(&mut self) -> Option<&mut Primary> {
        if let Running::Primary(primary) = &mut self.running { Some(primary) } else { None }
    }

    /// What stands in its history file: where each timeline was left.
    pub fn history(&self) -> String {
        let switches = self.wal.windows(2).enumerate().filter(|(_, pair)| pair[0].timeline != pair[1].timeline);
        let line = |(end, pair): (usize, &[Record])| {
            format!("{}\t{}\tpromotion\n", pair[0].timeline, Lsn((end + 1) as u64 * UNIT))
        };
        switches.map(line).collect()
    }

    /// Where this history leaves `timeline`: the number of records up to its end.
    fn end_of(&self, timeline: u32) -> Option<usize> {
        let wal = &self.wal[..self.flushed];
        wal.iter().rposition(|record| record.timeline == timeline).map(|last| last + 1)
    }

    /// What the server of `upstream` checks when this standby asks to stream: by timeline and position,
    /// as `PostgreSQL` does, not by content.
    pub fn may_stream_from(&self, upstream: &Self) -> bool {
        upstream.end_of(self.timeline_at(self.flushed)).is_some_and(|end| self.flushed <= end)
            && self.flushed >= upstream.kept_from
    }

    pub fn describe(&self) -> String {
        let running = match &self.running {
            Running::Primary(primary) => format!(
                "primary working by {:?}, {} commits wait, senders {:?}",
                primary.effective,
                primary.waiting.len(),
                primary.senders
            ),
            other => format!("{other:?}"),
        };
        format!(
            "at {} (flushed {} of {}, replayed {}, consistent at {}), upstream {:?}, receiver {:?}, {:?}; {running}",
            self.position(),
            self.flushed,
            self.wal.len(),
            self.replayed,
            self.consistent_at,
            self.upstream,
            self.receiver,
            self.trouble
        )
    }
}

impl World {
    /// The postmaster starts, in recovery as always, with what its settings say.
    pub fn start_postgres(&mut self, member: usize, upstream: Option<usize>) {
        let wait = if self.random.chance(10) { self.random.between(400, 2_500) } else { self.random.between(20, 250) };
        let until = self.now + wait;
        let run = self.id();
        let postgres = &mut self.members[member].postgres;
        postgres.run = run;
        (postgres.upstream, postgres.receiver) = (upstream, None);
        postgres.running = Running::Starting { until };
        self.at(until, Event::Postgres { member, run, what: Happening::Started });
    }

    pub fn postgres_happens(&mut self, member: usize, run: u64, what: Happening) {
        let now = self.now;
        let postgres = &mut self.members[member].postgres;
        if postgres.run != run || postgres.is_down() {
            return;
        }
        if postgres.trouble.stopped_until > now {
            let until = postgres.trouble.stopped_until;
            return self.at(until, Event::Postgres { member, run, what });
        }
        match what {
            Happening::Started if postgres.trouble.full_until > now => self.crash_postgres(member, "no space left"),
            Happening::Started => {
                postgres.replayed = postgres.flushed;
                if postgres.replayed >= postgres.consistent_at {
                    postgres.running = Running::Standby;
                }
                self.after(1, Event::Receive { member, run });
            }
            Happening::Promoted => self.promoted(member),
            Happening::Flush { end } => self.flush(member, run, end),
            Happening::Stop => self.stop_step(member, run),
            Happening::ReceiverGone => postgres.receiver = None,
        }
    }

    fn promoted(&mut self, member: usize) {
        let id = self.id();
        let this = &mut self.members[member];
        let Running::Promoting { timeline, cohort, .. } = &this.postgres.running else { return };
        let (timeline, cohort) = (*timeline, cohort.clone());
        let group = this.memory.group.clone().expect("it was promoted by an order");
        let postgres = &mut this.postgres;
        (postgres.upstream, postgres.receiver) = (None, None);
        postgres.wal.truncate(postgres.flushed);
        postgres.replayed = postgres.flushed;
        postgres.wal.push(Record { timeline, id, row: None });
        // The end of recovery is flushed before anyone is let in.
        postgres.flushed = postgres.wal.len();
        self.checker.promoted(&group, member, timeline);
        let effective = vec![Some(cohort)];
        self.members[member].postgres.running = Running::Primary(Primary { effective, ..Primary::default() });
        self.tell(|| format!("member {member} is promoted on timeline {timeline}"));
    }

    /// How long the disk takes.
    fn disk_wait(&mut self, member: usize) -> u64 {
        let quick = self.random.between(0, 3);
        let trouble = &self.members[member].postgres.trouble;
        trouble.hung_until.saturating_sub(self.now).max(trouble.slow) + quick
    }

    pub fn flush_later(&mut self, member: usize) {
        let wait = self.disk_wait(member);
        let postgres = &self.members[member].postgres;
        let (run, end) = (postgres.run, postgres.wal.len());
        self.after(wait, Event::Postgres { member, run, what: Happening::Flush { end } });
    }

    fn flush(&mut self, member: usize, run: u64, end: usize) {
        let now = self.now;
        let wait = self.members[member].postgres.trouble.hung_until.saturating_sub(now);
        if wait > 0 {
            return self.after(wait, Event::Postgres { member, run, what: Happening::Flush { end } });
        }
        let postgres = &mut self.members[member].postgres;
        postgres.flushed = postgres.flushed.max(end.min(postgres.wal.len()));
        match postgres.running {
            Running::Primary(_) => self.release(member),
            Running::Promoting { .. } => {}
            _ => self.standby_flushed(member),
        }
    }

    /// Writes a record and waits for acknowledgements; `None`: no primary, or it shuts down, or its disk is
    /// full.
    pub fn write(&mut self, member: usize, row: Option<u64>, who: Waiter) -> Option<u64> {
        let (id, now) = (self.id(), self.now);
        let postgres = &mut self.members[member].postgres;
        if postgres.trouble.full_until > now || postgres.primary().is_none_or(|primary| primary.stopping.is_some()) {
            return None;
        }
        let timeline = postgres.timeline_at(postgres.wal.len());
        postgres.wal.push(Record { timeline, id, row });
        let end = postgres.wal.len();
        postgres.primary_mut().expect("seen above").waiting.push(Commit { end, id, who });
        self.flush_later(member);
        Some(id)
    }

    /// Lets go the commits that have their acknowledgements.
    pub fn release(&mut self, member: usize) {
        let alone = self.sabotage == Some(Sabotage::CommitsAlone);
        self.prune_senders(member);
        let postgres = &self.members[member].postgres;
        let flushed = postgres.flushed;
        let Some(primary) = postgres.primary().filter(|primary| primary.stopping.is_none()) else { return };
        let enough = |cohort: &Option<Cohort>, end: usize| {
            let Some(cohort) = cohort else { return false };
            let counts = |(standby, sender): &(&usize, &Sender)| {
                sender.flushed >= end && cohort.standbys.contains(&self.members[**standby].id)
            };
            alone || primary.senders.iter().filter(counts).count() >= cohort.acks as usize
        };
        let done = |commit: &Commit| {
            commit.end <= flushed && primary.effective.iter().any(|cohort| enough(cohort, commit.end))
        };
        if !primary.waiting.iter().any(done) {
            return;
        }
        let (released, waiting) = primary.waiting.iter().cloned().partition::<Vec<_>, _>(done);
        if let Some(primary) = self.members[member].postgres.primary_mut() {
            primary.waiting = waiting;
        }
        for commit in released {
            match commit.who {
                Waiter::Agent => {
                    if let Some(primary) = self.members[member].postgres.primary_mut() {
                        primary.acknowledged.insert(commit.id);
                    }
                }
                Waiter::Client { router, group, number } => {
                    self.tally.commits += 1;
                    self.commit_acknowledged(member, &group, commit.id, commit.end);
                    self.answer(member, router, group, number, super::router::Answer::Committed(commit.id));
                }
            }
        }
    }

    pub fn crash_postgres(&mut self, member: usize, why: &str) {
        if self.members[member].postgres.is_down() {
            return;
        }
        self.end_postgres(member, Some(why.to_owned()));
    }

    /// The run has ended: what was not flushed is lost, or some of it. Clients, senders and receivers notice.
    pub fn end_postgres(&mut self, member: usize, crashed: Option<String>) {
        self.tell(|| format!("PostgreSQL of member {member} ends, crashed: {crashed:?}"));
        let sloppy = self.sabotage == Some(Sabotage::AcknowledgesBeforeFlush);
        let postgres = &mut self.members[member].postgres;
        let lost = postgres.wal.len() - postgres.flushed;
        let kept = if sloppy || crashed.is_none() { 0 } else { self.random.index(lost + 1) };
        // A clean end leaves nothing unflushed; a standby's receiver flushes at its end.
        let kept = if crashed.is_none() && !sloppy { lost } else { kept };
        postgres.wal.truncate(postgres.flushed + kept);
        postgres.flushed = postgres.wal.len();
        postgres.replayed = postgres.replayed.min(postgres.flushed);
        postgres.receiver = None;
        let running = std::mem::replace(&mut postgres.running, Running::Down { crashed: crashed.clone() });
        if let Running::Primary(primary) = running {
            for commit in primary.waiting {
                if let Waiter::Client { router, group, number } = commit.who {
                    self.answer(member, router, group, number, super::router::Answer::Broken);
                }
            }
        }
        self.postmaster_ended(member, crashed);
    }

    /// A clean shutdown: clients go at once, and it waits until every standby that streams has all.
    pub fn stop_postgres(&mut self, member: usize) {
        let now = self.now;
        let postgres = &mut self.members[member].postgres;
        let run = postgres.run;
        let wait = match &mut postgres.running {
            Running::Primary(primary) if primary.stopping.is_none() => {
                primary.stopping = Some(now);
                let waiting = std::mem::take(&mut primary.waiting);
                for commit in waiting {
                    if let Waiter::Client { router, group, number } = commit.who {
                        self.answer(member, router, group, number, super::router::Answer::Broken);
                    }
                }
                5
            }
            Running::Primary(_) | Running::Down { .. } => return,
            _ => 10,
        };
        self.after(wait, Event::Postgres { member, run, what: Happening::Stop });
    }

    fn stop_step(&mut self, member: usize, run: u64) {
        let now = self.now;
        self.prune_senders(member);
        let postgres = &mut self.members[member].postgres;
        let end = postgres.wal.len();
        if let Some(primary) = postgres.primary() {
            let since = primary.stopping.unwrap_or(now);
            let all = primary.senders.values().all(|sender| sender.flushed >= end);
            if now < since + 6_000 && !(all && postgres.flushed >= end) {
                postgres.flushed = if postgres.trouble.hung_until > now { postgres.flushed } else { end };
                return self.after(15, Event::Postgres { member, run, what: Happening::Stop });
            }
        }
        self.end_postgres(member, None);
    }

    /// What the agent sees when it looks now, and how long it looks.
    pub fn look_at_postgres(&mut self, member: usize) -> (inputs::Postgres, u64) {
        let (now, quick) = (self.now, self.random.between(1, 6));
        self.prune_senders(member);
        let postgres = &self.members[member].postgres;
        let hangs = postgres.trouble.stopped_until > now
            || (postgres.primary().is_some() && postgres.trouble.hung_until > now + 500);
        let seen = match &postgres.running {
            Running::Down { crashed } => inputs::Postgres::Down { crashed: crashed.clone() },
            _ if hangs => return (inputs::Postgres::Hung, 1_000),
            Running::Starting { .. } => inputs::Postgres::Starting,
            Running::Standby => inputs::Postgres::Standby(self.seen_standby(member)),
            Running::Promoting { until, timeline, .. } => {
                let mut standby = self.seen_standby(member);
                // The new timeline's first file is there before recovery ends.
                if now + 30 > *until {
                    standby.position.timeline = Timeline(*timeline);
                }
                inputs::Postgres::Standby(standby)
            }
            Running::Primary(primary) => inputs::Postgres::Primary(inputs::Primary {
                position: Position {
                    timeline: Timeline(postgres.timeline_at(postgres.wal.len())),
                    lsn: Lsn(postgres.flushed as u64 * UNIT),
                },
                standbys: primary.senders.iter().map(|(standby, sender)| self.seen_sender(*standby, sender)).collect(),
                slots: postgres.slots.clone(),
                tables: Vec::new(),
                trouble: (postgres.trouble.full_until > now).then(|| "no space left on device".to_owned()),
            }),
        };
        (seen, quick)
    }

    fn seen_sender(&self, standby: usize, sender: &Sender) -> StandbySeen {
        StandbySeen {
            member: self.members[standby].id.clone(),
            streaming: true,
            flushed: Lsn(sender.flushed as u64 * UNIT),
            synchronous: true,
        }
    }

    fn seen_standby(&self, member: usize) -> inputs::Standby {
        let postgres = &self.members[member].postgres;
        let streaming = postgres.receiver.is_some();
        let mut position = postgres.position();
        if let Some(receiver) = &postgres.receiver {
            let theirs = &self.members[receiver.from].postgres;
            position.timeline = position.timeline.max(Timeline(theirs.timeline_at(theirs.flushed)));
        }
        inputs::Standby {
            position,
            replayed: Lsn(postgres.replayed as u64 * UNIT),
            receiver: streaming,
            streaming,
            stream_silence: None,
            upstream: postgres.upstream.map(|upstream| self.members[upstream].id.clone()),
            still: !streaming,
            slots: postgres.slots.clone(),
        }
    }
}
