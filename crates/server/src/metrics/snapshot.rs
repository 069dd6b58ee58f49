//! Reads all values at one moment.

use std::cmp::{Ordering, Reverse};
use std::collections::HashSet;
use std::time::Duration;

use fanfare_engine::{AppStats, ClusterStats, NodeStats, Resource};
use fanfare_protocol::QuotaKind;
use fanfare_store::WebhookState;

use super::process::Process;
use crate::alerts::NotificationCounts;
use crate::app_state::AppState;
use crate::app_sync::SyncStats;
use crate::outbox::OutboxReadings;
use crate::quotas::Ratios;
use crate::tls::{Origin, Tls, days_left, expires_soon};
use crate::traces::SpanCounts;
use crate::usage::UsageBacklog;
use crate::webhooks::{Waiting, WebhookCounts};

/// How many apps have series of their own if the configuration names none.
const BUSIEST: usize = 50;

/// The apps whose series the configuration asks for, by id; if there are none, the busiest get some.
#[derive(Debug, Clone, Default)]
pub(crate) struct Named(pub(crate) HashSet<String>);

/// All values at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) node: NodeStats,
    pub(super) cluster: Option<ClusterStats>,
    pub(super) refused: Vec<(&'static str, u64)>,
    pub(super) budgets: Vec<Budget>,
    pub(super) sockets: Sockets,
    pub(super) sync: SyncStats,
    pub(super) usage: UsageBacklog,
    pub(super) notifications: NotificationCounts,
    /// The part that is used of each quota, of the apps that have metrics and of all apps together.
    pub(super) quotas: Ratios,
    pub(super) traces: Option<SpanCounts>,
    pub(super) webhooks: Webhooks,
    pub(super) outboxes: OutboxReadings,
    pub(super) live: Live,
    pub(super) tls: Option<TlsReadings>,
    pub(super) process: Process,
    pub(super) started_at: Duration,
    pub(super) ready: bool,
}

/// What this node did for webhooks, and what waits on all nodes.
#[derive(Debug)]
pub(super) struct Webhooks {
    pub(super) counts: WebhookCounts,
    pub(super) by_state: [(&'static str, usize); 3],
    pub(super) waiting: Waiting,
}

impl Webhooks {
    fn take(state: &AppState) -> Self {
        let webhooks = &state.webhooks;
        let states = [
            WebhookState::Active,
            WebhookState::Paused,
            WebhookState::Disabled,
        ];
        Self {
            counts: webhooks.counts(),
            by_state: states.map(|state| (state.as_str(), webhooks.count_in(state))),
            waiting: webhooks.waiting(),
        }
    }
}

/// The viewers of live events.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) viewers: usize,
    pub(super) left_out: u64,
}

/// The certificates of a node that speaks TLS, and its handshakes.
#[derive(Debug)]
pub(super) struct TlsReadings {
    pub(super) certificates: Vec<CertificateReading>,
    /// Failed orders of certificates, by their first name.
    pub(super) failed_orders: Vec<(String, i64)>,
    pub(super) handshakes: Vec<(&'static str, u64)>,
}

/// A certificate that is served.
#[derive(Debug)]
pub(super) struct CertificateReading {
    /// The first of its names.
    pub(super) name: String,
    /// The file that it comes from, or `managed`.
    pub(super) source: String,
    pub(super) days_left: f64,
    pub(super) expires_soon: bool,
    pub(super) is_replacement_refused: bool,
}

impl TlsReadings {
    fn take(tls: &Tls) -> Self {
        let served = tls.certificates.served().into_iter();
        let certificates = served.map(|served| CertificateReading {
            name: served
                .certificate
                .facts
                .names
                .first()
                .cloned()
                .unwrap_or_default(),
            source: match &served.origin {
                Origin::Files { certificate, .. } => certificate.display().to_string(),
                Origin::Managed => "managed".to_owned(),
            },
            days_left: days_left(served.certificate.facts.not_after),
            expires_soon: expires_soon(&served.certificate.facts),
            is_replacement_refused: served.refused.is_some(),
        });
        let failed = tls.certificates.failed_orders().into_iter();
        let failed =
            failed.filter_map(|failed| Some((failed.names.into_iter().next()?, failed.count)));
        Self {
            certificates: certificates.collect(),
            failed_orders: failed.collect(),
            handshakes: tls.acceptor.counts().read(),
        }
    }
}

/// A bounded resource of the node.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) name: &'static str,
    pub(super) used: usize,
    pub(super) max: usize,
}

/// Accepted TCP connections.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) open: usize,
    pub(super) max: usize,
}

impl Snapshot {
    /// Takes a snapshot with the given number of the busiest apps, or those that the configuration chooses.
    pub(super) async fn take(state: &AppState, busiest: Option<usize>) -> Self {
        let engine = &state.engine;
        let mut node = engine.stats().await;
        match busiest {
            Some(busiest) => keep_busiest(&mut node.apps, busiest),
            None => choose(&mut node.apps, &state.metrics_apps),
        }
        let ledger = engine.ledger();
        let budgets = Resource::ALL.into_iter().map(|resource| Budget {
            name: resource.metric_name(),
            used: ledger.used(resource),
            max: ledger.budgets().node.of(resource),
        });
        Self {
            node,
            cluster: engine.cluster_stats(),
            refused: engine.refusals().totals(),
            budgets: budgets.filter(|budget| budget.max < usize::MAX).collect(),
            sockets: Sockets {
                open: state.sockets.open(),
                max: state.sockets.max(),
            },
            sync: state.sync.read(),
            usage: state.usage.backlog(),
            notifications: state.alerts.notifications(),
            quotas: quotas(state),
            traces: state.traces.counts(),
            webhooks: Webhooks::take(state),
            outboxes: state.outboxes.readings(),
            live: Live {
                viewers: engine.live_viewers(),
                left_out: engine.live_left_out(),
            },
            tls: state.tls.as_ref().map(TlsReadings::take),
            process: Process::read(),
            started_at: Duration::from_millis(u64::try_from(state.started_at).unwrap_or_default()),
            ready: state.unready().is_none(),
        }
    }
}

/// Returns the quotas of the apps that the configuration names, or else of all: only apps with quotas that did anything
/// are among them, and the collector is told of the fullest.
fn quotas(state: &AppState) -> Ratios {
    let Named(named) = &state.metrics_apps;
    let mut ratios: Vec<_> = state.quota_ratios.read().into_iter().collect();
    ratios.retain(|((app, _), _)| {
        app.as_ref()
            .is_none_or(|app| named.is_empty() || named.contains(app))
    });
    if named.is_empty() {
        ratios.sort_by(|((app, _), a), ((other, _), b)| {
            (app.is_some(), b)
                .partial_cmp(&(other.is_some(), a))
                .unwrap_or(Ordering::Equal)
        });
        ratios.truncate(BUSIEST * QuotaKind::ALL.len());
    }
    ratios.into_iter().collect()
}

/// Keeps the apps that the configuration names, or else the busiest: a series for each of ten thousand apps would cost
/// the collector more than it tells.
fn choose(apps: &mut Vec<AppStats>, Named(named): &Named) {
    if !named.is_empty() {
        apps.retain(|app| named.contains(app.app.id().as_str()));
    } else {
        keep_busiest(apps, BUSIEST);
    }
}

fn keep_busiest(apps: &mut Vec<AppStats>, busiest: usize) {
    apps.sort_by_key(|app| {
        let moved = app.backend.events + app.clients.deliveries + app.clients.messages;
        (Reverse(moved), app.app.id().clone())
    });
    apps.truncate(busiest);
}
