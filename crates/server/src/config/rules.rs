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
    /// Ranges that were checked, for the test that looks them up in the documentation.
    #[cfg(test)]
    pub(super) ranges: Option<&'a std::cell::RefCell<Vec<Range>>>,
}

/// A setting with its range, as `docs/configuration.md` has it.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Range {
    pub(super) path: String,
    pub(super) words: String,
}

impl<'a> Rules<'a> {
    /// Returns the rules of the settings outside sections.
    pub(super) fn new(figment: &'a Figment) -> Self {
        Self {
            figment,
            section: "",
            #[cfg(test)]
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

    /// Notes a range for the test.
    #[cfg(test)]
    fn note(self, name: &str, words: String) {
        if let Some(ranges) = self.ranges {
            let path = self.path(name);
            ranges.borrow_mut().push(Range { path, words });
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
        unit: &str,
    ) -> anyhow::Result<()> {
        #[cfg(test)]
        self.note(
            name,
            format!(
                "{} to {}",
                words(range.start(), unit),
                words(range.end(), unit)
            ),
        );
        let rule = format!("must be {} to {} {unit}", range.start(), range.end());
        self.check(name, range.contains(&value), rule.trim_end())
    }

    /// Checks that the value is at least `least`.
    pub(super) fn at_least<T: Copy + PartialOrd + Display>(
        self,
        name: &str,
        value: T,
        least: T,
    ) -> anyhow::Result<()> {
        #[cfg(test)]
        self.note(name, format!("at least {least}"));
        self.check(
            name,
            value >= least,
            format_args!("must be at least {least}"),
        )
    }
}

/// Returns a bound as the documentation writes it: sizes with a unit, and large numbers in groups.
#[cfg(test)]
fn words(bound: &impl Display, unit: &str) -> String {
    let text = bound.to_string();
    let number: u64 = text.parse().expect("ranges are of whole numbers");
    match (unit, number) {
        ("bytes", size) if size % (1 << 30) == 0 => format!("{} GiB", size >> 30),
        ("bytes", size) if size % (1 << 20) == 0 => format!("{} MiB", size >> 20),
        ("bytes", size) if size % 1024 == 0 => format!("{} KiB", size >> 10),
        (_, 1_000_000) => "1,000,000".into(),
        _ => text,
    }
}
