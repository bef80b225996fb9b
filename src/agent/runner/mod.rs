//! The agent's one loop.
//!
//! ```text
//! goal, look, exit of the postmaster, end of an action, time
//!     → Inputs → decide → begin the action in its lane → report
//! ```
//!
//! An action that has ended counts only once `PostgreSQL` was looked at after it: decisions and reports
//! never mix what was before with what is now.

mod lane;
mod perform;
mod tell;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::AgentConfig,
    host::clock::Clock,
    model::{
        goal::Goal,
        group::GroupKind,
        numbers::{Epoch, Millis},
        observed::Report,
    },
    wire::agent::CoordinatorSays,
};

use super::{
    core::{
        action::{Action, Decision},
        decide::decide,
        goals,
        inputs::{Data, Inputs, Postgres, Unfinished},
    },
    memory::Store,
    postgres::{ActionError, Life, Observer, Progress, Server},
};
use lane::{Lane, Outcome};
use perform::{Performer, change};

/// Time between reports until a goal says another.
const HEARTBEAT: Millis = Millis(100);

/// Between looks while something is about to happen.
const QUICK: Millis = Millis(10);

/// How long after an event something is taken to be about to happen: longer than a crash recovery or a
/// follow usually takes; then heartbeats do.
const QUICK_FOR: Millis = Millis(3_000);

/// The log's size is looked at this often.
const LOG_EVERY: Millis = Millis(60_000);

/// Room on the disk is looked at this often: at 1 GB/s a disk fills up by a gigabyte meanwhile.
const DISK_EVERY: Millis = Millis(1_000);

/// Turns are a heartbeat apart at most; what is further apart was a pause of the agent's own.
const OWN_PAUSE: Millis = Millis(500);

/// What the loop is connected to.
pub struct Links {
    /// From the coordinator.
    pub orders: mpsc::Receiver<CoordinatorSays>,
    /// When a coordinator last answered.
    pub contact: watch::Receiver<Millis>,
    /// To the coordinator, and to the probes: the newest report.
    pub reports: watch::Sender<Option<Report>>,
    /// The router's process.
    pub router: watch::Receiver<Option<u32>>,
    /// Where the coordinators are, as one of them said.
    pub coordinators: watch::Receiver<Vec<String>>,
}

/// The loop's state.
pub struct Runner {
    config: AgentConfig,
    server: Arc<Server>,
    store: Arc<Mutex<Store>>,
    clock: Clock,
    links: Links,
    inputs: Inputs,
    incarnation: u64,
    sequence: u64,
    exclusive: Lane,
    awaiting: Lane,
    /// An action that has ended, and the look that will show what it did.
    landed: Option<(u64, Action, Result<Outcome, ActionError>)>,
    progress: Progress,
    look_wanted: watch::Sender<(u64, Option<String>)>,
    looks: mpsc::Receiver<(u64, Postgres)>,
    /// The process that received the primary's WAL has exited.
    stream_broke: Arc<Notify>,
    last_decision: Option<Decision>,
    reported_at: Millis,
    quick_until: Millis,
    log_checked: Millis,
    disk_checked: Millis,
}

impl Runner {
    /// Ready to run.
    pub async fn new(
        config: AgentConfig,
        server: Arc<Server>,
        store: Store,
        clock: Clock,
        incarnation: u64,
        links: Links,
    ) -> Result<Self, ActionError> {
        let memory = store.memory().clone();
        let (look_wanted, wanted) = watch::channel((0, None));
        let (sender, looks) = mpsc::channel(1);
        let stream_broke = Arc::new(Notify::new());
        tokio::spawn(observe(Observer::new(server.clone(), clock, stream_broke.clone()), wanted, sender));
        let data = match memory.unfinished {
            Some(unfinished) => Data::Unfinished(unfinished),
            None => server.data().await?,
        };
        let now = clock.now();
        let postgres =
            if server.postmaster().is_some() { Postgres::Starting } else { Postgres::Down { crashed: None } };
        let inputs = Inputs {
            group: memory.group,
            newest_revision: memory.revision,
            promise: memory.promise,
            data,
            postgres,
            disk: server.disk(),
            ..Inputs::new(memory.cluster, memory.member, now)
        };
        Ok(Self {
            config,
            server,
            store: Arc::new(Mutex::new(store)),
            clock,
            links,
            inputs,
            incarnation,
            sequence: 0,
            exclusive: Lane::default(),
            awaiting: Lane::default(),
            landed: None,
            progress: Progress::new(0),
            look_wanted,
            looks,
            stream_broke,
            last_decision: None,
            reported_at: Millis(0),
            quick_until: now.plus(QUICK_FOR),
            log_checked: now,
            disk_checked: now,
        })
    }

    /// Runs until told to stop; then stops `PostgreSQL`. Fails only where it cannot be remembered which group
    /// the directory belongs to.
    pub async fn run(mut self, stop: CancellationToken) -> io::Result<()> {
        let mut life = self.server.life();
        let stream_broke = self.stream_broke.clone();
        self.want_look();
        loop {
            let pause = self.pause().duration();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(said) = self.links.orders.recv() => self.hear(said)?,
                Ok(()) = self.links.coordinators.changed() => self.remember_coordinators(),
                Ok(()) = life.changed() => self.life_changed(&life.borrow_and_update().clone()),
                (action, result) = self.exclusive.ended() => self.land(action, result),
                (action, result) = self.awaiting.ended() => self.apply(&action, result),
                Some((number, seen)) = self.looks.recv() => self.see(number, seen).await,
                () = stream_broke.notified() => {
                    self.quick_until = self.clock.now().plus(QUICK_FOR);
                    self.want_look();
                }
                () = sleep(pause) => { self.want_look(); }
            }
            self.turn();
        }
        self.exclusive.abort();
        self.awaiting.abort();
        if let Err(error) = self.server.stop_fast().await {
            tracing::error!(%error, "PostgreSQL could not be stopped");
        }
        Ok(())
    }

    fn pause(&self) -> Millis {
        if self.clock.now() < self.quick_until { QUICK } else { self.heartbeat() }
    }

    fn heartbeat(&self) -> Millis {
        self.inputs.goal.as_ref().map_or(HEARTBEAT, |goal| goal.settings.heartbeat)
    }

    /// Asks for a look that begins after now; gives its number.
    fn want_look(&self) -> u64 {
        let made = |goal: &&Goal| goal.kind == GroupKind::Query && self.inputs.objects >= goal.epoch;
        let catalog = self.inputs.goal.as_ref().filter(made);
        let catalog = catalog.map(|goal| goal.settings.database.clone());
        let number = self.look_wanted.borrow().0 + 1;
        self.look_wanted.send_replace((number, catalog));
        number
    }

    fn hear(&mut self, said: CoordinatorSays) -> io::Result<()> {
        let CoordinatorSays::Goal(goal) = said else { return Ok(()) };
        if let Err(refusal) = goals::check(&self.inputs, &goal) {
            tracing::warn!(%refusal, "goal refused");
            return Ok(());
        }
        self.obey(*goal)
    }

    fn remember_coordinators(&mut self) {
        let newest = self.links.coordinators.borrow_and_update().clone();
        tracing::info!(coordinators = newest.join(","), "the coordinators have changed");
        // No promise hangs on it: the next change writes it again.
        if let Err(error) = change(&self.store, |memory| memory.coordinators = newest) {
            tracing::warn!(%error, "where the coordinators are could not be written to agent.json");
        }
    }

    fn obey(&mut self, goal: Goal) -> io::Result<()> {
        let group = goal.group.clone();
        if self.inputs.group.is_none() {
            change(&self.store, |memory| memory.group = Some(group))?;
        }
        let news = self.inputs.obey(goal);
        let Some(goal) = &self.inputs.goal else { return Ok(()) };
        if news.order {
            tracing::info!(group = %goal.group, epoch = %goal.epoch, revision = %goal.revision, order = ?goal.order, "new goal");
            self.quick_until = self.clock.now().plus(QUICK_FOR);
        }
        if news.members
            && self.server.postmaster().is_some()
            && let Err(error) = self.server.refresh_access(goal)
        {
            tracing::error!(%error, "access rules could not be written");
        }
        Ok(())
    }

    fn life_changed(&mut self, life: &Life) {
        let now = self.clock.now();
        self.quick_until = now.plus(QUICK_FOR);
        match life {
            Life::Alive { .. } => self.inputs.postmaster_started(now),
            Life::Down { crashed } => {
                if let Some(reason) = crashed {
                    tracing::error!(%reason, "PostgreSQL ended");
                }
                self.inputs.postmaster_ended(crashed.clone(), now);
            }
        }
        self.want_look();
    }

    /// An exclusive action has ended; it counts from the next look on.
    fn land(&mut self, action: Action, result: Result<Outcome, ActionError>) {
        self.quick_until = self.clock.now().plus(QUICK_FOR);
        self.landed = Some((self.want_look(), action, result));
    }

    async fn see(&mut self, number: u64, seen: Postgres) {
        let landed = self.landed.take_if(|(wanted, ..)| number >= *wanted);
        let promoting = matches!(self.exclusive.action(), Some(Action::Promote { .. }));
        self.inputs.see(seen, promoting, self.server.postmaster().is_some(), self.clock.now());
        if let Some((_, action, result)) = landed {
            self.apply(&action, result);
            self.refresh_data().await;
        }
    }

    /// What an action has changed, as far as no look shows it.
    fn apply(&mut self, action: &Action, result: Result<Outcome, ActionError>) {
        let now = self.clock.now();
        match result {
            Ok(outcome) => {
                tracing::info!(%action, "done");
                let in_force = matches!(outcome, Outcome::Promoted { in_force: true });
                let answer = if let Outcome::Ancestry(ancestry) = outcome { Some(ancestry) } else { None };
                self.inputs.done(action, answer, now);
                if let (Action::Promote { cohort, .. }, true) = (action, in_force) {
                    self.inputs.done(&Action::ApplyCohort(cohort.clone()), None, now);
                }
            }
            Err(error) => {
                tracing::warn!(%action, %error, "failed");
                self.inputs.failed(action.clone(), error.to_string(), now);
            }
        }
    }

    /// What is on disk now; asked again only where an action may have changed it.
    async fn refresh_data(&mut self) {
        self.inputs.data = match (self.unfinished(), self.inputs.data) {
            (Some(unfinished), _) => Data::Unfinished(unfinished),
            (None, Data::Ready { system_identifier }) => Data::Ready { system_identifier },
            (None, _) => match self.server.data().await {
                Ok(data) => data,
                Err(error) => {
                    tracing::error!(%error, "the data directory cannot be read");
                    Data::Unfinished(Unfinished::Rewinding)
                }
            },
        };
        if let Data::Ready { system_identifier } = self.inputs.data
            && let Err(error) = change(&self.store, |memory| memory.system_identifier = Some(system_identifier))
        {
            tracing::error!(%error, "the system identifier could not be remembered");
        }
    }

    fn unfinished(&self) -> Option<Unfinished> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).memory().unfinished
    }

    /// Decides and acts until nothing more can begin, then reports.
    fn turn(&mut self) {
        let now = self.clock.now();
        if now.since(self.inputs.now) > OWN_PAUSE {
            tracing::warn!(pause_ms = now.since(self.inputs.now).0, "this agent was paused");
            self.inputs.awake_since = now;
        }
        loop {
            self.inputs.now = self.clock.now();
            self.inputs.coordinator_seen = *self.links.contact.borrow();
            let landed = self.landed.as_ref().map(|(_, action, _)| action.clone());
            self.inputs.under_way = self.exclusive.action().cloned().or(landed);
            self.inputs.awaiting = self.awaiting.action().cloned();
            let decision = decide(&self.inputs);
            let action = decision.action.clone();
            self.remember(decision);
            match action {
                None => break,
                Some(Action::Promise(epoch)) => self.promise(epoch),
                // What has landed cannot be given up: it counts at the next look.
                Some(Action::Abort) if self.landed.is_some() => break,
                Some(Action::Abort) => {
                    self.exclusive.abort();
                    if let Some(unfinished) = self.unfinished() {
                        self.inputs.data = Data::Unfinished(unfinished);
                    }
                }
                Some(action) => self.begin(action),
            }
        }
        self.keep_house();
        self.report();
    }

    /// What is looked after now and then.
    fn keep_house(&mut self) {
        if self.inputs.now.since(self.disk_checked) >= DISK_EVERY {
            self.disk_checked = self.inputs.now;
            self.inputs.disk = self.server.disk();
        }
        if self.inputs.now.since(self.log_checked) > LOG_EVERY {
            self.log_checked = self.inputs.now;
            if let Err(error) = self.server.bound_log() {
                tracing::warn!(%error, "PostgreSQL's log could not be moved aside");
            }
        }
    }

    /// Durable before anything is said or done for the epoch. Where it cannot be, nothing is: it is tried again.
    fn promise(&mut self, epoch: Epoch) {
        if let Err(error) = change(&self.store, |memory| memory.promise = epoch) {
            return self.unwritten(Action::Promise(epoch), &error);
        }
        self.inputs.promise = epoch;
        // What still waits for acknowledgements of an older epoch waits for nothing that counts.
        self.awaiting.abort();
    }

    fn begin(&mut self, action: Action) {
        // The first cohort of an epoch, which a promotion sets, has none before it that could come back.
        if let Action::ApplyCohort(_) = action {
            let newest = self.inputs.newest_revision;
            if let Err(error) = change(&self.store, |memory| memory.revision = newest) {
                return self.unwritten(action, &error);
            }
        }
        let lane = if action.awaits_standbys() { &mut self.awaiting } else { &mut self.exclusive };
        tracing::info!(%action, "begun");
        let performer = Performer::new(&self.inputs, self.server.clone(), self.store.clone(), self.progress.clone());
        lane.begin(action.clone(), performer.perform(action));
    }

    /// The agent's memory cannot be written: what depends on it is not done.
    fn unwritten(&mut self, action: Action, error: &io::Error) {
        tracing::error!(%action, %error, "agent.json cannot be written");
        self.inputs.failed(action, format!("writing agent.json: {error}"), self.clock.now());
    }
}

/// Looks whenever that is wanted; one look at a time, always the newest wish.
async fn observe(
    mut observer: Observer,
    mut wanted: watch::Receiver<(u64, Option<String>)>,
    looks: mpsc::Sender<(u64, Postgres)>,
) {
    while wanted.changed().await.is_ok() {
        let (number, catalog) = wanted.borrow_and_update().clone();
        let seen = observer.look(catalog.as_deref()).await;
        if looks.send((number, seen)).await.is_err() {
            return;
        }
        // A breath between looks, so that a burst of wishes does not make a busy loop.
        sleep(Duration::from_millis(1)).await;
    }
}
