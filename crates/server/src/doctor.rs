//! `fanfare doctor`: looks at what a node depends on, and says what to do about what isn't right. Changes nothing.
//!
//! | module | what it looks at |
//! |---|---|
//! | `machine` | open files, memory, the kernel's queues and tables |
//! | `files` | the data folder and the configuration file |
//! | `store` | the database, its tables, its clock |
//! | `cluster` | Redis or Postgres between nodes: version, memory, buffers, rights, its clock |
//! | `tls` | certificates, their files, and what the server shows of them |
//! | `server` | a running server, directly or through its proxies |

use serde::Serialize;

use crate::config::{Config, unknown_variables};

mod cluster;
mod files;
mod machine;
mod server;
mod store;
mod tls;

pub(crate) use server::Target;

/// Seconds that two clocks may differ before a person should know. Backends' signatures are good for ten minutes.
const CLOCK_WARNING: i64 = 5;
/// Seconds that two clocks may differ before requests are likely to be refused.
const CLOCK_FAILURE: i64 = 300;

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Ok,
    /// Works, and will hurt under load or on a bad day.
    Warning,
    /// A server doesn't work with this, or not rightly.
    Failure,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Name of the check, for example `store.clock`.
    pub(crate) check: &'static str,
    pub(crate) severity: Severity,
    pub(crate) found: String,
    /// What to do, unless all is well.
    pub(crate) advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            severity: Severity::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            check,
            severity: Severity::Warning,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }

    fn failure(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            severity: Severity::Failure,
            ..Self::warning(check, found, advice)
        }
    }
}

/// Looks at what a node of this configuration depends on, on this machine.
pub(crate) async fn examine_node(config: &Config) -> Vec<Finding> {
    let mut findings = vec![variables(&unknown_variables())];
    findings.extend(machine::examine(config));
    findings.extend(files::examine(config));
    findings.extend(store::examine(config).await);
    findings.extend(cluster::examine(config).await);
    findings.extend(server::examine_own(config).await);
    findings.extend(tls::examine(config).await);
    findings
}

/// Looks at a running server as its clients and backends see it, through all proxies.
pub(crate) async fn examine_server(target: &Target) -> Vec<Finding> {
    server::examine(target).await
}

/// Reports variables that no setting has. Values that can't work have ended the command before.
fn variables(unknown: &[String]) -> Finding {
    let check = "configuration";
    match unknown {
        [] => Finding::ok(check, "every setting is valid"),
        messages => Finding::failure(
            check,
            messages.join("; "),
            "correct the name, or remove the variable",
        ),
    }
}

/// Compares another machine's clock with this one's.
fn compare_clock(check: &'static str, name: &str, milliseconds_ahead: i64) -> Finding {
    let seconds = milliseconds_ahead.unsigned_abs() as f64 / 1000.0;
    let direction = if milliseconds_ahead < 0 {
        "behind"
    } else {
        "ahead of"
    };
    let found = format!("the clock of {name} is {seconds:.1} s {direction} this machine's");
    let advice = "synchronize the clocks of all machines (chrony, systemd-timesyncd or ntpd): requests that are signed more than \
         ten minutes off are refused, and tokens expire early or late";
    match milliseconds_ahead.abs() / 1000 {
        off if off >= CLOCK_FAILURE => Finding::failure(check, found, advice),
        off if off >= CLOCK_WARNING => Finding::warning(check, found, advice),
        _ => Finding::ok(check, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_reported_with_their_difference() {
        for (ahead, severity, words) in [
            (-200, Severity::Ok, "0.2 s behind"),
            (6_000, Severity::Warning, "6.0 s ahead of"),
            (-400_000, Severity::Failure, "400.0 s behind"),
        ] {
            let finding = compare_clock("store.clock", "the store", ahead);
            assert_eq!(finding.severity, severity, "{ahead}");
            assert!(finding.found.contains(words), "{}", finding.found);
        }
    }
}
