//! API tokens.

use fanfare_store::{Actor, NewToken, Role, StoreError, TokenRecord};

use crate::harness::{Kind, by};

fn token(name: &str) -> NewToken {
    NewToken {
        name: name.into(),
        role: Role::Admin,
        apps: Some(vec!["1".into()]),
        operator_id: None,
        expires_at: None,
    }
}

#[tokio::test]
async fn a_token_is_created_used_and_revoked_for_good() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let made = store.create_token(&token(" deploy "), &by()).await.unwrap();
        assert_eq!((&*made.name, made.role), ("deploy", Role::Admin));
        assert!(made.is_active());
        assert_eq!(store.token(&made.id).await.unwrap(), made);
        let revision = store.changes_since(0).await.unwrap().revision;
        for (at, kept) in [(5, 5), (3, 5), (9, 9)] {
            store.touch_token(&made.id, at).await.unwrap();
            assert_eq!(
                store.token(&made.id).await.unwrap().last_used_at,
                Some(kept)
            );
        }
        assert_eq!(store.changes_since(0).await.unwrap().revision, revision);
        store.revoke_token(&made.id, &by()).await.unwrap();
        assert!(!store.token(&made.id).await.unwrap().is_active());
        let again = store.revoke_token(&made.id, &by()).await;
        assert!(matches!(again, Err(StoreError::Conflict(_))));
        let none = store.revoke_token("tok_none", &by()).await;
        assert!(matches!(none, Err(StoreError::NotFound(_))));
    }
}

#[tokio::test]
async fn a_token_expires_at_its_time() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        for (expires_at, active) in [(1, false), (i64::MAX, true)] {
            let new = NewToken {
                expires_at: Some(expires_at),
                ..token("x")
            };
            let made = store.create_token(&new, &by()).await.unwrap();
            assert_eq!(made.is_active(), active);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_a_token_is_refused() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let refused = store.create_token(&token(""), &by()).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))));
        let new = NewToken {
            apps: Some(vec!["a:b".into()]),
            ..token("x")
        };
        let refused = store.create_token(&new, &by()).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))));
        let new = NewToken {
            operator_id: Some("op_none".into()),
            ..token("x")
        };
        let refused = store.create_token(&new, &by()).await;
        assert!(matches!(refused, Err(StoreError::NotFound(_))));
        assert!(store.tokens(None, 10).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn tokens_are_listed_in_pages() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        for name in ["a", "b", "c"] {
            store.create_token(&token(name), &by()).await.unwrap();
        }
        let first = store.tokens(None, 2).await.unwrap();
        let after = first.last().map(|last| (last.created_at, last.id.clone()));
        let second = store.tokens(after, 2).await.unwrap();
        assert_eq!((first.len(), second.len()), (2, 1));
        assert!(!first.contains(&second[0]));
    }
}

#[tokio::test]
async fn a_token_that_a_token_made_ends_with_it() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let later = i64::MAX / 4;
        let until = |name: &str, expires_at| NewToken {
            expires_at: Some(expires_at),
            ..token(name)
        };
        let parent = store.create_token(&until("parent", later), &by()).await;
        let parent = parent.expect("create");
        let of = |token: &TokenRecord| Actor::token(token, None);
        let child = store
            .create_token(&until("child", later * 2), &of(&parent))
            .await;
        let child = child.expect("create");
        assert_eq!(child.expires_at, parent.expires_at);
        let grandchild = store
            .create_token(&until("grandchild", later - 1), &of(&child))
            .await;
        let grandchild = grandchild.expect("create");
        assert_eq!(grandchild.expires_at, Some(later - 1));
        let other = store
            .create_token(&token("other"), &by())
            .await
            .expect("create");
        store.revoke_token(&parent.id, &by()).await.expect("revoke");
        for (id, active) in [
            (&parent.id, false),
            (&child.id, false),
            (&grandchild.id, false),
            (&other.id, true),
        ] {
            assert_eq!(store.token(id).await.expect("a token").is_active(), active);
        }
        let late = store.create_token(&token("late"), &of(&child)).await;
        assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    }
}
