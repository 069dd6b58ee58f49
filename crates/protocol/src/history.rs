//! The rules by which channels keep a history of their events, and positions in it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::channel_pattern;
use crate::limits::Limits;

/// Most events that a channel may keep.
pub const MAX_SIZE: usize = 10_000;
/// Most rules of an app.
pub const MAX_RULES: usize = 100;

/// A rule by which channels keep a history of their events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryRule {
    /// The channels' names; `*` stands for any characters.
    #[schema(
        example = "private-room-*",
        min_length = 1,
        max_length = 200,
        pattern = r"^(#server-to-user-|#\*)?[-a-zA-Z0-9_=@,.;*]*$"
    )]
    pub channels: String,
    /// The number of events that a channel keeps, the newest ones.
    #[schema(example = 100, minimum = 1, maximum = 10_000)]
    pub size: usize,
    /// Seconds for which each event is kept.
    #[schema(example = 300, minimum = 1, maximum = 31_536_000)]
    pub ttl: u64,
}

impl HistoryRule {
    /// Returns whether the rule is for a channel.
    #[must_use]
    pub fn matches(&self, channel: &str) -> bool {
        channel_pattern::matches(&self.channels, channel)
    }

    /// Returns whether the rule keeps all that `other` would keep: events of the same channels or
    /// more, as many or more, as long or longer.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // The stars of `other` count as characters here, which only stars of this rule match.
        self.size >= other.size && self.ttl >= other.ttl && self.matches(&other.channels)
    }

    /// Checks that the rule is valid.
    ///
    /// # Errors
    ///
    /// Returns a text with the field and its bounds.
    pub fn check(&self) -> Result<(), String> {
        channel_pattern::check(&self.channels).map_err(|invalid| format!("history: {invalid}"))?;
        if !(1..=MAX_SIZE).contains(&self.size) {
            return Err(format!("history: size must be 1 to {MAX_SIZE} events"));
        }
        if !(1..=Limits::MAX_CACHE_TTL).contains(&self.ttl) {
            return Err(format!(
                "history: ttl must be 1 to {} seconds, a year",
                Limits::MAX_CACHE_TTL
            ));
        }
        Ok(())
    }
}

/// A position in a channel's history: clients get it with events, and send it back unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPosition {
    /// The name of the history: one that was lost begins again under another name.
    pub epoch: Arc<str>,
    /// How many events there were up to it.
    pub offset: u64,
}

impl HistoryPosition {
    /// Reads the text that [`fmt::Display`] writes, or returns `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, offset) = text.rsplit_once(':')?;
        let fits = !epoch.is_empty()
            && epoch.len() <= 64
            && epoch.bytes().all(|b| b.is_ascii_alphanumeric());
        Some(Self {
            epoch: fits.then(|| epoch.into())?,
            offset: offset.parse().ok()?,
        })
    }
}

impl fmt::Display for HistoryPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

/// Why a client doesn't get the events that it missed. It gets none of them then, and has to read
/// its state elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrecovered {
    /// The channel keeps no history.
    Off,
    /// The history of the position is no longer kept.
    Expired,
    /// Some of the missed events are no longer kept.
    TooOld,
    /// The missed events are more than may wait for one connection.
    TooLarge,
}

impl Unrecovered {
    /// Returns its word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Expired => "expired",
            Self::TooOld => "too_old",
            Self::TooLarge => "too_large",
        }
    }
}

/// Checks the rules of an app: each by itself, and that channels reach it.
///
/// # Errors
///
/// Returns the first rule that is broken.
pub(crate) fn check_rules(rules: &[HistoryRule]) -> Result<(), String> {
    if rules.len() > MAX_RULES {
        return Err(format!("history: at most {MAX_RULES} rules"));
    }
    rules.iter().try_for_each(HistoryRule::check)?;
    for (index, rule) in rules.iter().enumerate() {
        let takes_all = |earlier: &&HistoryRule| earlier.matches(&rule.channels);
        if let Some(earlier) = rules[..index].iter().find(takes_all) {
            return Err(format!(
                "history: the rule for {:?} is never reached, because the one for {:?} before it matches the same \
                 channels; put it first",
                rule.channels, earlier.channels
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_for_names_that_no_channel_has_is_refused() {
        let check = |channels: &str| {
            let rule = HistoryRule {
                channels: channels.into(),
                size: 1,
                ttl: 1,
            };
            rule.check()
        };
        assert_eq!(check("#server-to-user-*"), Ok(()));
        let error = check("public-#").expect_err("no channel has this name");
        assert!(error.starts_with("history: no channel matches"), "{error}");
        let error = check("").expect_err("empty");
        assert!(error.starts_with("history: channels must have"), "{error}");
    }

    #[test]
    fn positions_are_read_as_they_were_written_and_others_are_none() {
        let position = HistoryPosition {
            epoch: "a1".into(),
            offset: 42,
        };
        assert_eq!(
            HistoryPosition::parse(&position.to_string()),
            Some(position)
        );
        for text in ["", ":", "a:", ":1", "a:-1", "a b:1", "a", "a:1:x"] {
            assert_eq!(HistoryPosition::parse(text), None, "{text}");
        }
    }
}
