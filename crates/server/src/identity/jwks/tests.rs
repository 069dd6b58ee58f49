use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::identity::verify::tests::jwk;

/// A provider that counts the requests for its keys.
pub(in crate::identity) struct Provider {
    address: std::net::SocketAddr,
    requests: Arc<AtomicUsize>,
    answer: Arc<Mutex<String>>,
}

impl Provider {
    pub(in crate::identity) async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            answer: Arc::default(),
        };
        provider.publish(keys);
        let (requests, answer) = (Arc::clone(&provider.requests), Arc::clone(&provider.answer));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    requests.fetch_add(1, Ordering::SeqCst);
                    let answer = answer.lock().unwrap().clone();
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        provider
    }

    pub(in crate::identity) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(in crate::identity) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(in crate::identity) fn publish(&self, keys: &[Value]) {
        self.answer("200 OK", &json!({ "keys": keys }).to_string());
    }

    fn answer(&self, status: &str, body: &str) {
        let head = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}",
            body.len()
        );
        *self.answer.lock().unwrap() = format!("{head}\r\n\r\n{body}");
    }

    fn set(&self) -> Arc<KeySet> {
        Jwks::new(true).at(&self.url("/keys").parse().unwrap())
    }
}

/// Moves the clock without waiting. It runs again afterwards, because sockets take real time.
pub(in crate::identity) async fn advance(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

async fn ask(set: &Arc<KeySet>, kid: &str) -> Result<(), NoKey> {
    set.key(Some(kid), Algorithm::ES256).await.map(drop)
}

#[tokio::test]
async fn a_set_is_fetched_once_and_again_after_ten_minutes() {
    let provider = Provider::start(&[jwk(Algorithm::ES256, "a")]).await;
    let set = provider.set();
    assert_eq!(provider.requests(), 0);
    for _ in 0..10 {
        assert_eq!(ask(&set, "a").await, Ok(()));
    }
    advance(590).await;
    assert_eq!(ask(&set, "a").await, Ok(()));
    assert_eq!(provider.requests(), 1);
    advance(20).await;
    assert_eq!(ask(&set, "a").await, Ok(()));
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn unknown_names_cost_one_request_in_ten_seconds() {
    let provider = Provider::start(&[jwk(Algorithm::ES256, "a")]).await;
    let set = provider.set();
    for number in 0..50 {
        assert_eq!(
            ask(&set, &format!("unknown-{number}")).await,
            Err(NoKey::Unknown)
        );
    }
    assert_eq!(provider.requests(), 1);
    advance(11).await;
    provider.publish(&[jwk(Algorithm::ES256, "b")]);
    assert_eq!(ask(&set, "b").await, Ok(()));
    assert_eq!(ask(&set, "a").await, Err(NoKey::Unknown));
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn many_at_once_share_one_request() {
    let provider = Provider::start(&[jwk(Algorithm::ES256, "a")]).await;
    let set = provider.set();
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let set = Arc::clone(&set);
            tokio::spawn(async move { ask(&set, "a").await })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), Ok(()));
    }
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn a_caller_who_goes_away_does_not_cost_the_others_the_set() {
    let provider = Provider::start(&[jwk(Algorithm::ES256, "a")]).await;
    let set = provider.set();
    let mut gone = Box::pin(ask(&set, "a"));
    assert!(futures_util::poll!(&mut gone).is_pending());
    drop(gone);
    assert_eq!(ask(&set, "a").await, Ok(()));
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn while_the_provider_is_down_the_last_set_counts_for_a_day_and_nobody_hammers_it() {
    let provider = Provider::start(&[jwk(Algorithm::ES256, "a")]).await;
    let set = provider.set();
    assert_eq!(ask(&set, "a").await, Ok(()));
    provider.answer("503 Service Unavailable", "");
    advance(3600).await;
    for _ in 0..10 {
        assert_eq!(ask(&set, "a").await, Ok(()));
    }
    assert_eq!(provider.requests(), 2);
    advance(24 * 3600).await;
    for _ in 0..10 {
        assert_eq!(ask(&set, "a").await, Err(NoKey::Unavailable));
    }
    assert_eq!(provider.requests(), 3);
    provider.publish(&[jwk(Algorithm::ES256, "a")]);
    advance(11).await;
    assert_eq!(ask(&set, "a").await, Ok(()));
}

#[tokio::test]
async fn what_is_no_key_set_changes_nothing() {
    let provider = Provider::start(&[jwk(Algorithm::ES256, "a")]).await;
    let set = provider.set();
    assert_eq!(ask(&set, "a").await, Ok(()));
    let large = json!({"keys": [], "x": "x".repeat(MAX_BYTES)}).to_string();
    let elsewhere = format!("302 Found\r\nlocation: {}", provider.url("/other"));
    for (status, body) in [
        ("200 OK", "nonsense"),
        ("200 OK", "[]"),
        ("200 OK", &large),
        ("404 Not Found", "{\"keys\":[]}"),
        (&*elsewhere, "{\"keys\":[]}"),
    ] {
        let before = provider.requests();
        provider.answer(status, body);
        advance(700).await;
        assert_eq!(ask(&set, "a").await, Ok(()), "{status} {body:.20}");
        assert_eq!(provider.requests(), before + 1, "{status}");
    }
}

#[tokio::test]
async fn without_any_set_the_keys_are_unavailable() {
    let provider = Provider::start(&[]).await;
    provider.answer("500 Internal Server Error", "");
    assert_eq!(ask(&provider.set(), "a").await, Err(NoKey::Unavailable));
    let nobody = Jwks::new(true).at(&"http://127.0.0.1:1/".parse().unwrap());
    assert_eq!(ask(&nobody, "a").await, Err(NoKey::Unavailable));
}

#[test]
fn a_set_is_shared_by_all_who_name_it_and_goes_with_the_last() {
    let jwks = Jwks::new(false);
    let url: Url = "https://id.example.com/keys".parse().unwrap();
    let one = jwks.at(&url);
    assert!(Arc::ptr_eq(&one, &jwks.at(&url)));
    let other = jwks.at(&"https://id.example.com/other".parse().unwrap());
    assert!(!Arc::ptr_eq(&one, &other));
    drop((one, other));
    let _ = jwks.at(&url);
    assert_eq!(jwks.by_url.lock().unwrap().len(), 1);
}
