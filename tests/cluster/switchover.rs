//! A planned switchover under every kind of client: drain, hold, switch, release; nobody sees an error.
//! What cannot be had: a session whose state lives on one server connection (a temporary table, say) ends,
//! and is told why.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::SinkExt as _;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, NoTls, error::SqlState, types::ToSql};

use super::running::{Cluster, primary};

/// Rounds of every client's work that show that it goes on.
const PROGRESS: usize = 3;

async fn connect(dsn: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.expect("the cluster is ready");
    tokio::spawn(connection);
    client
}

/// A client that does the same again and again, until told to stop: how often it has, or what went wrong.
struct Worker {
    name: &'static str,
    rounds: Arc<AtomicUsize>,
    task: JoinHandle<Result<(), Error>>,
}

fn work<F>(name: &'static str, stop: &Arc<AtomicBool>, mut round: impl FnMut(usize) -> F + Send + 'static) -> Worker
where
    F: Future<Output = Result<(), Error>> + Send,
{
    let (rounds, stop) = (Arc::new(AtomicUsize::new(0)), stop.clone());
    let counted = rounds.clone();
    let task = tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            round(counted.load(Ordering::Relaxed)).await?;
            counted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    Worker { name, rounds, task }
}

async fn workers(dsn: &str, stop: &Arc<AtomicBool>) -> Vec<Worker> {
    let mut all = Vec::new();
    for (name, table) in [("transactions on a local table", "local"), ("transactions over shards", "spread")] {
        let client = Arc::new(connect(dsn).await);
        all.push(work(name, stop, move |round| {
            let client = client.clone();
            async move {
                client.batch_execute("BEGIN").await?;
                for at in 0..2 {
                    client.batch_execute(&format!("INSERT INTO {table} VALUES ({}, 't')", round * 2 + at)).await?;
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
                client.batch_execute("COMMIT").await
            }
        }));
        let client = Arc::new(connect(dsn).await);
        all.push(work("COPY", stop, move |_| {
            let client = client.clone();
            async move {
                let mut sink = Box::pin(client.copy_in(&format!("COPY {table}_copy FROM STDIN")).await?);
                for line in 0..50 {
                    sink.send(bytes::Bytes::from(format!("{line}\tx\n"))).await?;
                }
                sink.as_mut().finish().await.map(drop)
            }
        }));
    }
    let client = Arc::new(connect(dsn).await);
    client.batch_execute("SET application_name = 'mine'; SET work_mem = '7MB'").await.expect("set");
    let prepared = client.prepare("SELECT current_setting('work_mem'), $1::int + 1").await.expect("prepared");
    all.push(work("settings and prepared statements", stop, move |round| {
        let (client, prepared) = (client.clone(), prepared.clone());
        async move {
            let number = i32::try_from(round).expect("few");
            let row = client.query_one(&prepared, &[&number]).await?;
            assert_eq!((row.get::<_, &str>(0), row.get::<_, i32>(1)), ("7MB", number + 1), "state is kept");
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(())
        }
    }));
    let client = Arc::new(connect(dsn).await);
    all.push(work("pipelines", stop, move |round| {
        let client = client.clone();
        async move {
            let number = i64::try_from(round).expect("few");
            let insert = "INSERT INTO piped VALUES ($1)";
            let parameters: [&(dyn ToSql + Sync); 1] = [&number];
            let (a, b, c) = tokio::join!(
                client.execute(insert, &parameters),
                client.query("SELECT count(*) FROM piped WHERE k = $1", &parameters),
                client.execute(insert, &parameters),
            );
            a.and(b.map(|_| 0)).and(c).map(drop)
        }
    }));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_an_error() {
    let cluster = Cluster::start(&[]);
    let dsn = cluster.target().dsns[0].clone();
    let admin = connect(&dsn).await;
    for statement in [
        "CREATE TABLE local (k bigint, v text)",
        "CREATE TABLE local_copy (k bigint, v text)",
        "CREATE TABLE spread (k bigint, v text)",
        "CREATE TABLE spread_copy (k bigint, v text)",
        "CREATE TABLE piped (k bigint)",
        "SELECT create_distributed_table('spread', 'k')",
        "SELECT create_distributed_table('spread_copy', 'k')",
    ] {
        admin.batch_execute(statement).await.expect(statement);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let workers = workers(&dsn, &stop).await;
    for group in ["query", "shard-1"] {
        let pinned = connect(&dsn).await;
        pinned.batch_execute("CREATE TEMP TABLE mine (a int)").await.expect("temporary");
        let open = connect(&dsn).await;
        open.batch_execute("BEGIN; INSERT INTO local VALUES (-1, 'open')").await.expect("begun");
        let status = cluster.wait_until_healthy();
        let old = primary(&status, group).id.clone();
        let before: Vec<usize> = workers.iter().map(|it| it.rounds.load(Ordering::Relaxed)).collect();
        // What is in progress when the draining begins may end.
        let ending = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            open.batch_execute("COMMIT").await
        });
        let output = tokio::task::block_in_place(|| cluster.admin(&["switchover", group]));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        cluster.wait_for("another primary", |now| {
            now.groups.iter().any(|it| it.id == group && it.phase == "serving" && it.primary.as_ref() != Some(&old))
        });
        ending.await.expect("no panic").expect("a transaction in progress ends well");
        let goes_on = |(worker, before): (&Worker, &usize)| worker.rounds.load(Ordering::Relaxed) >= before + PROGRESS;
        for _ in 0..600 {
            if workers.iter().zip(&before).all(goes_on) || workers.iter().any(|it| it.task.is_finished()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let kept = pinned.batch_execute("SELECT * FROM mine").await;
        match (group, kept) {
            ("query", Err(error)) => {
                assert!(error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{error}");
            }
            (_, kept) => kept.unwrap_or_else(|error| panic!("{group}: its connection is elsewhere: {error}")),
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut failed = Vec::new();
    for worker in workers {
        let rounds = worker.rounds.load(Ordering::Relaxed);
        println!("{}: {rounds} rounds", worker.name);
        if let Err(error) = worker.task.await.expect("no panic") {
            failed.push(format!("{}: {error:?}", worker.name));
        }
        assert!(rounds >= 2 * PROGRESS || !failed.is_empty(), "{}: no progress", worker.name);
    }
    assert_eq!(failed, Vec::<String>::new());
}
