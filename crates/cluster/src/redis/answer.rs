//! Redis' replies, as answers to steps.

use std::time::Duration;

use fanfare_engine::{Position, PresenceSnapshot};
use fanfare_protocol::presence::Member;
use fanfare_protocol::{HistoryPosition, Unrecovered, UserId};
use redis::Value;

use crate::backend::{Answer, CachedMessage, HistoryPage, Published, Reaped, Step, StepError};

/// Reads the reply to a step.
///
/// # Errors
///
/// Returns the [`StepError`] that a script or Redis replied, or [`StepError::Broken`] for a reply
/// of another form.
pub(crate) fn read(step: &Step, value: Value) -> Result<Answer, StepError> {
    read_with(value, |value| read_of(step, value))
}

/// Reads a page of a history.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn read_history(value: Value) -> Result<HistoryPage, StepError> {
    read_with(value, history_page)
}

fn read_with<T>(value: Value, read: impl FnOnce(Value) -> Option<T>) -> Result<T, StepError> {
    if let Value::ServerError(error) = &value {
        return Err(refusal(error.code(), error.details().unwrap_or_default()));
    }
    let unexpected = || StepError::Broken("an answer of another form than expected".into());
    read(value).ok_or_else(unexpected)
}

fn refusal(code: &str, details: &str) -> StepError {
    match code {
        "LATE" => StepError::Late,
        "FORGOTTEN" => StepError::Forgotten,
        // Another Redis serves the slot now, or none does: a new connection finds out. Nothing was
        // changed.
        "MOVED" | "ASK" | "CLUSTERDOWN" | "READONLY" | "LOADING" | "MASTERDOWN" | "TRYAGAIN" => {
            StepError::Unserved(format!("{code} {details}"))
        }
        _ => StepError::Refused(format!("{code} {details}")),
    }
}

#[expect(clippy::too_many_lines, reason = "a table: one entry a step")]
fn read_of(step: &Step, value: Value) -> Option<Answer> {
    Some(match step {
        Step::Publish { .. } => Answer::Published(match integer(value)? {
            0 => Published::Now,
            1 => Published::Before,
            _ => Published::OtherRequest,
        }),
        Step::Join { .. } => match value {
            Value::Array(parts) => {
                let [added, position, members] = <[Value; 3]>::try_from(parts).ok()?;
                Answer::Joined {
                    added: integer(added)? == 1,
                    snapshot: snapshot(position, members)?,
                }
            }
            _ => Answer::Full,
        },
        Step::PresenceSnapshot { .. } => {
            let [position, members] = pair(value)?;
            Answer::PresenceSnapshot(snapshot(position, members)?)
        }
        Step::Leave { .. }
        | Step::SignIn { .. }
        | Step::SignOut { .. }
        | Step::Admit { .. }
        | Step::Forget { .. } => Answer::Changed(integer(value)? == 1),
        Step::Census => {
            let [listening, live] = pair(value)?;
            Answer::Census {
                listening: count(listening)?,
                live: texts(live)?,
            }
        }
        Step::ConnectionsByNode { .. } => Answer::Counts(pairs(value, |node, connections| {
            Some((text(node)?, text(connections)?.parse().unwrap_or(0)))
        })?),
        Step::UserCounts { .. }
        | Step::RemoteSubscriptions { .. }
        | Step::RemoteConnections { .. }
        | Step::Claim { .. } => Answer::Numbers(
            array(value)?
                .into_iter()
                .map(count)
                .collect::<Option<_>>()?,
        ),
        Step::Count { .. } => {
            let [before, after] = pair(value)?;
            Answer::Counted {
                before: count(before)?,
                after: count(after)?,
            }
        }
        Step::AllRemoteSubscriptions { .. } => Answer::Counts(pairs(value, |name, value| {
            Some((text(name)?, count(value)?))
        })?),
        Step::Online { .. } => {
            let [at, online] = pair(value)?;
            let online = array(online)?.into_iter().map(|is| Some(integer(is)? == 1));
            Answer::Online {
                position: position(at)?,
                online: online.collect::<Option<_>>()?,
            }
        }
        Step::Cached { .. } => Answer::Cached(match value {
            Value::Array(_) => {
                let [left, message] = pair(value)?;
                let Value::BulkString(message) = message else {
                    return None;
                };
                Some(CachedMessage {
                    ttl: Duration::from_millis(u64::try_from(integer(left)?).ok()?),
                    message: message.into(),
                })
            }
            _ => None,
        }),
        Step::Heartbeat { .. } => {
            let [now, live, dead] = <[Value; 3]>::try_from(array(value)?).ok()?;
            Answer::Heartbeat {
                now: position(now)?,
                live: texts(live)?,
                dead: texts(dead)?,
            }
        }
        Step::Apps { .. } | Step::Enlisted { .. } => Answer::Names(texts(value)?),
        Step::Reap { .. } => {
            let [removed, vacated, counted, left] = <[Value; 4]>::try_from(array(value)?).ok()?;
            Answer::Reaped(Reaped {
                removed: pairs(removed, |channel, user| {
                    Some((text(channel)?, UserId::new(&text(user)?)?))
                })?,
                vacated: texts(vacated)?,
                counted: texts(counted)?,
                more: integer(left)? > 0,
            })
        }
        Step::Connections { .. }
        | Step::Register { .. }
        | Step::Enlist { .. }
        | Step::Broadcast { .. }
        | Step::Subscribe { .. }
        | Step::Unsubscribe { .. } => Answer::Done,
    })
}

/// Reads a page of a history: epoch, offset, place of the newest event, then the messages or why
/// there are none.
fn history_page(value: Value) -> Option<HistoryPage> {
    let [epoch, offset, newest, messages] = <[Value; 4]>::try_from(array(value)?).ok()?;
    let message = |value| match value {
        Value::BulkString(message) => Some(message.into()),
        _ => None,
    };
    let messages = match messages {
        Value::Array(messages) => Ok(messages.into_iter().map(message).collect::<Option<_>>()?),
        reason => Err(match &*text(reason)? {
            "too_old" => Unrecovered::TooOld,
            "too_large" => Unrecovered::TooLarge,
            _ => Unrecovered::Expired,
        }),
    };
    Some(HistoryPage {
        position: HistoryPosition {
            epoch: text(epoch)?.into(),
            offset: text(offset)?.parse().ok()?,
        },
        newest: position(newest)?,
        messages,
    })
}

fn snapshot(at: Value, members: Value) -> Option<PresenceSnapshot> {
    let member = |user, info| {
        Some(Member {
            user_id: UserId::new(&text(user)?)?,
            user_info: Some(text(info)?)
                .filter(|info| !info.is_empty())
                .map(Into::into),
        })
    };
    Some(PresenceSnapshot {
        position: position(at)?,
        members: pairs(members, member)?,
    })
}

fn pairs<T>(value: Value, read: impl Fn(Value, Value) -> Option<T>) -> Option<Vec<T>> {
    let mut values = array(value)?.into_iter();
    let mut all = Vec::with_capacity(values.len() / 2);
    while let Some(first) = values.next() {
        all.push(read(first, values.next()?)?);
    }
    Some(all)
}

fn pair(value: Value) -> Option<[Value; 2]> {
    <[Value; 2]>::try_from(array(value)?).ok()
}

fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) | Value::Set(values) => Some(values),
        _ => None,
    }
}

fn position(value: Value) -> Option<Position> {
    text(value)?.parse().ok()
}

fn count(value: Value) -> Option<usize> {
    Some(usize::try_from(integer(value)?).unwrap_or(0))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "like the others here, it takes a part of an answer"
)]
pub(crate) fn integer(value: Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        _ => None,
    }
}

pub(crate) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Okay => Some("OK".into()),
        _ => None,
    }
}

pub(crate) fn texts(value: Value) -> Option<Vec<String>> {
    array(value)?.into_iter().map(text).collect()
}
