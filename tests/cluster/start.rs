//! A cluster starts, stops in order, and goes on with its data when it is started again.

use std::time::Duration;

use howdah::host::clock::Clock;

use super::{ledger::connect, processes, running::Cluster};

/// From the command to `ready`, on two processors and with nothing there before.
const START: Duration = Duration::from_secs(20);

/// The same with data there already.
const RESTART: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_and_starts_again_with_its_data() {
    let clock = Clock::start();
    let mut cluster = Cluster::start(&[]);
    let start = clock.now().duration();
    let client = connect(&cluster.dsn(0)).await.expect("ready means that SQL works");
    for statement in [
        "CREATE TABLE kept (id bigint PRIMARY KEY, note text)",
        "SELECT create_distributed_table('kept', 'id')",
        "CREATE TABLE kept_here (id bigint PRIMARY KEY)",
        "INSERT INTO kept SELECT i, 'note ' || i FROM generate_series(1, 1000) i",
        "INSERT INTO kept_here SELECT generate_series(1, 10)",
    ] {
        client.batch_execute(statement).await.expect(statement);
    }
    drop(client);
    let pids: Vec<_> =
        cluster.status().groups.iter().flat_map(|it| it.members.clone()).filter_map(|it| it.pid).collect();
    assert_eq!(pids.len(), 6);

    assert_eq!(cluster.stop(), Some(0), "{}", cluster.report());
    assert!(!pids.iter().any(|pid| processes::is_alive(*pid)), "agents outlive howdah dev");

    let clock = Clock::start();
    cluster.start_again();
    let restart = clock.now().duration();
    let client = connect(&cluster.dsn(1)).await.expect("ready means that SQL works");
    let row = client.query_one("SELECT count(*), sum(id)::bigint FROM kept", &[]).await.expect("the table is there");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1000, 500_500));
    let row = client.query_one("SELECT count(*) FROM kept_here", &[]).await.expect("the table is there");
    assert_eq!(row.get::<_, i64>(0), 10);
    println!("start {start:?}, restart {restart:?}");
    assert!(start < START, "the start took {start:?}\n{}", cluster.report());
    assert!(restart < RESTART, "the restart took {restart:?}\n{}", cluster.report());
}
