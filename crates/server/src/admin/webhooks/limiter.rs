//! Bounds how often webhooks of an app are replayed and tried out.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::admin::problem::Problem;

/// Requests of an app in a minute.
const PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).expect("not zero");
/// Apps that are remembered before those that may ask again are forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// Counts the replays and tests of each app. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct WebhookLimiter(Arc<DefaultKeyedRateLimiter<String>>);

impl Default for WebhookLimiter {
    fn default() -> Self {
        Self(Arc::new(RateLimiter::keyed(Quota::per_minute(PER_MINUTE))))
    }
}

impl WebhookLimiter {
    /// Counts a request of an app, or returns 429 with the time to wait.
    pub(super) fn check(&self, app_id: &str) -> Result<(), Problem> {
        if self.0.len() > MAX_REMEMBERED {
            self.0.retain_recent();
        }
        self.0.check_key(&app_id.to_owned()).map_err(|busy| {
            let wait = busy.wait_time_from(DefaultClock::default().now());
            let seconds = wait.as_secs() + 1;
            let detail = format!(
                "webhooks of an app may be replayed and tried out {PER_MINUTE} times a minute; try again in {seconds} s"
            );
            Problem::too_many(detail, seconds)
        })
    }
}
