//! Durations, sizes and lists: plain numbers, or numbers with a unit; lists, or text with commas.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use jiff::{Span, SpanRelativeTo};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};

/// How a duration is written.
pub(super) const TIME: &str = "a time in whole seconds, such as 20, 20s, 5m or 1h";
/// How a size is written.
pub(super) const SIZE: &str = "a size in bytes, such as 1048576, 64MiB or 1GB";
/// How networks are written.
pub(super) const NETWORKS: &str =
    "a list of addresses and networks, or text with commas between them";

/// How names are written.
pub(super) const TEXTS: &str = "a list of names, or text with commas between them";

/// Deserializes a duration in seconds.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Quantity {
        wanted: TIME,
        parse: parse_seconds,
    })
}

/// Deserializes a size in bytes.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let bytes = deserializer.deserialize_any(Quantity {
        wanted: SIZE,
        parse: parse_bytes,
    })?;
    // What is shown of the settings, and TOML, have signed numbers.
    let bytes =
        i64::try_from(bytes).map_err(|_| D::Error::custom("more bytes than can be counted"))?;
    usize::try_from(bytes).map_err(D::Error::custom)
}

/// Deserializes addresses and networks into text with commas. The environment has only text, and in a file a list is
/// what people write.
pub(super) fn network_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_any(List(NETWORKS))
}

/// Deserializes words into text with commas, as [`network_list`] does.
pub(super) fn text_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_any(List(TEXTS))
}

/// What a list is that may be written as text with commas.
struct List(&'static str);

impl<'de> Visitor<'de> for List {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<String, A::Error> {
        let mut texts = Vec::new();
        // An item of another type is an error of the whole setting, because figment's path would name its index.
        while let Some(item) = items.next_element::<figment::value::Value>()? {
            match item.into_string() {
                Some(text) => texts.push(text),
                None => return Err(A::Error::invalid_type(Unexpected::Seq, &self)),
            }
        }
        Ok(texts.join(", "))
    }
}

/// Returns the seconds of a duration as people write it, or `None` if it isn't valid, not whole or negative.
pub(crate) fn parse_seconds(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let span = Span::from_str(text).ok()?;
    // Months and years have no fixed length, so they are refused here.
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    let seconds = u64::try_from(length.as_secs()).ok();
    seconds.filter(|_| length.subsec_nanos() == 0)
}

fn parse_bytes(text: &str) -> Option<u64> {
    ByteSize::from_str(text).ok().map(|size| size.as_u64())
}

/// A size that is read before the rest of the configuration.
#[derive(Deserialize)]
pub(super) struct Size(#[serde(deserialize_with = "bytes")] pub(super) usize);

struct Quantity {
    wanted: &'static str,
    parse: fn(&str) -> Option<u64>,
}

impl Visitor<'_> for Quantity {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.wanted)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        (self.parse)(text.trim()).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{load, refused};

    #[test]
    fn times_and_sizes_have_a_unit_or_are_seconds_and_bytes() {
        for (written, seconds) in [
            ("20", 20),
            ("20s", 20),
            ("5m", 300),
            ("1h", 3600),
            ("1m 30s", 90),
            ("0", 0),
        ] {
            let config = load(&[("drain.period", written)]).expect(written);
            assert_eq!(config.drain.period, seconds, "{written}");
        }
        for (written, bytes) in [
            ("1048576", 1 << 20),
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1GB", 1_000_000_000),
            ("100kB", 100_000),
        ] {
            let config = load(&[("outbox.max_bytes", written)]).expect(written);
            assert_eq!(config.outbox.max_bytes, bytes, "{written}");
        }
        for (path, written, wanted) in [
            ("drain.period", "abc", "20s, 5m or 1h"),
            ("drain.period", "500ms", "whole seconds"),
            ("drain.period", "-5", "whole seconds"),
            ("drain.period", "-5s", "whole seconds"),
            ("drain.period", "1mo", "whole seconds"),
            ("drain.period", "true", "whole seconds"),
            ("drain.period", "1.5", "whole seconds"),
            ("outbox.max_bytes", "abc", "64MiB or 1GB"),
            ("outbox.max_bytes", "-1", "64MiB or 1GB"),
            ("memory.limit", "much", "64MiB or 1GB"),
        ] {
            let error = refused(path, written);
            assert!(
                error.contains(path)
                    && error.contains("flag --set")
                    && error.contains(written)
                    && error.contains(wanted),
                "{error}"
            );
        }
    }
}
