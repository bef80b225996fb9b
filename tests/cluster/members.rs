//! Who belongs to a group, on a real cluster: a standby that stays lost is replaced from the spares while
//! applications write; maintenance keeps Howdah's hands off; people grow, shrink and let go.

use rustix::process::Signal;

use super::{
    ledger::Ledger,
    processes::{send, send_all, tree},
    running::{Cluster, group, primary},
};

fn done(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.admin(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}\n{}", cluster.report());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_replaced_and_maintenance_is_respected() {
    let flags = ["--shards", "1", "--spares", "1", "--no-restart", "--zones", "2"];
    let cluster = Cluster::start_with(&flags, &[("HOWDAH_REPLACE_AFTER", "4")]);
    let ledger = Ledger::open(&cluster.target()).await;
    let before = cluster.wait_until_healthy();
    let shard = group(&before, "shard-1");
    let standby = shard.members.iter().find(|it| it.role == "standby").expect("it has one");
    let mut victims = tree(standby.pid.expect("an agent of this machine"));
    victims.extend(standby.postmaster_pid.into_iter().flat_map(tree));
    send_all(&victims, Signal::KILL);
    let lost = standby.id.clone();
    let status = cluster.wait_for("the spare has taken the place of the lost standby", |status| {
        let shard = group(status, "shard-1");
        shard.phase == "serving"
            && shard.members.iter().all(|it| it.healthy && it.id != lost)
            && shard.members.len() == 2
            && shard.acks == 1
    });
    assert!(status.idle.iter().any(|it| it.id == lost), "it is known, and belongs to nobody");
    assert!(ledger.wait_for_progress(20).await, "writers stand still: {:?}", ledger.errors());
    done(&cluster, &["member", "remove", &lost]);
    cluster.wait_for("the lost container is forgotten", |status| status.idle.is_empty());

    // Maintenance: nobody takes over, and the primary that comes back is not elected again.
    assert!(done(&cluster, &["pause", "shard-1"]).contains("shard-1 is paused"));
    let old = primary(&cluster.status(), "shard-1").clone();
    send(old.postmaster_pid.expect("it runs"), Signal::KILL);
    cluster.wait_for("the primary is back, fenced, and missed", |status| {
        let shard = group(status, "shard-1");
        let fenced = shard.members.iter().any(|it| it.id == old.id && it.state == "fenced");
        fenced && shard.paused && status.warnings.iter().any(|warning| warning.contains("because it is paused"))
    });
    assert_eq!(group(&cluster.status(), "shard-1").epoch, shard.epoch, "no epoch was opened");
    done(&cluster, &["failover", "shard-1"]);
    let status = cluster.wait_for("a person's failover is done in maintenance too", |status| {
        let shard = group(status, "shard-1");
        shard.phase == "serving" && shard.primary.as_deref().is_some_and(|now| now != old.id)
    });
    assert!(group(&status, "shard-1").paused);
    done(&cluster, &["resume"]);
    cluster.wait_until_healthy();

    // The primary is not let go of; a standby is, and the group says what it lacks.
    let now = primary(&cluster.status(), "shard-1").id.clone();
    let refused = cluster.admin(&["member", "remove", &now]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("howdah switchover shard-1"), "{refused:?}");
    done(&cluster, &["group", "set", "shard-1", "--replicas", "0"]);
    let status = cluster.wait_for("it has no standby any more", |status| group(status, "shard-1").members.len() == 1);
    assert_eq!(group(&status, "shard-1").replicas, 0);
    assert!(done(&cluster, &["member", "list"]).contains(&old.id));
    assert!(done(&cluster, &["group", "list"]).contains("shard-1"));
    let progress = ledger.wait_for_progress(20).await;
    assert!(progress, "writers stand still: {:?}", ledger.errors());
    ledger.close().await;
}
