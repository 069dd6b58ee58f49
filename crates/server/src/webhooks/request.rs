//! Signed requests: what a receiver gets for one attempt, whether it is sent or asked for.

use fanfare_engine::Apps;
use fanfare_protocol::AppKey;
use fanfare_protocol::signature::SigningKey;
use fanfare_store::WebhookFormat;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::body::{Content, body};
use super::hooks::Hook;
use super::sign::{pusher_headers, standard_signature};

/// A delivery of a webhook, for one attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempted<'a> {
    pub(crate) content: Content<'a>,
    pub(crate) id: DeliveryId,
    /// Counted from 1.
    pub(crate) attempt: i64,
}

/// Which delivery of a webhook it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryId {
    Sequence(i64),
    /// An example, which isn't recorded.
    Test,
}

/// A request, without its address.
#[derive(Debug, Clone)]
pub(crate) struct SignedRequest {
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// Builds and signs the request for an attempt at `now`, Unix time in milliseconds. The app's oldest active key signs, as
/// on hosted Pusher, so a key that is being replaced signs until it is revoked.
///
/// # Errors
///
/// Returns a text if nothing can sign: the app has no active key, or the webhook no secret.
pub(crate) fn signed_request(
    apps: &Apps,
    hook: &Hook,
    attempted: Attempted<'_>,
    now: i64,
) -> Result<SignedRequest, String> {
    let app = apps.by_id(hook.app.as_str());
    let key = app.and_then(|app| app.oldest_key());
    sign(key.as_ref(), hook, attempted, now)
}

/// Does the same with a key that was looked up.
///
/// # Errors
///
/// Returns a text if nothing can sign.
pub(crate) fn sign(
    key: Option<&(AppKey, SigningKey)>,
    hook: &Hook,
    attempted: Attempted<'_>,
    now: i64,
) -> Result<SignedRequest, String> {
    let body = body(hook.format(), attempted.content, now);
    // The same for each attempt.
    let id = match attempted.id {
        DeliveryId::Sequence(sequence) => format!("{}_{sequence}", hook.id),
        DeliveryId::Test => format!("{}_test_{now}", hook.id),
    };
    let mut headers = hook.headers().clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut set = |name: &'static str, value: String| {
        let name = HeaderName::try_from(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    };
    match attempted.id {
        DeliveryId::Sequence(sequence) => set("Fanfare-Sequence", sequence.to_string()),
        DeliveryId::Test => set("Fanfare-Test", "true".into()),
    }
    set("Fanfare-Attempt", attempted.attempt.to_string());
    if attempted.content.is_replay {
        set("Fanfare-Replay", "true".into());
    }
    if let Some((key, signing)) = key {
        for (name, value) in pusher_headers(key, signing, &body) {
            set(name, value);
        }
    }
    match hook.format() {
        WebhookFormat::Pusher if key.is_none() => {
            return Err("the app has no active key to sign with; add one".into());
        }
        WebhookFormat::Pusher => {}
        WebhookFormat::Standard => {
            let seconds = u64::try_from(now / 1000).unwrap_or_default();
            let signature = standard_signature(hook.signing_keys(now), &id, seconds, &body);
            if signature.is_empty() {
                return Err("the webhook has no secret to sign with; give it one".into());
            }
            set("webhook-id", id.clone());
            set("webhook-timestamp", seconds.to_string());
            set("webhook-signature", signature);
        }
    }
    set("Fanfare-Delivery", id);
    Ok(SignedRequest { headers, body })
}
