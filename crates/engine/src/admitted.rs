//! A connection that was let in and has no shard yet.

use std::net::IpAddr;
use std::sync::Arc;

use fanfare_protocol::{AppId, AppKey};

use crate::app::App;
use crate::budget::{Network, Payer};
use crate::permit::{ConnectionPermit, Permits};

/// A connection that may come in, and its place if it has one yet.
#[derive(Debug)]
pub struct Admitted {
    pub(crate) app: Arc<App>,
    pub(crate) key: AppKey,
    pub(crate) address: Option<IpAddr>,
    pub(crate) permits: Option<Permits>,
    /// Among those of its client library.
    pub(crate) client: Option<ConnectionPermit>,
    /// Whom to charge for what the client makes this node hold.
    pub(crate) payer: Payer,
}

impl Admitted {
    /// Remembers its network address, where it is known: keys are used from there, the one it came in with first.
    pub fn came_from(&mut self, address: Option<IpAddr>) {
        self.address = address;
        self.app.note_key_use(self.key.as_str(), address);
    }

    /// Counts it among the connections of its client library.
    pub fn count_client(&mut self, client: &str, version: &str) {
        self.client = Some(self.app.clients.count(client, version));
    }

    /// The app that it is of.
    #[must_use]
    pub fn app_id(&self) -> &AppId {
        self.app.id()
    }

    /// The client's network, if one is charged.
    #[must_use]
    pub fn network(&self) -> Option<Network> {
        self.payer.network()
    }
}
