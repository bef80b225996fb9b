//! Programs people use, unchanged: psql, pgbench, psycopg, JDBC. tokio-postgres is every other test. A
//! program that this machine lacks is skipped, loudly.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use super::{
    processes,
    running::{Cluster, eventually, scratch},
};

/// For a cancelled statement to end: at once, but for a busy machine.
const CANCEL: Duration = Duration::from_secs(10);

#[test]
fn drivers() {
    let cluster = Cluster::start(&[]);
    psql(&cluster);
    pgbench(&cluster);
    psycopg(&cluster);
    jdbc(&cluster);
}

/// Not through `eprintln`, which the test harness keeps to itself.
fn skip(what: &str) {
    writeln!(std::io::stderr(), "SKIPPED: {what}").expect("stderr takes a line");
}

fn command(program: &str, cluster: &Cluster) -> Command {
    let mut command = Command::new(program);
    let port = cluster.sql_port(0).to_string();
    command.env("PGHOST", "127.0.0.1").env("PGPORT", port).env("PGUSER", "howdah");
    command.env("PGPASSWORD", "howdah").env("PGDATABASE", "howdah");
    command
}

fn ok(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn psql(cluster: &Cluster) {
    let scratch = scratch();
    let file = scratch.path().join("rows.csv");
    fs::write(&file, "1,one\n2,two\n3,three\n").expect("a file");
    let run = |script: &str| {
        let mut psql = command("psql", cluster);
        let psql = psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-At"]);
        for line in script.lines() {
            psql.args(["-c", line]);
        }
        ok(&psql.output().expect("psql is installed"))
    };
    run("CREATE TABLE drivers_psql (id bigint PRIMARY KEY, note text NOT NULL)");
    run("SELECT create_distributed_table('drivers_psql', 'id')");
    run(&format!("\\copy drivers_psql FROM '{}' WITH (FORMAT csv)", file.display()));
    let described = run("\\pset tuples_only off\n\\d drivers_psql");
    assert!(described.contains("id|bigint") && described.contains("PRIMARY KEY"), "{described}");
    assert!(run("\\dt").contains("drivers_psql"));
    assert_eq!(run("SELECT id, note FROM drivers_psql ORDER BY id DESC"), "3|three\n2|two\n1|one\n");
    let out = scratch.path().join("out.csv");
    run(&format!("\\copy drivers_psql TO '{}' WITH (FORMAT csv)", out.display()));
    let text = fs::read_to_string(&out).expect("psql wrote it");
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["1,one", "2,two", "3,three"]);
    watch(cluster);
    interrupt(cluster);
}

/// `\watch` runs a statement again and again until Ctrl-C.
fn watch(cluster: &Cluster) {
    let mut psql = command("psql", cluster);
    let psql = psql.args(["-X", "-At"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = psql.spawn().expect("psql is installed");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(b"SELECT 'seen', count(*) FROM drivers_psql \\watch 0.1\n").expect("psql reads");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let seen = lines.map_while(Result::ok).filter(|line| line == "seen|3").take(3).count();
    processes::send(child.id(), Signal::INT);
    drop(input);
    child.wait().expect("psql ends");
    assert_eq!(seen, 3);
}

/// Ctrl-C reaches the statement, wherever it runs.
fn interrupt(cluster: &Cluster) {
    for sql in ["SELECT pg_sleep(60)", "SELECT pg_sleep(60) FROM drivers_psql WHERE id = 1"] {
        let mut psql = command("psql", cluster);
        let psql = psql.args(["-X", "-c", sql]).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = psql.spawn().expect("psql is installed");
        let pid = child.id();
        let active = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{}%'",
            "pg_sleep(60)"
        );
        let running = || {
            cluster.status().groups.iter().any(|group| {
                let primary = group.members.iter().find(|it| Some(&it.id) == group.primary.as_ref());
                let port = primary.map_or(0, |it| it.port).to_string();
                let mut psql = command("psql", cluster);
                let output =
                    psql.env("PGPORT", port).args(["-X", "-Atc", &active]).output().expect("psql is installed");
                // The question itself is one of them.
                String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().is_ok_and(|count| count > 1)
            })
        };
        assert!(eventually(CANCEL, running), "{sql} does not begin\n{}", cluster.report());
        processes::send(pid, Signal::INT);
        assert!(eventually(CANCEL, || !processes::is_alive(pid)), "{sql} cannot be cancelled");
        let output = child.wait_with_output().expect("it has ended");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("canceling statement due to user request"), "{sql}: {text}");
    }
}

fn pgbench(cluster: &Cluster) {
    let bench = |arguments: &[&str]| {
        let output = command("pgbench", cluster).args(arguments).output().expect("pgbench is installed");
        ok(&output)
    };
    let sql = |script: &str| {
        ok(&command("psql", cluster).args(["-X", "-v", "ON_ERROR_STOP=1", "-Atc", script]).output().expect("psql runs"))
    };
    bench(&["-i", "-q", "-s", "1"]);
    for (table, key) in [("accounts", "aid"), ("branches", "bid"), ("tellers", "tid")] {
        sql(&format!("SELECT create_distributed_table('pgbench_{table}', '{key}')"));
    }
    sql("SELECT create_distributed_table('pgbench_history', 'aid', colocate_with => 'pgbench_accounts')");
    assert_eq!(sql("SELECT count(*) FROM pgbench_accounts").trim(), "100000");
    for protocol in ["simple", "extended", "prepared"] {
        for script in ["select-only", "tpcb-like"] {
            let text = bench(&["-n", "-M", protocol, "-b", script, "-c", "4", "-t", "100"]);
            assert!(text.contains("actually processed: 400/400"), "{protocol} {script}: {text}");
        }
    }
    let (balances, history) =
        (sql("SELECT sum(abalance) FROM pgbench_accounts"), sql("SELECT sum(delta) FROM pgbench_history"));
    assert_eq!(balances, history, "balances and history differ");
}

fn psycopg(cluster: &Cluster) {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("psycopg");
    let python = place.join("bin/python");
    if !python.exists()
        && !Command::new("python3").args(["-m", "venv"]).arg(&place).status().is_ok_and(|it| it.success())
    {
        return skip("psycopg: there is no python3 with venv");
    }
    let install = Command::new(place.join("bin/pip")).args(["install", "--quiet", "psycopg[binary]>=3.1"]).output();
    let there = Command::new(&python).args(["-c", "import psycopg"]).status().is_ok_and(|it| it.success());
    if !there {
        let reason = install.map(|it| String::from_utf8_lossy(&it.stderr).into_owned()).unwrap_or_default();
        return skip(&format!("psycopg cannot be installed: {}", reason.lines().last().unwrap_or_default()));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/drivers/psycopg_round.py");
    let text = ok(&Command::new(python).arg(script).arg(cluster.dsn(0)).output().expect("python runs"));
    assert!(text.contains("psycopg is content"), "{text}");
}

fn jdbc(cluster: &Cluster) {
    let jar = ["/usr/share/java/postgresql.jar", "/usr/share/java/postgresql-jdbc/postgresql.jar"]
        .iter()
        .map(PathBuf::from)
        .find(|jar| jar.exists());
    let compiler = Command::new("javac").arg("-version").output().is_ok_and(|it| it.status.success());
    let (Some(jar), true) = (jar, compiler) else {
        return skip("JDBC: needs a JDK and PostgreSQL's driver (libpostgresql-jdbc-java)");
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/drivers/JdbcRound.java");
    let (first, second) = (cluster.sql_port(0), cluster.sql_port(1));
    let url = format!("jdbc:postgresql://127.0.0.1:{first},127.0.0.1:{second}/howdah");
    let text = ok(&Command::new("java").arg("-cp").arg(jar).arg(source).arg(url).output().expect("java runs"));
    assert!(text.contains("JDBC is content"), "{text}");
}
