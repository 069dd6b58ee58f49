//! How the description of the HTTP APIs shows the parameters that [`UrlQuery`](super::url_subscriptions::UrlQuery) reads.

use utoipa::IntoParams;

/// Parameters of a stream.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what UrlQuery reads")]
pub(crate) struct StreamParams {
    /// The channels, separated by commas
    #[param(example = "news,private-orders")]
    channels: String,
    /// `true` for the whole message in `data`, and no `event`
    enveloped: Option<bool>,
    /// How many of the last events come first, of channels with a history
    rewind: Option<u32>,
    /// The id of the last event that the client has, if it can't send the header
    last_event_id: Option<String>,
    /// The program of the client, for statistics
    client: Option<String>,
    /// The version of that program
    version: Option<String>,
}

/// The header of a client that returns to a stream.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes what UrlSubscriptions reads")]
pub(crate) struct ReturnParams {
    /// The id of the last event that the client has; an `EventSource` sends it by itself
    #[param(rename = "last-event-id")]
    last_event_id: Option<String>,
}

/// Parameters of a WebSocket without Pusher's protocol.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what UrlQuery reads")]
pub(crate) struct SocketParams {
    /// The channels to begin with, separated by commas
    channels: Option<String>,
    /// The only channel of a raw WebSocket, instead of `channels`
    raw: Option<String>,
    /// How many of the last events come first, of channels with a history
    rewind: Option<u32>,
    /// The program of the client, for statistics
    client: Option<String>,
    /// The version of that program
    version: Option<String>,
}

/// What opens channels that aren't public, in the URL.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what UrlQuery reads")]
pub(crate) struct CredentialParams {
    /// A token of the app's identity provider, if the client can't send the header
    token: Option<String>,
    /// In a URL that the backend has signed: the Unix time in seconds at which it ends
    auth_expires: Option<u64>,
    /// In a URL that the backend has signed: HMAC-SHA256 in lowercase hex of `GET`, the path and the query before this
    /// parameter, on three lines, with the secret of the key
    auth_signature: Option<String>,
}

/// Who the client is on presence channels.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what UrlQuery reads")]
pub(crate) struct MemberParams {
    /// The member of presence channels, as JSON with a `user_id`, in a signed query
    channel_data: Option<String>,
}
