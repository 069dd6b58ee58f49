//! What this node did for webhooks, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_protocol::WebhookEvent;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptResult {
    Delivered,
    /// The receiver answered with another status.
    Refused,
    /// No answer came.
    Unanswered,
}

/// Counters since the start of the node.
#[derive(Debug, Default)]
pub(super) struct Counters {
    recorded: [AtomicU64; WebhookEvent::ALL.len()],
    dropped: AtomicU64,
    attempts: [AtomicU64; 3],
    delivered: AtomicU64,
    given_up: AtomicU64,
}

/// The values of [`Counters`] at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WebhookCounts {
    /// Events that were recorded, in the order of [`WebhookEvent::ALL`].
    pub(crate) recorded: [u64; WebhookEvent::ALL.len()],
    /// Events that were lost, because the store was away and no more were kept.
    pub(crate) dropped: u64,
    /// Attempts that were delivered, refused, and unanswered.
    pub(crate) attempts: [u64; 3],
    /// Deliveries that the receiver has.
    pub(crate) delivered: u64,
    /// Those that were given up.
    pub(crate) given_up: u64,
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

fn index_of(event: WebhookEvent) -> usize {
    let position = WebhookEvent::ALL.iter().position(|one| *one == event);
    position.unwrap_or_default()
}

impl Counters {
    pub(super) fn count_recorded(&self, event: WebhookEvent) {
        add(&self.recorded[index_of(event)], 1);
    }

    pub(super) fn count_dropped(&self, events: usize) {
        add(&self.dropped, events);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn count_attempt(&self, result: AttemptResult) {
        add(&self.attempts[result as usize], 1);
    }

    pub(super) fn count_delivered(&self) {
        add(&self.delivered, 1);
    }

    pub(super) fn count_given_up(&self, deliveries: usize) {
        add(&self.given_up, deliveries);
    }

    pub(super) fn read(&self) -> WebhookCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WebhookCounts {
            recorded: self.recorded.each_ref().map(load),
            dropped: load(&self.dropped),
            attempts: self.attempts.each_ref().map(load),
            delivered: load(&self.delivered),
            given_up: load(&self.given_up),
        }
    }
}
