//! The URL of a client that doesn't speak Pusher's protocol: `/ws/KEY?channels=a,b` or `/ws/KEY?raw=CHANNEL`
//! (docs/any-client.md#plain-websocket).

use std::collections::{HashSet, VecDeque};

use fanfare_engine::Refusal;
use fanfare_protocol::{CloseCode, Framing, excerpt};

use super::connection::UrlChannels;

/// What a plain client's URL asks for. The first parameter of a name counts.
#[derive(Debug)]
pub(crate) struct PlainQuery {
    pub(crate) framing: Framing,
    pub(crate) channels: Option<Box<UrlChannels>>,
}

impl PlainQuery {
    /// Reads a query. Names and values are percent-encoded, the commas between channels too or not.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] if the URL asks for what there isn't.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(query.unwrap_or_default()).unwrap_or_default();
        let find = |name: &str| {
            let mut found = pairs.iter().filter(|(other, _)| other == name);
            found.next().map(|(_, value)| value.as_str())
        };
        let (framing, names): (_, VecDeque<String>) = match (find("raw"), find("channels")) {
            (Some(_), Some(_)) => {
                return Err(refusal(
                    "raw and channels exclude each other: a raw connection is for one channel",
                ));
            }
            (Some(""), None) => {
                return Err(refusal(
                    "raw is empty: name the channel, for example ?raw=chat",
                ));
            }
            (Some(channel), None) => (Framing::Raw, [channel.to_owned()].into()),
            (None, channels) => {
                let names = channels.unwrap_or_default().split(',');
                let mut known = HashSet::new();
                let once = names.filter(|name| !name.is_empty() && known.insert(*name));
                (Framing::Object, once.map(str::to_owned).collect())
            }
        };
        let rewind = find("rewind").map(|rewind| {
            rewind.parse().map_err(|_| {
                let sent = excerpt(rewind);
                refusal(&format!(
                    "rewind must be a number of events, it is {sent:?}"
                ))
            })
        });
        let rewind = rewind.transpose()?;
        let channels = (!names.is_empty()).then(|| Box::new(UrlChannels { names, rewind }));
        Ok(Self { framing, channels })
    }
}

fn refusal(message: &str) -> Refusal {
    Refusal::new(CloseCode::Refused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(query: &str) -> (Framing, Vec<String>) {
        let PlainQuery { framing, channels } = PlainQuery::parse(Some(query)).expect(query);
        let names = channels.map(|channels| channels.names.into());
        (framing, names.unwrap_or_default())
    }

    #[test]
    fn channels_are_read_in_their_order_and_each_once() {
        for (query, expected) in [
            ("channels=a,b", ["a", "b"].as_slice()),
            ("channels=b%2Ca&channels=c", &["b", "a"]),
            ("x=1&channels=a,,%61,b,", &["a", "b"]),
            ("channels=", &[]),
            ("", &[]),
        ] {
            assert_eq!(
                names(query),
                (
                    Framing::Object,
                    expected.iter().map(|&name| name.into()).collect()
                ),
                "{query}"
            );
        }
        assert_eq!(names("raw=a%2Cb"), (Framing::Raw, vec!["a,b".into()]));
        assert!(PlainQuery::parse(None).expect("nothing").channels.is_none());
    }

    #[test]
    fn what_a_url_can_not_ask_for_is_refused() {
        for (query, words) in [
            ("raw=a&channels=b", "exclude each other"),
            ("raw=", "name the channel"),
            ("channels=a&rewind=many", "it is \"many\""),
            ("channels=a&rewind=-1", "a number of events"),
        ] {
            let refusal = PlainQuery::parse(Some(query)).expect_err(query);
            assert!(refusal.message.contains(words), "{query}: {refusal}");
            assert_eq!(refusal.code, CloseCode::Refused);
        }
        let rewinds = PlainQuery::parse(Some("rewind=7&channels=a")).expect("a number");
        assert_eq!(
            rewinds.channels.and_then(|channels| channels.rewind),
            Some(7)
        );
    }
}
