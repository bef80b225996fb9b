//! Coordinators added, removed and replaced while they run, a founding that needs all, and agents that
//! follow wherever the coordinators go.

use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use howdah::{
    host::clock::Clock,
    wire::pb::admin::{
        AddCoordinatorRequest, AddShardRequest, GetStatusRequest, RemoveCoordinatorRequest, ReplaceCoordinatorRequest,
    },
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;
use tonic::{Code, Status};

use super::harness::{Group, admin};

/// Asks for shards without end; gives back the names of the operations that were acknowledged.
fn proposals(group: &Group, places: &[usize]) -> (Arc<AtomicBool>, tokio::task::JoinHandle<Vec<String>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let urls: Vec<_> = places.iter().map(|place| group.url(*place)).collect();
    let stopped = stop.clone();
    let run = async move {
        let (mut acknowledged, mut number) = (Vec::new(), 0);
        while !stopped.load(Ordering::Relaxed) {
            let url = &urls[number % urls.len()];
            let request = AddShardRequest { idempotency_key: format!("key-{number}"), replicas: None };
            number += 1;
            if let Ok(mut client) = admin(url).await
                && let Ok(answer) = client.add_shard(request).await
            {
                acknowledged.push(answer.into_inner().id);
            }
            sleep(Duration::from_millis(50)).await;
        }
        acknowledged
    };
    (stop, tokio::spawn(run))
}

async fn keeps_all(group: &Group, asked: usize, ids: &[String]) {
    assert!(!ids.is_empty(), "nothing was acknowledged");
    for id in ids {
        assert_eq!(group.operation_state(asked, id).await, "running", "{id} was acknowledged");
    }
}

/// The coordinator at `place`: number, once it counts.
async fn number(group: &Group, asked: usize, place: usize) -> u64 {
    let url = group.url(place);
    let address = url.trim_start_matches("http://").to_owned();
    let counts = |role: &str| matches!(role, "leader" | "follower");
    let list = group
        .coordinators(asked, |list| list.iter().any(|it| it.address == address && it.healthy && counts(&it.role)))
        .await;
    list.iter().rfind(|it| it.address == address && counts(&it.role)).expect("it is there").id
}

/// The coordinator at `place` has said this.
async fn logged(group: &Group, place: usize, text: &str) {
    let said = || async { if group.log(place).contains(text) { Ok(()) } else { Err(Status::unavailable("not yet")) } };
    Group::until(said).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_grows_to_five_and_shrinks_to_three_under_load() {
    let mut group = Group::started_of(1);
    group.leader(0).await;
    let (stop, load) = proposals(&group, &[0, 1, 2]);
    for place in 1..5 {
        let joining = group.joining(place, &[0]);
        group.run(place, joining);
        group.member_done(&[0], &["add", &group.url(place)]).await;
        number(&group, 0, place).await;
    }
    // One of five dies; two others are removed, the first founder among them, which leads perhaps.
    group.kill(4);
    group.coordinators(0, |list| list.iter().any(|it| it.id == 5 && !it.healthy)).await;
    let (status, _, why) = group.member(&[0, 1, 2], &["remove", "1"]).await;
    assert!(status == Some(1) && why.contains("coordinator-5") && why.contains("--force"), "{why}");
    group.member_done(&[0, 1, 2], &["remove", "1", "--force"]).await;
    assert_eq!(group.ended(0).await.code(), Some(1));
    assert!(group.log(0).contains("was removed from cluster howdah"), "{}", group.log(0));
    let refusal = Group::refused(group.command(0)).await;
    assert!(refusal.contains("belongs to coordinator-1, which was removed"), "{refusal}");
    // The dead one may go without force.
    group.member_done(&[1, 2, 3], &["remove", "5"]).await;
    let list = group.coordinators(1, |list| list.len() == 3).await;
    assert_eq!(list.iter().map(|it| it.id).collect::<Vec<_>>(), [2, 3, 4]);
    stop.store(true, Ordering::Relaxed);
    let acknowledged = load.await.expect("no panic");
    keeps_all(&group, 2, &acknowledged).await;
    // All stop and start again, by the settings they were first started with.
    (1..4).for_each(|place| group.kill(place));
    for place in 1..4 {
        let joining = group.joining(place, &[0]);
        group.run(place, joining);
    }
    keeps_all(&group, 3, &acknowledged).await;
    // The one that was removed while it was down is told so.
    let joining = group.joining(4, &[1]);
    group.run(4, joining);
    assert_eq!(group.ended(4).await.code(), Some(1));
    assert!(group.log(4).contains("coordinator-5 was removed"), "{}", group.log(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_disk_is_replaced_and_never_votes_again() {
    let mut group = Group::started();
    let leader = group.leader(0).await;
    let id = group.add_shard(leader, "one").await;
    let lost = (leader + 1) % 3;
    let other = (leader + 2) % 3;
    group.kill(lost);
    fs::remove_dir_all(group.data_dir(lost)).expect("it is there");
    group.start(lost);
    logged(&group, lost, &format!("coordinator-member replace {}", lost + 1)).await;
    // It takes no part: with the leader gone, the third alone decides nothing.
    group.kill(leader);
    sleep(Duration::from_secs(3)).await;
    let url = group.url(other);
    let alone = admin(&url).await.expect("it runs").get_status(GetStatusRequest {}).await;
    assert_eq!(alone.expect_err("it has no majority").code(), Code::Unavailable);
    group.start(leader);
    group.leader(leader).await;
    // Asked of all, the one without a number included. Its settings are as before.
    group.member_done(&[lost, leader, other], &["replace", &(lost + 1).to_string()]).await;
    assert_eq!(number(&group, leader, lost).await, 4);
    // It counts: with the third gone, it and the leader are a majority.
    group.kill(other);
    assert_eq!(group.operation_state(lost, &id).await, "running");
    group.add_shard(lost, "two").await;
    // And it knows who it is when it starts again.
    group.kill(lost);
    group.start(lost);
    assert_eq!(group.operation_state(lost, &id).await, "running");
    group.add_shard(lost, "three").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_founded_by_all_or_not_at_all() {
    let mut group = Group::of(3);
    group.start(0);
    group.start(1);
    logged(&group, 0, "missing: coordinator-3").await;
    // One that joins finds nobody to let it in, and founds nothing.
    let joining = group.joining(3, &[0, 1]);
    group.run(3, joining);
    logged(&group, 3, "waiting to join cluster howdah").await;
    let nobody = admin(&group.url(0)).await.expect("it runs").get_status(GetStatusRequest {}).await;
    assert_eq!(nobody.expect_err("there is no cluster").code(), Code::Unavailable);
    group.start(2);
    group.leader(2).await;
    group.member_done(&[0], &["add", &group.url(3)]).await;
    assert_eq!(number(&group, 1, 3).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused() {
    let mut group = Group::started();
    let leader = group.leader(0).await;
    let mut client = admin(&group.url((leader + 1) % 3)).await.expect("it runs");
    let key = |text: &str| text.to_owned();
    let add = |name: &str, url: String| AddCoordinatorRequest { idempotency_key: key(name), url };
    let remove = |name: &str, id, force| RemoveCoordinatorRequest { idempotency_key: key(name), id, force };
    let code = |refusal: Result<_, Status>| refusal.map(drop).expect_err("refused").code();
    assert_eq!(code(client.remove_coordinator(remove("a", 9, true)).await), Code::NotFound);
    let replace = ReplaceCoordinatorRequest { idempotency_key: key("b"), id: 9, url: String::new() };
    assert_eq!(code(client.replace_coordinator(replace).await), Code::NotFound);
    assert_eq!(code(client.add_coordinator(add("c", "nowhere".into())).await), Code::InvalidArgument);
    assert_eq!(code(client.add_coordinator(add("", group.url(3))).await), Code::InvalidArgument);
    assert_eq!(code(client.add_coordinator(add("d", group.url(0))).await), Code::FailedPrecondition);
    let first = client.add_coordinator(add("e", group.url(3))).await.expect("a new address").into_inner();
    let again = client.add_coordinator(add("e", group.url(3))).await.expect("the same key").into_inner();
    assert_eq!((first.id.as_str(), first.state.as_str()), (again.id.as_str(), "running"));
    assert!(again.message.contains("--join"), "{}", again.message);
    assert_eq!(code(client.add_coordinator(add("f", group.url(3))).await), Code::FailedPrecondition);
    // One that never came is called off.
    client.remove_coordinator(remove("g", 4, false)).await.expect("it has no vote");
    let gone = || async {
        let state = group.operation_state(leader, &first.id).await;
        if state == "failed" { Ok(()) } else { Err(Status::unavailable("not yet")) }
    };
    Group::until(gone).await;
    let follower = (leader + 1) % 3;
    let dead = (leader + 2) % 3;
    group.kill(dead);
    group.coordinators(leader, |list| list.iter().any(|it| !it.healthy)).await;
    let id = u64::try_from(follower).expect("small") + 1;
    for force in [false, true] {
        let refusal = client.remove_coordinator(remove("h", id, force)).await.expect_err("no majority would be left");
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        assert!(refusal.message().contains("no majority"), "{}", refusal.message());
    }
    let mut one = Group::of(1);
    one.start(0);
    one.leader(0).await;
    let (status, _, why) = one.member(&[0], &["remove", "1"]).await;
    assert!(status == Some(1) && why.contains("the only coordinator that votes"), "{why}");
    assert_eq!(one.member(&[0], &["remove", "one"]).await.0, Some(2));
}

/// A query node: its agent, PostgreSQL and a router.
struct Node {
    child: Child,
}

impl Node {
    fn start(group: &Group, coordinators: &str, ports: &[u16]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_howdah"));
        command.args(["agent", "--die-with-parent", "--name", "query-1", "--kind", "query", "--host", "127.0.0.1"]);
        command.args(["--coordinators", coordinators, "--postgres-listen", "127.0.0.1"]);
        command.args(["--port", &ports[0].to_string()]);
        let flags = ["--http", "--router-listen", "--router-read-only-listen", "--router-http"];
        for (flag, port) in flags.iter().zip(&ports[1..]) {
            command.args([flag, &format!("127.0.0.1:{port}")[..]]);
        }
        command.arg("--data-dir").arg(group.dir.path().join("node"));
        command.env("HOWDAH_SECRET", "secret").env("HOWDAH_OWNER_PASSWORD", "howdah");
        let log = File::options().create(true).append(true).open(group.dir.path().join("node.log"));
        let log = log.expect("a log file");
        command.stdout(log.try_clone().expect("a file")).stderr(log).stdin(Stdio::null());
        Self { child: command.spawn().expect("the binary is built") }
    }

    fn stop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process")).expect("not zero");
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::TERM);
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `SELECT`s through the router until one works.
async fn sql(port: u16) {
    let ask = || async {
        let text = format!("host=127.0.0.1 port={port} user=howdah password=howdah dbname=howdah connect_timeout=2");
        let unavailable = |error: tokio_postgres::Error| Status::unavailable(error.to_string());
        let (client, connection) = tokio_postgres::connect(&text, tokio_postgres::NoTls).await.map_err(unavailable)?;
        let running = tokio::spawn(connection);
        let answer = client.simple_query("CREATE TABLE IF NOT EXISTS t (id int)").await.map_err(unavailable);
        running.abort();
        answer.map(drop)
    };
    Group::until(ask).await;
}

/// The node reports to the leader, and its router to it.
async fn attended(group: &Group, asked: usize) {
    let url = group.url(asked);
    let look = || async {
        let answer = admin(&url).await?.get_status(GetStatusRequest {}).await?.into_inner();
        let status = answer.status.ok_or_else(|| Status::internal("no status"))?;
        let healthy = status.groups.iter().flat_map(|group| &group.members).any(|member| member.healthy)
            && status.routers.iter().any(|router| router.healthy);
        if healthy { Ok(()) } else { Err(Status::unavailable("not yet")) }
    };
    Group::until(look).await;
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process")).expect("not zero");
    kill_process(pid, signal).expect("it is our child");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_follow_when_every_address_has_changed() {
    let mut group = Group::started();
    // PostgreSQL of the node may run as another user.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(group.dir.path(), mode).expect("our directory");
    let free = |_| TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listeners: Vec<_> = (0..5).map(free).collect();
    let ports: Vec<_> = listeners.iter().map(|it| it.local_addr().expect("it is bound").port()).collect();
    drop(listeners);
    let first = group.urls(0..3);
    let mut node = Node::start(&group, &first, &ports);
    sql(ports[2]).await;
    for (old, new) in [(0, 3), (1, 4), (2, 5)] {
        let known = [old + 1, new - 1];
        let joining = group.joining(new, &known);
        group.run(new, joining);
        group.member_done(&known, &["replace", &(old + 1).to_string(), &group.url(new)]).await;
        assert_eq!(group.ended(old).await.code(), Some(1));
        attended(&group, new).await;
        sql(ports[2]).await;
    }
    // Every address that it was started with is gone; it remembers where they went.
    node.stop();
    let mut node = Node::start(&group, &first, &ports);
    attended(&group, 4).await;
    sql(ports[2]).await;
    // A leader that hangs: the others elect, and the agent finds the new leader.
    let hung = group.leader(3).await;
    let asked = (3..6).find(|place| *place != hung).expect("there are three");
    signal(group.pid(hung), Signal::STOP);
    let clock = Clock::start();
    group
        .coordinators(asked, |list| list.iter().any(|it| it.role == "leader" && group.place(&it.address) != hung))
        .await;
    let elected = clock.now();
    attended(&group, asked).await;
    println!("leader hung: another one after {elected} ms, attended after {} ms", clock.now());
    signal(group.pid(hung), Signal::CONT);
    sql(ports[2]).await;
    // Everything stops and starts again.
    node.stop();
    (3..6).for_each(|place| group.kill(place));
    for place in 3..6 {
        let joining = group.joining(place, &[0]);
        group.run(place, joining);
    }
    let _node = Node::start(&group, &first, &ports);
    attended(&group, 5).await;
    sql(ports[2]).await;
}
