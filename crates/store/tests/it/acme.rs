//! Accounts, certificates and challenges of ACME servers.

use fanfare_store::{AcmeCertificate, AcmeChallenge, AcmeOrder, AcmeState};
use secrecy::ExposeSecret;

use crate::harness::Kind;

const DIRECTORY: &str = "https://acme.example/directory";
const LEASE: i64 = 60_000;

fn order() -> AcmeOrder {
    AcmeOrder::new(DIRECTORY, &["b.example".into(), "a.example".into()])
}

fn certificate(chain: &str, issued_at: i64) -> AcmeCertificate {
    AcmeCertificate {
        chain: chain.into(),
        private_key: format!("key of {chain}").into(),
        issued_at,
    }
}

#[tokio::test]
async fn one_node_orders_and_all_get_the_certificate() {
    for kind in Kind::all().await {
        let [a, b] = [kind.store().await, kind.store().await];
        assert_eq!(a.acme_state(&order()).await.unwrap(), AcmeState::default());
        assert!(a.lease_acme_order(&order(), "a", LEASE).await.unwrap());
        assert!(!b.lease_acme_order(&order(), "b", LEASE).await.unwrap());
        // Renewed.
        assert!(a.lease_acme_order(&order(), "a", LEASE).await.unwrap());
        // Without the lease, nothing is saved.
        let late = certificate("of b", 5);
        assert!(
            !b.save_acme_certificate(&order(), "b", &late, 9)
                .await
                .unwrap()
        );
        assert!(b.acme_certificate(&order()).await.unwrap().is_none());

        let issued = certificate("of a", 7);
        assert!(
            a.save_acme_certificate(&order(), "a", &issued, 99)
                .await
                .unwrap()
        );
        let same = AcmeOrder::new(DIRECTORY, &["a.example".into(), "b.example".into()]);
        let found = b.acme_certificate(&same).await.unwrap().unwrap();
        assert_eq!((&*found.chain, found.issued_at), ("of a", 7));
        assert_eq!(found.private_key.expose_secret(), "key of of a");
        let state = b.acme_state(&same).await.unwrap();
        assert_eq!((state.issued_at, state.due_at), (Some(7), 99));
        // The lease has ended with the order.
        assert!(b.lease_acme_order(&order(), "b", LEASE).await.unwrap());
    }
}

#[tokio::test]
async fn a_node_takes_over_when_the_one_that_orders_is_gone() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        assert!(store.lease_acme_order(&order(), "a", 0).await.unwrap());
        assert!(store.lease_acme_order(&order(), "b", LEASE).await.unwrap());
        assert!(!store.lease_acme_order(&order(), "a", LEASE).await.unwrap());
    }
}

#[tokio::test]
async fn a_failed_order_leaves_the_certificate_and_is_due_later() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        store.lease_acme_order(&order(), "a", LEASE).await.unwrap();
        let issued = certificate("first", 7);
        store
            .save_acme_certificate(&order(), "a", &issued, 50)
            .await
            .unwrap();
        for failures in 1..=2 {
            store.lease_acme_order(&order(), "a", LEASE).await.unwrap();
            store
                .fail_acme_order(&order(), "a", "no route", 60)
                .await
                .unwrap();
            let state = store.acme_state(&order()).await.unwrap();
            let expected = AcmeState {
                issued_at: Some(7),
                due_at: 60,
                failures,
                last_error: Some("no route".into()),
            };
            assert_eq!(state, expected);
        }
        let found = store.acme_certificate(&order()).await.unwrap().unwrap();
        assert_eq!(found.chain, "first");
        store.lease_acme_order(&order(), "a", LEASE).await.unwrap();
        store.defer_acme_order(&order(), "a", 70).await.unwrap();
        assert_eq!(store.acme_state(&order()).await.unwrap().due_at, 70);
        store.lease_acme_order(&order(), "a", LEASE).await.unwrap();
        let second = certificate("second", 8);
        store
            .save_acme_certificate(&order(), "a", &second, 90)
            .await
            .unwrap();
        let state = store.acme_state(&order()).await.unwrap();
        assert_eq!((state.failures, state.last_error), (0, None));
    }
}

#[tokio::test]
async fn all_nodes_answer_challenges_until_they_end() {
    for kind in Kind::all().await {
        let [a, b] = [kind.store().await, kind.store().await];
        let challenge = |token: &str| AcmeChallenge {
            token: token.into(),
            name: "a.example".into(),
            key_authorization: format!("{token}.thumbprint"),
        };
        let both = [challenge("one"), challenge("two")];
        a.add_acme_challenges(&both, LEASE).await.unwrap();
        a.add_acme_challenges(&[challenge("past")], 0)
            .await
            .unwrap();
        let mut found = b.acme_challenges().await.unwrap();
        found.sort_by(|a, b| a.token.cmp(&b.token));
        assert_eq!(found, both);
        a.delete_acme_challenges(&both[..1]).await.unwrap();
        assert_eq!(b.acme_challenges().await.unwrap(), both[1..]);
    }
}

#[tokio::test]
async fn an_account_is_kept_for_each_server() {
    for kind in Kind::all().await {
        let [a, b] = [kind.store().await, kind.store().await];
        assert!(a.acme_account(DIRECTORY).await.unwrap().is_none());
        for credentials in ["old", "new"] {
            a.set_acme_account(DIRECTORY, &credentials.into())
                .await
                .unwrap();
        }
        let found = b.acme_account(DIRECTORY).await.unwrap().unwrap();
        assert_eq!(found.expose_secret(), "new");
        assert!(
            b.acme_account("https://other.example")
                .await
                .unwrap()
                .is_none()
        );
    }
}
