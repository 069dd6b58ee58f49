//! Postgres: version, rights, free connections, its clock.

use fanfare_cluster::PostgresExamination;

use super::round_trip;
use crate::doctor::{Finding, compare_clock};

/// Connections that a node uses: for calls, to be woken, and for histories.
const CONNECTIONS_OF_NODE: i64 = 4;

pub(super) fn findings(examination: &PostgresExamination) -> Vec<Finding> {
    let name = &examination.software;
    vec![
        Finding::ok("cluster.reachable", name.clone()),
        round_trip(name, examination.round_trip),
        compare_clock("cluster.clock", name, examination.clock_ahead),
        connections(examination),
        rights(examination),
    ]
}

fn connections(examination: &PostgresExamination) -> Finding {
    let check = "cluster.connections";
    let found = format!(
        "{} connections are free; a node uses up to {CONNECTIONS_OF_NODE}",
        examination.free_connections
    );
    if examination.free_connections >= CONNECTIONS_OF_NODE {
        return Finding::ok(check, found);
    }
    Finding::warning(check, found, "raise max_connections of Postgres")
}

fn rights(examination: &PostgresExamination) -> Finding {
    let check = "cluster.rights";
    match &examination.refused {
        None => Finding::ok(check, "the tables that nodes share can be created"),
        Some(reason) => Finding::failure(
            check,
            format!("{} refused what nodes do: {reason}", examination.software),
            "give the user the right in docs/clustering.md, or name a server that takes changes",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::Severity;

    fn postgres() -> PostgresExamination {
        PostgresExamination {
            software: "PostgreSQL 15.5".into(),
            round_trip: Duration::from_micros(200),
            clock_ahead: 0,
            free_connections: 80,
            refused: None,
        }
    }

    #[test]
    fn each_trouble_of_postgres_is_one_finding() {
        let cases = [
            (postgres(), None),
            (
                PostgresExamination {
                    free_connections: 3,
                    ..postgres()
                },
                Some(("cluster.connections", Severity::Warning)),
            ),
            (
                PostgresExamination {
                    round_trip: Duration::from_millis(40),
                    ..postgres()
                },
                Some(("cluster.round_trip", Severity::Warning)),
            ),
            (
                PostgresExamination {
                    refused: Some("permission denied".into()),
                    ..postgres()
                },
                Some(("cluster.rights", Severity::Failure)),
            ),
        ];
        for (examination, expected) in cases {
            let wrong: Vec<_> = findings(&examination)
                .into_iter()
                .filter(|finding| finding.severity != Severity::Ok)
                .map(|finding| (finding.check, finding.severity))
                .collect();
            assert_eq!(wrong, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
