//! Histories, which are read over sessions of their own.

use std::time::Duration;

use fanfare_engine::HistoryQuery;
use fanfare_protocol::{HistoryPosition, Unrecovered};
use serde_json::json;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use super::broker::{bounded, fresh_epoch};
use super::line::{Item, failure};
use crate::backend::{BackendError, HistoryPage, HistoryRequest};

/// How long one attempt to read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// Reads a page of a history, which begins now if there is none.
pub(super) async fn read(
    pool: &PgPool,
    calls: &UnboundedSender<Item>,
    request: &HistoryRequest,
) -> Result<HistoryPage, BackendError> {
    if let Some(page) = page(pool, request).await? {
        return Ok(page);
    }
    begin(calls, request).await?;
    let page = page(pool, request).await?;
    page.ok_or_else(|| BackendError::Refused("the history that has begun is gone".into()))
}

/// Begins a history, like any other change.
async fn begin(
    calls: &UnboundedSender<Item>,
    request: &HistoryRequest,
) -> Result<(), BackendError> {
    let call = json!({
        "kind": "begin_history",
        "app": request.app.as_str(),
        "channel": request.channel,
        "rules": request.rules.to_string(),
        "epoch": fresh_epoch(),
    });
    super::answer_to(calls, |receive| Item::call(&call, Vec::new(), receive))
        .await
        .map(|_| ())
}

/// Reads a page, if the history has begun.
async fn page(
    pool: &PgPool,
    request: &HistoryRequest,
) -> Result<Option<HistoryPage>, BackendError> {
    let (kind, position, count) = match &request.query {
        HistoryQuery::Last(count) => ("last", None, *count),
        HistoryQuery::After(position) => ("after", Some(position), 0),
        HistoryQuery::Forward(position, count) => ("forward", position.as_ref(), *count),
        HistoryQuery::Backward(position, count) => ("backward", position.as_ref(), *count),
    };
    let epoch = position.map_or("", |position| &*position.epoch);
    let offset = position.map_or(0, |position| {
        i64::try_from(position.offset).unwrap_or(i64::MAX)
    });
    let row = sqlx::query("SELECT * FROM history_page($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(request.app.as_str())
        .bind(&request.channel)
        .bind(request.rules.to_string())
        .bind(kind)
        .bind(epoch)
        .bind(offset)
        .bind(bounded(count))
        .bind(bounded(request.room))
        .fetch_optional(pool);
    let row = timeout(READ_TIMEOUT, row).await;
    let row =
        row.map_err(|_| BackendError::Broken(format!("no history within {READ_TIMEOUT:?}")))?;
    let row = row.map_err(failure)?;
    let page = row.map(|row| page_of(&row)).transpose();
    page.map_err(|error| BackendError::Broken(error.to_string()))
}

fn page_of(row: &PgRow) -> Result<HistoryPage, sqlx::Error> {
    let (epoch, outcome): (&str, &str) = (row.try_get(0)?, row.try_get(3)?);
    let (offset, newest): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    let messages = match outcome {
        "found" => {
            let messages: Vec<Vec<u8>> = row.try_get(4)?;
            Ok(messages.into_iter().map(Into::into).collect())
        }
        "too_old" => Err(Unrecovered::TooOld),
        "too_large" => Err(Unrecovered::TooLarge),
        _ => Err(Unrecovered::Expired),
    };
    Ok(HistoryPage {
        position: HistoryPosition {
            epoch: epoch.into(),
            offset: offset.unsigned_abs(),
        },
        newest: newest.unsigned_abs(),
        messages,
    })
}
