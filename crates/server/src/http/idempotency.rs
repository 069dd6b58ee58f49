//! A publish that is sent again because its answer was lost is answered the same and delivered once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use fanfare_engine::App;
use fanfare_protocol::AppId;
use fanfare_protocol::signature::body_md5;
use moka::future::Cache;

use super::error::ApiError;

/// How long a key is remembered.
const REMEMBERED: Duration = Duration::from_secs(120);
/// Most bytes that are remembered for all apps together; the least used go first.
const CAPACITY: u64 = 64 << 20;
/// What an entry takes besides its texts, in bytes.
const ENTRY_WEIGHT: usize = 256;
/// Longest key, in bytes.
const MAX_KEY: usize = 255;

/// Requests that were answered lately.
#[derive(Debug, Clone)]
pub(crate) struct Idempotency(Cache<(AppId, String), Answered>);

#[derive(Debug, Clone)]
struct Answered {
    /// Of the request, as what the key stands for.
    body_md5: String,
    answer: Bytes,
}

impl Idempotency {
    pub(crate) fn new() -> Self {
        let weigh = |key: &(AppId, String), value: &Answered| {
            u32::try_from(ENTRY_WEIGHT + key.1.len() + value.answer.len()).unwrap_or(u32::MAX)
        };
        Self(
            Cache::builder()
                .time_to_live(REMEMBERED)
                .max_capacity(CAPACITY)
                .weigher(weigh)
                .build(),
        )
    }

    /// Does `publish` once for a key of an app: a request with the same key that comes meanwhile waits for its answer.
    /// What failed is not remembered, so that it can be tried again.
    pub(crate) async fn once(
        &self,
        app: &App,
        key: &str,
        body: &[u8],
        publish: impl Future<Output = Result<Bytes, ApiError>>,
    ) -> Result<Bytes, ApiError> {
        if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
            return Err(ApiError::new(
                400,
                format!("Invalid idempotency key: 1 to {MAX_KEY} printable bytes"),
            ));
        }
        let body_md5 = body_md5(body);
        let answered = async {
            publish.await.map(|answer| Answered {
                body_md5: body_md5.clone(),
                answer,
            })
        };
        let answered = self
            .0
            .try_get_with((app.id().clone(), key.to_owned()), answered)
            .await;
        let answered = answered.map_err(|error: Arc<ApiError>| ApiError::clone(&error))?;
        if answered.body_md5 != body_md5 {
            return Err(ApiError::new(
                400,
                format!(
                    "The idempotency key {key:?} stood for another request within the last two minutes"
                ),
            ));
        }
        Ok(answered.answer)
    }
}
