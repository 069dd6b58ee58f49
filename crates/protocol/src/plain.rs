//! Messages for clients that don't speak Pusher's protocol: what a frame says, with `data` as the value that Pusher's clients get
//! by reading the string in it (docs/any-client.md).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{self, write_string};

/// The prefix of the protocol's own events, which no app's event has.
pub(crate) const PROTOCOL_PREFIX: &str = "pusher:";

/// A message of the server, read from the frame that Pusher's clients get.
#[derive(Debug)]
pub(crate) struct Plain<'a> {
    pub(crate) event: Cow<'a, str>,
    pub(crate) channel: Option<Cow<'a, str>>,
    /// The text that was published, or the JSON text of the protocol's own data.
    pub(crate) data: Cow<'a, str>,
    /// `data` as it stands in the frame.
    literal: &'a str,
    user_id: Option<Cow<'a, str>>,
    pub(crate) position: Option<Cow<'a, str>>,
    reference: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    user_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    position: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "ref")]
    reference: Option<&'a RawValue>,
}

/// Returns the close code by which a client of raw frames, which needn't know Pusher's codes, tells whether to come back:
/// WebSocket's own for a restart (1012) and for a while later (1013).
pub(crate) fn raw_close_code(code: u16) -> u16 {
    match code {
        4100..=4199 => 1013,
        4200..=4299 => 1012,
        lasting => lasting,
    }
}

impl<'a> Plain<'a> {
    /// Reads a frame of [`ServerMessage`](crate::ServerMessage).
    pub(crate) fn read(json: &'a [u8]) -> Self {
        let wire: Wire<'a> =
            serde_json::from_slice(json).expect("the server writes its own frames");
        let internal = wire.event.strip_prefix("pusher_internal:");
        let event = internal.map(|name| Cow::Owned(format!("{PROTOCOL_PREFIX}{name}")));
        let literal = wire.data.get();
        let data = match literal.starts_with('"') {
            true => {
                json::string(literal).expect("the server writes strings without lone surrogates")
            }
            false => Cow::Borrowed(literal),
        };
        Self {
            event: event.unwrap_or(wire.event),
            channel: wire.channel,
            data,
            literal,
            user_id: wire.user_id,
            position: wire.position,
            reference: wire.reference,
        }
    }

    /// Returns whether it is the protocol's own, and no event of the app.
    pub(crate) fn is_of_protocol(&self) -> bool {
        self.event.starts_with(PROTOCOL_PREFIX)
    }

    /// Returns whether it tells the client of an error.
    pub(crate) fn is_error(&self) -> bool {
        self.event == "pusher:error"
    }

    /// Returns the name by which the client wants the answer, as JSON.
    pub(crate) fn reference(&self) -> Option<&'a str> {
        self.reference.map(RawValue::get)
    }

    /// Returns the user who has sent it, if that is known.
    pub(crate) fn user_id(&self) -> Option<&str> {
        self.user_id.as_deref()
    }

    /// Returns its data as JSON. Data that isn't JSON is a string, as it is in Pusher's clients.
    pub(crate) fn value(&self) -> &str {
        match serde_json::from_str::<&RawValue>(&self.data) {
            Ok(_) => &self.data,
            Err(_) => self.literal,
        }
    }

    /// Returns it as a JSON object.
    pub(crate) fn to_object(&self) -> Vec<u8> {
        let data = self.value();
        let mut out = Vec::with_capacity(data.len() + self.event.len() + 128);
        out.push(b'{');
        let mut field = |name: &str, write: &dyn Fn(&mut Vec<u8>)| {
            if out.len() > 1 {
                out.push(b',');
            }
            write_string(&mut out, name);
            out.push(b':');
            write(&mut out);
        };
        if let Some(channel) = &self.channel {
            field("channel", &|out| write_string(out, channel));
        }
        field("event", &|out| write_string(out, &self.event));
        field("data", &|out| out.extend_from_slice(data.as_bytes()));
        if let Some(user_id) = &self.user_id {
            field("user_id", &|out| write_string(out, user_id));
        }
        if let Some(position) = &self.position {
            field("position", &|out| write_string(out, position));
        }
        if let Some(reference) = self.reference {
            field("ref", &|out| {
                out.extend_from_slice(reference.get().as_bytes())
            });
        }
        out.push(b'}');
        out
    }
}

/// Returns a frame as a JSON object.
pub(crate) fn object(json: &[u8]) -> Vec<u8> {
    Plain::read(json).to_object()
}

/// Returns the data of an app's event, or `None` if the frame is the protocol's own.
pub(crate) fn event_data(json: &[u8]) -> Option<String> {
    let plain = Plain::read(json);
    (!plain.is_of_protocol()).then(|| plain.data.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close::CloseCode;
    use crate::frame::{Frame, Framing};
    use crate::history::HistoryPosition;
    use crate::server::{HistoryState, ServerMessage};

    fn event(data: &str) -> Vec<u8> {
        let position = HistoryPosition {
            epoch: "e".into(),
            offset: 7,
        };
        let message = ServerMessage::Event {
            name: "said \"so\"",
            channel: "presence-a",
            data,
            user_id: Some("ada"),
            position: Some(&position),
        };
        message.to_json()
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("JSON is text")
    }

    #[test]
    fn data_is_the_value_that_was_published_and_text_stays_a_string() {
        for (data, value) in [
            (
                r#"{"n":9007199254740993, "a":[1.50]}"#,
                r#"{"n":9007199254740993, "a":[1.50]}"#,
            ),
            ("null", "null"),
            ("\"quoted\"", "\"quoted\""),
            ("plain \"text\"\n", r#""plain \"text\"\n""#),
            ("", r#""""#),
            ("{\"cut\":", r#""{\"cut\":""#),
        ] {
            assert_eq!(
                text(object(&event(data))),
                format!(
                    r#"{{"channel":"presence-a","event":"said \"so\"","data":{value},"user_id":"ada","position":"e:7"}}"#
                )
            );
        }
    }

    #[test]
    fn messages_of_the_protocol_have_one_prefix() {
        let succeeded = ServerMessage::SubscriptionSucceeded {
            channel: "a",
            history: &HistoryState::default(),
        };
        assert_eq!(
            text(object(&succeeded.to_json())),
            r#"{"channel":"a","event":"pusher:subscription_succeeded","data":{}}"#
        );
        let error = ServerMessage::Error {
            code: None,
            message: "no",
            reference: Some("7"),
        };
        assert_eq!(
            text(object(&error.to_json())),
            r#"{"event":"pusher:error","data":{"code":null,"message":"no"},"ref":7}"#
        );
    }

    #[test]
    fn a_raw_client_gets_the_data_of_events_and_nothing_else() {
        let frame = Frame::text(&event("hello \"you\""));
        assert_eq!(&frame.bytes(Framing::Raw)[2..], b"hello \"you\"");
        assert!(
            ServerMessage::Pong
                .to_frame()
                .bytes(Framing::Raw)
                .is_empty()
        );
        assert_eq!(
            Frame::ping().bytes(Framing::Raw),
            Frame::ping().bytes(Framing::WebSocket)
        );
    }

    #[test]
    fn a_raw_client_is_told_in_codes_of_websocket_whether_to_come_back() {
        for (code, expected) in [
            (CloseCode::Reconnect, 1012_u16),
            (CloseCode::PongTimeout, 1012),
            (CloseCode::OverCapacity, 1013),
            (CloseCode::EventsMissed, 1013),
            (CloseCode::UnknownApp, 4001),
            (CloseCode::Refused, 1008),
        ] {
            let frame = Frame::close(code, "why");
            let raw = frame.bytes(Framing::Raw);
            assert_eq!(raw[2..4], expected.to_be_bytes());
            assert_eq!(&raw[4..], b"why");
            assert_eq!(
                frame.bytes(Framing::Object)[2..4],
                code.number().to_be_bytes()
            );
        }
    }
}
