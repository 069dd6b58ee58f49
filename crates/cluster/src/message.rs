//! Messages between nodes. The first byte is the version of the format, the second the kind;
//! numbers are decimal, so that scripts can write them as well.

use std::fmt::Write as _;

use bytes::Bytes;
use fanfare_engine::{NoAnswer, Position, TraceContext, TraceParent};
use fanfare_protocol::{HistoryPosition, SocketId, UserId};
use serde::{Deserialize, Serialize};

/// The version of the format that this build writes and reads.
const VERSION: u8 = b'1';
/// Beginning of a [`Message::Trace`] after its kind, which is that of a farewell. Nodes of earlier versions take it for the
/// farewell of a node with an impossible name: they ignore it, while a kind that they don't know would cut them off.
const TRACE: &str = "traceparent:";
/// Beginnings of a [`Message::Question`] and a [`Message::Answer`], which nodes of earlier versions ignore likewise.
const QUESTION: &str = "question:";
const ANSWER: &str = "answer:";
/// The same of [`Message::LiveOrders`].
const LIVE_ORDERS: &str = "live:";
/// Digits of a position.
const POSITION_DIGITS: usize = 20;

/// A message between nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// An event on a channel.
    Event {
        /// Its place among the app's cached and recorded events, if it is one.
        position: Option<Position>,
        /// Whether a cache channel keeps it.
        keep: bool,
        /// Its position in the channel's history, if it was recorded.
        recorded: Option<HistoryPosition>,
        /// The event's name.
        name: &'a str,
        /// The user who sent it: only for client events on presence channels.
        user_id: Option<UserId>,
        /// The connection that doesn't get it.
        except: Option<SocketId>,
        /// The event's data.
        data: &'a str,
    },
    /// A user joined a presence channel.
    Added {
        /// The position of the change.
        position: Position,
        /// The user.
        user_id: UserId,
        /// JSON text of an object, if there is one.
        user_info: Option<&'a str>,
    },
    /// A user left a presence channel.
    Removed {
        /// The position of the change.
        position: Position,
        /// The user.
        user_id: UserId,
    },
    /// Subscribed connections of a channel.
    Count(usize),
    /// A user came online or went offline.
    Online {
        /// The position of the change.
        position: Position,
        /// The user.
        user_id: UserId,
        /// Whether the user came online.
        online: bool,
    },
    /// A heartbeat.
    Heartbeat(Heartbeat),
    /// Close the connections of a user.
    Terminate {
        /// The app.
        app: &'a str,
        /// The user.
        user_id: UserId,
    },
    /// The span to which the next event on the same channel belongs, because its publish is sampled.
    Trace(TraceContext),
    /// What operators who watch on a node want, as JSON. It is read where it is used, so that a later version may
    /// change it.
    LiveOrders(&'a str),
    /// Live events for operators who watch on other nodes, as JSON likewise.
    LiveLines(&'a str),
    /// A node stops, and leaves nothing behind.
    Farewell {
        /// The node's name.
        node: &'a str,
    },
    /// A query to other nodes.
    Query(NodeQuery),
    /// The answer to a query.
    Reply(NodeReply),
    /// A question to all other nodes, or to one.
    Question(Question<'a>),
    /// The answer to a question.
    Answer(Answer<'a>),
}

/// A node's heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The node's name.
    pub node: String,
    /// The node's name for people; nodes of earlier versions have none.
    #[serde(rename = "name", default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    /// Nodes whose heartbeats it received lately.
    // Nodes of earlier versions read this name.
    #[serde(rename = "hears")]
    pub receives: Vec<String>,
}

/// A node's query to others about the networks that hold an app's connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeQuery {
    /// The number of the query, which the replies repeat.
    pub id: u64,
    /// The name of the node that asks.
    pub from: String,
    /// The id of the app.
    pub app: String,
    /// What is asked.
    pub kind: QueryKind,
}

/// What a node asks others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryKind {
    /// Which networks hold most of the app's connections. Every node replies.
    LargestNetworks,
    /// To close one connection of a network. Only one node does and replies.
    Displace {
        /// The name of the node.
        node: String,
        /// The network, as it is displayed.
        network: String,
    },
}

/// A node's reply to a [`NodeQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReply {
    /// The number of the query.
    pub id: u64,
    /// The name of the node that asked.
    pub to: String,
    /// The name of the node that replies.
    pub from: String,
    /// What it replies.
    pub kind: ReplyKind,
}

/// What a node replies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyKind {
    /// The largest networks, as they are displayed, and how many connections each has.
    LargestNetworks(Vec<(String, usize)>),
    /// Whether a connection was closed.
    Displaced(bool),
}

/// A question of one node to the others. Its text is the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// The number of the question, which the answers repeat.
    pub id: u64,
    /// The name of the node that asks.
    pub from: &'a str,
    /// The process that is asked, or `None` if all are.
    pub to: Option<&'a str>,
    /// What is asked.
    pub text: &'a str,
}

/// A node's answer to a [`Question`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The number of the question.
    pub id: u64,
    /// The name of the node that asked.
    pub to: &'a str,
    /// The process that answers.
    pub from: &'a str,
    /// The answer, or why there is none.
    pub answer: Result<&'a str, NoAnswer>,
}

/// A message that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It has another version of the format.
    #[error("it was written by another version of Fanfare")]
    Version,
    /// It is incomplete, or isn't UTF-8.
    #[error("it is malformed")]
    Malformed,
}

impl Message<'_> {
    /// Encodes the message. The back end adds the position of an event that is cached or recorded
    /// ([`stamp`]).
    #[must_use]
    pub fn write(&self) -> Bytes {
        let mut text = String::new();
        text.push(char::from(VERSION));
        match self {
            Self::Event {
                position,
                keep,
                recorded,
                name,
                user_id,
                except,
                data,
            } => {
                match (position, recorded) {
                    (Some(position), None) => put_position(&mut text, 'K', *position),
                    (Some(position), Some(recorded)) => {
                        let kind = if *keep { 'J' } else { 'H' };
                        put_position(&mut text, kind, *position);
                        put(&mut text, &recorded.to_string());
                    }
                    (None, _) => text.push('E'),
                }
                put(&mut text, name);
                put(&mut text, user_id.as_ref().map_or("", UserId::as_str));
                let except = except.map_or_else(String::new, |id| id.to_string());
                put(&mut text, &except);
                text.push_str(data);
            }
            Self::Added {
                position,
                user_id,
                user_info,
            } => {
                put_position(&mut text, 'A', *position);
                put(&mut text, user_id.as_str());
                text.push_str(user_info.unwrap_or_default());
            }
            Self::Removed { position, user_id } => {
                put_position(&mut text, 'R', *position);
                text.push_str(user_id.as_str());
            }
            Self::Count(count) => {
                let _ = write!(text, "C{count}");
            }
            Self::Online {
                position,
                user_id,
                online,
            } => {
                put_position(&mut text, if *online { 'O' } else { 'F' }, *position);
                text.push_str(user_id.as_str());
            }
            Self::Heartbeat(beat) => put_json(&mut text, 'B', beat),
            Self::Terminate { app, user_id } => {
                text.push('T');
                put(&mut text, app);
                text.push_str(user_id.as_str());
            }
            Self::Trace(context) => {
                let parent = TraceParent {
                    context: *context,
                    is_sampled: true,
                };
                let _ = write!(text, "X{TRACE}{parent}");
            }
            Self::LiveOrders(orders) => {
                text.push('X');
                text.push_str(LIVE_ORDERS);
                text.push_str(orders);
            }
            Self::LiveLines(lines) => {
                text.push('L');
                text.push_str(lines);
            }
            Self::Farewell { node } => {
                text.push('X');
                text.push_str(node);
            }
            Self::Question(question) => {
                text.push('X');
                text.push_str(QUESTION);
                put_question(&mut text, question);
            }
            Self::Answer(answer) => {
                text.push('X');
                text.push_str(ANSWER);
                put_answer(&mut text, answer);
            }
            Self::Query(query) => put_json(&mut text, 'Q', query),
            Self::Reply(reply) => put_json(&mut text, 'Y', reply),
        }
        text.into()
    }

    /// Decodes a message.
    ///
    /// # Errors
    ///
    /// Returns [`Unreadable::Version`] for another version of the format, and
    /// [`Unreadable::Malformed`] for anything else that cannot be read.
    pub fn read(message: &[u8]) -> Result<Message<'_>, Unreadable> {
        let text = std::str::from_utf8(message).map_err(|_| Unreadable::Malformed)?;
        if text.as_bytes().first() != Some(&VERSION) {
            return Err(Unreadable::Version);
        }
        let kind = text.as_bytes().get(1).copied();
        let rest = text.get(2..).ok_or(Unreadable::Malformed)?;
        read_kind(kind, rest).ok_or(Unreadable::Malformed)
    }
}

/// Returns an event's message with its place among the app's events, and its position in the
/// history if it is recorded.
#[must_use]
pub fn stamp(
    event: &[u8],
    position: Position,
    keep: bool,
    recorded: Option<&HistoryPosition>,
) -> Bytes {
    let mut text = String::new();
    text.push(char::from(VERSION));
    let kind = match recorded {
        None => 'K',
        Some(_) if keep => 'J',
        Some(_) => 'H',
    };
    put_position(&mut text, kind, position);
    if let Some(recorded) = recorded {
        put(&mut text, &recorded.to_string());
    }
    let mut kept = text.into_bytes();
    kept.extend_from_slice(event.get(2..).unwrap_or_default());
    kept.into()
}

fn put_position(text: &mut String, kind: char, position: Position) {
    let _ = write!(text, "{kind}{position:0POSITION_DIGITS$}");
}

fn put_json(text: &mut String, kind: char, content: &impl Serialize) {
    text.push(kind);
    text.push_str(&serde_json::to_string(content).expect("what nodes say is JSON"));
}

/// Appends a text with its length before it.
fn put(text: &mut String, part: &str) {
    let _ = write!(text, "{}:{part}", part.len());
}

fn put_question(text: &mut String, question: &Question<'_>) {
    put(text, &question.id.to_string());
    put(text, question.from);
    put(text, question.to.unwrap_or_default());
    text.push_str(question.text);
}

fn put_answer(text: &mut String, answer: &Answer<'_>) {
    put(text, &answer.id.to_string());
    put(text, answer.to);
    put(text, answer.from);
    match answer.answer {
        Ok(answer) => {
            put(text, "");
            text.push_str(answer);
        }
        Err(NoAnswer::TooLong) => put(text, "too_long"),
        Err(NoAnswer::Unknown) => put(text, "unknown"),
    }
}

/// Reads a message that nodes of earlier versions take for a farewell. One of a later version is none of these, and is
/// ignored like a farewell.
fn read_extension(rest: &str) -> Option<Message<'_>> {
    if let Some(parent) = rest.strip_prefix(TRACE) {
        return Some(Message::Trace(TraceParent::parse(parent)?.context));
    }
    if let Some(orders) = rest.strip_prefix(LIVE_ORDERS) {
        return Some(Message::LiveOrders(orders));
    }
    if let Some(rest) = rest.strip_prefix(QUESTION) {
        let (id, rest) = part(rest)?;
        let (from, rest) = part(rest)?;
        let (to, text) = part(rest)?;
        return Some(Message::Question(Question {
            id: id.parse().ok()?,
            from,
            to: Some(to).filter(|to| !to.is_empty()),
            text,
        }));
    }
    let (id, rest) = part(rest.strip_prefix(ANSWER)?)?;
    let (to, rest) = part(rest)?;
    let (from, rest) = part(rest)?;
    let (missing, answer) = part(rest)?;
    Some(Message::Answer(Answer {
        id: id.parse().ok()?,
        to,
        from,
        answer: match missing {
            "" => Ok(answer),
            "too_long" => Err(NoAnswer::TooLong),
            // A reason of a later version.
            _ => Err(NoAnswer::Unknown),
        },
    }))
}

fn read_kind(kind: Option<u8>, rest: &str) -> Option<Message<'_>> {
    let user = |text: &str| UserId::new(text);
    Some(match kind? {
        b'E' => read_event(None, None, rest)?,
        b'K' => {
            let (position, rest) = position(rest)?;
            read_event(Some((position, true)), None, rest)?
        }
        kind @ (b'H' | b'J') => {
            let (position, rest) = position(rest)?;
            let (recorded, rest) = part(rest)?;
            let recorded = HistoryPosition::parse(recorded)?;
            read_event(Some((position, kind == b'J')), Some(recorded), rest)?
        }
        b'A' => {
            let (position, rest) = position(rest)?;
            let (user_id, user_info) = part(rest)?;
            Message::Added {
                position,
                user_id: user(user_id)?,
                user_info: Some(user_info).filter(|info| !info.is_empty()),
            }
        }
        b'R' => {
            let (position, rest) = position(rest)?;
            Message::Removed {
                position,
                user_id: user(rest)?,
            }
        }
        b'C' => Message::Count(rest.parse().ok()?),
        kind @ (b'O' | b'F') => {
            let (position, rest) = position(rest)?;
            Message::Online {
                position,
                user_id: user(rest)?,
                online: kind == b'O',
            }
        }
        b'B' => Message::Heartbeat(serde_json::from_str(rest).ok()?),
        b'T' => {
            let (app, rest) = part(rest)?;
            Message::Terminate {
                app,
                user_id: user(rest)?,
            }
        }
        b'X' => read_extension(rest).unwrap_or(Message::Farewell { node: rest }),
        b'L' => Message::LiveLines(rest),
        b'Q' => Message::Query(serde_json::from_str(rest).ok()?),
        b'Y' => Message::Reply(serde_json::from_str(rest).ok()?),
        _ => return None,
    })
}

fn read_event(
    kept: Option<(Position, bool)>,
    recorded: Option<HistoryPosition>,
    rest: &str,
) -> Option<Message<'_>> {
    let (name, rest) = part(rest)?;
    let (user_id, rest) = part(rest)?;
    let (except, data) = part(rest)?;
    let except = match except {
        "" => None,
        id => Some(SocketId::parse(id).ok()?),
    };
    Some(Message::Event {
        position: kept.map(|(position, _)| position),
        keep: kept.is_some_and(|(_, keep)| keep),
        recorded,
        name,
        user_id: UserId::new(user_id),
        except,
        data,
    })
}

fn position(rest: &str) -> Option<(Position, &str)> {
    let (digits, rest) = rest.split_at_checked(POSITION_DIGITS)?;
    Some((digits.parse().ok()?, rest))
}

fn part(rest: &str) -> Option<(&str, &str)> {
    let (length, rest) = rest.split_once(':')?;
    rest.split_at_checked(length.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(text: &str) -> UserId {
        UserId::new(text).expect("a user id")
    }

    proptest! {
        #[test]
        fn events_are_read_as_they_were_written(
            name in "\\PC{0,20}", data in "(?s).{0,80}", user_id in "\\PC{0,9}", excluded in any::<bool>(), position in any::<Option<u64>>()
        ) {
            let event = Message::Event {
                position,
                keep: position.is_some(),
                recorded: None,
                name: &name,
                user_id: UserId::new(&user_id),
                except: excluded.then(SocketId::random),
                data: &data,
            };
            let written = event.write();
            prop_assert_eq!(&Message::read(&written).expect("readable"), &event);
            if position.is_none() {
                let channel_ref = HistoryPosition::parse("e:9");
                let recorded = stamp(&written, 7, false, channel_ref.as_ref());
                let read = Message::read(&recorded).expect("readable");
                let same = matches!(read, Message::Event { position: Some(7), keep: false, recorded, .. } if recorded == channel_ref);
                prop_assert!(same);
                let kept = stamp(&written, 7, true, None);
                let read = Message::read(&kept).expect("readable");
                let same = matches!(read, Message::Event { position: Some(7), data: kept, .. } if kept == data);
                prop_assert!(same);
            }
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Message::read(&bytes);
            let mut versioned = vec![VERSION];
            versioned.extend(bytes);
            let _ = Message::read(&versioned);
        }
    }

    #[test]
    fn newer_messages_look_like_a_farewell_to_nodes_of_earlier_versions() {
        let question = Question {
            id: 1,
            from: "a.1",
            to: None,
            text: "{}",
        };
        let answer = Answer {
            id: 1,
            to: "a.1",
            from: "b",
            answer: Ok("{}"),
        };
        for message in [
            Message::Trace(TraceContext::of_trace(7)),
            Message::Question(question),
            Message::Answer(answer),
            Message::LiveOrders("{}"),
        ] {
            let written = message.write();
            assert_eq!(Message::read(&written), Ok(message));
            // What they read is a kind that they know, and UTF-8.
            let farewell = Message::Farewell { node: "a" }.write();
            assert_eq!(written[..2], farewell[..2]);
            assert!(std::str::from_utf8(&written).is_ok());
        }
    }

    #[test]
    fn a_message_of_a_later_version_is_ignored_like_a_farewell() {
        for later in ["later:1", "question:broken", "answer:1:x"] {
            let written = format!("1X{later}");
            let read = Message::read(written.as_bytes());
            assert_eq!(read, Ok(Message::Farewell { node: later }));
        }
    }

    #[test]
    fn a_heartbeat_of_an_earlier_version_has_no_name_for_people() {
        let read = Message::read(br#"1B{"node":"a.1","hears":[]}"#);
        let beat = Heartbeat {
            node: "a.1".into(),
            shown: None,
            receives: Vec::new(),
        };
        assert_eq!(read, Ok(Message::Heartbeat(beat)));
    }

    #[test]
    fn every_other_message_is_read_as_it_was_written() {
        let beat = Heartbeat {
            node: "a.1".into(),
            shown: Some("web-1".into()),
            receives: vec!["b.2".into()],
        };
        let query = NodeQuery {
            id: u64::MAX,
            from: "a.1".into(),
            app: "app".into(),
            kind: QueryKind::LargestNetworks,
        };
        let reply = NodeReply {
            id: 7,
            to: "a.1".into(),
            from: "b.2".into(),
            kind: ReplyKind::LargestNetworks(vec![("2001:db8::/48".into(), 3)]),
        };
        for message in [
            Message::Added {
                position: 1,
                user_id: user("1:é"),
                user_info: Some("{}"),
            },
            Message::Added {
                position: u64::MAX,
                user_id: user("u"),
                user_info: None,
            },
            Message::Removed {
                position: 3,
                user_id: user("u"),
            },
            Message::Count(42),
            Message::Online {
                position: 4,
                user_id: user("u"),
                online: true,
            },
            Message::Online {
                position: 5,
                user_id: user("u"),
                online: false,
            },
            Message::Heartbeat(beat),
            Message::Terminate {
                app: "app",
                user_id: user("u:1"),
            },
            Message::Farewell { node: "a.1" },
            Message::Question(Question {
                id: 7,
                from: "a.1",
                to: None,
                text: "{}",
            }),
            Message::Question(Question {
                id: u64::MAX,
                from: "a.1",
                to: Some("b"),
                text: "é:1",
            }),
            Message::Answer(Answer {
                id: 7,
                to: "a.1",
                from: "b",
                answer: Ok("[1]"),
            }),
            Message::Answer(Answer {
                id: 7,
                to: "a.1",
                from: "b",
                answer: Err(NoAnswer::Unknown),
            }),
            Message::Answer(Answer {
                id: 7,
                to: "a.1",
                from: "b",
                answer: Err(NoAnswer::TooLong),
            }),
            Message::LiveOrders("{}"),
            Message::LiveLines("{}"),
            Message::Query(query.clone()),
            Message::Query(NodeQuery {
                kind: QueryKind::Displace {
                    node: "b.2".into(),
                    network: "192.0.2.1".into(),
                },
                ..query
            }),
            Message::Reply(reply.clone()),
            Message::Reply(NodeReply {
                kind: ReplyKind::Displaced(true),
                ..reply
            }),
        ] {
            assert_eq!(Message::read(&message.write()), Ok(message));
        }
    }

    #[test]
    fn what_another_version_wrote_is_told_apart_from_what_is_broken() {
        assert_eq!(Message::read(b"2E"), Err(Unreadable::Version));
        assert_eq!(Message::read(b""), Err(Unreadable::Version));
        assert_eq!(Message::read(b"1"), Err(Unreadable::Malformed));
        assert_eq!(Message::read(b"1?x"), Err(Unreadable::Malformed));
        assert_eq!(Message::read(b"1E9:name"), Err(Unreadable::Malformed));
    }
}
