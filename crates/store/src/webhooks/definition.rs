//! A webhook as it is stored and given, and the rules for one.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::database::now;
use crate::error::StoreError;
use crate::row::{from_row, parsed};
use crate::scope::check_name;

/// Names of all events that webhooks are told of.
pub const WEBHOOK_EVENTS: [&str; 7] = [
    "channel_occupied",
    "channel_vacated",
    "member_added",
    "member_removed",
    "client_event",
    "cache_miss",
    "subscription_count",
];

/// Longest URL of a webhook, in bytes.
const MAX_URL: usize = 2_048;
/// Most channel patterns of a webhook.
const MAX_PATTERNS: usize = 100;
/// Longest channel pattern, in characters.
const MAX_PATTERN: usize = 200;
/// Most headers of a webhook.
const MAX_HEADERS: usize = 20;
/// Longest name and longest value of a header, in bytes.
const MAX_HEADER: (usize, usize) = (100, 4_096);
/// Most secrets of a webhook that are active at once.
const MAX_SECRETS: usize = 10;
/// What a secret begins with.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a secret, as Standard Webhooks bounds them.
pub const WEBHOOK_SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Format of what a webhook's receiver gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// Pusher's.
    #[default]
    Pusher,
    /// That of Standard Webhooks.
    Standard,
}

/// Whether a webhook is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum WebhookState {
    /// Deliveries are sent.
    #[default]
    Active,
    /// An operator has stopped it. Events are still recorded.
    Paused,
    /// Fanfare has stopped it because of its failures. Events are still recorded.
    Disabled,
}

/// Error for a text that isn't one of a list of words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is unknown; there are {known}")]
pub struct UnknownWord {
    text: String,
    known: String,
}

/// Gives an enum whose variants are single words its text, in both directions.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $type {
            /// Returns it as text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),*
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::webhooks::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err($crate::webhooks::UnknownWord::new(text, &[$($word),*])),
                }
            }
        }
    };
}

pub(crate) use words;

impl UnknownWord {
    pub(crate) fn new(text: &str, known: &[&str]) -> Self {
        Self {
            text: text.to_owned(),
            known: known.join(", "),
        }
    }
}

words!(WebhookFormat { Pusher = "pusher", Standard = "standard" });
words!(WebhookState { Active = "active", Paused = "paused", Disabled = "disabled" });

/// A header that is sent with every request of a webhook.
#[derive(Debug, Clone)]
pub struct WebhookHeader {
    /// Its name.
    pub name: String,
    /// Its value, which may be a credential.
    pub value: SecretString,
}

/// A secret of a webhook: `whsec_` and Base64. A webhook has several while one replaces another.
#[derive(Debug, Clone)]
pub struct WebhookSecret {
    /// The secret.
    pub secret: SecretString,
    /// Unix time in milliseconds.
    pub created_at: i64,
    /// When it expires, Unix time in milliseconds.
    pub expires_at: Option<i64>,
}

/// A webhook of an app.
#[derive(Debug, Clone)]
pub struct WebhookRecord {
    /// Its id.
    pub id: String,
    /// App that it belongs to.
    pub app_id: String,
    /// For people.
    pub name: String,
    /// Where its deliveries are sent, or `None` if its receiver asks for them.
    pub url: Option<String>,
    /// Names of the events that it is told of, or `None` for all.
    pub events: Option<Vec<String>>,
    /// Patterns of the channels that it is told of; empty means all.
    pub channels: Vec<String>,
    /// Format of what is sent.
    pub format: WebhookFormat,
    /// Whether one request may hold several events.
    pub is_batched: bool,
    /// Headers that are sent with every request.
    pub headers: Vec<WebhookHeader>,
    /// Its secrets that haven't expired, newest first.
    pub secrets: Vec<WebhookSecret>,
    /// Whether it is sent.
    pub state: WebhookState,
    /// Why it is in this state, for people.
    pub state_reason: Option<String>,
    /// Unix time in milliseconds.
    pub created_at: i64,
    /// Unix time in milliseconds.
    pub updated_at: i64,
}

/// A webhook to create.
#[derive(Debug, Clone, Default)]
pub struct NewWebhook {
    /// For people.
    pub name: String,
    /// Where its deliveries are sent, or `None` if its receiver asks for them.
    pub url: Option<String>,
    /// Names of the events that it is told of, or `None` for all.
    pub events: Option<Vec<String>>,
    /// Patterns of the channels that it is told of; empty means all.
    pub channels: Vec<String>,
    /// Format of what is sent.
    pub format: WebhookFormat,
    /// Whether one request may hold several events.
    pub is_batched: bool,
    /// Headers that are sent with every request.
    pub headers: Vec<WebhookHeader>,
    /// An imported secret; otherwise one is generated.
    pub secret: Option<SecretString>,
}

/// Changes of a webhook. Absent fields stay.
#[derive(Debug, Clone, Default)]
pub struct WebhookChange {
    /// For people.
    pub name: Option<String>,
    /// Where its deliveries are sent.
    pub url: Option<Option<String>>,
    /// Names of the events that it is told of.
    pub events: Option<Option<Vec<String>>>,
    /// Patterns of the channels that it is told of.
    pub channels: Option<Vec<String>>,
    /// Format of what is sent.
    pub format: Option<WebhookFormat>,
    /// Whether one request may hold several events.
    pub is_batched: Option<bool>,
    /// All headers that are sent with every request.
    pub headers: Option<Vec<WebhookHeader>>,
}

pub(crate) struct SealedWebhook {
    pub(crate) id: String,
    pub(crate) app_id: String,
    pub(super) name: String,
    pub(super) url: Option<String>,
    pub(super) events: Option<Vec<String>>,
    pub(super) channels: Vec<String>,
    pub(super) format: WebhookFormat,
    pub(super) is_batched: bool,
    pub(super) headers: Option<Vec<u8>>,
    pub(super) secrets: Vec<u8>,
    pub(super) state: WebhookState,
    pub(super) state_reason: Option<String>,
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
}

from_row!(row => SealedWebhook {
    id,
    app_id,
    name,
    url,
    events: sqlx::Row::try_get::<Option<String>, _>(row, "events")?
        .map(|_| parsed(row, "events", |text| serde_json::from_str(&text)))
        .transpose()?,
    channels: parsed(row, "channels", |text| serde_json::from_str(&text))?,
    format: parsed(row, "format", |text| WebhookFormat::from_str(&text))?,
    is_batched,
    headers,
    secrets,
    state: parsed(row, "state", |text| WebhookState::from_str(&text))?,
    state_reason,
    created_at,
    updated_at,
});

/// A secret as it is sealed.
#[derive(Serialize, Deserialize)]
struct PlainSecret {
    secret: String,
    created_at: i64,
    expires_at: Option<i64>,
}

/// A header as it is sealed.
#[derive(Serialize, Deserialize)]
struct PlainHeader {
    name: String,
    value: String,
}

pub(super) fn secrets_to_json(secrets: &[WebhookSecret]) -> String {
    let plain = secrets.iter().map(|one| PlainSecret {
        secret: one.secret.expose_secret().to_owned(),
        created_at: one.created_at,
        expires_at: one.expires_at,
    });
    serde_json::to_string(&plain.collect::<Vec<_>>()).expect("texts and numbers are JSON")
}

pub(super) fn secrets_from_json(text: &str) -> Option<Vec<WebhookSecret>> {
    let plain: Vec<PlainSecret> = serde_json::from_str(text).ok()?;
    let secrets = plain.into_iter().map(|one| WebhookSecret {
        secret: one.secret.into(),
        created_at: one.created_at,
        expires_at: one.expires_at,
    });
    Some(secrets.collect())
}

pub(super) fn headers_to_json(headers: &[WebhookHeader]) -> String {
    let plain = headers.iter().map(|header| PlainHeader {
        name: header.name.clone(),
        value: header.value.expose_secret().to_owned(),
    });
    serde_json::to_string(&plain.collect::<Vec<_>>()).expect("texts are JSON")
}

pub(super) fn headers_from_json(text: &str) -> Option<Vec<WebhookHeader>> {
    let plain: Vec<PlainHeader> = serde_json::from_str(text).ok()?;
    let headers = plain.into_iter().map(|header| WebhookHeader {
        name: header.name,
        value: header.value.into(),
    });
    Some(headers.collect())
}

impl WebhookSecret {
    /// Generates a secret, or checks the one that is given.
    pub(super) fn issue(given: Option<SecretString>, at: i64) -> Result<Self, StoreError> {
        let secret = match given {
            Some(secret) => check_secret(secret)?,
            None => {
                let bytes: [u8; 32] = rand::random();
                format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes)).into()
            }
        };
        Ok(Self {
            secret,
            created_at: at,
            expires_at: None,
        })
    }

    pub(super) fn is_active(&self, at: i64) -> bool {
        self.expires_at.is_none_or(|expires_at| expires_at > at)
    }
}

impl WebhookRecord {
    /// Returns a new webhook with its first secret.
    pub(super) fn issue(id: String, app_id: &str, new: NewWebhook) -> Result<Self, StoreError> {
        let at = now();
        let webhook = Self {
            id,
            app_id: app_id.to_owned(),
            name: new.name,
            url: new.url,
            events: new.events,
            channels: new.channels,
            format: new.format,
            is_batched: new.is_batched,
            headers: new.headers,
            secrets: vec![WebhookSecret::issue(new.secret, at)?],
            state: WebhookState::Active,
            state_reason: None,
            created_at: at,
            updated_at: at,
        };
        webhook.checked()
    }

    /// Returns the webhook with changes.
    pub(super) fn changed(&self, change: WebhookChange, at: i64) -> Result<Self, StoreError> {
        let before = self.clone();
        let after = Self {
            name: change.name.unwrap_or(before.name),
            url: change.url.unwrap_or(before.url),
            events: change.events.unwrap_or(before.events),
            channels: change.channels.unwrap_or(before.channels),
            format: change.format.unwrap_or(before.format),
            is_batched: change.is_batched.unwrap_or(before.is_batched),
            headers: change.headers.unwrap_or(before.headers),
            updated_at: at,
            ..before
        };
        after.checked()
    }

    /// Replaces the secret: the present ones expire at `old_expire_at` if not before.
    pub(super) fn with_secret(
        &self,
        secret: Option<SecretString>,
        old_expire_at: i64,
        at: i64,
    ) -> Result<Self, StoreError> {
        let mut after = Self {
            updated_at: at,
            ..self.clone()
        };
        for old in &mut after.secrets {
            old.expires_at = Some(old.expires_at.unwrap_or(i64::MAX).min(old_expire_at));
        }
        after.secrets.insert(0, WebhookSecret::issue(secret, at)?);
        after.secrets.retain(|secret| secret.is_active(at));
        if after.secrets.len() > MAX_SECRETS {
            return Err(StoreError::Conflict(format!(
                "the webhook {:?} has {MAX_SECRETS} active secrets; wait until one has expired, or let the old ones expire \
                 at once",
                self.id
            )));
        }
        Ok(after)
    }

    /// Returns what the audit log may show of it.
    pub(super) fn public_fields(&self) -> Value {
        json!({
            "name": self.name,
            "url": self.url,
            "events": self.events,
            "channels": self.channels,
            "format": self.format,
            "batched": self.is_batched,
            "state": self.state,
            "state_reason": self.state_reason,
        })
    }

    pub(super) fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|one| one.name.as_str()).collect()
    }

    pub(super) fn has_same_headers(&self, other: &Self) -> bool {
        headers_to_json(&self.headers) == headers_to_json(&other.headers)
    }

    /// Checks everything that the store can judge. URL, patterns and headers have more rules, which their users check.
    fn checked(mut self) -> Result<Self, StoreError> {
        self.name = check_name(&self.name, "a webhook's")?;
        let invalid = |text: String| Err(StoreError::Invalid(text));
        if let Some(url) = &self.url
            && (url.is_empty() || url.len() > MAX_URL || url.chars().any(char::is_control))
        {
            return invalid(format!(
                "a webhook's URL has 1 to {MAX_URL} printable bytes"
            ));
        }
        if let Some(events) = &mut self.events {
            events.sort();
            events.dedup();
            let unknown = |event: &&String| !WEBHOOK_EVENTS.contains(&event.as_str());
            if let Some(event) = events.iter().find(unknown) {
                let known = WEBHOOK_EVENTS.join(", ");
                return invalid(format!("there is no event {event:?}; there are {known}"));
            }
            if events.is_empty() {
                return invalid("name at least one event, or leave them out for all".into());
            }
        }
        let is_pattern = |pattern: &String| {
            (1..=MAX_PATTERN).contains(&pattern.chars().count())
                && !pattern.chars().any(char::is_control)
        };
        if self.channels.len() > MAX_PATTERNS || !self.channels.iter().all(is_pattern) {
            return invalid(format!(
                "a webhook has at most {MAX_PATTERNS} channel patterns, each of 1 to {MAX_PATTERN} printable characters"
            ));
        }
        let is_header = |header: &WebhookHeader| {
            let value = header.value.expose_secret();
            (1..=MAX_HEADER.0).contains(&header.name.len())
                && value.len() <= MAX_HEADER.1
                && !header
                    .name
                    .chars()
                    .chain(value.chars())
                    .any(char::is_control)
        };
        if self.headers.len() > MAX_HEADERS || !self.headers.iter().all(is_header) {
            return invalid(format!(
                "a webhook has at most {MAX_HEADERS} headers, each with a name of 1 to {} and a value of at most {} \
                 printable bytes",
                MAX_HEADER.0, MAX_HEADER.1
            ));
        }
        if self.format == WebhookFormat::Standard && self.is_batched {
            return invalid(
                "the format standard has one event in each request: leave out batching, or choose the format pusher"
                    .into(),
            );
        }
        Ok(self)
    }
}

/// Returns the key that a secret stands for: Base64 of 24 to 64 bytes after `whsec_`. Returns `None` if it isn't one.
#[must_use]
pub fn webhook_secret_bytes(secret: &str) -> Option<Vec<u8>> {
    let text = secret.strip_prefix(SECRET_PREFIX)?;
    let bytes = STANDARD.decode(text).ok()?;
    WEBHOOK_SECRET_BYTES.contains(&bytes.len()).then_some(bytes)
}

fn check_secret(secret: SecretString) -> Result<SecretString, StoreError> {
    if webhook_secret_bytes(secret.expose_secret()).is_some() {
        return Ok(secret);
    }
    Err(StoreError::Invalid(format!(
        "a webhook's secret is {SECRET_PREFIX} and the Base64 of {} to {} bytes",
        WEBHOOK_SECRET_BYTES.start(),
        WEBHOOK_SECRET_BYTES.end()
    )))
}

impl fmt::Debug for SealedWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedWebhook")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
