//! Refusals of clients and backends, for the operator: the first of a kind and app is logged at
//! once, repetitions are counted and logged once a minute. A flood therefore costs a line a minute,
//! and an operator still sees a wrong secret or a forbidden origin at the default log level.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{CloseCode, SocketId};
use parking_lot::Mutex;

/// How often repetitions are logged.
pub const REFUSALS_LOG_PERIOD: Duration = Duration::from_secs(60);
/// Most pairs of kind and app that are remembered; further apps share one entry of each kind.
const MAX_ENTRIES: usize = 4096;
/// Most bytes of a reason that are logged, because it quotes a client's text.
const MAX_REASON: usize = 500;

/// What was refused. The texts are the `kind` of a log line, listed in `docs/errors.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// A connection; the close code says why.
    Connection(CloseCode),
    /// An invalid WebSocket handshake.
    Handshake,
    /// A subscription without a valid signature.
    SubscriptionAuth,
    /// A subscription for another reason.
    Subscription,
    /// A sign-in of a user.
    UserSignIn,
    /// An event of a client.
    ClientEvent,
    /// A frame that isn't a message of the protocol.
    Message,
    /// A request of a fallback session that does not exist.
    FallbackSession,
    /// A frame or body of a fallback session.
    FallbackBody,
    /// A request of a backend with a wrong signature, or without one.
    ApiSignature,
    /// A request of a backend whose clock is off.
    ApiTimestamp,
    /// A request of a backend with a key that isn't the app's, or for an app that does not exist.
    ApiKey,
    /// An invalid request of a backend.
    ApiRequest,
    /// A request of a backend beyond a limit of rate or size, or a quota.
    ApiLimit,
    /// A request with an end user's token.
    UserToken,
    /// A request of a web page of another origin.
    Origin,
    /// A request for a path or with a method that does not exist.
    Path,
    /// A sign-in of an operator.
    OperatorSignIn,
    /// A request of the admin API without a valid token.
    OperatorToken,
    /// A request of the admin API beyond the caller's rights.
    OperatorRights,
    /// TLS at a port that speaks plain HTTP.
    TlsHello,
    /// Plain HTTP at a port that speaks TLS.
    PlainHttp,
    /// Other bytes that are not HTTP.
    NotHttp,
    /// A header of the PROXY protocol that isn't read.
    UnreadProxyHeader,
    /// A proxy's connection without a valid header of the PROXY protocol.
    ProxyHeader,
}

impl RefusalKind {
    /// Returns the `kind` in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection(code) => match code {
                CloseCode::UnknownApp => "unknown_key",
                CloseCode::AppDisabled => "disabled_app",
                CloseCode::OverQuota => "connection_quota",
                CloseCode::PathNotFound => "websocket_path",
                CloseCode::UnsupportedProtocol | CloseCode::NoProtocol => "protocol_version",
                CloseCode::TlsOnly => "tls_only",
                CloseCode::Unauthorized => "connection_origin_or_key",
                _ => "connection",
            },
            Self::Handshake => "handshake",
            Self::SubscriptionAuth => "subscription_auth",
            Self::Subscription => "subscription",
            Self::UserSignIn => "user_sign_in",
            Self::ClientEvent => "client_event",
            Self::Message => "message",
            Self::FallbackSession => "fallback_session",
            Self::FallbackBody => "fallback_body",
            Self::ApiSignature => "api_signature",
            Self::ApiTimestamp => "api_timestamp",
            Self::ApiKey => "api_key",
            Self::ApiRequest => "api_request",
            Self::ApiLimit => "api_limit",
            Self::UserToken => "user_token",
            Self::Origin => "origin",
            Self::Path => "path",
            Self::OperatorSignIn => "operator_sign_in",
            Self::OperatorToken => "operator_token",
            Self::OperatorRights => "operator_rights",
            Self::TlsHello => "tls_hello",
            Self::PlainHttp => "plain_http",
            Self::NotHttp => "not_http",
            Self::UnreadProxyHeader => "unread_proxy_header",
            Self::ProxyHeader => "proxy_header",
        }
    }
}

/// One refusal.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// What was refused.
    pub kind: RefusalKind,
    /// The id of the app, if it exists: an entry is kept for each.
    pub app: Option<&'a str>,
    /// The client's network address, where it is known.
    pub address: Option<IpAddr>,
    /// What the client was told.
    pub reason: &'a str,
}

/// What is known of the client that was refused, for those who watch its app.
#[derive(Debug, Clone, Copy, Default)]
pub struct RefusedClient<'a> {
    /// Its connection.
    pub socket_id: Option<SocketId>,
    /// Its user.
    pub user_id: Option<&'a str>,
    /// The key that it uses.
    pub key: Option<&'a str>,
    /// The channel that it asked for.
    pub channel: Option<&'a str>,
    /// The name of the event that it sent.
    pub event: Option<&'a str>,
}

/// Receives each refusal, for those who watch the app.
pub(crate) trait RefusalSink: Send + Sync + fmt::Debug + 'static {
    /// Receives a refusal of an app's client or backend.
    fn refused(&self, app: &str, refused: Refused<'_>, client: RefusedClient<'_>);
}

/// Counts refusals. Costs nothing while nothing is refused.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: Mutex<Counts>,
    sink: Option<Arc<dyn RefusalSink>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Refusals by kind and app since the last line about them.
    kinds: HashMap<&'static str, HashMap<String, Entry>>,
    /// All refusals of each kind since the node's start.
    totals: BTreeMap<&'static str, u64>,
    /// Refusals of each app by kind since usage was taken. Those without an app, and of apps for which there is no
    /// entry left, have an empty id.
    untaken: HashMap<String, BTreeMap<&'static str, u64>>,
}

impl Counts {
    /// Counts a refusal for usage.
    fn count_untaken(&mut self, kind: &'static str, app: Option<&str>) {
        let mut app = app.unwrap_or_default();
        if self.untaken.len() >= MAX_ENTRIES && !self.untaken.contains_key(app) {
            app = "";
        }
        if let Some(kinds) = self.untaken.get_mut(app) {
            *kinds.entry(kind).or_default() += 1;
        } else {
            self.untaken
                .insert(app.to_owned(), BTreeMap::from([(kind, 1)]));
        }
    }
}

/// Refusals of one kind and app since the last line about them.
#[derive(Debug, Default)]
struct Entry {
    more: u64,
    /// The address of the first refusal that was counted and not logged.
    address: Option<IpAddr>,
    reason: String,
}

/// Repetitions of one kind and app.
#[derive(Debug, PartialEq, Eq)]
struct Repeated {
    kind: &'static str,
    app: Option<String>,
    more: u64,
    address: Option<IpAddr>,
    reason: String,
}

impl Refusals {
    pub(crate) fn new(sink: Arc<dyn RefusalSink>) -> Self {
        Self {
            counts: Mutex::default(),
            sink: Some(sink),
        }
    }

    /// Logs a refusal, or counts it if one of this kind and app was logged within the last minute.
    pub fn note(&self, refused: Refused<'_>) {
        self.note_client(refused, RefusedClient::default());
    }

    /// Logs or counts a refusal as [`Self::note`] does. Those who watch the app see also what is known of
    /// the client.
    pub fn note_client(&self, refused: Refused<'_>, client: RefusedClient<'_>) {
        if let (Some(sink), Some(app)) = (&self.sink, refused.app) {
            sink.refused(app, refused, client);
        }
        if !self.is_first(refused) {
            return;
        }
        let Refused {
            kind, app, address, ..
        } = refused;
        let (kind, reason) = (kind.as_str(), cut(refused.reason));
        tracing::info!(
            kind,
            app,
            address = address.map(tracing::field::display),
            reason,
            "refused a client or request"
        );
    }

    /// Returns the number of refusals of each kind since the node's start.
    #[must_use]
    pub fn totals(&self) -> Vec<(&'static str, u64)> {
        let counts = self.counts.lock();
        counts
            .totals
            .iter()
            .map(|(kind, count)| (*kind, *count))
            .collect()
    }

    /// Returns the refusals of each app by kind since the last call; those that belong to no app have an empty id.
    pub(crate) fn take_by_app(&self) -> HashMap<String, BTreeMap<&'static str, u64>> {
        std::mem::take(&mut self.counts.lock().untaken)
    }

    /// Logs what was counted, and drops entries without repetitions. Called every
    /// [`REFUSALS_LOG_PERIOD`].
    pub fn log_repeated(&self) {
        for repeated in self.take_repeated() {
            let Repeated {
                kind,
                app,
                more,
                address,
                reason,
            } = repeated;
            tracing::info!(
                kind,
                app,
                address = address.map(tracing::field::display),
                reason,
                more,
                "refused more clients or requests of this kind within a minute"
            );
        }
    }

    fn is_first(&self, refused: Refused<'_>) -> bool {
        let counts = &mut *self.counts.lock();
        counts.count_untaken(refused.kind.as_str(), refused.app);
        let Counts { kinds, totals, .. } = counts;
        *totals.entry(refused.kind.as_str()).or_default() += 1;
        let entries: usize = kinds.values().map(HashMap::len).sum();
        let apps = kinds.entry(refused.kind.as_str()).or_default();
        let mut app = refused.app.unwrap_or_default();
        if entries >= MAX_ENTRIES && !apps.contains_key(app) {
            app = "";
        }
        let Some(entry) = apps.get_mut(app) else {
            apps.insert(app.to_owned(), Entry::default());
            return true;
        };
        if entry.more == 0 {
            entry.address = refused.address;
            cut(refused.reason).clone_into(&mut entry.reason);
        }
        entry.more += 1;
        false
    }

    fn take_repeated(&self) -> Vec<Repeated> {
        let mut repeated = Vec::new();
        for (kind, apps) in &mut self.counts.lock().kinds {
            apps.retain(|app, entry| {
                if entry.more == 0 {
                    return false;
                }
                repeated.push(Repeated {
                    kind,
                    app: (!app.is_empty()).then(|| app.clone()),
                    more: std::mem::take(&mut entry.more),
                    address: entry.address,
                    reason: std::mem::take(&mut entry.reason),
                });
                true
            });
        }
        repeated.sort_by(|a, b| (a.kind, &a.app).cmp(&(b.kind, &b.app)));
        repeated
    }
}

fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<'a>(kind: RefusalKind, app: &'a str, reason: &'a str) -> Refused<'a> {
        Refused {
            kind,
            app: Some(app),
            address: "192.0.2.1".parse().ok(),
            reason,
        }
    }

    #[test]
    fn the_first_of_a_kind_and_app_is_logged_at_once_and_the_others_are_counted() {
        let refusals = Refusals::default();
        let origin = |app| refused(RefusalKind::Origin, app, "Origin x");
        assert!(refusals.is_first(origin("a")));
        assert!(refusals.is_first(origin("b")), "another app");
        assert!(
            refusals.is_first(refused(RefusalKind::Path, "a", "")),
            "another kind"
        );
        for _ in 0..1203 {
            assert!(!refusals.is_first(origin("a")));
        }
        let repeated = refusals.take_repeated();
        assert_eq!(repeated.len(), 1, "{repeated:?}");
        assert_eq!((repeated[0].kind, repeated[0].more), ("origin", 1203));
        assert_eq!(repeated[0].app.as_deref(), Some("a"));
        assert_eq!(repeated[0].reason, "Origin x");
        assert_eq!(refusals.take_repeated(), [], "a quiet minute");
        assert_eq!(refusals.totals(), [("origin", 1205), ("path", 1)]);
        assert!(refusals.is_first(origin("a")), "after a quiet minute");
    }

    #[test]
    fn memory_is_bounded_whatever_is_refused() {
        let refusals = Refusals::default();
        let long = "é".repeat(100_000);
        for app in 0..MAX_ENTRIES + 1000 {
            let app = app.to_string();
            refusals.is_first(refused(RefusalKind::ApiSignature, &app, &long));
            refusals.is_first(refused(RefusalKind::ApiSignature, &app, &long));
        }
        let repeated = refusals.take_repeated();
        assert_eq!(repeated.len(), MAX_ENTRIES + 1);
        assert!(repeated.iter().all(|one| one.reason.len() <= MAX_REASON));
        let shared = &repeated[0];
        assert_eq!((shared.app.as_deref(), shared.more), (None, 1999));
    }
}
