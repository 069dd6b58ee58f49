//! A channel of an app, as most of the engine names it.

use std::sync::Arc;

use fanfare_protocol::ChannelName;

use crate::app::App;

/// A channel of an app.
#[derive(Debug, Clone)]
pub struct ChannelRef {
    /// The app.
    pub app: Arc<App>,
    /// The channel.
    pub channel: ChannelName,
}
