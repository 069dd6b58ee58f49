//! The clock of rates and time-outs.

use std::time::{Duration, Instant};

use governor::clock::Clock;

/// How long somebody waits for the other nodes before being sent to one of them.
pub(crate) const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

/// tokio's clock, so that paused time holds for rates as well.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EngineClock;

impl Clock for EngineClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}
