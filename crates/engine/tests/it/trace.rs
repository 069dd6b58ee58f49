//! What a sampled publish leaves behind, and that others leave nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare_engine::testing::{LocalNode, options, run_paused, settle};
use fanfare_engine::{FinishedSpan, Options, SpanSink, TraceContext, TracedWork};
use fanfare_protocol::Limits;
use fanfare_protocol::api::Event;
use serde_json::json;
use tokio::time::advance;

#[derive(Debug, Default)]
struct Recorded(Mutex<Vec<FinishedSpan>>);

impl SpanSink for Recorded {
    fn record(&self, span: FinishedSpan) {
        self.0.lock().unwrap().push(span);
    }
}

impl Recorded {
    fn take(&self) -> Vec<FinishedSpan> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

async fn start(shards: usize) -> (LocalNode, Arc<Recorded>) {
    let recorded = Arc::<Recorded>::default();
    let spans = Arc::clone(&recorded) as Arc<dyn SpanSink>;
    let options = Options {
        spans,
        ..options(shards)
    };
    (LocalNode::alone(options).await, recorded)
}

/// Publishes an event, sampled as a part of this span.
async fn publish(node: &LocalNode, channels: &[String], trace: TraceContext) {
    let body = json!({"name": "e", "channels": channels, "data": "d"}).to_string();
    let event = Event::parse(body.as_bytes(), &Limits::HOSTED).unwrap();
    let (app, events) = (node.app(), [event]);
    let published = node
        .engine
        .publish_traced(&app, &events, None, Some(trace))
        .await;
    published.unwrap();
}

#[test]
fn the_write_to_one_subscriber_stands_for_all() {
    run_paused(async {
        let (node, recorded) = start(2).await;
        let clients: Vec<_> = (0..6).map(|_| node.connect()).collect();
        for client in &clients {
            client.subscribe("news").await;
        }
        node.publish("news", "e", "not sampled").await;
        assert!(recorded.take().is_empty());

        let trace = TraceContext::of_trace(7);
        publish(&node, &["news".into()], trace).await;
        // The shards have other things to do first.
        advance(Duration::from_millis(30)).await;
        settle().await;
        let spans = recorded.take();
        let [span] = &spans[..] else {
            panic!("one span: {spans:?}");
        };
        assert_eq!((span.parent, span.context.trace_id), (trace, 7));
        assert_ne!(span.context.span_id, trace.span_id);
        let work = TracedWork::Write {
            subscribers: 3,
            waiting_bytes: 0,
        };
        assert_eq!(span.work, work, "on one of two shards");
        assert_eq!(span.end - span.start, Duration::from_millis(30));
    });
}

#[test]
fn a_subscriber_that_takes_nothing_is_told() {
    run_paused(async {
        let (node, recorded) = start(1).await;
        let client = node.connect();
        client.subscribe("news").await;
        client.allow(0);
        publish(&node, &["news".into()], TraceContext::of_trace(7)).await;
        settle().await;
        let spans = recorded.take();
        let waits = |span: &FinishedSpan| matches!(span.work, TracedWork::Write { waiting_bytes, .. } if waiting_bytes > 0);
        assert!(spans.len() == 1 && spans.iter().all(waits), "{spans:?}");
    });
}

#[test]
fn a_publish_to_many_channels_has_a_bounded_number_of_spans() {
    run_paused(async {
        let (node, recorded) = start(1).await;
        let client = node.connect();
        let channels: Vec<_> = (0..40).map(|number| format!("c{number}")).collect();
        for channel in &channels {
            client.subscribe(channel).await;
        }
        publish(&node, &channels, TraceContext::of_trace(7)).await;
        settle().await;
        assert_eq!(recorded.take().len(), 10);
        // Nobody subscribes to it, so nothing is written.
        publish(&node, &["empty".into()], TraceContext::of_trace(7)).await;
        settle().await;
        assert!(recorded.take().is_empty());
    });
}
