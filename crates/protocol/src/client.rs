//! Messages that a client may send (docs/protocol.md#frames, docs/protocol.md#channels), parsed
//! without a copy where they hold no escapes.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::CLIENT_PREFIX;
use crate::excerpt::excerpt;
use crate::history::HistoryPosition;
use crate::ids::SocketId;
use crate::json;

/// One message of a client.
#[derive(Debug)]
pub enum ClientMessage<'a> {
    /// `pusher:ping`: asks for a `pusher:pong`.
    Ping,
    /// `pusher:pong`: a sign of life, like any other frame.
    Pong,
    /// `pusher:subscribe`.
    Subscribe(Subscribe<'a>),
    /// `pusher:unsubscribe`.
    Unsubscribe {
        /// The channel to leave.
        channel: Cow<'a, str>,
    },
    /// `pusher:signin`.
    SignIn(SignIn<'a>),
    /// An event for the other subscribers of a channel.
    ClientEvent(ClientEvent<'a>),
}

/// The content of a `pusher:subscribe`.
#[derive(Debug)]
pub struct Subscribe<'a> {
    /// The channel to join.
    pub channel: Cow<'a, str>,
    /// `KEY:SIGNATURE`; absent or empty on public channels.
    pub auth: Option<Cow<'a, str>>,
    /// JSON text that was signed with the channel. It is compared byte for byte, so it is never
    /// written again.
    pub channel_data: Option<Cow<'a, str>>,
    /// What the client asks of the channel's history; stock clients ask nothing.
    pub recover: Option<Recover>,
    /// How many of the last events it asks for, unless it reconnects.
    pub rewind: Option<usize>,
}

/// A client's query of a channel's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recover {
    /// The positions of events, from now on.
    Start,
    /// The events after the last one that it got.
    From {
        /// The position of that event, if it can be read.
        position: Option<HistoryPosition>,
        /// The connection that the client had: events that this one sent or was left out of are not
        /// missed.
        socket_id: Option<SocketId>,
    },
}

/// The content of a `pusher:signin`.
#[derive(Debug)]
pub struct SignIn<'a> {
    /// `KEY:SIGNATURE`.
    pub auth: Cow<'a, str>,
    /// JSON text that was signed. It is compared byte for byte and sent back unchanged.
    pub user_data: Cow<'a, str>,
}

/// The content of a `client-` event.
#[derive(Debug)]
pub struct ClientEvent<'a> {
    /// The event's name, `client-` included.
    pub name: Cow<'a, str>,
    /// Its channel.
    pub channel: Cow<'a, str>,
    /// The data that the client sent, if any.
    pub data: Option<&'a RawValue>,
    /// Whether the sender gets it too, if it is subscribed.
    pub reaches_sender: bool,
}

/// Why a frame is not a message. The connection stays usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// Not a JSON object with a string `event`.
    #[error("Invalid message: {0}; expected a JSON object with a string 'event'")]
    Malformed(String),
    /// A command's `data` is missing or is not an object.
    #[error("Invalid {event}: expected 'data' to be an object, it is {found}")]
    DataNotObject {
        /// The event's name.
        event: &'static str,
        /// What was found instead.
        found: String,
    },
    /// A command's `data` is an object that can't be read.
    #[error("Invalid {event}: 'data' cannot be read: {why}")]
    DataUnreadable {
        /// The event's name.
        event: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A field is missing or is not a string.
    #[error("Invalid {event}: expected 'data.{field}' to be a string, it is {found}")]
    FieldNotString {
        /// The event's name.
        event: &'static str,
        /// The field in `data`.
        field: &'static str,
        /// What was found instead.
        found: &'static str,
    },
    /// A client event without a channel.
    #[error("Invalid client event {0:?}: 'channel' must be a string")]
    NoChannel(String),
    /// An event that clients may not send.
    #[error(
        "Unsupported event {0:?}: clients may send pusher:ping, pusher:pong, pusher:subscribe, pusher:unsubscribe, pusher:signin and client-*"
    )]
    Unsupported(String),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SignInCommand<'a> {
    #[serde(borrow)]
    auth: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_data: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct From<'a> {
    #[serde(borrow)]
    position: Cow<'a, str>,
    #[serde(borrow, default)]
    socket_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Command<'a> {
    #[serde(borrow, default)]
    recover: Option<&'a RawValue>,
    #[serde(borrow, default)]
    rewind: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    auth: Option<&'a RawValue>,
    #[serde(borrow)]
    channel_data: Option<&'a RawValue>,
}

impl<'a> ClientMessage<'a> {
    /// Reads one text frame.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidMessage`], whose text tells the client what is wrong.
    pub fn parse(text: &'a str) -> Result<Self, InvalidMessage> {
        let envelope: Envelope<'a> =
            json::object(text).map_err(|error| InvalidMessage::Malformed(json::reason(&error)))?;
        match &*envelope.event {
            "pusher:ping" => Ok(Self::Ping),
            "pusher:pong" => Ok(Self::Pong),
            "pusher:subscribe" => {
                Subscribe::parse("pusher:subscribe", envelope.data).map(Self::Subscribe)
            }
            "pusher:unsubscribe" => {
                Subscribe::parse("pusher:unsubscribe", envelope.data).map(|command| {
                    Self::Unsubscribe {
                        channel: command.channel,
                    }
                })
            }
            "pusher:signin" => SignIn::parse(envelope.data).map(Self::SignIn),
            name if name.starts_with(CLIENT_PREFIX) => {
                ClientEvent::parse(envelope).map(Self::ClientEvent)
            }
            name => Err(InvalidMessage::Unsupported(excerpt(name).into_owned())),
        }
    }
}

impl<'a> ClientEvent<'a> {
    fn parse(envelope: Envelope<'a>) -> Result<Self, InvalidMessage> {
        let channel = envelope
            .channel
            .and_then(|raw| json::string(raw.get()).ok());
        let Some(channel) = channel else {
            let event = excerpt(&envelope.event).into_owned();
            return Err(InvalidMessage::NoChannel(event));
        };
        Ok(Self {
            name: envelope.event,
            channel,
            data: envelope.data,
            reaches_sender: false,
        })
    }
}

/// Reads a command's `data`, which is an object.
fn object<'a, T: Deserialize<'a>>(
    event: &'static str,
    data: &'a RawValue,
) -> Result<T, InvalidMessage> {
    if !data.get().starts_with('{') {
        let found = json::kind(data).into();
        return Err(InvalidMessage::DataNotObject { event, found });
    }
    serde_json::from_str(data.get()).map_err(|error| InvalidMessage::DataUnreadable {
        event,
        why: json::reason(&error),
    })
}

impl<'a> SignIn<'a> {
    fn parse(data: Option<&'a RawValue>) -> Result<Self, InvalidMessage> {
        let event = "pusher:signin";
        let not_object = |found: String| InvalidMessage::DataNotObject { event, found };
        let raw = data.ok_or_else(|| not_object("missing".into()))?;
        let command: SignInCommand<'a> = object(event, raw)?;
        let missing = |field| InvalidMessage::FieldNotString {
            event,
            field,
            found: "missing",
        };
        Ok(Self {
            auth: command.auth.ok_or_else(|| missing("auth"))?,
            user_data: command.user_data.ok_or_else(|| missing("user_data"))?,
        })
    }
}

impl<'a> Subscribe<'a> {
    /// Reads `data`, which is an object; some clients send it as a JSON-encoded string.
    fn parse(event: &'static str, data: Option<&'a RawValue>) -> Result<Self, InvalidMessage> {
        let not_object = |found: String| InvalidMessage::DataNotObject { event, found };
        let raw = data.ok_or_else(|| not_object("missing".into()))?;
        let wrong = |_| not_object(json::kind(raw).into());
        if raw.get().starts_with('"') {
            let text = json::string(raw.get()).map_err(wrong)?;
            let command: Command<'_> = json::object(&text).map_err(|error| {
                not_object(format!(
                    "a string that holds none: {}",
                    json::reason(&error)
                ))
            })?;
            return Ok(Subscribe::from_command(event, &command)?.into_owned());
        }
        let command: Command<'a> = object(event, raw)?;
        Self::from_command(event, &command)
    }

    fn from_command(event: &'static str, command: &Command<'a>) -> Result<Self, InvalidMessage> {
        let text = |field: &'static str, raw: Option<&'a RawValue>| match raw {
            None => Ok(None),
            Some(raw) if raw.get() == "null" => Ok(None),
            Some(raw) => {
                json::string(raw.get())
                    .map(Some)
                    .map_err(|_| InvalidMessage::FieldNotString {
                        event,
                        field,
                        found: json::kind(raw),
                    })
            }
        };
        // Public channels ignore it, so one that isn't a string is no reason to refuse.
        let auth = text("auth", command.auth).unwrap_or_default();
        let missing = InvalidMessage::FieldNotString {
            event,
            field: "channel",
            found: "missing",
        };
        Ok(Self {
            channel: text("channel", command.channel)?.ok_or(missing)?,
            auth: auth.filter(|auth| !auth.is_empty()),
            channel_data: text("channel_data", command.channel_data)?
                .filter(|data| !data.is_empty()),
            recover: command.recover.and_then(recover),
            rewind: command.rewind.and_then(|count| count.get().parse().ok()),
        })
    }

    fn into_owned<'b>(self) -> Subscribe<'b> {
        let owned = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        Subscribe {
            channel: owned(self.channel),
            auth: self.auth.map(owned),
            channel_data: self.channel_data.map(owned),
            recover: self.recover,
            rewind: self.rewind,
        }
    }
}

/// Reads what is asked of the history. Anything else counts as nothing, because stock clients may
/// send any value here.
pub(crate) fn recover(value: &RawValue) -> Option<Recover> {
    match value.get() {
        "true" => Some(Recover::Start),
        text => {
            let From {
                position,
                socket_id,
            } = serde_json::from_str(text).ok()?;
            Some(Recover::From {
                position: HistoryPosition::parse(&position),
                socket_id: socket_id.and_then(|id| SocketId::parse(&id).ok()),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        ClientMessage::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn ping_needs_no_data() {
        for text in [
            r#"{"event":"pusher:ping"}"#,
            r#"{"event":"pusher:ping","data":{}}"#,
            r#"{"data":"","event":"pusher:ping"}"#,
        ] {
            assert!(
                matches!(ClientMessage::parse(text), Ok(ClientMessage::Ping)),
                "{text}"
            );
        }
    }

    #[test]
    fn subscribe_takes_data_as_object_or_as_json_text() {
        for text in [
            r#"{"event":"pusher:subscribe","data":{"channel":"private-a","auth":"k:s","channel_data":"{\"user_id\":1}"}}"#,
            r#"{"event":"pusher:subscribe","data":"{\"channel\":\"private-a\",\"auth\":\"k:s\",\"channel_data\":\"{\\\"user_id\\\":1}\"}"}"#,
        ] {
            let Ok(ClientMessage::Subscribe(subscribe)) = ClientMessage::parse(text) else {
                panic!("{text}")
            };
            assert_eq!(subscribe.channel, "private-a");
            assert_eq!(subscribe.auth.as_deref(), Some("k:s"));
            assert_eq!(subscribe.channel_data.as_deref(), Some("{\"user_id\":1}"));
        }
    }

    #[test]
    fn what_is_wrong_with_data_is_said() {
        for event in ["pusher:signin", "pusher:subscribe"] {
            for (data, wrong) in [
                ("[]", "expected 'data' to be an object, it is an array"),
                ("1", "expected 'data' to be an object, it is a number"),
                (
                    r#"{"auth":"a","auth":"b"}"#,
                    "'data' cannot be read: duplicate field `auth` at line 1 column 18",
                ),
            ] {
                let error = refused(&format!(r#"{{"event":"{event}","data":{data}}}"#));
                assert_eq!(error, format!("Invalid {event}: {wrong}"));
            }
        }
        let error = refused(r#"{"event":"pusher:signin","data":{"auth":1}}"#);
        assert!(
            error
                .starts_with("Invalid pusher:signin: 'data' cannot be read: invalid type: integer"),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_with_json_text_in_a_string_is_said() {
        for (data, wrong) in [
            (
                r#"{\"channel\":\"a\",\"auth\":\"b\",\"auth\":\"c\"}"#,
                "duplicate field `auth`",
            ),
            ("[]", "it is an array"),
            ("news", "it is not JSON (line 1, column 2: a word"),
        ] {
            let text = format!(r#"{{"event":"pusher:subscribe","data":"{data}"}}"#);
            let error = refused(&text);
            let start = "Invalid pusher:subscribe: expected 'data' to be an object, it is a string that holds none: ";
            assert!(error.starts_with(&format!("{start}{wrong}")), "{error}");
        }
    }

    #[test]
    fn a_client_may_say_where_it_was() {
        let asked = |fields: &str| {
            let text =
                format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"a"{fields}}}}}"#);
            let Ok(ClientMessage::Subscribe(subscribe)) = ClientMessage::parse(&text) else {
                panic!("{text}")
            };
            (subscribe.recover, subscribe.rewind)
        };
        assert_eq!(asked(""), (None, None));
        assert_eq!(
            asked(r#","recover":true,"rewind":7"#),
            (Some(Recover::Start), Some(7))
        );
        let from = Recover::From {
            position: HistoryPosition::parse("e:42"),
            socket_id: SocketId::parse("1.2").ok(),
        };
        assert_eq!(
            asked(r#","recover":{"position":"e:42","socket_id":"1.2"}"#),
            (Some(from), None)
        );
        let unreadable = Recover::From {
            position: None,
            socket_id: None,
        };
        assert_eq!(
            asked(r#","recover":{"position":"?"}"#),
            (Some(unreadable), None)
        );
        for nothing in [
            r#","recover":false"#,
            r#","recover":null,"rewind":-1"#,
            r#","recover":[],"rewind":"x""#,
        ] {
            assert_eq!(asked(nothing), (None, None), "{nothing}");
        }
    }

    #[test]
    fn an_empty_auth_counts_as_none() {
        let text =
            r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"a","channel_data":null}}"#;
        let Ok(ClientMessage::Subscribe(subscribe)) = ClientMessage::parse(text) else {
            panic!()
        };
        assert!(subscribe.auth.is_none() && subscribe.channel_data.is_none());
    }

    #[test]
    fn signin_needs_both_of_its_texts() {
        let text =
            r#"{"event":"pusher:signin","data":{"auth":"k:s","user_data":"{\"id\":\"1\"}"}}"#;
        let Ok(ClientMessage::SignIn(sign_in)) = ClientMessage::parse(text) else {
            panic!()
        };
        assert_eq!(
            (&*sign_in.auth, &*sign_in.user_data),
            ("k:s", "{\"id\":\"1\"}")
        );
        for data in [
            "null",
            "[]",
            "{}",
            r#"{"auth":"k:s"}"#,
            r#"{"user_data":"{}"}"#,
            r#"{"auth":1,"user_data":"{}"}"#,
        ] {
            refused(&format!(r#"{{"event":"pusher:signin","data":{data}}}"#));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(refused("").starts_with("Invalid message"));
        assert!(refused("[]").starts_with("Invalid message"));
        assert!(refused(r#"["pusher:ping",null,null]"#).starts_with("Invalid message"));
        assert!(refused("7").starts_with("Invalid message"));
        assert!(refused("{}").contains("event"));
        assert!(refused(r#"{"event":7}"#).contains("string"));
        assert!(refused(r#"{"event":"foo"}"#).starts_with("Unsupported event \"foo\""));
        assert!(refused(r#"{"event":"pusher:subscribe"}"#).contains("it is missing"));
        assert!(refused(r#"{"event":"pusher:subscribe","data":[]}"#).contains("an array"));
        assert!(refused(r#"{"event":"pusher:subscribe","data":"x"}"#).contains("a string"));
        assert!(
            refused(r#"{"event":"pusher:subscribe","data":{"channel":7}}"#).contains("a number")
        );
        assert!(refused(r#"{"event":"pusher:unsubscribe","data":{}}"#).contains("'data.channel'"));
        assert!(refused(r#"{"event":"client-x","data":1}"#).contains("'channel'"));
        assert!(refused(r#"{"event":"client-x","channel":["a"]}"#).contains("'channel'"));
        assert!(refused(r#"{"event":"\ud800"}"#).starts_with("Invalid message"));
    }

    #[test]
    fn an_answer_is_short_however_long_the_message() {
        let long = "\\u0001".repeat(10_000);
        for text in [
            format!("\"{long}\""),
            format!(r#"{{"event":"{long}"}}"#),
            format!(r#"{{"event":"client-{long}"}}"#),
            format!(r#"{{"event":"pusher:signin","data":"{long}"}}"#),
            format!(r#"{{"event":"pusher:subscribe","data":"{long}"}}"#),
            format!(r#"{{"event":"pusher:subscribe","data":{{"channel":["{long}"]}}}}"#),
        ] {
            let answer = refused(&text);
            assert!(answer.len() < 1_500, "{} bytes: {answer}", answer.len());
        }
    }

    #[test]
    fn json_of_any_depth_is_answered() {
        let deep = "[".repeat(100_000);
        assert!(refused(&deep).starts_with("Invalid message"));
        let nested = format!(
            r#"{{"event":"pusher:subscribe","data":{}{}}}"#,
            "[".repeat(50_000),
            "]".repeat(50_000)
        );
        assert!(refused(&nested).starts_with("Invalid"));
    }
}
