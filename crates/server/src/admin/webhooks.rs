//! An app's webhooks: who is told what happens on its channels, where and how.
//!
//! | module | what it holds |
//! |---|---|
//! | `deliveries` | what was recorded and sent, and what receivers ask for |
//! | `replay` | deliveries that are sent again, and examples |
//! | `pulls` | requests that wait for a delivery |
//! | `signing` | the request of a delivery, as it would be sent now |
//! | `limiter` | how often an app's webhooks are replayed and tried out |

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use fanfare_protocol::WebhookEvent;
use fanfare_store::{
    NewWebhook, Store, WebhookChange, WebhookFormat, WebhookHeader, WebhookRecord, WebhookState,
};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::apps::AppName;
use super::etag::{IfMatch, StaleApp, Tagged};
use super::extract::{Body, PathParams, QueryParams};
use super::idempotent_request::IdempotentRequest;
use super::keys::given;
use super::page::{Page, PageQuery};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::clock::unix_millis;
use crate::webhooks::HookSettings;

pub(crate) mod deliveries;
mod limiter;
mod pulls;
pub(crate) mod replay;
mod signing;

pub(crate) use limiter::WebhookLimiter;
pub(crate) use pulls::Pulls;

/// What answers have instead of a header's value, which may be a credential.
const SET: &str = "set";
/// Name of a webhook without a URL, unless another is given.
const PULLED: &str = "pulled";
/// How long the present secrets stay active after a new one, in seconds: a day, unless the caller says otherwise.
const KEEP_OLD_FOR: u32 = 24 * 60 * 60;
/// Longest such time: 30 days.
const MAX_KEEP_OLD_FOR: u32 = 30 * 24 * 60 * 60;
/// Most waiting deliveries that are counted.
const MAX_COUNTED: i64 = 10_000;
/// Longest reason for a state, in characters.
const MAX_REASON: usize = 200;
const SECOND: i64 = 1000;

/// The format of a webhook's requests.
#[derive(ToSchema)]
#[schema(as = WebhookFormat, rename_all = "lowercase")]
#[expect(
    dead_code,
    reason = "describes `WebhookFormat`, which knows nothing of HTTP"
)]
pub(crate) enum FormatName {
    /// As hosted Pusher sends them, signed with the app's oldest active key.
    Pusher,
    /// As Standard Webhooks 1.0 describes them, signed with the webhook's secrets as well.
    Standard,
}

/// Whether a webhook's deliveries are sent. They are recorded in each state.
#[derive(ToSchema)]
#[schema(as = WebhookState, rename_all = "lowercase")]
#[expect(
    dead_code,
    reason = "describes `WebhookState`, which knows nothing of HTTP"
)]
pub(crate) enum StateName {
    /// Deliveries are sent.
    Active,
    /// An operator has stopped them.
    Paused,
    /// Fanfare has stopped them because the receiver failed for days, or answered 410.
    Disabled,
}

/// A state that operators set.
#[derive(ToSchema)]
#[schema(as = WebhookStateToSet, rename_all = "lowercase")]
#[expect(
    dead_code,
    reason = "describes what of `WebhookState` an operator may set"
)]
pub(crate) enum SettableStateName {
    /// Deliveries are sent.
    Active,
    /// Deliveries wait.
    Paused,
}

/// A secret of a webhook, without the secret itself.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct SecretTimes {
    /// Unix time in milliseconds.
    pub(crate) created_at: i64,
    /// Unix time in milliseconds from which it signs no more.
    #[schema(required)]
    pub(crate) expires_at: Option<i64>,
}

/// How a webhook's receiver has answered, and what waits for it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Health {
    /// Sequence number of the last delivery, 0 before the first.
    pub(crate) last_sequence: i64,
    /// Deliveries that wait; of more than 10,000, that many.
    pub(crate) waiting: i64,
    /// When the next of them is due, Unix time in milliseconds.
    #[schema(required)]
    pub(crate) next_attempt_at: Option<i64>,
    /// Failed attempts since the last success.
    pub(crate) failures: i64,
    /// When the first of them was, Unix time in milliseconds.
    #[schema(required)]
    pub(crate) failing_since: Option<i64>,
    /// Unix time in milliseconds.
    #[schema(required)]
    pub(crate) last_success_at: Option<i64>,
    /// Unix time in milliseconds.
    #[schema(required)]
    pub(crate) last_failure_at: Option<i64>,
}

/// A webhook, without its secrets and the values of its headers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Webhook {
    /// Its id.
    pub(crate) id: String,
    /// The app's id.
    pub(crate) app_id: String,
    /// The name that people see.
    #[schema(example = "shop.example.com")]
    pub(crate) name: String,
    /// Where deliveries are sent; `null` if nothing is sent because the receiver asks for them.
    #[schema(required, example = "https://shop.example.com/webhooks")]
    pub(crate) url: Option<String>,
    /// The events that it tells of; `null` for all.
    #[schema(required, value_type = Option<Vec<WebhookEvent>>)]
    pub(crate) events: Option<Vec<String>>,
    /// Patterns of the channels that it tells of, in which `*` stands for any characters; an empty list for all.
    #[schema(example = json!(["presence-room-*"]))]
    pub(crate) channels: Vec<String>,
    /// The format of its requests.
    #[schema(value_type = FormatName)]
    pub(crate) format: WebhookFormat,
    /// Whether a request may hold several events.
    pub(crate) batch: bool,
    /// Headers of its requests. Values are shown as `"set"`.
    #[schema(example = json!({"authorization": "set"}))]
    pub(crate) headers: BTreeMap<String, String>,
    /// Whether its deliveries are sent.
    #[schema(value_type = StateName)]
    pub(crate) state: WebhookState,
    /// Why it is in this state.
    #[schema(required)]
    pub(crate) state_reason: Option<String>,
    /// Its secrets that haven't expired, newest first. All of them sign.
    pub(crate) secrets: Vec<SecretTimes>,
    /// How its receiver has answered, and what waits.
    pub(crate) health: Health,
    /// Unix time in milliseconds.
    pub(crate) created_at: i64,
    /// Unix time in milliseconds.
    pub(crate) updated_at: i64,
}

/// A webhook with its newest secret, which is shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct CreatedWebhook {
    /// The webhook.
    #[serde(flatten)]
    pub(crate) webhook: Webhook,
    /// What receivers of the format `standard` verify signatures with. With the format `pusher` it signs nothing: the app's
    /// oldest active key does.
    #[schema(format = Password, example = "shown once")]
    pub(crate) secret: String,
}

impl std::fmt::Debug for CreatedWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.webhook.fmt(f)
    }
}

/// A webhook to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateWebhook {
    /// The name that people see; without one it is that of the URL's host.
    name: Option<String>,
    /// Where deliveries are sent; without one nothing is sent, and the receiver asks for them.
    #[schema(example = "https://shop.example.com/webhooks")]
    url: Option<String>,
    /// The events to tell of; without them it tells of all.
    #[schema(value_type = Option<Vec<WebhookEvent>>)]
    events: Option<Vec<String>>,
    /// Patterns of the channels to tell of, in which `*` stands for any characters; without them it tells of all.
    #[serde(default)]
    channels: Vec<String>,
    /// The format of its requests.
    #[serde(default)]
    #[schema(value_type = FormatName, default = "pusher")]
    format: WebhookFormat,
    /// Whether a request may hold several events; only with the format `pusher`.
    #[serde(default)]
    #[schema(default = false)]
    batch: bool,
    /// Headers of its requests. The place for credentials, because the URL is shown.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A secret to import: `whsec_` and base64 of 24 to 64 bytes.
    #[schema(format = Password)]
    secret: Option<String>,
}

/// The fields to change; those that are left out stay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateWebhook {
    /// The name that people see.
    name: Option<String>,
    /// Where deliveries are sent; with `null` nothing is sent any more, and the receiver asks for them.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    url: Option<Option<String>>,
    /// The events to tell of; `null` for all.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<WebhookEvent>>)]
    events: Option<Option<Vec<String>>>,
    /// Patterns of the channels to tell of; an empty list for all.
    channels: Option<Vec<String>>,
    /// The format of its requests. What was recorded before has it, too.
    #[schema(value_type = Option<FormatName>)]
    format: Option<WebhookFormat>,
    /// Whether a request may hold several events; only with the format `pusher`.
    batch: Option<bool>,
    /// Headers to set, and with `null` to remove. Others stay.
    headers: Option<BTreeMap<String, Option<String>>>,
}

/// Whether a webhook's deliveries are to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetWebhookState {
    /// `active` or `paused`.
    #[schema(value_type = SettableStateName)]
    state: WebhookState,
    /// Why, for other operators.
    #[schema(max_length = 200)]
    reason: Option<String>,
}

/// Another secret of a webhook.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateWebhookSecret {
    /// A secret to import; without one it is drawn.
    #[schema(format = Password)]
    secret: Option<String>,
    /// Seconds for which the present secrets sign as well, so that receivers can change over.
    #[schema(minimum = 0, maximum = 2_592_000, default = 86_400)]
    keep_old_for: Option<u32>,
}

/// A webhook of an app.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct WebhookName {
    /// The app's id.
    pub(super) app_id: String,
    /// The webhook's id.
    pub(super) webhook_id: String,
}

impl Health {
    async fn read(store: &Store, webhook_id: &str) -> Result<Self, Problem> {
        let waiting = store.count_waiting_deliveries(webhook_id, MAX_COUNTED);
        let waiting = waiting.await?;
        // There is none only if the webhook was deleted a moment ago.
        let gone = || Problem::not_found(format!("there is no webhook {webhook_id:?}"));
        let health = store.webhook_health(webhook_id).await?.ok_or_else(gone)?;
        Ok(Self {
            last_sequence: health.last_sequence,
            waiting,
            next_attempt_at: health
                .next_due
                .map(|due| due.max(health.endpoint.held_until.unwrap_or(due))),
            failures: health.endpoint.failures,
            failing_since: health.endpoint.failing_since,
            last_success_at: health.endpoint.last_success_at,
            last_failure_at: health.endpoint.last_failure_at,
        })
    }
}

impl Webhook {
    /// Returns a webhook with its health.
    async fn read(store: &Store, webhook: WebhookRecord) -> Result<Self, Problem> {
        let health = Health::read(store, &webhook.id).await?;
        Ok(Self::new(webhook, health))
    }

    fn new(webhook: WebhookRecord, health: Health) -> Self {
        let header = |header: WebhookHeader| (header.name, SET.to_owned());
        Self {
            id: webhook.id,
            app_id: webhook.app_id,
            name: webhook.name,
            url: webhook.url,
            events: webhook.events,
            channels: webhook.channels,
            format: webhook.format,
            batch: webhook.is_batched,
            headers: webhook.headers.into_iter().map(header).collect(),
            state: webhook.state,
            state_reason: webhook.state_reason,
            secrets: webhook
                .secrets
                .into_iter()
                .map(|secret| SecretTimes {
                    created_at: secret.created_at,
                    expires_at: secret.expires_at,
                })
                .collect(),
            health,
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
        }
    }
}

impl CreatedWebhook {
    /// Returns a webhook whose newest secret was just made.
    async fn read(store: &Store, webhook: WebhookRecord) -> Result<Self, Problem> {
        let newest = webhook.secrets.first();
        Ok(Self {
            secret: newest
                .map(|newest| newest.secret.expose_secret().to_owned())
                .unwrap_or_default(),
            webhook: Webhook::read(store, webhook).await?,
        })
    }
}

impl CreateWebhook {
    /// Checks all rules and returns what the store keeps.
    fn checked(self, allow_inner: bool) -> Result<NewWebhook, Problem> {
        let host = || self.url.as_deref().and_then(host_of);
        let new = NewWebhook {
            name: self
                .name
                .clone()
                .or_else(host)
                .unwrap_or_else(|| PULLED.into()),
            url: self.url,
            events: self.events,
            channels: self.channels,
            format: self.format,
            is_batched: self.batch,
            headers: self.headers.into_iter().map(header).collect(),
            secret: self.secret.map(SecretString::from),
        };
        let settings = HookSettings {
            url: new.url.as_deref(),
            events: new.events.as_deref(),
            channels: &new.channels,
            format: new.format,
            is_batched: new.is_batched,
            headers: &pairs(&new.headers),
        };
        settings.check(allow_inner).map_err(Problem::invalid)?;
        Ok(new)
    }
}

impl UpdateWebhook {
    /// Checks all rules for the changed webhook and returns what changes.
    fn checked(self, before: &WebhookRecord, allow_inner: bool) -> Result<WebhookChange, Problem> {
        let headers = self.headers.map(|changes| merged(&before.headers, changes));
        let change = WebhookChange {
            name: self.name,
            url: self.url,
            events: self.events,
            channels: self.channels,
            format: self.format,
            is_batched: self.batch,
            headers,
        };
        let settings = HookSettings {
            url: change.url.as_ref().unwrap_or(&before.url).as_deref(),
            events: change.events.as_ref().unwrap_or(&before.events).as_deref(),
            channels: change.channels.as_ref().unwrap_or(&before.channels),
            format: change.format.unwrap_or(before.format),
            is_batched: change.is_batched.unwrap_or(before.is_batched),
            headers: &pairs(change.headers.as_ref().unwrap_or(&before.headers)),
        };
        settings.check(allow_inner).map_err(Problem::invalid)?;
        Ok(change)
    }
}

/// Returns headers with changes. Names that differ in case are the same.
fn merged(
    before: &[WebhookHeader],
    mut changes: BTreeMap<String, Option<String>>,
) -> Vec<WebhookHeader> {
    let is_changed = |name: &str| changes.keys().any(|other| other.eq_ignore_ascii_case(name));
    let mut headers: Vec<WebhookHeader> = before
        .iter()
        .filter(|header| !is_changed(&header.name))
        .cloned()
        .collect();
    changes.retain(|_, value| value.is_some());
    let set = changes
        .into_iter()
        .filter_map(|(name, value)| Some(header((name, value?))));
    headers.extend(set);
    headers
}

fn header((name, value): (String, String)) -> WebhookHeader {
    WebhookHeader {
        name,
        value: value.into(),
    }
}

fn pairs(headers: &[WebhookHeader]) -> Vec<(String, String)> {
    let pair = |header: &WebhookHeader| {
        let value = header.value.expose_secret().to_owned();
        (header.name.clone(), value)
    };
    headers.iter().map(pair).collect()
}

fn host_of(url: &str) -> Option<String> {
    let url: Url = url.parse().ok()?;
    let host = url.host_str()?;
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.into(),
    })
}

/// List an app's webhooks, oldest first
#[utoipa::path(
    get, path = "/apps/{app_id}/webhooks", tag = "Webhooks", operation_id = "list_webhooks",
    params(AppName, PageQuery),
    responses(
        (status = 200, body = Page<Webhook>),
        (status = 404),
    ),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    QueryParams(page): QueryParams<PageQuery>,
) -> Result<Json<Page<Webhook>>, Problem> {
    caller.see(&app_id)?;
    let limit = page.limit()?;
    let after: Option<(i64, String)> = page.after()?;
    let position = |webhook: &WebhookRecord| (webhook.created_at, webhook.id.clone());
    let webhooks = state.admin.store.webhooks(&app_id).await?;
    let rest = webhooks.into_iter().filter(|webhook| {
        after
            .as_ref()
            .is_none_or(|after| position(webhook) > *after)
    });
    let Page { items, next_cursor } =
        Page::of(rest.take(limit + 1).collect(), limit, position, |webhook| {
            webhook
        });
    let mut page = Page {
        items: Vec::with_capacity(items.len()),
        next_cursor,
    };
    for webhook in items {
        page.items
            .push(Webhook::read(&state.admin.store, webhook).await?);
    }
    Ok(Json(page))
}

/// Add a webhook to an app
///
/// It tells of what happens from now on. Its secret is shown this once. Needs the role admin.
#[utoipa::path(
    post, path = "/apps/{app_id}/webhooks", tag = "Webhooks", operation_id = "create_webhook",
    params(AppName, ("idempotency-key" = Option<String>, Header, description = "A request with the same key within a day gets the same answer")),
    request_body = CreateWebhook,
    responses(
        (status = 201, body = CreatedWebhook),
        (status = 400, description = "A field is invalid; the answer names it"),
        (status = 404),
        (status = 409, description = "The app has `webhooks.max_per_app` webhooks already"),
    ),
)]
pub(super) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    idempotent: IdempotentRequest,
    body: Body<CreateWebhook>,
) -> Result<Response, Problem> {
    caller.change(&app_id)?;
    let Body { value, bytes } = body;
    let store = &state.admin.store;
    let settings = &state.webhook_settings;
    let created = async {
        let new = value.checked(settings.allow_inner_addresses)?;
        let webhook = store
            .create_webhook(&app_id, new, settings.max_per_app, &caller.actor)
            .await?;
        CreatedWebhook::read(store, webhook).await
    };
    idempotent.create(store, &caller, &bytes, created).await
}

/// Returns a webhook with its app's revision, which changes with each of the app's webhooks.
async fn find(
    state: &AppState,
    WebhookName { app_id, webhook_id }: &WebhookName,
) -> Result<Tagged<WebhookRecord>, Problem> {
    // First, so that the revision is never newer than what it is sent with.
    let revision = state.admin.store.app(app_id).await?.revision;
    let webhook = state.admin.store.webhook(app_id, webhook_id).await?;
    Ok(Tagged(webhook, revision))
}

/// Returns a webhook as it is shown.
async fn find_shown(state: &AppState, name: &WebhookName) -> Result<Tagged<Webhook>, Problem> {
    let Tagged(webhook, revision) = find(state, name).await?;
    let webhook = Webhook::read(&state.admin.store, webhook).await?;
    Ok(Tagged(webhook, revision))
}

/// Show a webhook
#[utoipa::path(
    get, path = "/apps/{app_id}/webhooks/{webhook_id}", tag = "Webhooks", operation_id = "show_webhook",
    params(WebhookName),
    responses(
        (status = 200, body = Webhook, headers(("etag" = String, description = "For If-Match"))),
        (status = 404),
    ),
)]
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(name): PathParams<WebhookName>,
) -> Result<Tagged<Webhook>, Problem> {
    caller.see(&name.app_id)?;
    find_shown(&state, &name).await
}

/// Change what a webhook tells of, where and how
///
/// The change is active on every node within a second, and what waits is sent in the new way. Needs the role admin.
#[utoipa::path(
    patch, path = "/apps/{app_id}/webhooks/{webhook_id}", tag = "Webhooks", operation_id = "update_webhook",
    params(WebhookName, IfMatch),
    request_body = UpdateWebhook,
    responses(
        (status = 200, body = Webhook, headers(("etag" = String, description = "For If-Match"))),
        (status = 400, description = "A field is invalid; the answer names it"),
        (status = 404),
        StaleApp,
    ),
)]
pub(super) async fn update(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(name): PathParams<WebhookName>,
    if_match: IfMatch,
    body: Body<UpdateWebhook>,
) -> Result<Tagged<Webhook>, Problem> {
    caller.change(&name.app_id)?;
    let Tagged(before, revision) = find(&state, &name).await?;
    // Without an ETag too, a change between this read and the write must not be lost.
    let expected = if_match.revision()?.unwrap_or(revision);
    let allow_inner = state.webhook_settings.allow_inner_addresses;
    let change = body.value.checked(&before, allow_inner)?;
    let WebhookName { app_id, webhook_id } = &name;
    state
        .admin
        .store
        .update_webhook(app_id, webhook_id, change, Some(expected), &caller.actor)
        .await?;
    find_shown(&state, &name).await
}

/// Pause a webhook, or send its deliveries again
///
/// While it is paused, deliveries are recorded and wait, each as long as `webhooks.retry_for`. A disabled webhook becomes
/// active with this. Needs the role admin.
#[utoipa::path(
    put, path = "/apps/{app_id}/webhooks/{webhook_id}/state", tag = "Webhooks", operation_id = "set_webhook_state",
    params(WebhookName, IfMatch),
    request_body = SetWebhookState,
    responses(
        (status = 200, body = Webhook, headers(("etag" = String, description = "For If-Match"))),
        (status = 404),
        StaleApp,
    ),
)]
pub(super) async fn set_state(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(name): PathParams<WebhookName>,
    if_match: IfMatch,
    body: Body<SetWebhookState>,
) -> Result<Tagged<Webhook>, Problem> {
    caller.change(&name.app_id)?;
    let SetWebhookState { state: to, reason } = body.value;
    if to == WebhookState::Disabled {
        return Err(Problem::invalid(
            "state must be active or paused: disabled are webhooks whose receiver failed for days",
        ));
    }
    let reason = checked_reason(reason.as_deref().unwrap_or_default())?;
    let WebhookName { app_id, webhook_id } = &name;
    let (expected, by) = (if_match.revision()?, &caller.actor);
    let store = &state.admin.store;
    store
        .set_webhook_state(app_id, webhook_id, to, reason, expected, by)
        .await?;
    find_shown(&state, &name).await
}

/// Returns the reason for a state, trimmed, or `None` if there is none.
fn checked_reason(reason: &str) -> Result<Option<&str>, Problem> {
    let reason = reason.trim();
    if reason.chars().count() > MAX_REASON || reason.chars().any(char::is_control) {
        return Err(Problem::invalid(format!(
            "reason has at most {MAX_REASON} printable characters"
        )));
    }
    Ok((!reason.is_empty()).then_some(reason))
}

/// Delete a webhook
///
/// What waits for it isn't sent, and its log can't be read any more. Needs the role admin.
#[utoipa::path(
    delete, path = "/apps/{app_id}/webhooks/{webhook_id}", tag = "Webhooks", operation_id = "delete_webhook",
    params(WebhookName, IfMatch),
    responses(
        (status = 204),
        (status = 404),
        StaleApp,
    ),
)]
pub(super) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(WebhookName { app_id, webhook_id }): PathParams<WebhookName>,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    caller.change(&app_id)?;
    state
        .admin
        .store
        .delete_webhook(&app_id, &webhook_id, if_match.revision()?, &caller.actor)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give a webhook another secret
///
/// Requests of the format `standard` are signed with all secrets that haven't expired, so receivers can change over while
/// everything runs. The secret is shown this once. Needs the role admin.
#[utoipa::path(
    post, path = "/apps/{app_id}/webhooks/{webhook_id}/secrets", tag = "Webhooks", operation_id = "create_webhook_secret",
    params(WebhookName, ("idempotency-key" = Option<String>, Header, description = "A request with the same key within a day gets the same answer")),
    request_body = CreateWebhookSecret,
    responses(
        (status = 201, body = CreatedWebhook),
        (status = 404),
        (status = 409, description = "The webhook has too many secrets that haven't expired"),
    ),
)]
pub(super) async fn create_secret(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(WebhookName { app_id, webhook_id }): PathParams<WebhookName>,
    idempotent: IdempotentRequest,
    body: Body<CreateWebhookSecret>,
) -> Result<Response, Problem> {
    caller.change(&app_id)?;
    let Body { value, bytes } = body;
    let CreateWebhookSecret {
        secret,
        keep_old_for,
    } = value;
    let keep_old_for = keep_old_for.unwrap_or(KEEP_OLD_FOR);
    if keep_old_for > MAX_KEEP_OLD_FOR {
        return Err(Problem::invalid(format!(
            "keep_old_for is 0 to {MAX_KEEP_OLD_FOR} seconds, not {keep_old_for}"
        )));
    }
    let old_expire_at = unix_millis() + i64::from(keep_old_for) * SECOND;
    let store = &state.admin.store;
    let created = async {
        let secret = secret.map(SecretString::from);
        let by = &caller.actor;
        let webhook = store
            .add_webhook_secret(&app_id, &webhook_id, secret, old_expire_at, by)
            .await?;
        CreatedWebhook::read(store, webhook).await
    };
    idempotent.create(store, &caller, &bytes, created).await
}
