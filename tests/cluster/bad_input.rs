//! What people and broken programs get wrong: each case has a clear message and the right exit status
//! or SQLSTATE, and the cluster goes on.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use futures_util::SinkExt as _;
use tokio_postgres::{Client, error::SqlState};

use super::{
    ledger::connect,
    running::{Cluster, HOWDAH, PATIENCE, eventually, free_block, scratch},
};

/// A broken client waits no longer for its answer.
const ANSWER: Duration = Duration::from_secs(10);

fn run(arguments: &[&str]) -> Output {
    Command::new(HOWDAH).args(arguments).output().expect("the binary runs")
}

/// Failed with this status, and one line on stderr that says all of this.
fn refused(output: &Output, status: i32, says: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert!(says.iter().all(|part| text.contains(part)), "{says:?} is not all in: {text}");
    if status == 1 {
        let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
        assert_eq!(lines, 1, "{text}");
    }
}

fn dev(directory: &Path, base: u16, more: &[&str]) -> Output {
    let ports = [base.to_string(), (base + 32).to_string()];
    let directory = directory.to_string_lossy();
    let arguments =
        ["dev", "--dir", directory.as_ref(), "--base-port", ports[0].as_str(), "--sql-port", ports[1].as_str()];
    run(&[&arguments, more].concat())
}

#[test]
fn wrong_arguments_are_usage_errors() {
    refused(&run(&["switchover", "No Group"]), 2, &["No Group", "not a valid name"]);
    refused(&run(&["agent", "--name", "a", "--kind", "queen"]), 2, &["queen", "query, shard"]);
    refused(&run(&["dev", "--load", "tpch"]), 2, &["tpch:SCALE"]);
    refused(&run(&["status", "--coordinator", "localhost"]), 2, &["http://host:port"]);
    refused(&run(&["frobnicate"]), 2, &["frobnicate"]);
}

#[test]
fn coordinators_that_do_not_answer_are_named() {
    let says = ["http://127.0.0.1:9", "no coordinator answered", "--coordinator"];
    refused(&run(&["status", "--coordinator", "http://127.0.0.1:9"]), 1, &says);
}

#[test]
fn a_machine_that_is_not_ready_is_found_out_before_anything_starts() {
    let scratch = scratch();
    let base = free_block();
    let empty = scratch.path().join("no-postgres");
    fs::create_dir(&empty).expect("a directory");
    let empty = empty.to_string_lossy();
    let cluster = scratch.path().join("cluster");
    refused(&dev(&cluster, base, &["--postgres-bin", &empty]), 1, &["PostgreSQL is not installed", "apt-get install"]);
    assert!(!cluster.exists());

    for name in ["initdb", "postgres", "pg_basebackup", "pg_rewind"] {
        let program = Path::new(empty.as_ref()).join(name);
        fs::write(&program, "#!/bin/sh\necho 'postgres (PostgreSQL) 13.4'\n").expect("a script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    refused(&dev(&cluster, base, &["--postgres-bin", &empty]), 1, &["version 13, too old"]);

    let taken = TcpListener::bind(("127.0.0.1", base + 1)).expect("the block is free");
    refused(&dev(&cluster, base, &[]), 1, &[&format!("port {}", base + 1), "coordinator-2", "--base-port"]);
    drop(taken);
    refused(&dev(&cluster, base, &["--shards", "99"]), 1, &["--shards 99", "0 to 64"]);
    refused(&dev(&cluster, base, &["--spares", "40"]), 1, &["would both have port"]);
}

#[test]
fn directories_of_others_are_left_alone() {
    let scratch = scratch();
    let base = free_block();
    let full = scratch.path().join("full");
    fs::create_dir(&full).expect("a directory");
    fs::write(full.join("thesis.txt"), "important").expect("a file");
    refused(&dev(&full, base, &[]), 1, &["not empty", "choose another directory"]);
    fs::write(full.join("cluster.json"), "{\"made_by\": \"somebody else\"}").expect("a file");
    refused(&dev(&full, base, &[]), 1, &["belongs to something else"]);
    assert_eq!(fs::read_dir(&full).expect("it is there").count(), 2, "nothing was added");
}

/// SQLSTATE of a statement that must fail.
async fn fails(client: &Client, sql: &str) -> String {
    let error = client.simple_query(sql).await.expect_err(sql);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
    assert!(!error.message().is_empty(), "{sql}");
    error.code().code().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_cluster_answers_mistakes_with_the_right_code_and_goes_on() {
    let mut cluster = Cluster::start(&[]);
    logins(&cluster).await;
    statements(&cluster).await;
    garbage(&cluster).await;
    disconnects(&cluster).await;
    admin(&cluster);
    let second = dev(&cluster.directory(), free_block(), &[]);
    refused(&second, 1, &["holds a cluster made with", "leave the flag out"]);
    let directory = cluster.directory();
    let again = run(&["dev", "--dir", directory.to_string_lossy().as_ref()]);
    refused(&again, 1, &["another howdah dev", "stop it"]);
    roles(&mut cluster);
}

/// A role started on the directory of another, of another cluster, or of nobody.
fn roles(cluster: &mut Cluster) {
    let directory = cluster.directory();
    let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let agent = |cluster: &str, data: &str| {
        let base = free_block().to_string();
        let http = format!("127.0.0.1:{base}");
        let secret = path("secret");
        let files = ["--secret-file", &secret, "--owner-password-file", &secret, "--data-dir", &path(data)];
        let rest = ["--name", "data-1", "--kind", "shard", "--cluster", cluster, "--http", &http];
        let command = [["agent", "--coordinators", "http://127.0.0.1:9"].as_slice(), &files, &rest].concat();
        run(&command)
    };
    refused(&agent("any", "data-1"), 1, &["another agent is running"]);
    refused(&agent("any", "log"), 1, &["not a howdah agent's directory"]);
    assert_eq!(cluster.stop(), Some(0));
    refused(&agent("other", "data-1"), 1, &["belongs to member data-1 of cluster dev-"]);
    let data = path("coordinator-1");
    let other =
        ["coordinator", "--id", "1", "--peers", "1=http://127.0.0.1:9", "--cluster", "other", "--data-dir", &data];
    refused(&run(&other), 1, &["belongs to"]);
}

fn admin(cluster: &Cluster) {
    refused(&cluster.admin(&["switchover", "no-such-group"]), 1, &["no-such-group"]);
    refused(&cluster.admin(&["switchover", "shard-1", "--to", "nobody"]), 1, &["nobody"]);
    refused(&cluster.admin(&["operation", "watch", "op-999999"]), 1, &["op-999999"]);
}

async fn logins(cluster: &Cluster) {
    let with = |user: &str, password: &str, database: &str| {
        let port = cluster.sql_port(0);
        format!("host=127.0.0.1 port={port} user={user} password={password} dbname={database}")
    };
    for (dsn, code) in [
        (with("howdah", "wrong", "howdah"), "28P01"),
        (with("nobody", "howdah", "howdah"), "28P01"),
        (with("howdah", "howdah", "nothing"), "3D000"),
    ] {
        let error = connect(&dsn).await.err().unwrap_or_else(|| panic!("{dsn} gets in"));
        assert_eq!(error.code().map(SqlState::code), Some(code), "{dsn}: {error:?}");
    }
}

async fn statements(cluster: &Cluster) {
    let client = connect(&cluster.dsn(0)).await.expect("the cluster is ready");
    let setup = "CREATE TABLE ok (id bigint PRIMARY KEY, note text);
                 CREATE TABLE no_key (id bigint PRIMARY KEY, owner bigint);
                 CREATE TABLE nullable (owner bigint, note text)";
    client.batch_execute(setup).await.expect("tables");
    client.batch_execute("SELECT create_distributed_table('ok', 'id')").await.expect("distributed");
    client.batch_execute("SELECT create_distributed_table('nullable', 'owner')").await.expect("distributed");
    for (sql, code) in [
        ("SELEKT 1", "42601"),
        ("SELECT * FROM nowhere", "42P01"),
        ("SELECT nothing FROM ok", "42703"),
        ("SELECT create_distributed_table('nowhere', 'id')", "42P01"),
        ("SELECT create_distributed_table('no_key', 'nothing')", "42703"),
        ("SELECT create_distributed_table('no_key', 'owner')", "0A000"),
        ("INSERT INTO nullable VALUES (NULL, 'x')", "23502"),
        ("INSERT INTO ok VALUES ('one')", "22P02"),
        ("INSERT INTO ok VALUES (1), (1)", "23505"),
        ("SELECT count(*) / 0 FROM ok", "22012"),
    ] {
        assert_eq!(fails(&client, sql).await, code, "{sql}");
    }
    let still = client.query_one("SELECT count(*) FROM ok", &[]).await.expect("the session goes on");
    assert_eq!(still.get::<_, i64>(0), 0);
}

/// Bytes that are no protocol: answered or hung up on, never a crash.
async fn garbage(cluster: &Cluster) {
    let startup = |length: i32, rest: &[u8]| [length.to_be_bytes().as_slice(), rest].concat();
    let cases: [Vec<u8>; 6] = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        startup(i32::MAX, b"\0\x03\0\0"),
        startup(-1, b"\0\x03\0\0"),
        startup(8, b"\xff\xff\xff\xff"),
        startup(100, b"\0\x03\0\0user\0how"),
        startup(9, b"\0\x03\0\0\0"),
    ];
    for case in cases {
        let mut stream = TcpStream::connect(("127.0.0.1", cluster.sql_port(0))).expect("the router listens");
        stream.set_read_timeout(Some(ANSWER)).expect("a socket option");
        stream.write_all(&case).expect("it takes bytes");
        stream.shutdown(std::net::Shutdown::Write).expect("our half closes");
        let mut answer = Vec::new();
        // A reset is an answer as well.
        let read = stream.read_to_end(&mut answer);
        let hung = read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!hung, "{case:?} is neither answered nor hung up on");
        assert!(answer.is_empty() || matches!(answer[0], b'E' | b'R' | b'N' | b'S'), "{case:?}: {answer:?}");
    }
    connect(&cluster.dsn(0)).await.expect("the router goes on");
}

/// Clients that vanish in the middle leave nothing half done.
async fn disconnects(cluster: &Cluster) {
    let rows = async |client: &Client| -> i64 {
        client.query_one("SELECT count(*) FROM ok", &[]).await.expect("it can be read").get(0)
    };
    let watcher = connect(&cluster.dsn(1)).await.expect("the cluster is ready");
    {
        let client = connect(&cluster.dsn(0)).await.expect("the cluster is ready");
        let mut sink = Box::pin(client.copy_in::<_, bytes::Bytes>("COPY ok FROM STDIN").await.expect("COPY begins"));
        for id in 1..=5000 {
            sink.feed(format!("{id}\tx\n").into()).await.expect("rows are taken");
        }
        sink.flush().await.expect("rows are taken");
    }
    assert_eq!(rows(&watcher).await, 0, "an interrupted COPY leaves rows");

    // A transaction over both shards whose client sends COMMIT and is gone: all of it, or nothing.
    let client = connect(&cluster.dsn(0)).await.expect("the cluster is ready");
    client.batch_execute("BEGIN; INSERT INTO ok SELECT generate_series(1, 100)").await.expect("a transaction");
    {
        let commit = client.batch_execute("COMMIT");
        // One poll sends it.
        tokio::select! {
            biased;
            _ = commit => {}
            () = std::future::ready(()) => {}
        }
    }
    drop(client);
    let clock = howdah::host::clock::Clock::start();
    let mut count = rows(&watcher).await;
    while count != 0 && count != 100 && clock.now().duration() < PATIENCE {
        count = rows(&watcher).await;
    }
    assert!(count == 0 || count == 100, "{count} of 100 rows of one transaction");
    let settled = eventually(PATIENCE, || prepared(cluster) == 0);
    assert!(settled, "prepared transactions are left behind");
}

/// Prepared transactions on all primaries, asked directly.
fn prepared(cluster: &Cluster) -> usize {
    let mut count = 0;
    for group in cluster.status().groups {
        let Some(primary) = group.members.iter().find(|it| Some(&it.id) == group.primary.as_ref()) else { return 1 };
        let port = primary.port.to_string();
        let output = Command::new("psql")
            .args(["-h", "127.0.0.1", "-p", &port, "-U", "howdah", "-d", "howdah", "-Atc"])
            .arg("SELECT count(*) FROM pg_prepared_xacts")
            .env("PGPASSWORD", "howdah")
            .output()
            .expect("psql is installed");
        let text = String::from_utf8_lossy(&output.stdout);
        count += text.trim().parse::<usize>().unwrap_or(1);
    }
    count
}
