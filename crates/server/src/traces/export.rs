//! The bounded queue of spans, and the task that exports them. A dead collector costs the queue and a counter.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use parking_lot::Mutex;
use reqwest::redirect::Policy;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::settings::Settings;
use crate::failure::request_failed;
use crate::throttle::Throttle;

/// Time for the export of what is queued when the node stops.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);
/// A collector that is away is told of once in this time.
const LOG_PERIOD: Duration = Duration::from_secs(300);

/// What became of spans since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanCounts {
    /// Accepted by the collector.
    pub(crate) exported: u64,
    /// Not queued, because the queue was full.
    pub(crate) dropped: u64,
    /// Sent, and not accepted.
    pub(crate) failed: u64,
}

/// Spans that wait to be exported.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// The task that exports them.
#[derive(Debug)]
pub(super) struct Exporting {
    // Locked by the one task that exports, for as long as it runs.
    receiver: tokio::sync::Mutex<mpsc::Receiver<SpanData>>,
    exporter: opentelemetry_otlp::SpanExporter,
    last_error: Arc<Mutex<Option<String>>>,
    endpoint: String,
    max_batch: usize,
    delay: Duration,
    throttle: Throttle,
    stop: CancellationToken,
    stopped: CancellationToken,
}

/// Creates a queue and the task that empties it.
pub(super) fn new(settings: Settings) -> Result<(Queue, Exporting), String> {
    let (spans, receiver) = mpsc::channel(settings.max_queue);
    let queue = Queue {
        spans,
        exported: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    };
    let last_error = Arc::default();
    let exporting = Exporting {
        receiver: tokio::sync::Mutex::new(receiver),
        endpoint: settings.endpoint.to_string(),
        max_batch: settings.max_batch,
        delay: settings.delay,
        exporter: exporter(settings, Arc::clone(&last_error))
            .map_err(|error| format!("the exporter of traces can't be created: {error}"))?,
        last_error,
        throttle: Throttle::new(LOG_PERIOD),
        stop: CancellationToken::new(),
        stopped: CancellationToken::new(),
    };
    Ok((queue, exporting))
}

fn exporter(
    settings: Settings,
    last_error: Arc<Mutex<Option<String>>>,
) -> anyhow::Result<opentelemetry_otlp::SpanExporter> {
    let mut client = reqwest::Client::builder()
        .timeout(settings.timeout)
        .redirect(Policy::none());
    if let Some(certificate) = settings.certificate {
        client = client.tls_certs_merge([certificate]);
    }
    let client = Client {
        client: client.build()?,
        last_error,
    };
    let headers = settings.headers.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        Some((name.to_string(), value.to_owned()))
    });
    let headers: HashMap<_, _> = headers.collect();
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(settings.endpoint)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(settings.timeout)
        .with_headers(headers)
        .build()?;
    let attributes = settings.resource.into_iter();
    let attributes = attributes.map(|(name, value)| KeyValue::new(name, value));
    let resource = Resource::builder_empty()
        .with_attributes(attributes)
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

impl Queue {
    /// Queues a span, or drops it if the queue is full.
    pub(super) fn push(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(&self) -> SpanCounts {
        SpanCounts {
            exported: self.exported.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

/// Takes the spans of the admin API from the SDK.
#[derive(Debug)]
pub(super) struct Processor(pub(super) Arc<Queue>);

impl SpanProcessor for Processor {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Exporting {
    /// Exports what comes, until it is told to stop; then what is queued.
    pub(super) async fn run(&self, queue: &Queue) {
        let endpoint = &*self.endpoint;
        tracing::info!(endpoint, "traces are exported (docs/traces.md)");
        let mut receiver = self.receiver.lock().await;
        let _stopped = self.stopped.clone().drop_guard();
        let mut batch = Vec::new();
        loop {
            let stops = tokio::select! {
                biased;
                () = self.stop.cancelled() => true,
                () = self.fill(&mut receiver, &mut batch) => false,
            };
            if stops {
                while let Ok(span) = receiver.try_recv() {
                    batch.push(span);
                }
            }
            while !batch.is_empty() {
                let rest = batch.split_off(batch.len().min(self.max_batch));
                self.export(std::mem::replace(&mut batch, rest), queue)
                    .await;
            }
            if stops {
                return;
            }
        }
    }

    /// Waits for a span, and then for others until the batch is full or the first has waited long enough.
    async fn fill(&self, receiver: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) {
        receiver.recv_many(batch, self.max_batch).await;
        let others = async {
            while batch.len() < self.max_batch {
                let room = self.max_batch - batch.len();
                receiver.recv_many(batch, room).await;
            }
        };
        // A batch that isn't full is exported too.
        let _ = timeout(self.delay, others).await;
    }

    async fn export(&self, batch: Vec<SpanData>, queue: &Queue) {
        let count = batch.len() as u64;
        let exported = self.exporter.export(batch).await;
        let Err(error) = exported else {
            queue.exported.fetch_add(count, Ordering::Relaxed);
            return;
        };
        queue.failed.fetch_add(count, Ordering::Relaxed);
        // The exporter says only that there was an error of the network.
        let cause = self.last_error.lock().take();
        if self.throttle.may_pass() {
            tracing::warn!(
                endpoint = self.endpoint,
                error = cause.unwrap_or_else(|| error.to_string()),
                "traces are lost (fanfare_trace_spans_total counts them): the collector does not take them; check that it \
                 receives OTLP over HTTP at this address (OTEL_EXPORTER_OTLP_ENDPOINT)"
            );
        }
    }

    /// Stops after the export of what is queued, for which there are a few seconds.
    pub(super) async fn finish(&self) {
        self.stop.cancel();
        let _ = timeout(FINISH_TIMEOUT, self.stopped.cancelled()).await;
    }
}

/// The program's own HTTP client, which remembers why a request failed.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    last_error: Arc<Mutex<Option<String>>>,
}

impl HttpClient for Client {
    fn send_bytes<'this, 'future>(
        &'this self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'this: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let answer = self.client.send_bytes(request).await;
            answer.map_err(|error| match error.downcast::<reqwest::Error>() {
                Ok(error) => {
                    let cause = request_failed(*error);
                    *self.last_error.lock() = Some(cause.clone());
                    cause.into()
                }
                Err(error) => error,
            })
        })
    }
}
