//! The clock of a server that nodes share, beside this machine's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Number of round trips of which the median counts.
const ROUND_TRIPS: usize = 5;

/// What was measured of a server's clock.
pub(crate) struct ServerClock {
    /// Median time of a read.
    pub(crate) round_trip: Duration,
    /// Milliseconds by which the clock is ahead of this machine's.
    pub(crate) ahead: i64,
}

/// Measures a clock. `read` asks the server for its clock, in milliseconds since 1970.
///
/// # Errors
///
/// Returns the first error of `read`.
pub(crate) async fn measure<E>(
    mut read: impl AsyncFnMut() -> Result<i64, E>,
) -> Result<ServerClock, E> {
    let mut trips = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let (sent, sent_at) = (Instant::now(), unix_millis());
        let there = read().await?;
        // The server read its clock about halfway.
        trips.push((sent.elapsed(), there - (sent_at + unix_millis()) / 2));
    }
    trips.sort_unstable();
    Ok(ServerClock {
        round_trip: trips[ROUND_TRIPS / 2].0,
        // The quickest trip tells best.
        ahead: trips[0].1,
    })
}

fn unix_millis() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
