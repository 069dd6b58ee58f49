//! Patterns of event names, for filters.

use crate::limits::Limits;
use crate::wildcard;

/// A pattern of event names, in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPattern(String);

/// Why a text is not a pattern of event names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("events must have 1 to {max} bytes, with * for any characters", max = Limits::HOSTED.event_name)]
pub struct InvalidEventPattern;

impl EventPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidEventPattern`] if the text is empty or longer than an event's name.
    pub fn parse(text: &str) -> Result<Self, InvalidEventPattern> {
        if text.is_empty() || text.len() > Limits::HOSTED.event_name {
            return Err(InvalidEventPattern);
        }
        Ok(Self(text.into()))
    }

    /// Returns whether an event's name matches.
    #[must_use]
    pub fn matches(&self, event: &str) -> bool {
        wildcard::matches(self.0.split('*'), event, |_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_and_all_others_for_themselves() {
        let pattern = EventPattern::parse("client-*.done").expect("a pattern");
        assert!(pattern.matches("client-é \".done"));
        assert!(!pattern.matches("client-.done.") && !pattern.matches("other"));
        assert_eq!(EventPattern::parse(""), Err(InvalidEventPattern));
        assert!(EventPattern::parse(&"e".repeat(201)).is_err());
    }
}
