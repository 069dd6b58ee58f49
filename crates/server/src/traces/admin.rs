//! The span of a request to the admin API. The store's spans are parts of it. These requests are few, so their spans are
//! those of `tracing`.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use fanfare_engine::TraceContext;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample};
use tracing::instrument::{Instrument, Instrumented};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::export::{Processor, Queue};
use super::publish::log_span;
use super::sampler::Sampler;
use super::{EXPORTED_TARGET, Traces, parent};

/// Name of these spans for the sampler; they are exported under that of the route.
const NAME: &str = "admin request";
/// Most requests that are sampled each second. Callers need no credentials to ask for a sampled one.
const PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
/// Parts of paths that stand where others have a name.
const FIXED_PARTS: [&str; 7] = [
    "apps",
    "batch",
    "certificates",
    "export",
    "live",
    "password",
    "refresh",
];

/// Decides which requests to the admin API are sampled.
#[derive(Debug)]
pub(super) struct AdminSampler {
    sampler: Sampler,
    limiter: DefaultDirectRateLimiter,
}

impl AdminSampler {
    pub(super) fn new(sampler: Sampler) -> Self {
        Self {
            sampler,
            limiter: RateLimiter::direct(Quota::per_second(PER_SECOND)),
        }
    }
}

/// The spans of a request: one that is exported, and one for its log lines. Disabled if it isn't sampled.
#[derive(Debug, Clone)]
pub(crate) struct AdminSpans {
    exported: tracing::Span,
    log: tracing::Span,
}

impl AdminSpans {
    fn none() -> Self {
        Self {
            exported: tracing::Span::none(),
            log: tracing::Span::none(),
        }
    }

    /// Runs a part of the request in its spans.
    pub(crate) fn instrument<F: Future>(&self, part: F) -> Instrumented<Instrumented<F>> {
        part.instrument(self.exported.clone())
            .instrument(self.log.clone())
    }

    /// Notes the answer and runs what is left to do in the span for log lines.
    pub(crate) fn finish(self, status: StatusCode, rest: impl FnOnce()) {
        let code = i64::from(status.as_u16());
        self.exported
            .set_attribute("http.response.status_code", code);
        if status.is_server_error() {
            self.exported.set_status(Status::error(""));
        }
        self.log.in_scope(rest);
    }
}

impl Traces {
    /// Starts a request to the admin API.
    pub(crate) fn admin_request(&self, request: &Request, path: &str) -> AdminSpans {
        let Some(active) = &self.0 else {
            return AdminSpans::none();
        };
        let parent = parent(request.headers());
        let AdminSampler { sampler, limiter } = &active.admin;
        if sampler.sample(parent).is_none() || limiter.check().is_err() {
            return AdminSpans::none();
        }
        let (method, route) = (request.method().as_str(), route(path));
        let exported = tracing::info_span!(
            target: EXPORTED_TARGET,
            parent: None,
            NAME,
            otel.name = format!("{method} {route}"),
            otel.kind = "server",
            http.request.method = method,
            http.route = route,
        );
        if let Some(parent) = parent {
            let caller = SpanContext::new(
                TraceId::from(parent.context.trace_id),
                SpanId::from(parent.context.span_id),
                TraceFlags::SAMPLED,
                true,
                TraceState::default(),
            );
            let _ = exported.set_parent(Context::new().with_remote_span_context(caller));
        }
        AdminSpans {
            log: log_span(context_of(&exported)),
            exported,
        }
    }

    /// Returns the span of the request to the admin API that is being handled, if it is sampled.
    pub(crate) fn current(&self) -> Option<TraceContext> {
        self.0.as_ref()?;
        context_of(&tracing::Span::current())
    }
}

fn context_of(span: &tracing::Span) -> Option<TraceContext> {
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    context.is_sampled().then(|| TraceContext {
        trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(context.span_id().to_bytes()),
    })
}

/// Returns a path as the description of the API has it, without the names of apps, channels and keys: collections and
/// names take turns after `/api/v1`.
fn route(path: &str) -> String {
    let parts = path.split('/').enumerate().map(|(at, part)| {
        let is_name = at > 3 && at % 2 == 0;
        if is_name && !FIXED_PARTS.contains(&part) {
            "{id}"
        } else {
            part
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Returns the layer that exports spans of [`EXPORTED_TARGET`]. Events in them are log lines, which may name users, so
/// they aren't exported.
pub(super) fn layer<S>(queue: Arc<Queue>) -> impl Layer<S> + Send + Sync
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Processor(queue))
        .with_sampler(Decided)
        .build();
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("fanfare"))
        .with_location(false)
        .with_threads(false)
        .with_level(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(
            filter_fn(|metadata| metadata.is_span() && metadata.target() == EXPORTED_TARGET)
                .with_max_level_hint(tracing::Level::INFO),
        )
}

/// Samples requests, for which the decision was made before, and their parts. The store is used without a request, too.
#[derive(Debug, Clone)]
struct Decided;

impl ShouldSample for Decided {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        _: TraceId,
        name: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|parent| parent.span().span_context().clone());
        let is_sampled = name == NAME || parent.as_ref().is_some_and(SpanContext::is_sampled);
        SamplingResult {
            decision: match is_sampled {
                true => SamplingDecision::RecordAndSample,
                false => SamplingDecision::Drop,
            },
            attributes: Vec::new(),
            trace_state: parent
                .map_or_else(TraceState::default, |parent| parent.trace_state().clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_no_names_of_others() {
        for (path, expected) in [
            ("/api/v1/apps", "/api/v1/apps"),
            ("/api/v1/apps/chat", "/api/v1/apps/{id}"),
            (
                "/api/v1/apps/chat/channels/private-ada/members",
                "/api/v1/apps/{id}/channels/{id}/members",
            ),
            ("/api/v1/sessions/refresh", "/api/v1/sessions/refresh"),
            (
                "/api/v1/operators/ada/password",
                "/api/v1/operators/{id}/password",
            ),
            (
                "/api/v1/apps/chat/channels/a%2Fb",
                "/api/v1/apps/{id}/channels/{id}",
            ),
        ] {
            assert_eq!(route(path), expected);
        }
    }

    /// A path of the description whose literal part would be taken for a name, or the other way round.
    #[test]
    fn every_route_of_the_description_is_told() {
        let document = include_str!("../../../../docs/openapi.json");
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        let paths = document["paths"].as_object().unwrap().keys();
        for path in paths.filter(|path| path.starts_with("/api/v1/")) {
            let parts = path.split('/').map(|part| match part.starts_with('{') {
                true => "{id}",
                false => part,
            });
            let described = parts.collect::<Vec<_>>().join("/");
            assert_eq!(route(path), described, "does FIXED_PARTS miss a part?");
        }
    }
}
