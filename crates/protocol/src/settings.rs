//! The settings of an app that may change while it runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::channel::{ChannelKind, ChannelName};
use crate::channel_pattern::{self, ChannelPattern};
use crate::history::{self, HistoryRule};
use crate::limits::Limits;
use crate::quotas::Quotas;
use crate::wildcard;

/// Most origins of an app.
const MAX_ORIGINS: usize = 500;
/// Longest origin, in bytes: a host name has 253 at most.
const MAX_ORIGIN: usize = 300;
/// Most patterns of public channels that take client events.
const MAX_CLIENT_EVENT_CHANNELS: usize = 100;
/// Most channels of `socket_io.broadcast`, because each client of Socket.IO joins all of them.
const MAX_BROADCAST: usize = 10;
/// Longest name of such a channel, in bytes: that of any channel, unless an app allows longer ones.
const MAX_BROADCAST_NAME: usize = 200;

/// An app's settings. Settings that are missing in a stored text have their defaults; unknown ones
/// are ignored, because a newer version may have written them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AppSettings {
    /// Whether the app is enabled; a disabled app accepts neither connections nor events.
    pub enabled: bool,
    /// Whether clients may send events of their own.
    pub client_events: bool,
    /// The public channels on which clients may send events too, for example `chat-*`, if `client_events` is on. Anyone
    /// may subscribe to them, so anyone may write there.
    // docs/protocol.md#client-events
    pub client_event_channels: Vec<String>,
    /// Whether subscribers get their channel's subscription count.
    // docs/protocol.md#subscription-counts
    pub subscription_count: bool,
    /// Whether signed-in users learn which of the users that they watch are online.
    // docs/protocol.md#watchlists
    pub watchlists: bool,
    /// Whether a connection must sign in or subscribe to a private or presence channel within 30
    /// seconds.
    // docs/protocol.md#admission
    pub authorized_connections: bool,
    /// Whether clients must use TLS; others are refused with 4000. TLS ends at a proxy, whose
    /// `X-Forwarded-Proto` says so.
    // docs/protocol.md#admission
    pub tls_only: bool,
    /// The web origins from which clients may connect, for example `https://example.com` or
    /// `https://*.example.com`; an empty list allows any. Clients that are not browsers send no
    /// origin and are admitted.
    pub allowed_origins: Vec<String>,
    /// The channels that keep a history, so that clients that reconnect get the events that they
    /// missed. The first rule that matches a channel applies; without a rule no channel keeps any.
    pub history: Vec<HistoryRule>,
    /// Bounds on what its clients and backends may send.
    pub limits: Limits,
    /// How much it may use in a day or a month. Only admins of all apps change quotas.
    pub quotas: Quotas,
    /// What its clients of Socket.IO do without being asked.
    pub socket_io: SocketIoSettings,
}

/// What clients of Socket.IO do without being asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SocketIoSettings {
    /// The public channels, at most 10, that each client of Socket.IO joins when it connects. What it emits without naming a
    /// channel goes to them as a client event, if `client_events` is on, and comes back to it.
    // docs/any-client.md#socketio
    pub broadcast: Vec<String>,
}

impl Default for AppSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            client_events: false,
            client_event_channels: Vec::new(),
            subscription_count: false,
            watchlists: false,
            authorized_connections: false,
            tls_only: false,
            allowed_origins: Vec::new(),
            history: Vec::new(),
            limits: Limits::HOSTED,
            quotas: Quotas::default(),
            socket_io: SocketIoSettings::default(),
        }
    }
}

/// Why a setting can't be changed as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSetting {
    /// There is no such setting.
    #[error("there is no setting {name:?} of an app; there are {known}")]
    Unknown {
        /// The name as given.
        name: String,
        /// All names.
        known: String,
    },
    /// The value is invalid.
    #[error("{value:?} is not possible for {name}: {reason}")]
    Value {
        /// The setting.
        name: String,
        /// The value as given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl InvalidSetting {
    fn unknown(name: &str) -> Self {
        Self::Unknown {
            name: name.into(),
            known: AppSettings::names().join(", "),
        }
    }
}

impl AppSettings {
    /// Changes one setting by its name, for example `limits.presence_members`. Lists are given with commas, or as JSON.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidSetting`] if there is no such setting, or the value is invalid for it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), InvalidSetting> {
        let mut all = serde_json::to_value(&*self).expect("settings are JSON");
        let pointer = format!("/{}", name.replace('.', "/"));
        let unknown = || InvalidSetting::unknown(name);
        let place = all
            .pointer_mut(&pointer)
            .filter(|place| !place.is_object())
            .ok_or_else(unknown)?;
        *place = match place {
            Value::Array(_) if value.starts_with('[') => {
                serde_json::from_str(value).unwrap_or_else(|_| value.into())
            }
            Value::Array(_) => value
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .collect(),
            _ => serde_json::from_str(value).unwrap_or_else(|_| value.into()),
        };
        let invalid = |reason: String| InvalidSetting::Value {
            name: name.into(),
            value: value.into(),
            reason,
        };
        let changed: Self =
            serde_json::from_value(all).map_err(|error| invalid(expected(&error)))?;
        changed.check(self).map_err(invalid)?;
        *self = changed;
        Ok(())
    }

    /// Checks these settings, which are to take the place of `before`. What stays is not checked: a value that an earlier
    /// version has taken must not stand in the way of other changes.
    fn check(&self, before: &Self) -> Result<(), String> {
        if self.history != before.history {
            history::check_rules(&self.history)?;
        }
        if self.allowed_origins != before.allowed_origins {
            self.check_origins()?;
        }
        if self.client_event_channels != before.client_event_channels {
            self.check_client_event_channels()?;
        }
        if self.socket_io != before.socket_io {
            self.check_broadcast()?;
        }
        if self.quotas != before.quotas {
            self.quotas
                .check()
                .map_err(|(name, rule)| format!("quotas.{name} {rule}"))?;
        }
        if self.limits != before.limits {
            self.limits.check()?;
        }
        Ok(())
    }

    fn check_origins(&self) -> Result<(), String> {
        // Each connection's origin is compared with all of them.
        if self.allowed_origins.len() > MAX_ORIGINS {
            return Err(format!("allowed_origins: at most {MAX_ORIGINS} origins"));
        }
        let mut origins = self.allowed_origins.iter();
        origins.try_for_each(|origin| check_origin(origin))
    }

    fn check_client_event_channels(&self) -> Result<(), String> {
        // Every client event on a public channel is compared with all of them.
        if self.client_event_channels.len() > MAX_CLIENT_EVENT_CHANNELS {
            return Err(format!(
                "client_event_channels: at most {MAX_CLIENT_EVENT_CHANNELS} patterns"
            ));
        }
        let mut patterns = self.client_event_channels.iter();
        patterns.try_for_each(|pattern| check_client_event_channels(pattern))
    }

    fn check_broadcast(&self) -> Result<(), String> {
        let invalid = |reason: String| Err(format!("socket_io.broadcast: {reason}"));
        if self.socket_io.broadcast.len() > MAX_BROADCAST {
            return invalid(format!(
                "at most {MAX_BROADCAST} channels, every client joins all of them"
            ));
        }
        for name in &self.socket_io.broadcast {
            match ChannelName::parse(name, MAX_BROADCAST_NAME) {
                Err(error) => return invalid(error.to_string()),
                Ok(channel) if channel.kind() != ChannelKind::Public => {
                    return invalid(format!(
                        "{name:?} isn't a public channel, so clients can't join it without being authorized"
                    ));
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Returns the rule by which a channel keeps a history, if one matches.
    #[must_use]
    pub fn history_of(&self, channel: &str) -> Option<&HistoryRule> {
        self.history.iter().find(|rule| rule.matches(channel))
    }

    /// Returns whether clients may send events of their own on a channel, if they may at all.
    #[must_use]
    pub fn takes_client_events(&self, channel: &str) -> bool {
        let kind = ChannelKind::of(channel);
        let is_named = |pattern: &String| channel_pattern::matches(pattern, channel);
        kind.takes_client_events()
            || (kind.may_take_client_events()
                && (self.client_event_channels.iter().any(is_named)
                    || self.socket_io.broadcast.iter().any(|name| name == channel)))
    }

    /// Changes the settings in `patch`, a JSON object, and keeps the others.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidSetting`] if there is no such setting, or a value is invalid; nothing is
    /// changed then.
    pub fn merge(&mut self, patch: &Value) -> Result<(), InvalidSetting> {
        let mut all = serde_json::to_value(&*self).expect("settings are JSON");
        merge("", &mut all, patch)?;
        let invalid = |reason: String| InvalidSetting::Value {
            name: "settings".into(),
            value: patch.to_string(),
            reason,
        };
        let changed: Self =
            serde_json::from_value(all).map_err(|error| invalid(expected(&error)))?;
        changed.check(self).map_err(invalid)?;
        *self = changed;
        Ok(())
    }

    /// Returns the names of all settings.
    #[must_use]
    pub fn names() -> Vec<String> {
        let all = serde_json::to_value(Self::default()).expect("settings are JSON");
        let mut names = Vec::new();
        for (name, value) in all.as_object().into_iter().flatten() {
            match value.as_object() {
                Some(inner) => names.extend(inner.keys().map(|key| format!("{name}.{key}"))),
                None => names.push(name.clone()),
            }
        }
        names
    }

    /// Returns whether a page from `origin` may connect.
    #[must_use]
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.allowed_origins.is_empty()
            || self
                .allowed_origins
                .iter()
                .any(|allowed| is_origin(allowed, origin))
    }
}

/// Returns what was expected instead of a value of the wrong kind. serde names the types of this
/// program, which help no caller.
fn expected(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let (came, wanted) = text.split_once(", expected ").unwrap_or((&text, ""));
    let wanted = match wanted {
        "usize" | "u64" | "u32" => "a whole number, 0 or more",
        "a boolean" => "true or false",
        "a string" => "a list of texts, for example [\"https://example.com\"] or [\"chat-*\"]",
        "struct HistoryRule" | "a sequence" => {
            r#"a list of rules, for example [{"channels":"*","size":100,"ttl":300}]"#
        }
        _ => return text,
    };
    format!("{came}, expected {wanted}")
}

/// Merges an object member by member; any other value replaces what was there.
fn merge(path: &str, all: &mut Value, patch: &Value) -> Result<(), InvalidSetting> {
    let (all, patch) = match (&mut *all, patch) {
        (Value::Object(all), Value::Object(patch)) => (all, patch),
        (Value::Object(_), other) => {
            return Err(InvalidSetting::Value {
                name: if path.is_empty() { "settings" } else { path }.into(),
                value: other.to_string(),
                reason: "expected an object".into(),
            });
        }
        (value, _) => {
            *value = patch.clone();
            return Ok(());
        }
    };
    for (name, value) in patch {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let place = all
            .get_mut(name)
            .ok_or_else(|| InvalidSetting::unknown(&path))?;
        merge(&path, place, value)?;
    }
    Ok(())
}

/// Checks that a pattern names public channels.
fn check_client_event_channels(pattern: &str) -> Result<(), String> {
    let invalid = |reason: String| format!("client_event_channels: {reason}");
    let parsed = ChannelPattern::parse(pattern).map_err(|error| invalid(error.to_string()))?;
    match parsed.can_match_kind(ChannelKind::Public) {
        true => Ok(()),
        false => Err(invalid(format!(
            "no public channel matches {pattern:?}; private and presence channels take client events without it"
        ))),
    }
}

/// Checks that a browser can send this as its origin (RFC 6454, 6.2): a scheme and a host, and the
/// port if it isn't the scheme's own.
fn check_origin(origin: &str) -> Result<(), String> {
    let wrong = |rule: &str, right: &str| {
        Err(format!(
            "allowed_origins: {origin:?} {rule}, so no browser sends it: write {right}"
        ))
    };
    if origin.len() > MAX_ORIGIN {
        return Err(format!("allowed_origins: at most {MAX_ORIGIN} bytes each"));
    }
    // Browsers send `null` for pages without an origin, such as sandboxed frames and files.
    if matches!(origin, "*" | "null") {
        return Ok(());
    }
    if !origin.is_ascii() {
        return wrong(
            "has letters outside ASCII",
            "its host in Punycode, such as https://xn--mnchen-3ya.de for https://münchen.de",
        );
    }
    if origin.matches('*').count() > 1 {
        return wrong("has more than one *", "https://*.example.com");
    }
    let Some((scheme, host)) = origin.split_once("://") else {
        return wrong("has no scheme", &format!("https://{origin}"));
    };
    if let Some((host, _)) = host.split_once(['/', '?', '#']) {
        return wrong("has a path", &format!("{scheme}://{host}"));
    }
    let default_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    match host.strip_suffix(default_port) {
        Some(host) if !default_port.is_empty() => {
            wrong("has the scheme's own port", &format!("{scheme}://{host}"))
        }
        _ if host.is_empty() => wrong("has no host", "https://example.com"),
        _ => Ok(()),
    }
}

/// Returns whether an origin is allowed. One `*` stands for one or more labels of a host name, so
/// that `https://*.example.com` is not `https://example.com`, and not
/// `https://evil.com/.example.com` either.
fn is_origin(allowed: &str, origin: &str) -> bool {
    if !allowed.contains('*') {
        return allowed.eq_ignore_ascii_case(origin);
    }
    let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let labels = |text: &str| !text.is_empty() && text.chars().all(label);
    let (pattern, text) = (allowed.to_ascii_lowercase(), origin.to_ascii_lowercase());
    allowed == "*" || wildcard::matches(pattern.split('*'), &text, labels)
}

impl TryFrom<String> for AppSettings {
    type Error = serde_json::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        serde_json::from_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_changed_by_name_and_keep_their_kind() {
        let mut settings = AppSettings::default();
        settings.set("client_events", "true").unwrap();
        settings.set("limits.presence_members", "500").unwrap();
        settings
            .set("allowed_origins", "https://a.com, https://*.b.com")
            .unwrap();
        assert!(settings.client_events);
        assert_eq!(settings.limits.presence_members, 500);
        assert_eq!(
            settings.allowed_origins,
            ["https://a.com", "https://*.b.com"]
        );
        let rules = r#"[{"channels":"a-*","size":5,"ttl":60},{"channels":"*","size":1,"ttl":1}]"#;
        settings.set("history", rules).unwrap();
        assert_eq!(settings.history_of("a-1").unwrap().size, 5);
        assert_eq!(settings.history_of("b").unwrap().size, 1);
        settings.set("allowed_origins", "").unwrap();
        assert!(settings.allowed_origins.is_empty());
        let before = settings.clone();
        for (name, value, words) in [
            ("client_event", "true", "there are"),
            ("limits", "1", "there is no setting"),
            ("", "1", "there is no setting"),
            ("client_events", "yes", "expected true or false"),
            ("limits.user_id", "-1", "expected a whole number"),
            ("limits.channel_name", "0", "not possible"),
            ("limits.channel_name", "1000000000", "at most 1024"),
            ("limits.cache_bytes", "9223372036854775808", "at most"),
            ("limits.presence_members", "1000000000", "at most"),
            ("limits.connections", "18446744073709551615", "at most"),
            ("limits.cache_ttl", "18446744073709551615", "a year"),
            ("limits.event_data", "0", "at least 1"),
            ("limits.presence_members", "0", "at least 1"),
            ("limits.cache_ttl", "0", "at least 1"),
            (
                "client_event_channels",
                "chat-*, chat room",
                "no channel matches",
            ),
            (
                "client_event_channels",
                "private-*",
                "no public channel matches \"private-*\"",
            ),
            ("client_event_channels", "#server-to-user-*", "no public"),
            ("history", "*", "expected a list of rules"),
            ("history", r#"[{"channels":"*","size":0,"ttl":1}]"#, "size"),
            ("history", r#"[{"channels":"*","size":1}]"#, "ttl"),
        ] {
            let error = settings.set(name, value).unwrap_err().to_string();
            assert!(error.contains(words), "{name}={value}: {error}");
        }
        assert_eq!(settings, before);
    }

    #[test]
    fn every_client_of_socket_io_can_join_the_channels_of_its_app() {
        let mut settings = AppSettings::default();
        settings.set("socket_io.broadcast", "chat, lobby").unwrap();
        assert_eq!(settings.socket_io.broadcast, ["chat", "lobby"]);
        assert!(settings.takes_client_events("lobby") && !settings.takes_client_events("news"));
        let many = ["a"; MAX_BROADCAST + 1].join(",");
        for (value, words) in [
            ("chat, private-a", "isn't a public channel"),
            ("a b", "Invalid channel name"),
            (&*many, "at most 10 channels"),
        ] {
            let error = settings.set("socket_io.broadcast", value).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn clients_send_on_public_channels_that_are_named_and_on_private_ones() {
        let mut settings = AppSettings::default();
        assert!(!settings.takes_client_events("chat-1"));
        settings
            .set("client_event_channels", "chat-*, lobby")
            .unwrap();
        assert_eq!(settings.client_event_channels, ["chat-*", "lobby"]);
        for channel in ["chat-1", "lobby", "private-a", "presence-a"] {
            assert!(settings.takes_client_events(channel), "{channel}");
        }
        for channel in ["chat", "lobby-1", "news", "#server-to-user-1"] {
            assert!(!settings.takes_client_events(channel), "{channel}");
        }
        // A star reaches no channel that the server keeps for itself.
        settings.set("client_event_channels", "*").unwrap();
        assert!(settings.takes_client_events("cache-news"));
        assert!(!settings.takes_client_events("#server-to-user-1"));
        let many = vec!["a"; 101].join(",");
        let error = settings.set("client_event_channels", &many).unwrap_err();
        assert!(error.to_string().contains("at most 100 patterns"));
    }

    #[test]
    fn origins_that_no_browser_sends_are_refused_with_the_right_one() {
        let mut settings = AppSettings::default();
        for (origin, right) in [
            ("shop.example.com", "write https://shop.example.com"),
            (
                "https://shop.example.com/",
                "write https://shop.example.com",
            ),
            (
                "https://shop.example.com/app",
                "write https://shop.example.com",
            ),
            (
                "https://shop.example.com:443",
                "write https://shop.example.com",
            ),
            ("http://localhost:80", "write http://localhost"),
            ("https://*.*.example.com", "write https://*.example.com"),
            ("https://", "write https://example.com"),
            ("https://münchen.de", "for https://münchen.de"),
        ] {
            let error = settings.set("allowed_origins", origin).unwrap_err();
            let error = error.to_string();
            assert!(error.ends_with(right), "{origin}: {error}");
        }
        for origin in [
            "*",
            "null",
            "https://*.example.com",
            "http://localhost:3000",
            "https://[::1]:8443",
            "capacitor://localhost",
            "https://example.com:8443",
        ] {
            settings.set("allowed_origins", origin).unwrap();
        }
    }

    #[test]
    fn what_an_earlier_version_took_stays_until_it_is_changed() {
        let mut settings = AppSettings {
            allowed_origins: vec!["https://münchen.de".into()],
            ..AppSettings::default()
        };
        settings.quotas.messages_per_day = 50;
        settings.quotas.soft_messages_per_day = 100;
        settings.set("client_events", "true").unwrap();
        settings.set("quotas.soft_messages_per_day", "40").unwrap();
        settings
            .set("allowed_origins", "https://münchen.de, https://a.com")
            .unwrap_err();
        settings.set("allowed_origins", "https://a.com").unwrap();
    }

    #[test]
    fn a_patch_changes_what_it_holds_or_nothing() {
        let mut settings = AppSettings::default();
        let patch = serde_json::json!({"client_events": true, "limits": {"user_id": 7}});
        settings.merge(&patch).unwrap();
        assert!(settings.client_events);
        assert_eq!(
            (settings.limits.user_id, settings.limits.event_data),
            (7, 10_240)
        );
        let before = settings.clone();
        for (patch, words) in [
            (
                r#"{"client_event":true}"#,
                "there is no setting \"client_event\"",
            ),
            (
                r#"{"limits":{"users":1}}"#,
                "there is no setting \"limits.users\"",
            ),
            (r#"{"limits":[]}"#, "expected an object"),
            (r#"{"enabled":false,"limits":{"user_id":0}}"#, "at least 1"),
            ("[]", "expected an object"),
        ] {
            let patch = serde_json::from_str(patch).unwrap();
            let error = settings.merge(&patch).unwrap_err().to_string();
            assert!(error.contains(words), "{patch}: {error}");
        }
        assert_eq!(settings, before);
    }

    #[test]
    fn a_history_rule_that_no_channel_reaches_is_refused_where_it_is_set() {
        let rules =
            r#"[{"channels":"a-*","size":5,"ttl":60},{"channels":"a-b-*","size":9,"ttl":9}]"#;
        let mut settings = AppSettings::default();
        let error = settings.set("history", rules).unwrap_err().to_string();
        for words in [r#""a-b-*" is never reached"#, r#"the one for "a-*""#] {
            assert!(error.contains(words), "{error}");
        }
        // Twice the same.
        let twice = serde_json::json!([{"channels": "*", "size": 1, "ttl": 1}, {"channels": "*", "size": 2, "ttl": 2}]);
        assert!(
            settings
                .merge(&serde_json::json!({"history": twice}))
                .is_err()
        );
        // What an earlier version has stored stays, and other settings can be changed.
        let mut stored = AppSettings::try_from(format!(r#"{{"history":{rules}}}"#)).unwrap();
        stored.set("client_events", "true").unwrap();
        assert_eq!((stored.client_events, stored.history.len()), (true, 2));
        let other =
            r#"[{"channels":"a-b-*","size":9,"ttl":9},{"channels":"a-*","size":5,"ttl":60}]"#;
        stored.set("history", other).unwrap();
    }

    #[test]
    fn what_a_stored_text_does_not_say_has_its_default() {
        let read = |text: &str| AppSettings::try_from(text.to_owned());
        assert_eq!(read("{}").unwrap(), AppSettings::default());
        let read =
            read(r#"{"client_events":true,"limits":{"user_id":7},"from_a_newer_version":1}"#)
                .unwrap();
        assert_eq!((read.limits.user_id, read.limits.event_data), (7, 10_240));
    }

    #[test]
    fn origins_match_as_a_whole_and_stars_stand_for_labels() {
        let settings = AppSettings {
            allowed_origins: vec![
                "https://a.com".into(),
                "https://*.b.com".into(),
                "http://localhost:3000".into(),
            ],
            ..AppSettings::default()
        };
        for origin in [
            "https://a.com",
            "HTTPS://A.com",
            "https://x.b.com",
            "https://x.y.b.com",
            "http://localhost:3000",
        ] {
            assert!(settings.allows_origin(origin), "{origin}");
        }
        for origin in [
            "http://a.com",
            "https://a.com.evil.com",
            "https://b.com",
            "https://.b.com.c",
            "https://evil.com/.b.com",
            "null",
            "",
        ] {
            assert!(!settings.allows_origin(origin), "{origin}");
        }
        assert!(AppSettings::default().allows_origin("anything"));
    }
}
