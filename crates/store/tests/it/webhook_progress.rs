//! How far webhooks are.

use crate::harness::Kind;
use crate::webhook_queue::{channel, delivery, set_up};

#[tokio::test]
async fn what_waits_is_counted_to_a_limit_and_last_sequences_are_told_of_many() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let setup = set_up(&store, 2).await;
        let [one, two] = [0, 1].map(|index: usize| setup.webhooks[index].clone());
        let changes = [channel("a", true, 1), channel("b", true, 2)];
        let make = |_: &[bool]| ["a", "b"].map(|name| delivery(&one, "channel_occupied", name));
        store
            .record_webhook_events(&setup.app, 1, &changes, 0, |news| make(news).into())
            .await
            .unwrap();
        let count =
            async |id: &str, limit| store.count_waiting_deliveries(id, limit).await.unwrap();
        assert_eq!((count(&one, 10).await, count(&one, 1).await), (2, 1));
        assert_eq!((count(&two, 10).await, count("wh_none", 10).await), (0, 0));

        let asked = [one.clone(), two.clone(), "wh_none".into()];
        let mut found = store.last_webhook_sequences(&asked).await.unwrap();
        found.sort_by_key(|(_, sequence)| *sequence);
        assert_eq!(found, [(two, 0), (one, 2)]);
        assert!(store.last_webhook_sequences(&[]).await.unwrap().is_empty());
    }
}
