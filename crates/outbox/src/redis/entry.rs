//! Entries of a stream, as `XREADGROUP` answers with them.

use std::collections::HashMap;
use std::time::Duration;

use redis::{FromRedisValue, Value};

use crate::error::OutboxError;
use crate::event::{OutboxEvent, Rejection};

/// The fields that an entry may have.
const FIELDS: &str = "channel or channels (a JSON array), event, data, and if you like socket_id and idempotency_key";

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// An event, with its idempotency key if it has one.
    Event {
        event: OutboxEvent,
        key: Option<String>,
    },
    /// One that can't be an event.
    Malformed(Rejection),
    /// One that was trimmed away after it had been taken.
    Gone(String),
}

/// An entry's id and its fields; no fields if it is gone.
type RawEntry = (String, Option<Vec<Vec<u8>>>);

/// Reads the answer of one stream.
pub(super) fn read(answer: Value) -> Result<Vec<Entry>, OutboxError> {
    let streams: Option<Vec<(String, Vec<RawEntry>)>> =
        FromRedisValue::from_redis_value(answer).map_err(redis::RedisError::from)?;
    let entries = streams
        .unwrap_or_default()
        .into_iter()
        .flat_map(|(_, entries)| entries);
    Ok(entries.map(parse).collect())
}

fn parse((id, fields): RawEntry) -> Entry {
    let Some(fields) = fields else {
        return Entry::Gone(id);
    };
    match event(&id, &fields) {
        Ok((event, key)) => Entry::Event { event, key },
        Err(reason) => Entry::Malformed(Rejection { id, reason }),
    }
}

fn event(id: &str, fields: &[Vec<u8>]) -> Result<(OutboxEvent, Option<String>), String> {
    let mut known = HashMap::new();
    for pair in fields.chunks_exact(2) {
        let [name, value] = [&pair[0], &pair[1]].map(|bytes| std::str::from_utf8(bytes));
        let name = name.map_err(|_| "the name of a field isn't UTF-8")?;
        let value = value.map_err(|_| format!("the field {name} isn't UTF-8"))?;
        if known.insert(name, value).is_some() {
            return Err(format!("there are two fields {name}"));
        }
    }
    let mut take = |name: &str| known.remove(name).map(str::to_owned);
    let name = take("event").ok_or_else(|| missing("event"))?;
    let data = take("data").ok_or_else(|| missing("data"))?;
    let mut channels: Vec<String> = match take("channels") {
        None => Vec::new(),
        Some(text) => serde_json::from_str(&text)
            .map_err(|_| "channels must be a JSON array of strings, such as [\"a\", \"b\"]")?,
    };
    channels.extend(take("channel"));
    if channels.is_empty() {
        return Err(missing("channel"));
    }
    let socket_id = take("socket_id");
    let key = take("idempotency_key").filter(|key| !key.is_empty());
    if let Some(unknown) = known.keys().next() {
        return Err(format!(
            "the field {unknown:?} is unknown; an entry has {FIELDS}"
        ));
    }
    let event = OutboxEvent {
        id: id.to_owned(),
        channels,
        name,
        data,
        socket_id,
    };
    Ok((event, key))
}

fn missing(field: &str) -> String {
    format!("there is no field {field}; an entry has {FIELDS}")
}

/// Returns how long ago an entry was added, by its id. `now` is the time of Redis, Unix time in milliseconds.
pub(super) fn age(id: &str, now: u64) -> Duration {
    let added = id.split_once('-').and_then(|(time, _)| time.parse().ok());
    Duration::from_millis(now.saturating_sub(added.unwrap_or(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[&str]) -> Entry {
        let fields = fields
            .iter()
            .map(|field| field.as_bytes().to_vec())
            .collect();
        parse(("1000-0".into(), Some(fields)))
    }

    fn refused(fields: &[&str]) -> String {
        match entry(fields) {
            Entry::Malformed(rejection) => rejection.reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_entry_names_one_channel_or_an_array_of_them() {
        let Entry::Event { event, key } = entry(&[
            "channels",
            r#"["a","b"]"#,
            "event",
            "e",
            "data",
            "{}",
            "channel",
            "c",
            "idempotency_key",
            "k",
        ]) else {
            panic!("it is an event");
        };
        assert_eq!(event.channels, ["a", "b", "c"]);
        assert_eq!(key.as_deref(), Some("k"));
    }

    #[test]
    fn what_is_missing_twice_or_unknown_is_named() {
        assert!(refused(&["event", "e", "data", "1"]).contains("no field channel"));
        assert!(refused(&["channel", "a", "data", "1"]).contains("no field event"));
        assert!(refused(&["channel", "a", "event", "e"]).contains("no field data"));
        assert!(
            refused(&["channel", "a", "event", "e", "data", "1", "data", "2"])
                .contains("two fields data")
        );
        assert!(
            refused(&["channel", "a", "event", "e", "data", "1", "dta", "2"]).contains("\"dta\"")
        );
        assert!(refused(&["channels", "a,b", "event", "e", "data", "1"]).contains("JSON array"));
    }

    #[test]
    fn an_entry_without_fields_is_gone() {
        assert_eq!(parse(("1-0".into(), None)), Entry::Gone("1-0".into()));
    }

    #[test]
    fn an_entry_is_as_old_as_its_id_says() {
        assert_eq!(age("1000-0", 1_500), Duration::from_millis(500));
        assert_eq!(age("1500-0", 1_000), Duration::ZERO);
    }
}
