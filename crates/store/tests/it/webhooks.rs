//! Webhooks of an app.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fanfare_store::{
    AuditFilter, MasterKey, NewWebhook, Store, StoreError, WebhookChange, WebhookFormat,
    WebhookHeader, WebhookRecord, WebhookState, webhook_secret_bytes,
};
use secrecy::ExposeSecret;

use crate::harness::{Kind, app, by};

/// Far from now, Unix time in milliseconds.
const FAR: i64 = 9_000_000_000_000;

fn webhook(name: &str) -> NewWebhook {
    NewWebhook {
        name: name.into(),
        url: Some("https://example.com/hook".into()),
        ..NewWebhook::default()
    }
}

fn header(name: &str, value: &str) -> WebhookHeader {
    WebhookHeader {
        name: name.into(),
        value: value.to_owned().into(),
    }
}

async fn create(store: &Store, app_id: &str, new: NewWebhook) -> WebhookRecord {
    store.create_webhook(app_id, new, 10, &by()).await.unwrap()
}

/// The webhooks that a node which knows nothing yet is told of.
async fn told(store: &Store) -> Vec<WebhookRecord> {
    let changes = store.changes_since(0).await.unwrap();
    changes
        .apps
        .into_iter()
        .flat_map(|app| app.webhooks)
        .collect()
}

fn secrets(webhook: &WebhookRecord) -> Vec<&str> {
    let secrets = webhook.secrets.iter();
    secrets.map(|one| one.secret.expose_secret()).collect()
}

#[tokio::test]
async fn a_webhook_reads_as_it_was_written_and_reaches_running_nodes() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let known = store.changes_since(0).await.unwrap().revision;
        let new = NewWebhook {
            events: Some(vec!["member_added".into(), "cache_miss".into()]),
            channels: vec!["presence-*".into()],
            is_batched: true,
            headers: vec![header("Authorization", "Bearer hunter2")],
            ..webhook(" orders ")
        };
        let made = create(&store, &one.id, new).await;
        assert!(made.id.starts_with("wh_"), "{}", made.id);
        assert_eq!(made.name, "orders");
        let read = store.webhook(&one.id, &made.id).await.unwrap();
        let listed = store.webhooks(&one.id).await.unwrap().remove(0);
        let changes = store.changes_since(known).await.unwrap();
        for found in [&read, &listed, &changes.apps[0].webhooks[0]] {
            assert_eq!(found.url.as_deref(), Some("https://example.com/hook"));
            let events = ["cache_miss".to_owned(), "member_added".to_owned()];
            assert_eq!(found.events.as_deref(), Some(&events[..]));
            assert_eq!(found.channels, ["presence-*"]);
            assert_eq!(found.format, WebhookFormat::Pusher);
            assert!(found.is_batched && found.state == WebhookState::Active);
            assert_eq!(found.headers[0].name, "Authorization");
            let value = found.headers[0].value.expose_secret();
            assert_eq!(value, "Bearer hunter2");
            assert_eq!(secrets(found), secrets(&made));
            let debug = format!("{found:?}");
            assert!(
                !debug.contains("hunter2") && !debug.contains("whsec_"),
                "{debug}"
            );
        }
        let audit = store.audit(&AuditFilter::default(), 1).await.unwrap();
        let text = serde_json::to_string(&audit).unwrap();
        assert!(
            text.contains("webhook.create") && text.contains("Authorization"),
            "{text}"
        );
        assert!(
            !text.contains("hunter2") && !text.contains("whsec_"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_change_is_written_once_with_what_changed_and_nothing_of_a_secret() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let made = create(&store, &one.id, webhook("a")).await;
        let update = async |change, revision| {
            store
                .update_webhook(&one.id, &made.id, change, revision, &by())
                .await
        };
        let revision = store.changes_since(0).await.unwrap().revision;
        let same = WebhookChange {
            name: Some("a".into()),
            headers: Some(Vec::new()),
            ..WebhookChange::default()
        };
        update(same, None).await.unwrap();
        assert_eq!(store.changes_since(0).await.unwrap().revision, revision);
        let change = WebhookChange {
            url: Some(None),
            events: Some(Some(vec!["client_event".into()])),
            headers: Some(vec![header("X-Token", "hunter2")]),
            ..WebhookChange::default()
        };
        let after = update(change.clone(), Some(revision)).await.unwrap();
        assert!(after.url.is_none() && after.headers.len() == 1);
        let stale = update(WebhookChange::default(), Some(revision)).await;
        assert!(matches!(stale, Err(StoreError::Stale(_))), "{stale:?}");
        // Only the value of a header differs.
        let again = WebhookChange {
            headers: Some(vec![header("X-Token", "hunter3")]),
            ..WebhookChange::default()
        };
        update(again, None).await.unwrap();
        let found = store.webhook(&one.id, &made.id).await.unwrap();
        assert_eq!(found.headers[0].value.expose_secret(), "hunter3");
        let audit = store.audit(&AuditFilter::default(), 2).await.unwrap();
        assert!(audit.iter().all(|entry| entry.action == "webhook.update"));
        let names = serde_json::json!({"before": ["X-Token"], "after": ["X-Token"]});
        assert_eq!(audit[0].details, serde_json::json!({"headers": names}));
        assert_eq!(audit[1].details["url"]["after"], serde_json::Value::Null);
        assert!(!serde_json::to_string(&audit).unwrap().contains("hunter"));
    }
}

#[tokio::test]
async fn what_is_not_possible_is_refused_with_its_rule() {
    let kind = Kind::Sqlite(tempfile::tempdir().unwrap());
    let store = kind.store().await;
    let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
    let refused = async |new: NewWebhook, word: &str| {
        let refused = store.create_webhook(&one.id, new, 10, &by()).await;
        let Err(StoreError::Invalid(text)) = refused else {
            panic!("{word}: {refused:?}")
        };
        assert!(text.contains(word), "{text}");
    };
    refused(webhook(""), "name").await;
    let url = Some("x".repeat(2_049));
    refused(
        NewWebhook {
            url,
            ..webhook("a")
        },
        "2048",
    )
    .await;
    let events = Some(vec!["channel_full".to_owned()]);
    let unknown = NewWebhook {
        events,
        ..webhook("a")
    };
    refused(unknown, "channel_full").await;
    let events = Some(Vec::new());
    refused(
        NewWebhook {
            events,
            ..webhook("a")
        },
        "at least one",
    )
    .await;
    let channels = vec!["x".to_owned(); 101];
    refused(
        NewWebhook {
            channels,
            ..webhook("a")
        },
        "100",
    )
    .await;
    let headers = vec![header("X", "a\r\nY: b")];
    refused(
        NewWebhook {
            headers,
            ..webhook("a")
        },
        "printable",
    )
    .await;
    for secret in ["hunter2", "whsec_", "whsec_c2hvcnQ="] {
        let secret = Some(secret.to_owned().into());
        refused(
            NewWebhook {
                secret,
                ..webhook("a")
            },
            "24 to 64",
        )
        .await;
    }
    let standard = NewWebhook {
        format: WebhookFormat::Standard,
        is_batched: true,
        ..webhook("a")
    };
    refused(standard, "batching").await;
    assert!(store.webhooks(&one.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_app_has_at_most_as_many_webhooks_as_it_may_have_however_many_are_made_at_once() {
    for kind in Kind::all().await {
        let stores = [kind.store().await, kind.store().await];
        let (one, _) = stores[0].create_app(app("one"), &by()).await.unwrap();
        let making = (0..6).map(|number: usize| {
            let (store, id) = (stores[number % 2].clone(), one.id.clone());
            tokio::spawn(async move { store.create_webhook(&id, webhook("a"), 3, &by()).await })
        });
        let mut made = 0;
        for making in making.collect::<Vec<_>>() {
            match making.await.unwrap() {
                Ok(_) => made += 1,
                Err(StoreError::Conflict(text)) => assert!(text.contains("may have 3"), "{text}"),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(made, 3);
        assert_eq!(stores[0].webhooks(&one.id).await.unwrap().len(), 3);
    }
}

#[test]
fn a_secret_is_base64_of_24_to_64_bytes() {
    let secret = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
    for bytes in [24, 64] {
        let key = webhook_secret_bytes(&secret(bytes));
        assert_eq!(key.map(|key| key.len()), Some(bytes));
    }
    for wrong in [
        secret(23),
        secret(65),
        "whsec_".into(),
        "abc".into(),
        "whsec_%".into(),
    ] {
        assert_eq!(webhook_secret_bytes(&wrong), None, "{wrong}");
    }
}

#[tokio::test]
async fn secrets_overlap_until_the_old_ones_expire() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let made = create(&store, &one.id, webhook("a")).await;
        let old = secrets(&made)[0].to_owned();
        let given = format!("whsec_{}", "A".repeat(32));
        let add = async |secret: Option<&str>, old_expire_at| {
            let secret = secret.map(|secret| secret.to_owned().into());
            store
                .add_webhook_secret(&one.id, &made.id, secret, old_expire_at, &by())
                .await
        };
        add(Some(&given), FAR).await.unwrap();
        let both = told(&store).await.remove(0);
        assert_eq!(secrets(&both), [&given, &old]);
        assert_eq!(both.secrets[1].expires_at, Some(FAR));
        assert_eq!(both.secrets[0].expires_at, None);
        // The old ones end at once.
        let after = add(None, 0).await.unwrap();
        assert_eq!(after.secrets.len(), 1);
        let found = store.webhook(&one.id, &made.id).await.unwrap();
        assert_eq!(secrets(&found), secrets(&after));
        for _ in 1..10 {
            add(None, FAR).await.unwrap();
        }
        let many = add(None, FAR).await;
        assert!(matches!(many, Err(StoreError::Conflict(_))), "{many:?}");
    }
}

#[tokio::test]
async fn a_webhook_is_paused_disabled_and_activated_with_a_reason() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let made = create(&store, &one.id, webhook("a")).await;
        for (state, reason, action) in [
            (WebhookState::Paused, None, "webhook.pause"),
            (WebhookState::Disabled, Some("410 Gone"), "webhook.disable"),
            (WebhookState::Active, None, "webhook.activate"),
        ] {
            for _ in 0..2 {
                let after = store
                    .set_webhook_state(&one.id, &made.id, state, reason, None, &by())
                    .await
                    .unwrap();
                assert_eq!(
                    (after.state, after.state_reason.as_deref()),
                    (state, reason)
                );
            }
            assert_eq!(told(&store).await[0].state, state);
            let audit = store.audit(&AuditFilter::default(), 2).await.unwrap();
            assert_eq!(audit[0].action, action);
            // What waits is due at once each time that a webhook is activated.
            let is_written = state == WebhookState::Active;
            assert_eq!(audit[1].action == action, is_written, "the second time");
        }
    }
}

#[tokio::test]
async fn a_webhook_is_found_and_deleted_only_as_that_of_its_app_and_goes_with_it() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let (two, _) = store.create_app(app("two"), &by()).await.unwrap();
        let first = create(&store, &one.id, webhook("a")).await;
        let second = create(&store, &one.id, webhook("b")).await;
        let refusals = [
            store.webhook(&two.id, &first.id).await.err(),
            store
                .delete_webhook(&two.id, &first.id, None, &by())
                .await
                .err(),
            store.webhooks("none").await.err(),
            store
                .create_webhook("none", webhook("a"), 10, &by())
                .await
                .err(),
        ];
        for refusal in refusals {
            assert!(
                matches!(refusal, Some(StoreError::NotFound(_))),
                "{refusal:?}"
            );
        }
        store
            .delete_webhook(&one.id, &first.id, None, &by())
            .await
            .unwrap();
        let left = told(&store).await;
        assert!(left.len() == 1 && left[0].id == second.id);
        store.delete_app(&one.id, &by()).await.unwrap();
        assert!(told(&store).await.is_empty());
        let gone = store.webhook(&one.id, &second.id).await;
        assert!(matches!(gone, Err(StoreError::NotFound(_))));
    }
}

#[tokio::test]
async fn secrets_and_headers_open_after_another_master_key() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let headers = vec![header("X-Token", "hunter2")];
        let made = create(
            &store,
            &one.id,
            NewWebhook {
                headers,
                ..webhook("a")
            },
        )
        .await;
        create(&store, &one.id, webhook("without headers")).await;
        let other = kind.store().await;
        let (store, resealed) = store
            .rotate_master_key(&MasterKey::random(), &by())
            .await
            .unwrap();
        // The app's key as well.
        assert_eq!(resealed, 4);
        let found = told(&store).await.remove(0);
        assert_eq!(secrets(&found), secrets(&made));
        assert_eq!(found.headers[0].value.expose_secret(), "hunter2");
        let late = other.create_webhook(&one.id, webhook("b"), 10, &by()).await;
        assert!(matches!(late, Err(StoreError::WrongMasterKey)), "{late:?}");
        let late = other.changes_since(0).await;
        assert!(matches!(late, Err(StoreError::WrongMasterKey)), "{late:?}");
    }
}

#[tokio::test]
async fn a_webhook_whose_secrets_do_not_open_is_left_out_and_can_be_deleted() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let (one, _) = store.create_app(app("one"), &by()).await.unwrap();
        let broken = create(&store, &one.id, webhook("broken")).await;
        let sound = create(&store, &one.id, webhook("sound")).await;
        kind.execute(
            "UPDATE webhooks SET secrets = (SELECT secrets FROM webhooks WHERE name = 'sound') WHERE name = 'broken'",
        )
        .await;
        let left = told(&store).await;
        assert!(left.len() == 1 && left[0].id == sound.id);
        store
            .delete_webhook(&one.id, &broken.id, None, &by())
            .await
            .unwrap();
        assert_eq!(store.webhooks(&one.id).await.unwrap().len(), 1);
    }
}
