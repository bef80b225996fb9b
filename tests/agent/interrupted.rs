//! An agent that is killed in the middle of a clone or a rewind: the next one starts over, what the first has
//! left running does no harm, and what was there before goes only once the clone has proved itself.

use std::{fs, path::Path, time::Duration};

use howdah::model::{goal::Order, observed::DataState};

use super::{
    fake::{Group, follow, reign},
    group,
};

/// Rows that make a clone take some time: about 150 MB.
const BULK: &str = "CREATE TABLE bulk AS SELECT n, repeat('x', 1000) AS t FROM generate_series(1, 150000) n";

async fn count(group: &Group, name: &str, table: &str) -> Option<String> {
    group.sql(name, &format!("SELECT count(*) FROM {table}")).await.expect("a hot standby answers")
}

fn left_over(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("the agent's directory").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("postgres.") && !name.starts_with("postgres.log")).collect()
}

/// Waits for a text in a file, without giving the one who wrote it time to go on.
async fn until_written(path: &Path, text: &str) {
    for _ in 0..30_000 {
        if fs::read_to_string(path).is_ok_and(|written| written.contains(text)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{text:?} is not written to {}", path.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_was_broken_off_is_made_anew() {
    let mut group = Group::new(&["a", "b"]).await;
    group.found("a").await;
    group.sql("a", BULK).await.expect("the owner may create");
    group.start("b");
    group.order("b", 1, follow("a", 2, true));
    group.until("b", "clones", |report| report.note.contains("cloning from a (")).await;
    let fresh = group.data_dir("b").join("postgres.new");
    // pg_basebackup itself is at work, and goes on when its agent is killed.
    until_written(&fresh.join("backup_label"), "START WAL").await;
    group.kill_agent("b");
    assert!(!group.data_dir("b").join("postgres").exists(), "the clone was over before the agent was killed");
    group.start("b");
    group.streams("b", "a").await;
    assert_eq!(count(&group, "b", "bulk").await.as_deref(), Some("150000"));
    assert_eq!(left_over(&group.data_dir("b")), Vec::<String>::new());
    group.sql("b", "SELECT sum(length(t)) FROM bulk").await.expect("every page can be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_that_was_broken_off_ends_in_a_clone() {
    let mut group = group(&["a", "b"]).await;
    group.sql("a", "INSERT INTO t VALUES (1)").await.expect("acknowledged");
    group.order("b", 2, Order::Recruit);
    group.recruited("b", 2).await;
    let lost = tokio::time::timeout(Duration::from_secs(1), group.sql("a", "INSERT INTO t VALUES (7)")).await;
    assert!(lost.is_err(), "a commit without its standby must not return: {lost:?}");
    group.order("b", 2, reign(3, &[], 0));
    group.reigns("b", 2).await;
    group.sql("b", "INSERT INTO t VALUES (8)").await.expect("it serves");
    group.order("a", 2, follow("b", 3, true));
    until_written(&group.data_dir("a").join("agent.json"), "rewinding").await;
    group.kill_agent("a");
    assert!(!group.log("a").contains("cloning"), "it is to be rewound at first");
    group.start("a");
    let report = group.until("a", "is quarantined", |report| report.data == DataState::Unfinished).await;
    assert_eq!(report.recruited, None);
    group.streams("a", "b").await;
    assert!(group.log("a").contains("cloning from b"), "{}", group.log("a"));
    let rows = group.sql("a", "SELECT string_agg(n::text, ',' ORDER BY n) FROM t").await.expect("a hot standby");
    assert_eq!(rows.as_deref(), Some("1,8"));
    assert_eq!(left_over(&group.data_dir("a")), Vec::<String>::new());
}
