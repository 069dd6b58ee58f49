//! The back end over Redis 7 or later, or Valkey: a single server, one found through Sentinel, or a
//! Redis Cluster.

mod answer;
mod broker;
mod connection;
mod examine;
mod history_line;
mod keys;
mod membership;
mod presence;
mod script;
mod topology;
mod transitions;
mod url;

use fanfare_engine::BoxFuture;

use crate::backend::{Backend, ConnectError, Connected};

pub use examine::RedisExamination;
use keys::Keys;
pub use url::InvalidUrl;
use url::RedisUrl;

/// The back end over Redis.
#[derive(Debug)]
pub struct Redis {
    url: RedisUrl,
    keys: Keys,
}

impl Redis {
    /// Returns the back end at `url`, in the form of the setting `cluster.url`:
    /// `redis://[USER:PASSWORD@]HOST[:PORT][,HOST...][/DB]`, `rediss://` for TLS, `?sentinel=NAME`
    /// if the hosts are Sentinels. A Redis Cluster is recognised.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidUrl`], which says what is wrong with the URL.
    pub fn new(url: &str, prefix: &str) -> Result<Self, InvalidUrl> {
        Ok(Self {
            url: RedisUrl::parse(url)?,
            keys: Keys::new(prefix),
        })
    }
}

impl Backend for Redis {
    fn connect(&self) -> BoxFuture<'_, Result<Connected, ConnectError>> {
        Box::pin(connection::connect(&self.url, &self.keys))
    }
}
