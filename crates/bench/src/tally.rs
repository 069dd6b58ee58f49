//! Counts what became of paced events: which subscriber got which, in what order, and how late.

use std::time::{Duration, Instant};

use crate::generator::Watch;
use crate::measure::as_f64;
use crate::report::Figure;

/// Deliveries of events that go round the channels: event `n` is of channel `n % channels`, and subscriber `s` is
/// subscribed to channel `s % channels`.
pub(crate) struct Tally {
    channels: usize,
    first: usize,
    /// Number of events for each subscriber.
    each: usize,
    sent: Vec<Instant>,
    /// Whether a subscriber has an event, with `each` flags per subscriber.
    seen: Vec<bool>,
    /// Latest turn that each subscriber has seen.
    latest: Vec<usize>,
    delivered: usize,
    excused: usize,
    duplicated: u64,
    out_of_order: u64,
    astray: u64,
    micros: Vec<u32>,
    last: Instant,
}

impl Tally {
    /// Creates a tally that expects `events` events numbered from `first`, which starts a turn round the channels.
    pub(crate) fn new(subscribers: usize, channels: usize, first: u32, events: usize) -> Self {
        let each = events / channels;
        let expected = subscribers * each;
        Self {
            channels,
            first: first as usize,
            each,
            sent: Vec::with_capacity(events),
            seen: vec![false; expected],
            latest: vec![0; subscribers],
            delivered: 0,
            excused: 0,
            duplicated: 0,
            out_of_order: 0,
            astray: 0,
            micros: Vec::with_capacity(expected),
            last: Instant::now(),
        }
    }

    /// Records that the next event was handed to its publisher. Its latency counts from here, even if the publisher
    /// still waits for an answer, because a server that answers late must not look fast.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.sent.push(now);
        self.last = now;
    }

    /// Records that a subscriber will not receive an event, because the event is its own.
    pub(crate) fn excuse(&mut self, subscriber: usize, event: usize) {
        let turn = (event - self.first) / self.channels;
        self.seen[subscriber * self.each + turn] = true;
        self.excused += 1;
    }

    /// Returns how many different events have reached their subscribers, over all subscribers.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered as u64
    }

    /// Returns whether every subscriber has received everything.
    pub(crate) fn is_complete(&self) -> bool {
        self.delivered + self.excused == self.seen.len()
    }

    /// Returns how long nothing was sent or received.
    pub(crate) fn quiet_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last)
    }

    /// Returns the rows of the table.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let mut micros = self.micros.clone();
        micros.sort_unstable();
        let expected = self.seen.len() - self.excused;
        let missing = (expected - self.delivered) as u64;
        let count = |name, value| Figure::new(name, as_f64(value), 0);
        let millis = |name, percent| Figure::new(name, percentile(&micros, percent) / 1000.0, 2);
        vec![
            count("expected", expected as u64),
            count("delivered", self.delivered()),
            count("missing", missing),
            count("duplicated", self.duplicated),
            count("out of order", self.out_of_order),
            count("to the wrong subscriber", self.astray),
            millis("latency p50, ms", 50),
            millis("latency p99, ms", 99),
        ]
    }
}

impl Watch for Tally {
    fn delivered(&mut self, subscriber: usize, sequence: u32, at: Instant) {
        self.last = at;
        // Late events of the warm-up have lower numbers.
        let Some(event) = (sequence as usize).checked_sub(self.first) else {
            return;
        };
        let right_channel = event % self.channels == subscriber % self.channels;
        let Some(sent) = self.sent.get(event).filter(|_| right_channel) else {
            self.astray += 1;
            return;
        };
        let turn = event / self.channels;
        let seen = &mut self.seen[subscriber * self.each + turn];
        if *seen {
            self.duplicated += 1;
            return;
        }
        *seen = true;
        self.delivered += 1;
        if turn < self.latest[subscriber] {
            self.out_of_order += 1;
        }
        self.latest[subscriber] = turn.max(self.latest[subscriber]);
        let latency = at.saturating_duration_since(*sent).as_micros();
        self.micros.push(u32::try_from(latency).unwrap_or(u32::MAX));
    }

    fn answered(&mut self, _publisher: usize) {}
}

/// Returns the smallest value that `percent` percent of all values don't exceed.
fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .map_or(f64::NAN, |value| f64::from(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a tally of two subscribers on two channels, with three turns from number 10 on.
    fn tally() -> Tally {
        let mut tally = Tally::new(2, 2, 10, 6);
        (0..6).for_each(|_| tally.sent(Instant::now()));
        tally
    }

    fn deliver(tally: &mut Tally, deliveries: &[(usize, u32)]) {
        for (subscriber, sequence) in deliveries {
            Watch::delivered(tally, *subscriber, *sequence, Instant::now());
        }
    }

    #[test]
    fn everything_in_order_is_complete_and_without_fault() {
        let mut tally = tally();
        deliver(
            &mut tally,
            &[(0, 10), (1, 11), (0, 12), (0, 14), (1, 13), (1, 15)],
        );
        assert!(tally.is_complete());
        assert_eq!(
            (tally.duplicated, tally.out_of_order, tally.astray),
            (0, 0, 0)
        );
        assert_eq!(tally.micros.len(), 6);
    }

    #[test]
    fn faults_are_told_apart() {
        let mut tally = tally();
        deliver(&mut tally, &[(0, 14), (0, 12), (0, 12), (1, 12), (1, 16)]);
        assert!(!tally.is_complete());
        assert_eq!(
            (
                tally.delivered(),
                tally.duplicated,
                tally.out_of_order,
                tally.astray
            ),
            (2, 1, 1, 2)
        );
    }

    #[test]
    fn a_subscribers_own_event_is_not_missed_and_an_echo_is_a_double() {
        let mut tally = tally();
        tally.excuse(0, 12);
        deliver(&mut tally, &[(0, 10), (1, 11), (0, 14), (1, 13), (1, 15)]);
        assert!(tally.is_complete());
        deliver(&mut tally, &[(0, 12)]);
        assert_eq!((tally.delivered(), tally.duplicated), (5, 1));
    }

    #[test]
    fn what_is_left_of_the_warm_up_counts_for_nothing() {
        let mut tally = tally();
        deliver(&mut tally, &[(0, 8), (1, 9)]);
        assert_eq!((tally.delivered(), tally.astray), (0, 0));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50).to_string(), "50");
        assert_eq!(percentile(&hundred, 99).to_string(), "99");
        assert_eq!(percentile(&[7], 99).to_string(), "7");
        assert!(percentile(&[], 50).is_nan());
    }
}
