//! What a process runs on: it may be down or frozen, and its clock is its own.

use howdah::model::numbers::Millis;

/// A machine, or the container on it.
#[derive(Debug, Default)]
pub struct Machine {
    /// The zone it is lost with.
    pub zone: usize,
    /// Its process does not run before this; `u64::MAX`: for good.
    pub down_until: u64,
    /// It is there, and does nothing before this.
    pub frozen_until: u64,
    /// Which of its processes' lives this is.
    pub life: u64,
    /// What its clock is ahead by: jumps, less what it missed while it was suspended.
    ahead: u64,
    behind: u64,
}

impl Machine {
    pub fn new(zone: usize, ahead: u64) -> Self {
        Self { zone, ahead, ..Self::default() }
    }

    pub fn runs(&self, now: u64) -> bool {
        self.down_until <= now && self.frozen_until <= now
    }

    pub fn is_down(&self, now: u64) -> bool {
        self.down_until > now
    }

    pub fn is_frozen(&self, now: u64) -> bool {
        self.frozen_until > now
    }

    /// Its monotonic clock.
    pub fn clock(&self, now: u64) -> Millis {
        Millis(now + self.ahead - self.behind)
    }

    /// When its clock will show `time`, seen from outside.
    pub fn when(&self, time: Millis) -> u64 {
        (time.0 + self.behind).saturating_sub(self.ahead)
    }

    pub fn jump(&mut self, span: u64) {
        self.ahead += span;
    }

    /// Stops it; `suspended`: its clock stops as well.
    pub fn freeze(&mut self, now: u64, until: u64, suspended: bool) {
        if self.frozen_until > now {
            return;
        }
        self.frozen_until = until;
        if suspended {
            // Nothing reads its clock meanwhile.
            self.behind += until - now;
        }
    }
}
