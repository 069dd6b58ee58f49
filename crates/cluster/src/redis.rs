//! What nodes share, over Redis 7 or later, or Valkey: single, found through Sentinel, or a Redis Cluster.

mod answer;
mod connection;
mod script;
mod topology;
mod url;

use fanfare_engine::BoxFuture;

use crate::backend::{Backend, ConnectError, Connected};
use crate::names::Names;

pub use url::InvalidUrl;
use url::RedisUrl;

/// Connects to Redis.
#[derive(Debug)]
pub struct Redis {
    url: RedisUrl,
    names: Names,
}

impl Redis {
    /// As the setting `cluster.url` has it: `redis://[USER:PASSWORD@]HOST[:PORT][,HOST...][/DB]`, `rediss://` for TLS,
    /// `?sentinel=NAME` where the hosts are Sentinels. A Redis Cluster is recognised.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn new(url: &str, prefix: &str) -> Result<Self, InvalidUrl> {
        Ok(Self {
            url: RedisUrl::parse(url)?,
            names: Names::new(prefix),
        })
    }
}

impl Backend for Redis {
    fn connect(&self) -> BoxFuture<'_, Result<Connected, ConnectError>> {
        Box::pin(connection::connect(&self.url, &self.names))
    }
}
