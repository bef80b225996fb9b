//! One worker thread's state: pools, sessions, caches. Nothing of it is shared with other threads; what
//! all routers' threads share is in [`Shared`] and is not touched by statements. Called by the listener and
//! the sessions.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc, watch};

use super::{
    catalog_load::{CatalogHandle, Loaded},
    core::{session_number::Numbering, settings::Settings},
    pool::{Counters, Identity, Pools, prepared::StatementId, server::Link},
    session::Context,
    texts::Texts,
    verifiers::Verifiers,
};
use crate::{
    config::RouterConfig,
    host::{clock::Clock, entropy},
    model::{numbers::Revision, observed::RouterAddress, topology::Topology},
};

/// Numbers of statements kept; above this they begin anew, and servers forget the old ones in time.
const NUMBERS: usize = 20_000;
/// Contexts kept: one per search path, database and user in use.
const CONTEXTS: usize = 1_000;

/// Context, text and types of a prepared statement.
type NumberKey = (u64, Bytes, Vec<u32>);

/// What all threads have in common.
pub struct Shared {
    /// Settings.
    pub config: RouterConfig,
    /// Counts for reports and metrics.
    pub counters: Arc<Counters>,
    /// The catalog of the cluster's database.
    pub catalog: CatalogHandle,
    /// The newest topology.
    pub topology: watch::Receiver<Arc<Topology>>,
    /// Secret behind the verifiers of users who do not exist.
    pub mock_secret: [u8; 32],
    /// How sessions are numbered.
    pub numbering: Numbering,
    /// The routers that each coordinator knows, by the coordinator's URL. Looked at where a request to
    /// cancel is another's, and nowhere else.
    pub routers: Mutex<BTreeMap<String, Vec<RouterAddress>>>,
    /// Requests to cancel on their way to other routers.
    pub passing_on: Semaphore,
    /// Doors of the worker threads.
    pub doors: Vec<mpsc::Sender<Job>>,
    /// Sessions of each worker.
    pub loads: Vec<AtomicUsize>,
    /// Topology each worker works by.
    pub revisions: Vec<AtomicU64>,
    /// Statements that each worker ran, by tier.
    pub statements: Vec<[AtomicU64; TIERS.len()]>,
}

/// The ways a statement can run (`Plan::tier`), the frequent ones first; the last stands for all others.
pub const TIERS: [&str; 9] =
    ["local", "one shard", "scatter", "rows by key", "split by key", "reference write", "function", "ddl", "other"];

impl Shared {
    /// The topology that all workers work by.
    pub fn applied(&self) -> Revision {
        Revision(self.revisions.iter().map(|revision| revision.load(Ordering::Acquire)).min().unwrap_or(0))
    }
}

/// What a worker is asked to do.
pub enum Job {
    /// Serve this client.
    Client {
        /// Its socket, not yet on any runtime.
        stream: std::net::TcpStream,
        /// It came to the read-only port.
        read_only: bool,
    },
    /// Cancel what a session is doing.
    Cancel {
        /// Its number.
        pid: u32,
        /// Its secret.
        secret: u32,
        /// No other router passed it on: if the session is not here, it may be in another.
        fresh: bool,
    },
}

/// What others may know of a session.
pub struct Handle {
    /// Its number, as clients see it.
    pub pid: u32,
    /// Its secret.
    pub secret: u32,
    /// The server connections that work for it.
    pub links: RefCell<Vec<Rc<Link>>>,
    /// Wakes it where it waits without any: for a primary, or for a free connection.
    pub cancelled: Notify,
}

/// A worker.
pub struct Worker {
    /// Its number.
    pub index: u32,
    /// What all have in common.
    pub shared: Arc<Shared>,
    /// Settings.
    pub config: RouterConfig,
    /// The catalog, for those who need a fresh one.
    pub catalog: CatalogHandle,
    /// Server connections.
    pub pools: Pools,
    /// Plans.
    pub texts: RefCell<Texts>,
    /// What logins are checked against.
    pub verifiers: Verifiers,
    /// Time.
    pub clock: Clock,
    loaded: RefCell<(watch::Receiver<Loaded>, Loaded)>,
    nothing: Loaded,
    handles: RefCell<HashMap<u32, Rc<Handle>>>,
    next_session: Cell<u32>,
    numbers: RefCell<HashMap<NumberKey, StatementId>>,
    next_number: Cell<u64>,
    contexts: RefCell<HashMap<ContextKey, Rc<Context>>>,
    next_context: Cell<u64>,
}

/// What a new session's context depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContextKey {
    database: Rc<str>,
    user: Rc<str>,
    settings: Vec<Option<String>>,
    version: i64,
}

impl ContextKey {
    /// Of a session without temporary relations. `version` is filled in by the worker.
    pub fn new(identity: &Identity, settings: &Settings) -> Self {
        let names = ["search_path", "role", "session_authorization", "standard_conforming_strings"];
        let settings = names.iter().map(|name| settings.get(name).map(str::to_owned)).collect();
        Self { database: identity.database.clone(), user: identity.user.clone(), settings, version: 0 }
    }
}

impl Worker {
    /// A worker without sessions.
    pub fn new(index: u32, shared: Arc<Shared>) -> Self {
        let clock = Clock::start();
        let pools = Pools::new(shared.topology.borrow().clone(), clock, shared.counters.clone());
        let watch = shared.catalog.watch();
        let loaded = watch.borrow().clone();
        Self {
            index,
            config: shared.config.clone(),
            catalog: shared.catalog.clone(),
            pools,
            texts: RefCell::default(),
            verifiers: Verifiers::default(),
            clock,
            loaded: RefCell::new((watch, loaded)),
            nothing: Loaded::default(),
            handles: RefCell::default(),
            next_session: Cell::new(1),
            numbers: RefCell::default(),
            next_number: Cell::new(1),
            contexts: RefCell::default(),
            next_context: Cell::new(1),
            shared,
        }
    }

    /// The newest catalog's version. Costs one atomic read.
    pub fn catalog_version(&self) -> i64 {
        let (watch, loaded) = &mut *self.loaded.borrow_mut();
        if watch.has_changed().unwrap_or(false) {
            *loaded = watch.borrow_and_update().clone();
        }
        loaded.version
    }

    /// The newest catalog, as far as it concerns a database: only the cluster's own has one.
    pub fn loaded(&self, database: &str) -> Loaded {
        self.catalog_version();
        if *self.pools.topology().database == *database { self.loaded.borrow().1.clone() } else { self.nothing.clone() }
    }

    /// The number of a prepared statement: the same for equal text, types and context.
    pub fn number(&self, context: u64, sql: &Bytes, types: &[u32]) -> StatementId {
        let mut numbers = self.numbers.borrow_mut();
        if numbers.len() > NUMBERS {
            numbers.clear();
        }
        *numbers.entry((context, sql.clone(), types.to_vec())).or_insert_with(|| self.fresh_number())
    }

    /// A number that no statement has.
    pub fn fresh_number(&self) -> StatementId {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        StatementId(number)
    }

    /// The context of an earlier session like this one.
    pub fn known_context(&self, key: &ContextKey) -> Option<Rc<Context>> {
        let key = ContextKey { version: self.catalog_version(), ..key.clone() };
        self.contexts.borrow().get(&key).cloned()
    }

    /// Numbers a context; one that is equal to a known one gets its number. `key`: others may begin
    /// with it.
    pub fn context(&self, mut context: Context, key: Option<ContextKey>) -> Rc<Context> {
        let mut contexts = self.contexts.borrow_mut();
        if contexts.len() > CONTEXTS {
            contexts.clear();
        }
        let same = |known: &&Rc<Context>| {
            known.search_path == context.search_path
                && known.temporary == context.temporary
                && known.standard_conforming_strings == context.standard_conforming_strings
        };
        let known = contexts.values().find(same).cloned();
        let context = known.unwrap_or_else(|| {
            context.id = self.next_context.get();
            self.next_context.set(context.id + 1);
            Rc::new(context)
        });
        if let Some(key) = key {
            contexts.insert(ContextKey { version: self.catalog_version(), ..key }, context.clone());
        }
        context
    }

    /// Counts a statement.
    pub fn ran(&self, tier: &str) {
        let index = TIERS.iter().position(|known| *known == tier).unwrap_or(TIERS.len() - 1);
        self.shared.statements[self.index as usize][index].fetch_add(1, Ordering::Relaxed);
    }

    /// Registers a session: its number says which worker of which router has it.
    pub fn register(&self) -> Rc<Handle> {
        let numbering = &self.shared.numbering;
        let mut handles = self.handles.borrow_mut();
        let mut next = self.next_session.get();
        while handles.contains_key(&numbering.pid(self.index, next)) {
            next = next % numbering.sessions() + 1;
        }
        self.next_session.set(next % numbering.sessions() + 1);
        let [a, b, c, d] = entropy::bytes::<4>();
        let secret = u32::from_be_bytes([a, b, c, d]);
        let pid = numbering.pid(self.index, next);
        let handle = Rc::new(Handle { pid, secret, links: RefCell::default(), cancelled: Notify::new() });
        handles.insert(handle.pid, handle.clone());
        handle
    }

    /// The session has ended.
    pub fn forget(&self, handle: &Handle) {
        self.handles.borrow_mut().remove(&handle.pid);
    }

    /// The session with this number, if the secret is right.
    pub fn session(&self, pid: u32, secret: u32) -> Option<Rc<Handle>> {
        self.handles.borrow().get(&pid).filter(|handle| handle.secret == secret).cloned()
    }
}
