//! Which conditions hold, from what a node reads about itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fanfare_engine::{Engine, NodeUsage, PublishResult, Resource};
use tokio::time::Instant;

use super::certificates::{CertificateReadings, certificates};
use super::kind::AlertKind;
use crate::quotas::Ratios;
use crate::webhooks::{FailingHook, HookLabel, WebhookReadings};

/// Time without an answer of the store that is no cause for alarm: it is asked several times a second.
const STORE_PATIENCE: Duration = Duration::from_secs(10);
/// What happens is counted over so long, whenever it is looked at.
const WINDOW: Duration = Duration::from_secs(10);
/// Share of a bounded resource above which new clients are soon refused.
const NEARLY_FULL: f64 = 0.9;
/// Used part of a quota that operators want to know of.
const NEARLY_USED: f64 = 0.8;
/// Slow consumers within the window that are no cause for alarm.
const SLOW_CONSUMERS: u64 = 10;
/// Refused publishes of an app within the window that are no cause for alarm, as a number and as a share.
const REFUSED_PUBLISHES: u64 = 10;
const REFUSED_SHARE: f64 = 0.01;
/// Connections that are opened within the window without being a storm, as a number and as a share of the open ones.
const STORM: u64 = 200;
const STORM_SHARE: f64 = 0.5;
/// Milliseconds for which a webhook's receiver may fail without being a cause for alarm.
const WEBHOOK_PATIENCE: i64 = 5 * 60_000;
/// Most apps, or webhooks, that have an alert of one kind at once. More have one cause.
const MAX_APPS: usize = 20;

/// A condition that needs an operator if it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) kind: AlertKind,
    /// The node or the app that it is about.
    pub(crate) subject: String,
    pub(crate) app_id: Option<String>,
    /// One sentence with the numbers.
    pub(crate) summary: String,
}

/// A bounded resource: its name, the number or bytes in use, and the most.
pub(crate) type Bound = (&'static str, usize, usize);

/// What other parts of a node than its engine tell of it.
#[derive(Debug, Default)]
pub(crate) struct NodeReadings {
    /// What is bounded besides the engine's budgets.
    pub(crate) bounds: Vec<Bound>,
    pub(crate) certificates: CertificateReadings,
}

/// What apps did lately, as it was counted.
#[derive(Debug, Default)]
pub(super) struct RecentTraffic(VecDeque<(Instant, AppTraffic)>);

/// What apps did within [`WINDOW`].
#[derive(Debug, Default, Clone)]
pub(super) struct AppTraffic {
    opened: u64,
    connections: u64,
    /// Requests to publish by app: all, and those that were refused.
    publishes: BTreeMap<String, (u64, u64)>,
}

/// What a node reads about itself at one moment.
#[derive(Debug, Default)]
pub(super) struct Readings {
    pub(super) node: String,
    pub(super) store_silent_for: Duration,
    pub(super) disk_full: bool,
    /// Whether the node is connected to the others; `None` on a node by itself.
    pub(super) connected: Option<bool>,
    /// Nodes that were found dead by this one, since the start.
    pub(super) lost_nodes: u64,
    /// Connections closed because they read too slowly, since the start.
    pub(super) slow_consumers: u64,
    pub(super) budgets: Vec<Bound>,
    pub(super) traffic: AppTraffic,
    /// The used part of quotas, by app and kind.
    pub(super) quotas: Ratios,
    pub(super) webhooks: WebhookReadings,
    pub(super) certificates: CertificateReadings,
}

/// The counters of the last looks.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    lost_before: Option<u64>,
    lost_events_before: Option<u64>,
    /// Slow consumers at each look within [`WINDOW`], and at the one before it.
    slow_before: VecDeque<(Instant, u64)>,
}

impl RecentTraffic {
    pub(super) fn add(&mut self, now: Instant, usage: &NodeUsage) {
        let mut traffic = AppTraffic::default();
        traffic.add(usage);
        self.0.push_back((now, traffic));
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        while self.0.front().is_some_and(|(at, _)| now - *at >= WINDOW) {
            self.0.pop_front();
        }
    }

    /// Returns what the apps did within the window.
    pub(super) fn sum(&mut self, now: Instant) -> AppTraffic {
        self.forget(now);
        let mut sum = AppTraffic::default();
        for (_, traffic) in &self.0 {
            sum.opened += traffic.opened;
            sum.connections = traffic.connections;
            for (app, (all, refused)) in &traffic.publishes {
                let of_app = sum.publishes.entry(app.clone()).or_default();
                of_app.0 += all;
                of_app.1 += refused;
            }
        }
        sum
    }
}

impl AppTraffic {
    fn add(&mut self, usage: &NodeUsage) {
        self.connections = usage.apps.values().map(|app| app.connections).sum();
        for (id, app) in &usage.apps {
            self.opened += app.clients.opened;
            let requests = app.backend.requests;
            let all: u64 = requests.iter().sum();
            if all == 0 {
                continue;
            }
            let results = PublishResult::ALL.into_iter().zip(requests);
            let refused: u64 = results
                .filter(|(result, _)| result.is_refused())
                .map(|(_, count)| count)
                .sum();
            let sum = self.publishes.entry(id.as_str().into()).or_default();
            sum.0 += all;
            sum.1 += refused;
        }
    }
}

impl Readings {
    /// Reads what the engine knows.
    pub(super) async fn take(engine: &Engine, node: &str, traffic: AppTraffic) -> Self {
        let ledger = engine.ledger();
        // Where there is no room for notes about connections, the oldest give way: that is no reason to act.
        let acted_on = Resource::ALL.into_iter();
        let acted_on = acted_on.filter(|resource| *resource != Resource::LifecycleBytes);
        let budgets = acted_on.map(|resource| {
            let max = ledger.budgets().node.of(resource);
            (resource.metric_name(), ledger.used(resource), max)
        });
        Self {
            node: node.into(),
            connected: engine.cluster_stats().map(|cluster| cluster.connected),
            lost_nodes: engine.lost_nodes(),
            slow_consumers: engine.slow_consumers().await,
            budgets: budgets.filter(|(_, _, max)| *max < usize::MAX).collect(),
            traffic,
            ..Self::default()
        }
    }
}

impl Conditions {
    /// Returns the conditions that hold. The first look compares with nothing.
    pub(super) fn find(&mut self, now: Instant, readings: &Readings) -> Vec<Condition> {
        let lost = self.lost_before.replace(readings.lost_nodes);
        let lost = lost.unwrap_or(readings.lost_nodes);
        let slow = self.slow_at_beginning_of_window(now, readings.slow_consumers);
        let events = readings.webhooks.lost_events;
        let lost_events = events - self.lost_events_before.replace(events).unwrap_or(events);
        let mut found: Vec<Condition> = [
            store_away(readings),
            store_disk_full(readings),
            cluster_away(readings),
            node_lost(readings, readings.lost_nodes - lost),
            slow_consumers(readings, readings.slow_consumers - slow),
            reconnect_storm(readings),
            webhook_events_lost(readings, lost_events),
        ]
        .into_iter()
        .flatten()
        .collect();
        found.extend(budgets(readings));
        found.extend(publishes_refused(readings));
        found.extend(quotas(readings, AlertKind::QuotaNearlyUsed, NEARLY_USED));
        found.extend(quotas(readings, AlertKind::QuotaUsedUp, 1.0));
        found.extend(webhooks_failing(&readings.webhooks));
        found.extend(webhooks_disabled(&readings.webhooks));
        found.extend(certificates(&readings.node, &readings.certificates));
        found
    }
}

impl Conditions {
    /// Notes the number of slow consumers, and returns what it was when the window began.
    fn slow_at_beginning_of_window(&mut self, now: Instant, slow: u64) -> u64 {
        self.slow_before.push_back((now, slow));
        while self
            .slow_before
            .get(1)
            .is_some_and(|(at, _)| now - *at >= WINDOW)
        {
            self.slow_before.pop_front();
        }
        self.slow_before.front().map_or(slow, |(_, slow)| *slow)
    }
}

fn of_node(kind: AlertKind, readings: &Readings, summary: String) -> Condition {
    Condition {
        kind,
        subject: readings.node.clone(),
        app_id: None,
        summary,
    }
}

fn store_away(readings: &Readings) -> Option<Condition> {
    let silent = readings.store_silent_for;
    (silent > STORE_PATIENCE).then(|| {
        let seconds = silent.as_secs();
        of_node(
            AlertKind::StoreAway,
            readings,
            format!(
                "the store has not answered node {} for {seconds} s",
                readings.node
            ),
        )
    })
}

fn store_disk_full(readings: &Readings) -> Option<Condition> {
    readings.disk_full.then(|| {
        let summary = format!(
            "the disk that holds the store of node {} is full",
            readings.node
        );
        of_node(AlertKind::StoreDiskFull, readings, summary)
    })
}

fn cluster_away(readings: &Readings) -> Option<Condition> {
    (readings.connected == Some(false)).then(|| {
        let summary = format!("node {} is not connected to the other nodes", readings.node);
        of_node(AlertKind::ClusterAway, readings, summary)
    })
}

/// Other nodes find the same dead node, so the alert is about the cluster.
fn node_lost(readings: &Readings, lost: u64) -> Option<Condition> {
    (lost > 0).then(|| Condition {
        subject: "cluster".into(),
        ..of_node(
            AlertKind::NodeLost,
            readings,
            "a node has ended without leaving the cluster".into(),
        )
    })
}

fn slow_consumers(readings: &Readings, closed: u64) -> Option<Condition> {
    (closed > SLOW_CONSUMERS).then(|| {
        let node = &readings.node;
        let summary = format!("node {node} has closed {closed} slow consumers in ten seconds");
        of_node(AlertKind::SlowConsumers, readings, summary)
    })
}

fn reconnect_storm(readings: &Readings) -> Option<Condition> {
    let AppTraffic {
        opened,
        connections,
        ..
    } = readings.traffic;
    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers of connections are far below 2^53"
    )]
    let is_storm = opened > STORM && opened as f64 > STORM_SHARE * connections as f64;
    is_storm.then(|| {
        let node = &readings.node;
        let summary = format!("{opened} connections were opened on node {node} in ten seconds, and {connections} are open");
        of_node(AlertKind::ReconnectStorm, readings, summary)
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of memory are far below 2^53"
)]
fn budgets(readings: &Readings) -> Vec<Condition> {
    let nearly_full = readings
        .budgets
        .iter()
        .filter(|(_, used, max)| *used as f64 > NEARLY_FULL * *max as f64);
    nearly_full
        .map(|(resource, used, max)| Condition {
            subject: format!("{} {resource}", readings.node),
            ..of_node(
                AlertKind::Budget,
                readings,
                format!(
                    "clients of node {} hold {used} of {max} {resource}",
                    readings.node
                ),
            )
        })
        .collect()
}

fn publishes_refused(readings: &Readings) -> Vec<Condition> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers of requests are far below 2^53"
    )]
    let is_much = |all: u64, refused: u64| {
        refused > REFUSED_PUBLISHES && refused as f64 > REFUSED_SHARE * all as f64
    };
    let mut apps: Vec<_> = readings
        .traffic
        .publishes
        .iter()
        .filter(|(_, (all, refused))| is_much(*all, *refused))
        .collect();
    apps.sort_by_key(|(_, (_, refused))| std::cmp::Reverse(*refused));
    apps.truncate(MAX_APPS);
    apps.into_iter()
        .map(|(app, (all, refused))| Condition {
            kind: AlertKind::PublishesRefused,
            subject: app.clone(),
            app_id: Some(app.clone()),
            summary: format!(
                "{refused} of {all} publishes of app {app} were refused in ten seconds"
            ),
        })
        .collect()
}

fn quotas(readings: &Readings, kind: AlertKind, from: f64) -> Vec<Condition> {
    let used = readings.quotas.iter().filter(|(_, ratio)| **ratio >= from);
    used.take(MAX_APPS)
        .map(|((app, quota), ratio)| {
            let owner = match app {
                Some(app) => format!("app {app}"),
                None => "the installation".into(),
            };
            let (percent, setting) = (ratio * 100.0, quota.setting());
            Condition {
                kind,
                subject: format!(
                    "{} quotas.{setting}",
                    app.as_deref().unwrap_or("installation")
                ),
                app_id: app.clone(),
                summary: format!("{owner} has used {percent:.0} % of quotas.{setting}"),
            }
        })
        .collect()
}

fn webhook_events_lost(readings: &Readings, lost: u64) -> Option<Condition> {
    (lost > 0).then(|| {
        let node = &readings.node;
        let summary = format!("node {node} has lost {lost} events of webhooks");
        of_node(AlertKind::WebhookEventsLost, readings, summary)
    })
}

fn of_webhook(kind: AlertKind, hook: &HookLabel, summary: String) -> Condition {
    Condition {
        kind,
        subject: hook.id.clone(),
        app_id: Some(hook.app.clone()),
        summary,
    }
}

/// Only the node that sends for a webhook sees these.
fn webhooks_failing(readings: &WebhookReadings) -> Vec<Condition> {
    let failing = readings.failing.iter();
    let failing = failing.filter(|failing| readings.now - failing.since >= WEBHOOK_PATIENCE);
    failing
        .take(MAX_APPS)
        .map(|FailingHook { hook, host, since, error, .. }| {
            let minutes = (readings.now - since) / 60_000;
            let HookLabel { id, app, name } = hook;
            let summary = format!(
                "the receiver {host} of the webhook {id} ({name}) of app {app} has taken nothing for {minutes} minutes: {error}"
            );
            of_webhook(AlertKind::WebhookFailing, hook, summary)
        })
        .collect()
}

/// Every node knows of these, and the alert is one.
fn webhooks_disabled(readings: &WebhookReadings) -> Vec<Condition> {
    let disabled = readings.disabled.iter().take(MAX_APPS);
    disabled
        .map(|hook| {
            let HookLabel { id, app, name } = hook;
            let summary = format!("the webhook {id} ({name}) of app {app} is disabled");
            of_webhook(AlertKind::WebhookDisabled, hook, summary)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use fanfare_protocol::QuotaKind;

    use super::*;

    fn well() -> Readings {
        Readings {
            node: "a:6001".into(),
            connected: Some(true),
            budgets: vec![("connections", 10, 100)],
            traffic: AppTraffic {
                opened: 100,
                connections: 1000,
                publishes: [("shop".into(), (1000, 5))].into(),
            },
            ..Readings::default()
        }
    }

    fn kinds(before: &Readings, now: &Readings) -> Vec<&'static str> {
        let mut conditions = Conditions::default();
        let start = Instant::now();
        conditions.find(start, before);
        let found = conditions.find(start + Duration::from_secs(1), now);
        found
            .iter()
            .map(|condition| condition.kind.as_str())
            .collect()
    }

    #[test]
    fn a_node_that_is_well_has_no_condition() {
        assert_eq!(kinds(&well(), &well()), [] as [&str; 0]);
    }

    #[test]
    fn each_trouble_is_one_condition() {
        let traffic = |opened, publishes: (u64, u64)| AppTraffic {
            opened,
            connections: 300,
            publishes: [("shop".into(), publishes)].into(),
        };
        let cases = [
            (
                Readings {
                    store_silent_for: Duration::from_secs(11),
                    ..well()
                },
                "store_away",
            ),
            (
                Readings {
                    disk_full: true,
                    ..well()
                },
                "store_disk_full",
            ),
            (
                Readings {
                    connected: Some(false),
                    ..well()
                },
                "cluster_away",
            ),
            (
                Readings {
                    lost_nodes: 1,
                    ..well()
                },
                "node_lost",
            ),
            (
                Readings {
                    slow_consumers: 11,
                    ..well()
                },
                "slow_consumers",
            ),
            (
                Readings {
                    budgets: vec![("connections", 91, 100)],
                    ..well()
                },
                "budget",
            ),
            (
                Readings {
                    traffic: traffic(0, (1000, 11)),
                    ..well()
                },
                "publishes_refused",
            ),
            (
                Readings {
                    traffic: traffic(201, (0, 0)),
                    ..well()
                },
                "reconnect_storm",
            ),
        ];
        for (readings, kind) in cases {
            assert_eq!(kinds(&well(), &readings), [kind]);
        }
    }

    #[test]
    fn what_happened_counts_for_ten_seconds_however_often_it_is_looked_at() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut recent = RecentTraffic::default();
        let traffic = AppTraffic {
            opened: 7,
            ..AppTraffic::default()
        };
        recent.0.push_back((at(0), traffic));
        assert_eq!(recent.sum(at(2)).opened, 7);
        assert_eq!(recent.sum(at(9)).opened, 7);
        assert_eq!(recent.sum(at(10)).opened, 0);
        let mut conditions = Conditions::default();
        let slow = |slow_consumers| Readings {
            slow_consumers,
            ..well()
        };
        assert_eq!(conditions.find(at(0), &slow(0)), []);
        assert_eq!(conditions.find(at(1), &slow(11)).len(), 1);
        assert_eq!(conditions.find(at(9), &slow(11)).len(), 1);
        assert_eq!(conditions.find(at(21), &slow(11)), []);
    }

    #[test]
    fn a_quota_is_told_when_most_and_when_all_of_it_is_used() {
        let with = |ratio: f64| Readings {
            quotas: [((Some("shop".into()), QuotaKind::Messages), ratio)].into(),
            ..well()
        };
        assert_eq!(kinds(&well(), &with(0.79)), [] as [&str; 0]);
        assert_eq!(kinds(&well(), &with(0.8)), ["quota_nearly_used"]);
        assert_eq!(
            kinds(&well(), &with(1.0)),
            ["quota_nearly_used", "quota_used_up"]
        );
    }

    #[test]
    fn many_connections_of_a_busy_node_are_no_storm() {
        let traffic = AppTraffic {
            opened: 400,
            connections: 1000,
            ..AppTraffic::default()
        };
        assert_eq!(
            kinds(&well(), &Readings { traffic, ..well() }),
            [] as [&str; 0]
        );
    }

    #[test]
    fn what_was_counted_before_the_first_look_is_no_news() {
        let readings = Readings {
            lost_nodes: 3,
            slow_consumers: 900,
            ..well()
        };
        assert_eq!(Conditions::default().find(Instant::now(), &readings), []);
    }

    #[test]
    fn webhooks_are_told_of_when_they_fail_for_minutes_and_when_they_are_disabled() {
        let hook = |id: &str| HookLabel {
            id: id.into(),
            app: "shop".into(),
            name: "orders".into(),
        };
        let failing = |since| FailingHook {
            hook: hook("wh_1"),
            host: "example.com:443".into(),
            since,
            error: "it answers 500".into(),
            known_until: i64::MAX,
        };
        let with = |webhooks: WebhookReadings| Readings { webhooks, ..well() };
        let now = 10 * WEBHOOK_PATIENCE;
        let at = |since| {
            with(WebhookReadings {
                now,
                failing: vec![failing(since)],
                ..WebhookReadings::default()
            })
        };
        assert_eq!(
            kinds(&well(), &at(now - WEBHOOK_PATIENCE + 1)),
            [] as [&str; 0]
        );
        assert_eq!(
            kinds(&well(), &at(now - WEBHOOK_PATIENCE)),
            ["webhook_failing"]
        );
        let [condition] = &Conditions::default().find(Instant::now(), &at(0))[..] else {
            panic!("one condition");
        };
        assert_eq!(
            (condition.subject.as_str(), condition.app_id.as_deref()),
            ("wh_1", Some("shop"))
        );
        assert!(
            condition.summary.contains("for 50 minutes: it answers 500"),
            "{}",
            condition.summary
        );
        let disabled = with(WebhookReadings {
            disabled: vec![hook("wh_1"), hook("wh_2")],
            ..WebhookReadings::default()
        });
        assert_eq!(kinds(&well(), &disabled), ["webhook_disabled"; 2]);
        let lost = with(WebhookReadings {
            lost_events: 3,
            ..WebhookReadings::default()
        });
        assert_eq!(kinds(&well(), &lost), ["webhook_events_lost"]);
        assert_eq!(kinds(&lost, &lost), [] as [&str; 0], "none since");
    }
}
