//! A bank: accounts spread over the shards, transfers between two of them in one transaction, each with a
//! row of its own that says what it moved. Whatever happens, an account holds what its transfers make it,
//! the sum stays, and a transfer that was acknowledged is there. Balances are compared in the end only:
//! there is no snapshot over all shards that a reader could take in the midst of it. Called by `chaos`.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error};

use crate::{
    harness::ledger::{Target, connect},
    simulation::random::Random,
};

/// Accounts: few enough for transfers to meet each other.
const ACCOUNTS: u64 = 64;

/// What each begins with.
const BALANCE: i64 = 1_000;

/// Tellers on each router.
const TELLERS: u64 = 2;

/// Between a teller's transfers.
const PACE: Duration = Duration::from_millis(15);

/// A transfer that takes longer than any failover: the connection is given up.
const LIMIT: Duration = Duration::from_secs(20);

/// The bank, open.
pub struct Bank {
    target: Target,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeSet<i64>>>,
    tellers: Vec<JoinHandle<()>>,
}

impl Bank {
    /// Makes the accounts and lets the tellers begin.
    pub async fn open(target: &Target, seed: u64) -> Self {
        let client = connect(&target.dsns[0]).await.expect("the cluster is ready");
        for statement in [
            "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL)",
            "SELECT create_distributed_table('accounts', 'id')",
            "CREATE TABLE transfers (id bigint PRIMARY KEY, debit bigint, credit bigint, amount bigint)",
            "SELECT create_distributed_table('transfers', 'id')",
            &format!("INSERT INTO accounts SELECT i, {BALANCE} FROM generate_series(1, {ACCOUNTS}) i"),
        ] {
            client.batch_execute(statement).await.expect(statement);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (acknowledged, next) = (Arc::default(), Arc::new(AtomicI64::new(1)));
        let mut bank = Self { target: target.clone(), stop: stop.clone(), acknowledged, tellers: Vec::new() };
        for (number, dsn) in (0..TELLERS).flat_map(|n| target.dsns.iter().map(move |dsn| (n, dsn.clone()))) {
            let teller = Teller {
                dsn,
                random: Random(seed ^ (number + 1)),
                next: next.clone(),
                acknowledged: bank.acknowledged.clone(),
            };
            bank.tellers.push(tokio::spawn(teller.work(stop.clone())));
        }
        bank
    }

    /// Transfers acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Closes, and says what is wrong with the books; empty if nothing.
    pub async fn close(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        for teller in self.tellers {
            teller.await.expect("a teller does not panic");
        }
        let client = connect(&self.target.dsns[1]).await.expect("the cluster is healthy");
        let transfers = client.query("SELECT id, debit, credit, amount FROM transfers", &[]).await;
        let accounts = client.query("SELECT id, balance FROM accounts", &[]).await;
        let (transfers, accounts) =
            (transfers.expect("transfers can be read"), accounts.expect("accounts can be read"));

        let mut wrong = Vec::new();
        let there: BTreeSet<i64> = transfers.iter().map(|row| row.get(0)).collect();
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<_> = acknowledged.difference(&there).collect();
        if !missing.is_empty() {
            wrong.push(format!("transfers acknowledged and lost: {missing:?}"));
        }
        let mut sum = 0;
        for account in &accounts {
            let (id, balance): (i64, i64) = (account.get(0), account.get(1));
            let moved = |row: &tokio_postgres::Row| {
                let amount: i64 = row.get(3);
                amount * (i64::from(row.get::<_, i64>(2) == id) - i64::from(row.get::<_, i64>(1) == id))
            };
            let expected = BALANCE + transfers.iter().map(moved).sum::<i64>();
            if balance != expected {
                wrong.push(format!("account {id} holds {balance}, its transfers make {expected}: half a transaction"));
            }
            sum += balance;
        }
        let expected = BALANCE * i64::try_from(ACCOUNTS).expect("few");
        if sum != expected || accounts.len() as u64 != ACCOUNTS {
            wrong.push(format!("{} accounts hold {sum}, not {ACCOUNTS} and {expected}", accounts.len()));
        }
        wrong
    }
}

/// One application.
struct Teller {
    dsn: String,
    random: Random,
    next: Arc<AtomicI64>,
    acknowledged: Arc<Mutex<BTreeSet<i64>>>,
}

impl Teller {
    async fn work(mut self, stop: Arc<AtomicBool>) {
        let mut client = None;
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(PACE).await;
            let Some(mut it) = (match client.take() {
                Some(it) => Some(it),
                None => connect(&self.dsn).await.ok(),
            }) else {
                continue;
            };
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let transfer = self.transfer(&mut it, id);
            if let Ok(result) = tokio::time::timeout(LIMIT, transfer).await {
                if result.is_ok() {
                    self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
                }
                // Errors are expected here; what counts is what is in the books.
                client = (!it.is_closed()).then_some(it);
            }
        }
    }

    /// The lower account first, so that two transfers never wait for each other.
    async fn transfer(&mut self, client: &mut Client, id: i64) -> Result<(), Error> {
        let mut account = || i64::try_from(self.random.between(1, ACCOUNTS)).expect("few");
        let (debit, credit) = (account(), account());
        let amount = i64::try_from(self.random.between(1, 10)).expect("small");
        let transaction = client.transaction().await?;
        let mut changes = [(debit, -amount), (credit, amount)];
        changes.sort_unstable();
        for (account, change) in changes {
            let update = "UPDATE accounts SET balance = balance + $2 WHERE id = $1";
            transaction.execute(update, &[&account, &change]).await?;
        }
        let insert = "INSERT INTO transfers (id, debit, credit, amount) VALUES ($1, $2, $3, $4)";
        transaction.execute(insert, &[&id, &debit, &credit, &amount]).await?;
        transaction.commit().await
    }
}
