//! Messages of clients that don't speak Pusher's protocol: JSON objects with a `type`
//! (docs/any-client.md#messages-of-a-client). They ask for what [`ClientMessage`] holds.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::{ClientEvent, ClientMessage, Recover, Subscribe, recover};
use crate::event::CLIENT_PREFIX;
use crate::excerpt::excerpt;
use crate::json;

/// Longest `ref`, in bytes of JSON.
pub const MAX_REFERENCE: usize = 100;

/// One message of a client, and the name by which it wants the answer.
#[derive(Debug)]
pub struct PlainMessage<'a> {
    /// `ref` as the client wrote it: a JSON string or number. It is sent back unchanged.
    pub reference: Option<&'a str>,
    /// What the client asks for.
    pub message: Result<ClientMessage<'a>, InvalidPlainMessage>,
}

/// Why a text frame is not a message. The connection stays usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlainMessage {
    /// Not a JSON object.
    #[error(
        "Invalid message: {0}; send a JSON object such as {{\"type\":\"subscribe\",\"channel\":\"news\"}}"
    )]
    Malformed(String),
    /// An object of Pusher's protocol, which has `event` in the place of `type`.
    #[error(
        "Invalid message: 'type' is missing; send subscribe, unsubscribe, event or ping, or connect to /app/APP_KEY to speak Pusher's protocol"
    )]
    NoType,
    /// A type that there is not.
    #[error("Unsupported type {0:?}: clients may send subscribe, unsubscribe, event and ping")]
    UnknownType(String),
    /// A field is missing or has a wrong value.
    #[error("Invalid {kind}: expected '{field}' to be {expected}, it is {found}")]
    Field {
        /// The message's type.
        kind: &'static str,
        /// The field.
        field: &'static str,
        /// The values that it may have.
        expected: &'static str,
        /// What was found instead.
        found: String,
    },
    /// A `ref` that could not be sent back.
    #[error(
        "Invalid 'ref': expected a string or a number of at most {MAX_REFERENCE} bytes, it {0}"
    )]
    Reference(String),
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Fields<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    auth: Option<&'a RawValue>,
    #[serde(borrow)]
    channel_data: Option<&'a RawValue>,
    #[serde(borrow)]
    recover: Option<&'a RawValue>,
    #[serde(borrow)]
    rewind: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow, rename = "ref")]
    reference: Option<&'a RawValue>,
}

impl<'a> PlainMessage<'a> {
    /// Reads one text frame.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        let fields: Fields<'a> = match json::object(text) {
            Ok(fields) => fields,
            Err(error) => {
                return Self {
                    reference: None,
                    message: Err(InvalidPlainMessage::Malformed(json::reason(&error))),
                };
            }
        };
        match fields.reference.map(reference).transpose() {
            Ok(reference) => Self {
                reference: reference.flatten(),
                message: fields.message(),
            },
            Err(invalid) => Self {
                reference: None,
                message: Err(invalid),
            },
        }
    }
}

/// Returns a `ref` as it is sent back, or `None` for null.
fn reference(raw: &RawValue) -> Result<Option<&str>, InvalidPlainMessage> {
    let text = raw.get();
    let wrong = |found: String| Err(InvalidPlainMessage::Reference(found));
    match text.as_bytes()[0] {
        b'n' => Ok(None),
        _ if text.len() > MAX_REFERENCE => wrong(format!("has {} bytes", text.len())),
        // A lone surrogate is no text, and the client could not read it in the answer.
        b'"' if json::string(text).is_err() => wrong("is not text".into()),
        b'"' | b'-' | b'0'..=b'9' => Ok(Some(text)),
        _ => wrong(format!("is {}", json::kind(raw))),
    }
}

impl<'a> Fields<'a> {
    /// Returns the subscription that a client of Socket.IO asks for with `join`. `auth` is the text that authorizes it, or an object
    /// with that and what else it asks for.
    pub(crate) fn of_join(
        channel: &'a RawValue,
        auth: Option<&'a RawValue>,
    ) -> Result<Self, InvalidPlainMessage> {
        let mut fields = match auth.map(RawValue::get) {
            None | Some("null") => Self::default(),
            Some(text) if text.starts_with('"') => Self {
                auth,
                ..Self::default()
            },
            Some(text) => json::object(text).map_err(|error| InvalidPlainMessage::Field {
                kind: "join",
                field: "auth",
                expected: "a string or an object",
                found: json::reason(&error),
            })?,
        };
        fields.channel = Some(channel);
        // A client of Socket.IO is told the positions of events.
        fields.recover = fields.recover.or(Some(always()));
        Ok(fields)
    }

    fn message(&self) -> Result<ClientMessage<'a>, InvalidPlainMessage> {
        let Some(kind) = self.kind else {
            return Err(InvalidPlainMessage::NoType);
        };
        let Ok(kind) = json::string(kind.get()) else {
            return Err(InvalidPlainMessage::Field {
                kind: "message",
                field: "type",
                expected: "a string",
                found: json::kind(kind).into(),
            });
        };
        match &*kind {
            "ping" => Ok(ClientMessage::Ping),
            "subscribe" => self.subscribe().map(ClientMessage::Subscribe),
            "unsubscribe" => Ok(ClientMessage::Unsubscribe {
                channel: required("unsubscribe", "channel", self.channel)?,
            }),
            "event" => self.client_event().map(ClientMessage::ClientEvent),
            other => Err(InvalidPlainMessage::UnknownType(
                excerpt(other).into_owned(),
            )),
        }
    }

    pub(crate) fn subscribe(&self) -> Result<Subscribe<'a>, InvalidPlainMessage> {
        let kind = "subscribe";
        let wrong = |field, expected, raw| InvalidPlainMessage::Field {
            kind,
            field,
            expected,
            found: json::kind(raw).into(),
        };
        let given = |raw: Option<&'a RawValue>| raw.filter(|raw| raw.get() != "null");
        let recover = match given(self.recover) {
            None => None,
            Some(raw) if raw.get() == "false" => None,
            Some(raw) => Some(recover(raw).ok_or_else(|| {
                let expected = "true or an object with a string 'position'";
                wrong("recover", expected, raw)
            })?),
        };
        let rewind = given(self.rewind).map(|raw| {
            let count = raw.get().parse();
            count.map_err(|_| wrong("rewind", "a whole number, 0 or more", raw))
        });
        let rewind = rewind.transpose()?;
        let text = |field, raw| text(kind, field, raw).map(|text| text.filter(|t| !t.is_empty()));
        Ok(Subscribe {
            channel: required(kind, "channel", self.channel)?,
            auth: text("auth", self.auth)?,
            channel_data: text("channel_data", self.channel_data)?,
            // Only clients that get positions can go back.
            recover: recover.or(rewind.is_some().then_some(Recover::Start)),
            rewind,
        })
    }

    fn client_event(&self) -> Result<ClientEvent<'a>, InvalidPlainMessage> {
        let kind = "event";
        let name = required(kind, "event", self.event)?;
        if !name.starts_with(CLIENT_PREFIX) {
            return Err(InvalidPlainMessage::Field {
                kind,
                field: "event",
                expected: "a name that begins with client-",
                found: format!("{:?}", excerpt(&name)),
            });
        }
        Ok(ClientEvent {
            name,
            channel: required(kind, "channel", self.channel)?,
            data: self.data,
            reaches_sender: false,
        })
    }
}

/// Returns the JSON text `true`.
fn always() -> &'static RawValue {
    serde_json::from_str("true").expect("it is JSON")
}

fn required<'a>(
    kind: &'static str,
    field: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Cow<'a, str>, InvalidPlainMessage> {
    text(kind, field, raw)?.ok_or_else(|| InvalidPlainMessage::Field {
        kind,
        field,
        expected: "a string",
        found: "missing".into(),
    })
}

/// Reads a field that is a string, null or missing.
fn text<'a>(
    kind: &'static str,
    field: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Option<Cow<'a, str>>, InvalidPlainMessage> {
    match raw {
        None => Ok(None),
        Some(raw) if raw.get() == "null" => Ok(None),
        Some(raw) => json::string(raw.get())
            .map(Some)
            .map_err(|_| InvalidPlainMessage::Field {
                kind,
                field,
                expected: "a string",
                found: json::kind(raw).into(),
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<&str>, ClientMessage<'_>) {
        let PlainMessage { reference, message } = PlainMessage::parse(text);
        (reference, message.expect(text))
    }

    fn refused(text: &str) -> String {
        PlainMessage::parse(text)
            .message
            .expect_err(text)
            .to_string()
    }

    #[test]
    fn a_client_subscribes_with_all_that_pusher_clients_have() {
        let text = r#"{"type":"subscribe","channel":"private-a","auth":"k:s","channel_data":"{\"user_id\":1}","recover":{"position":"e:42"},"rewind":5,"ref":7,"token":"later"}"#;
        let (reference, ClientMessage::Subscribe(subscribe)) = read(text) else {
            panic!("{text}")
        };
        assert_eq!(reference, Some("7"));
        assert_eq!(subscribe.channel, "private-a");
        assert_eq!(subscribe.auth.as_deref(), Some("k:s"));
        assert_eq!(subscribe.channel_data.as_deref(), Some(r#"{"user_id":1}"#));
        assert!(matches!(subscribe.recover, Some(Recover::From { .. })));
        assert_eq!(subscribe.rewind, Some(5));
        let text = r#"{"channel":"a","type":"subscribe","recover":true,"auth":null,"rewind":null,"ref":null}"#;
        let (None, ClientMessage::Subscribe(subscribe)) = read(text) else {
            panic!("{text}")
        };
        assert_eq!(subscribe.recover, Some(Recover::Start));
        assert_eq!((subscribe.auth, subscribe.rewind), (None, None));
        let text = r#"{"type":"subscribe","channel":"a","rewind":3}"#;
        let (_, ClientMessage::Subscribe(subscribe)) = read(text) else {
            panic!("{text}")
        };
        assert_eq!(subscribe.recover, Some(Recover::Start));
    }

    #[test]
    fn a_client_leaves_sends_events_and_asks_whether_the_server_is_there() {
        let text = r#"{"type":"unsubscribe","channel":"a","ref":"x"}"#;
        let (Some("\"x\""), ClientMessage::Unsubscribe { channel }) = read(text) else {
            panic!("{text}")
        };
        assert_eq!(channel, "a");
        let text = r#"{"type":"event","channel":"a","event":"client-say","data":{"n": 1}}"#;
        let (None, ClientMessage::ClientEvent(event)) = read(text) else {
            panic!("{text}")
        };
        assert_eq!((&*event.name, &*event.channel), ("client-say", "a"));
        assert_eq!(event.data.map(RawValue::get), Some(r#"{"n": 1}"#));
        assert!(matches!(
            read(r#"{"type":"ping"}"#),
            (None, ClientMessage::Ping)
        ));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_place_and_the_remedy() {
        for (text, words) in [
            ("hello", "it is not JSON"),
            ("[]", "it is an array; send a JSON object such as"),
            (
                r#"{"event":"pusher:subscribe","data":{"channel":"a"}}"#,
                "'type' is missing; send subscribe, unsubscribe, event or ping, or connect to /app/APP_KEY",
            ),
            (
                r#"{"type":7}"#,
                "Invalid message: expected 'type' to be a string, it is a number",
            ),
            (r#"{"type":"join"}"#, "Unsupported type \"join\""),
            (
                r#"{"type":"subscribe"}"#,
                "Invalid subscribe: expected 'channel' to be a string, it is missing",
            ),
            (
                r#"{"type":"subscribe","channel":["a"]}"#,
                "'channel' to be a string, it is an array",
            ),
            (
                r#"{"type":"subscribe","channel":"a","auth":{}}"#,
                "'auth' to be a string, it is an object",
            ),
            (
                r#"{"type":"subscribe","channel":"a","recover":"e:1"}"#,
                "'recover' to be true or an object with a string 'position', it is a string",
            ),
            (
                r#"{"type":"subscribe","channel":"a","rewind":-1}"#,
                "'rewind' to be a whole number, 0 or more, it is a number",
            ),
            (
                r#"{"type":"event","channel":"a","event":"say"}"#,
                "'event' to be a name that begins with client-, it is \"say\"",
            ),
            (
                r#"{"type":"event","event":"client-say"}"#,
                "Invalid event: expected 'channel' to be a string, it is missing",
            ),
            (
                r#"{"type":"ping","ref":{}}"#,
                "Invalid 'ref': expected a string or a number of at most 100 bytes, it is an object",
            ),
            (r#"{"type":"ping","type":"ping"}"#, "duplicate field"),
            (r#"{"type":"ping","ref":"\ud800"}"#, "is not text"),
        ] {
            let answer = refused(text);
            assert!(answer.contains(words), "{text}: {answer}");
        }
        let long = format!(r#"{{"type":"ping","ref":"{}"}}"#, "x".repeat(99));
        assert!(refused(&long).contains("it has 101 bytes"));
    }

    #[test]
    fn a_message_that_is_refused_keeps_its_reference() {
        let message = PlainMessage::parse(r#"{"type":"join","ref":-1.5e3}"#);
        assert_eq!(message.reference, Some("-1.5e3"));
        assert!(message.message.is_err());
    }

    #[test]
    fn an_answer_is_short_however_long_or_deep_the_message() {
        let long = "\\u0001".repeat(10_000);
        for text in [
            format!("\"{long}\""),
            format!(r#"{{"type":"{long}"}}"#),
            format!(r#"{{"type":"event","event":"{long}"}}"#),
            format!(r#"{{"type":"ping","ref":"{long}"}}"#),
            format!(r#"{{"type":"subscribe","channel":["{long}"]}}"#),
            "[".repeat(100_000),
            format!(r#"{{"type":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000)),
        ] {
            let answer = refused(&text);
            assert!(answer.len() < 1_500, "{} bytes: {answer}", answer.len());
        }
    }
}
