use fanfare_outbox::{
    BatchLimits, Lease, OutboxError, PublishLimits, Reader, Rejection, batch_key, install,
};
use sqlx::{Executor, Row};

use crate::databases::{create, publish, refused, run};
use crate::{LIMITS, NOW, connect, drain, ids, next, reader};

#[tokio::test]
async fn events_come_after_the_commit_and_never_after_a_rollback() {
    let Some(database) = create().await else {
        return;
    };
    let mut reader = reader(&database.location(), "n1").await;
    let mut session = database.session().await;
    run(&mut session, "BEGIN").await;
    publish(&mut session, "kept").await;
    run(&mut session, "SAVEPOINT a").await;
    publish(&mut session, "taken-back").await;
    run(&mut session, "ROLLBACK TO a").await;
    publish(&mut session, "kept-too").await;
    assert_eq!(drain(&mut reader, 10).await, [""; 0]);
    run(&mut session, "COMMIT").await;
    assert_eq!(drain(&mut reader, 10).await, ["kept", "kept-too"]);
    run(&mut session, "BEGIN").await;
    publish(&mut session, "rolled-back").await;
    run(&mut session, "ROLLBACK").await;
    assert_eq!(drain(&mut reader, 10).await, [""; 0]);
    database.remove().await;
}

#[tokio::test]
async fn the_order_is_that_of_commits_and_not_of_rows_or_transactions() {
    let Some(database) = create().await else {
        return;
    };
    let mut reader = reader(&database.location(), "n1").await;
    let [mut first, mut second] = [database.session().await, database.session().await];
    run(&mut first, "BEGIN").await;
    publish(&mut first, "long-1").await;
    run(&mut second, "BEGIN").await;
    publish(&mut second, "short-1").await;
    publish(&mut first, "long-2").await;
    publish(&mut second, "short-2").await;
    run(&mut second, "COMMIT").await;
    publish(&mut second, "alone").await;
    run(&mut first, "COMMIT").await;
    let order = ["short-1", "short-2", "alone", "long-1", "long-2"];
    assert_eq!(drain(&mut reader, 2).await, order);
    database.remove().await;
}

#[tokio::test]
async fn a_transaction_that_stays_open_holds_nothing_back() {
    let Some(database) = create().await else {
        return;
    };
    let mut reader = reader(&database.location(), "n1").await;
    let [mut open, mut other] = [database.session().await, database.session().await];
    run(&mut open, "BEGIN").await;
    publish(&mut open, "open").await;
    for n in 0..5 {
        publish(&mut other, &format!("other-{n}")).await;
    }
    assert_eq!(drain(&mut reader, 10).await.len(), 5);
    run(&mut open, "COMMIT").await;
    assert_eq!(drain(&mut reader, 10).await, ["open"]);
    database.remove().await;
}

#[tokio::test]
async fn what_was_taken_and_not_delivered_comes_again_in_the_same_batch_for_the_next_node() {
    let Some(database) = create().await else {
        return;
    };
    let mut first = reader(&database.location(), "n1").await;
    let mut session = database.session().await;
    for name in ["a", "b"] {
        publish(&mut session, name).await;
    }
    let taken = next(&mut first).await;
    publish(&mut session, "c").await;
    let mut second = connect(&database.location(), "n2").await;
    assert!(matches!(second.lease().await.unwrap(), Lease::Other { node, .. } if node == "n1"));
    assert!(matches!(
        second.next(LIMITS, NOW).await,
        Err(OutboxError::LeaseLost)
    ));
    // The first one dies: five seconds later nobody holds the lease.
    run(
        &mut session,
        "UPDATE fanfare.reader SET seen_at = seen_at - interval '5 seconds'",
    )
    .await;
    let mut second = reader(&database.location(), "n2").await;
    let again = next(&mut second).await;
    assert_eq!(ids(&again), ids(&taken));
    let key = |ids: &[String]| batch_key(ids.iter().map(String::as_str));
    assert_eq!(key(&ids(&again)), key(&ids(&taken)));
    second.delivered(ids(&again));
    assert_eq!(drain(&mut second, 10).await, ["c"]);
    publish(&mut session, "d").await;
    assert!(matches!(
        first.next(LIMITS, NOW).await,
        Err(OutboxError::LeaseLost)
    ));
    database.remove().await;
}

#[tokio::test]
async fn a_node_that_leaves_is_followed_at_once_and_leaves_nothing_that_it_delivered() {
    let Some(database) = create().await else {
        return;
    };
    let mut first = reader(&database.location(), "n1").await;
    let mut session = database.session().await;
    publish(&mut session, "a").await;
    let taken = next(&mut first).await;
    first.delivered(ids(&taken));
    first.release().await.unwrap();
    let mut second = reader(&database.location(), "n2").await;
    assert_eq!(drain(&mut second, 10).await, [""; 0]);
    database.remove().await;
}

#[tokio::test]
async fn batches_keep_their_limits_and_a_larger_event_is_one_of_its_own() {
    let Some(database) = create().await else {
        return;
    };
    let mut reader = reader(&database.location(), "n1").await;
    let mut session = database.session().await;
    run(
        &mut session,
        "SELECT fanfare.publish(array['a','b','c'], 'three', '1')",
    )
    .await;
    for _ in 0..3 {
        run(&mut session, "SELECT fanfare.publish('a', 'one', '1')").await;
    }
    let limits = BatchLimits {
        channels: 2,
        ..LIMITS
    };
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let batch = reader.next(limits, NOW).await.unwrap();
        sizes.push(batch.len());
        reader.delivered(ids(&batch));
    }
    assert_eq!(sizes, [1, 2, 1]);
    database.remove().await;
}

#[tokio::test]
async fn an_event_has_what_was_published() {
    let Some(database) = create().await else {
        return;
    };
    let mut reader = reader(&database.location(), "n1").await;
    let mut session = database.session().await;
    let statement = r#"SELECT fanfare.publish(channels => array['a,b','#server-to-user-7'], event => 'it''s "{1}" \ ü',
        data => '{"a": "{\"b\"}\\ \u00fc"}', socket_id => '1.2')"#;
    run(&mut session, "SET standard_conforming_strings = on").await;
    run(&mut session, statement).await;
    let event = next(&mut reader).await.remove(0);
    assert_eq!(event.channels, ["a,b", "#server-to-user-7"]);
    assert_eq!(event.name, r#"it's "{1}" \ ü"#);
    assert_eq!(event.data, r#"{"a": "{\"b\"}\\ ü"}"#);
    assert_eq!(event.socket_id.as_deref(), Some("1.2"));
    database.remove().await;
}

#[tokio::test]
async fn a_mistake_is_an_error_of_the_transaction_that_makes_it() {
    let Some(database) = create().await else {
        return;
    };
    let mut reader = reader(&database.location(), "n1").await;
    let mut session = database.session().await;
    let limits = PublishLimits {
        event_data: 20,
        event_name: 5,
        channel_name: 4,
        channels: 2,
    };
    reader.set_limits(limits).await.unwrap();
    for (arguments, expected) in [
        (
            "'a b', 'e', '1'",
            r#""a b" cannot be the name of a channel"#,
        ),
        (
            "'abcde', 'e', '1'",
            r#""abcde" cannot be the name of a channel"#,
        ),
        (
            "'#a', 'e', '1'",
            r##""#a" cannot be the name of a channel"##,
        ),
        (
            "null::text, 'e', '1'",
            r#""NULL" cannot be the name of a channel"#,
        ),
        (
            "array['a','b','c'], 'e', '1'",
            "there must be 1 to 2 channels, there are 3",
        ),
        (
            "array[]::text[], 'e', '1'",
            "there must be 1 to 2 channels, there are 0",
        ),
        (
            "'a', 'eeeeee', '1'",
            "the event must have a name of 1 to 5 bytes",
        ),
        (
            "'a', null, '1'",
            "the event must have a name of 1 to 5 bytes",
        ),
        ("'a', 'e', null", "the data must not be NULL"),
        (
            "'a', 'e', '\"1234567890123456789\"'",
            "the data have 21 bytes, at most 20 are allowed",
        ),
        ("'a', 'e', '1', 'x'", r#""x" is not a socket id"#),
        (
            "'a', 'e', '1', '1.1', ''",
            "the idempotency key must have 1 to 255 bytes",
        ),
    ] {
        let message = refused(
            &mut session,
            &format!("SELECT fanfare.publish({arguments})"),
        )
        .await;
        assert_eq!(
            message,
            format!("fanfare.publish: {expected}"),
            "{arguments}"
        );
    }
    run(&mut session, "SELECT fanfare.publish('a', 'e', '1', '')").await;
    assert_eq!(drain(&mut reader, 10).await, ["e"]);
    database.remove().await;
}

#[tokio::test]
async fn a_key_counts_once_whether_or_not_its_event_was_delivered() {
    let Some(database) = create().await else {
        return;
    };
    let mut reader = reader(&database.location(), "n1").await;
    let mut session = database.session().await;
    let publish = "SELECT fanfare.publish('a', 'e', '1', idempotency_key => 'order-7')::text";
    let id = |row: sqlx::postgres::PgRow| row.get::<String, _>(0);
    run(&mut session, "BEGIN").await;
    run(&mut session, publish).await;
    run(&mut session, "ROLLBACK").await;
    let first = id(session.fetch_one(publish).await.unwrap());
    assert_eq!(id(session.fetch_one(publish).await.unwrap()), first);
    assert_eq!(drain(&mut reader, 10).await, ["e"]);
    assert_eq!(id(session.fetch_one(publish).await.unwrap()), first);
    assert_eq!(drain(&mut reader, 10).await, [""; 0]);
    let later = "UPDATE fanfare.idempotency_keys SET created_at = created_at - interval '1 day'";
    run(&mut session, later).await;
    reader.tidy().await.unwrap();
    assert_ne!(id(session.fetch_one(publish).await.unwrap()), first);
    database.remove().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_delivered_is_set_aside_with_the_reason() {
    let Some(database) = create().await else {
        return;
    };
    let mut reader = reader(&database.location(), "n1").await;
    let mut session = database.session().await;
    publish(&mut session, "bad").await;
    publish(&mut session, "good").await;
    let taken = next(&mut reader).await;
    let reason = "it isn't 'possible' \\".to_owned();
    let rejection = Rejection {
        id: taken[0].id.clone(),
        reason: reason.clone(),
    };
    reader.reject(&[rejection]).await.unwrap();
    assert_eq!(ids(&next(&mut reader).await), [taken[1].id.clone()]);
    let row = session
        .fetch_one("SELECT event, reason FROM fanfare.rejected")
        .await
        .unwrap();
    assert_eq!(
        (row.get::<String, _>(0), row.get::<String, _>(1)),
        ("bad".into(), reason)
    );
    database.remove().await;
}

#[tokio::test]
async fn rows_of_another_server_are_delivered_before_and_after_a_look() {
    let Some(database) = create().await else {
        return;
    };
    let mut reader = reader(&database.location(), "n1").await;
    let mut session = database.session().await;
    for n in 0..3 {
        publish(&mut session, &format!("before-{n}")).await;
    }
    assert_eq!(drain(&mut reader, 10).await.len(), 3);
    // As replication applies them: no trigger runs, and the numbers are those of the other server.
    run(&mut session, "SET session_replication_role = replica").await;
    for (position, name) in [(9_000_000, "far-ahead"), (0, "not-numbered"), (1, "behind")] {
        let insert = format!(
            "INSERT INTO fanfare.outbox (commit_position, ordinal, channels, event, data) \
             VALUES ({position}, 1, '{{news}}', '{name}', '1')"
        );
        run(&mut session, &insert).await;
    }
    run(&mut session, "SET session_replication_role = origin").await;
    publish(&mut session, "own").await;
    let mut names = Vec::new();
    while names.len() < 4 {
        let events = next(&mut reader).await;
        assert!(!events.is_empty(), "only {names:?} came");
        reader.delivered(ids(&events));
        names.extend(events.into_iter().map(|event| event.name));
    }
    names.sort();
    assert_eq!(names, ["behind", "far-ahead", "not-numbered", "own"]);
    database.remove().await;
}

#[tokio::test]
async fn only_those_who_were_told_may_publish_and_nobody_else_reads() {
    let Some(database) = create().await else {
        return;
    };
    let role = format!("shop_{:016x}", rand::random::<u64>());
    let mut session = database.session().await;
    run(
        &mut session,
        &format!("CREATE ROLE {role}; GRANT USAGE ON SCHEMA fanfare TO {role}; SET ROLE {role}"),
    )
    .await;
    let publish = "SELECT fanfare.publish('a', 'e', '1')";
    assert!(
        refused(&mut session, publish)
            .await
            .contains("permission denied")
    );
    run(&mut session, "RESET ROLE").await;
    install(&database.url.as_str().into(), std::slice::from_ref(&role))
        .await
        .unwrap();
    run(&mut session, &format!("SET ROLE {role}")).await;
    run(&mut session, publish).await;
    for statement in [
        "TABLE fanfare.outbox",
        "DELETE FROM fanfare.outbox",
        "SELECT fanfare.take('', '{}', 0, 1, 1, 1)",
        "SELECT fanfare.lease('', '')",
        "UPDATE fanfare.limits SET event_data = 1",
    ] {
        assert!(
            refused(&mut session, statement)
                .await
                .contains("permission denied"),
            "{statement}"
        );
    }
    run(
        &mut session,
        &format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"),
    )
    .await;
    database.remove().await;
}

#[tokio::test]
async fn a_trigger_of_a_table_with_row_level_security_publishes() {
    let Some(database) = create().await else {
        return;
    };
    let role = format!("shop_{:016x}", rand::random::<u64>());
    let mut reader = reader(&database.location(), "n1").await;
    let mut session = database.session().await;
    run(&mut session, &format!("CREATE ROLE {role}")).await;
    install(&database.url.as_str().into(), std::slice::from_ref(&role))
        .await
        .unwrap();
    run(&mut session, &format!(
        "CREATE SCHEMA shop; CREATE TABLE shop.orders (id int, buyer text); GRANT USAGE ON SCHEMA shop TO {role};
         GRANT ALL ON shop.orders TO {role}; ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON shop.orders USING (buyer = current_user);
         CREATE FUNCTION shop.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM fanfare.publish('private-orders', 'created', to_jsonb(NEW));
             RETURN NULL;
         END $$;
         CREATE TRIGGER tell AFTER INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.tell();
         SET ROLE {role}; INSERT INTO shop.orders VALUES (1, current_user); RESET ROLE"
    )).await;
    let event = next(&mut reader).await.remove(0);
    assert_eq!(event.data, format!(r#"{{"id": 1, "buyer": "{role}"}}"#));
    run(
        &mut session,
        &format!("DROP OWNED BY {role}; DROP ROLE {role}"),
    )
    .await;
    database.remove().await;
}

#[tokio::test]
async fn what_waits_is_counted_with_the_age_of_the_first() {
    let Some(database) = create().await else {
        return;
    };
    let mut reader = reader(&database.location(), "n1").await;
    assert_eq!(reader.backlog().await.unwrap().oldest_age, None);
    let mut session = database.session().await;
    publish(&mut session, "a").await;
    run(
        &mut session,
        "UPDATE fanfare.outbox SET created_at = created_at - interval '1 hour'",
    )
    .await;
    publish(&mut session, "b").await;
    let backlog = reader.backlog().await.unwrap();
    assert_eq!((backlog.waiting, backlog.is_exact), (2, true));
    assert_eq!(backlog.oldest_age.unwrap().as_secs() / 60, 60);
    database.remove().await;
}

#[tokio::test]
async fn a_schema_that_was_copied_without_its_rows_works() {
    let Some(database) = create().await else {
        return;
    };
    let mut session = database.session().await;
    run(
        &mut session,
        "DELETE FROM fanfare.reader; DELETE FROM fanfare.limits",
    )
    .await;
    publish(&mut session, "a").await;
    let mut reader = reader(&database.location(), "n1").await;
    assert_eq!(drain(&mut reader, 10).await, ["a"]);
    let limits = PublishLimits {
        event_data: 1,
        event_name: 5,
        channel_name: 4,
        channels: 2,
    };
    reader.set_limits(limits).await.unwrap();
    let message = refused(&mut session, "SELECT fanfare.publish('a', 'e', '12')").await;
    assert!(message.contains("at most 1 are allowed"), "{message}");
    database.remove().await;
}

#[tokio::test]
async fn an_outbox_of_an_earlier_version_is_brought_up_to_date() {
    let Some(database) = create().await else {
        return;
    };
    let mut session = database.session().await;
    publish(&mut session, "a").await;
    let take = "FUNCTION fanfare.take(by_holder text, delivered uuid[], from_position bigint, max_events integer,
        max_channels integer, max_bytes integer)";
    run(
        &mut session,
        &format!(
            "DROP {take}; CREATE {take} RETURNS TABLE (age_ms bigint) LANGUAGE sql AS 'SELECT 1'"
        ),
    )
    .await;
    install(&database.url.as_str().into(), &[]).await.unwrap();
    let mut reader = reader(&database.location(), "n1").await;
    assert_eq!(drain(&mut reader, 10).await, ["a"]);
    database.remove().await;
}

#[tokio::test]
async fn a_database_without_an_outbox_says_how_to_install_one() {
    let Some(database) = create().await else {
        return;
    };
    run(&mut database.session().await, "DROP SCHEMA fanfare CASCADE").await;
    let identity = fanfare_outbox::Identity {
        app: "1".into(),
        node: "n".into(),
    };
    let refused = Reader::connect(&database.location(), identity, NOW)
        .await
        .unwrap_err();
    assert!(matches!(refused, OutboxError::NotInstalled(_)), "{refused}");
    assert!(
        refused.to_string().contains("fanfare outbox install"),
        "{refused}"
    );
    database.remove().await;
}

#[tokio::test]
async fn one_database_is_read_for_one_app() {
    let Some(database) = create().await else {
        return;
    };
    let _first = reader(&database.location(), "n1").await;
    let identity = fanfare_outbox::Identity {
        app: "2".into(),
        node: "n1-of-2".into(),
    };
    let mut other = Reader::connect(&database.location(), identity, NOW)
        .await
        .unwrap();
    assert!(matches!(other.lease().await.unwrap(), Lease::Other { app, .. } if app == "1"));
    database.remove().await;
}
