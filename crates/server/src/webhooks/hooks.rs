//! The webhooks of all apps as this node knows them, ready to be asked: what each tells of, and the rules for their
//! settings.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fanfare_engine::WantedNotices;
use fanfare_protocol::{AppId, ChannelPattern, WebhookEvent};
use fanfare_store::{WebhookFormat, WebhookRecord, WebhookState, webhook_secret_bytes};
use parking_lot::Mutex;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use tokio::sync::watch;

use crate::config::nearest;
use crate::outbound;

/// Longest URL, in bytes.
const MAX_URL: usize = 2048;
/// Most patterns of channels.
const MAX_PATTERNS: usize = 100;
/// Most headers of its own.
const MAX_HEADERS: usize = 20;
/// Longest value of a header, in bytes.
const MAX_HEADER_VALUE: usize = 4096;
/// Headers that are Fanfare's or the connection's.
const RESERVED_HEADERS: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
/// Beginnings of the names of headers that Fanfare sets.
const RESERVED_PREFIXES: [&str; 4] = ["fanfare-", "proxy-", "webhook-", "x-pusher-"];
/// Name of the setting that allows inner addresses, for messages.
pub(super) const ALLOW_INNER: &str = "webhooks.allow_inner_addresses";

/// What an operator sets of a webhook.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HookSettings<'a> {
    /// `None` if nothing is sent, because the receiver asks for its deliveries.
    pub(crate) url: Option<&'a str>,
    /// Names of events; `None` for all.
    pub(crate) events: Option<&'a [String]>,
    /// Patterns; an empty list stands for all channels.
    pub(crate) channels: &'a [String],
    pub(crate) format: WebhookFormat,
    pub(crate) is_batched: bool,
    /// Names and values.
    pub(crate) headers: &'a [(String, String)],
}

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(crate) struct CheckedSettings {
    url: Option<Url>,
    /// Empty for all.
    events: Vec<WebhookEvent>,
    channels: Vec<ChannelPattern>,
    format: WebhookFormat,
    is_batched: bool,
    headers: HeaderMap,
}

impl HookSettings<'_> {
    /// Checks the settings. A URL that leads inwards is refused unless `allow_inner` is set.
    ///
    /// # Errors
    ///
    /// Returns a text with the setting, its value and the rule that it breaks.
    pub(crate) fn check(&self, allow_inner: bool) -> Result<CheckedSettings, String> {
        let checked = self.read()?;
        if let Some(url) = &checked.url {
            outbound::check_url(url, allow_inner, ALLOW_INNER)
                .map_err(|rule| format!("url {rule}"))?;
        }
        if checked.format == WebhookFormat::Standard && checked.is_batched {
            return Err(
                "batch must be false with the format standard, whose requests have one event each"
                    .into(),
            );
        }
        check_reach(&checked.events, &checked.channels)?;
        Ok(checked)
    }

    /// Reads the settings, without the rules that depend on the node or on each other.
    fn read(&self) -> Result<CheckedSettings, String> {
        Ok(CheckedSettings {
            url: self.url.map(parse_url).transpose()?,
            events: parse_events(self.events)?,
            channels: parse_patterns(self.channels)?,
            format: self.format,
            is_batched: self.is_batched,
            headers: parse_headers(self.headers)?,
        })
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    if text.len() > MAX_URL {
        return Err(format!(
            "url must have at most {MAX_URL} bytes, it has {}",
            text.len()
        ));
    }
    let url: Url = text.parse().map_err(|error| {
        format!("url must be an address such as https://example.com/hook: {error}")
    })?;
    if url.fragment().is_some() {
        return Err("url must have no # in it: what follows is never sent".into());
    }
    Ok(url)
}

fn parse_events(names: Option<&[String]>) -> Result<Vec<WebhookEvent>, String> {
    let Some(names) = names else {
        return Ok(Vec::new());
    };
    if names.is_empty() {
        return Err("events must name at least one event; leave it out for all".into());
    }
    let mut events = Vec::new();
    for name in names {
        let all = WebhookEvent::ALL.map(WebhookEvent::as_str);
        let event = name.parse().map_err(|()| {
            let hint = match nearest(name, all.into_iter()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("there are {}", all.join(", ")),
            };
            format!("events: no event is called {name:?}; {hint}")
        })?;
        if events.contains(&event) {
            return Err(format!("events must name {event} once"));
        }
        events.push(event);
    }
    Ok(events)
}

fn parse_patterns(texts: &[String]) -> Result<Vec<ChannelPattern>, String> {
    if texts.len() > MAX_PATTERNS {
        return Err(format!(
            "channels must have at most {MAX_PATTERNS} patterns, there are {}",
            texts.len()
        ));
    }
    texts
        .iter()
        .map(|text| ChannelPattern::parse(text).map_err(|invalid| invalid.to_string()))
        .collect()
}

fn parse_headers(pairs: &[(String, String)]) -> Result<HeaderMap, String> {
    if pairs.len() > MAX_HEADERS {
        return Err(format!(
            "headers must be at most {MAX_HEADERS}, there are {}",
            pairs.len()
        ));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let parsed: HeaderName = name
            .parse()
            .map_err(|_| format!("headers: {name:?} is not possible as the name of a header"))?;
        let lower = parsed.as_str();
        if RESERVED_HEADERS.contains(&lower)
            || RESERVED_PREFIXES
                .iter()
                .any(|prefix| lower.starts_with(prefix))
        {
            return Err(format!(
                "headers: {name} is set by Fanfare or by the connection; take another name"
            ));
        }
        // The value isn't repeated, because it may be a secret.
        let is_visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        let is_possible = value.len() <= MAX_HEADER_VALUE && value.bytes().all(is_visible);
        let mut value = HeaderValue::from_str(value)
            .ok()
            .filter(|_| is_possible)
            .ok_or_else(|| {
                format!(
                    "headers: the value of {name} must be visible ASCII characters and spaces, at most {MAX_HEADER_VALUE} bytes"
                )
            })?;
        value.set_sensitive(true);
        if headers.insert(parsed, value).is_some() {
            return Err(format!("headers must name {name} once"));
        }
    }
    Ok(headers)
}

/// Checks that each event can happen on a channel that matches a pattern, and that each pattern has such an event: a
/// filter that nothing passes would be silent for ever.
fn check_reach(events: &[WebhookEvent], channels: &[ChannelPattern]) -> Result<(), String> {
    if channels.is_empty() {
        return Ok(());
    }
    let all = WebhookEvent::ALL;
    let wanted = if events.is_empty() { &all[..] } else { events };
    for pattern in channels {
        if !wanted.iter().any(|event| event.can_happen_on(pattern)) {
            let names: Vec<_> = wanted.iter().map(|event| event.as_str()).collect();
            return Err(format!(
                "channels: none of {} ever happens on a channel that matches {:?}; leave it out, or add events",
                names.join(", "),
                pattern.as_str()
            ));
        }
    }
    for event in events {
        if !channels.iter().any(|pattern| event.can_happen_on(pattern)) {
            return Err(format!(
                "events: {event} never happens on a channel that the patterns match; leave it out, or add channels"
            ));
        }
    }
    Ok(())
}

/// A signing secret.
#[derive(Clone)]
struct HookSecret {
    key: Vec<u8>,
    /// Until when it signs, Unix time in milliseconds; `None` for ever.
    expires_at: Option<i64>,
}

/// A webhook.
pub(crate) struct Hook {
    pub(crate) id: String,
    pub(crate) app: AppId,
    pub(crate) name: String,
    pub(crate) state: WebhookState,
    /// Unix time in milliseconds.
    pub(super) updated_at: i64,
    settings: CheckedSettings,
    secrets: Vec<HookSecret>,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hook").field(&self.id).finish()
    }
}

impl Hook {
    /// Returns a webhook as it was stored: rules that an earlier version didn't have don't count.
    ///
    /// # Errors
    ///
    /// Returns a text with the setting that can't be read.
    pub(crate) fn new(record: WebhookRecord) -> Result<Self, String> {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|header| (header.name.clone(), header.value.expose_secret().into()))
            .collect();
        let settings = HookSettings {
            url: record.url.as_deref(),
            events: record.events.as_deref(),
            channels: &record.channels,
            format: record.format,
            is_batched: record.is_batched,
            headers: &headers,
        };
        let settings = settings.read()?;
        let secrets = record.secrets.iter().filter_map(|secret| {
            Some(HookSecret {
                key: webhook_secret_bytes(secret.secret.expose_secret())?,
                expires_at: secret.expires_at,
            })
        });
        Ok(Self {
            app: AppId::parse(&record.app_id).map_err(|error| error.to_string())?,
            state: record.state,
            updated_at: record.updated_at,
            settings,
            secrets: secrets.collect(),
            id: record.id,
            name: record.name,
        })
    }

    /// Returns where its requests are sent, unless its receiver asks for them.
    pub(crate) fn url(&self) -> Option<&Url> {
        self.settings.url.as_ref()
    }

    pub(crate) fn format(&self) -> WebhookFormat {
        self.settings.format
    }

    /// Returns whether a request may have several events.
    pub(crate) fn is_batched(&self) -> bool {
        self.settings.is_batched
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.settings.headers
    }

    /// Returns the keys of its secrets that sign at `now`, Unix time in milliseconds.
    pub(crate) fn signing_keys(&self, now: i64) -> impl Iterator<Item = &[u8]> {
        let live = move |secret: &&HookSecret| secret.expires_at.is_none_or(|at| now < at);
        self.secrets
            .iter()
            .filter(live)
            .map(|secret| secret.key.as_slice())
    }

    /// Returns whether it tells of an event at all.
    pub(crate) fn tells_of(&self, event: WebhookEvent) -> bool {
        self.settings.events.is_empty() || self.settings.events.contains(&event)
    }

    /// Returns whether it tells of an event on a channel.
    pub(crate) fn wants(&self, event: WebhookEvent, channel: &str) -> bool {
        let patterns = &self.settings.channels;
        self.tells_of(event)
            && (patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(channel)))
    }
}

/// The webhooks of an app.
#[derive(Debug, Default)]
pub(crate) struct AppHooks {
    hooks: Vec<Arc<Hook>>,
}

impl AppHooks {
    pub(crate) fn new(hooks: Vec<Hook>) -> Self {
        let hooks = hooks.into_iter().map(Arc::new).collect();
        Self { hooks }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Hook>> {
        self.hooks.iter()
    }

    /// Returns whether one of them tells of an event at all.
    pub(crate) fn tell_of(&self, event: WebhookEvent) -> bool {
        self.hooks.iter().any(|hook| hook.tells_of(event))
    }

    /// Returns whether one of them tells of an event on a channel.
    pub(crate) fn want(&self, event: WebhookEvent, channel: &str) -> bool {
        self.hooks.iter().any(|hook| hook.wants(event, channel))
    }

    /// Returns what the engine is to tell of.
    pub(crate) fn wanted_notices(&self) -> WantedNotices {
        let wants = |event| self.tell_of(event);
        WantedNotices {
            channels: wants(WebhookEvent::ChannelOccupied) || wants(WebhookEvent::ChannelVacated),
            members: wants(WebhookEvent::MemberAdded) || wants(WebhookEvent::MemberRemoved),
            client_events: wants(WebhookEvent::ClientEvent),
            cache_misses: wants(WebhookEvent::CacheMiss),
            subscription_counts: wants(WebhookEvent::SubscriptionCount),
        }
    }

    /// Returns whether one of them tells of what is in the log of transitions.
    pub(crate) fn want_transitions(&self) -> bool {
        let wanted = self.wanted_notices();
        wanted.channels || wanted.members
    }

    /// Returns whether the events of a pass may be sent together.
    pub(crate) fn are_batched(&self) -> bool {
        self.hooks.iter().any(|hook| hook.is_batched())
    }
}

/// The webhooks of all apps. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hooks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directory: ArcSwap<Directory>,
    /// Held while the directory is replaced.
    writer: Mutex<()>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default, Clone)]
struct Directory {
    by_app: HashMap<AppId, Arc<AppHooks>>,
    by_id: HashMap<String, Arc<Hook>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            directory: ArcSwap::default(),
            writer: Mutex::default(),
            changes: watch::channel(0).0,
        }
    }
}

impl Hooks {
    /// Replaces the webhooks of apps. Those of a deleted app are none.
    pub(crate) fn set(&self, changed: impl IntoIterator<Item = (AppId, AppHooks)>) {
        let writer = self.0.writer.lock();
        let mut directory = Directory::clone(&self.0.directory.load());
        for (app, hooks) in changed {
            if let Some(before) = directory.by_app.remove(&app) {
                for hook in before.iter() {
                    directory.by_id.remove(&hook.id);
                }
            }
            if hooks.hooks.is_empty() {
                continue;
            }
            let of_app = hooks.iter().map(|hook| (hook.id.clone(), Arc::clone(hook)));
            directory.by_id.extend(of_app);
            directory.by_app.insert(app, Arc::new(hooks));
        }
        self.0.directory.store(Arc::new(directory));
        drop(writer);
        self.0.changes.send_modify(|changes| *changes += 1);
    }

    /// Returns the webhooks of an app, if it has any.
    pub(crate) fn of(&self, app: &AppId) -> Option<Arc<AppHooks>> {
        self.0.directory.load().by_app.get(app).cloned()
    }

    /// Returns a webhook.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Hook>> {
        self.0.directory.load().by_id.get(id).cloned()
    }

    /// Returns the apps that have webhooks.
    pub(crate) fn apps(&self) -> Vec<(AppId, Arc<AppHooks>)> {
        let directory = self.0.directory.load();
        let apps = directory.by_app.iter();
        apps.map(|(app, hooks)| (app.clone(), Arc::clone(hooks)))
            .collect()
    }

    /// Returns the webhooks in a state.
    pub(crate) fn in_state(&self, state: WebhookState) -> Vec<Arc<Hook>> {
        let directory = self.0.directory.load();
        let hooks = directory.by_id.values();
        hooks.filter(|hook| hook.state == state).cloned().collect()
    }

    /// Returns a receiver that sees each change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use fanfare_store::WEBHOOK_EVENTS;

    use super::super::testing::{hook_of, webhook};
    use super::*;

    fn settings<'a>() -> HookSettings<'a> {
        HookSettings {
            url: Some("https://example.com/hook"),
            events: None,
            channels: &[],
            format: WebhookFormat::Pusher,
            is_batched: false,
            headers: &[],
        }
    }

    fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
        texts.map(Into::into).into()
    }

    fn refused(settings: HookSettings<'_>) -> String {
        settings.check(false).expect_err("refused")
    }

    fn hook(id: &str, settings: HookSettings<'_>) -> Hook {
        hook_of(WebhookRecord {
            url: settings.url.map(Into::into),
            events: settings.events.map(<[_]>::to_vec),
            channels: settings.channels.to_vec(),
            format: settings.format,
            is_batched: settings.is_batched,
            ..webhook(id)
        })
    }

    #[test]
    fn the_store_knows_the_same_events() {
        assert_eq!(WEBHOOK_EVENTS, WebhookEvent::ALL.map(WebhookEvent::as_str));
    }

    #[test]
    fn a_webhook_tells_of_its_events_on_its_channels() {
        let (events, channels) = (
            texts(["member_added", "channel_occupied"]),
            texts(["presence-room-*", "news"]),
        );
        let hook = hook(
            "wh_1",
            HookSettings {
                events: Some(&events),
                channels: &channels,
                ..settings()
            },
        );
        for (event, channel, wanted) in [
            (WebhookEvent::MemberAdded, "presence-room-1", true),
            (WebhookEvent::MemberAdded, "presence-hall", false),
            (WebhookEvent::MemberRemoved, "presence-room-1", false),
            (WebhookEvent::ChannelOccupied, "news", true),
            (WebhookEvent::ChannelOccupied, "newspaper", false),
        ] {
            assert_eq!(hook.wants(event, channel), wanted, "{event} {channel}");
        }
    }

    #[test]
    fn without_filters_it_tells_of_everything() {
        let hook = hook("wh_1", settings());
        for event in WebhookEvent::ALL {
            assert!(hook.wants(event, "presence-x"));
        }
    }

    #[test]
    fn what_could_never_be_told_is_refused_with_the_reason() {
        let (private, presence, added) = (
            texts(["private-*"]),
            texts(["presence-*"]),
            texts(["member_added"]),
        );
        let both = texts(["member_added", "channel_occupied"]);
        let cases = [
            (
                Some(&added),
                &private,
                "ever happens on a channel that matches \"private-*\"",
            ),
            (Some(&both), &private, "member_added never happens"),
        ];
        for (events, channels, reason) in cases {
            let error = refused(HookSettings {
                events: events.map(Vec::as_slice),
                channels,
                ..settings()
            });
            assert!(error.contains(reason), "{error}");
        }
        for events in [None, Some(&both)] {
            let settings = HookSettings {
                events: events.map(Vec::as_slice),
                channels: &presence,
                ..settings()
            };
            assert!(settings.check(false).is_ok());
        }
        let of_users = texts(["#server-to-user-*"]);
        let error = refused(HookSettings {
            channels: &of_users,
            ..settings()
        });
        assert!(error.contains("#server-to-user-*"), "{error}");
        let impossible = texts(["a b"]);
        let error = refused(HookSettings {
            channels: &impossible,
            ..settings()
        });
        assert!(error.contains("no channel matches \"a b\""), "{error}");
    }

    #[test]
    fn events_are_named_right_and_once() {
        for (names, reason) in [
            (texts(["channel_ocupied"]), "did you mean channel_occupied?"),
            (texts(["x"]), "there are channel_occupied, channel_vacated"),
            (texts(["cache_miss", "cache_miss"]), "name cache_miss once"),
            (Vec::new(), "leave it out for all"),
        ] {
            let error = refused(HookSettings {
                events: Some(&names),
                ..settings()
            });
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_standard_webhook_has_one_event_in_a_request() {
        let error = refused(HookSettings {
            format: WebhookFormat::Standard,
            is_batched: true,
            ..settings()
        });
        assert!(error.contains("batch must be false"), "{error}");
    }

    #[test]
    fn an_address_leads_outwards_unless_that_is_allowed() {
        for (url, reason) in [
            ("example.com/hook", "must be an address such as"),
            ("http://example.com/hook", "must start with https://"),
            ("https://127.0.0.1/", ALLOW_INNER),
            ("https://user:pass@example.com/", "a user or a password"),
            ("https://example.com/#x", "no # in it"),
        ] {
            let error = refused(HookSettings {
                url: Some(url),
                ..settings()
            });
            assert!(
                error.starts_with("url ") && error.contains(reason),
                "{error}"
            );
        }
        let inner = HookSettings {
            url: Some("http://127.0.0.1:3000/"),
            ..settings()
        };
        assert!(inner.check(true).is_ok());
        let pulled = HookSettings {
            url: None,
            ..settings()
        };
        assert!(pulled.check(false).is_ok());
    }

    #[test]
    fn headers_of_its_own_are_none_of_fanfares() {
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let check = |headers: &[(String, String)]| {
            HookSettings {
                headers,
                ..settings()
            }
            .check(false)
        };
        assert!(check(&pair("Authorization", "Bearer x")).is_ok());
        let longest = "x".repeat(MAX_HEADER_VALUE);
        assert!(check(&pair("X-Long", &longest)).is_ok());
        assert!(check(&pair("X-Long", &format!("{longest}x"))).is_err());
        for (name, value, reason) in [
            ("X-Pusher-Key", "k", "set by Fanfare"),
            ("content-type", "text/plain", "set by Fanfare"),
            ("Fanfare-Sequence", "1", "set by Fanfare"),
            ("webhook-id", "1", "set by Fanfare"),
            ("a b", "1", "not possible as the name"),
            (
                "X-Secret",
                "a\r\nb",
                "the value of X-Secret must be visible",
            ),
            ("X-Name", "caf\u{e9}", "the value of X-Name must be visible"),
            ("X-Tab", "a\tb", "the value of X-Tab must be visible"),
        ] {
            let error = check(&pair(name, value)).expect_err("refused");
            assert!(error.contains(reason), "{error}");
        }
        let twice = [pair("X-A", "1"), pair("x-a", "2")].concat();
        assert!(check(&twice).expect_err("twice").contains("once"));
        let shown = format!("{:?}", check(&pair("X-A", "top-secret")).expect("headers"));
        assert!(!shown.contains("top-secret"), "{shown}");
    }

    #[test]
    fn secrets_sign_until_they_expire() {
        let secret = |byte: u8, expires_at| HookSecret {
            key: vec![byte; 24],
            expires_at,
        };
        let hook = Hook {
            secrets: vec![secret(1, Some(1000)), secret(2, None)],
            ..hook("wh_1", settings())
        };
        let signing = |now| hook.signing_keys(now).map(|key| key[0]).collect::<Vec<_>>();
        assert_eq!(signing(999), [1, 2]);
        assert_eq!(signing(1000), [2]);
    }

    #[tokio::test]
    async fn the_webhooks_of_an_app_are_replaced_together() {
        let hooks = Hooks::default();
        let mut changes = hooks.changes();
        let app = AppId::parse("1").expect("an id");
        let two = AppHooks::new(vec![hook("wh_1", settings()), hook("wh_2", settings())]);
        hooks.set([(app.clone(), two)]);
        assert!(changes.has_changed().expect("open"));
        assert!(hooks.get("wh_1").is_some() && hooks.get("wh_2").is_some());
        changes.mark_unchanged();
        hooks.set([(app.clone(), AppHooks::new(vec![hook("wh_2", settings())]))]);
        assert!(hooks.get("wh_1").is_none() && hooks.get("wh_2").is_some());
        hooks.set([(app.clone(), AppHooks::default())]);
        assert!(hooks.of(&app).is_none() && hooks.apps().is_empty());
        assert!(hooks.get("wh_2").is_none());
    }
}
