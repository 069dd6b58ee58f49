//! Alerts: conditions that need an operator.

use axum::Json;
use axum::extract::State;
use fanfare_store::{AlertRecord, Role};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, PathParams};
use super::problem::Problem;
use crate::access::Caller;
use crate::alerts::AlertKind;
use crate::app_state::AppState;
use crate::clock::unix_millis;

/// Most alerts of an answer. There is one for each kind and subject, and old ones are deleted.
const MAX_ALERTS: i64 = 1000;
const SECOND: i64 = 1000;
/// Longest silence, in seconds: 30 days. A condition that nobody wants to hear of for longer should be mended.
const MAX_SILENCE: u32 = 30 * 24 * 60 * 60;

/// A condition that needs an operator, with its latest occurrence.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Alert {
    /// Id of this occurrence.
    pub(crate) id: String,
    /// Its kind.
    #[schema(example = "store_away")]
    pub(crate) kind: String,
    /// The node or the app that it is about.
    #[schema(example = "realtime-1:6001")]
    pub(crate) subject: String,
    /// The app that it is about; `null` if it isn't about one.
    #[schema(required)]
    pub(crate) app_id: Option<String>,
    /// What was seen, in a sentence with numbers.
    pub(crate) summary: String,
    /// What to do about it.
    pub(crate) advice: String,
    /// Unix time in milliseconds.
    pub(crate) opened_at: i64,
    /// Unix time in milliseconds; `null` while it is open.
    #[schema(required)]
    pub(crate) resolved_at: Option<i64>,
    /// Unix time in milliseconds until which nobody is notified of it; `null` without a silence.
    #[schema(required)]
    pub(crate) silenced_until: Option<i64>,
}

/// All alerts, open ones first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct AlertList {
    /// The alerts.
    pub(crate) items: Vec<Alert>,
}

/// How long nobody is notified.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Silence {
    /// Seconds from now; 0 ends a silence.
    #[schema(minimum = 0, maximum = 2_592_000, example = 3600)]
    seconds: u32,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct AlertName {
    /// The alert's id.
    alert_id: String,
}

impl From<AlertRecord> for Alert {
    fn from(alert: AlertRecord) -> Self {
        let silence = alert.silenced_until.filter(|_| alert.is_silenced());
        Self {
            advice: AlertKind::advice_of(&alert.kind).into(),
            id: alert.id,
            kind: alert.kind,
            subject: alert.subject,
            app_id: alert.app_id,
            summary: alert.summary,
            opened_at: alert.opened_at,
            resolved_at: alert.resolved_at,
            silenced_until: silence,
        }
    }
}

/// Returns whether a caller sees an alert: one about an app if it sees the app, others if it sees all apps.
fn sees(caller: &Caller, alert: &AlertRecord) -> bool {
    match (&caller.apps(), &alert.app_id) {
        (None, _) => true,
        (Some(apps), Some(app)) => apps.contains(app),
        (Some(_), None) => false,
    }
}

/// List alerts
///
/// Open ones come first. Alerts about nodes are for those who see all apps. Resolved ones are kept for 30 days.
#[utoipa::path(
    get, path = "/alerts", tag = "Alerts", operation_id = "list_alerts",
    responses((status = 200, body = AlertList)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<AlertList>, Problem> {
    let alerts = state.admin.store.alerts(MAX_ALERTS).await?;
    let items = alerts
        .into_iter()
        .filter(|alert| sees(&caller, alert))
        .map(Alert::from)
        .collect();
    Ok(Json(AlertList { items }))
}

/// Notify nobody of an alert for a while
///
/// That holds for later occurrences of the same kind and subject too. Needs the role admin on all apps.
#[utoipa::path(
    put, path = "/alerts/{alert_id}/silence", tag = "Alerts", operation_id = "silence_alert",
    params(AlertName),
    request_body = Silence,
    responses(
        (status = 200, body = Alert),
        (status = 404, description = "There is no such alert"),
    ),
)]
pub(super) async fn silence(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AlertName { alert_id }): PathParams<AlertName>,
    body: Body<Silence>,
) -> Result<Json<Alert>, Problem> {
    caller.require_everywhere(Role::Admin)?;
    let seconds = body.value.seconds;
    if seconds > MAX_SILENCE {
        let detail = format!("seconds must be 0 to {MAX_SILENCE}, not {seconds}");
        return Err(Problem::invalid(detail));
    }
    let until = (seconds > 0).then(|| unix_millis() + i64::from(seconds) * SECOND);
    let silenced = state
        .admin
        .store
        .silence_alert(&alert_id, until, &caller.actor)
        .await?;
    Ok(Json(silenced.into()))
}
