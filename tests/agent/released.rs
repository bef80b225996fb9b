//! A container whose group has let go of it: it ends its PostgreSQL and keeps its data, or sets it aside and is
//! free for another group.

use howdah::model::{
    numbers::{Epoch, Revision},
    observed::{DataState, PostgresSeen},
};

use super::{fake::follow, group};

#[tokio::test(flavor = "multi_thread")]
async fn data_of_a_former_group_is_kept_or_set_aside_and_never_reused() {
    let mut group = group(&["a", "b"]).await;
    let before = group.report("b").expect("it reports").postmaster_pid;
    // A coordinator that has not seen it join, or has lost its memory, does not send it away.
    group.let_go("b", 0);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(group.report("b").expect("it reports").postmaster_pid, before);

    group.let_go("b", 500);
    let kept = group
        .until("b", "keeps its data and ends", |report| {
            matches!(report.postgres, PostgresSeen::Down { .. }) && report.note.contains("--storage ephemeral")
        })
        .await;
    assert!(!kept.healthy && matches!(kept.data, DataState::Ready { .. }), "{kept:?}");

    group.kill_agent("b");
    group.flags("b", &["--storage", "ephemeral"]);
    group.start("b");
    let free = group.until("b", "is free", |report| report.data == DataState::Empty).await;
    assert_eq!(free.promise, Epoch(0), "its promise was that group's");
    let (data, aside) = (group.data_dir("b").join("postgres"), group.data_dir("b").join("postgres.old"));
    assert!(!data.exists() && aside.join("PG_VERSION").exists());

    // Taken in again, by a decision that is newer than its release: cloned, and then the old data goes.
    group.joined = Revision(600);
    group.skip_to(601);
    group.order("b", 1, follow("a", 2, true));
    group.streams("b", "a").await;
    assert!(data.join("PG_VERSION").exists() && !aside.exists());
}
