//! What the documentation says of each setting besides prose, out of what the program itself uses: names and defaults from the
//! structs, kinds from what parses values, bounds from what checks them.

use std::cell::RefCell;

use figment::providers::Serialized;
use figment::{Figment, error};
use serde_json::Value;

use super::Config;
use super::environment::variable;
use super::layer::Setting;
use super::names;
use super::rules::{Range, Rules};
use super::units::{NETWORKS, SIZE, TEXTS, TIME};
use crate::capacity::Capacity;

/// A setting, as the documentation has it.
pub(crate) struct Described {
    /// Its name in the file.
    pub(crate) name: &'static str,
    /// Its default in words, with code in backticks.
    pub(crate) default: String,
    /// What its values are, with bounds.
    pub(crate) values: String,
    /// Its environment variable.
    pub(crate) variable: String,
    /// A value, where the default is none.
    pub(crate) example: Option<&'static str>,
}

/// A default that depends on the machine or on other settings, in words, and with what computes it where it is a number.
type Derived = (&'static str, &'static str, Option<fn(Capacity) -> usize>);

const DERIVED: &[Derived] = &[
    (
        "demo",
        "on if only the local machine reaches `listen` and `tls.listen`, without `listen_proxy_protocol`",
        None,
    ),
    (
        "master_key",
        "the file `master.key` in `data_dir`, created at the first start",
        None,
    ),
    ("store.url", "the file `fanfare.db` in `data_dir`", None),
    (
        "tls.listen",
        "port 6443 of the host of `listen`, if there is a certificate or `tls.acme.domains`",
        None,
    ),
    ("owner.password", "generated, and printed once", None),
    (
        "socket_io.default_app_key",
        "the demo app's key, while there is a demo",
        None,
    ),
    (
        "memory.limit",
        "the limit of the control group, or the machine's memory",
        Some(|of| of.memory),
    ),
    (
        "memory.subscriptions",
        "a quarter of `memory.limit`",
        Some(|of| of.memory / 4),
    ),
    (
        "memory.subscriptions_of_app",
        "three quarters of `memory.subscriptions`",
        Some(|of| of.memory / 16 * 3),
    ),
    (
        "connections.max",
        "the limit of open files, less 128, and at most one for each 8 KiB of `memory.limit`",
        Some(|of| of.connections),
    ),
    (
        "connections.max_pending",
        "a quarter of `connections.max`, 64 to 4096",
        Some(|of| (of.connections / 4).clamp(64, 4096)),
    ),
    (
        "outbox.max_total_bytes",
        "an eighth of `memory.limit`",
        Some(|of| of.memory / 8),
    ),
    (
        "outbox.max_app_bytes",
        "a sixteenth of `memory.limit`",
        Some(|of| of.memory / 16),
    ),
    (
        "outbox.max_total_replay_bytes",
        "a sixteenth of `memory.limit`, at least 4 MiB",
        Some(|of| (of.memory / 16).max(4 << 20)),
    ),
    (
        "websocket.max_unfinished_bytes",
        "a sixteenth of `memory.limit`, at least 4 MiB",
        Some(|of| (of.memory / 16).max(4 << 20)),
    ),
    (
        "http.max_pending_body_bytes",
        "a sixteenth of `memory.limit`, at least 4 MiB",
        Some(|of| (of.memory / 16).max(4 << 20)),
    ),
    (
        "http.max_sockets",
        "the limit of open files, less 64, and at most 64 more than one for each 8 KiB of `memory.limit`",
        Some(|of| of.sockets),
    ),
    (
        "network.max_connections",
        "an eighth of `connections.max`, at least 64",
        Some(|of| (of.connections / 8).max(64)),
    ),
    (
        "network.max_waiting_bytes",
        "16 MiB, or a 32nd of `memory.limit` if that is less",
        Some(|of| (of.memory / 32).min(16 << 20)),
    ),
    (
        "network.max_sockets",
        "a quarter of `connections.max`, at least 128",
        Some(|of| (of.connections / 4).max(128)),
    ),
    (
        "network.max_pending",
        "a sixteenth of `connections.max`, 16 to 1024",
        Some(|of| (of.connections / 16).clamp(16, 1024)),
    ),
    (
        "network.max_subscription_bytes",
        "a 32nd of `memory.limit`, 2 MiB to 16 MiB",
        Some(|of| (of.memory / 32).clamp(2 << 20, 16 << 20)),
    ),
    (
        "idempotency.max_bytes",
        "a sixteenth of `memory.limit`, 4 to 256 MiB",
        Some(|of| (of.memory / 16).clamp(4 << 20, 256 << 20)),
    ),
    (
        "recent_events.max_bytes",
        "a quarter of `memory.limit`, at least 16 MiB",
        Some(|of| (of.memory / 4).max(16 << 20)),
    ),
    (
        "live_events.max_bytes",
        "a 64th of `memory.limit`, 4 to 64 MiB",
        Some(|of| (of.memory / 64).clamp(4 << 20, 64 << 20)),
    ),
];

/// Defaults that [`Config::derive_ceilings`] lowers.
const AS_MUCH_AS: &[(&str, &str)] = &[
    ("ceilings.event_data", "as `http.max_body_bytes`"),
    (
        "ceilings.client_event_data",
        "as `websocket.max_message_bytes`",
    ),
    (
        "ceilings.presence_member_size",
        "as `websocket.max_message_bytes`, at most `1MiB`",
    ),
];

/// A value of each setting that has none by default.
const EXAMPLES: &[(&str, &str)] = &[
    ("path_prefix", "/push"),
    (
        "master_key",
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    ),
    (
        "store.url",
        "postgres://fanfare:secret@db.example.com/fanfare",
    ),
    (
        "store.listen_url",
        "postgres://fanfare:secret@db.example.com:5432/fanfare",
    ),
    ("cluster.url", "redis://:secret@redis.example.com:6379"),
    ("socket_io.default_app_key", "278d425bdf160c739803"),
    ("http.base_path", "/realtime"),
    ("http.trusted_proxies", "10.0.0.0/8, 192.0.2.7"),
    ("tls.certificate", "/etc/fanfare/example.com.crt"),
    ("tls.key", "/etc/fanfare/example.com.key"),
    (
        "tls.certificates",
        r#"[{certificate = "b.crt", key = "b.key"}]"#,
    ),
    ("tls.listen", "0.0.0.0:443"),
    ("tls.acme.domains", "realtime.example.com"),
    ("tls.acme.email", "ops@example.com"),
    ("tls.acme.directory_ca", "/etc/fanfare/pebble-ca.pem"),
    ("tls.acme.profile", "shortlived"),
    ("owner.password", "correct horse battery staple"),
    ("metrics.apps", "1234567, 1234568"),
    ("alerts.url", "https://ops.example.com/fanfare"),
    (
        "alerts.secret",
        "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    ),
    (
        "alerts.chat_url",
        "https://hooks.example.com/services/T0/B0/x",
    ),
    ("ops.listen", "127.0.0.1:6002"),
    ("demo", "false"),
];

/// Two machines on which every default that depends on the machine differs.
const MACHINES: [Capacity; 2] = [
    Capacity {
        memory: 256 << 20,
        connections: 1024,
        sockets: 1088,
    },
    Capacity {
        memory: 64 << 30,
        connections: 1 << 20,
        sockets: (1 << 20) + 64,
    },
];

/// Returns all settings of the server, in the order of their structs.
pub(crate) fn described() -> Vec<Described> {
    let [small, large] = MACHINES.map(|machine| names::values(&Config::defaults(machine)));
    let ranges = ranges();
    let described = |(name, (small, large)): (&'static str, (&Value, &Value))| {
        let kind = kind(name);
        Described {
            name,
            default: default(name, &kind, small, large),
            values: kind.in_words(ranges.iter().find(|range| range.path == name)),
            variable: variable(name),
            example: find(EXAMPLES, name),
        }
    };
    let of = |values: &[(String, Value)], name: &str| {
        let found = values.iter().position(|(known, _)| known == name);
        found.unwrap_or_default()
    };
    names::names()
        .map(|name| {
            let place = of(&small, name);
            described((name, (&small[place].1, &large[place].1)))
        })
        .collect()
}

/// Returns the words for a default.
fn default(name: &str, kind: &Kind, small: &Value, large: &Value) -> String {
    if let Some((_, words, _)) = DERIVED.iter().find(|(known, ..)| *known == name) {
        return (*words).to_owned();
    }
    if let Some(words) = find(AS_MUCH_AS, name) {
        return words.to_owned();
    }
    assert_eq!(small, large, "the default of {name} is to be described");
    match small {
        Value::Null => "none".into(),
        Value::String(text) if text.is_empty() => "none".into(),
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::String(text) => format!("`{text}`"),
        Value::Number(number) => format!("`{}`", kind.written(number.as_u64().unwrap_or_default())),
        other => format!("`{other}`"),
    }
}

/// What a setting's values are.
enum Kind {
    Time,
    Size,
    Number,
    Truth,
    Networks,
    Names,
    Choice(String),
    Text,
}

impl Kind {
    /// Returns a number as a person would write it.
    fn written(&self, number: u64) -> String {
        match self {
            Self::Time => time(number),
            Self::Size => size(number),
            _ => number.to_string(),
        }
    }

    fn in_words(&self, range: Option<&Range>) -> String {
        let word = match self {
            Self::Time => "a time",
            Self::Size => "a size",
            Self::Number => "a number",
            Self::Truth => return "`true` or `false`".into(),
            Self::Networks => return "addresses and networks".into(),
            Self::Names => return "a list".into(),
            Self::Choice(variants) => return variants.clone(),
            Self::Text => return "text".into(),
        };
        let Some(range) = range else {
            return word.into();
        };
        let unit = match range.unit {
            "days" => " of days",
            _ => "",
        };
        let least = self.written(range.least);
        match range.most {
            Some(most) => format!("{word}{unit}, `{least}` to `{}`", self.written(most)),
            None => format!("{word}{unit}, at least `{least}`"),
        }
    }
}

/// Finds out what a setting takes: the parser says so where it is given something else.
fn kind(name: &str) -> Kind {
    let wrong = Setting::flag("", name, "?");
    let figment = Figment::from(Serialized::defaults(Config::defaults(MACHINES[0]))).merge(wrong);
    let Err(error) = figment.extract::<Config>() else {
        return match name {
            "network.exempt" | "http.trusted_proxies" => Kind::Networks,
            _ => Kind::Text,
        };
    };
    let wanted = match error.kind {
        error::Kind::UnknownVariant(_, known) => {
            let known = known.iter().map(|variant| format!("`{variant}`"));
            return Kind::Choice(known.collect::<Vec<_>>().join(" or "));
        }
        error::Kind::InvalidType(_, wanted) | error::Kind::InvalidValue(_, wanted) => wanted,
        _ => return Kind::Text,
    };
    match &*wanted {
        TIME => Kind::Time,
        SIZE => Kind::Size,
        NETWORKS => Kind::Networks,
        TEXTS => Kind::Names,
        "a boolean" => Kind::Truth,
        "usize" | "u64" | "u32" | "u16" | "u8" => Kind::Number,
        _ => Kind::Text,
    }
}

/// Returns the bounds that the checks know.
fn ranges() -> Vec<Range> {
    let ranges = RefCell::default();
    let config = Config::defaults(MACHINES[1]);
    let figment = Figment::from(Serialized::defaults(config.clone()));
    let mut rules = Rules::new(&figment);
    rules.ranges = Some(&ranges);
    // The defaults keep all rules; a test says so.
    let _ = config.check(rules);
    ranges.into_inner()
}

fn find(pairs: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    let found = pairs.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value)
}

fn time(seconds: u64) -> String {
    const DAY: u64 = 86_400;
    match seconds {
        0 => "0".into(),
        days if days.is_multiple_of(DAY) => format!("{}d", days / DAY),
        hours if hours.is_multiple_of(3600) => format!("{}h", hours / 3600),
        minutes if minutes.is_multiple_of(60) && minutes > 120 => format!("{}m", minutes / 60),
        seconds => format!("{seconds}s"),
    }
}

fn size(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

    #[test]
    fn defaults_that_follow_from_others_are_as_their_words_say() {
        let between = Capacity {
            memory: 1 << 30,
            connections: 65_536,
            sockets: 65_600,
        };
        for machine in MACHINES.into_iter().chain([between]) {
            let values = names::values(&Config::defaults(machine));
            for (name, _, computed) in DERIVED {
                let (_, value) = values.iter().find(|(known, _)| known == name).unwrap();
                match computed {
                    Some(compute) => assert_eq!(*value, Value::from(compute(machine)), "{name}"),
                    None => assert!(value.is_null() || value == "", "{name}: {value}"),
                }
            }
        }
        let [small, large] = MACHINES.map(|machine| names::values(&Config::defaults(machine)));
        for ((name, small), (_, large)) in small.iter().zip(&large) {
            let is_derived = DERIVED.iter().any(|(known, ..)| known == name);
            assert!(small == large || is_derived, "{name} has no words");
        }
    }

    #[test]
    fn ceilings_are_as_their_words_say() {
        let set = [
            ("http.max_body_bytes", "2MiB"),
            ("websocket.max_message_bytes", "512KiB"),
        ];
        let ceilings = load(&set).unwrap().ceilings;
        assert_eq!(
            (ceilings.event_data, ceilings.client_event_data),
            (2 << 20, 512 << 10)
        );
        assert_eq!(ceilings.presence_member_size, 512 << 10);
        let more = load(&[("websocket.max_message_bytes", "4MiB")]).unwrap();
        assert_eq!(more.ceilings.presence_member_size, 1 << 20);
    }

    #[test]
    fn prose_that_names_bounds_names_those_that_are_checked() {
        let docs = include_str!("../../../../docs/configuration.md");
        let ranges = ranges();
        assert!(ranges.len() > 40, "the checks don't note them");
        for Range {
            path,
            least,
            most,
            unit,
        } in ranges
        {
            let Some(most) = most else { continue };
            let (_, section) = docs.split_once(&format!("\n### `{path}`\n")).unwrap();
            let section = section.split("\n#").next().unwrap_or_default();
            let prose = section.lines().filter(|line| !line.starts_with("- "));
            let prose = prose.collect::<Vec<_>>().join(" ");
            let least = bound(least, unit);
            let most = bound(most, unit);
            let words = format!("{least} to {most}");
            let names_one =
                prose.contains(&format!(" {least} to ")) || prose.contains(&format!(" to {most}"));
            assert!(
                !names_one || prose.contains(&words),
                "{path}: its explanation doesn't say {words:?}"
            );
        }
    }

    /// Returns a bound as prose has it.
    fn bound(number: u64, unit: &str) -> String {
        match (unit, number) {
            ("bytes", size) if size.is_multiple_of(1 << 30) => format!("{} GiB", size >> 30),
            ("bytes", size) if size.is_multiple_of(1 << 20) => format!("{} MiB", size >> 20),
            ("bytes", size) if size.is_multiple_of(1024) => format!("{} KiB", size >> 10),
            (_, 1_000_000) => "1,000,000".into(),
            (_, number) => number.to_string(),
        }
    }

    #[test]
    fn every_setting_without_a_default_has_an_example_that_can_be_read() {
        for setting in described() {
            let is_known = DERIVED
                .iter()
                .any(|(name, _, compute)| *name == setting.name && compute.is_some());
            if setting.default.starts_with('`') || setting.name.starts_with("ceilings.") || is_known
            {
                assert_eq!(
                    setting.example, None,
                    "{}: the default is one",
                    setting.name
                );
                continue;
            }
            let example = setting.example;
            let example = example.unwrap_or_else(|| panic!("{} needs an example", setting.name));
            let figment = Figment::from(Serialized::defaults(Config::defaults(MACHINES[0])))
                .merge(Setting::flag("--set", setting.name, example));
            if let Err(error) = figment.extract::<Config>() {
                panic!("{}: {error}", setting.name);
            }
        }
        for (name, _) in EXAMPLES {
            assert!(names::kind(name).is_some(), "{name} is no setting");
        }
    }
}
