//! The clock of rates and time-outs.

use std::time::{Duration, Instant};

use governor::clock::Clock;

/// How long a subscribe or sign-in waits for the other nodes before its connection is closed, so
/// that the client reconnects to another node.
pub(crate) const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a closed connection may take to read what waits and to answer the close frame.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// tokio's clock, so that rates follow paused time in tests.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EngineClock;

impl Clock for EngineClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}
