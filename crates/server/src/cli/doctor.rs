//! `fanfare doctor`: prints what was found, the advice below it.

use clap::Args;
use serde_json::json;

use super::api::{ServerFlags, check_server, without_api_path};
use super::output;
use crate::config::Config;
use crate::doctor::{self, Finding, Severity, Target};
use crate::failure::{Code, Failure};

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    server: ServerFlags,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(doctor: Doctor, config: &Config) -> anyhow::Result<()> {
    let findings = match doctor.server.server() {
        Some(server) => {
            let server = check_server(without_api_path(server))?;
            let target = Target::new(server.as_str(), doctor.server.token()?)?;
            doctor::examine_server(&target).await
        }
        None if doctor.server.token()?.is_some() => {
            return Err(Failure::misuse(
                "there is an API token, but no server to use it on: name it with --server URL or FANFARE_SERVER, or leave \
                 the token out to look at this machine",
            )
            .into());
        }
        None => doctor::examine_node(config).await,
    };
    if doctor.json {
        output::json(&json!({"findings": findings}))?;
    } else {
        output::text(&report(&findings))?;
    }
    let count = |severity| {
        findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    match count(Severity::Failure) {
        0 => Ok(()),
        failures => {
            Err(Failure::new(Code::Failed, summary(failures, count(Severity::Warning))).into())
        }
    }
}

fn summary(failures: usize, warnings: usize) -> String {
    let plural = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    format!(
        "{}, {}",
        plural(failures, "failure"),
        plural(warnings, "warning")
    )
}

/// Returns one line for each finding, and its advice below.
fn report(findings: &[Finding]) -> String {
    let width = findings
        .iter()
        .map(|finding| finding.check.len())
        .max()
        .unwrap_or_default();
    let mut lines = Vec::new();
    for Finding {
        check,
        severity,
        found,
        advice,
    } in findings
    {
        let mark = match severity {
            Severity::Ok => "ok  ",
            Severity::Warning => "warn",
            Severity::Failure => "FAIL",
        };
        lines.push(format!(
            "{mark}  {check:width$}  {}",
            output::printable(found)
        ));
        if let Some(advice) = advice {
            lines.push(format!(
                "      {:width$}  -> {}",
                "",
                output::printable(advice)
            ));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_stands_below_its_finding() {
        let finding = Finding {
            check: "store.clock",
            severity: Severity::Warning,
            found: "off\u{1b}[31m".into(),
            advice: Some("set it".into()),
        };
        assert_eq!(
            report(&[finding]),
            "warn  store.clock  off\u{fffd}[31m\n                   -> set it"
        );
    }
}
