//! Names of topics. All names of an app have the same hash tag, so a Redis Cluster keeps them on
//! one master, where a script reaches all of them.

use fanfare_engine::Topic;
use fanfare_protocol::AppId;

/// The names of one installation.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Returns the names under a prefix. Installations with different prefixes don't receive each
    /// other's messages.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// Returns the beginning of all names of an app.
    #[must_use]
    pub fn of_app(&self, app: &AppId) -> String {
        format!("{{{}:{app}}}", self.prefix)
    }

    /// Returns the beginning of all names of the installation.
    #[must_use]
    pub fn of_installation(&self) -> String {
        format!("{{{}}}", self.prefix)
    }

    /// Returns the topic that every node receives.
    #[must_use]
    pub fn nodes_topic(&self) -> String {
        format!("{}:told", self.of_installation())
    }

    /// Returns the topic of a channel, or of an app's users who come online and go offline.
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
