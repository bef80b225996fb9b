//! A deadline for others that does not count the time in which this process itself stood still: after a
//! pause of our own, what was answered meanwhile is still on its way to whoever waits for it. Called
//! wherever silence is taken for a fault.

use std::{pin::pin, time::Duration};

use tokio::time::timeout;

/// The deadline is counted in slices, each for its nominal length however late it ended: with 20 of them
/// in a second, scheduling on a busy machine does not add up to much.
const SLICE: Duration = Duration::from_millis(50);

/// The work's result; `None`: it did not end within `limit` of time in which we could have seen it end.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut left = limit;
    while !left.is_zero() {
        let slice = left.min(SLICE);
        if let Ok(result) = timeout(slice, &mut work).await {
            return Some(result);
        }
        left -= slice;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{future::pending, thread};

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test]
    async fn silence_ends_at_the_limit() {
        let waited = timeout(Duration::from_secs(5), within(Duration::from_millis(120), pending::<()>())).await;
        assert_eq!(waited, Ok(None));
    }

    #[tokio::test]
    async fn a_pause_of_our_own_is_not_counted() {
        // The answer comes 30 ms after a pause longer than the limit.
        let answer = async {
            thread::sleep(Duration::from_millis(300));
            sleep(Duration::from_millis(30)).await;
            "answered"
        };
        assert_eq!(within(Duration::from_millis(200), answer).await, Some("answered"));
    }
}
