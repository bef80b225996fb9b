//! A coordinator whose orders the test writes by hand, and members that obey it: the built binary's
//! `howdah agent` over real PostgreSQL, in scratch directories with ports of their own.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::TcpListener as StdListener,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use howdah::{
    host::clock::Clock,
    model::{
        goal::{Goal, GoalSettings, Order},
        group::{Cohort, Container, GroupKind},
        ids::MemberId,
        numbers::{Epoch, Millis, Revision, Timeline},
        observed::{PostgresSeen, Report},
        policy::Reads,
    },
    wire::{
        agent::{AgentSays, CoordinatorSays},
        pb::agent::{
            AgentMessage, CoordinatorMessage,
            agent_service_server::{AgentService, AgentServiceServer},
        },
    },
};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Longer than any step takes on a busy machine; a step that takes this long has failed.
const DEADLINE: Duration = Duration::from_mins(1);

/// What is known of one member.
struct Desk {
    goal: Option<Goal>,
    /// What is said while there is no goal.
    free_since: Option<Revision>,
    line: Option<mpsc::Sender<Result<CoordinatorMessage, Status>>>,
    reports: watch::Sender<Option<Report>>,
}

impl Default for Desk {
    fn default() -> Self {
        Self { goal: None, free_since: None, line: None, reports: watch::Sender::new(None) }
    }
}

/// The coordinator.
#[derive(Clone, Default)]
struct Desks(Arc<Mutex<BTreeMap<MemberId, Desk>>>);

impl Desks {
    fn with<T>(&self, member: &MemberId, work: impl FnOnce(&mut Desk) -> T) -> T {
        work(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(member.clone()).or_default())
    }
}

#[tonic::async_trait]
impl AgentService for Desks {
    type AttendStream = ReceiverStream<Result<CoordinatorMessage, Status>>;

    async fn attend(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::AttendStream>, Status> {
        let mut said = request.into_inner();
        let first = said.message().await?.ok_or_else(|| Status::invalid_argument("no registration"))?;
        let AgentSays::Registration(registration) = AgentSays::try_from(first)? else {
            return Err(Status::invalid_argument("not a registration"));
        };
        let (line, answers) = mpsc::channel(16);
        let (member, desks) = (registration.container.id, self.clone());
        desks.with(&member, |desk| {
            let first = desk.goal.clone().map_or(CoordinatorSays::Idle { free_since: desk.free_since }, |goal| {
                CoordinatorSays::Goal(Box::new(goal))
            });
            line.try_send(Ok(first.into())).expect("the line is new");
            desk.line = Some(line);
        });
        tokio::spawn(async move {
            while let Ok(Some(message)) = said.message().await {
                if let Ok(AgentSays::Report(report)) = AgentSays::try_from(message) {
                    desks.with(&member, |desk| desk.reports.send_replace(Some(report)));
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// One member's process and place.
struct Member {
    container: Container,
    http: u16,
    flags: Vec<&'static str>,
    child: Option<Child>,
}

/// A group under a hand-written coordinator.
pub struct Group {
    desks: Desks,
    url: String,
    dir: TempDir,
    members: BTreeMap<MemberId, Member>,
    revision: Revision,
    /// Revision at which members are told that they joined.
    pub joined: Revision,
    pub clock: Clock,
}

/// A name.
pub fn id(name: &str) -> MemberId {
    name.parse().expect("valid")
}

/// A cohort as a coordinator orders it; `Group::order` fills in the revision.
pub fn reign(timeline: u32, standbys: &[&str], acks: u32) -> Order {
    let standbys = standbys.iter().map(|name| id(name)).collect();
    Order::Reign { timeline: Timeline(timeline), cohort: Cohort { standbys, acks, ordered_at: Revision(0) } }
}

/// An order to follow a primary that serves.
pub fn follow(primary: &str, timeline: u32, serving: bool) -> Order {
    Order::Follow { primary: id(primary), timeline: Timeline(timeline), serving }
}

fn free_port() -> u16 {
    let listener = StdListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

impl Group {
    /// Members with these names, none started yet.
    pub async fn new(names: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let desks = Desks::default();
        let service = AgentServiceServer::new(desks.clone());
        let serve = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(serve.serve_with_incoming(TcpListenerStream::new(listener)));
        let dir = TempDir::new().expect("a scratch directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let member = |name: &&str| {
            let container = Container {
                id: id(name),
                host: "127.0.0.1".to_owned(),
                port: free_port(),
                kind: GroupKind::Shard,
                zone: String::new(),
                wish: None,
                priority: 50,
                birth: 0,
            };
            (id(name), Member { container, http: free_port(), flags: Vec::new(), child: None })
        };
        let members = names.iter().map(member).collect();
        Self { desks, url, dir, members, revision: Revision(10), joined: Revision(1), clock: Clock::start() }
    }

    /// A member's directory.
    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command that runs a member.
    pub fn command(&self, name: &str) -> Command {
        let member = &self.members[&id(name)];
        let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
        command.args(["agent", "--die-with-parent", "--name", name, "--kind", "shard", "--host", "127.0.0.1"]);
        command.args(["--cluster", "test", "--coordinators", &self.url, "--postgres-listen", "127.0.0.1"]);
        command.args(["--port", &member.container.port.to_string(), "--http", &format!("127.0.0.1:{}", member.http)]);
        command.arg("--data-dir").arg(self.data_dir(name));
        command.args(&member.flags);
        command.env("HOWDAH_SECRET", "secret").env("HOWDAH_OWNER_PASSWORD", "howdah").stdin(Stdio::null());
        command
    }

    /// Starts a member.
    pub fn start(&mut self, name: &str) {
        let log = File::options().create(true).append(true).open(self.dir.path().join(format!("{name}.log")));
        let mut command = self.command(name);
        command.stdout(log.expect("a log file"));
        let child = command.spawn().expect("the binary is built");
        self.members.get_mut(&id(name)).expect("a member").child = Some(child);
    }

    /// Kills a member's agent; its PostgreSQL stays.
    pub fn kill_agent(&mut self, name: &str) {
        let mut child = self.members.get_mut(&id(name)).and_then(|member| member.child.take()).expect("it runs");
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        self.desks.with(&id(name), |desk| desk.reports.send_replace(None));
    }

    /// Gives a member flags, from its next start on.
    pub fn flags(&mut self, name: &str, flags: &[&'static str]) {
        self.members.get_mut(&id(name)).expect("a member").flags = flags.to_vec();
    }

    /// Tells a member, now and whenever it registers, that it belongs to no group since `revision`.
    pub fn let_go(&mut self, name: &str, revision: u64) {
        let free_since = Some(Revision(revision));
        self.desks.with(&id(name), |desk| {
            (desk.goal, desk.free_since) = (None, free_since);
            if let Some(line) = &desk.line {
                // A line whose agent has died takes nothing; the next one begins with the same words.
                let _no_longer_there = line.try_send(Ok(CoordinatorSays::Idle { free_since }.into()));
            }
        });
    }

    /// Later orders have at least this revision.
    pub fn skip_to(&mut self, revision: u64) {
        self.revision = self.revision.max(Revision(revision));
    }

    /// What a member's agent has logged.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Kills a member's postmaster.
    pub fn kill_postmaster(&self, name: &str) {
        let pid = self.report(name).and_then(|report| report.postmaster_pid).expect("it runs");
        send(pid, Signal::KILL);
    }

    /// Orders something of a member.
    pub fn order(&mut self, name: &str, epoch: u64, mut order: Order) {
        self.revision = self.revision.next();
        if let Order::Reign { cohort, .. } = &mut order {
            cohort.ordered_at = self.revision;
        }
        let goal = Goal {
            cluster: "test".parse().expect("valid"),
            group: "shard-1".parse().expect("valid"),
            kind: GroupKind::Shard,
            epoch: Epoch(epoch),
            revision: self.revision,
            joined: self.joined,
            order,
            members: self.members.values().map(|member| member.container.clone()).collect(),
            system_identifier: None,
            settings: GoalSettings {
                database: "howdah".to_owned(),
                owner: "howdah".to_owned(),
                heartbeat: Millis(100),
                isolation_timeout: Millis(3_000),
                reads: Reads::Available,
                slot_wal_keep_mb: 1_000,
            },
        };
        self.desks.with(&id(name), |desk| {
            if let Some(line) = &desk.line {
                // A line whose agent has died takes nothing; the next one begins with the goal.
                let _no_longer_there = line.try_send(Ok(CoordinatorSays::Goal(Box::new(goal.clone())).into()));
            }
            desk.goal = Some(goal);
        });
    }

    /// A member's newest report.
    pub fn report(&self, name: &str) -> Option<Report> {
        self.desks.with(&id(name), |desk| desk.reports.borrow().clone())
    }

    /// Waits for a report that is as wanted.
    pub async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let mut reports = self.desks.with(&id(name), |desk| desk.reports.subscribe());
        let seen = reports.wait_for(|report| report.as_ref().is_some_and(&wanted));
        if let Ok(seen) = timeout(DEADLINE, seen).await {
            seen.expect("the desk stays").clone().expect("it was wanted")
        } else {
            let log = fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default();
            let postgres = fs::read_to_string(self.data_dir(name).join("postgres.log")).unwrap_or_default();
            let tail = |text: &str| {
                text.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
            };
            panic!("{name}: {what}: {:#?}\n{}\n{}", self.report(name), tail(&log), tail(&postgres));
        }
    }

    /// Waits until a member has been recruited for an epoch.
    pub async fn recruited(&self, name: &str, epoch: u64) -> Report {
        self.until(name, "is recruited", |report| report.recruited.is_some_and(|it| it.epoch == Epoch(epoch))).await
    }

    /// Waits until a member reigns, with the cohort last ordered of it.
    pub async fn reigns(&self, name: &str, epoch: u64) -> Report {
        let ordered_at = self.desks.with(&id(name), |desk| match desk.goal.as_ref().map(|goal| &goal.order) {
            Some(Order::Reign { cohort, .. }) => cohort.ordered_at,
            _ => panic!("{name} was not told to reign"),
        });
        let reigns = move |report: &Report| match &report.postgres {
            PostgresSeen::Primary { epoch: seen, applied, .. } => {
                *seen == Epoch(epoch) && applied.ordered_at == ordered_at && report.note.is_empty()
            }
            _ => false,
        };
        self.until(name, "reigns", reigns).await
    }

    /// Waits until a member streams from another.
    pub async fn streams(&self, name: &str, from: &str) -> Report {
        let from = id(from);
        let streams = move |report: &Report| {
            matches!(&report.postgres, PostgresSeen::Standby { streaming: true, upstream: Some(upstream), .. }
                if *upstream == from && report.healthy)
        };
        self.until(name, "streams", streams).await
    }

    /// The founder's first reign: epoch 1, timeline 2.
    pub async fn found(&mut self, name: &str) {
        self.start(name);
        self.order(name, 0, Order::Found);
        self.until(name, "is founded", |report| report.state == "fenced" && report.healthy).await;
        self.order(name, 1, Order::Recruit);
        self.recruited(name, 1).await;
        self.order(name, 1, reign(2, &[], 0));
        self.reigns(name, 1).await;
    }

    /// Runs SQL on a member as the owner of the database.
    pub async fn sql(&self, name: &str, text: &str) -> Result<Option<String>, String> {
        let port = self.members[&id(name)].container.port;
        let dsn = format!("host=127.0.0.1 port={port} user=howdah password=howdah dbname=howdah connect_timeout=5");
        let run = async {
            let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            let rows = client.simple_query(text).await?;
            Ok::<_, tokio_postgres::Error>(rows.iter().find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            }))
        };
        match timeout(DEADLINE, run).await {
            Ok(result) => result.map_err(|error| format!("{error:?}")),
            Err(_) => Err("no answer".to_owned()),
        }
    }
}

/// Sends a signal.
pub fn send(pid: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a process id")).expect("not zero");
    rustix::process::kill_process(pid, signal).expect("it runs");
}

impl Drop for Group {
    fn drop(&mut self) {
        for (name, member) in &mut self.members {
            let pid =
                self.desks.with(name, |desk| desk.reports.borrow().as_ref().and_then(|report| report.postmaster_pid));
            match &mut member.child {
                // Told to end, an agent takes its PostgreSQL along.
                Some(child) => {
                    send(child.id(), Signal::TERM);
                    child.wait().expect("it is our child");
                }
                None => {
                    if let Some(pid) = pid {
                        send(pid, Signal::INT);
                    }
                }
            }
        }
    }
}
