//! Reads Redis' replies.

use fanfare_engine::Position;
use redis::Value;

use crate::backend::BackendError;

/// Reads a reply.
///
/// # Errors
///
/// Returns the [`BackendError`] that a script or Redis replied, or [`BackendError::Broken`] if
/// `read` finds a reply of another form.
pub(super) fn read<T>(
    value: Value,
    read: impl FnOnce(Value) -> Option<T>,
) -> Result<T, BackendError> {
    if let Value::ServerError(error) = &value {
        return Err(refusal(error.code(), error.details().unwrap_or_default()));
    }
    let unexpected = || BackendError::Broken("an answer of another form than expected".into());
    read(value).ok_or_else(unexpected)
}

fn refusal(code: &str, details: &str) -> BackendError {
    match code {
        "LATE" => BackendError::Late,
        "OTHER" => BackendError::OtherInstallation,
        "FORGOTTEN" => BackendError::Forgotten,
        // Another Redis serves the slot now, or none does: a new connection finds out. Nothing was
        // changed.
        "MOVED" | "ASK" | "CLUSTERDOWN" | "READONLY" | "LOADING" | "MASTERDOWN" | "TRYAGAIN" => {
            BackendError::Unserved(format!("{code} {details}"))
        }
        _ => BackendError::Refused(format!("{code} {details}")),
    }
}

/// Reads any reply that is no error.
#[expect(clippy::unnecessary_wraps, reason = "like the other readers")]
pub(super) fn done(_: Value) -> Option<()> {
    Some(())
}

pub(super) fn pairs<T>(value: Value, read: impl Fn(Value, Value) -> Option<T>) -> Option<Vec<T>> {
    let mut values = array(value)?.into_iter();
    let mut all = Vec::with_capacity(values.len() / 2);
    while let Some(first) = values.next() {
        all.push(read(first, values.next()?)?);
    }
    Some(all)
}

/// Reads an array of `N` parts.
pub(super) fn parts<const N: usize>(value: Value) -> Option<[Value; N]> {
    <[Value; N]>::try_from(array(value)?).ok()
}

pub(super) fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) | Value::Set(values) => Some(values),
        _ => None,
    }
}

pub(super) fn position(value: Value) -> Option<Position> {
    text(value)?.parse().ok()
}

pub(super) fn count(value: Value) -> Option<usize> {
    Some(usize::try_from(integer(value)?).unwrap_or(0))
}

/// Reads an array of one count.
pub(super) fn one_count(value: Value) -> Option<usize> {
    let [number] = parts(value)?;
    count(number)
}

pub(super) fn flag(value: Value) -> Option<bool> {
    Some(integer(value)? == 1)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "like the others here, it takes a part of an answer"
)]
pub(super) fn integer(value: Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        _ => None,
    }
}

pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Okay => Some("OK".into()),
        _ => None,
    }
}

pub(super) fn texts(value: Value) -> Option<Vec<String>> {
    array(value)?.into_iter().map(text).collect()
}
