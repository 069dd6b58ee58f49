//! Signs deliveries for those who ask for them, as they would be sent at this moment.

use std::collections::BTreeMap;

use fanfare_protocol::AppKey;
use fanfare_protocol::signature::SigningKey;
use fanfare_store::{DeliveryRecord, KeyRecord, Store, WebhookRecord};
use secrecy::ExposeSecret;

use super::deliveries::DeliveryRequest;
use crate::admin::problem::Problem;
use crate::app_state::AppState;
use crate::clock::unix_millis;
use crate::webhooks::{Attempted, Content, DeliveryId, Hook, SignedRequest, sign};

/// Returns the app's oldest active key. It is read from the store, because a process without a node knows no apps.
pub(super) async fn oldest_key(
    store: &Store,
    app_id: &str,
) -> Result<Option<(AppKey, SigningKey)>, Problem> {
    let keys = store.keys(app_id).await?;
    let oldest = keys.into_iter().find(KeyRecord::is_active);
    Ok(oldest.and_then(|key| {
        let signing = SigningKey::new(key.secret.expose_secret());
        Some((AppKey::parse(&key.key).ok()?, signing))
    }))
}

/// Returns a webhook as the sender knows it.
pub(super) fn hook_of(webhook: WebhookRecord) -> Result<Hook, Problem> {
    let id = webhook.id.clone();
    Hook::new(webhook).map_err(|error| {
        Problem::conflict(format!(
            "the webhook {id:?} was stored by another version and cannot be read ({error}); set it again"
        ))
    })
}

/// Signs deliveries of a webhook.
pub(super) struct Signer {
    hook: Hook,
    key: Option<(AppKey, SigningKey)>,
    at: i64,
    /// Names of headers that aren't shown.
    hidden: Vec<String>,
}

impl Signer {
    pub(super) async fn read(
        state: &AppState,
        webhook: WebhookRecord,
        shows_headers: bool,
    ) -> Result<Self, Problem> {
        let key = oldest_key(&state.admin.store, &webhook.app_id).await?;
        let hidden = match shows_headers {
            true => Vec::new(),
            false => webhook
                .headers
                .iter()
                .map(|header| header.name.to_ascii_lowercase())
                .collect(),
        };
        Ok(Self {
            hook: hook_of(webhook)?,
            key,
            at: unix_millis(),
            hidden,
        })
    }

    /// Returns the request of a delivery.
    pub(super) fn sign(&self, delivery: &DeliveryRecord) -> Result<DeliveryRequest, Problem> {
        let attempted = Attempted {
            content: Content {
                events: &delivery.events,
                created_at: delivery.created_at,
                is_replay: false,
            },
            id: DeliveryId::Sequence(delivery.sequence),
            attempt: delivery.attempts + 1,
        };
        let signed = sign(self.key.as_ref(), &self.hook, attempted, self.at);
        let SignedRequest { headers, body } = signed.map_err(Problem::conflict)?;
        let shown = headers.iter().filter_map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let is_hidden = self.hidden.iter().any(|hidden| hidden == name.as_str());
            (!is_hidden).then(|| (name.as_str().to_owned(), value))
        });
        Ok(DeliveryRequest {
            headers: BTreeMap::from_iter(shown),
            body,
        })
    }
}
