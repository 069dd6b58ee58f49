//! The source of each value, for `fanfare config` and the admin API.

use std::collections::BTreeMap;

use figment::Figment;
use serde_json::Value;

use super::Config;
use super::error::source_of;
use super::names::{Kind, kind, names, values};
use crate::capacity::Capacity;

const DEFAULT: &str = "default";
const DERIVED: &str = "derived from ";

/// The source of each setting.
pub(super) type Sources = BTreeMap<String, String>;

/// Returns the sources of all settings. `given` holds those that are set.
pub(super) fn of_settings(given: &Figment) -> Sources {
    let derived = derived();
    let source = |path: &str| match given.find_metadata(path) {
        Some(metadata) => source_of(metadata),
        None => derived
            .get(path)
            .cloned()
            .unwrap_or_else(|| DEFAULT.to_owned()),
    };
    names()
        .map(|path| (path.to_owned(), source(path)))
        .collect()
}

/// Returns whether the value was set, rather than a default.
pub(super) fn is_given(source: &str) -> bool {
    source != DEFAULT && !source.starts_with(DERIVED)
}

/// A setting as it is in force on this node.
#[derive(Debug)]
pub(crate) struct SettingInForce {
    pub(crate) name: &'static str,
    /// The value. A secret is hidden; null is none.
    pub(crate) value: Value,
    /// The value without configuration, on this machine.
    pub(crate) default: Value,
    /// Where the value is from.
    pub(crate) source: String,
    /// Whether the value was not set.
    pub(crate) is_default: bool,
    pub(crate) is_secret: bool,
}

impl Config {
    /// Returns all settings in force, without their secrets.
    pub(crate) fn in_force(&self) -> Vec<SettingInForce> {
        let mut shown = self.clone();
        shown.demo = Some(self.demo());
        shown.store.url = Some(self.store_shown().into());
        let of = |config: &Self| values(config).into_iter().collect::<BTreeMap<_, _>>();
        let (mut values, mut defaults) = (of(&shown), of(&Self::default()));
        let setting = |name: &'static str| {
            let source = self.sources.get(name).cloned().unwrap_or_default();
            SettingInForce {
                name,
                value: values.remove(name).unwrap_or_default(),
                default: defaults.remove(name).unwrap_or_default(),
                is_default: !is_given(&source),
                source,
                is_secret: kind(name) == Some(Kind::Secret),
            }
        };
        names().map(setting).collect()
    }
}

/// Returns what each derived default depends on. It is found by comparing the defaults of two machines, so that the
/// derivation is written in one place only.
fn derived() -> Sources {
    let small = Capacity {
        memory: 256 << 20,
        connections: 2_000,
        sockets: 2_000,
    };
    let large = |what: &str| match what {
        "memory.limit" => Capacity {
            memory: 64 << 30,
            ..small
        },
        "connections.max" => Capacity {
            connections: 100_000,
            ..small
        },
        _ => Capacity {
            sockets: 100_000,
            ..small
        },
    };
    let of = |capacity| values(&Config::defaults(capacity));
    let before = of(small);
    let mut derived = Sources::new();
    for what in ["memory.limit", "connections.max", "the limit of open files"] {
        for ((path, before), (_, after)) in before.iter().zip(of(large(what))) {
            if *before != after {
                derived.insert(path.clone(), format!("{DERIVED}{what}"));
            }
        }
    }
    let of_machine = [
        (
            "memory.limit",
            "the memory of this machine or its control group",
        ),
        (
            "connections.max",
            "the limit of open files and memory.limit",
        ),
        (
            "http.max_sockets",
            "the limit of open files and memory.limit",
        ),
        ("demo", "listen"),
        ("store.url", "data_dir"),
    ];
    derived.extend(of_machine.map(|(path, what)| (path.to_owned(), format!("{DERIVED}{what}"))));
    derived
}

/// Appends the source of each value as a comment.
pub(super) fn annotate(toml: &str, sources: &Sources) -> String {
    // A multi-line string would be split.
    if toml.contains("\"\"\"") || toml.contains("'''") {
        return toml.to_owned();
    }
    let mut section = String::new();
    let mut annotated = String::new();
    for line in toml.lines() {
        annotated.push_str(line);
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ")
            && let Some(source) = sources.get(&format!("{section}{key}"))
        {
            annotated.push_str("  # ");
            annotated.push_str(&source.replace(char::is_control, " "));
        }
        annotated.push('\n');
    }
    annotated
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{KEY, load};

    #[test]
    fn settings_in_force_are_told_with_their_sources_and_without_secrets() {
        let given = [("shards", "2"), ("master_key", KEY)];
        let config = load(&given).unwrap();
        let settings = config.in_force();
        let of = |name: &str| {
            settings
                .iter()
                .find(|setting| setting.name == name)
                .unwrap()
        };
        let shards = of("shards");
        assert_eq!((&shards.value, &shards.default), (&2.into(), &1.into()));
        assert_eq!((shards.is_default, &*shards.source), (false, "flag --set"));
        assert!(of("pong_timeout").is_default);
        assert_eq!(of("demo").value, true);
        let secret = of("master_key");
        assert!(secret.is_secret);
        assert!(!format!("{settings:?}").contains(KEY), "{secret:?}");
    }

    #[test]
    fn each_value_is_shown_with_its_source() {
        let config = load(&[("shards", "2"), ("outbox.max_bytes", "1GiB")]).unwrap();
        let shown = config.to_toml().unwrap();
        for line in [
            "shards = 2  # flag --set",
            "pong_timeout = 30  # default",
            "max_bytes = 1073741824  # flag --set",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
        }
        let source = |path: &str| {
            let sources = &config.sources;
            sources.get(path).cloned().unwrap_or_default()
        };
        for (path, words) in [
            ("memory.subscriptions", "derived from memory.limit"),
            ("connections.max_pending", "derived from connections.max"),
            ("http.max_sockets", "derived from the limit of open files"),
            ("network.max_waiting_bytes", "derived from outbox.max_bytes"),
            ("demo", "derived from listen"),
            ("store.url", "derived from data_dir"),
            ("shards", "flag --set"),
        ] {
            assert!(source(path).starts_with(words), "{path}: {}", source(path));
        }
        // Comments don't change the values.
        let read: toml::Table = toml::from_str(&shown).unwrap();
        assert_eq!(read["shards"].as_integer(), Some(2));
    }
}
