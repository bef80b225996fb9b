//! A plain PostgreSQL beside the cluster: what it answers is the truth. Called by `tpch`.

use std::{
    fs,
    os::unix::fs::chown,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use super::{
    processes,
    running::{eventually, scratch},
};

/// For initdb's fresh cluster to accept connections.
const START: Duration = Duration::from_secs(30);

/// A running server, ended when dropped.
pub struct Plain {
    server: Child,
    port: u16,
    _scratch: TempDir,
}

impl Plain {
    /// Makes and starts one on `port`.
    pub fn start(port: u16) -> Self {
        let bin = howdah::provision::postgres::find(None).expect("PostgreSQL is installed");
        let scratch = scratch();
        let data = scratch.path().join("data");
        fs::create_dir(&data).expect("a scratch directory");
        if geteuid().is_root() {
            let (user, group) = postgres_user();
            chown(&data, Some(user), Some(group)).expect("root may");
        }
        let mut initdb = as_postgres(bin.join("initdb"));
        initdb.arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]);
        assert!(initdb.stdout(Stdio::null()).status().expect("initdb runs").success());
        let mut postgres = as_postgres(bin.join("postgres"));
        postgres.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        postgres.args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "logging_collector=off"]);
        let server = postgres.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("postgres runs");
        let ready = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        assert!(eventually(START, ready), "the plain PostgreSQL does not start");
        Self { server, port, _scratch: scratch }
    }

    /// For tokio-postgres.
    pub fn dsn(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        processes::send(self.server.id(), Signal::INT);
        let _ = self.server.wait();
    }
}

/// A command as the user that may run PostgreSQL.
fn as_postgres(program: PathBuf) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(program);
    command.current_dir("/");
    if geteuid().is_root() {
        let (user, group) = postgres_user();
        command.uid(user).gid(group);
    }
    command
}

fn postgres_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("users are listed");
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("PostgreSQL came with its user");
    let fields: Vec<_> = line.split(':').collect();
    (fields[2].parse().expect("a number"), fields[3].parse().expect("a number"))
}
