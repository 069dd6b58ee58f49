//! The wire format between Fanfare, its clients and the backends that publish.
//!
//! Everything here is pure: no I/O, no clock, no async runtime. The contract is the Pusher Channels protocol, versions 4 to 7
//! (docs/protocol.md).
//!
//! # Layout
//!
//! | module | what it holds |
//! |---|---|
//! | [`ids`] | [`AppId`], [`AppKey`], [`SocketId`], [`UserId`] |
//! | [`channel`] | [`ChannelName`], [`ChannelKind`] |
//! | [`channel_pattern`] | [`ChannelPattern`]: channel names with stars |
//! | [`event`] | rules for event names |
//! | [`event_pattern`] | [`EventPattern`]: event names with stars |
//! | [`client`] | [`ClientMessage`]: what a client may send |
//! | [`server`] | [`ServerMessage`]: what the server sends |
//! | [`frame`] | [`Frame`]: bytes ready for a socket |
//! | [`close`] | [`CloseCode`]: error and close codes, one table |
//! | [`presence`] | `channel_data` of presence channels |
//! | [`user`] | `user_data` of signed-in users |
//! | [`signature`] | channel auth and HTTP request signatures |
//! | [`signed_url`] | URLs that a backend signs for a client |
//! | [`api`] | request bodies of the HTTP API |
//! | [`limits`] | [`Limits`]: bounds on what an app's clients and backends may send |
//! | [`ceilings`] | [`Ceilings`]: the highest values of any app's limits |
//! | [`quotas`] | [`Quotas`]: how much may be used in a day or a month |
//! | [`settings`] | [`AppSettings`]: the settings of an app that may change while it runs |
//! | [`history`] | the rules of histories, and positions in them |
//! | [`proxy_header`] | the header in which a proxy names the client of a connection |
//! | [`tls_record`] | where the first record of a TLS connection ends |
//! | [`sockjs`] | lines for clients without WebSockets |
//! | `plain` | messages for clients that don't speak Pusher's protocol |
//! | [`plain_client`] | [`PlainMessage`]: what such a client may send |
//! | [`event_stream`] | Server-Sent Events |
//! | [`socket_io`] | packets of Socket.IO and Engine.IO |
//! | [`identity`] | [`Identity`]: the token issuers that an app accepts, and what their tokens grant |
//! | [`webhook`] | [`WebhookEvent`]: what webhooks tell of |
//! | [`json`] | JSON text that is passed through |
//! | `wildcard` | names against patterns with stars |
//! | [`user_sketch`] | [`UserSketch`]: how many different users there were, without their ids |
//! | `excerpt` | a text from outside, cut for an error message |

pub mod api;
pub mod ceilings;
pub mod channel;
pub mod channel_pattern;
pub mod client;
pub mod close;
pub mod event;
pub mod event_pattern;
pub mod event_stream;
mod excerpt;
pub mod frame;
pub mod history;
pub mod identity;
pub mod ids;
pub mod json;
pub mod limits;
mod plain;
pub mod plain_client;
pub mod presence;
pub mod proxy_header;
pub mod quotas;
pub mod server;
pub mod settings;
pub mod signature;
pub mod signed_url;
pub mod socket_io;
pub mod sockjs;
pub mod tls_record;
pub mod user;
pub mod user_sketch;
pub mod webhook;
mod wildcard;

pub use ceilings::Ceilings;
pub use channel::{ChannelKind, ChannelName};
pub use channel_pattern::{ChannelPattern, InvalidChannelPattern};
pub use client::{ClientMessage, Recover};
pub use close::CloseCode;
pub use event_pattern::{EventPattern, InvalidEventPattern};
pub use excerpt::excerpt;
pub use frame::{Frame, Framing};
pub use history::{HistoryPosition, HistoryRule, Unrecovered};
pub use identity::Identity;
pub use ids::{AppId, AppKey, SocketId, UserId};
pub use limits::Limits;
pub use plain_client::PlainMessage;
pub use quotas::{QuotaKind, QuotaValues, Quotas};
pub use server::{HistoryState, ServerMessage};
pub use settings::AppSettings;
pub use user_sketch::{UserHashKey, UserSketch};
pub use webhook::WebhookEvent;

/// Oldest protocol version a client may announce.
pub const OLDEST_PROTOCOL: u32 = 4;
/// Newest protocol version a client may announce, and the one that the server speaks.
pub const NEWEST_PROTOCOL: u32 = 7;
/// Prefix of the WebSocket subprotocol that some clients offer; a protocol version follows.
pub const SUBPROTOCOL_PREFIX: &str = "pusher-channels-protocol-";
