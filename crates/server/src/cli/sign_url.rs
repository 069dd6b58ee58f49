//! `fanfare sign-url`: a URL for a client, as an app's backend signs it (docs/any-client.md#signed-urls).

use clap::{Args, ValueEnum};
use fanfare_protocol::Limits;
use fanfare_protocol::presence::Member;
use fanfare_protocol::signature::SigningKey;
use fanfare_protocol::signed_url::sign_url;

use super::publish::Signing;
use super::{duration, output};
use crate::clock::unix_seconds;
use crate::config::Config;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct SignUrl {
    /// Channels that the URL opens
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,
    /// Member of presence channels, as JSON with a user_id
    #[arg(long, value_name = "JSON")]
    channel_data: Option<String>,
    /// How long the URL is good for; a stream that was opened goes on afterwards
    #[arg(long, value_name = "DURATION", value_parser = duration::seconds, default_value = "1h")]
    expires: u64,
    /// What the client speaks
    #[arg(long, value_enum, default_value_t = Transport::Sse)]
    transport: Transport,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    /// Server-Sent Events
    Sse,
    /// Plain WebSocket
    Ws,
}

pub(crate) async fn run(arguments: SignUrl, config: &Config) -> anyhow::Result<()> {
    let target = arguments.signing.target(config).await?;
    let server = arguments.signing.server(config);
    let mut query = vec![("channels", arguments.channels.join(","))];
    if let Some(channel_data) = arguments.channel_data {
        Member::parse(&channel_data, &Limits::default())
            .map_err(|error| Failure::misuse(error.to_string()))?;
        query.push(("channel_data", channel_data));
    }
    let query = serde_urlencoded::to_string(&query).expect("pairs of texts");
    let (path, server) = match arguments.transport {
        Transport::Sse => ("sse", server),
        // http:// becomes ws://, and https:// becomes wss://.
        Transport::Ws => ("ws", server.replacen("http", "ws", 1)),
    };
    let path = format!("/{path}/{}", target.key);
    let signing = SigningKey::new(&target.secret);
    let expires = unix_seconds() + arguments.expires;
    let query = sign_url(&path, &query, &signing, expires);
    output::text(&format!("{server}{path}?{query}"))
}
