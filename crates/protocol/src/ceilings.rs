//! Ceilings: the highest values that an app's limits may have, because apps share a node and its
//! operators answer for it.

use serde::{Deserialize, Serialize};

use crate::history::{HistoryRule, MAX_SIZE};
use crate::limits::Limits;
use crate::settings::AppSettings;

/// Limits for which 0 means "no limit".
const ZERO_IS_UNLIMITED: [&str; 4] = [
    "connections",
    "subscriptions",
    "backend_events_per_second",
    "client_events_per_second",
];

macro_rules! ceilings {
    ($($name:ident: $most:expr,)*) => {
        /// A ceiling for each of an app's [`Limits`], by the same name, and for its history rules.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(missing_docs, reason = "each is the ceiling of the limit of that name")]
        pub struct Ceilings {
            $(pub $name: u64,)*
            /// The ceiling of a history rule's `size`, in events.
            pub history_size: u64,
            /// The ceiling of a history rule's `ttl`, in seconds.
            pub history_ttl: u64,
        }

        impl Ceilings {
            /// The highest values of the ceilings: beyond these, values bound nothing.
            pub const MOST: Self = Self {
                $($name: $most,)*
                history_size: MAX_SIZE as u64,
                history_ttl: Limits::MAX_CACHE_TTL,
            };

            /// Returns all ceilings with their names.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![
                    $((stringify!($name), self.$name),)*
                    ("history_size", self.history_size),
                    ("history_ttl", self.history_ttl),
                ]
            }

            /// Lowers limits that are above their ceilings, and returns their names.
            fn clamp_limits(&self, limits: &mut Limits) -> Vec<&'static str> {
                let mut lowered = Vec::new();
                $(
                    let name = stringify!($name);
                    if is_more(name, limits.$name as u64, self.$name) {
                        // What is lower fits.
                        limits.$name = self.$name.try_into().unwrap_or(limits.$name);
                        lowered.push(name);
                    }
                )*
                lowered
            }
        }

        /// Returns all limits with their names.
        fn named_limits(limits: &Limits) -> Vec<(&'static str, u64)> {
            vec![$((stringify!($name), limits.$name as u64),)*]
        }
    };
}

ceilings! {
    connections: 100_000_000,
    subscriptions: 1_000_000_000,
    backend_events_per_second: u32::MAX as u64,
    channel_name: 1024,
    event_name: 1024,
    event_data: 64 << 20,
    client_event_data: 16 << 20,
    client_events_per_second: 1_000_000,
    channels_per_publish: 10_000,
    batch_events: 10_000,
    presence_members: 1_000_000,
    presence_member_size: 1 << 20,
    user_id: 1024,
    watchlist: 10_000,
    cache_ttl: Limits::MAX_CACHE_TTL,
    cache_bytes: 1 << 40,
    history_bytes: 1 << 40,
}

/// Returns whether one value of a limit allows more than another.
fn is_more(name: &str, value: u64, than: u64) -> bool {
    let comparable = |value: u64| match value {
        0 if ZERO_IS_UNLIMITED.contains(&name) => u64::MAX,
        value => value,
    };
    comparable(value) > comparable(than)
}

impl Ceilings {
    /// Checks that apps can work below these ceilings.
    ///
    /// # Errors
    ///
    /// Returns the name of the ceiling that is too high or too low, and the rule.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        for ((name, value), (_, most)) in self.named().into_iter().zip(Self::MOST.named()) {
            let least = u64::from(!ZERO_IS_UNLIMITED.contains(&name));
            if !(least..=most).contains(&value) {
                return Err((name, format!("must be {least} to {most}")));
            }
        }
        Ok(())
    }

    /// Checks a change of settings: what is changed must be within the ceilings.
    ///
    /// # Errors
    ///
    /// Returns a text with the setting and its ceiling.
    pub fn allow(&self, before: &AppSettings, after: &AppSettings) -> Result<(), String> {
        let limits = named_limits(&after.limits).into_iter();
        for ((name, value), (_, old)) in limits.zip(named_limits(&before.limits)) {
            let ceiling = self.of(name);
            if value != old && is_more(name, value, ceiling) {
                return Err(format!(
                    "limits.{name} can be {ceiling} at most, not {}: the ceiling that the operators of this node have set \
                     for all apps (ceilings.{name})",
                    shown(name, value)
                ));
            }
        }
        for rule in after
            .history
            .iter()
            .filter(|rule| !before.history.contains(rule))
        {
            for (what, value, name) in [
                ("size", rule.size as u64, "history_size"),
                ("ttl", rule.ttl, "history_ttl"),
            ] {
                let ceiling = self.of(name);
                if value > ceiling {
                    return Err(format!(
                        "history: {what} can be {ceiling} at most, not {value}: the ceiling that the operators of this node \
                         have set for all apps (ceilings.{name})"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Lowers settings that are above the ceilings, and returns their names.
    pub fn clamp(&self, settings: &mut AppSettings) -> Vec<String> {
        let lowered = self.clamp_limits(&mut settings.limits);
        let mut lowered: Vec<_> = lowered
            .iter()
            .map(|name| format!("limits.{name}"))
            .collect();
        let before = settings.history.clone();
        for rule in &mut settings.history {
            rule.size = rule
                .size
                .min(usize::try_from(self.history_size).unwrap_or(usize::MAX));
            rule.ttl = rule.ttl.min(self.history_ttl);
        }
        if settings.history != before {
            lowered.push("history".into());
        }
        lowered
    }

    fn of(&self, name: &str) -> u64 {
        let mut named = self.named().into_iter();
        let found = named.find(|(known, _)| *known == name);
        found.map_or(0, |(_, ceiling)| ceiling)
    }

    /// Returns the name of a limit that is above its ceiling, and the ceiling.
    pub(crate) fn exceeded(&self, limits: &Limits) -> Option<(&'static str, u64)> {
        let mut named = named_limits(limits).into_iter();
        let (name, _) =
            named.find(|(name, value)| *value != 0 && is_more(name, *value, self.of(name)))?;
        Some((name, self.of(name)))
    }
}

impl Default for Ceilings {
    /// Returns the highest ceilings, and none for limits that have a value for "no limit".
    fn default() -> Self {
        Self {
            connections: 0,
            subscriptions: 0,
            backend_events_per_second: 0,
            client_events_per_second: 0,
            ..Self::MOST
        }
    }
}

fn shown(name: &str, value: u64) -> String {
    match value {
        0 if ZERO_IS_UNLIMITED.contains(&name) => "0 (no limit)".into(),
        value => value.to_string(),
    }
}

impl AppSettings {
    /// Returns the names of the settings by which an app may cost its node more than with those of
    /// `before`: higher limits, and history rules that keep more events, for longer, or of more
    /// channels. Only operators of all apps may raise them.
    #[must_use]
    pub fn raised(&self, before: &Self) -> Vec<String> {
        let limits = named_limits(&self.limits)
            .into_iter()
            .zip(named_limits(&before.limits));
        let raised = limits.filter(|((name, value), (_, old))| is_more(name, *value, *old));
        let mut raised: Vec<_> = raised
            .map(|((name, _), _)| format!("limits.{name}"))
            .collect();
        let was_kept = |rule: &HistoryRule| before.history.iter().any(|old| old.covers(rule));
        if !self.history.iter().all(was_kept) {
            raised.push("history".into());
        }
        raised
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(channels: &str, size: usize, ttl: u64) -> HistoryRule {
        HistoryRule {
            channels: channels.into(),
            size,
            ttl,
        }
    }

    #[test]
    fn every_limit_has_a_ceiling_that_is_not_below_its_default() {
        let limits = serde_json::to_value(Limits::HOSTED).unwrap();
        let ceilings = serde_json::to_value(Ceilings::MOST).unwrap();
        for name in limits.as_object().unwrap().keys() {
            assert!(ceilings[name].as_u64().is_some(), "{name}");
        }
        assert_eq!(Ceilings::MOST.exceeded(&Limits::HOSTED), None);
        assert_eq!(Ceilings::MOST.check(), Ok(()));
        let mut settings = AppSettings::default();
        assert!(Ceilings::default().clamp(&mut settings).is_empty());
    }

    #[test]
    fn what_costs_the_node_more_is_raised_and_nothing_else() {
        let before = AppSettings {
            history: vec![rule("room-*", 100, 60)],
            ..AppSettings::default()
        };
        let with = |change: fn(&mut AppSettings)| {
            let mut after = before.clone();
            change(&mut after);
            after.raised(&before)
        };
        assert!(before.raised(&before).is_empty());
        let lowered = with(|settings| {
            settings.client_events = true;
            settings.limits.connections = 5;
            settings.limits.event_data = 5;
            settings.history = vec![rule("room-a*", 100, 60), rule("room-b", 1, 1)];
        });
        assert!(lowered.is_empty(), "{lowered:?}");
        assert_eq!(
            with(|settings| settings.limits.history_bytes += 1),
            ["limits.history_bytes"]
        );
        for history in [
            vec![rule("room-*", 101, 60)],
            vec![rule("room-*", 100, 61)],
            vec![rule("*", 1, 1)],
            vec![rule("roo*", 1, 1)],
            vec![rule("room-*", 100, 60), rule("other", 1, 1)],
        ] {
            let after = AppSettings {
                history: history.clone(),
                ..before.clone()
            };
            assert_eq!(after.raised(&before), ["history"], "{history:?}");
        }
        let quota = |connections| AppSettings {
            limits: Limits {
                connections,
                ..Limits::HOSTED
            },
            ..AppSettings::default()
        };
        assert_eq!(quota(0).raised(&quota(7)), ["limits.connections"]);
        assert!(quota(7).raised(&quota(0)).is_empty(), "0 is no limit");
    }

    #[test]
    fn a_ceiling_names_itself_where_a_setting_passes_it() {
        let ceilings = Ceilings {
            history_bytes: 1000,
            connections: 10,
            history_size: 5,
            ..Ceilings::default()
        };
        let (before, mut after) = (AppSettings::default(), AppSettings::default());
        assert_eq!(
            ceilings.allow(&before, &after),
            Ok(()),
            "what is not changed is nobody's fault"
        );
        after.limits.history_bytes = 1001;
        let error = ceilings.allow(&before, &after).unwrap_err();
        assert!(
            error.contains("ceilings.history_bytes") && error.contains("1000"),
            "{error}"
        );
        let mut after = before.clone();
        after.limits.connections = 11;
        let error = ceilings.allow(&before, &after).unwrap_err();
        assert!(error.contains("ceilings.connections"), "{error}");
        let unlimited = ceilings.allow(&after, &before).unwrap_err();
        assert!(unlimited.contains("0 (no limit)"), "{unlimited}");
        let mut after = before.clone();
        after.history = vec![rule("*", 6, 1)];
        let error = ceilings.allow(&before, &after).unwrap_err();
        assert!(error.contains("ceilings.history_size"), "{error}");
        assert_eq!(
            ceilings.clamp(&mut after),
            ["limits.connections", "limits.history_bytes", "history"]
        );
        let limits = &after.limits;
        assert_eq!(
            (
                limits.connections,
                limits.history_bytes,
                after.history[0].size
            ),
            (10, 1000, 5)
        );
        assert_eq!(ceilings.allow(&before, &after), Ok(()));
    }

    #[test]
    fn a_ceiling_is_within_what_a_bound_can_be() {
        for ceilings in [
            Ceilings {
                cache_bytes: u64::MAX,
                ..Ceilings::default()
            },
            Ceilings {
                user_id: 0,
                ..Ceilings::default()
            },
        ] {
            assert!(ceilings.check().is_err());
        }
        let unlimited = Ceilings {
            connections: 0,
            subscriptions: 0,
            backend_events_per_second: 0,
            client_events_per_second: 0,
            ..Ceilings::default()
        };
        assert_eq!(unlimited.check(), Ok(()));
    }
}
