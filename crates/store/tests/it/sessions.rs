//! Sessions.

use fanfare_store::{
    AuditFilter, NewSession, Rotation, SessionProof, SessionRecord, Store, StoreError,
};
use secrecy::SecretString;

use crate::harness::{Kind, by};

/// Unix time in milliseconds.
fn now() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

async fn signed_in(store: &Store, token: u8) -> SessionRecord {
    let hash = SecretString::from("x");
    let owner = match store.create_first_owner("ada", &hash, &by()).await {
        Ok(owner) => owner,
        Err(_) => store.operators(None, 1).await.unwrap().remove(0),
    };
    let new = NewSession {
        operator_id: owner.id,
        proof: SessionProof::RefreshToken([token; 32]),
        expires_at: now() + 60_000,
        address: Some("192.0.2.1".into()),
        agent: Some("Firefox".into()),
    };
    store.create_session(&new, &by()).await.unwrap()
}

#[tokio::test]
async fn a_refresh_token_is_good_for_one_use() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let session = signed_in(&store, 1).await;
        assert_eq!(store.session(&session.id).await.unwrap(), session);
        let (now, end) = (now() + 5, session.expires_at + 5);
        let rotated = store.rotate_session([1; 32], [2; 32], now, end).await;
        let Rotation::Rotated(rotated) = rotated.unwrap() else {
            panic!()
        };
        assert_eq!((rotated.last_used_at, rotated.expires_at), (now, end));
        assert_eq!(store.session(&session.id).await.unwrap(), rotated);
        let unknown = store.rotate_session([7; 32], [8; 32], now, end).await;
        assert_eq!(unknown.unwrap(), Rotation::Unknown);
    }
}

#[tokio::test]
async fn a_token_that_was_replaced_a_moment_ago_revokes_nothing() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let session = signed_in(&store, 1).await;
        let (now, end) = (now(), session.expires_at);
        store
            .rotate_session([1; 32], [2; 32], now, end)
            .await
            .unwrap();
        let raced = store
            .rotate_session([1; 32], [3; 32], now + 10_000, end)
            .await;
        assert_eq!(raced.unwrap(), Rotation::Raced);
        let next = store
            .rotate_session([2; 32], [4; 32], now + 10_000, end)
            .await;
        assert!(matches!(next.unwrap(), Rotation::Rotated(_)));
    }
}

#[tokio::test]
async fn a_token_that_turns_up_later_revokes_its_session_however_old_it_is() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let session = signed_in(&store, 1).await;
        let (now, end) = (now(), session.expires_at);
        for token in 1..4 {
            store
                .rotate_session([token; 32], [token + 1; 32], now, end)
                .await
                .unwrap();
        }
        let reused = store
            .rotate_session([1; 32], [9; 32], now + 10_001, end)
            .await;
        let Rotation::Reused(reused) = reused.unwrap() else {
            panic!()
        };
        assert!(reused.id == session.id && reused.revoked_at.is_some());
        for token in [1, 4] {
            let after = store
                .rotate_session([token; 32], [9; 32], now + 10_002, end)
                .await;
            assert_eq!(after.unwrap(), Rotation::Unknown);
        }
        let filter = AuditFilter {
            action: Some("session.reuse".into()),
            ..AuditFilter::default()
        };
        let entries = store.audit(&filter, 10).await.unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].target_id, session.id);
    }
}

#[tokio::test]
async fn one_of_many_that_present_the_same_token_at_once_gets_a_new_one() {
    for kind in Kind::all().await {
        let stores = [kind.store().await, kind.store().await];
        let session = signed_in(&stores[0], 1).await;
        let (now, end) = (now(), session.expires_at);
        let attempts = (0..6_u8).map(|number| {
            let store = stores[usize::from(number % 2)].clone();
            tokio::spawn(async move {
                store
                    .rotate_session([1; 32], [10 + number; 32], now, end)
                    .await
            })
        });
        let mut rotated = 0;
        for attempt in attempts.collect::<Vec<_>>() {
            match attempt.await.unwrap().unwrap() {
                Rotation::Rotated(_) => rotated += 1,
                other => assert_eq!(other, Rotation::Raced),
            }
        }
        assert_eq!(rotated, 1);
    }
}

#[tokio::test]
async fn an_expired_session_is_neither_refreshed_nor_listed() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let session = signed_in(&store, 1).await;
        let end = session.expires_at;
        let late = store.rotate_session([1; 32], [2; 32], end, end + 1).await;
        assert_eq!(late.unwrap(), Rotation::Unknown);
        store
            .rotate_session([1; 32], [2; 32], end - 60_000, 1)
            .await
            .unwrap();
        assert!(store.sessions(None).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn sessions_are_listed_and_revoked_one_by_one_or_all() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let one = signed_in(&store, 1).await;
        for token in 2..5 {
            signed_in(&store, token).await;
        }
        let listed = async || store.sessions(Some(&one.operator_id)).await.unwrap().len();
        assert_eq!(listed().await, 4);
        assert_eq!(store.sessions(None).await.unwrap().len(), 4);
        assert!(store.sessions(Some("op_none")).await.unwrap().is_empty());
        for _ in 0..2 {
            store.revoke_session(&one.id, &by()).await.unwrap();
        }
        assert_eq!(listed().await, 3);
        let refused = store
            .rotate_session([1; 32], [9; 32], now(), i64::MAX)
            .await;
        assert_eq!(refused.unwrap(), Rotation::Unknown);
        let revoke_all = async || {
            store
                .revoke_sessions(&one.operator_id, &by())
                .await
                .unwrap()
        };
        assert_eq!((revoke_all().await, revoke_all().await), (3, 0));
        assert_eq!(listed().await, 0);
        assert!(matches!(
            store.revoke_session("ses_none", &by()).await,
            Err(StoreError::NotFound(_))
        ));
        let entries = store.audit(&AuditFilter::default(), 20).await.unwrap();
        let actions: Vec<_> = entries.iter().map(|entry| &*entry.action).collect();
        assert_eq!(actions[..2], ["session.revoke_all", "session.revoke"]);
        assert_eq!(actions[2..6], ["session.create"; 4]);
    }
}

fn browser_of(operator_id: &str, cookie: u8) -> NewSession {
    NewSession {
        operator_id: operator_id.into(),
        proof: SessionProof::Cookie([cookie; 32]),
        expires_at: now() + 60_000,
        address: None,
        agent: None,
    }
}

#[tokio::test]
async fn a_cookie_finds_its_session_and_is_no_refresh_token() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let operator_id = signed_in(&store, 1).await.operator_id;
        let new = browser_of(&operator_id, 5);
        let session = store.create_session(&new, &by()).await.unwrap();
        let found = store.session_of_cookie([5; 32]).await.unwrap();
        assert_eq!(found, Some(session.clone()));
        // The hash of a refresh token is no cookie's, and the other way round.
        assert_eq!(store.session_of_cookie([1; 32]).await.unwrap(), None);
        let rotated = store
            .rotate_session([5; 32], [6; 32], now(), now() + 1)
            .await;
        assert_eq!(rotated.unwrap(), Rotation::Unknown);
        let (used, end) = (session.created_at + 7, session.expires_at + 7);
        store.extend_session(&session.id, used, end).await.unwrap();
        let found = store.session_of_cookie([5; 32]).await.unwrap().unwrap();
        assert_eq!((found.last_used_at, found.expires_at), (used, end));
        store.revoke_session(&session.id, &by()).await.unwrap();
        let ended = store.session_of_cookie([5; 32]).await.unwrap().unwrap();
        assert!(!ended.is_active(now()));
    }
}

#[tokio::test]
async fn a_link_signs_its_operator_in_once_and_in_time() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let operator_id = signed_in(&store, 1).await.operator_id;
        let end = now() + 60_000;
        let by = by();
        let link = store.create_sign_in_link(&operator_id, [3; 32], end, &by);
        link.await.unwrap();
        let operator = store.operator_of_sign_in_link([3; 32], end - 1).await;
        assert_eq!(operator.unwrap().unwrap().id, operator_id);
        for (hash, at) in [([3; 32], end), ([4; 32], end - 1)] {
            let none = store.operator_of_sign_in_link(hash, at).await.unwrap();
            assert_eq!(none, None, "it has expired, or there is none");
        }
        let new = browser_of(&operator_id, 8);
        let session = store.create_session_by_link([3; 32], &new, &by).await;
        let session = session.unwrap().unwrap();
        let found = store.session_of_cookie([8; 32]).await.unwrap();
        assert_eq!(found, Some(session));
        let again = browser_of(&operator_id, 9);
        let again = store.create_session_by_link([3; 32], &again, &by).await;
        assert_eq!(again.unwrap(), None);
        assert_eq!(store.session_of_cookie([9; 32]).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_new_password_makes_links_useless() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let operator_id = signed_in(&store, 1).await.operator_id;
        let end = now() + 60_000;
        let by = by();
        let link = store.create_sign_in_link(&operator_id, [3; 32], end, &by);
        link.await.unwrap();
        let hash = SecretString::from("y");
        store.set_password(&operator_id, &hash, &by).await.unwrap();
        let none = store.operator_of_sign_in_link([3; 32], now()).await;
        assert_eq!(none.unwrap(), None);
    }
}
