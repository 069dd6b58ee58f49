//! The channels that a client's URL names, and what opens those that aren't public: a token of the app's identity
//! provider, or the signature of the app's backend (docs/any-client.md#private-channels).

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use fanfare_engine::{App, Session};
use fanfare_protocol::client::Subscribe;
use fanfare_protocol::identity::Claims;
use fanfare_protocol::presence::Member;
use fanfare_protocol::signature::{SigningKey, channel_auth_text};
use fanfare_protocol::signed_url::SignedUrl;
use fanfare_protocol::{ChannelKind, ChannelName, HistoryPosition, Recover, SocketId, excerpt};

use crate::app_state::AppState;
use crate::clock::unix_seconds;
use crate::http::error::ApiError;
use crate::http::headers;
use crate::identity::CompiledIdentity;

/// The parameters of a client's URL. The first of a name counts.
#[derive(Debug, Default)]
pub(crate) struct UrlQuery {
    pub(crate) channels: Option<String>,
    /// The only channel of a raw WebSocket.
    pub(crate) raw: Option<String>,
    /// Whether data is the whole message.
    pub(crate) enveloped: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) version: Option<String>,
    rewind: Option<String>,
    last_event_id: Option<String>,
    token: Option<String>,
    channel_data: Option<String>,
}

impl UrlQuery {
    /// Reads a query. What stands behind the signature of a signed one counts only where it gives no rights.
    pub(crate) fn parse(query: &str) -> Self {
        let mut read = Self::default();
        let (signed, added) = match SignedUrl::split(query) {
            Some(split) => (split.signed, split.added),
            None => (query, ""),
        };
        read.take(signed, true);
        read.take(added, false);
        read
    }

    /// Reads the query of a backend's request. All of it is signed, wherever its signature stands.
    pub(crate) fn of_backend(query: &str) -> Self {
        let mut read = Self::default();
        read.take(query, true);
        read
    }

    fn take(&mut self, query: &str, gives_rights: bool) {
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap_or_default();
        for (name, value) in pairs {
            let parameter = match &*name {
                "rewind" => &mut self.rewind,
                // The second is the name that npm event-source-polyfill gives it.
                "last_event_id" | "lastEventId" => &mut self.last_event_id,
                "client" => &mut self.client,
                "version" => &mut self.version,
                "channels" if gives_rights => &mut self.channels,
                "raw" if gives_rights => &mut self.raw,
                "enveloped" if gives_rights => &mut self.enveloped,
                "token" if gives_rights => &mut self.token,
                "channel_data" if gives_rights => &mut self.channel_data,
                _ => continue,
            };
            parameter.get_or_insert(value);
        }
    }

    fn rewind(&self) -> Result<Option<usize>, ApiError> {
        let Some(rewind) = &self.rewind else {
            return Ok(None);
        };
        rewind.parse().map(Some).map_err(|_| {
            let sent = excerpt(rewind);
            bad_request(format!("rewind must be a number of events, it is {sent:?}"))
        })
    }
}

/// The request of a client.
pub(crate) struct UrlRequest<'a> {
    /// Its path below the server's prefix, as it is signed.
    pub(crate) path: &'a str,
    /// Its query as on the wire.
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    /// Whether it is a backend's own, whose signature was verified.
    pub(crate) is_backend: bool,
    /// Whether the client may name no channel, and subscribe and be authorized later.
    pub(crate) subscribes_later: bool,
    /// The address whose network waits for its answers once many of its credentials were wrong.
    pub(crate) charged_address: Option<IpAddr>,
}

/// The subscriptions of a URL, each allowed.
pub(crate) struct UrlSubscriptions {
    key: String,
    signing: SigningKey,
    wanted: VecDeque<Wanted>,
    rewind: Option<usize>,
    /// Whether the client names positions that it had.
    is_returning: bool,
    /// Whether the client sees no positions.
    is_raw: bool,
}

struct Wanted {
    channel: ChannelName,
    /// Whether the server signs the subscription for the client, and for which member.
    signed: Option<Option<String>>,
    /// The position that the client has reached.
    position: Option<HistoryPosition>,
    keeps_history: bool,
}

impl UrlSubscriptions {
    /// Checks which channels a client asks for, and that it may have them. Waits for keys of the identity provider.
    ///
    /// # Errors
    ///
    /// Returns what the client is told: 503 if it may try again.
    pub(crate) async fn of(
        state: &AppState,
        app: &Arc<App>,
        key: &str,
        query: &UrlQuery,
        request: &UrlRequest<'_>,
    ) -> Result<Self, ApiError> {
        let signing = app
            .signing_key(key)
            .ok_or_else(|| ApiError::new(404, format!("{:?} isn't an active key", excerpt(key))))?;
        let rewind = query.rewind()?;
        let names = channel_names(query);
        if names.is_empty() && !request.subscribes_later {
            let message = "Missing parameter: channels, the names of channels, separated by commas";
            return Err(bad_request(message));
        }
        let credential = match Credential::of(state, app, &signing, query, request).await {
            Ok(credential) => credential,
            Err(error) => {
                state.unauthenticated.wait(request.charged_address).await;
                return Err(error);
            }
        };
        let last = headers::combined(request.headers, "last-event-id");
        let last = last.filter(|last| !last.is_empty());
        let last = last.as_ref().or(query.last_event_id.as_ref());
        let mut wanted: VecDeque<Wanted> = VecDeque::with_capacity(names.len());
        for name in names {
            let channel = ChannelName::parse(name, app.settings().limits.channel_name)
                .map_err(|error| bad_request(error.to_string()))?;
            wanted.push_back(Wanted {
                signed: credential.open(app, &channel)?,
                position: last.and_then(|last| position_in(last, name)),
                keeps_history: app.retention(&channel).is_some(),
                channel,
            });
        }
        let is_signed = wanted.iter().any(|wanted| wanted.signed.is_some());
        if app.settings().authorized_connections && !is_signed && !request.subscribes_later {
            let message = "The app takes authorized connections only: name a private or presence channel, with a token or a \
                           signed URL";
            return Err(ApiError::new(403, message));
        }
        Ok(Self {
            key: key.to_owned(),
            signing,
            wanted,
            rewind,
            is_returning: last.is_some(),
            is_raw: query.raw.is_some(),
        })
    }

    /// Returns how many of the channels keep a history.
    pub(crate) fn with_history(&self) -> usize {
        self.wanted
            .iter()
            .filter(|wanted| wanted.keeps_history)
            .count()
    }

    /// Subscribes a connection to the channels, one after the other.
    pub(crate) async fn subscribe(mut self, session: &Session) {
        while let Some(request) = self.next(session.socket_id()) {
            session.subscribe_from_url(&request).await;
            session.flush();
        }
    }

    /// Takes the next of the subscriptions, signed for a connection if it needs that.
    pub(crate) fn next(&mut self, socket_id: SocketId) -> Option<Subscribe<'static>> {
        let wanted = self.wanted.pop_front()?;
        let recover = match (wanted.position, self.is_returning) {
            (None, true) if !wanted.keeps_history => Recover::Start,
            (position, true) => Recover::From {
                position,
                socket_id: None,
            },
            (_, false) => Recover::Start,
        };
        let channel = wanted.channel.as_str();
        let signed = wanted.signed.as_ref();
        let auth = signed.map(|data| self.sign(socket_id, channel, data.as_deref()).into());
        let asks_nothing = self.is_raw && self.rewind.is_none();
        Some(Subscribe {
            channel: channel.to_owned().into(),
            auth,
            channel_data: wanted.signed.flatten().map(Into::into),
            recover: (!asks_nothing).then_some(recover),
            rewind: self.rewind,
        })
    }

    fn sign(&self, socket_id: SocketId, channel: &str, channel_data: Option<&str>) -> String {
        let text = channel_auth_text(socket_id, channel, channel_data);
        format!("{}:{}", self.key, self.signing.sign(&text))
    }
}

/// What a client shows to get channels that aren't public.
enum Credential {
    None,
    Token(Arc<CompiledIdentity>, Claims),
    /// The backend has signed the URL, for a member if it names presence channels.
    Signed(Option<String>),
}

impl Credential {
    async fn of(
        state: &AppState,
        app: &Arc<App>,
        signing: &SigningKey,
        query: &UrlQuery,
        request: &UrlRequest<'_>,
    ) -> Result<Self, ApiError> {
        if request.is_backend {
            return Ok(Self::Signed(query.channel_data.clone()));
        }
        if let Some(signed) = SignedUrl::split(request.query) {
            let verified = signed.verify(request.path, signing, unix_seconds());
            verified.map_err(|error| ApiError::new(403, error.to_string()))?;
            return Ok(Self::Signed(query.channel_data.clone()));
        }
        let token = headers::bearer_token(request.headers).or(query.token.as_deref());
        let Some(token) = token else {
            return Ok(Self::None);
        };
        let identity = state.identities.of(app.id()).ok_or_else(|| {
            let message = "This app takes no tokens: it has no identity provider configured";
            ApiError::new(403, message)
        })?;
        let claims = identity.verify(token).await?;
        Ok(Self::Token(identity, claims))
    }

    /// Returns whether the server signs a subscription for the client, and for which member.
    fn open(&self, app: &App, channel: &ChannelName) -> Result<Option<Option<String>>, ApiError> {
        match channel.kind() {
            ChannelKind::Public => return Ok(None),
            ChannelKind::Encrypted => {
                return Err(bad_request(format!(
                    "{channel} is encrypted, and only clients of Pusher's protocol get its key"
                )));
            }
            ChannelKind::ServerToUser => {
                return Err(bad_request(format!(
                    "{channel} comes with a sign-in, which only clients of Pusher's protocol do"
                )));
            }
            ChannelKind::Private | ChannelKind::Presence => {}
        }
        let channel_data = match self {
            Self::None => {
                return Err(ApiError::new(
                    403,
                    format!(
                        "{channel} isn't public: send a token (Authorization: Bearer, or token=), or a signed URL"
                    ),
                ));
            }
            Self::Token(identity, claims) => {
                let granted = identity.grant(claims, channel).ok_or_else(|| {
                    let message =
                        format!("No grant of the app opens {channel} to the bearer of this token");
                    ApiError::new(403, message)
                })?;
                granted.channel_data
            }
            Self::Signed(_) if channel.kind() == ChannelKind::Private => None,
            Self::Signed(Some(channel_data)) => Some(channel_data.clone()),
            Self::Signed(None) => {
                return Err(bad_request(format!(
                    "Missing parameter: channel_data, the member of {channel}, as JSON with a user_id"
                )));
            }
        };
        if let Some(channel_data) = &channel_data {
            Member::parse(channel_data, &app.settings().limits)
                .map_err(|error| bad_request(error.to_string()))?;
        }
        Ok(Some(channel_data))
    }
}

/// Returns the channels that a client asks for, each once.
fn channel_names(query: &UrlQuery) -> Vec<&str> {
    if let Some(channel) = &query.raw {
        return vec![channel];
    }
    let named = query.channels.iter();
    let named = named.flat_map(|channels| channels.split(','));
    let mut known = HashSet::new();
    named
        .filter(|name| !name.is_empty() && known.insert(*name))
        .collect()
}

/// Returns the position of a channel in the id of an event: each channel that has one, and its position, separated by
/// spaces.
fn position_in(id: &str, channel: &str) -> Option<HistoryPosition> {
    let mut words = id.split_ascii_whitespace();
    while let (Some(name), Some(position)) = (words.next(), words.next()) {
        if name == channel {
            return HistoryPosition::parse(position);
        }
    }
    None
}

fn bad_request(message: impl Into<String>) -> ApiError {
    ApiError::new(400, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_event_has_the_positions_of_all_channels() {
        let position = |id, channel| position_in(id, channel).map(|found| found.to_string());
        let id = "orders e:7 news f:12";
        assert_eq!(position(id, "news").as_deref(), Some("f:12"));
        assert_eq!(position(id, "orders").as_deref(), Some("e:7"));
        for (id, channel) in [
            (id, "e:7"),
            (id, "other"),
            ("news", "news"),
            ("news x", "news"),
            ("", "news"),
        ] {
            assert_eq!(position(id, channel), None, "{id:?}");
        }
    }

    #[test]
    fn what_follows_a_signature_gives_no_rights() {
        let query = "channels=a,b,a&auth_expires=1&auth_signature=00&channels=c&channel_data=x&rewind=2&last_event_id=a+e:1";
        let read = UrlQuery::parse(query);
        assert_eq!(channel_names(&read), ["a", "b"]);
        assert_eq!(read.channel_data, None);
        assert_eq!(read.last_event_id.as_deref(), Some("a e:1"));
        let polyfill = UrlQuery::parse("channels=a&lastEventId=b");
        assert_eq!(polyfill.last_event_id.as_deref(), Some("b"));
        assert_eq!(read.rewind().expect("a number"), Some(2));
        assert!(UrlQuery::parse("rewind=many").rewind().is_err());
        assert!(channel_names(&UrlQuery::parse("channels=,")).is_empty());
        let backend = UrlQuery::of_backend("auth_key=k&auth_signature=00&channels=c");
        assert_eq!(channel_names(&backend), ["c"]);
        let raw = UrlQuery::parse("raw=a,b&auth_signature=00&raw=c");
        assert_eq!(channel_names(&raw), ["a,b"]);
    }
}
