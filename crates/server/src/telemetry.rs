//! Logging to standard error. Standard output is for the results of commands.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{LogConfig, LogFormat, nearest};
use crate::help;
use crate::traces::{EXPORTED_TARGET, LOG_TARGET, Traces};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Names of levels in other programs, with the level meant.
const OTHER_LEVELS: [(&str, &str); 6] = [
    ("warning", "warn"),
    ("information", "info"),
    ("verbose", "debug"),
    ("fatal", "error"),
    ("critical", "error"),
    ("none", "off"),
];
/// Crates whose lines a filter may name. The first are Fanfare's own.
const TARGETS: [&str; 13] = [
    "fanfare",
    "fanfare_cluster",
    "fanfare_engine",
    "fanfare_store",
    "hyper_util",
    "reqwest",
    "rustls_platform_verifier",
    "sqlx",
    "sqlx_core",
    "sqlx_postgres",
    "sqlx_sqlite",
    "tower_http",
    "tungstenite",
];
/// Libraries whose lines the log has only if its filter names them, with what is logged nevertheless: Postgres notices about existing
/// tables, the pool's errors about connections that it replaces, and the verifier's about certificates of peers. What matters of them
/// is logged or answered elsewhere, with what it belongs to.
const QUIET_TARGETS: [(&str, &str); 2] = [
    ("sqlx", "sqlx=error,sqlx_core=error"),
    ("rustls_platform_verifier", "rustls_platform_verifier=off"),
];

/// Starts logging and the recording of traces. Called once, before anything else runs.
pub(crate) fn start(log: &LogConfig, traces: &Traces) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match log.format {
        LogFormat::Text => lines
            .with_target(false)
            .fmt_fields(help::Text::default())
            .boxed(),
        LogFormat::Json => lines.json().map_event_format(help::Lines).boxed(),
    };
    let filter = filter(log, traces);
    let registry = tracing_subscriber::registry();
    match traces.layer() {
        // The log's filter must not keep spans from the traces.
        Some(layer) => registry.with(lines.with_filter(filter)).with(layer).init(),
        None => registry.with(lines).with(filter).init(),
    }
}

/// Returns which lines and spans the log has.
fn filter(log: &LogConfig, traces: &Traces) -> EnvFilter {
    let mut filter = log.filter.clone();
    for (library, directives) in QUIET_TARGETS {
        if !filter.contains(library) {
            filter = format!("{filter},{directives}");
        }
    }
    filter = format!("{filter},{EXPORTED_TARGET}=off");
    if traces.is_on() {
        // Whatever the level of a line is, it has the id of its trace.
        filter = format!("{filter},{LOG_TARGET}=info");
    }
    EnvFilter::new(filter)
}

/// Checks a log filter. A word that isn't a level would be a valid target, and nothing would be logged.
///
/// # Errors
///
/// Returns which part is wrong and what to write.
pub(crate) fn check_filter(filter: &str) -> Result<(), String> {
    const FORM: &str =
        "a level is off, error, warn, info, debug or trace; write info, or info,fanfare=debug";
    let parts = || {
        filter
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
    };
    if parts().next().is_none() {
        return Err(format!("must name a level: {FORM}"));
    }
    // Filters of spans and fields contain commas, so they aren't split.
    if !filter.contains(['[', '{']) {
        for part in parts() {
            check_directive(part).map_err(|why| format!("cannot be {filter:?}: {why}; {FORM}"))?;
        }
    }
    match EnvFilter::try_new(filter) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot be {filter:?}: {error}; {FORM}")),
    }
}

fn check_directive(directive: &str) -> Result<(), String> {
    let (target, level) = match directive.split_once('=') {
        Some((target, level)) => (Some(target), Some(level)),
        None if is_level(directive) => (None, None),
        None if directive.contains("::") || directive == "fanfare" => (Some(directive), None),
        None => (None, Some(directive)),
    };
    if let Some(level) = level.filter(|level| !is_level(level)) {
        return Err(format!("{directive:?} has no level{}", did_you_mean(level)));
    }
    let Some(name) = target.and_then(|target| target.split("::").next()) else {
        return Ok(());
    };
    // A filter takes every target that begins with it.
    if TARGETS.iter().any(|target| target.starts_with(name)) {
        return Ok(());
    }
    match nearest(name, TARGETS.into_iter()) {
        Some(meant) => Err(format!("{name:?} logs nothing; did you mean {meant}?")),
        None if name.starts_with("fanfare") => Err(format!(
            "{name:?} logs nothing; there are {}",
            TARGETS
                .into_iter()
                .filter(|target| target.starts_with("fanfare"))
                .collect::<Vec<_>>()
                .join(", ")
        )),
        // Another library's.
        None => Ok(()),
    }
}

fn is_level(text: &str) -> bool {
    let number = text.parse::<u8>().is_ok_and(|number| number <= 5);
    number || LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text))
}

fn did_you_mean(level: &str) -> String {
    let lower = level.to_ascii_lowercase();
    let other = OTHER_LEVELS.iter().find(|(name, _)| *name == lower);
    let meant = other
        .map(|(_, level)| *level)
        .or_else(|| nearest(&lower, LEVELS.into_iter()));
    meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_for_what_logs_nothing_is_refused_with_the_nearest_name() {
        for filter in [
            "info",
            "fanfare=debug",
            "fanfare_engine=trace,warn",
            "fanfare::notices=debug",
            "fanfare_store::postgres=debug",
            "sqlx=debug",
            "sqlx::query=info",
            "hyper=warn",
            "another_library=warn",
        ] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        for (filter, meant) in [
            ("fanfre=debug", "did you mean fanfare?"),
            ("Fanfare=debug", "did you mean fanfare?"),
            ("fanfare_egnine=debug", "did you mean fanfare_engine?"),
            ("fanfare-store=debug", "did you mean fanfare_store?"),
            ("sqlxx=debug", "did you mean sqlx?"),
            ("tungstenit3::protocol=debug", "did you mean tungstenite?"),
            (
                "fanfare_webhooks_and_more=debug",
                "there are fanfare, fanfare_cluster",
            ),
        ] {
            let error = check_filter(filter).unwrap_err();
            assert!(error.contains(meant), "{filter}: {error}");
        }
    }

    #[test]
    fn targets_are_crates_of_this_program() {
        let lock = include_str!("../../../Cargo.lock");
        for target in TARGETS {
            let name = format!("name = \"{}\"\n", target.replace('_', "-"));
            assert!(lock.contains(&name), "{target} is no crate of this program");
        }
    }
}
