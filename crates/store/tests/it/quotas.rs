//! Shares of quotas.

use fanfare_protocol::{QuotaKind, QuotaValues};
use fanfare_store::{DAY, QuotaLevel, QuotaPeriod, Share, ShareRequest, Store};

use crate::harness::Kind;

fn request(hard: Option<u64>, soft: Option<u64>, debt: i64, awaited: i64) -> ShareRequest {
    ShareRequest {
        period: QuotaPeriod {
            app: Some("a".into()),
            kind: QuotaKind::Messages,
            at: DAY,
        },
        values: QuotaValues { hard, soft },
        debt,
        awaited,
    }
}

async fn take(store: &Store, request: ShareRequest) -> Share {
    store.take_shares(&[request], DAY + 7).await.unwrap()[0]
}

#[tokio::test]
async fn nodes_that_take_shares_at_once_never_get_more_than_there_is() {
    for kind in Kind::all().await {
        let (one, two) = (kind.store().await, kind.store().await);
        let all = async |store: &Store| {
            let mut got = 0;
            loop {
                let share = take(store, request(Some(1000), None, 0, 1)).await;
                got += share.amount;
                if share.is_used_up {
                    return got;
                }
            }
        };
        let first = take(&one, request(Some(1000), None, 0, 1)).await.amount
            + take(&two, request(Some(1000), None, 0, 1)).await.amount;
        let (a, b) = tokio::join!(all(&one), all(&two));
        assert_eq!(first + a + b, 1000);
        let share = take(&one, request(Some(1000), None, 0, 1)).await;
        assert_eq!((share.amount, share.is_used_up), (0, true));
    }
}

#[tokio::test]
async fn debts_count_and_what_is_awaited_is_given_as_long_as_it_is_there() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let share = take(&store, request(Some(1000), None, 30, 0)).await;
        assert_eq!((share.amount, share.taken), (40, 40));
        let share = take(&store, request(Some(1000), None, 0, 500)).await;
        assert_eq!((share.amount, share.taken), (500, 540));
        let share = take(&store, request(Some(1000), None, 0, 500)).await;
        assert_eq!((share.amount, share.is_used_up), (460, true));
        // What was used beyond it is known all the same.
        let share = take(&store, request(Some(1000), None, 70, 0)).await;
        assert_eq!((share.amount, share.taken), (70, 1070));
        // A raised quota has something left again.
        let share = take(&store, request(Some(5000), None, 0, 0)).await;
        assert_eq!((share.amount, share.is_used_up), (50, false));
        assert!(store.used_up_quotas(0).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn each_level_is_reached_once() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let mut reached = Vec::new();
        for awaited in [700, 99, 1, 1, 150, 50, 1] {
            let share = take(&store, request(Some(1000), None, 0, awaited)).await;
            reached.extend(share.reached.map(|level| (share.taken, level)));
        }
        assert_eq!(reached.len(), 2, "{reached:?}");
        assert_eq!(reached[0].1, QuotaLevel::Soft);
        assert_eq!(reached[1], (1000, QuotaLevel::UsedUp));
        let found = store.used_up_quotas(DAY).await.unwrap();
        assert_eq!(found, [request(None, None, 0, 0).period]);
        assert!(store.used_up_quotas(DAY + 8).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_soft_quota_refuses_nothing() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let mut reached = Vec::new();
        for _ in 0..30 {
            let share = take(&store, request(None, Some(100), 0, 0)).await;
            assert_eq!((share.amount, share.is_used_up), (10, false));
            reached.extend(share.reached);
        }
        assert_eq!(reached, [QuotaLevel::Soft]);
    }
}

#[tokio::test]
async fn what_is_given_back_is_there_again_and_old_periods_go() {
    for kind in Kind::all().await {
        let store = kind.store().await;
        let period = request(None, None, 0, 0).period;
        take(&store, request(Some(1000), None, 0, 500)).await;
        let left = [(period.clone(), 400)];
        store.give_back_shares(&left).await.unwrap();
        assert_eq!(store.quota_taken(&period).await.unwrap(), 100);
        store.delete_old_quotas(DAY).await.unwrap();
        assert_eq!(store.quota_taken(&period).await.unwrap(), 100);
        store.delete_old_quotas(DAY + 1).await.unwrap();
        assert_eq!(store.quota_taken(&period).await.unwrap(), 0);
    }
}
