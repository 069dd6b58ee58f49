//! Webhooks: what receivers want to be told of, and where.

mod announced;
mod backlog;
mod days;
mod definition;
pub(crate) mod known_day;
mod log;
mod progress;
mod pruning;
mod queue;
mod recording;
mod replay;

pub use announced::{Announced, StateChange, Subject};
pub use backlog::WebhookBacklog;
pub use days::WebhookDay;
pub use definition::{
    NewWebhook, UnknownWord, WEBHOOK_EVENTS, WEBHOOK_SECRET_BYTES, WebhookChange, WebhookFormat,
    WebhookHeader, WebhookRecord, WebhookSecret, WebhookState, webhook_secret_bytes,
};
pub use log::{DeliveryDetails, DeliveryFilter, DeliveryPage, DeliveryRecord, DeliveryState};
pub use queue::{
    DeliveryAttempt, EndpointHealth, NextStep, Outcome, WaitingDelivery, WebhookHealth,
};
pub use recording::{NewDelivery, Recorded};
pub use replay::Replay;

use secrecy::SecretString;
use serde_json::json;

use crate::actor::Actor;
use crate::audit::{Target, difference};
use crate::database::{Store, issue_id, now};
use crate::dialect::{execute, fetch_all, fetch_optional, on_db};
use crate::error::StoreError;
use crate::transaction::Transaction;
pub(crate) use definition::SealedWebhook;
use definition::{headers_from_json, headers_to_json, secrets_from_json, secrets_to_json};

const INSERT: &str = "INSERT INTO webhooks (id, app_id, name, url, events, channels, format, is_batched, \
                                            headers, secrets, state, state_reason, created_at, updated_at) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
const INSERT_APP: &str =
    "INSERT INTO webhook_apps (app_id) VALUES ($1) ON CONFLICT (app_id) DO NOTHING";
const INSERT_HEALTH: &str = "INSERT INTO webhook_health (webhook_id, last_sequence, last_created_at, segment, failures) \
                             VALUES ($1, 0, 0, 0, 0)";
const SELECT: &str = "SELECT id, app_id, name, url, events, channels, format, is_batched, headers, secrets, \
                             state, state_reason, created_at, updated_at FROM webhooks WHERE id = $1";
const SELECT_BY_APP: &str = "SELECT id, app_id, name, url, events, channels, format, is_batched, headers, secrets, \
                                    state, state_reason, created_at, updated_at FROM webhooks \
                             WHERE app_id = $1 ORDER BY created_at, id";
const COUNT: &str = "SELECT COUNT(*) FROM webhooks WHERE app_id = $1";
const UPDATE: &str = "UPDATE webhooks SET name = $2, url = $3, events = $4, channels = $5, format = $6, is_batched = $7, \
                                          headers = $8, secrets = $9, state = $10, state_reason = $11, updated_at = $12 \
                      WHERE id = $1";
/// An endpoint that is switched on again begins without failures.
/// First, as whoever settles locks the webhook's row before its queue.
const RESET_HEALTH: &str = "UPDATE webhook_health SET failures = 0, failing_since = NULL, held_until = NULL, \
                                   next_due = CASE WHEN next_due > $2 THEN $2 ELSE next_due END \
                            WHERE webhook_id = $1";
const MAKE_DUE: &str = "UPDATE webhook_queue SET due = $2 WHERE webhook_id = $1 AND due > $2";
const DELETE: &str = "DELETE FROM webhooks WHERE id = $1";
const DELETE_HEALTH: &str = "DELETE FROM webhook_health WHERE webhook_id = $1";
const DELETE_APP: &str = "DELETE FROM webhook_apps WHERE app_id = $1";
const IDS: &str = "SELECT id FROM webhooks WHERE app_id = $1 ORDER BY id";

impl Store {
    /// Creates a webhook with its first secret.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] for the app, [`StoreError::Invalid`] for the webhook, or
    /// [`StoreError::Conflict`] if the app has `max_per_app` webhooks already.
    pub async fn create_webhook(
        &self,
        app_id: &str,
        new: NewWebhook,
        max_per_app: usize,
        by: &Actor,
    ) -> Result<WebhookRecord, StoreError> {
        let webhook = WebhookRecord::issue(issue_id("wh"), app_id, new)?;
        // Most of what the transaction would have to forget.
        self.forget_unwanted(app_id).await?;
        let mut transaction = self.begin(by).await?;
        transaction.touch_app(app_id).await?;
        let wanted = transaction.wanted_kinds(app_id).await?;
        let count = fetch_optional!((i64,), &mut transaction.tx, COUNT, app_id)?;
        let count = count.map_or(0, |(count,)| usize::try_from(count).unwrap_or(usize::MAX));
        if count >= max_per_app {
            return Err(StoreError::Conflict(format!(
                "the app {app_id:?} has {count} webhooks already, and may have {max_per_app} (webhooks.max_per_app): delete one that \
                 isn't needed, or raise the setting"
            )));
        }
        let (headers, secrets) = self.seal_webhook(&webhook);
        execute!(
            &mut transaction.tx,
            INSERT,
            &webhook.id,
            &webhook.app_id,
            &webhook.name,
            &webhook.url,
            events_column(&webhook),
            to_json(&webhook.channels),
            webhook.format.as_str(),
            webhook.is_batched,
            headers,
            secrets,
            webhook.state.as_str(),
            &webhook.state_reason,
            webhook.created_at,
            webhook.updated_at,
        )?;
        execute!(&mut transaction.tx, INSERT_APP, app_id)?;
        execute!(&mut transaction.tx, INSERT_HEALTH, &webhook.id)?;
        transaction.forget_other_kinds(app_id, &wanted).await?;
        let details = json!({
            "name": webhook.name,
            "url": webhook.url,
            "events": webhook.events,
            "channels": webhook.channels,
            "headers": webhook.header_names(),
        });
        transaction
            .record("webhook.create", target(&webhook), &details)
            .await?;
        transaction.commit().await?;
        Ok(webhook)
    }

    /// Returns an app's webhooks, oldest first.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such app.
    pub async fn webhooks(&self, app_id: &str) -> Result<Vec<WebhookRecord>, StoreError> {
        self.app(app_id).await?;
        let sealed: Vec<SealedWebhook> = on_db!(&self.db, pool => sqlx::query_as(SELECT_BY_APP).bind(app_id).fetch_all(pool).await)?;
        sealed
            .into_iter()
            .map(|webhook| self.open_webhook(webhook))
            .collect()
    }

    /// Returns a webhook of an app.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if the app has no such webhook.
    pub async fn webhook(&self, app_id: &str, id: &str) -> Result<WebhookRecord, StoreError> {
        let found: Option<SealedWebhook> = self.find(SELECT, id).await?;
        let found = found.filter(|found| found.app_id == app_id);
        self.open_webhook(found.ok_or_else(|| not_found(id))?)
    }

    /// Changes a webhook and returns the changed one. Without a difference, nothing is written.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if the app has no such webhook, [`StoreError::Invalid`] for what is given, or
    /// [`StoreError::Stale`] if the app's revision isn't the expected one.
    pub async fn update_webhook(
        &self,
        app_id: &str,
        id: &str,
        change: WebhookChange,
        expected_app_revision: Option<i64>,
        by: &Actor,
    ) -> Result<WebhookRecord, StoreError> {
        // Most of what the transaction would have to forget.
        self.forget_unwanted(app_id).await?;
        let mut transaction = self.begin(by).await?;
        transaction
            .check_revision(app_id, expected_app_revision)
            .await?;
        let before = self.open_webhook(transaction.webhook(app_id, id).await?)?;
        let after = before.changed(change, transaction.at)?;
        let mut changed = difference(&before.public_fields(), &after.public_fields());
        if !before.has_same_headers(&after) {
            // The names only: values are secrets.
            let names = json!({"before": before.header_names(), "after": after.header_names()});
            changed.insert("headers".into(), names);
        }
        if changed.is_empty() {
            return Ok(before);
        }
        let wanted = transaction.wanted_kinds(app_id).await?;
        self.write_webhook(&mut transaction, &after).await?;
        transaction.forget_other_kinds(app_id, &wanted).await?;
        transaction
            .record("webhook.update", target(&after), &changed.into())
            .await?;
        transaction.commit().await?;
        self.tidy_webhooks(app_id, &[]).await;
        Ok(after)
    }

    /// Gives a webhook another secret, generated unless one is given, and returns the changed webhook. The secrets that
    /// it has expire at `old_expire_at`, Unix time in milliseconds, if not before; until then all are used.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if the app has no such webhook, [`StoreError::Invalid`] for the secret, or
    /// [`StoreError::Conflict`] if it has too many that haven't expired.
    pub async fn add_webhook_secret(
        &self,
        app_id: &str,
        id: &str,
        secret: Option<SecretString>,
        old_expire_at: i64,
        by: &Actor,
    ) -> Result<WebhookRecord, StoreError> {
        let mut transaction = self.begin(by).await?;
        let before = self.open_webhook(transaction.webhook(app_id, id).await?)?;
        let after = before.with_secret(secret, old_expire_at, transaction.at)?;
        self.write_webhook(&mut transaction, &after).await?;
        let details = json!({"old_expire_at": old_expire_at});
        transaction
            .record("webhook.add_secret", target(&after), &details)
            .await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Pauses, disables or activates a webhook, with the reason for people, and returns the changed one. A webhook that
    /// is activated begins without failures, and all that waits for it is due at once, also if it was active before. Without
    /// a difference otherwise, nothing is written.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if the app has no such webhook, or [`StoreError::Stale`] if the app's revision
    /// isn't the expected one.
    pub async fn set_webhook_state(
        &self,
        app_id: &str,
        id: &str,
        state: WebhookState,
        reason: Option<&str>,
        expected_app_revision: Option<i64>,
        by: &Actor,
    ) -> Result<WebhookRecord, StoreError> {
        let mut transaction = self.begin(by).await?;
        transaction
            .check_revision(app_id, expected_app_revision)
            .await?;
        let before = self.open_webhook(transaction.webhook(app_id, id).await?)?;
        let after = WebhookRecord {
            state,
            state_reason: reason.map(str::to_owned),
            updated_at: transaction.at,
            ..before.clone()
        };
        let changed = difference(&before.public_fields(), &after.public_fields());
        if changed.is_empty() && state != WebhookState::Active {
            return Ok(before);
        }
        // The new time of the change tells the node that sends.
        self.write_webhook(&mut transaction, &after).await?;
        let action = match state {
            WebhookState::Active => {
                let at = transaction.at;
                execute!(&mut transaction.tx, RESET_HEALTH, id, at)?;
                execute!(&mut transaction.tx, MAKE_DUE, id, at)?;
                "webhook.activate"
            }
            WebhookState::Paused => "webhook.pause",
            WebhookState::Disabled => "webhook.disable",
        };
        transaction
            .record(action, target(&after), &changed.into())
            .await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Deletes a webhook. What waits for it is not sent. What was recorded for it is dropped with its day.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if the app has no such webhook, or [`StoreError::Stale`] if the app's revision
    /// isn't the expected one.
    pub async fn delete_webhook(
        &self,
        app_id: &str,
        id: &str,
        expected_app_revision: Option<i64>,
        by: &Actor,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin(by).await?;
        transaction
            .check_revision(app_id, expected_app_revision)
            .await?;
        // Not opened: a webhook whose secrets don't open can be deleted.
        let webhook = transaction.webhook(app_id, id).await?;
        execute!(&mut transaction.tx, DELETE, id)?;
        let left = fetch_optional!((i64,), &mut transaction.tx, COUNT, app_id)?;
        if left == Some((0,)) {
            execute!(&mut transaction.tx, DELETE_APP, app_id)?;
        }
        execute!(&mut transaction.tx, DELETE_HEALTH, id)?;
        transaction.touch_app(app_id).await?;
        let details = json!({"name": webhook.name, "url": webhook.url});
        let target = Target::webhook(id, app_id);
        transaction
            .record("webhook.delete", target, &details)
            .await?;
        transaction.commit().await?;
        self.tidy_webhooks(app_id, &[id.to_owned()]).await;
        Ok(())
    }

    async fn write_webhook(
        &self,
        transaction: &mut Transaction<'_>,
        webhook: &WebhookRecord,
    ) -> Result<(), StoreError> {
        let (headers, secrets) = self.seal_webhook(webhook);
        execute!(
            &mut transaction.tx,
            UPDATE,
            &webhook.id,
            &webhook.name,
            &webhook.url,
            events_column(webhook),
            to_json(&webhook.channels),
            webhook.format.as_str(),
            webhook.is_batched,
            headers,
            secrets,
            webhook.state.as_str(),
            &webhook.state_reason,
            webhook.updated_at,
        )?;
        transaction.touch_app(&webhook.app_id).await
    }

    /// Returns the sealed headers and secrets of a webhook.
    fn seal_webhook(&self, webhook: &WebhookRecord) -> (Option<Vec<u8>>, Vec<u8>) {
        let (app_id, id) = (&webhook.app_id, &webhook.id);
        let headers = (!webhook.headers.is_empty()).then(|| {
            let plain = headers_to_json(&webhook.headers);
            self.master_key.seal(&plain, &headers_context(app_id, id))
        });
        let plain = secrets_to_json(&webhook.secrets);
        let secrets = self.master_key.seal(&plain, &secrets_context(app_id, id));
        (headers, secrets)
    }

    pub(crate) fn open_webhook(&self, sealed: SealedWebhook) -> Result<WebhookRecord, StoreError> {
        let (app_id, id) = (&sealed.app_id, &sealed.id);
        let open = |sealed: &[u8], context: String| {
            let opened = self.master_key.open(sealed, &context);
            opened.map_err(|_| StoreError::WrongMasterKey)
        };
        let headers = match &sealed.headers {
            Some(headers) => headers_from_json(&open(headers, headers_context(app_id, id))?),
            None => Some(Vec::new()),
        };
        let secrets = secrets_from_json(&open(&sealed.secrets, secrets_context(app_id, id))?);
        // What opens was sealed here, so it reads unless another version wrote it.
        let (Some(headers), Some(mut secrets)) = (headers, secrets) else {
            let text = format!("the secrets of the webhook {id:?} cannot be read");
            return Err(StoreError::Conflict(text));
        };
        let at = now();
        secrets.retain(|secret| secret.is_active(at));
        Ok(WebhookRecord {
            id: sealed.id,
            app_id: sealed.app_id,
            name: sealed.name,
            url: sealed.url,
            events: sealed.events,
            channels: sealed.channels,
            format: sealed.format,
            is_batched: sealed.is_batched,
            headers,
            secrets,
            state: sealed.state,
            state_reason: sealed.state_reason,
            created_at: sealed.created_at,
            updated_at: sealed.updated_at,
        })
    }
}

impl Transaction<'_> {
    async fn webhook(&mut self, app_id: &str, id: &str) -> Result<SealedWebhook, StoreError> {
        fetch_optional!(SealedWebhook, &mut self.tx, SELECT, id)?
            .filter(|found| found.app_id == app_id)
            .ok_or_else(|| not_found(id))
    }

    /// Deletes all webhooks of an app and returns their ids.
    pub(crate) async fn delete_webhooks(
        &mut self,
        app_id: &str,
    ) -> Result<Vec<String>, StoreError> {
        // First, because whoever records events of the app locks this row before any other.
        execute!(&mut self.tx, DELETE_APP, app_id)?;
        let ids = fetch_all!((String,), &mut self.tx, IDS, app_id)?;
        for (id,) in &ids {
            execute!(&mut self.tx, DELETE, id)?;
            execute!(&mut self.tx, DELETE_HEALTH, id)?;
        }
        Ok(ids.into_iter().map(|(id,)| id).collect())
    }
}

fn not_found(id: &str) -> StoreError {
    StoreError::NotFound(format!("there is no webhook {id:?}"))
}

fn target(webhook: &WebhookRecord) -> Target<'_> {
    Target::webhook(&webhook.id, &webhook.app_id)
}

fn events_column(webhook: &WebhookRecord) -> Option<String> {
    webhook.events.as_deref().map(to_json)
}

fn to_json(texts: &[String]) -> String {
    serde_json::to_string(texts).expect("texts are JSON")
}

/// Returns the context in which a webhook's secrets are sealed.
pub(crate) fn secrets_context(app_id: &str, id: &str) -> String {
    format!("webhook_secrets::{app_id}:{id}")
}

/// Returns the context in which a webhook's headers are sealed.
pub(crate) fn headers_context(app_id: &str, id: &str) -> String {
    format!("webhook_headers::{app_id}:{id}")
}
