//! What happened between two looks at a node's metrics, each second.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::metrics::{Buckets, Document};

/// Results of publishes that were taken.
const ACCEPTED: [&str; 2] = ["accepted", "duplicate"];

/// What a node does now. Rates are for each second.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rates {
    pub(super) version: String,
    pub(super) ready: bool,
    /// Whether the node is connected to the others; `None` on a node by itself.
    pub(super) connected: Option<bool>,
    pub(super) up: Duration,
    pub(super) connections: f64,
    pub(super) channels: f64,
    pub(super) subscriptions: f64,
    pub(super) events: f64,
    pub(super) deliveries: f64,
    pub(super) written_bytes: f64,
    pub(super) slow_consumers: f64,
    /// From an event's arrival to its write, of the events between the two looks.
    pub(super) delay: Quantiles,
    /// Until the cluster's back end took a publish.
    pub(super) bus: Quantiles,
    pub(super) inbox_bytes: f64,
    pub(super) outbox_bytes: f64,
    /// Cores in use.
    pub(super) cpu: f64,
    pub(super) memory: f64,
    /// Publishes that were refused, by result.
    pub(super) refused_publishes: BTreeMap<String, f64>,
    /// Clients and requests that were refused, by kind.
    pub(super) refused: BTreeMap<String, f64>,
    /// The share of each bounded resource that is in use, 0 to 1.
    pub(super) budgets: BTreeMap<String, f64>,
    pub(super) apps: Vec<AppRates>,
}

/// What an app does now on one node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct AppRates {
    pub(super) id: String,
    pub(super) connections: f64,
    pub(super) events: f64,
    pub(super) refused: f64,
    pub(super) deliveries: f64,
    pub(super) delivered_bytes: f64,
    pub(super) messages: f64,
}

/// Seconds that half, and 99 of 100 values, don't exceed. `None` without a value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Quantiles {
    pub(super) median: Option<f64>,
    pub(super) p99: Option<f64>,
}

impl Rates {
    /// Compares two looks. A node that was restarted between them counts from zero.
    pub(super) fn between(before: &Document, now: &Document, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let gauge = |name: &str| now.number(name, &[]);
        let rate = |name: &str| increase(before.number(name, &[]), gauge(name)) / seconds;
        let rates = |name: &str, label: &str| {
            let then = before.by_label(name, label);
            let grown = now.by_label(name, label).into_iter().map(|(key, value)| {
                let rate = increase(then.get(&key).copied().unwrap_or(0.0), value) / seconds;
                (key, rate)
            });
            grown
                .filter(|(_, rate)| *rate > 0.0)
                .collect::<BTreeMap<_, _>>()
        };
        let mut refused_publishes = rates("fanfare_publishes_total", "result");
        refused_publishes.retain(|result, _| !ACCEPTED.contains(&&**result));
        let build = now.by_label("fanfare_build_info", "version");
        let quantiles = |name: &str| Quantiles::between(&before.buckets(name), &now.buckets(name));
        Self {
            version: build.into_keys().next().unwrap_or_default(),
            ready: gauge("fanfare_ready") > 0.0,
            connected: now
                .has("fanfare_cluster_connected")
                .then(|| gauge("fanfare_cluster_connected") > 0.0),
            up: up(gauge("process_start_time_seconds")),
            connections: gauge("fanfare_connections"),
            channels: gauge("fanfare_channels"),
            subscriptions: gauge("fanfare_subscriptions"),
            events: rate("fanfare_events_published_total") + rate("fanfare_client_events_total"),
            deliveries: rate("fanfare_deliveries_total"),
            written_bytes: rate("fanfare_written_bytes_total"),
            slow_consumers: rate("fanfare_slow_consumers_closed_total"),
            delay: quantiles("fanfare_publish_to_write_seconds"),
            bus: quantiles("fanfare_cluster_publish_seconds"),
            inbox_bytes: gauge("fanfare_inbox_bytes"),
            outbox_bytes: gauge("fanfare_outbox_bytes"),
            cpu: rate("process_cpu_seconds_total"),
            memory: gauge("process_resident_memory_bytes"),
            refused_publishes,
            refused: rates("fanfare_refused_total", "kind"),
            budgets: budgets(now),
            apps: apps(before, now, seconds),
        }
    }
}

impl Quantiles {
    fn between(before: &Buckets, now: &Buckets) -> Self {
        let counted = |bound: f64| {
            let same = before.iter().find(|(other, _)| *other == bound);
            same.map_or(0, |(_, count)| *count)
        };
        let grown: Buckets = now
            .iter()
            .map(|(bound, count)| (*bound, count.saturating_sub(counted(*bound))))
            .collect();
        let total: u64 = grown.iter().map(|(_, count)| count).sum();
        let quantile = |hundredths: u64| {
            let rank = (total * hundredths).div_ceil(100);
            let mut seen = 0;
            let found = grown.iter().find(|(_, count)| {
                seen += count;
                seen >= rank
            });
            found.filter(|_| total > 0).map(|(bound, _)| *bound)
        };
        Self {
            median: quantile(50),
            p99: quantile(99),
        }
    }
}

/// Returns how much a counter grew. One that shrank began again at zero.
fn increase(before: f64, now: f64) -> f64 {
    if now < before { now } else { now - before }
}

fn up(started_at: f64) -> Duration {
    let now = jiff::Timestamp::now().as_second();
    #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^53")]
    Duration::try_from_secs_f64(now as f64 - started_at).unwrap_or_default()
}

fn budgets(now: &Document) -> BTreeMap<String, f64> {
    let max = now.by_label("fanfare_budget_max", "resource");
    let used = now.by_label("fanfare_budget_used", "resource");
    used.into_iter()
        .filter_map(|(resource, used)| {
            let share = used / max.get(&resource)?;
            Some((resource, share))
        })
        .collect()
}

fn apps(before: &Document, now: &Document, seconds: f64) -> Vec<AppRates> {
    let mut apps: BTreeMap<String, AppRates> = BTreeMap::new();
    for (id, connections) in now.by_label("fanfare_app_connections", "app") {
        let app = apps.entry(id).or_default();
        app.connections = connections;
    }
    let mut add = |name: &str, field: fn(&mut AppRates) -> &mut f64| {
        let then = before.by_label(name, "app");
        for (id, value) in now.by_label(name, "app") {
            // An app that wasn't among those with metrics of their own has no rate yet.
            let Some(before) = then.get(&id) else {
                continue;
            };
            let app = apps.entry(id).or_default();
            *field(app) = increase(*before, value) / seconds;
        }
    };
    add("fanfare_app_events_published_total", |app| &mut app.events);
    add("fanfare_app_publishes_refused_total", |app| {
        &mut app.refused
    });
    add("fanfare_app_deliveries_total", |app| &mut app.deliveries);
    add("fanfare_app_delivered_bytes_total", |app| {
        &mut app.delivered_bytes
    });
    add("fanfare_app_messages_received_total", |app| {
        &mut app.messages
    });
    apps.into_iter()
        .map(|(id, app)| AppRates { id, ..app })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(metrics: &serde_json::Value) -> Document {
        serde_json::from_value(json!({ "metrics": metrics })).expect("a document")
    }

    fn plain(name: &str, series: &[(&str, &str, f64)]) -> serde_json::Value {
        let series: Vec<_> = series
            .iter()
            .map(|(label, of, value)| json!({"labels": {*label: of}, "value": value}))
            .collect();
        json!({"name": name, "series": series})
    }

    #[test]
    fn counters_become_rates_and_gauges_stay() {
        let at = |events: f64, connections: f64| {
            document(&json!([
                plain(
                    "fanfare_connections",
                    &[
                        ("transport", "websocket", connections),
                        ("transport", "fallback", 2.0)
                    ]
                ),
                plain(
                    "fanfare_app_events_published_total",
                    &[("app", "shop", events)]
                ),
                plain(
                    "fanfare_publishes_total",
                    &[
                        ("result", "accepted", events),
                        ("result", "over_rate", events / 2.0)
                    ]
                ),
            ]))
        };
        let rates = Rates::between(&at(10.0, 1.0), &at(30.0, 5.0), Duration::from_secs(2));
        assert_eq!(rates.connections, 7.0);
        assert_eq!(
            rates.refused_publishes,
            BTreeMap::from([("over_rate".into(), 5.0)])
        );
        assert_eq!((&*rates.apps[0].id, rates.apps[0].events), ("shop", 10.0));
        assert_eq!(rates.connected, None);
    }

    #[test]
    fn a_node_that_was_restarted_counts_from_zero() {
        let at = |deliveries: f64| {
            document(
                &json!([{"name": "fanfare_deliveries_total", "series": [{"labels": {}, "value": deliveries}]}]),
            )
        };
        let rates = Rates::between(&at(1000.0), &at(6.0), Duration::from_secs(2));
        assert_eq!(rates.deliveries, 3.0);
    }

    #[test]
    fn quantiles_are_of_the_values_between_the_two_looks() {
        let before = vec![(0.001, 1000), (1.0, 5)];
        let now = vec![(0.001, 1098), (0.5, 1), (1.0, 6)];
        let quantiles = Quantiles::between(&before, &now);
        assert_eq!(
            quantiles,
            Quantiles {
                median: Some(0.001),
                p99: Some(0.5)
            }
        );
        assert_eq!(Quantiles::between(&now, &now), Quantiles::default());
    }

    #[test]
    fn an_app_that_appears_among_the_busiest_has_no_rate_yet() {
        let with = |apps: &[(&str, &str, f64)]| {
            document(&json!([plain("fanfare_app_deliveries_total", apps)]))
        };
        let rates = Rates::between(
            &with(&[]),
            &with(&[("app", "shop", 9e9)]),
            Duration::from_secs(1),
        );
        assert_eq!(rates.apps, []);
    }
}
