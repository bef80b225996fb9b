//! Applications that write numbered rows through the routers, remember what was acknowledged and
//! measure the pauses: whatever happens to the cluster, every acknowledged row must be there in the
//! end, and a transaction over two shards whole or not at all. Called by everything that breaks things.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use howdah::{
    host::clock::{self, Clock},
    model::numbers::Millis,
};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, NoTls, error::SqlState};

/// One row every 10 ms: the pace that failover times are measured with.
const PACE: Duration = Duration::from_millis(10);

/// A write that takes longer than any failover counts as lost: the connection is given up.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// Errors kept in full for each writer: enough to understand a failure.
const ERRORS_KEPT: usize = 100;

/// What a writer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One row of a distributed table, on whichever shard its number says.
    Distributed,
    /// One row of a local table: the query group.
    Local,
    /// Two rows of a distributed table, most often on two shards, in one transaction.
    Pair,
    /// One row of a distributed table, always with this key and so on one shard.
    At(i64),
}

impl Kind {
    fn table(self) -> &'static str {
        match self {
            Self::Distributed => "ledger_rows",
            Self::Local => "ledger_local",
            Self::Pair => "ledger_pairs",
            Self::At(_) => "ledger_placed",
        }
    }
}

/// A time without an acknowledgement, by the ledger's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gap {
    /// The last acknowledgement before it.
    pub from: Millis,
    /// The first after it.
    pub to: Millis,
}

impl Gap {
    /// How long it was.
    pub fn length(self) -> Millis {
        self.to.since(self.from)
    }
}

/// What one writer saw.
#[derive(Debug, Default)]
struct Page {
    acknowledged: BTreeSet<i64>,
    last: Option<Millis>,
    longest: Gap,
    /// By SQLSTATE; `lost` where no server said anything.
    codes: BTreeMap<String, u64>,
    errors: Vec<String>,
}

/// Where applications connect: one connection string for each router, its own first.
#[derive(Debug, Clone)]
pub struct Target {
    /// For tokio-postgres.
    pub dsns: [String; 2],
}

/// What the tables say in the end.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Acknowledged and not there: table and number.
    pub missing: Vec<(&'static str, i64)>,
    /// Transactions over two rows of which one is there.
    pub half: usize,
}

/// Writers at work.
pub struct Ledger {
    target: Target,
    /// Numbers below this belong to earlier ledgers on the same tables.
    first: i64,
    clock: Clock,
    began_unix_ms: u64,
    stop: Arc<AtomicBool>,
    pages: Vec<(Kind, Arc<Mutex<Page>>)>,
    writers: Vec<JoinHandle<()>>,
}

impl Ledger {
    /// Makes the tables and starts one writer of each kind on each router.
    pub async fn open(target: &Target) -> Self {
        make_tables(&connect(&target.dsns[0]).await.expect("the cluster is ready")).await;
        let kinds = [Kind::Distributed, Kind::Local, Kind::Pair];
        let writers = target.dsns.iter().flat_map(|dsn| kinds.map(|kind| (kind, dsn.clone())));
        Self::start(target, 1, writers)
    }

    /// Starts these writers on tables that are there; numbers begin at `first`.
    pub fn start(target: &Target, first: i64, writers: impl IntoIterator<Item = (Kind, String)>) -> Self {
        let (clock, began_unix_ms) = (Clock::start(), clock::unix_ms());
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicI64::new(first));
        let mut ledger = Self {
            target: target.clone(),
            first,
            clock,
            began_unix_ms,
            stop: stop.clone(),
            pages: Vec::new(),
            writers: Vec::new(),
        };
        for (kind, dsn) in writers {
            let page = Arc::new(Mutex::new(Page::default()));
            ledger.pages.push((kind, page.clone()));
            let writer = Writer { kind, dsn, page, next: next.clone(), clock };
            ledger.writers.push(tokio::spawn(writer.run(stop.clone())));
        }
        ledger
    }

    /// Milliseconds since 1970 of a moment of the ledger's clock: to be laid beside logs.
    pub fn unix_ms(&self, at: Millis) -> u64 {
        self.began_unix_ms + at.0
    }

    /// Rows acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.pages.iter().map(|(_, page)| lock(page).acknowledged.len()).sum()
    }

    /// Waits until every writer has had `rows` more acknowledged than now: the cluster serves.
    pub async fn wait_for_progress(&self, rows: usize) -> bool {
        let before: Vec<_> = self.pages.iter().map(|(_, page)| lock(page).acknowledged.len()).collect();
        let clock = Clock::start();
        loop {
            let now = self.pages.iter().map(|(_, page)| lock(page).acknowledged.len());
            if now.zip(&before).all(|(now, before)| now >= before + rows) {
                return true;
            }
            if clock.now().duration() > super::site::PATIENCE {
                return false;
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Forgets the pauses and errors so far; what comes now is measured.
    pub fn begin_round(&self) {
        for (_, page) in &self.pages {
            let mut page = lock(page);
            page.longest = Gap::default();
            page.codes.clear();
            page.errors.clear();
        }
    }

    /// The longest time any writer was without an acknowledgement since the round began.
    pub fn longest_pause(&self) -> Millis {
        self.gaps().into_iter().map(|(_, gap)| gap.length()).max().unwrap_or_default()
    }

    /// The longest gap of each writer since the round began.
    pub fn gaps(&self) -> Vec<(Kind, Gap)> {
        self.pages.iter().map(|(kind, page)| (*kind, lock(page).longest)).collect()
    }

    /// Errors that writers saw since the round began, by SQLSTATE.
    pub fn codes(&self) -> BTreeMap<String, u64> {
        let mut sum = BTreeMap::new();
        for (_, page) in &self.pages {
            for (code, count) in &lock(page).codes {
                *sum.entry(code.clone()).or_default() += count;
            }
        }
        sum
    }

    /// The same for people.
    pub fn errors(&self) -> Vec<String> {
        self.pages.iter().flat_map(|(_, page)| lock(page).errors.clone()).collect()
    }

    /// Stops the writers and compares: nothing acknowledged is missing, no pair is half there.
    pub async fn close(self) {
        let Verdict { missing, half } = self.finish().await;
        assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
        assert_eq!(half, 0, "{half} transactions are half there");
    }

    /// Stops the writers and says what every router finds in the tables.
    pub async fn finish(mut self) -> Verdict {
        self.stop.store(true, Ordering::Relaxed);
        for writer in std::mem::take(&mut self.writers) {
            writer.await.expect("a writer does not panic");
        }
        let mut verdict = Verdict::default();
        for dsn in &self.target.dsns {
            let client = connect(dsn).await.expect("the cluster is healthy");
            let mut there = BTreeMap::new();
            for (kind, page) in &self.pages {
                let table = kind.table();
                if !there.contains_key(table) {
                    there.insert(table, ids(&client, table, self.first).await);
                }
                let missing = lock(page).acknowledged.difference(&there[table]).copied().collect::<Vec<_>>();
                verdict.missing.extend(missing.into_iter().map(|id| (table, id)));
            }
            if there.contains_key(Kind::Pair.table()) {
                let half = "SELECT pair FROM ledger_pairs GROUP BY pair HAVING count(*) <> 2";
                verdict.half += client.query(half, &[]).await.expect("pairs can be counted").len();
            }
        }
        verdict
    }
}

/// The ledger's tables.
pub async fn make_tables(client: &Client) {
    for statement in [
        "CREATE TABLE IF NOT EXISTS ledger_rows (id bigint PRIMARY KEY, note text)",
        "CREATE TABLE IF NOT EXISTS ledger_pairs (id bigint PRIMARY KEY, pair bigint NOT NULL)",
        "CREATE TABLE IF NOT EXISTS ledger_placed (place bigint, id bigint, note text, PRIMARY KEY (place, id))",
        "CREATE TABLE IF NOT EXISTS ledger_local (id bigint PRIMARY KEY, note text)",
        "SELECT create_distributed_table('ledger_rows', 'id')",
        "SELECT create_distributed_table('ledger_pairs', 'id')",
        "SELECT create_distributed_table('ledger_placed', 'place')",
    ] {
        client.batch_execute(statement).await.expect(statement);
    }
}

fn lock(page: &Mutex<Page>) -> std::sync::MutexGuard<'_, Page> {
    page.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ids(client: &Client, table: &str, first: i64) -> BTreeSet<i64> {
    let sql = format!("SELECT id FROM {table} WHERE id >= {first}");
    let rows = client.query(&sql, &[]).await.expect("the table can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

/// A connection; its background half ends with it.
pub async fn connect(dsn: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// One application.
struct Writer {
    kind: Kind,
    dsn: String,
    page: Arc<Mutex<Page>>,
    next: Arc<AtomicI64>,
    clock: Clock,
}

impl Writer {
    async fn run(self, stop: Arc<AtomicBool>) {
        let mut client = None;
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(PACE).await;
            let mut it = match client.take() {
                Some(it) => it,
                None => match connect(&self.dsn).await {
                    Ok(it) => it,
                    Err(error) => {
                        self.note("connect", &error);
                        continue;
                    }
                },
            };
            // A pair takes two numbers; numbers are never used twice, whatever became of them.
            let id = self.next.fetch_add(2, Ordering::Relaxed);
            match tokio::time::timeout(WRITE_LIMIT, self.write(&mut it, id)).await {
                Ok(Ok(())) => {
                    self.acknowledge(id);
                    client = Some(it);
                }
                Ok(Err(error)) => {
                    self.note("write", &error);
                    // As an application would: a server that answered is still there.
                    let answered = error.code().is_some_and(|code| *code != SqlState::ADMIN_SHUTDOWN);
                    client = (answered && !it.is_closed()).then_some(it);
                }
                Err(_) => self.record("no answer", format!("{:?}: no answer in {WRITE_LIMIT:?}", self.kind)),
            }
        }
    }

    async fn write(&self, client: &mut Client, id: i64) -> Result<(), Error> {
        if self.kind == Kind::Pair {
            let transaction = client.transaction().await?;
            for one in [id, id + 1] {
                let insert = "INSERT INTO ledger_pairs (id, pair) VALUES ($1, $2)";
                transaction.execute(insert, &[&one, &id]).await?;
            }
            return transaction.commit().await;
        }
        let table = self.kind.table();
        let done = if let Kind::At(place) = self.kind {
            let insert = format!("INSERT INTO {table} (place, id, note) VALUES ($1, $2, $3)");
            client.execute(&insert, &[&place, &id, &"written"]).await
        } else {
            let insert = format!("INSERT INTO {table} (id, note) VALUES ($1, $2)");
            client.execute(&insert, &[&id, &"written"]).await
        };
        done.map(drop)
    }

    fn acknowledge(&self, id: i64) {
        let now = self.clock.now();
        let mut page = lock(&self.page);
        page.acknowledged.insert(id);
        let gap = Gap { from: page.last.unwrap_or(now), to: now };
        if gap.length() > page.longest.length() {
            page.longest = gap;
        }
        page.last = Some(now);
    }

    fn note(&self, what: &str, error: &Error) {
        let code = error.code().map_or("lost", SqlState::code);
        let text = format!("{:?} {what}: {code} {}", self.kind, howdah::host::causes::with_causes(error));
        self.record(code, text);
    }

    fn record(&self, code: &str, text: String) {
        let mut page = lock(&self.page);
        *page.codes.entry(code.to_owned()).or_default() += 1;
        if page.errors.len() < ERRORS_KEPT {
            page.errors.push(text);
        }
    }
}
