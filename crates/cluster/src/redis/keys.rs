//! Names of keys and topics in Redis. All names of an app have the same hash tag, so a Redis Cluster
//! keeps them on one master, where a script reaches all of them.
//!
//! During a rolling upgrade nodes of two versions share these names, so a name of something that both must see never
//! changes: `transitions` is the app's transition log, `told` is the topic of all nodes, `seats` and `here` have the members of presence channels.

use fanfare_protocol::{AppId, ChannelName};

use crate::backend::Topic;

/// No limit for channel names, because nodes with higher limits may have accepted them.
const ANY_LENGTH: usize = usize::MAX;

/// The names of one installation.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    /// Returns the names under a prefix. Installations with different prefixes don't receive each
    /// other's messages.
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// Returns the beginning of all names of an app.
    pub(crate) fn of_app(&self, app: &AppId) -> String {
        format!("{{{}:{app}}}", self.prefix)
    }

    /// Returns the beginning of all names of the installation.
    pub(crate) fn of_installation(&self) -> String {
        format!("{{{}}}", self.prefix)
    }

    /// Returns a name for a trial. Its hash tag is that of an app that no installation has, because ids of apps don't
    /// contain a slash.
    pub(crate) fn of_trial(&self, number: u32) -> String {
        format!("{{{}:/{number}}}:trial", self.prefix)
    }

    /// Returns the name of a topic.
    pub(crate) fn topic(&self, topic: &Topic) -> String {
        match topic {
            Topic::Nodes => format!("{}:told", self.of_installation()),
            Topic::Users(app) => format!("{}:users", self.of_app(app)),
            Topic::Live(app) => format!("{}:live", self.of_app(app)),
            Topic::Channel(app, channel) => format!("{}:channel:{channel}", self.of_app(app)),
        }
    }

    /// Returns the topic of a name that [`Keys::topic`] wrote, or `None` if it is none of this
    /// installation.
    pub(crate) fn parse_topic(&self, name: &str) -> Option<Topic> {
        let rest = name.strip_prefix('{')?.strip_prefix(&*self.prefix)?;
        let (app, rest) = rest.split_once("}:")?;
        if app.is_empty() {
            return (rest == "told").then_some(Topic::Nodes);
        }
        let app = AppId::parse(app.strip_prefix(':')?).ok()?;
        match rest.split_once(':') {
            None if rest == "users" => Some(Topic::Users(app)),
            None if rest == "live" => Some(Topic::Live(app)),
            None => None,
            Some(("channel", channel)) => {
                let channel = ChannelName::parse(channel, ANY_LENGTH).ok()?;
                Some(Topic::Channel(app, channel))
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_topics_are_read_as_they_are_written_and_no_others() {
        let keys = Keys::new("a:b");
        let app = || AppId::parse("1").expect("an app");
        let channel = |name: &str| ChannelName::parse(name, ANY_LENGTH).expect("a channel");
        let topics = [
            (Topic::Nodes, "{a:b}:told"),
            (Topic::Users(app()), "{a:b:1}:users"),
            (Topic::Live(app()), "{a:b:1}:live"),
            (
                Topic::Channel(app(), channel("news")),
                "{a:b:1}:channel:news",
            ),
            (
                Topic::Channel(app(), channel("#server-to-user-a.b")),
                "{a:b:1}:channel:#server-to-user-a.b",
            ),
        ];
        for (topic, name) in topics {
            assert_eq!(keys.topic(&topic), name);
            assert_eq!(keys.parse_topic(name), Some(topic));
        }
        for name in [
            "{a}:told",
            "{a:b}:other",
            "{a:b:1}:other",
            "{a:b:1}:other:news",
            "{a:bc:1}:users",
            "a:b:told",
        ] {
            assert_eq!(keys.parse_topic(name), None, "{name}");
        }
    }
}
