//! Coordinators as processes: they elect, keep what they acknowledged, forward, catch up, change their own
//! membership while they run, and refuse directories and logs that are not what they should be.

mod harness;
mod membership;

use std::fs;

use howdah::wire::pb::{
    agent::coordinator_message,
    topology::{EnsureColocationRequest, topology_service_client::TopologyServiceClient},
};
use tonic::{Code, Status};

use harness::{Group, attend, connect};

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
    let told = attend(&group.url(leader), "howdah").await.expect("a stream").map(|it| it.coordinators);
    assert_eq!(told, Some((0..3).map(|place| group.url(place)).collect::<Vec<_>>()), "agents learn who is there");
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
    let restored = || async {
        if group.log(lagging).contains("restored from a snapshot") {
            Ok(())
        } else {
            Err(Status::unavailable("not yet"))
        }
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
