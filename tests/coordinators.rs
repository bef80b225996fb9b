//! Coordinators as processes: they elect, keep what they acknowledged, forward, catch up, and refuse
//! directories and logs that are not what they should be.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use howdah::wire::pb::{
    admin::{AddShardRequest, GetOperationRequest, GetStatusRequest, admin_service_client::AdminServiceClient},
    agent::{
        AgentMessage, Container, CoordinatorMessage, Registration, agent_message,
        agent_service_client::AgentServiceClient, coordinator_message,
    },
    topology::{EnsureColocationRequest, topology_service_client::TopologyServiceClient},
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, transport::Channel};

/// Longer than any step takes on a busy machine; a step that takes this long has failed.
const DEADLINE: Duration = Duration::from_secs(20);

/// Three coordinators, some of which run.
struct Group {
    dir: TempDir,
    grpc: Vec<u16>,
    http: Vec<u16>,
    children: Vec<Option<Child>>,
}

impl Group {
    fn new() -> Self {
        let dir = TempDir::new().expect("a scratch directory");
        let listeners: Vec<_> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let ports: Vec<u16> =
            listeners.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect();
        Self { dir, grpc: ports[..3].to_vec(), http: ports[3..].to_vec(), children: vec![None, None, None] }
    }

    fn started() -> Self {
        let mut group = Self::new();
        (0..3).for_each(|number| group.start(number));
        group
    }

    fn url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.grpc[number])
    }

    fn data_dir(&self, number: usize) -> PathBuf {
        self.dir.path().join(number.to_string())
    }

    fn command(&self, number: usize) -> Command {
        let peers: Vec<_> = (0..3).map(|peer| format!("{}={}", peer + 1, self.url(peer))).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
        command.args(["coordinator", "--die-with-parent", "--id", &(number + 1).to_string()]);
        command.args(["--listen", &format!("127.0.0.1:{}", self.grpc[number])]);
        command.args(["--http", &format!("127.0.0.1:{}", self.http[number])]);
        command.args(["--peers", &peers.join(",")]).arg("--data-dir").arg(self.data_dir(number));
        command
    }

    fn start(&mut self, number: usize) {
        let log = File::options().create(true).append(true).open(self.dir.path().join(format!("{number}.log")));
        let mut command = self.command(number);
        command.stdout(log.expect("a log file")).stderr(Stdio::inherit());
        self.children[number] = Some(command.spawn().expect("the binary is built"));
    }

    fn kill(&mut self, number: usize) {
        let mut child = self.children[number].take().expect("it runs");
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
    }

    /// Runs a coordinator that is expected to refuse.
    async fn refused(mut command: Command) -> String {
        let run = tokio::task::spawn_blocking(move || command.stdout(Stdio::null()).output());
        let Output { status, stderr, .. } =
            timeout(DEADLINE, run).await.expect("it ends by itself").expect("no panic").expect("the binary is built");
        assert_eq!(status.code(), Some(1));
        String::from_utf8(stderr).expect("text")
    }

    /// Calls until it works: elections answer UNAVAILABLE.
    async fn until<T, F: Future<Output = Result<T, Status>>>(call: impl Fn() -> F) -> T {
        let again = async {
            loop {
                match call().await {
                    Ok(answer) => return answer,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        timeout(DEADLINE, again).await.expect("an answer in time")
    }

    /// Number of the leader, as `asked` sees it.
    async fn leader(&self, asked: usize) -> usize {
        let url = self.url(asked);
        let leader = || async {
            let answer = admin(&url).await?.get_status(GetStatusRequest {}).await?.into_inner();
            let coordinators = answer.status.ok_or_else(|| Status::internal("no status"))?.coordinators;
            let leader = coordinators.iter().position(|it| it.role == "leader");
            leader.ok_or_else(|| Status::unavailable("no leader"))
        };
        Self::until(leader).await
    }

    async fn add_shard(&self, asked: usize, key: &str) -> String {
        let url = self.url(asked);
        let call = || async {
            let request = AddShardRequest { idempotency_key: key.to_owned(), replicas: None };
            Ok(admin(&url).await?.add_shard(request).await?.into_inner().id)
        };
        Self::until(call).await
    }

    async fn operation_state(&self, asked: usize, id: &str) -> String {
        let url = self.url(asked);
        let call = || async {
            let request = GetOperationRequest { id: id.to_owned() };
            Ok(admin(&url).await?.get_operation(request).await?.into_inner().state)
        };
        Self::until(call).await
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn connect(url: &str) -> Result<Channel, Status> {
    let endpoint = Channel::from_shared(url.to_owned()).expect("a URL");
    endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))
}

async fn admin(url: &str) -> Result<AdminServiceClient<Channel>, Status> {
    Ok(AdminServiceClient::new(connect(url).await?))
}

fn registration(cluster: &str) -> AgentMessage {
    let container = Container {
        id: "m-1".into(),
        host: "127.0.0.1".into(),
        port: 5432,
        kind: 2,
        zone: String::new(),
        wish: String::new(),
    };
    let registration = Registration { cluster: cluster.to_owned(), container: Some(container), incarnation: 1 };
    AgentMessage { message: Some(agent_message::Message::Registration(registration)) }
}

/// The first answer to an agent, or how the stream ended.
async fn attend(url: &str, cluster: &str) -> Result<Option<CoordinatorMessage>, Status> {
    use tokio_stream::StreamExt as _;
    // An agent keeps its stream open.
    let agent = tokio_stream::once(registration(cluster)).chain(tokio_stream::pending());
    let mut client = AgentServiceClient::new(connect(url).await?);
    client.attend(agent).await?.into_inner().message().await
}

#[tokio::test]
async fn what_was_acknowledged_survives_leaders_and_restarts() {
    let mut group = Group::started();
    let leader = group.leader(0).await;
    let follower = (leader + 1) % 3;
    // Asked of a follower: it passes the call on.
    let id = group.add_shard(follower, "one").await;
    assert_eq!(group.add_shard(leader, "one").await, id, "the same key gives the same operation");
    group.kill(leader);
    assert_eq!(group.operation_state(follower, &id).await, "running");
    assert_ne!(group.leader(follower).await, leader);
    (0..3).filter(|number| *number != leader).for_each(|number| group.kill(number));
    (0..3).for_each(|number| group.start(number));
    assert_eq!(group.operation_state(leader, &id).await, "running");
    assert_eq!(group.add_shard(leader, "one").await, id);
}

#[tokio::test]
async fn agents_are_sent_to_the_leader_and_strangers_away() {
    let group = Group::started();
    let leader = group.leader(0).await;
    let follower = group.url((leader + 1) % 3);
    let answer = attend(&follower, "howdah").await.expect("a stream").and_then(|it| it.message);
    let Some(coordinator_message::Message::NotLeader(elsewhere)) = answer else { panic!("{answer:?}") };
    assert_eq!(elsewhere.leader, group.url(leader));
    let answer = attend(&group.url(leader), "howdah").await.expect("a stream").and_then(|it| it.message);
    assert!(matches!(answer, Some(coordinator_message::Message::Idle(_))), "{answer:?}");
    let refusal = attend(&group.url(leader), "other").await.expect_err("another cluster's agent");
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    let mut routers = TopologyServiceClient::new(connect(&follower).await.expect("it runs"));
    let request = EnsureColocationRequest { key_type: "bigint".into(), bucket_count: 5_000, alone: String::new() };
    let refusal = routers.ensure_colocation(request).await.expect_err("far too many");
    assert_eq!(refusal.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_follower_far_behind_catches_up_by_snapshot() {
    let mut group = Group::started();
    let leader = group.leader(0).await;
    let lagging = (leader + 1) % 3;
    group.kill(lagging);
    let id = group.add_shard(leader, "one").await;
    // Refused, as there is no shard; but each is an entry of the log, and 1,000 make a snapshot.
    let client = TopologyServiceClient::new(connect(&group.url(leader)).await.expect("it runs"));
    let ask = |number: u32| {
        let mut client = client.clone();
        async move {
            let request = EnsureColocationRequest {
                key_type: "bigint".into(),
                bucket_count: 1 + number % 64,
                alone: String::new(),
            };
            client.ensure_colocation(request).await
        }
    };
    for batch in 0..12 {
        let refused = futures_util::future::join_all((batch * 100..batch * 100 + 100).map(ask)).await;
        assert!(refused.iter().all(Result::is_err));
    }
    group.start(lagging);
    let other = (leader + 2) % 3;
    // With the leader gone, the one that was behind is needed for a majority, and may even lead.
    let log = group.dir.path().join(format!("{lagging}.log"));
    let restored = || async {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if text.contains("restored from a snapshot") { Ok(()) } else { Err(Status::unavailable("not yet")) }
    };
    Group::until(restored).await;
    group.kill(leader);
    assert_eq!(group.operation_state(other, &id).await, "running");
    assert_eq!(group.operation_state(lagging, &id).await, "running");
}

#[tokio::test]
async fn what_is_not_ours_or_damaged_is_refused() {
    let mut group = Group::started();
    group.add_shard(0, "one").await;
    let refusal = Group::refused(group.command(1)).await;
    assert!(refusal.contains("cannot listen on 127.0.0.1:"), "{refusal}");
    (0..3).for_each(|number| group.kill(number));

    let mut other = group.command(0);
    other.args(["--cluster", "other"]);
    let refusal = Group::refused(other).await;
    assert!(refusal.contains("belongs to coordinator-1 of cluster howdah"), "{refusal}");

    let path = group.data_dir(0).join("log/db");
    let mut bytes = fs::read(&path).expect("sled's file");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("it is not empty");
    (used / 4..used / 2).for_each(|position| bytes[position] ^= 0x55);
    fs::write(&path, bytes).expect("a writable file");
    let refusal = Group::refused(group.command(0)).await;
    assert!(refusal.contains("is damaged") && refusal.contains("Keep it aside"), "{refusal}");
}
