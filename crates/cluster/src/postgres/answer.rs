//! Reads the answers of functions.

use fanfare_engine::{Position, PresenceSnapshot};
use fanfare_protocol::UserId;
use fanfare_protocol::presence::Member;
use serde_json::Value;

use crate::backend::BackendError;

/// Reads an answer.
///
/// # Errors
///
/// Returns the [`BackendError`] that a function answered, or [`BackendError::Broken`] if `read`
/// finds an answer of another form.
pub(super) fn read<T>(
    value: &Value,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<T, BackendError> {
    match value["refused"].as_str() {
        Some("late") => Err(BackendError::Late),
        Some("installation") => Err(BackendError::OtherInstallation),
        Some("forgotten") => Err(BackendError::Forgotten),
        _ => read(value)
            .ok_or_else(|| BackendError::Broken("an answer of another form than expected".into())),
    }
}

/// Reads any answer that is no refusal.
#[expect(clippy::unnecessary_wraps, reason = "like the other readers")]
pub(super) fn done(_: &Value) -> Option<()> {
    Some(())
}

pub(super) fn flag(value: &Value) -> Option<bool> {
    value.as_bool()
}

pub(super) fn count(value: &Value) -> Option<usize> {
    Some(usize::try_from(value.as_i64()?).unwrap_or(0))
}

pub(super) fn position(value: &Value) -> Option<Position> {
    value.as_u64()
}

pub(super) fn list<T>(value: &Value, read: impl FnMut(&Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(read).collect()
}

pub(super) fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    list(value, text)
}

/// Reads names, each with a number.
pub(super) fn numbers_by_name(value: &Value) -> Option<Vec<(String, usize)>> {
    list(value, |pair| Some((text(&pair[0])?, count(&pair[1])?)))
}

pub(super) fn snapshot(value: &Value) -> Option<PresenceSnapshot> {
    let member = |member: &Value| {
        Some(Member {
            user_id: UserId::new(member[0].as_str()?)?,
            user_info: Some(member[1].as_str()?)
                .filter(|info| !info.is_empty())
                .map(Into::into),
        })
    };
    Some(PresenceSnapshot {
        position: position(&value["position"])?,
        members: list(&value["members"], member)?,
    })
}
