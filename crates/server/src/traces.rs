//! Traces of publishes and of requests to the admin API, exported with OTLP (`docs/traces.md`). Without an endpoint in the
//! environment there are none, and nothing is kept.
//!
//! Whether a publish is sampled is decided before a span exists, so that of the many that aren't nothing is allocated.
//!
//! | file | content |
//! |---|---|
//! | `settings` | the standard environment variables |
//! | `sampler` | which requests are sampled |
//! | `publish` | the span of a publish, and its parts in the engine |
//! | `admin` | the span of a request to the admin API; the store's spans are parts of it |
//! | `export` | the bounded queue, and the task that empties it |

mod admin;
mod export;
mod publish;
mod sampler;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::HeaderMap;
use fanfare_engine::{NoSpans, SpanSink, TraceParent};
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use admin::AdminSampler;
use export::{Exporting, Queue};
use sampler::Sampler;
use settings::Settings;

pub(crate) use admin::AdminSpans;
pub(crate) use export::SpanCounts;
pub(crate) use publish::{PublishTrace, log_span};

/// Target of the spans that log lines of a sampled request are written in. They hold the trace's id.
pub(crate) const LOG_TARGET: &str = "fanfare::trace_ids";
/// Target of the spans that are exported, in this crate and the store's. They aren't for log lines.
pub(crate) const EXPORTED_TARGET: &str = "exported_spans";

/// The traces of this node. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traces(Option<Arc<Active>>);

#[derive(Debug)]
struct Active {
    sampler: Sampler,
    admin: AdminSampler,
    queue: Arc<Queue>,
    exporting: Exporting,
}

impl Traces {
    /// Returns the traces that the environment asks for.
    ///
    /// # Errors
    ///
    /// Returns which variable is wrong, why, and what to do.
    pub(crate) fn new(variables: &BTreeMap<String, String>) -> Result<Self, String> {
        let Some(settings) = Settings::read(variables)? else {
            return Ok(Self::default());
        };
        let sampler = settings.sampler;
        let (queue, exporting) = export::new(settings)?;
        Ok(Self(Some(Arc::new(Active {
            sampler,
            admin: AdminSampler::new(sampler),
            queue: Arc::new(queue),
            exporting,
        }))))
    }

    /// Returns whether anything is traced.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the layer that turns the program's own spans into exported ones.
    pub(crate) fn layer<S>(&self) -> Option<impl Layer<S> + Send + Sync>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let active = self.0.as_ref()?;
        Some(admin::layer(Arc::clone(&active.queue)))
    }

    /// Returns where the engine records its parts of sampled publishes.
    pub(crate) fn spans(&self) -> Arc<dyn SpanSink> {
        match &self.0 {
            Some(active) => Arc::clone(&active.queue) as Arc<dyn SpanSink>,
            None => Arc::new(NoSpans),
        }
    }

    /// Starts a publish, whose request has come whole with this header `traceparent`. An invalid one is as none. Returns
    /// `None` if nothing is traced.
    pub(crate) fn publish(&self, traceparent: Option<&str>) -> Option<PublishTrace> {
        let active = self.0.as_ref()?;
        let parent = traceparent.and_then(TraceParent::parse);
        Some(PublishTrace::start(active.sampler, parent))
    }

    /// Returns what became of the spans so far, or `None` if nothing is traced.
    pub(crate) fn counts(&self) -> Option<SpanCounts> {
        self.0.as_ref().map(|active| active.queue.counts())
    }

    /// Exports what is recorded, until [`Self::finish`] is called.
    pub(crate) async fn export(self) {
        if let Some(active) = &self.0 {
            active.exporting.run(&active.queue).await;
        }
    }

    /// Exports what is still queued, for a few seconds at most.
    pub(crate) async fn finish(&self) {
        if let Some(active) = &self.0 {
            active.exporting.finish().await;
        }
    }
}

/// Returns the caller's span. An invalid header is as none.
fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    let header = headers.get("traceparent")?;
    TraceParent::parse(header.to_str().ok()?)
}
