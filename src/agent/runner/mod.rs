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

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
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
    coordinator_client::Contact,
    core::{
        action::{Action, Decision},
        decide::decide,
        goals,
        inputs::{Data, Inputs, Postgres, Unfinished},
        report,
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

/// What the loop is connected to.
pub struct Links {
    /// From the coordinator.
    pub orders: mpsc::Receiver<CoordinatorSays>,
    /// When coordinators last answered.
    pub contact: watch::Receiver<Contact>,
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
    last_decision: Option<Decision>,
    reported_at: Millis,
    quick_until: Millis,
    log_checked: Millis,
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
        tokio::spawn(observe(Observer::new(server.clone(), clock), wanted, sender));
        let data = match memory.unfinished {
            Some(unfinished) => Data::Unfinished(unfinished),
            None => server.data().await?,
        };
        let now = clock.now();
        let postgres =
            if server.postmaster().is_some() { Postgres::Starting } else { Postgres::Down { crashed: None } };
        let inputs = Inputs {
            birth: memory.birth,
            storage: config.storage,
            group: memory.group,
            joined: memory.joined,
            newest_revision: memory.revision,
            promise: memory.promise,
            data,
            postgres,
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
            last_decision: None,
            reported_at: Millis(0),
            quick_until: now.plus(QUICK_FOR),
            log_checked: now,
        })
    }

    /// Runs until told to stop; then stops `PostgreSQL`. Fails only where a promise cannot be kept on disk.
    pub async fn run(mut self, stop: CancellationToken) -> io::Result<()> {
        let mut life = self.server.life();
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
                () = sleep(pause) => { self.want_look(); }
            }
            self.turn()?;
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
        let goal = match said {
            CoordinatorSays::Goal(goal) => goal,
            CoordinatorSays::Idle { free_since: Some(since) } if goals::released(&self.inputs, since) => {
                if self.inputs.let_go(since) {
                    tracing::warn!(group = ?self.inputs.group, %since, "its group has let go of this container");
                    self.quick_until = self.clock.now().plus(QUICK_FOR);
                }
                return Ok(());
            }
            CoordinatorSays::Idle { .. } | CoordinatorSays::NotLeader(_) | CoordinatorSays::Alive => return Ok(()),
        };
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
        let (group, joined) = (goal.group.clone(), goal.joined);
        if self.inputs.group.is_none() || self.inputs.joined != joined {
            change(&self.store, |memory| (memory.group, memory.joined) = (Some(group), joined))?;
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
        self.quick_until = self.clock.now().plus(QUICK_FOR);
        if let Life::Down { crashed } = life {
            if let Some(reason) = crashed {
                tracing::error!(%reason, "PostgreSQL ended");
            }
            self.inputs.postmaster_ended(crashed.clone());
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
                let answer = if let Outcome::Ancestry(ancestry) = outcome { Some(ancestry) } else { None };
                self.inputs.done(action, answer, now);
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
    fn turn(&mut self) -> io::Result<()> {
        loop {
            self.inputs.now = self.clock.now();
            let contact = *self.links.contact.borrow();
            (self.inputs.coordinator_seen, self.inputs.leader_seen) = (contact.any, contact.leader);
            let landed = self.landed.as_ref().map(|(_, action, _)| action.clone());
            self.inputs.under_way = self.exclusive.action().cloned().or(landed);
            self.inputs.awaiting = self.awaiting.action().cloned();
            let decision = decide(&self.inputs);
            let action = decision.action.clone();
            self.remember(decision);
            match action {
                None => break,
                Some(Action::Promise(epoch)) => self.promise(epoch)?,
                // What has landed cannot be given up: it counts at the next look.
                Some(Action::Abort) if self.landed.is_some() => break,
                Some(Action::Abort) => {
                    self.exclusive.abort();
                    if let Some(unfinished) = self.unfinished() {
                        self.inputs.data = Data::Unfinished(unfinished);
                    }
                }
                Some(action) => self.begin(action)?,
            }
        }
        if self.inputs.now.since(self.log_checked) > LOG_EVERY {
            self.log_checked = self.inputs.now;
            if let Err(error) = self.server.bound_log() {
                tracing::warn!(%error, "PostgreSQL's log could not be moved aside");
            }
        }
        self.report();
        Ok(())
    }

    /// Durable before anything is said or done for the epoch.
    fn promise(&mut self, epoch: Epoch) -> io::Result<()> {
        change(&self.store, |memory| memory.promise = epoch)?;
        self.inputs.promise = epoch;
        // What still waits for acknowledgements of an older epoch waits for nothing that counts.
        self.awaiting.abort();
        Ok(())
    }

    fn begin(&mut self, action: Action) -> io::Result<()> {
        if let Action::ApplyCohort(_) = action {
            let newest = self.inputs.newest_revision;
            change(&self.store, |memory| memory.revision = newest)?;
        }
        let lane = if action.awaits_standbys() { &mut self.awaiting } else { &mut self.exclusive };
        tracing::info!(%action, "begun");
        let performer = Performer::new(&self.inputs, self.server.clone(), self.store.clone(), self.progress.clone());
        lane.begin(action.clone(), performer.perform(action));
        Ok(())
    }

    /// Logs what is decided when it changes.
    fn remember(&mut self, decision: Decision) {
        let same =
            self.last_decision.as_ref().is_some_and(|last| last.state == decision.state && last.note == decision.note);
        if !same {
            tracing::info!(state = %decision.state, note = %decision.note, "state");
        }
        self.last_decision = Some(decision);
    }

    /// Reports at once what has changed, and every heartbeat.
    fn report(&mut self) {
        let Some(decision) = &self.last_decision else { return };
        let mut note = decision.note.clone();
        if let Some(Action::Clone(_)) = &self.inputs.under_way {
            note = format!("{note} ({} %)", *self.progress.borrow());
        }
        let report = Report {
            member: self.inputs.me.clone(),
            incarnation: self.incarnation,
            sequence: self.sequence + 1,
            promise: self.inputs.promise,
            goal_revision: self.inputs.newest_revision,
            data: report::data(&self.inputs),
            postgres: report::postgres(&self.inputs),
            recruited: report::recruited(&self.inputs),
            state: decision.state.to_string(),
            healthy: decision.healthy,
            note,
            pid: std::process::id(),
            postmaster_pid: self.server.postmaster(),
            router_pid: *self.links.router.borrow(),
            data_dir: self.config.data_dir.display().to_string(),
        };
        let news = self.links.reports.borrow().as_ref().is_none_or(|last| report::differ(last, &report));
        if news || self.inputs.now.since(self.reported_at) >= self.heartbeat() {
            self.sequence += 1;
            self.reported_at = self.inputs.now;
            self.links.reports.send_replace(Some(report));
        }
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
