//! Operators.

use fanfare_store::{
    AuditFilter, NewOperator, NewSession, NewToken, Role, SessionProof, Store, StoreError,
};
use secrecy::{ExposeSecret, SecretString};

use crate::harness::{Kind, by};

fn operator(name: &str, role: Role) -> NewOperator {
    NewOperator {
        name: name.into(),
        role,
        apps: None,
        password_hash: SecretString::from(format!("$argon2id${name}")),
    }
}

async fn sign_in(store: &Store, operator_id: &str, token: u8) -> String {
    let session = NewSession {
        operator_id: operator_id.into(),
        proof: SessionProof::RefreshToken([token; 32]),
        expires_at: i64::MAX,
        address: None,
        agent: None,
    };
    store.create_session(&session, &by()).await.unwrap().id
}

#[tokio::test]
async fn an_operator_is_created_and_found_by_name_however_it_is_capitalized() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let mut new = operator("  Ada@Example.com ", Role::Admin);
        new.apps = Some(vec!["b".into(), "a".into(), "b".into()]);
        let ada = store.create_operator(&new, &by()).await.unwrap();
        assert_eq!((&*ada.name, ada.role), ("Ada@Example.com", Role::Admin));
        assert_eq!(ada.apps, Some(vec!["a".into(), "b".into()]));
        assert_eq!(store.operator(&ada.id).await.unwrap(), ada);
        let found = store.operator_for_sign_in("ada@EXAMPLE.com ").await;
        let (found, hash) = found.unwrap().unwrap();
        assert_eq!(found, ada);
        assert_eq!(hash.expose_secret(), new.password_hash.expose_secret());
        assert!(!format!("{new:?} {hash:?}").contains("argon2id"));
        assert!(store.operator_for_sign_in("bob").await.unwrap().is_none());
        let taken = store
            .create_operator(&operator("ADA@example.com", Role::Viewer), &by())
            .await;
        assert!(matches!(taken, Err(StoreError::Conflict(_))), "{taken:?}");
        for bad in ["", " ", "a\nb", &"x".repeat(201)] {
            let refused = store
                .create_operator(&operator(bad, Role::Viewer), &by())
                .await;
            assert!(matches!(refused, Err(StoreError::Invalid(_))), "{bad:?}");
        }
        let entries = store.audit(&AuditFilter::default(), 10).await.unwrap();
        assert_eq!(entries.len(), 1);
        assert!(!format!("{entries:?}").contains("argon2id"));
    }
}

#[tokio::test]
async fn only_one_of_many_becomes_the_first_owner() {
    for kind in Kind::all().await {
        let stores = [kind.store().await, kind.store().await];
        let hash = SecretString::from("$argon2id$x");
        let attempts = (0..8).map(|number| {
            let (store, hash) = (stores[number % 2].clone(), hash.clone());
            let name = format!("owner {number}");
            tokio::spawn(async move { store.create_first_owner(&name, &hash, &by()).await })
        });
        let mut owners = 0;
        for attempt in attempts.collect::<Vec<_>>() {
            match attempt.await.unwrap() {
                Ok(owner) => {
                    assert_eq!((owner.role, owner.apps), (Role::Owner, None));
                    owners += 1;
                }
                Err(StoreError::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((owners, stores[0].count_operators().await.unwrap()), (1, 1));
    }
}

#[tokio::test]
async fn operators_are_listed_in_pages() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        for name in ["a", "b", "c", "d", "e"] {
            store
                .create_operator(&operator(name, Role::Viewer), &by())
                .await
                .unwrap();
        }
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let page = store.operators(after, 2).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some((last.created_at, last.id.clone()));
            seen.extend(page.into_iter().map(|operator| operator.name));
        }
        seen.sort();
        assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    }
}

#[tokio::test]
async fn a_change_made_on_an_older_state_is_stale() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let mut ada = store
            .create_operator(&operator("ada", Role::Viewer), &by())
            .await
            .unwrap();
        let read = ada.revision;
        ada.role = Role::Admin;
        let changed = store
            .update_operator(&ada, Some(read), &by())
            .await
            .unwrap();
        assert!(changed.revision > read && changed.role == Role::Admin);
        assert_eq!(store.operator(&ada.id).await.unwrap(), changed);
        ada.role = Role::Viewer;
        let stale = store.update_operator(&ada, Some(read), &by()).await;
        assert!(matches!(stale, Err(StoreError::Stale(_))), "{stale:?}");
        store.update_operator(&ada, None, &by()).await.unwrap();
    }
}

#[tokio::test]
async fn the_last_owner_of_everything_stays() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let owner = store
            .create_first_owner("ada", &SecretString::from("x"), &by())
            .await
            .unwrap();
        let mut scoped = operator("bob", Role::Owner);
        scoped.apps = Some(vec!["1".into()]);
        store.create_operator(&scoped, &by()).await.unwrap();
        let refused = async || {
            let mut attempts = vec![store.delete_operator(&owner.id, &by()).await];
            for change in 0..3 {
                let mut changed = owner.clone();
                match change {
                    0 => changed.role = Role::Admin,
                    1 => changed.enabled = false,
                    _ => changed.apps = Some(vec!["1".into()]),
                }
                let attempt = store.update_operator(&changed, None, &by()).await;
                attempts.push(attempt.map(|_| ()));
            }
            attempts
        };
        for attempt in refused().await {
            let Err(StoreError::Conflict(text)) = attempt else {
                panic!("{attempt:?}")
            };
            assert!(text.contains("last enabled owner"), "{text}");
        }
        let mut renamed = owner.clone();
        renamed.name = "Ada".into();
        store.update_operator(&renamed, None, &by()).await.unwrap();
        store
            .create_operator(&operator("eve", Role::Owner), &by())
            .await
            .unwrap();
        store.delete_operator(&owner.id, &by()).await.unwrap();
        assert!(matches!(
            store.operator(&owner.id).await,
            Err(StoreError::NotFound(_))
        ));
    }
}

#[tokio::test]
async fn two_owners_who_delete_each_other_at_once_leave_one() {
    for kind in Kind::all().await {
        let stores = [kind.store().await, kind.store().await];
        let mut owners = Vec::new();
        for name in ["ada", "bob"] {
            let new = operator(name, Role::Owner);
            owners.push(stores[0].create_operator(&new, &by()).await.unwrap().id);
        }
        let attempts = owners.into_iter().zip(stores.clone());
        let attempts = attempts.map(|(id, store)| {
            tokio::spawn(async move { store.delete_operator(&id, &by()).await })
        });
        let mut deleted = 0;
        for attempt in attempts.collect::<Vec<_>>() {
            deleted += u32::from(attempt.await.unwrap().is_ok());
        }
        assert_eq!(deleted, 1);
    }
}

#[tokio::test]
async fn a_new_password_ends_all_sessions_and_leaves_tokens() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let ada = store
            .create_operator(&operator("ada", Role::Owner), &by())
            .await
            .unwrap();
        let session = sign_in(&store, &ada.id, 1).await;
        let token = token_of(&store, &ada.id).await;
        let hash = SecretString::from("$argon2id$new");
        store.set_password(&ada.id, &hash, &by()).await.unwrap();
        let (_, found) = store.operator_for_sign_in("ada").await.unwrap().unwrap();
        assert_eq!(found.expose_secret(), "$argon2id$new");
        assert!(store.session(&session).await.unwrap().revoked_at.is_some());
        assert!(store.token(&token).await.unwrap().is_active());
    }
}

#[tokio::test]
async fn whoever_is_disabled_or_deleted_loses_sessions_and_tokens() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        store
            .create_first_owner("root", &SecretString::from("x"), &by())
            .await
            .unwrap();
        for (number, name) in [(1, "disabled"), (2, "deleted")] {
            let mut one = store
                .create_operator(&operator(name, Role::Admin), &by())
                .await
                .unwrap();
            let session = sign_in(&store, &one.id, number).await;
            let token = token_of(&store, &one.id).await;
            if name == "deleted" {
                store.delete_operator(&one.id, &by()).await.unwrap();
            } else {
                one.enabled = false;
                store.update_operator(&one, None, &by()).await.unwrap();
            }
            assert!(store.session(&session).await.unwrap().revoked_at.is_some());
            assert!(!store.token(&token).await.unwrap().is_active());
            let again = NewSession {
                operator_id: one.id.clone(),
                proof: SessionProof::RefreshToken([9; 32]),
                expires_at: i64::MAX,
                address: None,
                agent: None,
            };
            assert!(store.create_session(&again, &by()).await.is_err());
        }
    }
}

async fn token_of(store: &Store, operator_id: &str) -> String {
    let new = NewToken {
        name: "deploy".into(),
        role: Role::Admin,
        apps: None,
        operator_id: Some(operator_id.into()),
        expires_at: None,
    };
    store.create_token(&new, &by()).await.unwrap().id
}
