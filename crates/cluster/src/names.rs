//! What topics are called. All that belongs to an app has the same hash tag, so a Redis Cluster keeps it on one master, where a
//! script reaches all of it.

use fanfare_engine::Topic;
use fanfare_protocol::AppId;

/// The names of one installation.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Installations with different prefixes do not hear each other.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// What all names of an app begin with.
    #[must_use]
    pub fn of_app(&self, app: &AppId) -> String {
        format!("{{{}:{app}}}", self.prefix)
    }

    /// What all names of the installation begin with.
    #[must_use]
    pub fn of_installation(&self) -> String {
        format!("{{{}}}", self.prefix)
    }

    /// The topic that every node listens to.
    #[must_use]
    pub fn nodes_topic(&self) -> String {
        format!("{}:told", self.of_installation())
    }

    /// The topic of a channel, or of who is online.
    #[must_use]
    pub fn topic(&self, topic: &Topic) -> String {
        match topic {
            Topic::Channel(channel_ref) => {
                format!(
                    "{}:channel:{}",
                    self.of_app(channel_ref.app.id()),
                    channel_ref.channel
                )
            }
            Topic::Users(app) => format!("{}:users", self.of_app(app.id())),
        }
    }
}
