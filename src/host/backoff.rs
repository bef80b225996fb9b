//! Waiting longer after each failure, up to a limit, with jitter so that many do not wait alike.

use std::time::Duration;

use super::entropy;

/// Exponential back-off.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits `first`, doubling up to `limit`.
    pub fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, next: first }
    }

    /// How long to wait now: between half of the step and all of it.
    pub fn step(&mut self) -> Duration {
        let step = self.next;
        self.next = (self.next * 2).min(self.limit);
        let half = step / 2;
        let jitter = u128::from(entropy::number()) % half.as_nanos().max(1);
        half + Duration::from_nanos(u64::try_from(jitter).unwrap_or(0))
    }

    /// Something worked: begin anew.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}
