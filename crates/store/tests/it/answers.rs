//! Answers to requests that come twice.

use fanfare_store::Reservation;
use secrecy::{ExposeSecret, SecretString};

use crate::harness::Kind;

const DAY: i64 = 24 * 60 * 60 * 1000;

#[tokio::test]
async fn a_request_that_comes_twice_gets_the_answer_of_the_first() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let reserve = async |key: &str, hash: &[u8]| store.reserve_answer("op", key, hash).await;
        let first = reserve("k", b"body").await.unwrap();
        assert!(matches!(first, Reservation::Reserved));
        let second = reserve("k", b"body").await.unwrap();
        assert!(matches!(second, Reservation::Pending));
        let body = SecretString::from(r#"{"secret":"very-secret"}"#);
        store.save_answer("op", "k", 201, &body).await.unwrap();
        let again = reserve("k", b"body").await.unwrap();
        assert!(!format!("{again:?}").contains("very-secret"));
        let Reservation::Answered { status, body: kept } = again else {
            panic!()
        };
        assert_eq!((status, kept.expose_secret()), (201, body.expose_secret()));
        let other = reserve("k", b"other body").await.unwrap();
        assert!(matches!(other, Reservation::DifferentBody));
        let elsewhere = store.reserve_answer("other", "k", b"other body").await;
        assert!(matches!(elsewhere.unwrap(), Reservation::Reserved));
    }
}

#[tokio::test]
async fn a_request_that_was_released_may_be_made_again_and_an_answer_stays() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        for _ in 0..2 {
            let reserved = store.reserve_answer("op", "k", b"x").await.unwrap();
            assert!(matches!(reserved, Reservation::Reserved));
            store.release_answer("op", "k").await.unwrap();
        }
        store.reserve_answer("op", "k", b"x").await.unwrap();
        let body = SecretString::from("{}");
        store.save_answer("op", "k", 200, &body).await.unwrap();
        store.release_answer("op", "k").await.unwrap();
        let kept = store.reserve_answer("op", "k", b"x").await.unwrap();
        assert!(matches!(kept, Reservation::Answered { .. }));
    }
}

#[tokio::test]
async fn one_of_many_at_once_takes_a_request_up() {
    for kind in Kind::all().await {
        let stores = [kind.store().await, kind.store().await];
        let asking = (0..8).map(|number| {
            let store = stores[number % 2].clone();
            tokio::spawn(async move { store.reserve_answer("op", "k", b"x").await })
        });
        let mut reserved = 0;
        for asked in asking.collect::<Vec<_>>() {
            match asked.await.unwrap().unwrap() {
                Reservation::Reserved => reserved += 1,
                other => assert!(matches!(other, Reservation::Pending)),
            }
        }
        assert_eq!(reserved, 1);
    }
}

#[tokio::test]
async fn an_answer_is_forgotten_after_a_day_and_a_request_nobody_answers_after_a_minute() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let body = SecretString::from("{}");
        store.reserve_answer("op", "k", b"x").await.unwrap();
        kind.execute("UPDATE answers SET created_at = created_at - 59000")
            .await;
        let pending = store.reserve_answer("op", "k", b"x").await.unwrap();
        assert!(matches!(pending, Reservation::Pending));
        kind.execute("UPDATE answers SET created_at = created_at - 2000")
            .await;
        let free = store.reserve_answer("op", "k", b"y").await.unwrap();
        assert!(matches!(free, Reservation::Reserved));
        store.save_answer("op", "k", 200, &body).await.unwrap();
        for (age, answered) in [(DAY - 60_000, true), (61_000, false)] {
            kind.execute(&format!(
                "UPDATE answers SET created_at = created_at - {age}"
            ))
            .await;
            let again = store.reserve_answer("op", "k", b"y").await.unwrap();
            assert_eq!(
                matches!(again, Reservation::Answered { .. }),
                answered,
                "{again:?}"
            );
        }
    }
}
