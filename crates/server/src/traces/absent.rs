//! The traces of a program that was built without them (feature `otlp`): none.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use fanfare_engine::{App, Engine, NoSpans, PublishError, PublishOutcome, SpanSink, TraceContext};
use fanfare_protocol::api::Event;
use tracing::instrument::{Instrument, Instrumented};
use tracing_subscriber::layer::Identity;

pub(crate) const LOG_TARGET: &str = "fanfare::trace_ids";
pub(crate) const EXPORTED_TARGET: &str = "exported_spans";

#[derive(Debug, Clone, Default)]
pub(crate) struct Traces;

/// A publish that is traced; there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PublishTrace {}

impl PublishTrace {
    pub(crate) fn context(&self) -> Option<TraceContext> {
        match *self {}
    }
}

pub(crate) fn log_span(_: Option<TraceContext>) -> tracing::Span {
    tracing::Span::none()
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanCounts {
    pub(crate) exported: u64,
    pub(crate) dropped: u64,
    pub(crate) failed: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct AdminSpans;

impl AdminSpans {
    pub(crate) fn instrument<F: Future>(&self, part: F) -> Instrumented<F> {
        part.instrument(tracing::Span::none())
    }

    pub(crate) fn finish(self, _: StatusCode, rest: impl FnOnce()) {
        rest();
    }
}

impl Traces {
    pub(crate) fn new(variables: &BTreeMap<String, String>) -> Result<Self, String> {
        let names = [
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ];
        let is_set = |name: &&str| variables.get(*name).is_some_and(|value| !value.is_empty());
        let endpoint = names.into_iter().find(is_set);
        match endpoint {
            Some(name) => Err(format!(
                "{name} is set, and this program was built without traces; unset it, or build with the feature otlp"
            )),
            None => Ok(Self),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        false
    }

    pub(crate) fn layer(&self) -> Option<Identity> {
        None
    }

    pub(crate) fn spans(&self) -> Arc<dyn SpanSink> {
        Arc::new(NoSpans)
    }

    pub(crate) fn publish(&self, _: Option<&str>) -> Option<PublishTrace> {
        None
    }

    pub(crate) fn record_publish(
        &self,
        trace: &PublishTrace,
        _: (&Engine, &App),
        _: &[Event],
        _: &Result<PublishOutcome, PublishError>,
    ) {
        match *trace {}
    }

    pub(crate) fn admin_request(&self, _: &Request, _: &str) -> AdminSpans {
        AdminSpans
    }

    pub(crate) fn current(&self) -> Option<TraceContext> {
        None
    }

    pub(crate) fn counts(&self) -> Option<SpanCounts> {
        None
    }

    pub(crate) async fn export(self) {}

    pub(crate) async fn finish(&self) {}
}
