//! A connection that was admitted and has no shard yet.

use std::net::IpAddr;
use std::sync::Arc;

use fanfare_protocol::{AppId, AppKey};

use crate::app::App;
use crate::budget::{Network, Payer};
use crate::clients::ClientPermit;
use crate::permit::Permits;

/// An admitted connection, with its permits once it has them.
#[derive(Debug)]
pub struct Admitted {
    pub(crate) app: Arc<App>,
    pub(crate) key: AppKey,
    pub(crate) address: Option<IpAddr>,
    pub(crate) permits: Option<Permits>,
    /// Counts it among the connections of its client library.
    pub(crate) client: Option<ClientPermit>,
    /// The payer of what the client makes this node hold.
    pub(crate) payer: Payer,
}

impl Admitted {
    /// Remembers its network address, where it is known, and notes the use of its key from there.
    pub fn came_from(&mut self, address: Option<IpAddr>) {
        self.address = address;
        self.app.note_key_use(self.key.as_str(), address);
    }

    /// Counts it among the connections of its client library.
    pub fn count_client(&mut self, client: &str, version: &str) {
        self.client = Some(self.app.clients.count(client, version));
    }

    /// Returns the id of its app.
    #[must_use]
    pub fn app_id(&self) -> &AppId {
        self.app.id()
    }

    /// Returns the client's network, if one is charged.
    #[must_use]
    pub fn network(&self) -> Option<Network> {
        self.payer.network()
    }
}
