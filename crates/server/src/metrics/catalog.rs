//! Every metric of the node. The table of `docs/metrics.md` is made out of it.

use fanfare_engine::{
    AppStats, BackendTraffic, ByTransport, ClusterStats, Histogram, PublishResult,
};
use fanfare_protocol::WebhookEvent;

use super::snapshot::{CertificateReading, Snapshot};

/// How a metric's value may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A value at one moment.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Counter(u64),
    /// A counter of seconds.
    Seconds(f64),
    Gauge(f64),
    Histogram(Histogram),
}

/// A value and its labels, in the order of the family's.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) labels: Vec<String>,
    pub(super) value: Value,
}

/// A metric: series that differ only in their labels.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    /// One sentence; the encoders add no full stop.
    pub(super) help: &'static str,
    pub(super) read: fn(&Snapshot) -> Vec<Series>,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Snapshot) -> Vec<Series>,
) -> Family {
    Family {
        name,
        kind: Kind::Counter,
        labels,
        help,
        read,
    }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Snapshot) -> Vec<Series>,
) -> Family {
    Family {
        name,
        kind: Kind::Gauge,
        labels,
        help,
        read,
    }
}

const fn histogram(
    name: &'static str,
    help: &'static str,
    read: fn(&Snapshot) -> Vec<Series>,
) -> Family {
    Family {
        name,
        kind: Kind::Histogram,
        labels: &[],
        help,
        read,
    }
}

fn count(value: u64) -> Vec<Series> {
    one(Value::Counter(value))
}

fn number(value: impl Into<f64>) -> Vec<Series> {
    one(Value::Gauge(value.into()))
}

fn by_transport(connections: ByTransport) -> [(&'static str, u64); 5] {
    [
        ("websocket", connections.websocket),
        ("fallback", connections.fallback),
        ("plain_websocket", connections.plain_websocket),
        ("sse", connections.sse),
        ("socket_io", connections.socket_io),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are f64")]
fn amount(value: usize) -> Vec<Series> {
    one(Value::Gauge(value as f64))
}

fn one(value: Value) -> Vec<Series> {
    vec![Series {
        labels: Vec::new(),
        value,
    }]
}

fn counts(values: impl IntoIterator<Item = (impl ToString, u64)>) -> Vec<Series> {
    values
        .into_iter()
        .map(|(label, value)| Series {
            labels: vec![label.to_string()],
            value: Value::Counter(value),
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are f64")]
fn amounts(values: impl IntoIterator<Item = (impl ToString, usize)>) -> Vec<Series> {
    values
        .into_iter()
        .map(|(label, value)| Series {
            labels: vec![label.to_string()],
            value: Value::Gauge(value as f64),
        })
        .collect()
}

fn ratio_of(labels: Vec<String>, ratio: f64) -> Series {
    Series {
        labels,
        value: Value::Gauge(ratio),
    }
}

fn by_app(snapshot: &Snapshot, read: fn(&AppStats) -> u64) -> Vec<Series> {
    let apps = snapshot.node.apps.iter();
    counts(apps.map(|app| (app.app.id(), read(app))))
}

fn by_result(traffic: &BackendTraffic) -> impl Iterator<Item = (&'static str, u64)> {
    let results = PublishResult::ALL.into_iter().map(PublishResult::as_str);
    results.zip(traffic.requests)
}

/// Returns no series on a node by itself.
fn of_cluster(snapshot: &Snapshot, read: fn(&ClusterStats) -> Vec<Series>) -> Vec<Series> {
    snapshot.cluster.as_ref().map(read).unwrap_or_default()
}

/// Returns no series on a node that speaks no TLS.
fn by_certificate(snapshot: &Snapshot, read: fn(&CertificateReading) -> f64) -> Vec<Series> {
    let tls = snapshot.tls.iter();
    tls.flat_map(|tls| &tls.certificates)
        .map(|certificate| Series {
            labels: vec![certificate.name.clone(), certificate.source.clone()],
            value: Value::Gauge(read(certificate)),
        })
        .collect()
}

/// Every metric, in the order in which they are written.
pub(super) const CATALOG: &[Family] = &[
    gauge(
        "fanfare_build_info",
        &["version"],
        "1, with the version of the program.",
        |_| amounts([(env!("CARGO_PKG_VERSION"), 1)]),
    ),
    gauge(
        "fanfare_ready",
        &[],
        "1 if the node takes connections and events, as /readyz answers, and 0 otherwise.",
        |s| number(u8::from(s.ready)),
    ),
    gauge(
        "fanfare_connections",
        &["transport"],
        "Open connections, by transport (websocket, fallback, plain_websocket, sse or socket_io).",
        |s| {
            let connections = s.node.connections;
            let values = by_transport(connections);
            amounts(values.map(|(name, value)| (name, usize::try_from(value).unwrap_or(0))))
        },
    ),
    counter(
        "fanfare_connections_opened_total",
        &["transport"],
        "Connections that were opened, by transport.",
        |s| counts(by_transport(s.node.opened)),
    ),
    counter(
        "fanfare_connections_closed_total",
        &["code"],
        "Connections that have ended, by the code with which the server closed them, or client if the client left.",
        |s| counts(s.node.closed.iter().map(|(by, count)| (by, *count))),
    ),
    counter(
        "fanfare_slow_consumers_closed_total",
        &[],
        "Connections that were closed because they read more slowly than events came (outbox.max_bytes).",
        |s| count(s.node.slow_consumers),
    ),
    gauge(
        "fanfare_sockets",
        &[],
        "TCP connections that are open, whatever they are used for.",
        |s| amount(s.sockets.open),
    ),
    gauge(
        "fanfare_sockets_max",
        &[],
        "TCP connections that may be open (http.max_sockets).",
        |s| amount(s.sockets.max),
    ),
    counter(
        "fanfare_tls_handshakes_total",
        &["outcome"],
        "TLS handshakes, by outcome: full, resumed, failed, plain_http (the client spoke HTTP without TLS), left or timed_out.",
        |s| {
            let handshakes = s.tls.as_ref().map(|tls| tls.handshakes.clone());
            counts(handshakes.unwrap_or_default())
        },
    ),
    gauge(
        "fanfare_tls_certificate_days_left",
        &["name", "source"],
        "Days until a certificate expires, by its first name and its file; negative afterwards.",
        |s| by_certificate(s, |certificate| certificate.days_left),
    ),
    gauge(
        "fanfare_tls_certificate_expires_soon",
        &["name", "source"],
        "1 if a certificate should have been replaced by now, because less than 14 days or a sixth of its life are left, and 0 otherwise.",
        |s| {
            by_certificate(s, |certificate| {
                f64::from(u8::from(certificate.expires_soon))
            })
        },
    ),
    gauge(
        "fanfare_tls_certificate_refused",
        &["name", "source"],
        "1 if the files of a certificate hold another one that cannot be served, so that the old one stays, and 0 otherwise.",
        |s| {
            by_certificate(s, |certificate| {
                f64::from(u8::from(certificate.is_replacement_refused))
            })
        },
    ),
    gauge(
        "fanfare_tls_failed_orders",
        &["name"],
        "Orders of a certificate that the ACME server has failed since the last that it has not, by the first name; no series if none has.",
        |s| {
            let failed = s.tls.iter().flat_map(|tls| &tls.failed_orders);
            failed
                .map(|(name, count)| Series {
                    labels: vec![name.clone()],
                    value: Value::Gauge(*count as f64),
                })
                .collect()
        },
    ),
    gauge(
        "fanfare_channels",
        &[],
        "Channels that have subscribers on this node.",
        |s| amount(s.node.channels),
    ),
    gauge(
        "fanfare_subscriptions",
        &[],
        "Subscriptions on this node.",
        |s| amount(s.node.subscriptions),
    ),
    counter(
        "fanfare_publishes_total",
        &["result"],
        "Requests of backends to publish, by result: accepted, duplicate (its idempotency key was known), over_rate, \
         overloaded (a queue was full), over_quota (a quota is used up), unavailable (the cluster's back end did not answer) or conflict (its key stood \
         for another request).",
        |s| counts(by_result(&s.node.backend)),
    ),
    counter(
        "fanfare_events_published_total",
        &[],
        "Events of backends that were accepted, one for each channel.",
        |s| count(s.node.backend.events),
    ),
    counter(
        "fanfare_published_bytes_total",
        &[],
        "Bytes of data of these events.",
        |s| count(s.node.backend.bytes),
    ),
    counter(
        "fanfare_client_events_total",
        &[],
        "Events of clients that were published.",
        |s| count(s.node.clients.client_events),
    ),
    counter(
        "fanfare_deliveries_total",
        &[],
        "Events that were queued to subscribers, one for each subscriber.",
        |s| count(s.node.clients.deliveries),
    ),
    counter(
        "fanfare_delivered_bytes_total",
        &[],
        "Bytes of these events as WebSocket frames.",
        |s| count(s.node.clients.delivered_bytes),
    ),
    counter(
        "fanfare_written_bytes_total",
        &[],
        "Bytes that sockets have taken: events, answers, pings and frames around them.",
        |s| count(s.node.written_bytes),
    ),
    counter(
        "fanfare_messages_received_total",
        &[],
        "Messages of clients.",
        |s| count(s.node.clients.messages),
    ),
    counter(
        "fanfare_received_bytes_total",
        &[],
        "Bytes of these messages, without frames.",
        |s| count(s.node.clients.received_bytes),
    ),
    histogram(
        "fanfare_publish_to_write_seconds",
        "Time from an event's arrival at this node to the write to its subscribers on one shard.",
        |s| one(Value::Histogram(s.node.write_delay.clone())),
    ),
    gauge(
        "fanfare_inbox_bytes",
        &[],
        "Bytes of events that wait for the shards (inbox.max_bytes).",
        |s| amount(s.node.inbox_bytes),
    ),
    gauge(
        "fanfare_inbox_largest_batch_bytes",
        &[],
        "Most bytes of events that a shard had to handle at once since the start.",
        |s| amount(s.node.largest_batch),
    ),
    gauge(
        "fanfare_outbox_bytes",
        &[],
        "Bytes that wait for sockets that take no more at the moment.",
        |s| amount(s.node.outbox_bytes),
    ),
    counter(
        "fanfare_recoveries_total",
        &["result"],
        "Clients that came back to a channel with a history, by whether all that they missed was there: complete or \
         incomplete.",
        |s| {
            counts([
                ("complete", s.node.recoveries.complete),
                ("incomplete", s.node.recoveries.incomplete),
            ])
        },
    ),
    counter(
        "fanfare_refused_total",
        &["kind"],
        "Clients and requests that were refused, by the kind that the log names (docs/errors.md).",
        |s| counts(s.refused.iter().copied()),
    ),
    gauge(
        "fanfare_budget_used",
        &["resource"],
        "What the clients of this node hold of a bounded resource: sockets, connections, or bytes.",
        |s| amounts(s.budgets.iter().map(|budget| (budget.name, budget.used))),
    ),
    gauge(
        "fanfare_budget_max",
        &["resource"],
        "The most that they may hold. A resource without a bound is left out.",
        |s| amounts(s.budgets.iter().map(|budget| (budget.name, budget.max))),
    ),
    gauge(
        "fanfare_cluster_connected",
        &[],
        "1 if the node is connected to the other nodes, and 0 otherwise. Absent on a node by itself.",
        |s| of_cluster(s, |cluster| number(u8::from(cluster.connected))),
    ),
    counter(
        "fanfare_cluster_gaps_total",
        &[],
        "Times that the connection to the other nodes was lost, so that connections were closed with 4101.",
        |s| of_cluster(s, |cluster| count(cluster.gaps)),
    ),
    histogram(
        "fanfare_cluster_publish_seconds",
        "Time until the cluster's back end has accepted a publish.",
        |s| of_cluster(s, |cluster| one(Value::Histogram(cluster.publish.clone()))),
    ),
    gauge(
        "fanfare_app_sync_age_seconds",
        &[],
        "Time since the store was last asked for changed apps with success.",
        |s| number(s.sync.age.as_secs_f64()),
    ),
    counter(
        "fanfare_app_sync_failures_total",
        &[],
        "Times that the store did not answer this question.",
        |s| count(s.sync.failures),
    ),
    histogram(
        "fanfare_store_seconds",
        "Time that the store takes for this question.",
        |s| one(Value::Histogram(s.sync.store.clone())),
    ),
    gauge(
        "fanfare_usage_unwritten_minutes",
        &[],
        "Minutes of apps whose usage is not in the store yet, or not as a whole.",
        |s| amount(s.usage.unwritten),
    ),
    counter(
        "fanfare_usage_lost_minutes_total",
        &[],
        "Minutes of apps whose usage was given up because the store was away for too long.",
        |s| count(s.usage.lost),
    ),
    counter(
        "fanfare_alert_notifications_total",
        &["result"],
        "Notifications of alerts, by result: sent, or lost because the target took none for an hour.",
        |s| {
            counts([
                ("sent", s.notifications.sent),
                ("lost", s.notifications.lost),
            ])
        },
    ),
    gauge(
        "fanfare_live_viewers",
        &[],
        "Open consoles and tails of live events on the node.",
        |s| amount(s.live.viewers),
    ),
    counter(
        "fanfare_live_lines_left_out_total",
        &[],
        "Live events that a viewer wanted and that were only counted, because they came faster than it reads or than its rate.",
        |s| count(s.live.left_out),
    ),
    gauge(
        "fanfare_webhooks",
        &["state"],
        "Webhooks by state: active, paused or disabled.",
        |s| amounts(s.webhooks.by_state),
    ),
    counter(
        "fanfare_webhook_events_recorded_total",
        &["event"],
        "Events that this node recorded for webhooks.",
        |s| {
            let names = WebhookEvent::ALL.map(WebhookEvent::as_str);
            counts(names.into_iter().zip(s.webhooks.counts.recorded))
        },
    ),
    counter(
        "fanfare_webhook_events_lost_total",
        &[],
        "Client events, cache misses and counts that were not recorded, because they came faster than the store took them.",
        |s| count(s.webhooks.counts.dropped),
    ),
    counter(
        "fanfare_webhook_attempts_total",
        &["result"],
        "Requests of this node to receivers by result: delivered, refused (another status than 200 to 299) or unanswered.",
        |s| {
            let results = ["delivered", "refused", "unanswered"];
            counts(results.into_iter().zip(s.webhooks.counts.attempts))
        },
    ),
    counter(
        "fanfare_webhook_deliveries_total",
        &["result"],
        "Deliveries that have ended, by result: delivered, or given_up after webhooks.retry_for.",
        |s| {
            counts([
                ("delivered", s.webhooks.counts.delivered),
                ("given_up", s.webhooks.counts.given_up),
            ])
        },
    ),
    gauge(
        "fanfare_webhook_deliveries_waiting",
        &[],
        "Deliveries of active webhooks that wait to be sent, on all nodes together, as the node saw within the last 15 seconds.",
        |s| amount(s.webhooks.waiting.deliveries),
    ),
    gauge(
        "fanfare_webhook_oldest_waiting_seconds",
        &[],
        "Age of the oldest of these.",
        |s| number(s.webhooks.waiting.oldest.as_secs_f64()),
    ),
    counter(
        "fanfare_transactional_outbox_events_total",
        &["result"],
        "Events of outboxes by result: published, or rejected (set aside, because they can't be delivered).",
        |s| {
            counts([
                ("published", s.outboxes.published),
                ("rejected", s.outboxes.rejected),
            ])
        },
    ),
    gauge(
        "fanfare_transactional_outboxes_failing",
        &[],
        "Outboxes that this node can't read, or whose events it can't publish now.",
        |s| amount(s.outboxes.failing),
    ),
    gauge(
        "fanfare_transactional_outbox_waiting",
        &[],
        "Events that wait in the outboxes that this node reads, at most 10000 of each, as it counted within the last 5 seconds.",
        |s| number(u32::try_from(s.outboxes.waiting).unwrap_or(u32::MAX)),
    ),
    gauge(
        "fanfare_transactional_outbox_oldest_waiting_seconds",
        &[],
        "Age of the oldest of these.",
        |s| number(s.outboxes.oldest_age.as_secs_f64()),
    ),
    counter(
        "fanfare_trace_spans_total",
        &["result"],
        "Spans of traces by result: exported, failed (the collector did not take them) or dropped (the queue was full). \
         Absent unless traces are exported.",
        |s| {
            let counts = s.traces.iter().flat_map(|spans| {
                [
                    ("exported", spans.exported),
                    ("failed", spans.failed),
                    ("dropped", spans.dropped),
                ]
            });
            self::counts(counts)
        },
    ),
    gauge(
        "fanfare_quota_used_ratio",
        &["quota"],
        "The used part of a quota of all apps together, on all nodes, as this node learned last.",
        |s| {
            let all = s.quotas.iter().filter(|((app, _), _)| app.is_none());
            let series =
                all.map(|((_, kind), ratio)| ratio_of(vec![kind.setting().into()], *ratio));
            series.collect()
        },
    ),
    gauge(
        "fanfare_app_quota_used_ratio",
        &["app", "quota"],
        "The used part of an app's quota, on all nodes, as this node learned last. Absent until the app uses it.",
        |s| {
            let of_apps = s.quotas.iter().filter_map(|((app, kind), ratio)| {
                let labels = vec![app.clone()?, kind.setting().into()];
                Some(ratio_of(labels, *ratio))
            });
            of_apps.collect()
        },
    ),
    gauge(
        "fanfare_app_connections",
        &["app"],
        "Open connections of an app: of those that metrics.apps names, or of the 50 busiest.",
        |s| {
            let apps = s.node.apps.iter();
            amounts(apps.map(|app| (app.app.id(), app.connections)))
        },
    ),
    counter(
        "fanfare_app_events_published_total",
        &["app"],
        "Events of an app's backends that were accepted.",
        |s| by_app(s, |app| app.backend.events),
    ),
    counter(
        "fanfare_app_publishes_refused_total",
        &["app"],
        "Requests of an app's backends to publish that were not accepted, by rate, quota, a full queue or the cluster.",
        |s| {
            by_app(s, |app| {
                let accepted = [PublishResult::Accepted, PublishResult::Duplicate];
                let results = PublishResult::ALL.into_iter().zip(app.backend.requests);
                let refused = results.filter(|(result, _)| !accepted.contains(result));
                refused.map(|(_, requests)| requests).sum()
            })
        },
    ),
    counter(
        "fanfare_app_deliveries_total",
        &["app"],
        "Events that were queued to an app's subscribers.",
        |s| by_app(s, |app| app.clients.deliveries),
    ),
    counter(
        "fanfare_app_delivered_bytes_total",
        &["app"],
        "Bytes of these events as WebSocket frames.",
        |s| by_app(s, |app| app.clients.delivered_bytes),
    ),
    counter(
        "fanfare_app_messages_received_total",
        &["app"],
        "Messages of an app's clients.",
        |s| by_app(s, |app| app.clients.messages),
    ),
    counter(
        "process_cpu_seconds_total",
        &[],
        "CPU time of the process.",
        |s| one(Value::Seconds(s.process.cpu_seconds)),
    ),
    gauge(
        "process_resident_memory_bytes",
        &[],
        "Resident memory of the process.",
        |s| amount(usize::try_from(s.process.resident_bytes).unwrap_or(usize::MAX)),
    ),
    gauge("process_open_fds", &[], "Open file descriptors.", |s| {
        amount(s.process.open_files)
    }),
    gauge(
        "process_max_fds",
        &[],
        "File descriptors that may be open.",
        |s| amount(usize::try_from(s.process.max_files).unwrap_or(usize::MAX)),
    ),
    gauge(
        "process_start_time_seconds",
        &[],
        "Start of the process, in Unix time.",
        |s| number(s.started_at.as_secs_f64()),
    ),
];

/// Returns the table of all metrics for the documentation.
pub(crate) fn table() -> String {
    let rows = CATALOG.iter().map(|family| {
        let Family {
            name, kind, help, ..
        } = family;
        let labels: Vec<_> = family.labels.iter().map(|l| format!("`{l}`")).collect();
        let kind = format!("{kind:?}").to_lowercase();
        format!(
            "| `{name}` | {kind} | {} | {} | {help} |\n",
            unit(name),
            labels.join(", ")
        )
    });
    format!(
        "| metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n{}",
        rows.collect::<String>()
    )
}

/// Returns the names of all metrics.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CATALOG.iter().map(|family| family.name)
}

/// Returns the unit of a metric, which its name ends with.
fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_total");
    let units = ["seconds", "bytes", "days", "minutes", "ratio"];
    let of = |unit: &&str| name.rsplit('_').any(|word| word == *unit);
    units.into_iter().find(of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_as_prometheus_advises() {
        for family in CATALOG {
            let is_counter = family.kind == Kind::Counter;
            assert_eq!(
                family.name.ends_with("_total"),
                is_counter,
                "{}",
                family.name
            );
            if family.kind == Kind::Histogram {
                assert!(family.name.ends_with("_seconds"), "{}", family.name);
            }
            assert!(family.help.ends_with('.'), "{}", family.name);
        }
    }
}
