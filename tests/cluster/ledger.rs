//! Applications that write numbered rows through the routers, remember what was acknowledged and
//! measure the pauses: whatever happens to the cluster, every acknowledged row must be there in the
//! end, and a transaction over two shards whole or not at all. Called by the fault tests.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use howdah::{host::clock::Clock, model::numbers::Millis};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, NoTls, error::SqlState};

/// One row every 10 ms: the pace that failover times are measured with.
const PACE: Duration = Duration::from_millis(10);

/// A write that takes longer than any failover counts as lost: the connection is given up.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// What a writer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// One row of a distributed table.
    Distributed,
    /// One row of a local table.
    Local,
    /// Two rows of a distributed table, most often on two shards, in one transaction.
    Pair,
}

const KINDS: [Kind; 3] = [Kind::Distributed, Kind::Local, Kind::Pair];

impl Kind {
    fn table(self) -> &'static str {
        match self {
            Self::Distributed => "ledger_rows",
            Self::Local => "ledger_local",
            Self::Pair => "ledger_pairs",
        }
    }
}

/// What one writer saw.
#[derive(Debug, Default)]
struct Page {
    acknowledged: BTreeSet<i64>,
    last: Option<Millis>,
    longest: Millis,
    errors: Vec<String>,
}

/// Where applications connect: one connection string for each router, its own first.
#[derive(Debug, Clone)]
pub struct Target {
    /// For tokio-postgres.
    pub dsns: [String; 2],
}

/// Writers at work.
pub struct Ledger {
    target: Target,
    stop: Arc<AtomicBool>,
    pages: Vec<(Kind, Arc<Mutex<Page>>)>,
    writers: Vec<JoinHandle<()>>,
}

impl Ledger {
    /// Makes the tables and starts one writer of each kind on each router.
    pub async fn open(target: &Target) -> Self {
        let client = connect(&target.dsns[0]).await.expect("the cluster is ready");
        let tables = "CREATE TABLE IF NOT EXISTS ledger_rows (id bigint PRIMARY KEY, note text);
             CREATE TABLE IF NOT EXISTS ledger_pairs (id bigint PRIMARY KEY, pair bigint NOT NULL);
             CREATE TABLE IF NOT EXISTS ledger_local (id bigint PRIMARY KEY, note text)";
        for statement in tables.split(';').chain([
            "SELECT create_distributed_table('ledger_rows', 'id')",
            "SELECT create_distributed_table('ledger_pairs', 'id')",
        ]) {
            client.batch_execute(statement).await.expect(statement);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicI64::new(1));
        let clock = Clock::start();
        let mut ledger = Self { stop: stop.clone(), target: target.clone(), pages: Vec::new(), writers: Vec::new() };
        for dsn in &target.dsns {
            for kind in KINDS {
                let page = Arc::new(Mutex::new(Page::default()));
                ledger.pages.push((kind, page.clone()));
                let writer = Writer { kind, dsn: dsn.clone(), page, next: next.clone(), clock };
                ledger.writers.push(tokio::spawn(writer.run(stop.clone())));
            }
        }
        ledger
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
            if clock.now().duration() > super::running::PATIENCE {
                return false;
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Forgets the pauses so far; what comes now is measured.
    pub fn begin_round(&self) {
        for (_, page) in &self.pages {
            lock(page).longest = Millis(0);
        }
    }

    /// The longest time any writer was without an acknowledgement since the round began.
    pub fn longest_pause(&self) -> Millis {
        self.pages.iter().map(|(_, page)| lock(page).longest).max().unwrap_or_default()
    }

    /// Errors that writers saw, for people.
    pub fn errors(&self) -> Vec<String> {
        self.pages.iter().flat_map(|(_, page)| lock(page).errors.clone()).collect()
    }

    /// Stops the writers and compares: nothing acknowledged is missing, no pair is half there.
    pub async fn close(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in std::mem::take(&mut self.writers) {
            writer.await.expect("a writer does not panic");
        }
        for dsn in &self.target.dsns {
            let client = connect(dsn).await.expect("the cluster is healthy");
            for (kind, page) in &self.pages {
                let there = ids(&client, kind.table()).await;
                let missing: Vec<_> = lock(page).acknowledged.difference(&there).copied().collect();
                assert!(missing.is_empty(), "{kind:?}: acknowledged and lost: {missing:?}");
            }
            let half = "SELECT pair FROM ledger_pairs GROUP BY pair HAVING count(*) <> 2";
            let half = client.query(half, &[]).await.expect("pairs can be counted");
            assert!(half.is_empty(), "{} transactions are half there", half.len());
        }
    }
}

fn lock(page: &Mutex<Page>) -> std::sync::MutexGuard<'_, Page> {
    page.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ids(client: &Client, table: &str) -> BTreeSet<i64> {
    let rows = client.query(&format!("SELECT id FROM {table}"), &[]).await.expect("the table can be read");
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
                Err(_) => lock(&self.page).errors.push(format!("{:?}: no answer in {WRITE_LIMIT:?}", self.kind)),
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
        let insert = format!("INSERT INTO {} (id, note) VALUES ($1, $2)", self.kind.table());
        client.execute(&insert, &[&id, &"written"]).await.map(|_| ())
    }

    fn acknowledge(&self, id: i64) {
        let now = self.clock.now();
        let mut page = lock(&self.page);
        page.acknowledged.insert(id);
        if let Some(last) = page.last {
            page.longest = page.longest.max(now.since(last));
        }
        page.last = Some(now);
    }

    fn note(&self, what: &str, error: &Error) {
        let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
        let text = format!("{:?} {what}: {code} {}", self.kind, howdah::host::causes::with_causes(error));
        let mut page = lock(&self.page);
        // Enough to understand a failure.
        if page.errors.len() < 100 {
            page.errors.push(text);
        }
    }
}
