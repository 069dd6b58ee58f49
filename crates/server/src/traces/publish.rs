//! The span of a publish, and its parts in the engine. Names of channels and events, users and data are in none of them.

use std::time::{Duration, SystemTime};

use fanfare_engine::{
    App, Engine, FinishedSpan, PublishError, PublishOutcome, PublishResult, SpanSink, TraceContext,
    TraceParent, TracedWork,
};
use fanfare_protocol::api::Event;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tokio::time::Instant;

use super::export::Queue;
use super::sampler::Sampler;
use super::{LOG_TARGET, Traces};

/// A publish that took longer than this is recorded although it isn't sampled.
const SLOW: Duration = Duration::from_millis(250);

/// A publish that is being handled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishTrace {
    start: Instant,
    parent: Option<TraceParent>,
    context: Option<TraceContext>,
}

impl PublishTrace {
    pub(super) fn start(sampler: Sampler, parent: Option<TraceParent>) -> Self {
        Self {
            start: Instant::now(),
            parent,
            context: sampler.sample(parent),
        }
    }

    /// Returns its span, if it is sampled.
    pub(crate) fn context(&self) -> Option<TraceContext> {
        self.context
    }
}

/// Returns the span in which a request's log lines are written: one with the trace's id if it is sampled, or else none.
pub(crate) fn log_span(context: Option<TraceContext>) -> tracing::Span {
    match context {
        Some(TraceContext { trace_id, .. }) => {
            let trace_id = format_args!("{trace_id:032x}");
            tracing::info_span!(target: LOG_TARGET, "request", %trace_id)
        }
        None => tracing::Span::none(),
    }
}

impl Traces {
    /// Records a publish that was answered, if it is sampled or slow.
    pub(crate) fn record_publish(
        &self,
        trace: &PublishTrace,
        (engine, app): (&Engine, &App),
        events: &[Event],
        outcome: &Result<PublishOutcome, PublishError>,
    ) {
        let end = Instant::now();
        let is_slow = end - trace.start > SLOW;
        if trace.context.is_none() && !is_slow {
            return;
        }
        let Some(active) = &self.0 else { return };
        let context = trace.context.unwrap_or_else(|| match trace.parent {
            Some(parent) => parent.context.child(),
            None => TraceContext::of_trace(rand::random::<u128>().max(1)),
        });
        let channels = events.iter().flat_map(|event| &event.channels);
        let subscribers = channels
            .clone()
            .map(|channel| engine.local_subscribers(app, channel));
        let subscribers = subscribers.sum();
        let result = PublishResult::of(outcome);
        active.queue.push(SpanData {
            attributes: vec![
                KeyValue::new("messaging.system", "fanfare"),
                KeyValue::new("messaging.operation.name", "publish"),
                KeyValue::new("messaging.operation.type", "send"),
                count("messaging.batch.message_count", events.len()),
                KeyValue::new("fanfare.app.id", app.id().to_string()),
                count("fanfare.channels", channels.count()),
                count("fanfare.subscribers", subscribers),
                KeyValue::new("fanfare.result", result.as_str()),
                KeyValue::new("fanfare.slow", is_slow),
            ],
            status: status(result),
            ..span(
                "publish",
                SpanKind::Server,
                (context, trace.parent.map(|parent| parent.context), true),
                (trace.start, end),
            )
        });
    }
}

impl SpanSink for Queue {
    fn record(&self, finished: FinishedSpan) {
        let FinishedSpan {
            context,
            parent,
            is_parent_remote,
            start,
            end,
            work,
        } = finished;
        let (name, kind, attributes, status) = match work {
            TracedWork::Bus(result) => (
                "publish to cluster",
                SpanKind::Client,
                vec![KeyValue::new("fanfare.result", result.as_str())],
                status(result),
            ),
            TracedWork::Deliver { subscribers } => (
                "deliver",
                SpanKind::Consumer,
                vec![count("fanfare.subscribers", subscribers)],
                Status::Unset,
            ),
            TracedWork::Write {
                subscribers,
                waiting_bytes,
            } => (
                "write",
                SpanKind::Internal,
                vec![
                    count("fanfare.shard.subscribers", subscribers),
                    count("fanfare.waiting_bytes", waiting_bytes),
                ],
                Status::Unset,
            ),
        };
        self.push(SpanData {
            attributes,
            status,
            ..span(
                name,
                kind,
                (context, Some(parent), is_parent_remote),
                (start, end),
            )
        });
    }
}

/// Returns the status for a result: an error where the server, not the backend, is the cause.
fn status(result: PublishResult) -> Status {
    match result {
        PublishResult::Overloaded | PublishResult::Unavailable => Status::error(result.as_str()),
        _ => Status::Unset,
    }
}

fn count(name: &'static str, number: usize) -> KeyValue {
    KeyValue::new(name, i64::try_from(number).unwrap_or(i64::MAX))
}

/// Returns a span without attributes, with its parent and whether that is of another process.
fn span(
    name: &'static str,
    span_kind: SpanKind,
    (context, parent, is_remote): (TraceContext, Option<TraceContext>, bool),
    (start, end): (Instant, Instant),
) -> SpanData {
    let end_time = SystemTime::now() - end.elapsed();
    SpanData {
        span_context: SpanContext::new(
            TraceId::from(context.trace_id),
            SpanId::from(context.span_id),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.span_id)),
        parent_span_is_remote: parent.is_some() && is_remote,
        span_kind,
        name: name.into(),
        start_time: end_time - (end - start),
        end_time,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("fanfare").build(),
    }
}
