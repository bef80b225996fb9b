//! Coordinators as processes, in scratch directories with ports of their own. Called by the tests beside it.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use howdah::wire::pb::{
    admin::{
        AddShardRequest, CoordinatorStatus, GetOperationRequest, GetStatusRequest,
        admin_service_client::AdminServiceClient,
    },
    agent::{
        AgentMessage, Container, CoordinatorMessage, Registration, agent_message,
        agent_service_client::AgentServiceClient,
    },
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tonic::{Status, transport::Channel};

/// Longer than any step takes on a busy machine; a step that takes this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Places for coordinators, each with its ports and its directory.
const PLACES: usize = 8;

/// Some coordinators, some of which run. Places are counted from 0; the founder at place n is coordinator n + 1.
pub struct Group {
    pub dir: TempDir,
    founders: usize,
    grpc: Vec<u16>,
    http: Vec<u16>,
    children: Vec<Option<Child>>,
}

impl Group {
    /// Founded by the first so many.
    pub fn of(founders: usize) -> Self {
        let dir = TempDir::new().expect("a scratch directory");
        let free = |_| TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listeners: Vec<_> = (0..2 * PLACES).map(free).collect();
        let ports: Vec<u16> =
            listeners.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect();
        let children = (0..PLACES).map(|_| None).collect();
        Self { dir, founders, grpc: ports[..PLACES].to_vec(), http: ports[PLACES..].to_vec(), children }
    }

    /// Three, all running.
    pub fn started() -> Self {
        Self::started_of(3)
    }

    /// So many, all running.
    pub fn started_of(founders: usize) -> Self {
        let mut group = Self::of(founders);
        (0..founders).for_each(|place| group.start(place));
        group
    }

    pub fn url(&self, place: usize) -> String {
        format!("http://127.0.0.1:{}", self.grpc[place])
    }

    pub fn urls(&self, places: impl IntoIterator<Item = usize>) -> String {
        places.into_iter().map(|place| self.url(place)).collect::<Vec<_>>().join(",")
    }

    pub fn data_dir(&self, place: usize) -> PathBuf {
        self.dir.path().join(place.to_string())
    }

    pub fn log(&self, place: usize) -> String {
        fs::read_to_string(self.dir.path().join(format!("{place}.log"))).unwrap_or_default()
    }

    fn at(&self, place: usize) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
        command.args(["coordinator", "--die-with-parent", "--shards", "0", "--query-members", "1"]);
        command.args(["--listen", &format!("127.0.0.1:{}", self.grpc[place])]);
        command.args(["--http", &format!("127.0.0.1:{}", self.http[place])]);
        command.arg("--data-dir").arg(self.data_dir(place));
        command
    }

    /// A founder.
    pub fn command(&self, place: usize) -> Command {
        let peers: Vec<_> = (0..self.founders).map(|peer| format!("{}={}", peer + 1, self.url(peer))).collect();
        let mut command = self.at(place);
        command.args(["--id", &(place + 1).to_string(), "--peers", &peers.join(",")]);
        command
    }

    /// One that joins by asking those at `others`.
    pub fn joining(&self, place: usize, others: &[usize]) -> Command {
        let mut command = self.at(place);
        command.args(["--join", &self.urls(others.iter().copied()), "--url", &self.url(place)]);
        command
    }

    pub fn start(&mut self, place: usize) {
        self.run(place, self.command(place));
    }

    pub fn run(&mut self, place: usize, mut command: Command) {
        let log = File::options().create(true).append(true).open(self.dir.path().join(format!("{place}.log")));
        let log = log.expect("a log file");
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        self.children[place] = Some(command.spawn().expect("the binary is built"));
    }

    pub fn pid(&self, place: usize) -> u32 {
        self.children[place].as_ref().expect("it runs").id()
    }

    pub fn kill(&mut self, place: usize) {
        let mut child = self.children[place].take().expect("it runs");
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self, place: usize) -> ExitStatus {
        let child = self.children[place].as_mut().expect("it runs");
        let ended = async {
            loop {
                if let Some(status) = child.try_wait().expect("it is our child") {
                    return status;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let status = timeout(DEADLINE, ended).await.expect("it ends by itself");
        self.children[place] = None;
        status
    }

    /// Runs a coordinator that is expected to refuse.
    pub async fn refused(mut command: Command) -> String {
        let run = tokio::task::spawn_blocking(move || command.stdout(Stdio::null()).output());
        let Output { status, stderr, .. } =
            timeout(DEADLINE, run).await.expect("it ends by itself").expect("no panic").expect("the binary is built");
        assert_eq!(status.code(), Some(1));
        String::from_utf8(stderr).expect("text")
    }

    /// Calls until it works: elections answer UNAVAILABLE.
    pub async fn until<T, F: Future<Output = Result<T, Status>>>(call: impl Fn() -> F) -> T {
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

    /// The coordinators, as the one at `asked` says, once `fits` says so.
    pub async fn coordinators(
        &self,
        asked: usize,
        fits: impl Fn(&[CoordinatorStatus]) -> bool,
    ) -> Vec<CoordinatorStatus> {
        let url = self.url(asked);
        let list = || async {
            let answer = admin(&url).await?.get_status(GetStatusRequest {}).await?.into_inner();
            let list = answer.status.ok_or_else(|| Status::internal("no status"))?.coordinators;
            if fits(&list) { Ok(list) } else { Err(Status::unavailable("not yet")) }
        };
        Self::until(list).await
    }

    /// Place of the leader, as the one at `asked` sees it.
    pub async fn leader(&self, asked: usize) -> usize {
        let list = self.coordinators(asked, |list| list.iter().any(|it| it.role == "leader")).await;
        let leader = list.iter().find(|it| it.role == "leader").expect("there is one");
        self.place(&leader.address)
    }

    /// Where a coordinator of this address is.
    pub fn place(&self, address: &str) -> usize {
        let at = |port: &u16| address.ends_with(&format!(":{port}"));
        self.grpc.iter().position(at).expect("one of our places")
    }

    pub async fn add_shard(&self, asked: usize, key: &str) -> String {
        let url = self.url(asked);
        let call = || async {
            let request = AddShardRequest { idempotency_key: key.to_owned(), replicas: None };
            Ok(admin(&url).await?.add_shard(request).await?.into_inner().id)
        };
        Self::until(call).await
    }

    pub async fn operation_state(&self, asked: usize, id: &str) -> String {
        let url = self.url(asked);
        let call = || async {
            let request = GetOperationRequest { id: id.to_owned() };
            Ok(admin(&url).await?.get_operation(request).await?.into_inner().state)
        };
        Self::until(call).await
    }

    /// `howdah coordinator-member …`, asked of those at `asked`: exit status, stdout, stderr.
    pub async fn member(&self, asked: &[usize], arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
        command.arg("coordinator-member").args(arguments);
        command.args(["--coordinator", &self.urls(asked.iter().copied())]);
        let run = tokio::task::spawn_blocking(move || command.output());
        let output = timeout(DEADLINE, run).await.expect("it ends in time").expect("no panic");
        let Output { status, stdout, stderr } = output.expect("the binary is built");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (status.code(), text(stdout), text(stderr))
    }

    /// The same where it must work.
    pub async fn member_done(&self, asked: &[usize], arguments: &[&str]) {
        let (status, stdout, stderr) = self.member(asked, arguments).await;
        assert_eq!(status, Some(0), "{arguments:?}: {stdout}{stderr}");
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

pub async fn connect(url: &str) -> Result<Channel, Status> {
    let endpoint = Channel::from_shared(url.to_owned()).expect("a URL");
    endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))
}

pub async fn admin(url: &str) -> Result<AdminServiceClient<Channel>, Status> {
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
        priority: None,
        birth: 0,
    };
    let registration = Registration { cluster: cluster.to_owned(), container: Some(container), incarnation: 1 };
    AgentMessage { message: Some(agent_message::Message::Registration(registration)) }
}

/// The first answer to an agent, or how the stream ended.
pub async fn attend(url: &str, cluster: &str) -> Result<Option<CoordinatorMessage>, Status> {
    use tokio_stream::StreamExt as _;
    // An agent keeps its stream open.
    let agent = tokio_stream::once(registration(cluster)).chain(tokio_stream::pending());
    let mut client = AgentServiceClient::new(connect(url).await?);
    client.attend(agent).await?.into_inner().message().await
}
