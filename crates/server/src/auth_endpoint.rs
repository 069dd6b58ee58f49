//! What an app's auth endpoint does: it signs subscriptions and sign-ins (docs/protocol.md#channel-signatures).
//! `backend_api` answers an app's backend with it, and `clients_api` browsers with a token.

use fanfare_engine::App;
use fanfare_protocol::api::AuthRequest;
use fanfare_protocol::presence::Member;
use fanfare_protocol::signature::{SigningKey, channel_auth_text, user_auth_text};
use fanfare_protocol::user::parse_user_data;
use fanfare_protocol::{ChannelKind, ChannelName, SocketId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::ApiError;

/// Largest body of a request, in bytes. pusher-js sends a fraction of it.
pub(crate) const MAX_BODY: usize = 16 * 1024;

/// An active key and its secret.
pub(crate) struct Signer<'a> {
    pub(crate) key: &'a str,
    pub(crate) signing: &'a SigningKey,
}

/// The signature that pusher-js subscribes with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChannelAuth {
    /// Key and signature, for `pusher:subscribe`.
    #[schema(
        example = "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
    )]
    auth: String,
    /// The member, as it was signed; on presence channels.
    #[schema(nullable = false, example = r#"{"user_id":"ada"}"#)]
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_data: Option<String>,
}

/// The signature that pusher-js signs in with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserAuth {
    /// Key and signature, for `pusher:signin`.
    #[schema(
        example = "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
    )]
    auth: String,
    /// The user, as it was signed.
    #[schema(example = r#"{"id":"ada"}"#)]
    user_data: String,
}

impl Signer<'_> {
    pub(crate) fn channel(
        &self,
        socket_id: SocketId,
        channel: &ChannelName,
        channel_data: Option<String>,
    ) -> ChannelAuth {
        let text = channel_auth_text(socket_id, channel.as_str(), channel_data.as_deref());
        ChannelAuth {
            auth: self.auth(&text),
            channel_data,
        }
    }

    pub(crate) fn user(&self, socket_id: SocketId, user_data: String) -> UserAuth {
        let auth = self.auth(&user_auth_text(socket_id, &user_data));
        UserAuth { auth, user_data }
    }

    fn auth(&self, text: &str) -> String {
        format!("{}:{}", self.key, self.signing.sign(text))
    }
}

/// Returns the channel of a request, or 400 if a signature of this server doesn't open it.
pub(crate) fn channel(app: &App, request: &AuthRequest) -> Result<ChannelName, ApiError> {
    let refuse = |message: String| ApiError::new(400, message);
    let name = request.channel_name.as_deref();
    let name = name.ok_or_else(|| ApiError::new(400, "Missing parameter: channel_name"))?;
    let channel = ChannelName::parse(name, app.settings().limits.channel_name)
        .map_err(|error| refuse(error.to_string()))?;
    match channel.kind() {
        ChannelKind::Public => Err(ApiError::new(
            400,
            format!("{channel} is public: anybody may subscribe to it without auth"),
        )),
        ChannelKind::ServerToUser => Err(ApiError::new(
            400,
            format!("{channel} needs no auth of its own: it is for the user it names, signed in"),
        )),
        // Subscribers also need the channel's `shared_secret`, derived from a master key that only the app has.
        ChannelKind::Encrypted => Err(ApiError::new(
            400,
            format!(
                "{channel} is encrypted: it needs the app's own auth endpoint, which makes its shared_secret"
            ),
        )),
        ChannelKind::Private | ChannelKind::Presence => Ok(channel),
    }
}

pub(crate) fn check_member(app: &App, channel_data: &str, status: u16) -> Result<(), ApiError> {
    Member::parse(channel_data, &app.settings().limits)
        .map(drop)
        .map_err(|error| ApiError::new(status, error.to_string()))
}

pub(crate) fn check_user(app: &App, user_data: &str, status: u16) -> Result<(), ApiError> {
    parse_user_data(user_data, &app.settings().limits)
        .map(drop)
        .map_err(|error| ApiError::new(status, error.to_string()))
}

#[cfg(test)]
pub(crate) mod testing;
