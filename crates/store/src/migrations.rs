//! The migrations, which are part of the program, with the same numbers and names for both databases.
//!
//! Written by hand because sqlx's macro for it compiles both drivers and their TLS a second time.

use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The files of a database's folder in `migrations/`, each with its name.
macro_rules! files {
    ($folder:literal) => {
        files!($folder: "0001_apps_and_keys", "0002_operators", "0003_usage", "0004_quotas", "0005_alerts", "0006_webhooks", "0007_browser_sessions", "0008_acme", "0009_outboxes", "0010_installation_uid")
    };
    ($folder:literal: $($name:literal),+) => {
        [$((
            $name,
            include_str!(concat!("../../../migrations/", $folder, "/", $name, ".sql")),
        )),+]
    };
}

/// Returns the migrations of SQLite.
pub(crate) fn sqlite() -> Migrator {
    migrator(&files!("sqlite"))
}

/// Returns the migrations of Postgres.
pub(crate) fn postgres() -> Migrator {
    migrator(&files!("postgres"))
}

fn migrator(files: &[(&'static str, &'static str)]) -> Migrator {
    let migration = |&(name, sql): &(&'static str, &'static str)| {
        let (number, description) = name.split_once('_').expect("NUMBER_WHAT");
        Migration::new(
            number.parse().expect("a file begins with its number"),
            description.replace('_', " ").into(),
            MigrationType::Simple,
            SqlStr::from_static(sql),
            sql.starts_with("-- no-transaction"),
        )
    };
    Migrator::with_migrations(files.iter().map(migration).collect())
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a test stops where something is missing"
)]
mod tests {
    use std::path::Path;

    use super::*;

    type Facts<'a> = (i64, &'a str, MigrationType, &'a str, &'a [u8], bool);

    fn facts(migrator: &Migrator) -> Vec<Facts<'_>> {
        migrator
            .iter()
            .map(|one| {
                let (sql, checksum) = (one.sql.as_str(), &*one.checksum);
                let kind = one.migration_type;
                (
                    one.version,
                    &*one.description,
                    kind,
                    sql,
                    checksum,
                    one.no_tx,
                )
            })
            .collect()
    }

    #[tokio::test]
    async fn the_program_holds_the_migrations_that_are_in_the_folders() {
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
        for (folder, held) in [("sqlite", sqlite()), ("postgres", postgres())] {
            let read = Migrator::new(folders.join(folder)).await.unwrap();
            assert_eq!(facts(&held), facts(&read), "{folder}");
        }
    }
}
