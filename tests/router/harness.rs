//! A PostgreSQL of the test's own and a router in front of it, by a topology that the test gives. The
//! router's own port range begins at 23000.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use howdah::{
    config::RouterConfig,
    host::secret::Secret,
    model::{
        group::GroupKind,
        ids::GroupId,
        numbers::{Epoch, Millis, Revision, Timeline},
        schema,
        topology::{Access, Endpoint, GroupView, Topology},
    },
    router,
};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::sync::CancellationToken;

/// Ports are taken in order, so that tests run side by side.
static NEXT_PORT: AtomicU16 = AtomicU16::new(23_000);

/// A port of our range.
pub fn port() -> u16 {
    loop {
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 23_500, "our range is used up");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The cluster's secret in these tests.
pub const SECRET: &str = "a secret of tests";
/// A user, and its password.
pub const USER: &str = "app";

/// A PostgreSQL; its postmaster is killed at the end.
pub struct Postgres {
    directory: TempDir,
    postmaster: Child,
    /// Where it listens.
    pub port: u16,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn bin(name: &str) -> PathBuf {
    let found = Command::new("pg_config").arg("--bindir").output().ok().filter(|it| it.status.success());
    let directory = found.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    PathBuf::from(directory.unwrap_or_else(|| "/usr/lib/postgresql/15/bin".to_owned())).join(name)
}

/// A command that does not run as root, which PostgreSQL would refuse.
fn unprivileged(program: PathBuf) -> Command {
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

impl Postgres {
    /// A new cluster with roles `howdah_router` and [`USER`], and database `app`.
    pub async fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("howdah-router-").tempdir().expect("a scratch directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("permissions");
        let data = directory.path().join("data");
        let made = unprivileged(bin("initdb"))
            .args(["-U", "postgres", "-A", "trust", "--no-sync", "--locale=C.UTF-8", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(made.expect("initdb runs").success(), "initdb");
        let hba = "local all all trust\nhost all postgres all trust\nhost all all all scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), hba).expect("pg_hba.conf");
        let port = port();
        let postmaster = unprivileged(bin("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "max_connections=200", "-c", "unix_socket_directories="])
            .args(["-c", "log_min_messages=fatal", "-c", "max_prepared_transactions=50"])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("postgres runs");
        let postgres = Self { directory, postmaster, port };
        let admin = postgres.admin("postgres").await;
        let secret = Secret::new(SECRET);
        let verifier = |role: &str, password: &Secret| secret.verifier(role, password);
        for sql in [
            format!(
                "CREATE ROLE howdah_router SUPERUSER LOGIN PASSWORD '{}'",
                verifier("howdah_router", &secret.password("howdah_router"))
            ),
            format!("CREATE ROLE {USER} LOGIN CREATEDB PASSWORD '{}'", verifier(USER, &Secret::new(USER))),
            "CREATE ROLE nologin NOLOGIN PASSWORD 'x'".to_owned(),
            format!("CREATE DATABASE app OWNER {USER}"),
        ] {
            admin.batch_execute(&sql).await.expect(&sql);
        }
        postgres
    }

    /// A connection beside the router, as superuser.
    pub async fn admin(&self, database: &str) -> Client {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("postgres").dbname(database);
        connect(&config).await
    }

    /// Ends the postmaster without a word, and with it every backend.
    pub fn kill(&mut self) {
        let _ = self.postmaster.kill();
        let _ = self.postmaster.wait();
        let _ = &self.directory;
    }

    /// It as an endpoint.
    pub fn endpoint(&self, member: &str) -> Endpoint {
        Endpoint { member: member.parse().expect("a name"), host: "127.0.0.1".to_owned(), port: self.port }
    }
}

/// Connects, trying again while the server starts.
pub async fn connect(config: &Config) -> Client {
    let mut last = None;
    for _ in 0..200 {
        match config.connect(NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no connection: {last:?}");
}

/// A router, stopped at the end.
pub struct Router {
    /// Its SQL port.
    pub port: u16,
    /// Its read-only port.
    pub read_only_port: u16,
    topology: watch::Sender<Arc<Topology>>,
    cancel: CancellationToken,
}

impl Drop for Router {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// A topology of one query group.
pub fn topology(revision: u64, epoch: u64, access: Access) -> Topology {
    let id: GroupId = "query".parse().expect("a name");
    let view = GroupView {
        id: id.clone(),
        kind: GroupKind::Query,
        epoch: Epoch(epoch),
        timeline: Timeline(1),
        access,
        standbys: Vec::new(),
    };
    Topology {
        revision: Revision(revision),
        cluster: "test".parse().expect("a name"),
        groups: BTreeMap::from([(id, view)]),
        colocations: BTreeMap::new(),
        failover_wait: Millis(5_000),
        database: "app".to_owned(),
        bucket_count: 4,
    }
}

impl Router {
    /// In front of `postgres` as the query group's primary.
    pub async fn start(postgres: &Postgres) -> Self {
        // As an agent does before the first reign opens.
        postgres
            .admin("app")
            .await
            .batch_execute(&schema::install(GroupKind::Query))
            .await
            .expect("the schema installs");
        let access = Access::Open { primary: postgres.endpoint("query-1") };
        let (send, receive) = watch::channel(Arc::new(topology(1, 1, access)));
        let (port, read_only_port) = (port(), port());
        let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let config = RouterConfig {
            cluster: "test".parse().expect("a name"),
            name: "query-1".parse().expect("a name"),
            coordinators: Vec::new(),
            listen: address(port),
            read_only_listen: Some(address(read_only_port)),
            http: None,
            advertise: "127.0.0.1".to_owned(),
            secret: Secret::new(SECRET),
            workers: 2,
        };
        let cancel = CancellationToken::new();
        let running = router::start(config, receive, cancel.clone()).await.expect("the router starts");
        let ended = cancel.clone();
        tokio::spawn(async move { running.wait(&ended).await });
        Self { port, read_only_port, topology: send, cancel }
    }

    /// A newer topology.
    pub fn tell(&self, topology: Topology) {
        self.topology.send_replace(Arc::new(topology));
    }

    /// How clients connect.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(USER).password(USER).dbname("app");
        config
    }

    /// A client.
    pub async fn client(&self) -> Client {
        let (client, connection) = self.config().connect(NoTls).await.expect("the router lets us in");
        tokio::spawn(connection);
        client
    }
}
