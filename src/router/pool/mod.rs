//! Server connections of one worker thread, pooled by member, epoch, database and user. Nothing here is
//! shared between threads. Called by the session and the executors through [`Pools::checkout`].
//!
//! A connection is checked out for a transaction and returned when PostgreSQL says `I`. Whoever waits
//! for one waits in line, with a deadline. While a group has no primary, work waits here: for as long as
//! `failover_wait`, in the order in which it came, and bounded by `core::hold`.

pub mod connect;
pub mod hold;
pub mod prepared;
pub mod server;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, VecDeque},
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, Notify, Semaphore};

use self::{
    connect::{ConnectError, Credentials, connect},
    hold::{Held, HoldCounts, Holds},
    server::{Link, Server},
};
use crate::{
    host::clock::Clock,
    model::{
        ids::GroupId,
        numbers::{Epoch, Millis, Timeline},
        topology::{Access, Endpoint, GroupView, Topology},
    },
    router::core::{error::UserError, settings::Settings},
};

/// Connections in use at once per worker, member, database and user: well above the two per core that
/// a PostgreSQL can work on, and a few users' worth fit into its `max_connections`.
pub const MAX_IN_USE: usize = 40;
/// An idle connection is closed after this long: a burst does not hold memory in PostgreSQL for ever.
const IDLE_LIMIT: Millis = Millis(60_000);
/// Longest wait for a connection to become free: as long as a patient application's own time limit.
const QUEUE_WAIT: Duration = Duration::from_secs(30);
/// Pause before connecting again to a member that the topology still names: shorter than a failover.
const RETRY: Duration = Duration::from_millis(20);

/// Why there is no connection.
#[derive(Debug)]
pub enum CheckoutError {
    /// For the client, in our words.
    Refused(UserError),
    /// For the client, in PostgreSQL's words.
    Server(server::ServerError),
}

/// Which member of a group is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wanted {
    /// The primary.
    Primary,
    /// A standby where there is one, for reading.
    Standby,
}

/// Whose connections.
#[derive(Clone)]
pub struct Identity {
    /// Database.
    pub database: Rc<str>,
    /// Role that logs in.
    pub user: Rc<str>,
    /// How it does.
    pub credentials: Credentials,
}

/// Connections to one member, of one database and user.
pub struct Pool {
    /// Group.
    pub group: GroupId,
    /// Epoch the connections belong to.
    pub epoch: Epoch,
    /// Member.
    pub endpoint: Endpoint,
    /// Database.
    pub database: Rc<str>,
    /// User.
    pub user: Rc<str>,
    /// Newest known way to log in.
    pub credentials: RefCell<Credentials>,
    /// A connection to a standby is refused.
    pub needs_primary: bool,
    /// The timeline that a primary must write.
    pub timeline: Timeline,
    gate: Cell<Gate>,
    idle: RefCell<VecDeque<(Server, Millis)>>,
    links: RefCell<Vec<Weak<Link>>>,
    in_use: Arc<Semaphore>,
    /// Nobody was there at the last attempt.
    down: Cell<bool>,
    /// While nobody is there, one session tries and the others stand in line behind it.
    line: Mutex<()>,
    /// Transactions in progress on the group, through the whole router.
    open: Arc<AtomicU32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Held,
    Closed,
}

/// A worker's pools.
pub struct Pools {
    topology: RefCell<Arc<Topology>>,
    changed: Notify,
    by_key: RefCell<HashMap<PoolKey, Rc<Pool>>>,
    /// Closed pools that may have connections at work.
    retired: RefCell<Vec<(Wanted, Rc<Pool>)>>,
    holds: Holds,
    clock: Clock,
    counters: Arc<Counters>,
}

type PoolKey = (GroupId, Wanted, Rc<str>, Rc<str>);

/// What all workers count together, for reports and metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Client sessions.
    pub sessions: AtomicU32,
    /// Connections to PostgreSQL.
    pub connections: AtomicU32,
    /// Checkouts that had to wait for a free connection.
    pub waits: AtomicU32,
    /// Transactions in progress by group.
    pub open: std::sync::Mutex<BTreeMap<GroupId, Arc<AtomicU32>>>,
    /// Sessions that wait for a primary, by group.
    pub holds: std::sync::Mutex<BTreeMap<GroupId, Arc<HoldCounts>>>,
}

impl Counters {
    /// Groups with transactions in progress, and how many.
    pub fn open_transactions(&self) -> Vec<(GroupId, u32)> {
        let open = self.open.lock().expect("nobody panics while counting");
        let counts = open.iter().map(|(group, count)| (group.clone(), count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// What is counted of a group's waiting sessions.
    fn held(&self, group: &GroupId) -> Arc<HoldCounts> {
        let mut holds = self.holds.lock().expect("nobody panics while counting");
        holds.entry(group.clone()).or_default().clone()
    }

    /// The counter of a group's transactions in progress.
    fn open(&self, group: &GroupId) -> Arc<AtomicU32> {
        let mut open = self.open.lock().expect("nobody panics while counting");
        open.entry(group.clone()).or_default().clone()
    }
}

impl Pools {
    /// Empty pools by this topology.
    pub fn new(topology: Arc<Topology>, clock: Clock, counters: Arc<Counters>) -> Self {
        Self {
            topology: RefCell::new(topology),
            changed: Notify::new(),
            by_key: RefCell::default(),
            retired: RefCell::default(),
            holds: Holds::new(counters.clone(), clock),
            clock,
            counters,
        }
    }

    /// The topology to work by.
    pub fn topology(&self) -> Arc<Topology> {
        self.topology.borrow().clone()
    }

    /// Waits for the next topology.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// A newer topology: pools of members that are out of office are closed, idle connections of an
    /// older epoch too. Connections at work are lost as soon as another member has the office; while
    /// nobody has it they wait with it, because the same member may get it again.
    pub fn update(&self, topology: Arc<Topology>) {
        let mut retired = self.retired.borrow_mut();
        self.by_key.borrow_mut().retain(|(group, wanted, ..), pool| {
            let gate = topology.groups.get(group).map_or(Gate::Closed, |view| pool.gate_by(view, *wanted));
            pool.gate.set(gate);
            if gate != Gate::Open {
                pool.idle.borrow_mut().clear();
            }
            if gate == Gate::Closed {
                retired.push((*wanted, pool.clone()));
            }
            gate != Gate::Closed
        });
        retired.retain(|(wanted, pool)| {
            let view = topology.groups.get(&pool.group);
            let waits = view.is_some_and(|view| pool.still_in_office(view, *wanted));
            if !waits {
                pool.links.borrow().iter().filter_map(Weak::upgrade).for_each(|link| link.revoke());
            }
            waits && pool.links.borrow().iter().any(|link| link.strong_count() > 0)
        });
        drop(retired);
        self.topology.replace(topology);
        self.changed.notify_waiters();
    }

    /// Closes connections that have been idle for long. Called once a second or so.
    pub fn tidy(&self) {
        let now = self.clock.now();
        for pool in self.by_key.borrow().values() {
            pool.idle.borrow_mut().retain_mut(|(server, since)| now.since(*since) < IDLE_LIMIT && !server.is_stale());
            pool.links.borrow_mut().retain(|link| link.strong_count() > 0);
        }
        // A pool that nobody uses, and that is older than its last user, is forgotten.
        self.by_key.borrow_mut().retain(|_, pool| Rc::strong_count(pool) > 1 || !pool.idle.borrow().is_empty());
    }

    /// A connection that is there at once, out of the pool that the caller got last.
    pub fn take(&self, settings: &Rc<Settings>, cached: Option<&Rc<Pool>>) -> Option<Server> {
        cached.filter(|pool| pool.gate.get() == Gate::Open).and_then(|pool| pool.take_idle(settings))
    }

    /// A connection to a group, for a transaction. Waits in line where all are in use, and for a
    /// primary where there is none; both waits are bounded. `bytes`: what the caller keeps in memory
    /// meanwhile. `cached` is where it keeps the pool it got last.
    pub async fn checkout(
        &self,
        group: &GroupId,
        wanted: Wanted,
        identity: &Identity,
        settings: &Rc<Settings>,
        bytes: usize,
        cached: &mut Option<Rc<Pool>>,
    ) -> Result<Server, CheckoutError> {
        let deadline = self.clock.now().plus(self.topology.borrow().failover_wait);
        let mut held = None;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let left = deadline.since(self.clock.now()).duration();
            if left.is_zero() {
                return Err(CheckoutError::Refused(UserError::no_primary(group)));
            }
            let Some(pool) = self.pool(group, wanted, identity) else {
                self.hold(group, bytes, &mut held)?;
                let _ = tokio::time::timeout(left, changed).await;
                continue;
            };
            *cached = Some(pool.clone());
            let attempt = async {
                if pool.down.get() {
                    self.hold(group, bytes, &mut held)?;
                    let stood = tokio::time::timeout(left, self.in_line(&pool, settings)).await;
                    if let Some(server) = stood.unwrap_or(Ok(None))? {
                        return Ok(Some(server));
                    }
                }
                self.checkout_from(&pool, settings).await
            };
            tokio::select! {
                attempt = attempt => match attempt? {
                    // Opened at the moment in which the member lost its office.
                    Some(server) if server.pool.gate.get() != Gate::Open => {}
                    Some(server) => return Ok(server),
                    None => {}
                },
                () = &mut changed => {}
            }
        }
    }

    fn hold<'a>(&'a self, group: &GroupId, bytes: usize, held: &mut Option<Held<'a>>) -> Result<(), CheckoutError> {
        if held.is_none() {
            let begun = self.holds.begin(group, bytes);
            *held = Some(begun.map_err(|hold::Full| CheckoutError::Refused(UserError::hold_full(group)))?);
        }
        Ok(())
    }

    /// Nobody was there, though the topology names a member: it is not told yet, or the member is just
    /// beginning. One session tries again and again, the others stand behind it in the order in which
    /// they came, so that they do not storm it. `None`: somebody is there now.
    async fn in_line(&self, pool: &Rc<Pool>, settings: &Rc<Settings>) -> Result<Option<Server>, CheckoutError> {
        let _first = pool.line.lock().await;
        while pool.down.get() {
            tokio::time::sleep(RETRY).await;
            if let Some(server) = self.checkout_from(pool, settings).await? {
                return Ok(Some(server));
            }
        }
        Ok(None)
    }

    /// `None`: nobody there, try again.
    async fn checkout_from(&self, pool: &Rc<Pool>, settings: &Rc<Settings>) -> Result<Option<Server>, CheckoutError> {
        if pool.in_use.available_permits() == 0 {
            self.counters.waits.fetch_add(1, Ordering::Relaxed);
        }
        let Ok(permit) = tokio::time::timeout(QUEUE_WAIT, pool.in_use.clone().acquire_owned()).await else {
            return Err(CheckoutError::Refused(UserError::pool_exhausted(&pool.group, MAX_IN_USE)));
        };
        let permit = permit.expect("the semaphore is never closed");
        if let Some(mut server) = pool.take_idle_with_permit(settings) {
            server.keep(permit);
            return Ok(Some(server));
        }
        match connect(pool).await {
            Ok(mut server) => {
                pool.down.set(false);
                server.keep(permit);
                pool.opened(&mut server, &self.counters);
                Ok(Some(server))
            }
            Err(error) if error.is_transient() => {
                pool.down.set(true);
                tracing::debug!(group = %pool.group, member = %pool.endpoint.member, %error, "no connection yet");
                Ok(None)
            }
            Err(ConnectError::Refused(error)) => Err(CheckoutError::Server(error)),
            Err(error) => {
                tracing::warn!(group = %pool.group, member = %pool.endpoint.member, user = %pool.user, %error, "cannot log in");
                let message = format!("group \"{}\" does not let user \"{}\" in", pool.group, pool.user);
                Err(CheckoutError::Refused(
                    UserError::error("08001", message).hint("Reconnect; if that does not help, see the router's log."),
                ))
            }
        }
    }

    /// The pool to use now; `None` while work must wait.
    fn pool(&self, group: &GroupId, wanted: Wanted, identity: &Identity) -> Option<Rc<Pool>> {
        let topology = self.topology.borrow();
        let view = topology.groups.get(group)?;
        let endpoint = place(view, wanted)?.clone();
        let key = (group.clone(), wanted, identity.database.clone(), identity.user.clone());
        let mut pools = self.by_key.borrow_mut();
        let pool = pools.entry(key).or_insert_with(|| {
            Rc::new(Pool {
                group: group.clone(),
                epoch: view.epoch,
                needs_primary: is_primary(view, &endpoint),
                timeline: view.timeline,
                endpoint,
                database: identity.database.clone(),
                user: identity.user.clone(),
                credentials: RefCell::new(identity.credentials.clone()),
                gate: Cell::new(Gate::Open),
                idle: RefCell::default(),
                links: RefCell::default(),
                in_use: Arc::new(Semaphore::new(MAX_IN_USE)),
                down: Cell::new(false),
                line: Mutex::default(),
                open: self.counters.open(group),
            })
        });
        Some(pool.clone())
    }

    /// A login showed newer credentials: connections opened from now on use them.
    pub fn learn(&self, identity: &Identity) {
        for pool in self.by_key.borrow().values() {
            if pool.user == identity.user && pool.database == identity.database {
                pool.credentials.replace(identity.credentials.clone());
            }
        }
    }

    /// Takes a connection back. It is kept if it is idle, unpinned and of the present epoch, else closed.
    pub fn give_back(&self, server: Server) {
        let pool = server.pool.clone();
        let clean = server.status == b'I' && !server.pinned && server.input.is_empty() && server.output.is_empty();
        if clean && pool.gate.get() == Gate::Open && server.setup() == 0 {
            let mut server = server;
            server.rest();
            pool.idle.borrow_mut().push_back((server, self.clock.now()));
        }
        // Otherwise its drop closes it.
    }
}

impl Pool {
    fn gate_by(&self, view: &GroupView, wanted: Wanted) -> Gate {
        if view.epoch != self.epoch && self.needs_primary {
            return Gate::Closed;
        }
        match &view.access {
            Access::Open { .. } if place(view, wanted) == Some(&self.endpoint) => Gate::Open,
            Access::Open { .. } => Gate::Closed,
            Access::Draining { primary } if *primary != self.endpoint && self.needs_primary => Gate::Closed,
            Access::Draining { .. } | Access::Held => Gate::Held,
        }
    }

    /// Nobody else is the primary: what is in progress here may still end well.
    fn still_in_office(&self, view: &GroupView, wanted: Wanted) -> bool {
        match &view.access {
            Access::Held => true,
            Access::Draining { primary } => *primary == self.endpoint,
            Access::Open { .. } => place(view, wanted) == Some(&self.endpoint),
        }
    }

    fn take_idle(&self, settings: &Rc<Settings>) -> Option<Server> {
        if self.idle.borrow().is_empty() {
            return None;
        }
        let permit = self.in_use.clone().try_acquire_owned().ok()?;
        let mut server = self.take_idle_with_permit(settings)?;
        server.keep(permit);
        Some(server)
    }

    /// The newest idle connection with the right settings, else the newest.
    fn take_idle_with_permit(&self, settings: &Rc<Settings>) -> Option<Server> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let fits =
                |(server, _): &(Server, Millis)| Rc::ptr_eq(&server.applied, settings) || server.applied == *settings;
            let at = idle.iter().rposition(fits).or_else(|| idle.len().checked_sub(1))?;
            let (mut server, _) = idle.remove(at)?;
            if !server.is_stale() {
                server.set_at_work(true);
                return Some(server);
            }
        }
    }

    fn opened(&self, server: &mut Server, counters: &Arc<Counters>) {
        server.counted(counters.clone());
        server.set_at_work(true);
        self.links.borrow_mut().push(Rc::downgrade(&server.link));
    }
}

/// Where work of this kind may begin; `None` while it must wait.
fn place(view: &GroupView, wanted: Wanted) -> Option<&Endpoint> {
    match (&view.access, wanted) {
        (Access::Open { .. }, Wanted::Standby) if !view.standbys.is_empty() => view.standbys.first(),
        (Access::Open { primary }, _) => Some(primary),
        (Access::Draining { .. } | Access::Held, _) => None,
    }
}

fn is_primary(view: &GroupView, endpoint: &Endpoint) -> bool {
    matches!(&view.access, Access::Open { primary } | Access::Draining { primary } if primary == endpoint)
}
