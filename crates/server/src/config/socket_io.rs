//! Settings of `socket_io`.

use fanfare_protocol::AppKey;
use serde::{Deserialize, Serialize};

use super::rules::Rules;

/// Clients of Socket.IO.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SocketIoConfig {
    /// The key of the app that clients get who name none. Empty for the demo app, or for none without a demo.
    pub(crate) default_app_key: String,
}

impl SocketIoConfig {
    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.check(
            "default_app_key",
            self.default_app_key.is_empty() || AppKey::parse(&self.default_app_key).is_ok(),
            "must be the key of an app",
        )
    }
}
