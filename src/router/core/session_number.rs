//! [pure] The number by which clients know a session, and which says where it is: in which router, on
//! which of its worker threads. So a request to cancel finds its way through any router. Called where
//! sessions are registered and where such requests come in.
//!
//! ```text
//! bit 31         bits 30 to 21       bits 20 to 0
//! passed on      tag of the router   session × workers + worker
//! ```
//!
//! Clients never see bit 31, so that the numbers are positive to those who read them as signed.

use crate::model::ids::RouterId;

const TAG_BITS: u32 = 10;
const INDEX_BITS: u32 = 21;
/// Marks a request that another router passed on: it is not passed on again.
const PASSED_ON: u32 = 1 << 31;

/// How one router numbers its sessions.
#[derive(Debug, Clone, Copy)]
pub struct Numbering {
    tag: u32,
    workers: u32,
}

/// Where a request to cancel belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The session's number, without marks.
    pub pid: u32,
    /// The worker of this router that may have it.
    pub worker: Option<usize>,
    /// It has not been passed on yet.
    pub fresh: bool,
}

impl Numbering {
    /// Of a router with so many workers, 1 to 256.
    pub fn new(router: &RouterId, workers: usize) -> Self {
        let workers = u32::try_from(workers).expect("there are at most 256 workers");
        Self { tag: tag(router), workers }
    }

    /// Sessions that one worker can number at once.
    pub fn sessions(&self) -> u32 {
        (1 << INDEX_BITS) / self.workers - 1
    }

    /// The number of a worker's session, counted from 1 to [`Numbering::sessions`].
    pub fn pid(&self, worker: u32, session: u32) -> u32 {
        self.tag << INDEX_BITS | (session * self.workers + worker)
    }

    /// Where the session of a request is.
    pub fn place(&self, requested: u32) -> Place {
        let pid = requested & !PASSED_ON;
        let ours = pid >> INDEX_BITS == self.tag;
        let index = pid & ((1 << INDEX_BITS) - 1);
        Place { pid, worker: ours.then_some((index % self.workers) as usize), fresh: requested & PASSED_ON == 0 }
    }
}

/// May this router have the session? Different routers may have the same tag.
pub fn may_have(router: &RouterId, pid: u32) -> bool {
    tag(router) == pid >> INDEX_BITS & ((1 << TAG_BITS) - 1)
}

/// The number as it is passed on.
pub fn passed_on(pid: u32) -> u32 {
    pid | PASSED_ON
}

/// Of a router's name: FNV-1a, folded. Nobody has to give out numbers; two routers with the same tag, one
/// pair in 1,024, are both asked.
fn tag(router: &RouterId) -> u32 {
    let hash =
        router.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash >> TAG_BITS ^ hash >> (2 * TAG_BITS) ^ hash) & ((1 << TAG_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(name: &str) -> RouterId {
        name.parse().expect("a name")
    }

    #[test]
    fn a_number_leads_to_its_worker_and_router() {
        let (one, two) = (router("query-1"), router("query-2"));
        for workers in [1, 2, 7, 256] {
            let ours = Numbering::new(&one, workers);
            for worker in [0, u32::try_from(workers).expect("few") - 1] {
                for session in [1, 2, ours.sessions()] {
                    let pid = ours.pid(worker, session);
                    assert!(i32::try_from(pid).is_ok_and(|pid| pid > 0), "{pid}");
                    assert_eq!(ours.place(pid), Place { pid, worker: Some(worker as usize), fresh: true });
                    assert_eq!(ours.place(passed_on(pid)), Place { pid, worker: Some(worker as usize), fresh: false });
                    assert_eq!(Numbering::new(&two, workers).place(pid).worker, None);
                    assert!(may_have(&one, pid) && !may_have(&two, pid));
                }
            }
        }
    }

    #[test]
    fn names_of_a_herd_have_tags_of_their_own() {
        let tags: std::collections::BTreeSet<u32> = (1..=9).map(|at| tag(&router(&format!("query-{at}")))).collect();
        assert_eq!(tags.len(), 9);
    }
}
