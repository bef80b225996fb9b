//! Time, as numbers that pure code takes as arguments.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::numbers::Millis;

/// A monotonic clock; its origin is the moment it was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts at zero, now.
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Milliseconds since the clock was made.
    pub fn now(&self) -> Millis {
        Millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// Wall clock, milliseconds since 1970: for people, never for decisions.
#[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
