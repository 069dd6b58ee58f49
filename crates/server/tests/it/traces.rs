//! Traces, as a collector gets them.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare_testkit::admin::text;
use fanfare_testkit::{Admin, Api, KEY, OWNER, OWNER_SETTING, PASSWORD, SECRET, Server};
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

const BINARY: &str = env!("CARGO_BIN_EXE_fanfare");
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const WAIT: Duration = Duration::from_secs(20);

fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{CALLER}-{flags}")
}

/// A span as it was exported.
#[derive(Debug, Clone)]
struct Span {
    name: String,
    trace: String,
    id: String,
    parent: String,
    kind: i32,
    nanos: u64,
    service: String,
    attributes: BTreeMap<String, String>,
}

/// A collector that takes OTLP over HTTP.
struct Collector {
    address: SocketAddr,
    spans: watch::Receiver<Vec<Span>>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, spans) = watch::channel(Vec::new());
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let received = Arc::clone(&bytes);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, received) = (sender.clone(), Arc::clone(&received));
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Some((head, body)) = request(&mut stream).await {
                        // Headers too: what isn't to be exported must not be there either.
                        received
                            .lock()
                            .unwrap()
                            .extend(head.bytes().chain(body.iter().copied()));
                        let new = decode(&body);
                        sender.send_modify(|spans| spans.extend(new));
                        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        stream.write_all(ok).await.unwrap();
                    }
                });
            }
        });
        Self {
            address,
            spans,
            bytes,
        }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until these spans have come, and returns all.
    async fn until(&mut self, are_there: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let found = timeout(WAIT, self.spans.wait_for(|spans| are_there(spans)));
        let found = found.await.map(|spans| spans.unwrap().clone());
        found.unwrap_or_else(|_| panic!("only these came: {:#?}", self.spans.borrow()))
    }

    /// Checks that none of these texts was exported, in names, attributes or headers.
    fn has_none_of(&self, texts: &[&str]) {
        let bytes = self.bytes.lock().unwrap();
        for text in texts {
            let found = bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes());
            assert!(!found, "{text} was exported");
        }
    }
}

/// Reads a request's head and body, which is decompressed.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(
        head.contains("content-type: application/x-protobuf\r\n"),
        "{head}"
    );
    let (_, length) = head.split_once("content-length: ").unwrap();
    let length = length.lines().next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    if head.contains("content-encoding: gzip") {
        let mut decoded = Vec::new();
        GzDecoder::new(&body[..]).read_to_end(&mut decoded).unwrap();
        body = decoded;
    }
    Some((head, body))
}

fn decode(body: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = attributes(&of_resource.resource.unwrap().attributes);
        for span in of_resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            assert!(
                span.events.is_empty(),
                "log lines are not exported: {span:?}"
            );
            spans.push(Span {
                name: span.name,
                trace: hex::encode(span.trace_id),
                id: hex::encode(span.span_id),
                parent: hex::encode(span.parent_span_id),
                kind: span.kind,
                nanos: span.end_time_unix_nano - span.start_time_unix_nano,
                service: resource["service.name"].clone(),
                attributes: attributes(&span.attributes),
            });
        }
    }
    spans
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(value) => value.to_string(),
        other => panic!("{other:?}"),
    };
    list.iter()
        .map(|pair| (pair.key.clone(), text(pair)))
        .collect()
}

fn find<'a>(spans: &'a [Span], service: &str, name: &str) -> &'a Span {
    let found = spans
        .iter()
        .find(|span| span.service == service && span.name == name);
    found.unwrap_or_else(|| panic!("no {name} of {service}: {spans:#?}"))
}

/// A Redis of the test's own.
struct Redis {
    port: u16,
    process: Child,
}

impl Redis {
    async fn start() -> Self {
        let port = free_port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is on the PATH");
        let redis = Self { port, process };
        let start = Instant::now();
        while redis.connect().await.is_err() {
            assert!(start.elapsed() < WAIT, "redis-server does not start");
            sleep(Duration::from_millis(10)).await;
        }
        redis
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect(("127.0.0.1", self.port)).await
    }

    /// Lets nobody publish for a while.
    async fn pause(&self, millis: u32) {
        let mut stream = self.connect().await.unwrap();
        let command = format!("CLIENT PAUSE {millis} WRITE\r\n");
        stream.write_all(command.as_bytes()).await.unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"+OK\r\n");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A node that exports what callers ask for and nothing else, within milliseconds.
async fn node(settings: &[&str], collector: &Collector, more: &[(&str, &str)]) -> Server {
    let endpoint = collector.endpoint();
    let mut all = environment(&endpoint, "")[..3].to_vec();
    all.extend(more);
    Server::start_in(BINARY, settings, &all).await
}

fn environment<'a>(endpoint: &'a str, name: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ("OTEL_SERVICE_NAME", name),
    ]
}

fn event(channel: &str) -> String {
    json!({"name": "event-of-zanzibar", "channel": channel, "data": "payload-of-zanzibar"})
        .to_string()
}

#[tokio::test]
async fn a_sampled_publish_is_traced_over_two_nodes_and_others_are_not() {
    let (mut collector, redis) = (Collector::start().await, Redis::start().await);
    let cluster = format!("cluster.url=redis://127.0.0.1:{}", redis.port);
    let endpoint = collector.endpoint();
    let [one, two] = ["one", "two"].map(|name| environment(&endpoint, name));
    let [one, two] = Server::start_two_in(BINARY, &[&cluster], [&one, &two]).await;
    let channel = "presence-cache-room-of-zanzibar";
    let mut client = two.connect().await;
    client
        .join(channel, r#"{"user_id":"user-of-zanzibar"}"#)
        .await;
    client.expect("pusher:cache_miss").await;

    // Not sampled by the caller, and without a caller by nobody.
    let header = traceparent("11111111111111111111111111111111", "00");
    let unsampled = one
        .api()
        .post_with("events", ("traceparent", &header), event(channel))
        .await;
    assert_eq!(unsampled.status, 200);
    assert_eq!(one.api().post("events", event(channel)).await.status, 200);
    let header = traceparent(TRACE, "01");
    let sampled = one
        .api()
        .post_with("events", ("traceparent", &header), event(channel))
        .await;
    assert_eq!(sampled.status, 200);
    for _ in 0..3 {
        client.expect("event-of-zanzibar").await;
    }
    client.expect_nothing().await;

    let is_slow = |span: &Span| {
        span.attributes
            .get("fanfare.slow")
            .is_some_and(|slow| slow == "true")
    };
    let spans = collector
        .until(|spans| spans.iter().filter(|span| span.trace == TRACE).count() >= 4)
        .await;
    // On a machine that is busy, others may be slow.
    assert!(
        spans
            .iter()
            .all(|span| span.trace == TRACE || is_slow(span)),
        "{spans:#?}"
    );
    let spans: Vec<_> = spans
        .into_iter()
        .filter(|span| span.trace == TRACE)
        .collect();
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let publish = find(&spans, "one", "publish");
    assert_eq!((publish.parent.as_str(), publish.kind), (CALLER, 2));
    for (name, value) in [
        ("fanfare.app.id", fanfare_testkit::APP_ID),
        ("fanfare.channels", "1"),
        ("fanfare.subscribers", "0"),
        ("fanfare.result", "accepted"),
        ("messaging.operation.name", "publish"),
    ] {
        assert_eq!(publish.attributes[name], value, "{name}");
    }
    let bus = find(&spans, "one", "publish to cluster");
    assert_eq!((&bus.parent, bus.kind), (&publish.id, 3));
    assert!(bus.nanos <= publish.nanos);
    let deliver = find(&spans, "two", "deliver");
    assert_eq!(deliver.parent, publish.id);
    assert_eq!(deliver.attributes["fanfare.subscribers"], "1");
    let write = find(&spans, "two", "write");
    assert_eq!(write.parent, deliver.id);
    assert_eq!(write.attributes["fanfare.waiting_bytes"], "0");

    // Slow, and sampled by nobody.
    redis.pause(400).await;
    assert_eq!(one.api().post("events", event(channel)).await.status, 200);
    let was_paused =
        |span: &Span| is_slow(span) && span.parent.is_empty() && span.nanos > 350_000_000;
    let spans = collector.until(|spans| spans.iter().any(was_paused)).await;
    assert!(
        spans
            .iter()
            .filter(|span| was_paused(span))
            .all(|span| span.name == "publish")
    );
    collector.has_none_of(&["zanzibar", SECRET, KEY, &client.socket_id]);
}

#[tokio::test]
async fn a_request_to_the_admin_api_is_traced_with_the_store_and_with_its_log_lines() {
    let mut collector = Collector::start().await;
    let settings = [
        OWNER_SETTING,
        "demo=false",
        "log.filter=warn,fanfare_engine=info",
    ];
    let gzip = [("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")];
    let server = node(&settings, &collector, &gzip).await;
    let mut client = server.connect().await;
    client.subscribe("room-of-zanzibar").await;
    let (owner, session) = Admin::nobody(server.address).sign_in(OWNER, PASSWORD).await;
    let sampled = owner.with_header("traceparent", &traceparent(TRACE, "01"));

    let path = format!("/apps/{}/events", fanfare_testkit::APP_ID);
    let body = json!({"name": "event-of-zanzibar", "channels": ["room-of-zanzibar"], "data": "payload-of-zanzibar"});
    sampled.post(&path, &body).await.expect(200);
    client.expect("event-of-zanzibar").await;
    sampled.get("/apps/app-of-zanzibar").await.problem(404);

    let spans = collector
        .until(|spans| {
            let requests = spans.iter().filter(|span| span.kind == 2);
            requests.count() == 2 && spans.iter().any(|span| span.name == "write")
        })
        .await;
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
    let publish = find(&spans, "fanfare", "POST /api/v1/apps/{id}/events");
    assert_eq!(publish.parent, CALLER);
    assert_eq!(publish.attributes["http.response.status_code"], "200");
    let parts = |span: &Span| {
        let parts = spans.iter().filter(|part| part.parent == span.id);
        parts.map(|part| part.name.clone()).collect::<Vec<_>>()
    };
    for name in [
        "write",
        "store query",
        "store begin",
        "store statement",
        "store commit",
    ] {
        assert!(
            parts(publish).contains(&name.to_owned()),
            "{:?}",
            parts(publish)
        );
    }
    let refused = find(&spans, "fanfare", "GET /api/v1/apps/{id}");
    assert_eq!(refused.attributes["http.response.status_code"], "404");

    // The line is written because the publish is refused, and has the id of its trace.
    let other = "22222222222222222222222222222222";
    let header = traceparent(other, "01");
    let answer = server
        .api()
        .post_with("events", ("traceparent", &header), event("not a channel"))
        .await;
    assert_eq!(answer.status, 400);
    let log = server.log();
    let line = log
        .lines()
        .find(|line| line.contains("refused a client or request"));
    assert!(line.is_some_and(|line| line.contains(other)), "{log}");
    let token = text(&session, "access_token");
    collector.has_none_of(&["zanzibar", SECRET, KEY, PASSWORD, &token]);
}

#[tokio::test]
async fn a_dead_collector_costs_a_counter_and_one_line() {
    // Connections wait in its queue and get no answer.
    let dead = StdListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", dead.local_addr().unwrap());
    let operators = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20secret-of-zanzibar",
        ),
        ("OTEL_TRACES_SAMPLER", "always_on"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5"),
    ];
    let listen = format!("ops.listen={operators}");
    let mut server = Server::start_in(BINARY, &[&listen], &environment).await;
    let counts = async || {
        let operator = Api::new(operators, "", "", "");
        let metrics = operator.send("GET", "/metrics", Vec::new()).await.text;
        ["exported", "failed", "dropped"].map(|result| {
            let series = format!("fanfare_trace_spans_total{{result=\"{result}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
            line.unwrap_or_else(|| panic!("no {series}: {metrics}"))
                .parse::<u64>()
                .unwrap()
        })
    };
    let start = Instant::now();
    for _ in 0..100 {
        server.api().publish("news", "e", "x").await;
    }
    // Each batch that is sent fails after its time, and each span that has no room is dropped at once.
    let most_batches = u64::try_from(start.elapsed().as_millis()).unwrap() / 1500 + 1;
    let [exported, failed, dropped] = counts().await;
    assert_eq!(exported, 0);
    assert!(
        failed + dropped >= 100 - 10 - 5,
        "{failed} failed and {dropped} were dropped"
    );
    assert!(
        failed <= most_batches * 5,
        "{failed} failed, {most_batches} batches were sent"
    );
    let start = Instant::now();
    while counts().await[1] == 0 {
        assert!(start.elapsed() < WAIT, "nothing fails");
        sleep(Duration::from_millis(20)).await;
    }
    let start = Instant::now();
    server.terminate();
    assert_eq!(server.stopped().await, Some(0));
    // The bound of the last export, and the drain of a second.
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    let log = server.log();
    assert_eq!(log.matches("traces are lost").count(), 1, "{log}");
    assert!(
        log.contains(&endpoint) && log.contains("OTEL_EXPORTER_OTLP_ENDPOINT"),
        "{log}"
    );
    assert!(!log.contains("zanzibar"), "{log}");
}

#[tokio::test]
async fn what_is_queued_is_exported_when_the_node_stops() {
    let mut collector = Collector::start().await;
    let later = [
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ("OTEL_TRACES_SAMPLER", "always_on"),
    ];
    let mut server = node(&[], &collector, &later).await;
    for _ in 0..3 {
        server.api().publish("news", "e", "x").await;
    }
    server.terminate();
    assert_eq!(server.stopped().await, Some(0));
    let spans = collector.until(|spans| spans.len() >= 3).await;
    assert!(
        spans
            .iter()
            .all(|span| span.name == "publish" && span.parent.is_empty()),
        "{spans:#?}"
    );
}

#[tokio::test]
async fn an_invalid_variable_stops_the_start_and_nothing_else() {
    let server = crate::server().await;
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    let output = server.run_with(&environment, "", &["serve"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\"") && error.contains("4318"),
        "{error}"
    );
    let output = server.run_with(&environment, "", &["app", "list"]);
    assert!(output.status.success(), "a command has no traces");
}
