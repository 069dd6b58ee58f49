//! What an operator is told about a database, without a change in it.

use fanfare_store::Examination;

use crate::harness::Kind;

#[tokio::test]
async fn an_empty_database_is_examined_and_stays_empty() {
    for kind in Kind::all().await {
        if matches!(kind, Kind::Sqlite(_)) {
            continue;
        }
        for _ in 0..2 {
            let examination = Examination::of_url(&kind.url()).await.unwrap();
            assert!(!examination.has_installation);
            assert!(examination.missing_migrations > 0);
        }
    }
}

#[tokio::test]
async fn an_installation_is_up_to_date_and_its_clock_is_that_of_this_machine() {
    for kind in Kind::all().await {
        kind.store().await;
        let examination = Examination::of_url(&kind.url()).await.unwrap();
        assert!(examination.has_installation);
        assert_eq!(
            (
                examination.missing_migrations,
                examination.newer_migrations,
                examination.damage
            ),
            (0, 0, None)
        );
        let Some(server) = examination.server else {
            assert!(matches!(kind, Kind::Sqlite(_)));
            continue;
        };
        assert!(examination.software.starts_with("PostgreSQL "));
        assert!(server.clock_ahead.abs() < 1000, "{server:?}");
        assert!(server.connections >= 1 && server.connections <= server.max_connections);
        assert!(!server.is_read_only);
    }
}

#[tokio::test]
async fn a_newer_version_is_told_from_an_older_one() {
    for kind in Kind::all().await {
        kind.store().await;
        kind.execute("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 2")
            .await;
        let examination = Examination::of_url(&kind.url()).await.unwrap();
        assert_eq!(
            (examination.missing_migrations, examination.newer_migrations),
            (1, 1)
        );
    }
}

#[tokio::test]
async fn a_database_that_refuses_changes_is_told() {
    for kind in Kind::all().await {
        let Kind::Postgres(url) = &kind else { continue };
        kind.store().await;
        let (_, name) = url.rsplit_once('/').unwrap();
        kind.execute(&format!(
            "ALTER DATABASE {name} SET default_transaction_read_only = on"
        ))
        .await;
        let examination = Examination::of_url(url).await.unwrap();
        assert!(examination.server.unwrap().is_read_only);
    }
}
