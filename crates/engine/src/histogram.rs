//! Histograms of durations in seconds, with the buckets of Prometheus' native histograms: eight for each doubling, so a
//! value is known to 9 %.

use std::f64::consts::FRAC_1_SQRT_2;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets for each doubling, as a power of two: the `schema` of a native histogram.
const SCHEMA: u32 = 3;
/// Binary exponents of the smallest and the largest bound: about a microsecond, and 64 seconds. Values beyond count in
/// the first and in the last bucket.
const SMALLEST: i32 = -20;
const LARGEST: i32 = 6;
/// Number of buckets: one up to the smallest bound, those between the bounds, and one above the largest.
const BUCKETS: usize = (((LARGEST - SMALLEST) as usize) << SCHEMA) + 2;
/// Upper bounds of the buckets within a doubling, relative to its upper bound: `2^(k/8 - 1)`.
const WITHIN: [f64; 8] = [
    0.545_253_866_332_628_8,
    0.594_603_557_501_360_5,
    0.648_419_777_325_504_8,
    FRAC_1_SQRT_2,
    0.771_105_412_703_970_4,
    0.840_896_415_253_714_5,
    0.917_004_043_204_671_2,
    1.0,
];

/// A histogram of one thread.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// Allocated with the first value.
    counts: Vec<u64>,
    sum: f64,
}

/// A bucket with values, by the numbers of a native histogram: bucket `index` holds values up to `2^(index / 8)`.
pub type NativeBucket = (i32, u64);

impl Histogram {
    /// The `schema` of a native histogram with these buckets.
    pub const SCHEMA: i32 = SCHEMA as i32;

    /// Counts a duration.
    pub fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        self.counts[bucket(seconds)] += 1;
        self.sum += seconds;
    }

    /// Returns the sum of all durations in seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Returns the number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the number of durations up to each power of two, with that power in seconds.
    pub fn doublings(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut sum = 0;
        let mut counts = self.counts.iter();
        (SMALLEST..=LARGEST).map(move |exponent| {
            // The first bucket ends at the smallest bound.
            let take = if exponent == SMALLEST { 1 } else { 1 << SCHEMA };
            sum += counts.by_ref().take(take).sum::<u64>();
            (f64::from(exponent).exp2(), sum)
        })
    }

    /// Returns the buckets that have values, in order.
    pub fn native(&self) -> impl Iterator<Item = NativeBucket> {
        let first = SMALLEST << SCHEMA;
        self.counts
            .iter()
            .zip(first..)
            .filter(|(count, _)| **count > 0)
            .map(|(count, index)| (index, *count))
    }
}

impl AddAssign<&Self> for Histogram {
    fn add_assign(&mut self, other: &Self) {
        self.counts
            .resize(self.counts.len().max(other.counts.len()), 0);
        for (sum, more) in self.counts.iter_mut().zip(&other.counts) {
            *sum += more;
        }
        self.sum += other.sum;
    }
}

/// A histogram that any thread may add to.
#[derive(Debug)]
pub struct SharedHistogram {
    counts: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Default for SharedHistogram {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; BUCKETS],
            nanos: AtomicU64::new(0),
        }
    }
}

impl SharedHistogram {
    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        self.counts[bucket(duration.as_secs_f64())].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Returns what was counted so far.
    #[must_use]
    pub fn snapshot(&self) -> Histogram {
        let counts = self.counts.iter();
        Histogram {
            counts: counts.map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

/// Returns the bucket of a value. A value on a bound belongs to the bucket below it, as Prometheus has it.
fn bucket(seconds: f64) -> usize {
    if seconds <= f64::from(SMALLEST).exp2() {
        return 0;
    }
    if seconds > f64::from(LARGEST).exp2() {
        return BUCKETS - 1;
    }
    // A normal number is `fraction * 2^exponent`, with a fraction of 1 to 2.
    let bits = seconds.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let fraction = f64::from_bits(bits & !(0x7ff << 52) | (1023 << 52));
    let (doubling, relative) = match fraction {
        1.0 => (exponent - 1, 1.0),
        _ => (exponent, fraction / 2.0),
    };
    let within = WITHIN.partition_point(|bound| *bound < relative);
    // The doubling after the smallest bound begins with bucket 1.
    (((doubling - SMALLEST) as usize) << SCHEMA) + within + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upper bound of a native bucket.
    fn bound(index: i32) -> f64 {
        (f64::from(index) / 8.0).exp2()
    }

    #[test]
    fn a_value_is_in_the_bucket_whose_bounds_enclose_it() {
        let mut seconds = 1.1e-6;
        while seconds < 64.0 {
            let mut histogram = Histogram::default();
            histogram.observe(Duration::from_secs_f64(seconds));
            let seconds_seen = histogram.sum();
            let all: Vec<_> = histogram.native().collect();
            let [(index, 1)] = all[..] else {
                panic!("one value is in one bucket: {all:?}");
            };
            assert!(
                bound(index - 1) < seconds_seen && seconds_seen <= bound(index) * (1.0 + 1e-12),
                "{seconds_seen} in bucket {index}"
            );
            seconds *= 1.013;
        }
    }

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        for (seconds, index) in [(0.5, -8), (1.0, 0), (2.0, 8), (64.0, 48)] {
            let mut histogram = Histogram::default();
            histogram.observe(Duration::from_secs_f64(seconds));
            assert_eq!(histogram.native().collect::<Vec<_>>(), [(index, 1)]);
        }
    }

    #[test]
    fn values_beyond_the_bounds_count_in_the_outermost_buckets() {
        let mut histogram = Histogram::default();
        histogram.observe(Duration::ZERO);
        histogram.observe(Duration::from_secs(10_000));
        assert_eq!(histogram.native().collect::<Vec<_>>(), [(-160, 1), (49, 1)]);
        assert_eq!(histogram.count(), 2);
        let (bound, up_to) = histogram.doublings().last().expect("a bound");
        assert_eq!((bound, up_to), (64.0, 1), "the other is above it");
    }

    #[test]
    fn doublings_count_what_is_up_to_them_and_sums_of_histograms_add_up() {
        let shared = SharedHistogram::default();
        for millis in [1, 3, 3, 700] {
            shared.observe(Duration::from_millis(millis));
        }
        let mut histogram = Histogram::default();
        histogram += &shared.snapshot();
        histogram += &shared.snapshot();
        let up_to = |seconds: f64| histogram.doublings().find(|(bound, _)| *bound == seconds);
        assert_eq!(up_to(1.0 / 512.0), Some((1.0 / 512.0, 2)));
        assert_eq!(up_to(1.0 / 256.0), Some((1.0 / 256.0, 6)));
        assert_eq!(up_to(1.0), Some((1.0, 8)));
        assert!(
            (histogram.sum() - 1.414).abs() < 1e-9,
            "{}",
            histogram.sum()
        );
    }
}
