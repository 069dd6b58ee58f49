//! Packets of Engine.IO 4 and Socket.IO 5, and the lines from which the server's packets are made (docs/any-client.md#socketio).
//!
//! All clients of a channel share one encoding of an event, a [`Line`]. What differs between them, the namespace and the offset, is
//! added for each client by [`Line::packet`].

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::client::{ClientEvent, ClientMessage};
use crate::event::CLIENT_PREFIX;
use crate::excerpt::excerpt;
use crate::frame::Content;
use crate::json::{self, write_string};
use crate::plain::{PROTOCOL_PREFIX, Plain};
use crate::plain_client::{Fields, InvalidPlainMessage};

/// The byte between two packets of one HTTP body. No packet has it, because JSON escapes it.
pub const SEPARATOR: u8 = 0x1e;
/// The namespace of clients that name none.
pub const ROOT: &str = "/";
/// Longest namespace, in bytes.
const MAX_NAMESPACE: usize = 200;
/// Most digits of an acknowledgement's id.
const MAX_ID: usize = 16;
/// Most parts that a binary packet may announce.
const MAX_ATTACHMENTS: usize = 100;
/// Names that clients keep for themselves: a packet with one ends its connection, in both directions.
const RESERVED: [&str; 6] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];
/// What precedes the name of an event that a client could not get under its own.
const EVENT_PREFIX: &str = "event:";
/// Names of the server's lines, by their first byte.
const EVENT: u8 = b'e';
const ACKNOWLEDGEMENT: u8 = b'a';
const CLOSE: u8 = b'c';

/// A packet of Engine.IO that a client sent as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineIoPacket<'a> {
    /// `1`: the client leaves.
    Close,
    /// `2probe`: a WebSocket that is to replace polling.
    Probe,
    /// `3`: the answer to a heartbeat.
    Pong,
    /// `4`: a packet of Socket.IO.
    Message(&'a str),
    /// `5`: the client uses its WebSocket from now on.
    Upgrade,
    /// `6`: nothing.
    Noop,
}

impl<'a> EngineIoPacket<'a> {
    /// Reads a packet, or returns `None` if it isn't one that a client may send.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        Some(match text {
            "1" => Self::Close,
            "2probe" => Self::Probe,
            "3" => Self::Pong,
            "5" => Self::Upgrade,
            "6" => Self::Noop,
            _ => Self::Message(text.strip_prefix('4')?),
        })
    }
}

/// What a packet of Socket.IO is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    /// Asks for a namespace.
    Connect,
    /// Leaves a namespace.
    Disconnect,
    /// An event, of which parts may be binary.
    Event,
    /// The answer to an event of the server, which asks for none.
    Ack,
}

/// A packet of Socket.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is for.
    pub kind: PacketKind,
    /// Number of binary parts that follow.
    pub attachments: usize,
    /// Its namespace, as the client wrote it.
    pub namespace: &'a str,
    /// The number by which the client wants the answer.
    pub id: Option<&'a str>,
    /// Its content, JSON that hasn't been read.
    pub data: &'a str,
}

impl<'a> Packet<'a> {
    /// Reads a packet, or returns `None` if it isn't one: its client must be disconnected.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut rest = text.get(1..)?;
        let (kind, is_binary) = match text.as_bytes()[0] {
            b'0' => (PacketKind::Connect, false),
            b'1' => (PacketKind::Disconnect, false),
            b'2' => (PacketKind::Event, false),
            b'3' => (PacketKind::Ack, false),
            b'5' => (PacketKind::Event, true),
            b'6' => (PacketKind::Ack, true),
            _ => return None,
        };
        let mut attachments = 0;
        if is_binary {
            let (count, after) = rest.split_once('-')?;
            attachments = count
                .parse()
                .ok()
                .filter(|count| *count <= MAX_ATTACHMENTS)?;
            rest = after;
        }
        let mut namespace = ROOT;
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
            // A query of its own, which clients had before version 3.
            namespace = namespace.split('?').next().unwrap_or_default();
        }
        let is_named = namespace.len() <= MAX_NAMESPACE && !namespace.contains(char::is_control);
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (id, data) = rest.split_at(digits);
        let packet = Self {
            kind,
            attachments,
            namespace,
            id: (digits > 0).then_some(id),
            data,
        };
        (is_named && digits <= MAX_ID && packet.is_whole()).then_some(packet)
    }

    /// Returns whether the content is one that its kind may have.
    fn is_whole(&self) -> bool {
        let is_json = || serde_json::from_str::<&RawValue>(self.data).is_ok();
        match self.kind {
            PacketKind::Connect => {
                self.data.is_empty() || (self.data.starts_with('{') && is_json())
            }
            PacketKind::Disconnect => self.data.is_empty(),
            PacketKind::Event => Emit::parse(self.data).is_some(),
            PacketKind::Ack => self.id.is_some() && self.data.starts_with('[') && is_json(),
        }
    }
}

/// An event that a client sends.
#[derive(Debug)]
pub struct Emit<'a> {
    name: Cow<'a, str>,
    arguments: Vec<&'a RawValue>,
}

/// What a client's event asks for.
#[derive(Debug)]
pub enum Request<'a> {
    /// What other clients ask for in messages of their own.
    Message(ClientMessage<'a>),
    /// A client event for the channels that the app's `socket_io.broadcast` names.
    Broadcast {
        /// The event's name, `client-` included.
        name: String,
        /// The data that the client sent, if any.
        data: Option<&'a RawValue>,
    },
}

/// Why an event of a client is refused. The connection stays usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEmit {
    /// A subscription that can't be read.
    #[error(transparent)]
    Subscribe(#[from] InvalidPlainMessage),
    /// A `join` or `leave` without a channel.
    #[error("Invalid {0}: its first argument must be the name of a channel")]
    NoChannel(&'static str),
    /// More values than a channel's event has.
    #[error(
        "Invalid emit of {0:?}: an event has one value, and after it {{channel: NAME}} if it is for one channel; put several values into one object"
    )]
    Arguments(String),
    /// A name of the protocol's own events.
    #[error("Invalid emit of {0:?}: names that begin with pusher: are the server's")]
    Name(String),
    /// Binary data.
    #[error(
        "Invalid emit of {0:?}: binary data is not supported, send it as text, for example in base64"
    )]
    Binary(String),
}

impl<'a> Emit<'a> {
    /// Reads the content of an event, or returns `None` if it isn't an array that begins with a name.
    #[must_use]
    pub fn parse(data: &'a str) -> Option<Self> {
        if !data.starts_with('[') {
            return None;
        }
        let mut arguments: Vec<&RawValue> = serde_json::from_str(data).ok()?;
        let name = json::string(arguments.first()?.get()).ok()?;
        arguments.remove(0);
        (!RESERVED.contains(&&*name)).then_some(Self { name, arguments })
    }

    /// Returns why it is refused if some of it is binary.
    #[must_use]
    pub fn binary(&self) -> InvalidEmit {
        InvalidEmit::Binary(excerpt(&self.name).into_owned())
    }

    /// Returns what it asks for.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidEmit`] if its arguments aren't those that it takes.
    pub fn request(self) -> Result<Request<'a>, InvalidEmit> {
        match (&*self.name, &self.arguments[..]) {
            ("join", [channel]) => join(channel, None),
            ("join", [channel, auth]) => join(channel, Some(auth)),
            ("join", _) => Err(InvalidEmit::NoChannel("join")),
            ("leave", [channel]) => {
                let channel = json::string(channel.get());
                let channel = channel.map_err(|_| InvalidEmit::NoChannel("leave"))?;
                Ok(Request::Message(ClientMessage::Unsubscribe { channel }))
            }
            ("leave", _) => Err(InvalidEmit::NoChannel("leave")),
            (name, _) if is_of_protocol(name) => Err(InvalidEmit::Name(excerpt(name).into_owned())),
            (name, []) => Ok(broadcast(name, None)),
            (name, [data]) => Ok(broadcast(name, Some(data))),
            (name, [data, options]) => {
                let channel = channel_of(options);
                let channel =
                    channel.ok_or_else(|| InvalidEmit::Arguments(excerpt(name).into_owned()))?;
                Ok(Request::Message(ClientMessage::ClientEvent(ClientEvent {
                    name: client_name(name).into(),
                    channel,
                    data: Some(data),
                    reaches_sender: false,
                })))
            }
            (name, _) => Err(InvalidEmit::Arguments(excerpt(name).into_owned())),
        }
    }
}

fn join<'a>(channel: &'a RawValue, auth: Option<&'a RawValue>) -> Result<Request<'a>, InvalidEmit> {
    if !channel.get().starts_with('"') {
        return Err(InvalidEmit::NoChannel("join"));
    }
    let subscribe = Fields::of_join(channel, auth)?.subscribe()?;
    Ok(Request::Message(ClientMessage::Subscribe(subscribe)))
}

fn broadcast<'a>(name: &str, data: Option<&'a RawValue>) -> Request<'a> {
    Request::Broadcast {
        name: client_name(name),
        data,
    }
}

/// Returns whether events of this name are the protocol's own.
fn is_of_protocol(name: &str) -> bool {
    [PROTOCOL_PREFIX, "pusher_internal:"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Returns the name that other clients see.
fn client_name(name: &str) -> String {
    match name.starts_with(CLIENT_PREFIX) {
        true => name.into(),
        false => format!("{CLIENT_PREFIX}{name}"),
    }
}

fn channel_of<'a>(options: &'a RawValue) -> Option<Cow<'a, str>> {
    #[derive(serde::Deserialize)]
    struct Options<'a> {
        #[serde(borrow)]
        channel: Cow<'a, str>,
    }
    json::object(options.get())
        .ok()
        .map(|Options { channel }| channel)
}

/// Returns a frame as the line from which each client's packet is made.
pub(crate) fn line(content: Content<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match content {
        Content::Ping => {}
        Content::Close { code, reason } => {
            out.push(CLOSE);
            out.extend_from_slice(code.to_string().as_bytes());
            out.push(b'\t');
            out.extend_from_slice(reason);
        }
        Content::Text(json) => write_message(&mut out, &Plain::read(json)),
    }
    if out.is_empty() {
        return out;
    }
    // White space between the tokens of published JSON. In its strings it is escaped.
    for byte in &mut out {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    out.push(b'\n');
    out
}

fn write_message(out: &mut Vec<u8>, message: &Plain<'_>) {
    // Clients of Socket.IO are told that they are connected by a packet of that protocol.
    if message.event == "pusher:connection_established" {
        return;
    }
    if let Some(id) = message.reference() {
        out.push(ACKNOWLEDGEMENT);
        out.extend_from_slice(id.as_bytes());
        out.push(b'\t');
        match message.is_error() {
            false => out.extend_from_slice(b"[{\"ok\":true}]"),
            true => {
                out.extend_from_slice(b"[{\"ok\":false,\"error\":");
                out.extend_from_slice(message.data.as_bytes());
                out.extend_from_slice(b"}]");
            }
        }
        return;
    }
    let channel = message.channel.as_deref();
    let position = message.position.as_deref();
    out.push(EVENT);
    out.extend_from_slice(channel.unwrap_or_default().as_bytes());
    out.push(b'\t');
    let start = first_position(message);
    let reached = position.or(start.as_deref());
    out.extend_from_slice(reached.unwrap_or_default().as_bytes());
    out.push(b'\t');
    let begin = out.len();
    // A client event must not look like one of the server's.
    let client_event = message.event.strip_prefix(CLIENT_PREFIX);
    let short = client_event.filter(|name| !is_of_protocol(name));
    let name = short.unwrap_or(&message.event);
    out.push(b'[');
    match RESERVED.contains(&name) {
        true => write_string(out, &format!("{EVENT_PREFIX}{name}")),
        false => write_string(out, name),
    }
    out.push(b',');
    out.extend_from_slice(message.value().as_bytes());
    if let Some(channel) = channel {
        out.extend_from_slice(b",{\"channel\":");
        write_string(out, channel);
        for (name, value) in [("user_id", message.user_id()), ("position", position)] {
            if let Some(value) = value {
                out.push(b',');
                write_string(out, name);
                out.push(b':');
                write_string(out, value);
            }
        }
        if client_event.is_some() {
            out.extend_from_slice(b",\"client\":true");
        }
        out.push(b'}');
    }
    out.push(b']');
    for byte in &mut out[begin..] {
        if *byte == b'\t' {
            *byte = b' ';
        }
    }
}

/// Returns the position at which a subscription begins, if this is the answer to it.
fn first_position<'a>(message: &'a Plain<'_>) -> Option<Cow<'a, str>> {
    #[derive(serde::Deserialize)]
    struct Succeeded<'a> {
        #[serde(borrow)]
        position: Option<Cow<'a, str>>,
    }
    let is_answer = message.event == "pusher:subscription_succeeded";
    let read = |data| serde_json::from_str::<Succeeded<'a>>(data).ok();
    read(is_answer.then_some(&*message.data)?)?.position
}

/// A message of the server to one client, before it is written as a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// An event.
    Event {
        /// Its channel; empty for what is about no channel.
        channel: &'a [u8],
        /// Its position in the channel's history; empty if it has none.
        position: &'a [u8],
        /// The arguments, a JSON array.
        arguments: &'a [u8],
    },
    /// The answer to an event of the client.
    Acknowledgement {
        /// The number by which the client wants it.
        id: &'a [u8],
        /// The arguments, a JSON array.
        arguments: &'a [u8],
    },
    /// The end.
    Close {
        /// The code of the close.
        code: u16,
    },
}

impl<'a> Line<'a> {
    /// Reads a line that the server wrote, with its end.
    ///
    /// # Panics
    ///
    /// Panics if it is none.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Self {
        let mut parts = line[1..line.len() - 1].splitn(3, |byte| *byte == b'\t');
        let mut next = || parts.next().unwrap_or_default();
        match line[0] {
            EVENT => Self::Event {
                channel: next(),
                position: next(),
                arguments: next(),
            },
            ACKNOWLEDGEMENT => Self::Acknowledgement {
                id: next(),
                arguments: next(),
            },
            _ => Self::Close {
                code: std::str::from_utf8(next())
                    .ok()
                    .and_then(|code| code.parse().ok())
                    .expect("the server writes its own lines"),
            },
        }
    }

    /// Appends it as a packet of Engine.IO for a client of a namespace. An event gets `offset` as its last argument, if there is one.
    /// A close has no packet of its own.
    pub fn packet(&self, out: &mut Vec<u8>, namespace: &str, offset: Option<&str>) {
        match *self {
            Self::Close { .. } => {}
            Self::Acknowledgement { id, arguments } => {
                begin_packet(out, b'3', namespace);
                out.extend_from_slice(id);
                out.extend_from_slice(arguments);
            }
            Self::Event { arguments, .. } => {
                begin_packet(out, b'2', namespace);
                match offset {
                    None => out.extend_from_slice(arguments),
                    Some(offset) => {
                        out.extend_from_slice(&arguments[..arguments.len() - 1]);
                        out.push(b',');
                        write_string(out, offset);
                        out.push(b']');
                    }
                }
            }
        }
    }
}

fn begin_packet(out: &mut Vec<u8>, kind: u8, namespace: &str) {
    out.extend_from_slice(&[b'4', kind]);
    if namespace != ROOT {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
}

/// Returns the packet that tells a client that it is connected to a namespace: as `sid`, and with `pid` to come back with.
#[must_use]
pub fn connected(namespace: &str, sid: &str, pid: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    begin_packet(&mut out, b'0', namespace);
    out.extend_from_slice(format!("{{\"sid\":\"{sid}\",\"pid\":\"{pid}\"}}").as_bytes());
    out
}

/// Returns the packet that refuses a namespace for good.
#[must_use]
pub fn refused(namespace: &str, code: u16, message: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    begin_packet(&mut out, b'4', namespace);
    out.extend_from_slice(b"{\"message\":");
    write_string(&mut out, message);
    out.extend_from_slice(format!(",\"data\":{{\"code\":{code}}}}}").as_bytes());
    out
}

/// Returns the packet that ends a namespace for a client that is not to come back by itself.
#[must_use]
pub fn disconnected(namespace: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    begin_packet(&mut out, b'1', namespace);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close::CloseCode;
    use crate::frame::{Frame, Framing};
    use crate::history::HistoryPosition;
    use crate::server::ServerMessage;

    fn packet<'a>(
        kind: PacketKind,
        namespace: &'a str,
        id: Option<&'a str>,
        data: &'a str,
    ) -> Packet<'a> {
        Packet {
            kind,
            attachments: 0,
            namespace,
            id,
            data,
        }
    }

    #[test]
    fn packets_of_all_kinds_are_read() {
        use PacketKind::{Ack, Connect, Disconnect, Event};
        for (text, expected) in [
            ("0", packet(Connect, "/", None, "")),
            (
                "0{\"key\":\"k\"}",
                packet(Connect, "/", None, "{\"key\":\"k\"}"),
            ),
            ("0/key", packet(Connect, "/key", None, "")),
            ("0/key,", packet(Connect, "/key", None, "")),
            ("0/key,{}", packet(Connect, "/key", None, "{}")),
            ("0/key?a=b,{}", packet(Connect, "/key", None, "{}")),
            ("1", packet(Disconnect, "/", None, "")),
            ("1/key,", packet(Disconnect, "/key", None, "")),
            ("2[\"a\",1]", packet(Event, "/", None, "[\"a\",1]")),
            (
                "2/key,17[\"a\"]",
                packet(Event, "/key", Some("17"), "[\"a\"]"),
            ),
            ("35[]", packet(Ack, "/", Some("5"), "[]")),
        ] {
            assert_eq!(Packet::parse(text), Some(expected), "{text}");
        }
        let binary =
            Packet::parse("52-/k,[\"a\",{\"_placeholder\":true,\"num\":0}]").expect("a packet");
        assert_eq!(
            (binary.kind, binary.attachments, binary.namespace),
            (Event, 2, "/k")
        );
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for text in [
            "",
            "7",
            "4{}",
            "0[]",
            "0{",
            "0\"x\"",
            "1[]",
            "2",
            "2{}",
            "2[]",
            "2[1]",
            "2[\"a\"",
            "2[\"a\"]x",
            "2[\"connect\"]",
            "5[\"a\"]",
            "5x-[\"a\"]",
            "5999-[\"a\"]",
            "3[]",
            "31{}",
            "2/a\u{1e},[\"a\"]",
            "212345678901234567[\"a\"]",
            "é",
        ] {
            assert_eq!(Packet::parse(text), None, "{text}");
        }
        assert_eq!(
            Packet::parse(&format!("0/{}", "x".repeat(MAX_NAMESPACE))),
            None
        );
    }

    #[test]
    fn packets_of_engine_io_are_read() {
        for (text, expected) in [
            ("1", Some(EngineIoPacket::Close)),
            ("2probe", Some(EngineIoPacket::Probe)),
            ("3", Some(EngineIoPacket::Pong)),
            ("40", Some(EngineIoPacket::Message("0"))),
            ("4", Some(EngineIoPacket::Message(""))),
            ("5", Some(EngineIoPacket::Upgrade)),
            ("6", Some(EngineIoPacket::Noop)),
            ("", None),
            ("0", None),
            ("2", None),
            ("abc", None),
            ("é", None),
        ] {
            assert_eq!(EngineIoPacket::parse(text), expected, "{text}");
        }
    }

    fn request(data: &str) -> Result<Request<'_>, InvalidEmit> {
        Emit::parse(data).expect(data).request()
    }

    #[test]
    fn rooms_are_channels() {
        let Ok(Request::Message(ClientMessage::Subscribe(join))) =
            request(r#"["join","private-a",{"auth":"k:s","channel_data":"{}","rewind":5}]"#)
        else {
            panic!("no subscription");
        };
        assert_eq!(
            (&*join.channel, join.auth.as_deref(), join.rewind),
            ("private-a", Some("k:s"), Some(5))
        );
        let Ok(Request::Message(ClientMessage::Subscribe(join))) =
            request(r#"["join","private-a","k:s"]"#)
        else {
            panic!("no subscription");
        };
        assert_eq!(
            (join.auth.as_deref(), join.recover.is_some()),
            (Some("k:s"), true)
        );
        assert!(matches!(
            request(r#"["leave","a"]"#),
            Ok(Request::Message(ClientMessage::Unsubscribe { channel })) if channel == "a"
        ));
    }

    #[test]
    fn an_event_is_for_the_apps_channels_or_for_one() {
        let Ok(Request::Broadcast { name, data }) = request(r#"["chat message","hi"]"#) else {
            panic!("no broadcast");
        };
        assert_eq!(
            (&*name, data.map(RawValue::get)),
            ("client-chat message", Some("\"hi\""))
        );
        let Ok(Request::Message(ClientMessage::ClientEvent(event))) =
            request(r#"["client-typing",null,{"channel":"private-a"}]"#)
        else {
            panic!("no client event");
        };
        assert_eq!(
            (&*event.name, &*event.channel, event.reaches_sender),
            ("client-typing", "private-a", false)
        );
    }

    #[test]
    fn arguments_that_mean_nothing_are_refused_in_words() {
        for (data, words) in [
            (r#"["join"]"#, "Invalid join"),
            (r#"["join",1]"#, "the name of a channel"),
            (r#"["join","a",1]"#, "Invalid join"),
            (r#"["join","a","x",3]"#, "the name of a channel"),
            (r#"["pusher:error",1]"#, "are the server's"),
            (r#"["leave",{}]"#, "the name of a channel"),
            (r#"["chat","a","b"]"#, "put several values into one object"),
            (
                r#"["chat",1,{"channel":"a"},3]"#,
                "put several values into one object",
            ),
        ] {
            let error = request(data).expect_err(data).to_string();
            assert!(error.contains(words), "{data}: {error}");
        }
    }

    fn packets(frame: &Frame, namespace: &str, offset: Option<&str>) -> String {
        let line = frame.bytes(Framing::SocketIo);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let mut out = Vec::new();
        Line::parse(line).packet(&mut out, namespace, offset);
        String::from_utf8(out).expect("packets are text")
    }

    fn event(name: &str, data: &str) -> Frame {
        let position = HistoryPosition {
            epoch: "e".into(),
            offset: 7,
        };
        let message = ServerMessage::Event {
            name,
            channel: "presence-a",
            data,
            user_id: Some("ada"),
            position: Some(&position),
        };
        message.to_frame()
    }

    #[test]
    fn an_event_has_its_value_and_what_is_known_of_it() {
        assert_eq!(
            packets(&event("news", "{\n\t\"a\":\"\\t\"}"), "/", None),
            r#"42["news",{  "a":"\t"},{"channel":"presence-a","user_id":"ada","position":"e:7"}]"#
        );
        assert_eq!(
            packets(
                &event("client-said", "no JSON\t\u{1e}"),
                "/key",
                Some("presence-a e:7")
            ),
            r#"42/key,["said","no JSON\t\u001e",{"channel":"presence-a","user_id":"ada","position":"e:7","client":true},"presence-a e:7"]"#
        );
        let frame = event("news", "1");
        assert_eq!(
            Line::parse(frame.bytes(Framing::SocketIo)),
            Line::Event {
                channel: b"presence-a",
                position: b"e:7",
                arguments:
                    br#"["news",1,{"channel":"presence-a","user_id":"ada","position":"e:7"}]"#,
            }
        );
    }

    #[test]
    fn the_answer_to_a_subscription_has_the_position_at_which_it_begins() {
        let history = crate::server::HistoryState {
            position: Some(HistoryPosition {
                epoch: "e".into(),
                offset: 7,
            }),
            recovered: None,
        };
        let message = ServerMessage::SubscriptionSucceeded {
            channel: "a",
            history: &history,
        };
        let frame = message.to_frame();
        let Line::Event {
            position,
            arguments,
            ..
        } = Line::parse(frame.bytes(Framing::SocketIo))
        else {
            panic!("no event");
        };
        assert_eq!(position, b"e:7");
        assert_eq!(
            arguments,
            br#"["pusher:subscription_succeeded",{"position":"e:7"},{"channel":"a"}]"#
        );
    }

    #[test]
    fn no_event_has_a_name_that_clients_or_the_protocol_keep_for_themselves() {
        for (name, expected) in [
            ("connect", "event:connect"),
            ("client-disconnect", "event:disconnect"),
            ("client-pusher:error", "client-pusher:error"),
            ("client-pusher_internal:a", "client-pusher_internal:a"),
        ] {
            let packet = packets(&event(name, "1"), "/", None);
            assert!(
                packet.starts_with(&format!("42[\"{expected}\",1,")),
                "{packet}"
            );
        }
    }

    #[test]
    fn an_answer_goes_to_the_callback_and_an_error_without_one_is_an_event() {
        assert_eq!(
            packets(&ServerMessage::Ack { reference: "7" }.to_frame(), "/", None),
            r#"437[{"ok":true}]"#
        );
        let error = |reference| ServerMessage::Error {
            code: None,
            message: "no",
            reference,
        };
        assert_eq!(
            packets(&error(Some("7")).to_frame(), "/k", None),
            r#"43/k,7[{"ok":false,"error":{"code":null,"message":"no"}}]"#
        );
        assert_eq!(
            packets(&error(None).to_frame(), "/", None),
            r#"42["pusher:error",{"code":null,"message":"no"}]"#
        );
    }

    #[test]
    fn the_end_has_its_code_and_a_heartbeat_is_nothing() {
        let close = Frame::close(CloseCode::Reconnect, "bye\nbye");
        assert_eq!(
            Line::parse(close.bytes(Framing::SocketIo)),
            Line::Close { code: 4200 }
        );
        assert!(Frame::ping().bytes(Framing::SocketIo).is_empty());
    }

    #[test]
    fn connections_are_confirmed_and_refused_in_their_namespace() {
        let text = |packet| String::from_utf8(packet).expect("text");
        assert_eq!(
            text(connected("/", "1.2", "p")),
            r#"40{"sid":"1.2","pid":"p"}"#
        );
        assert_eq!(
            text(refused("/k", 4001, "no \"app\"")),
            r#"44/k,{"message":"no \"app\"","data":{"code":4001}}"#
        );
        assert_eq!(
            (text(disconnected("/")), text(disconnected("/k"))),
            ("41".into(), "41/k,".into())
        );
    }
}
