//! The rule's arithmetic against going through all sets, and each row of the order of changes.

use super::*;
use crate::model::numbers::Revision;

fn cohort(standbys: &str, acks: u32) -> Cohort {
    let standbys = standbys.chars().map(|c| c.to_string().parse().expect("a name")).collect();
    Cohort { standbys, acks, ordered_at: Revision(0) }
}

fn all() -> Vec<Cohort> {
    let sets = ["", "a", "b", "ab", "bc", "abc", "abcd"];
    let sizes =
        |set: &&'static str| (0..=u32::try_from(set.len()).expect("small")).map(|k| (*set, k)).collect::<Vec<_>>();
    sets.iter().flat_map(sizes).map(|(set, acks)| cohort(set, acks)).collect()
}

/// Subsets of `a` to `d`.
fn subsets() -> Vec<BTreeSet<MemberId>> {
    let names = ["a", "b", "c", "d"];
    let pick = |set: u32| names.iter().enumerate().filter(move |(place, _)| set & (1 << place) != 0);
    (0..16).map(|set| pick(set).map(|(_, name)| name.parse().expect("a name")).collect()).collect()
}

fn enough_recruits(recruits: &BTreeSet<MemberId>, recorded: &Cohort) -> bool {
    enough(recorded).is_some_and(|needed| recruits.intersection(&recorded.standbys).count() >= needed)
}

#[test]
fn meets_is_what_all_sets_say() {
    for applied in all() {
        for recorded in all() {
            let acked =
                |set: &BTreeSet<MemberId>| set.is_subset(&applied.standbys) && set.len() >= applied.acks as usize;
            let missed = subsets().iter().filter(|set| acked(set)).any(|acks| {
                subsets().iter().any(|recruits| enough_recruits(recruits, &recorded) && recruits.is_disjoint(acks))
            });
            assert_eq!(meets(&applied, &recorded), !missed, "{applied:?} {recorded:?}");
        }
    }
}

#[test]
fn weaker_is_what_all_sets_say() {
    for new in all() {
        for old in all() {
            let all_do = subsets()
                .iter()
                .filter(|set| set.is_subset(&new.standbys) && enough_recruits(set, &new))
                .all(|set| enough_recruits(set, &old));
            assert_eq!(weaker(&new, &old), all_do, "{new:?} {old:?}");
        }
    }
}

#[test]
fn the_order_of_each_change_is_the_only_safe_one() {
    // Change, from, to: whether recording first is safe, whether applying first is.
    let rows = [
        ("joins", cohort("a", 1), cohort("ab", 1), true, false),
        ("leaves", cohort("ab", 1), cohort("a", 1), false, true),
        ("k grows", cohort("ab", 1), cohort("ab", 2), false, true),
        ("k shrinks", cohort("ab", 2), cohort("ab", 1), true, false),
        ("k shrinks to none", cohort("a", 1), cohort("a", 0), true, false),
        ("k grows from none", cohort("a", 0), cohort("a", 1), false, true),
        ("one replaces another", cohort("a", 1), cohort("b", 1), false, false),
    ];
    for (change, from, to, record_first, apply_first) in rows {
        assert_eq!(meets(&from, &to), record_first, "{change}: recorded before it is applied");
        assert_eq!(meets(&to, &from), apply_first, "{change}: applied before it is recorded");
    }
}
