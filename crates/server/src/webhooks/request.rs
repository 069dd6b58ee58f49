//! Signed requests: what a receiver gets for one attempt, whether it is sent or asked for.

use fanfare_engine::Apps;
use fanfare_store::WebhookFormat;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::body::{Content, body};
use super::hooks::Hook;
use super::sign::{pusher_headers, standard_signature};

/// A delivery of a webhook, for one attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempted<'a> {
    pub(crate) content: Content<'a>,
    pub(crate) sequence: i64,
    /// Counted from 1.
    pub(crate) attempt: u32,
}

/// A request, without its address.
#[derive(Debug, Clone)]
pub(crate) struct SignedRequest {
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// Returns the id of a delivery, which is the same for each attempt.
pub(crate) fn delivery_id(webhook: &str, sequence: i64) -> String {
    format!("{webhook}_{sequence}")
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
    let body = body(hook.format(), attempted.content, now);
    let id = delivery_id(&hook.id, attempted.sequence);
    let mut headers = hook.headers().clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut set = |name: &'static str, value: String| {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    };
    set("Fanfare-Sequence", attempted.sequence.to_string());
    set("Fanfare-Attempt", attempted.attempt.to_string());
    if attempted.content.is_replay {
        set("Fanfare-Replay", "true".into());
    }
    let key = apps
        .by_id(hook.app.as_str())
        .and_then(|app| app.oldest_key());
    if let Some((key, signing)) = &key {
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
