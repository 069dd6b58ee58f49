//! The trace of a sampled publish: which step belongs to which trace, and how long it took. Only a few publishes are
//! sampled; of the others nothing is kept.

use std::fmt;

use tokio::time::Instant;

use crate::traffic::PublishResult;

/// Most channels of one request whose deliveries are traced.
pub(crate) const MAX_TRACED_CHANNELS: usize = 10;

/// The identity of a span: its trace, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The id of the trace.
    pub trace_id: u128,
    /// The id of the span.
    pub span_id: u64,
}

impl TraceContext {
    /// Returns a new span of a trace.
    #[must_use]
    pub fn of_trace(trace_id: u128) -> Self {
        // Zero stands for no span.
        let span_id = rand::random::<u64>().max(1);
        Self { trace_id, span_id }
    }

    /// Returns a new span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self::of_trace(self.trace_id)
    }
}

/// A span of a caller, as the header `traceparent` of W3C Trace Context names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The caller's span.
    pub context: TraceContext,
    /// Whether the caller records the trace.
    pub is_sampled: bool,
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceContext { trace_id, span_id } = self.context;
        let flags = u8::from(self.is_sampled);
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{flags:02x}")
    }
}

impl TraceParent {
    /// Reads the header's value. An invalid one is as none, as the standard says.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (version, rest) = text.split_once('-')?;
        let (trace_id, rest) = rest.split_once('-')?;
        let (span_id, rest) = rest.split_once('-')?;
        // Versions after 00 may add fields at the end.
        let flags = match version {
            "00" => rest,
            _ => rest.split('-').next()?,
        };
        let (version, flags) = (hex(version, 2)?, hex(flags, 2)?);
        let (trace_id, span_id) = (hex(trace_id, 32)?, hex(span_id, 16)?);
        let is_valid = version != 0xff && trace_id != 0 && span_id != 0;
        is_valid.then(|| Self {
            context: TraceContext {
                trace_id,
                span_id: u64::try_from(span_id).unwrap_or_default(),
            },
            is_sampled: flags & 1 == 1,
        })
    }
}

/// Returns a number of exactly this many lowercase hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_number = text.len() == digits && text.bytes().all(is_digit);
    is_number.then(|| u128::from_str_radix(text, 16).ok())?
}

/// A step of a sampled publish that has ended.
#[derive(Debug, Clone, Copy)]
pub struct FinishedSpan {
    /// The step's own span.
    pub context: TraceContext,
    /// The span that it is a part of.
    pub parent: TraceContext,
    /// Whether that span is another node's.
    pub is_parent_remote: bool,
    /// When the step began.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
    /// What was done.
    pub work: TracedWork,
}

/// A step of a sampled publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TracedWork {
    /// The events were handed to the cluster's back end.
    Bus(PublishResult),
    /// An event from the cluster's back end was queued to the shards.
    Deliver {
        /// Subscribed connections of its channel on this node.
        subscribers: usize,
    },
    /// An event was written to the subscribers on one shard.
    Write {
        /// Subscribed connections of its channel on this shard.
        subscribers: usize,
        /// Bytes that one of them has not taken yet.
        waiting_bytes: usize,
    },
}

/// Receives the spans of sampled publishes; never waits.
pub trait SpanSink: Send + Sync + fmt::Debug + 'static {
    /// Receives a step that has ended.
    fn record(&self, span: FinishedSpan);
}

/// Drops all spans.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSpans;

impl SpanSink for NoSpans {
    fn record(&self, _: FinishedSpan) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_it_was_written() {
        let parent = TraceParent::parse(SAMPLED).expect("valid");
        assert!(parent.is_sampled);
        assert_eq!(parent.to_string(), SAMPLED);
        let other = SAMPLED.replace("-01", "-00");
        assert!(!TraceParent::parse(&other).expect("valid").is_sampled);
        let later = SAMPLED.replacen("00-", "cc-", 1) + "-more";
        assert_eq!(TraceParent::parse(&later), Some(parent), "a later version");
        let more_flags = TraceParent::parse(&SAMPLED.replace("-01", "-03"));
        assert!(more_flags.is_some_and(|parent| parent.is_sampled));
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }
}
