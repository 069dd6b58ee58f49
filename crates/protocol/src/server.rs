//! Messages that the server sends (docs/protocol.md#frames). `data` is a string everywhere except
//! in `pusher:error`, where it must be an object, because native clients lose the payload
//! otherwise.

use crate::frame::Frame;
use crate::history::{HistoryPosition, Unrecovered};
use crate::ids::{SocketId, UserId};
use crate::json::{write_literal, write_string};
use crate::presence::Member;

/// One message to a client.
#[derive(Debug)]
pub enum ServerMessage<'a> {
    /// The first message on every admitted connection.
    ConnectionEstablished {
        /// The connection's socket id.
        socket_id: SocketId,
        /// Seconds of silence after which the client should send a ping.
        activity_timeout: u64,
    },
    /// An error. Without a code the connection stays open.
    Error {
        /// A code of the table, or `None`.
        code: Option<u16>,
        /// The text for people.
        message: &'a str,
        /// `ref` of the plain message that is answered, as JSON.
        reference: Option<&'a str>,
    },
    /// What a plain message asked for is done (docs/any-client.md#messages-of-a-client).
    Ack {
        /// `ref` of the message, as JSON.
        reference: &'a str,
    },
    /// The answer to `pusher:ping`.
    Pong,
    /// The client is subscribed; events follow.
    SubscriptionSucceeded {
        /// The channel.
        channel: &'a str,
        /// The client's position in the channel's history, if it asked.
        history: &'a HistoryState,
    },
    /// The client is subscribed to a presence channel; these are its members, the subscriber
    /// included.
    PresenceSucceeded {
        /// The channel.
        channel: &'a str,
        /// The members, each user once.
        members: &'a [Member],
        /// The client's position in the channel's history, if it asked.
        history: &'a HistoryState,
    },
    /// The connection is signed in.
    SignInSuccess {
        /// The text that the client sent, unchanged.
        user_data: &'a str,
    },
    /// How many connections are subscribed to a channel.
    SubscriptionCount {
        /// The channel.
        channel: &'a str,
        /// The number of connections.
        count: usize,
    },
    /// Which watched users are online and which are not; empty groups are left out.
    WatchlistEvents {
        /// The users who are online.
        online: &'a [UserId],
        /// The users who are not.
        offline: &'a [UserId],
    },
    /// A cache channel has no event to replay.
    CacheMiss {
        /// The channel.
        channel: &'a str,
    },
    /// The subscription was refused.
    SubscriptionError {
        /// The channel, as the client named it.
        channel: &'a str,
        /// `AuthError` or `LimitReached` or `InvalidChannel`.
        kind: &'a str,
        /// The text for people.
        message: &'a str,
        /// The HTTP status with the same meaning.
        status: u16,
    },
    /// A user joined a presence channel.
    MemberAdded {
        /// The channel.
        channel: &'a str,
        /// The user.
        member: &'a Member,
    },
    /// A user left a presence channel.
    MemberRemoved {
        /// The channel.
        channel: &'a str,
        /// The user.
        user_id: &'a str,
    },
    /// An event from a backend or from another client.
    Event {
        /// Its name.
        name: &'a str,
        /// The channel.
        channel: &'a str,
        /// The data as published, unchanged.
        data: &'a str,
        /// The user who sent it: only for client events on presence channels.
        user_id: Option<&'a str>,
        /// Its position in the channel's history, for clients that asked.
        position: Option<&'a HistoryPosition>,
    },
}

/// The position in a channel's history of a client that asked, and the outcome of its recovery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryState {
    /// The position, if the channel has a history.
    pub position: Option<HistoryPosition>,
    /// Whether the client gets the events that it missed, if it reconnected.
    pub recovered: Option<Result<(), Unrecovered>>,
}

impl HistoryState {
    /// Returns its JSON fields, each followed by a comma.
    fn fields(&self) -> String {
        let position = self
            .position
            .as_ref()
            .map(|position| format!(r#""position":"{position}","#));
        let recovered = self.recovered.map(|recovered| match recovered {
            Ok(()) => r#""recovered":true,"#.to_owned(),
            Err(reason) => format!(r#""recovered":false,"reason":"{}","#, reason.as_str()),
        });
        position.into_iter().chain(recovered).collect()
    }
}

impl ServerMessage<'_> {
    /// Returns the message as bytes for the socket.
    #[must_use]
    pub fn to_frame(&self) -> Frame {
        Frame::text(&self.to_json())
    }

    /// Returns the message as JSON text.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        match *self {
            Self::ConnectionEstablished {
                socket_id,
                activity_timeout,
            } => {
                let data = format!(
                    r#"{{"socket_id":"{socket_id}","activity_timeout":{activity_timeout}}}"#
                );
                message("pusher:connection_established", None, data.as_bytes())
            }
            Self::Error {
                code,
                message,
                reference,
            } => error(code, message, reference),
            Self::Ack { reference } => {
                with_reference(message("pusher:ack", None, b"{}"), Some(reference))
            }
            Self::Pong => message("pusher:pong", None, b"{}"),
            Self::SubscriptionSucceeded { channel, history } => {
                let fields = history.fields();
                message(
                    "pusher_internal:subscription_succeeded",
                    Some(channel),
                    format!("{{{}}}", fields.trim_end_matches(',')).as_bytes(),
                )
            }
            Self::PresenceSucceeded {
                channel,
                members,
                history,
            } => message(
                "pusher_internal:subscription_succeeded",
                Some(channel),
                &presence(members, &history.fields()),
            ),
            Self::SignInSuccess { user_data } => {
                let mut data = br#"{"user_data":"#.to_vec();
                write_string(&mut data, user_data);
                data.push(b'}');
                message("pusher:signin_success", None, &data)
            }
            Self::SubscriptionCount { channel, count } => {
                let data = format!(r#"{{"subscription_count":{count}}}"#);
                message(
                    "pusher_internal:subscription_count",
                    Some(channel),
                    data.as_bytes(),
                )
            }
            Self::WatchlistEvents { online, offline } => message(
                "pusher_internal:watchlist_events",
                None,
                &watchlist_events(online, offline),
            ),
            Self::CacheMiss { channel } => message("pusher:cache_miss", Some(channel), b"{}"),
            Self::SubscriptionError {
                channel,
                kind,
                message: text,
                status,
            } => {
                let mut data = br#"{"type":"#.to_vec();
                write_string(&mut data, kind);
                data.extend_from_slice(br#","error":"#);
                write_string(&mut data, text);
                data.extend_from_slice(format!(r#","status":{status}}}"#).as_bytes());
                message("pusher:subscription_error", Some(channel), &data)
            }
            Self::MemberAdded { channel, member } => message(
                "pusher_internal:member_added",
                Some(channel),
                &added(member),
            ),
            Self::MemberRemoved { channel, user_id } => {
                let mut data = br#"{"user_id":"#.to_vec();
                write_string(&mut data, user_id);
                data.push(b'}');
                message("pusher_internal:member_removed", Some(channel), &data)
            }
            Self::Event {
                name,
                channel,
                data,
                user_id,
                position,
            } => event(name, channel, data, user_id, position),
        }
    }
}

fn message(event_name: &str, channel: Option<&str>, data: &[u8]) -> Vec<u8> {
    let mut out = start(event_name, channel, data.len());
    out.extend_from_slice(br#","data":"#);
    write_literal(&mut out, data);
    out.push(b'}');
    out
}

fn event(
    name: &str,
    channel: &str,
    data: &str,
    user_id: Option<&str>,
    position: Option<&HistoryPosition>,
) -> Vec<u8> {
    let mut out = message(name, Some(channel), data.as_bytes());
    if let Some(user_id) = user_id {
        out.pop();
        out.extend_from_slice(br#","user_id":"#);
        write_string(&mut out, user_id);
        out.push(b'}');
    }
    if let Some(position) = position {
        out.pop();
        out.extend_from_slice(format!(r#","position":"{position}"}}"#).as_bytes());
    }
    out
}

fn error(code: Option<u16>, text: &str, reference: Option<&str>) -> Vec<u8> {
    let mut out = start("pusher:error", None, text.len());
    let code = code.map_or_else(|| "null".into(), |code| code.to_string());
    out.extend_from_slice(format!(r#","data":{{"code":{code},"message":"#).as_bytes());
    write_string(&mut out, text);
    out.extend_from_slice(b"}}");
    with_reference(out, reference)
}

/// Adds `ref` to an object.
fn with_reference(mut out: Vec<u8>, reference: Option<&str>) -> Vec<u8> {
    if let Some(reference) = reference {
        out.pop();
        out.extend_from_slice(format!(r#","ref":{reference}}}"#).as_bytes());
    }
    out
}

/// Begins an object with the fields that every message has; `room` is a guess at the bytes that
/// follow.
fn start(event_name: &str, channel: Option<&str>, room: usize) -> Vec<u8> {
    let mut out =
        Vec::with_capacity(64 + event_name.len() + channel.map_or(0, str::len) + room + room / 4);
    out.extend_from_slice(br#"{"event":"#);
    write_string(&mut out, event_name);
    if let Some(channel) = channel {
        out.extend_from_slice(br#","channel":"#);
        write_string(&mut out, channel);
    }
    out
}

fn presence(members: &[Member], fields: &str) -> Vec<u8> {
    let mut hash = Vec::new();
    let mut out = format!(r#"{{{fields}"presence":{{"ids":["#).into_bytes();
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            out.push(b',');
            hash.push(b',');
        }
        let start = out.len();
        write_string(&mut out, member.user_id.as_str());
        hash.extend_from_slice(&out[start..]);
        hash.push(b':');
        hash.extend_from_slice(member.user_info.as_deref().unwrap_or("null").as_bytes());
    }
    out.extend_from_slice(br#"],"hash":{"#);
    out.extend_from_slice(&hash);
    out.extend_from_slice(format!(r#"}},"count":{}}}}}"#, members.len()).as_bytes());
    out
}

fn watchlist_events(online: &[UserId], offline: &[UserId]) -> Vec<u8> {
    let mut out = br#"{"events":["#.to_vec();
    let mut is_first = true;
    for (name, users) in [("online", online), ("offline", offline)] {
        if users.is_empty() {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        out.extend_from_slice(format!(r#"{{"name":"{name}","user_ids":["#).as_bytes());
        for (index, user) in users.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_string(&mut out, user.as_str());
        }
        out.extend_from_slice(b"]}");
    }
    out.extend_from_slice(b"]}");
    out
}

fn added(member: &Member) -> Vec<u8> {
    let mut data = br#"{"user_id":"#.to_vec();
    write_string(&mut data, member.user_id.as_str());
    if let Some(info) = &member.user_info {
        data.extend_from_slice(br#","user_info":"#);
        data.extend_from_slice(info.as_bytes());
    }
    data.push(b'}');
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(message: &ServerMessage<'_>) -> String {
        String::from_utf8(message.to_json()).unwrap()
    }

    fn member(id: &str, info: Option<&str>) -> Member {
        Member {
            user_id: UserId::new(id).unwrap(),
            user_info: info.map(Into::into),
        }
    }

    #[test]
    fn data_is_a_string_everywhere_but_in_errors() {
        let socket_id = SocketId::parse("1.2").unwrap();
        assert_eq!(
            json(&ServerMessage::ConnectionEstablished {
                socket_id,
                activity_timeout: 120
            }),
            r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.2\",\"activity_timeout\":120}"}"#
        );
        assert_eq!(
            json(&ServerMessage::SubscriptionSucceeded {
                channel: "a",
                history: &HistoryState::default()
            }),
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"a","data":"{}"}"#
        );
        assert_eq!(
            json(&ServerMessage::Error {
                code: None,
                message: "no \"way\"",
                reference: None,
            }),
            r#"{"event":"pusher:error","data":{"code":null,"message":"no \"way\""}}"#
        );
        assert_eq!(
            json(&ServerMessage::Error {
                code: Some(4001),
                message: "x",
                reference: Some("\"a\""),
            }),
            r#"{"event":"pusher:error","data":{"code":4001,"message":"x"},"ref":"a"}"#
        );
        assert_eq!(
            json(&ServerMessage::Ack { reference: "7" }),
            r#"{"event":"pusher:ack","data":"{}","ref":7}"#
        );
        assert_eq!(
            json(&ServerMessage::SubscriptionError {
                channel: "a",
                kind: "AuthError",
                message: "m",
                status: 401
            }),
            r#"{"event":"pusher:subscription_error","channel":"a","data":"{\"type\":\"AuthError\",\"error\":\"m\",\"status\":401}"}"#
        );
    }

    #[test]
    fn presence_lists_ids_and_a_hash_that_is_always_an_object() {
        assert_eq!(
            json(&ServerMessage::PresenceSucceeded {
                channel: "presence-a",
                members: &[member("a", Some(r#"{"n":1}"#)), member("__proto__", None)],
                history: &HistoryState::default(),
            }),
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"presence-a","data":"{\"presence\":{\"ids\":[\"a\",\"__proto__\"],\"hash\":{\"a\":{\"n\":1},\"__proto__\":null},\"count\":2}}"}"#
        );
        assert_eq!(
            json(&ServerMessage::MemberAdded {
                channel: "presence-a",
                member: &member("a", Some(r#"{"n":1}"#))
            }),
            r#"{"event":"pusher_internal:member_added","channel":"presence-a","data":"{\"user_id\":\"a\",\"user_info\":{\"n\":1}}"}"#
        );
        assert_eq!(
            json(&ServerMessage::MemberRemoved {
                channel: "presence-a",
                user_id: "a"
            }),
            r#"{"event":"pusher_internal:member_removed","channel":"presence-a","data":"{\"user_id\":\"a\"}"}"#
        );
    }

    #[test]
    fn event_data_arrives_as_it_was_published() {
        for data in [
            "",
            "null",
            "{\"a\":\"é\u{2028}\\\"😀\"}",
            "line\nbreak\u{0}",
        ] {
            let message = ServerMessage::Event {
                name: "App\\Event",
                channel: "c",
                data,
                user_id: Some("7"),
                position: None,
            };
            let value: serde_json::Value = serde_json::from_slice(&message.to_json()).unwrap();
            assert_eq!(value["data"], data);
            assert_eq!(value["event"], "App\\Event");
            assert_eq!(value["user_id"], "7");
        }
    }

    #[test]
    fn who_asked_is_told_where_in_the_history_it_is() {
        let position = HistoryPosition::parse("e:42");
        let succeeded = |history: &HistoryState| {
            let channel = "a";
            json(&ServerMessage::SubscriptionSucceeded { channel, history })
        };
        let recovered = HistoryState {
            position: position.clone(),
            recovered: Some(Ok(())),
        };
        assert_eq!(
            succeeded(&recovered),
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"a","data":"{\"position\":\"e:42\",\"recovered\":true}"}"#
        );
        let off = HistoryState {
            position: None,
            recovered: Some(Err(Unrecovered::Off)),
        };
        assert!(succeeded(&off).contains(r#"{\"recovered\":false,\"reason\":\"off\"}"#));
        let presence = ServerMessage::PresenceSucceeded {
            channel: "presence-a",
            members: &[],
            history: &recovered,
        };
        assert!(
            json(&presence).contains(r#"{\"position\":\"e:42\",\"recovered\":true,\"presence\":{"#)
        );
        let event = ServerMessage::Event {
            name: "n",
            channel: "a",
            data: "d",
            user_id: None,
            position: position.as_ref(),
        };
        assert_eq!(
            json(&event),
            r#"{"event":"n","channel":"a","data":"d","position":"e:42"}"#
        );
    }
}
