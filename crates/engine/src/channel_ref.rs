//! A channel of an app, as most of the engine names it.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_protocol::ChannelName;
use parking_lot::MutexGuard;

use crate::app::App;
use crate::route::Route;

/// A channel of an app.
#[derive(Debug, Clone)]
pub struct ChannelRef {
    /// The app.
    pub app: Arc<App>,
    /// The channel.
    pub channel: ChannelName,
}

impl ChannelRef {
    /// Locks the routes of the channel's stripe.
    pub(crate) fn routes(&self) -> MutexGuard<'_, HashMap<ChannelName, Route>> {
        self.app.channels.stripe(self.channel.as_str()).lock()
    }
}
