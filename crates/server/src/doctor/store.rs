//! The store: the database, its tables, its clock.

use std::fs::File;
use std::io::ErrorKind;
use std::time::Duration;

use fanfare_store::{Examination, ServerExamination, StoreError, sqlite_file};
use secrecy::ExposeSecret;

use super::{Finding, compare_clock};
use crate::config::Config;
use crate::master_key::MasterKeySource;

/// Round trip above which each change through the admin API is slow.
const SLOW: Duration = Duration::from_millis(50);
/// Connections that a node opens to Postgres.
const CONNECTIONS_OF_NODE: i64 = 9;

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let shown = config.store_shown();
    let file = match &config.store.url {
        Some(url) => sqlite_file(url.expose_secret()),
        None => Some(config.store_file()),
    };
    // SQLite has one error for a missing file and for one that it may not read.
    if let Some(Err(error)) = file.map(File::open)
        && error.kind() == ErrorKind::PermissionDenied
    {
        return vec![not_permitted(&shown)];
    }
    let examined = match &config.store.url {
        Some(url) => Examination::of_url(url.expose_secret()).await,
        None => Examination::of_file(&config.store_file()).await,
    };
    match examined {
        Ok(examination) => {
            let mut findings = findings(&shown, &examination, config.store.listen_url.is_some());
            findings.extend(master_key(config, &examination));
            findings
        }
        Err(error) => vec![unreachable(&shown, &error)],
    }
}

fn not_permitted(shown: &str) -> Finding {
    Finding::failure(
        "store.reachable",
        format!("the store {shown}: permission denied"),
        "run this as the user that the server runs as; a server of this user doesn't start either",
    )
}

/// Checks that the master key opens the store's secrets, because a server doesn't start with another one. Before the
/// first start there is nothing to check.
fn master_key(config: &Config, examination: &Examination) -> Option<Finding> {
    let check = "store.master_key";
    if !examination.is_sealed() {
        return None;
    }
    let advice = "a server doesn't start without the key that sealed the store: set FANFARE_MASTER_KEY to it, or put the \
         installation's master.key into the data folder (setting data_dir)";
    // A sealed store's key is never made, so nothing is written.
    let source = match MasterKeySource::find(config, true) {
        Ok(source) => source,
        Err(error) => return Some(Finding::failure(check, format!("{error:#}"), advice)),
    };
    let key = match source.read() {
        Ok(key) => key,
        Err(error) => return Some(Finding::failure(check, format!("{error:#}"), advice)),
    };
    // An interrupted rotation leaves two files, one of which is right. The server's start finds it out.
    let replacement = || source.replacement()?.read().ok();
    let opens = examination.is_sealed_with(&key)
        || replacement().is_some_and(|key| examination.is_sealed_with(&key));
    let shown = source.shown();
    if opens {
        return Some(Finding::ok(
            check,
            format!("the master key from {shown} opens the store"),
        ));
    }
    let found =
        format!("the store's secrets were sealed with another master key than that from {shown}");
    Some(Finding::failure(check, found, advice))
}

fn unreachable(shown: &str, error: &StoreError) -> Finding {
    match error {
        StoreError::Missing => Finding::warning(
            "store.reachable",
            format!("there is no store {shown}"),
            "start the server once, which creates it, or name the store that the server uses with --data-dir or --store-url",
        ),
        error => Finding::failure(
            "store.reachable",
            format!("the store {shown}: {error}"),
            "a server doesn't start without its store, and a running one takes no changes; make the database reachable from here",
        ),
    }
}

fn findings(shown: &str, examination: &Examination, listens_elsewhere: bool) -> Vec<Finding> {
    let mut findings = vec![
        Finding::ok(
            "store.reachable",
            format!("{} at {shown}", examination.software),
        ),
        tables(examination),
    ];
    if let Some(damage) = &examination.damage {
        findings.push(Finding::failure(
            "store.file",
            format!("the file is damaged: {damage}"),
            "stop the server and restore a backup; keep the damaged file with its -wal and -shm for a rescue",
        ));
    }
    if let Some(server) = &examination.server {
        findings.extend([
            round_trip(server),
            compare_clock("store.clock", "the store", server.clock_ahead),
            connections(server),
            writable(server),
        ]);
        findings.extend(pooler(server, listens_elsewhere));
    }
    findings
}

fn tables(examination: &Examination) -> Finding {
    let check = "store.tables";
    let (missing, newer) = (examination.missing_migrations, examination.newer_migrations);
    if newer > 0 {
        return Finding::failure(
            check,
            format!(
                "the tables are of a newer version: {newer} migrations are unknown to this one"
            ),
            "use the version that made them, or a later one",
        );
    }
    match (examination.has_installation, missing) {
        (false, _) => Finding::warning(
            check,
            "there is no installation in this database yet",
            "the server's first start begins one; check that this is the database you mean",
        ),
        (true, 0) => Finding::ok(check, "the tables are those of this version"),
        (true, missing) => Finding::warning(
            check,
            format!("the tables are of an earlier version: {missing} migrations are missing"),
            "make a backup; the next start of this version runs them",
        ),
    }
}

fn round_trip(server: &ServerExamination) -> Finding {
    let check = "store.round_trip";
    let found = format!(
        "a statement takes {:.1} ms",
        server.round_trip.as_secs_f64() * 1000.0
    );
    if server.round_trip <= SLOW {
        return Finding::ok(check, found);
    }
    Finding::warning(
        check,
        found,
        "events don't wait for the store, but every change through the admin API takes several of these; run the database nearer",
    )
}

fn connections(server: &ServerExamination) -> Finding {
    let check = "store.connections";
    let free = server.max_connections - server.connections;
    let found = format!(
        "{} of {} connections are in use; a node uses up to {CONNECTIONS_OF_NODE}",
        server.connections, server.max_connections
    );
    if free >= CONNECTIONS_OF_NODE {
        return Finding::ok(check, found);
    }
    Finding::warning(
        check,
        found,
        "raise max_connections of Postgres, or put a connection pooler in front of it",
    )
}

fn writable(server: &ServerExamination) -> Finding {
    let check = "store.writable";
    if server.is_read_only {
        return Finding::failure(
            check,
            "the database is read-only, as a replica is",
            "name the primary in store.url; with several hosts in the URL, let a proxy or a DNS name lead to the primary",
        );
    }
    Finding::ok(check, "the database takes changes")
}

fn pooler(server: &ServerExamination, listens_elsewhere: bool) -> Option<Finding> {
    let check = "store.pooler";
    let found = "a connection pooler in transaction mode is in front of the database";
    match (server.is_pooled, listens_elsewhere) {
        (false, _) => None,
        (true, true) => Some(Finding::ok(
            check,
            format!("{found}; store.listen_url goes past it"),
        )),
        (true, false) => Some(Finding::warning(
            check,
            found,
            "changes reach other nodes after up to 400 ms; for less, set store.listen_url to the address of Postgres itself",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    fn postgres() -> ServerExamination {
        ServerExamination {
            round_trip: Duration::from_millis(1),
            clock_ahead: 0,
            max_connections: 97,
            connections: 10,
            is_read_only: false,
            is_pooled: false,
        }
    }

    fn examination(server: ServerExamination) -> Examination {
        Examination {
            software: "PostgreSQL 15.5".into(),
            has_installation: true,
            missing_migrations: 0,
            newer_migrations: 0,
            master_key_check: None,
            damage: None,
            server: Some(server),
        }
    }

    /// Returns the checks that aren't well.
    fn wrong(examination: &Examination) -> Vec<(&'static str, Severity)> {
        findings("postgres://db", examination, false)
            .into_iter()
            .filter(|finding| finding.severity != Severity::Ok)
            .map(|finding| (finding.check, finding.severity))
            .collect()
    }

    #[test]
    fn a_database_that_is_well_gets_no_advice() {
        assert_eq!(wrong(&examination(postgres())), []);
    }

    #[test]
    fn each_trouble_of_a_database_is_one_finding() {
        let cases = [
            (
                ServerExamination {
                    round_trip: Duration::from_millis(80),
                    ..postgres()
                },
                ("store.round_trip", Severity::Warning),
            ),
            (
                ServerExamination {
                    clock_ahead: -9_000,
                    ..postgres()
                },
                ("store.clock", Severity::Warning),
            ),
            (
                ServerExamination {
                    connections: 90,
                    ..postgres()
                },
                ("store.connections", Severity::Warning),
            ),
            (
                ServerExamination {
                    is_read_only: true,
                    ..postgres()
                },
                ("store.writable", Severity::Failure),
            ),
            (
                ServerExamination {
                    is_pooled: true,
                    ..postgres()
                },
                ("store.pooler", Severity::Warning),
            ),
        ];
        for (server, expected) in cases {
            assert_eq!(wrong(&examination(server)), [expected]);
        }
    }

    #[test]
    fn tables_of_another_version_say_in_which_direction() {
        let with = |missing_migrations, newer_migrations| Examination {
            missing_migrations,
            newer_migrations,
            ..examination(postgres())
        };
        assert_eq!(wrong(&with(1, 0)), [("store.tables", Severity::Warning)]);
        assert_eq!(wrong(&with(0, 1)), [("store.tables", Severity::Failure)]);
    }
}
