//! `Idempotency-Key` on creates. A caller that doesn't know whether a request arrived sends it again and gets the same
//! answer, from every node. Answers are kept for a day, sealed, because they may hold secrets.

use std::convert::Infallible;
use std::future::Future;

use axum::Json;
use axum::body::Bytes;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use fanfare_store::{Reservation, Store};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::access::Caller;
use crate::http::headers::combined;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest key, in bytes.
const MAX_KEY: usize = 255;

/// The header `Idempotency-Key`, and the endpoint to which it applies.
#[derive(Debug)]
pub(super) struct IdempotentRequest {
    key: Option<String>,
    endpoint: String,
}

impl<S: Sync> FromRequestParts<S> for IdempotentRequest {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self {
            key: combined(&parts.headers, HEADER),
            endpoint: format!("{} {}", parts.method, parts.uri.path()),
        })
    }
}

impl IdempotentRequest {
    /// Waits for `created` and answers 201 with its result. With a key, a repeated request gets the first one's answer,
    /// and `created` isn't polled.
    ///
    /// # Errors
    ///
    /// Returns 409 while the first request is being answered and if its body was another one, 400 if the key isn't
    /// valid, and otherwise the error of `created`.
    pub(super) async fn create<T: Serialize>(
        self,
        store: &Store,
        caller: &Caller,
        body: &Bytes,
        created: impl Future<Output = Result<T, Problem>>,
    ) -> Result<Response, Problem> {
        let Some(key) = self.key else {
            return Ok((StatusCode::CREATED, Json(created.await?)).into_response());
        };
        if key.is_empty() || key.len() > MAX_KEY {
            let detail = format!("an Idempotency-Key has 1 to {MAX_KEY} bytes");
            return Err(Problem::invalid(detail));
        }
        let who = caller.actor.id.as_deref().unwrap_or("command line");
        let scope = format!("{who} {}", self.endpoint);
        match store
            .reserve_answer(&scope, &key, &Sha256::digest(body))
            .await?
        {
            Reservation::Reserved => {}
            Reservation::Answered { status, body } => {
                return Ok(again(status, body.expose_secret()));
            }
            Reservation::Pending => {
                return Err(Problem::conflict(
                    "a request with this Idempotency-Key is being answered at this moment; try again later",
                ));
            }
            Reservation::DifferentBody => {
                return Err(Problem::conflict(
                    "this Idempotency-Key was used with another body; take a new key for a new request",
                ));
            }
        }
        match created.await {
            // If the process ends before the answer is saved, a repeated request gets 409 until the reservation times
            // out.
            Ok(answer) => {
                let answer = serde_json::to_string(&answer).expect("answers are JSON");
                let status = StatusCode::CREATED.as_u16();
                store
                    .save_answer(&scope, &key, status, &answer.as_str().into())
                    .await?;
                Ok(again(status, &answer))
            }
            Err(problem) => {
                // Nothing was created, so the request may be tried again with this key.
                store.release_answer(&scope, &key).await?;
                Err(problem)
            }
        }
    }
}

fn again(status: u16, body: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::CREATED);
    let body: Value = serde_json::from_str(body).expect("what was kept is JSON");
    (status, Json(body)).into_response()
}
