//! Rules of values beyond their types.

use std::fmt::Display;
use std::ops::RangeInclusive;

use anyhow::bail;
use figment::Figment;

use super::error::source_of;
use super::names;

/// Checks values of a section. Errors say where a value came from.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    figment: &'a Figment,
    section: &'a str,
    /// Bounds that were checked, for the documentation.
    pub(super) ranges: Option<&'a std::cell::RefCell<Vec<Range>>>,
}

/// A setting with its bounds.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) path: String,
    pub(super) least: u64,
    pub(super) most: Option<u64>,
    pub(super) unit: &'static str,
}

impl<'a> Rules<'a> {
    /// Returns the rules of the settings outside sections.
    pub(super) fn new(figment: &'a Figment) -> Self {
        Self {
            figment,
            section: "",
            ranges: None,
        }
    }

    /// Returns the rules of one section.
    pub(super) fn of(self, section: &'a str) -> Self {
        Self { section, ..self }
    }

    /// Returns an error that names the setting and its source, unless its value is valid.
    pub(super) fn check(self, name: &str, valid: bool, rule: impl Display) -> anyhow::Result<()> {
        if valid {
            return Ok(());
        }
        let path = self.path(name);
        let source = self
            .figment
            .find_metadata(&path)
            .map_or_else(|| "default".into(), source_of);
        match self.shown(&path) {
            Some(value) => bail!("{path} {rule} (it was set to {value} by {source})"),
            None => bail!("{path} {rule} (it was set by {source})"),
        }
    }

    fn path(self, name: &str) -> String {
        match self.section {
            "" => name.to_owned(),
            section => format!("{section}.{name}"),
        }
    }

    /// Notes bounds for the documentation.
    fn note(self, name: &str, least: impl Display, most: Option<impl Display>, unit: &'static str) {
        if let Some(ranges) = self.ranges {
            // Bounds are whole numbers.
            let number = |bound: String| bound.parse().unwrap_or_default();
            ranges.borrow_mut().push(Range {
                path: self.path(name),
                least: number(least.to_string()),
                most: most.map(|most| number(most.to_string())),
                unit,
            });
        }
    }

    /// Returns the value as it was written, unless it is secret.
    fn shown(self, path: &str) -> Option<String> {
        let secret = names::kind(path) == Some(names::Kind::Secret);
        let value = self.figment.find_value(path).ok().filter(|_| !secret)?;
        serde_json::to_string(&value).ok()
    }

    /// Checks that the value is within a range.
    pub(super) fn range<T: Copy + PartialOrd + Display>(
        self,
        name: &str,
        value: T,
        range: RangeInclusive<T>,
        unit: &'static str,
    ) -> anyhow::Result<()> {
        self.note(name, range.start(), Some(range.end()), unit);
        let rule = format!("must be {} to {} {unit}", range.start(), range.end());
        self.check(name, range.contains(&value), rule.trim_end())
    }

    /// Checks that the value is at least `least`. `unit` is as in [`Self::range`].
    pub(super) fn at_least<T: Copy + PartialOrd + Display>(
        self,
        name: &str,
        value: T,
        least: T,
        unit: &'static str,
    ) -> anyhow::Result<()> {
        self.note(name, least, None::<T>, unit);
        let rule = format!("must be at least {least} {unit}");
        self.check(name, value >= least, rule.trim_end())
    }
}
