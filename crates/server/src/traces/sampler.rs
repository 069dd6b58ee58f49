//! Which requests are sampled. All spans of a request follow this one decision.

use fanfare_engine::{TraceContext, TraceParent};

/// Decides which requests are sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampler {
    /// Whether the caller's decision counts, if it has made one.
    follows_parent: bool,
    /// How many of the 2^63 values are sampled that the last 63 bits of a trace's id may have.
    threshold: u64,
}

/// The number of values that decide.
const ALL: u64 = 1 << 63;

impl Sampler {
    /// Returns a sampler that takes this part of all traces, from 0 to 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a part of 2^63, whose last bits don't matter"
    )]
    pub(super) fn new(ratio: f64, follows_parent: bool) -> Self {
        Self {
            follows_parent,
            threshold: (ratio.clamp(0.0, 1.0) * ALL as f64) as u64,
        }
    }

    /// Returns the span of a request, a part of its caller's trace if it has one, or `None` if it isn't sampled.
    pub(super) fn sample(self, parent: Option<TraceParent>) -> Option<TraceContext> {
        let trace_id = match parent {
            Some(parent) if self.follows_parent => {
                return parent.is_sampled.then(|| parent.context.child());
            }
            // All programs that sample by the id of a trace take the same ones.
            Some(parent) => parent.context.trace_id,
            None => {
                let low = rand::random::<u64>();
                if !self.takes(low) {
                    return None;
                }
                u128::from(rand::random::<u64>().max(1)) << 64 | u128::from(low)
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "the low half")]
        self.takes(trace_id as u64)
            .then(|| TraceContext::of_trace(trace_id))
    }

    fn takes(self, low: u64) -> bool {
        low & (ALL - 1) < self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(low: u64, is_sampled: bool) -> Option<TraceParent> {
        let context = TraceContext::of_trace(1 << 64 | u128::from(low));
        Some(TraceParent {
            context,
            is_sampled,
        })
    }

    #[test]
    fn a_caller_decides_for_its_trace() {
        let never = Sampler::new(0.0, true);
        let asked = parent(5, true);
        let sampled = never.sample(asked).expect("the caller samples it");
        assert_eq!(sampled.trace_id, 1 << 64 | 5, "the caller's trace");
        assert_ne!(Some(sampled), asked.map(|parent| parent.context));
        assert_eq!(Sampler::new(1.0, true).sample(parent(5, false)), None);
    }

    #[test]
    fn without_a_caller_a_part_is_sampled() {
        assert_eq!(Sampler::new(0.0, true).sample(None), None);
        assert!(Sampler::new(1.0, true).sample(None).is_some());
        let sampler = Sampler::new(0.25, true);
        let sampled = (0..20_000).filter(|_| sampler.sample(None).is_some());
        let sampled = sampled.count();
        // Five standard deviations are 306.
        assert!((4_694..=5_306).contains(&sampled), "{sampled} of 20000");
    }

    #[test]
    fn without_regard_to_the_caller_the_id_of_the_trace_decides() {
        let half = Sampler::new(0.5, false);
        for is_sampled in [true, false] {
            assert!(half.sample(parent(1, is_sampled)).is_some());
            assert_eq!(half.sample(parent(u64::MAX >> 1, is_sampled)), None);
        }
        assert!(
            half.sample(parent(1 << 63, false)).is_some(),
            "the first bit is not used"
        );
    }
}
