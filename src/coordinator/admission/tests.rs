//! What founders are told, and what they make of it.

use super::*;

fn list(ids: impl IntoIterator<Item = u64>) -> BTreeMap<CoordinatorId, String> {
    ids.into_iter().map(|id| (CoordinatorId(id), format!("http://c:{id}"))).collect()
}

fn meeting(from: u64, directory: u64, founders: BTreeMap<CoordinatorId, String>) -> Meeting {
    Meeting { cluster: "demo".parse().expect("a name"), from: CoordinatorId(from), directory, founders }
}

fn member(origin: Origin) -> Standing {
    let cluster = "demo".parse().expect("a name");
    Standing::Member(Box::new(Identity { format: 2, cluster, coordinator: CoordinatorId(1), origin }))
}

#[test]
fn only_a_fresh_founder_with_the_same_list_counts() {
    let fresh = Standing::Fresh { me: CoordinatorId(1), directory: 11, founders: list(1..=3) };
    assert_eq!(answer(&fresh, &meeting(2, 22, list(1..=3))).ok(), Some(MeetingAnswer::Fresh(11)));
    for other in [meeting(2, 22, list(1..=5)), meeting(1, 22, list(1..=3))] {
        let refusal = answer(&fresh, &other).expect_err("it must not count");
        assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
    }
    // One that waits to join is no evidence that there is no cluster.
    assert!(answer(&Standing::Joining, &meeting(2, 22, list(1..=3))).is_err());
}

#[test]
fn a_founder_is_known_by_its_directory() {
    let founders: BTreeMap<_, _> =
        [(CoordinatorId(2), Founder { url: "http://c:2".into(), directory: 22 })].into_iter().collect();
    let founded = member(Origin::Founders(founders.clone()));
    assert_eq!(answer(&founded, &meeting(2, 22, list(1..=3))).ok(), Some(MeetingAnswer::Founded(founders)));
    let joined = Origin::Joined { url: "http://c:1".into(), coordinators: list(1..=3) };
    for standing in [founded, member(joined), member(Origin::Voters(vec![CoordinatorId(2)]))] {
        let told = answer(&standing, &meeting(2, 23, list(1..=3))).expect("an answer");
        let MeetingAnswer::Stranger(reason) = told else { panic!("{told:?}") };
        assert!(reason.contains("coordinator-member replace 2"), "{reason}");
    }
}
