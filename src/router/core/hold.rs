//! [pure] Who may wait for a primary (failover.md, "What clients see"): the bound on what one worker holds
//! while groups have none, and how it is shared between groups. Called by the pools.
//!
//! The rule is that of shared-memory switches (Choudhury and Hahne, "Dynamic queue length thresholds",
//! 1998): a group may hold as much as is still free. So one group alone gets half of all, two get a third
//! each, and however many wait for one, there is room left for the next group that loses its primary.

/// What is held: sessions, and the bytes they keep in memory meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Sessions.
    pub count: usize,
    /// Of statements, their parameters, and answers not yet sent.
    pub bytes: usize,
}

/// What one worker holds at most. Sessions: as many as a worker serves well, about 10 kB each beside what
/// is counted. Bytes: large statements must not sum up to more than a small container has.
pub const LIMIT: Load = Load { count: 10_000, bytes: 64 << 20 };

impl Load {
    /// May one more session with so many bytes wait for a group that holds `group`, of `self` in all?
    pub fn admits(self, group: Self, bytes: usize) -> bool {
        let free =
            Self { count: LIMIT.count.saturating_sub(self.count), bytes: LIMIT.bytes.saturating_sub(self.bytes) };
        group.count < free.count && group.bytes < free.bytes && bytes <= free.bytes
    }

    /// With one session more.
    #[must_use]
    pub fn plus(self, bytes: usize) -> Self {
        Self { count: self.count + 1, bytes: self.bytes + bytes }
    }

    /// With one session less.
    #[must_use]
    pub fn minus(self, bytes: usize) -> Self {
        Self { count: self.count - 1, bytes: self.bytes - bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills groups in turn until nobody is let in any more.
    fn fill(groups: usize, bytes: usize) -> Vec<Load> {
        let (mut all, mut each) = (Load::default(), vec![Load::default(); groups]);
        loop {
            let mut admitted = false;
            for group in &mut each {
                if all.admits(*group, bytes) {
                    (all, *group) = (all.plus(bytes), group.plus(bytes));
                    admitted = true;
                }
            }
            if !admitted {
                assert!(all.count <= LIMIT.count && all.bytes <= LIMIT.bytes);
                return each;
            }
        }
    }

    #[test]
    fn one_group_leaves_half_for_the_others() {
        assert_eq!(fill(1, 100)[0].count, LIMIT.count / 2);
        assert_eq!(fill(1, 1 << 20)[0].bytes, LIMIT.bytes / 2);
        let two = fill(2, 100);
        assert!(two.iter().all(|group| group.count.abs_diff(LIMIT.count / 3) <= 1), "{two:?}");
    }

    #[test]
    fn a_full_group_does_not_keep_another_out() {
        let full = fill(1, 1 << 20)[0];
        assert!(!full.admits(full, 1), "its own share is used up");
        assert!(full.admits(Load::default(), 1 << 20));
        assert!(!full.admits(Load::default(), LIMIT.bytes), "larger than what is free");
    }

    #[test]
    fn what_goes_makes_room() {
        let full = fill(1, 10)[0];
        assert!(full.minus(10).admits(full.minus(10), 10));
        assert_eq!(Load::default().plus(7).minus(7), Load::default());
    }
}
