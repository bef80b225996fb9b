//! A query group and shards of one PostgreSQL each, a router, and a coordinator that does nothing but
//! place.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use howdah::{
    config::RouterConfig,
    host::secret::Secret,
    model::{
        group::GroupKind,
        ids::{ColocationId, GroupId},
        map::Colocation,
        numbers::{Epoch, Millis, Revision, Timeline},
        schema,
        topology::{Access, GroupView, Topology},
    },
    router,
    wire::pb::topology::{
        self as pb,
        topology_service_server::{TopologyService, TopologyServiceServer},
    },
};
use tokio::sync::watch;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use tokio_stream::{
    StreamExt as _,
    wrappers::{TcpListenerStream, WatchStream},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::router::harness::{Postgres, SECRET, USER, port};

/// Buckets of each colocation group.
pub const BUCKETS: usize = 8;

/// The whole.
pub struct Herd {
    pub query: Postgres,
    pub shards: Vec<Postgres>,
    /// The router's SQL port.
    pub port: u16,
    coordinator: SocketAddr,
    cancel: CancellationToken,
}

impl Drop for Herd {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn group(name: &str) -> GroupId {
    name.parse().expect("a name")
}

fn view(name: &str, kind: GroupKind, postgres: &Postgres) -> (GroupId, GroupView) {
    let primary = postgres.endpoint(&format!("{name}-1"));
    let access = Access::Open { primary };
    let timeline = Timeline(1);
    (group(name), GroupView { id: group(name), kind, epoch: Epoch(1), timeline, access, standbys: Vec::new() })
}

impl Herd {
    /// With so many shards.
    pub async fn start(shards: usize) -> Self {
        Self::start_behind(shards, |_, port| port).await
    }

    /// The router reaches shard `n`, counted from 1, by the port that `front` gives for its own.
    pub async fn start_behind(shards: usize, mut front: impl FnMut(usize, u16) -> u16) -> Self {
        let query = prepared(GroupKind::Query).await;
        let mut members = Vec::new();
        for _ in 0..shards {
            members.push(prepared(GroupKind::Shard).await);
        }
        let mut groups = BTreeMap::from([view("query", GroupKind::Query, &query)]);
        for (at, member) in members.iter().enumerate() {
            let (id, mut view) = view(&format!("shard-{}", at + 1), GroupKind::Shard, member);
            if let Access::Open { primary } = &mut view.access {
                primary.port = front(at + 1, member.port);
            }
            groups.insert(id, view);
        }
        let topology = Topology {
            revision: Revision(1),
            cluster: "test".parse().expect("a name"),
            groups,
            colocations: BTreeMap::new(),
            failover_wait: Millis(5_000),
            database: "app".to_owned(),
            bucket_count: 8,
        };
        let (send, receive) = watch::channel(Arc::new(topology));
        let cancel = CancellationToken::new();
        let sql = port();
        let coordinator = serve(send, sql).await;
        let config = config("query-1", coordinator, sql);
        let running = router::start(config, receive, cancel.clone()).await.expect("the router starts");
        let ended = cancel.clone();
        tokio::spawn(async move { running.wait(&ended).await });
        let herd = Self { query, shards: members, port: sql, coordinator, cancel };
        let admin = herd.query.admin("app").await;
        let want = i64::try_from(shards).expect("few");
        eventually("shards are ready", async || {
            let row = admin.query_one("SELECT count(*) FROM howdah.node WHERE ready", &[]).await.expect("readable");
            row.get::<_, i64>(0) == want
        })
        .await;
        herd
    }

    /// A client of the router.
    pub async fn client(&self) -> Client {
        client_at(self.port).await
    }

    /// A second router, told of everything by the coordinator: its SQL port.
    pub async fn second_router(&self) -> u16 {
        let sql = port();
        tokio::spawn(router::run(config("query-2", self.coordinator, sql), self.cancel.clone()));
        eventually("the second router serves", async || settings(sql).connect(NoTls).await.is_ok()).await;
        sql
    }

    /// What `sql` counts on each shard.
    pub async fn on_shards(&self, sql: &str) -> Vec<i64> {
        let mut counts = Vec::new();
        for shard in &self.shards {
            counts.push(shard.admin("app").await.query_one(sql, &[]).await.expect(sql).get(0));
        }
        counts
    }
}

fn config(name: &str, coordinator: SocketAddr, sql: u16) -> RouterConfig {
    RouterConfig {
        cluster: "test".parse().expect("a name"),
        name: name.parse().expect("a name"),
        coordinators: vec![format!("http://{coordinator}")],
        listen: SocketAddr::from(([127, 0, 0, 1], sql)),
        read_only_listen: None,
        http: None,
        advertise: "127.0.0.1".to_owned(),
        secret: Secret::new(SECRET),
        workers: 2,
    }
}

fn settings(port: u16) -> Config {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(USER).password(USER).dbname("app");
    config
}

/// A client of whatever listens there.
pub async fn client_at(port: u16) -> Client {
    let (client, connection) = settings(port).connect(NoTls).await.expect("the router lets us in");
    tokio::spawn(connection);
    client
}

async fn prepared(kind: GroupKind) -> Postgres {
    let postgres = Postgres::start().await;
    postgres.admin("app").await.batch_execute(&schema::install(kind)).await.expect("the schema installs");
    postgres
}

/// All rows as text, columns joined by `|`.
pub async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let text = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let values: Vec<_> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
            Some(values.join("|"))
        }
        _ => None,
    };
    messages.into_iter().filter_map(text).collect()
}

/// The SQLSTATE and message of a statement that must fail.
pub async fn refused(client: &Client, sql: &str) -> (String, String) {
    let error = client.simple_query(sql).await.err().unwrap_or_else(|| panic!("{sql} succeeds"));
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
    (error.code().code().to_owned(), error.message().to_owned())
}

/// Waits for a condition, 30 s at most.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

/// Places every colocation group round robin over the shards.
struct Placing {
    topology: watch::Sender<Arc<Topology>>,
    /// SQL port of the first router.
    router: u16,
    /// Groups made for one table.
    alone: Mutex<BTreeMap<ColocationId, String>>,
}

#[tonic::async_trait]
impl TopologyService for Placing {
    type WatchStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<pb::Topology, Status>> + Send>>;

    async fn watch(&self, _: Request<Streaming<pb::RouterReport>>) -> Result<Response<Self::WatchStream>, Status> {
        let router = pb::RouterAddress {
            router: "query-1".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: u32::from(self.router),
        };
        let topologies = WatchStream::new(self.topology.subscribe()).map(move |topology| {
            let mut message = pb::Topology::from((*topology).clone());
            message.routers = vec![router.clone()];
            Ok(message)
        });
        Ok(Response::new(Box::pin(topologies)))
    }

    async fn ensure_colocation(
        &self,
        request: Request<pb::EnsureColocationRequest>,
    ) -> Result<Response<pb::EnsureColocationResponse>, Status> {
        let request = request.into_inner();
        let count = if request.bucket_count == 0 { BUCKETS } else { request.bucket_count as usize };
        let mut topology = (**self.topology.borrow()).clone();
        let shards: Vec<GroupId> =
            topology.groups.values().filter(|it| it.kind == GroupKind::Shard).map(|it| it.id.clone()).collect();
        let mut alone = self.alone.lock().expect("no panic");
        let same = |it: &&Colocation| {
            let key = alone.get(&it.id).map_or("", String::as_str);
            key == request.alone && it.key_type == request.key_type && it.buckets.len() == count
        };
        let found = topology.colocations.values().find(same).cloned();
        let colocation = found.unwrap_or_else(|| Colocation {
            id: ColocationId(u32::try_from(topology.colocations.len()).expect("few") + 1),
            key_type: request.key_type.clone(),
            buckets: (0..count).map(|at| shards[at % shards.len()].clone()).collect(),
        });
        topology.colocations.insert(colocation.id, colocation.clone());
        if !request.alone.is_empty() {
            alone.insert(colocation.id, request.alone.clone());
        }
        topology.revision = topology.revision.next();
        let revision = topology.revision.0;
        self.topology.send_replace(Arc::new(topology));
        let buckets = colocation.buckets.iter().map(ToString::to_string).collect();
        let colocation = Some(pb::Colocation { id: colocation.id.0, key_type: colocation.key_type, buckets });
        Ok(Response::new(pb::EnsureColocationResponse { colocation, revision }))
    }
}

async fn serve(topology: watch::Sender<Arc<Topology>>, router: u16) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let service = TopologyServiceServer::new(Placing { topology, router, alone: Mutex::default() });
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}
