//! What apps did, by minute, hour and day.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use fanfare_store::{Role, Store, UsageTotal};

use super::apps::AppName;
use super::extract::{PathParams, QueryParams};
use super::page::{Page, PageQuery};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::clock::unix_millis;
use crate::usage::{AppUsageTotal, Format, Range, RangeQuery, UsageSeries, csv, point, series};

/// Apps that are read at once for CSV, which has no pages.
const BATCH: usize = 200;

/// Returns whether the caller wants CSV: the query says so, or the first type that `Accept` names.
fn wants_csv(query: &RangeQuery, headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let accepts_csv = accepted.is_some_and(|value| value.trim_start().starts_with("text/csv"));
    query
        .format
        .map_or(accepts_csv, |format| format == Format::Csv)
}

fn answer_csv(body: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "text/csv; charset=utf-8")], body).into_response()
}

async fn read(
    store: &Store,
    app: Option<&str>,
    since: i64,
    query: &RangeQuery,
) -> Result<UsageSeries, Problem> {
    let now = unix_millis();
    let range = query.range(now).map_err(Problem::invalid)?;
    let from = range.from.max(range.step.floor(since));
    let totals = if from < range.until {
        store.usage(app, range.step, from, range.until).await?
    } else {
        Vec::new()
    };
    Ok(series(range, &totals, now))
}

fn answer(series: UsageSeries, as_csv: bool) -> Response {
    if as_csv {
        answer_csv(series.to_csv())
    } else {
        Json(series).into_response()
    }
}

/// Show what an app did, by minute, hour or day
///
/// Every period of the range has a point. Numbers are at most ten seconds old, those of a node that is cut off from the store
/// excepted. What an earlier app of the same id did is left out.
#[utoipa::path(
    get, path = "/apps/{app_id}/usage", tag = "Usage", operation_id = "show_app_usage",
    params(AppName, RangeQuery),
    responses(
        (status = 200, content((UsageSeries = "application/json"), (String = "text/csv"))),
        (status = 404),
    ),
)]
pub(super) async fn show_app(
    State(state): State<AppState>,
    caller: Caller,
    PathParams(AppName { app_id }): PathParams<AppName>,
    QueryParams(query): QueryParams<RangeQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.see(&app_id)?;
    let store = &state.admin.store;
    let app = store.app(&app_id).await?;
    let series = read(store, Some(&app_id), app.created_at, &query).await?;
    Ok(answer(series, wants_csv(&query, &headers)))
}

/// Show what all apps did together, by minute, hour or day
///
/// Deleted apps are included. Needs rights on all apps.
#[utoipa::path(
    get, path = "/usage", tag = "Usage", operation_id = "show_usage",
    params(RangeQuery),
    responses(
        (status = 200, content((UsageSeries = "application/json"), (String = "text/csv"))),
    ),
)]
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    QueryParams(query): QueryParams<RangeQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.require_everywhere(Role::Viewer)?;
    let series = read(&state.admin.store, None, 0, &query).await?;
    Ok(answer(series, wants_csv(&query, &headers)))
}

/// List what each app did in a range
///
/// The apps that did anything, by id, deleted ones included. CSV has all of them. Needs rights on all apps.
#[utoipa::path(
    get, path = "/usage/apps", tag = "Usage", operation_id = "list_usage_by_app",
    params(RangeQuery, PageQuery),
    responses(
        (status = 200, content((Page<AppUsageTotal> = "application/json"), (String = "text/csv"))),
    ),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    QueryParams(query): QueryParams<RangeQuery>,
    QueryParams(page): QueryParams<PageQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.require_everywhere(Role::Viewer)?;
    let (store, now) = (&state.admin.store, unix_millis());
    let range = query.range(now).map_err(Problem::invalid)?;
    if wants_csv(&query, &headers) {
        return Ok(answer_csv(all_as_csv(store, range, now).await?));
    }
    let limit = page.limit()?;
    let after: Option<String> = page.after()?;
    let found = read_apps(store, range, after.as_deref(), limit + 1, now).await?;
    let page = Page::of(found, limit, |app| app.app_id.clone(), |app| app);
    Ok(Json(page).into_response())
}

async fn read_apps(
    store: &Store,
    range: Range,
    after: Option<&str>,
    limit: usize,
    now: i64,
) -> Result<Vec<AppUsageTotal>, Problem> {
    let totals = store
        .usage_by_app(range.step, range.from, range.until, after, limit)
        .await?;
    let ids: Vec<String> = totals
        .iter()
        .filter_map(|total| total.app.clone())
        .collect();
    let records = store.apps_page(None, limit as i64, Some(&ids)).await?;
    let view = |total: UsageTotal| {
        let usage = point(&total, range.from, range.until, now);
        let app_id = total.app.unwrap_or_default();
        let record = records.iter().find(|record| record.id == app_id);
        AppUsageTotal {
            name: record.map(|record| record.name.clone()),
            app_id,
            usage,
        }
    };
    Ok(totals.into_iter().map(view).collect())
}

async fn all_as_csv(store: &Store, range: Range, now: i64) -> Result<Vec<u8>, Problem> {
    let mut all: Vec<AppUsageTotal> = Vec::new();
    loop {
        let after = all.last().map(|app| app.app_id.as_str());
        let mut found = read_apps(store, range, after, BATCH, now).await?;
        let is_last = found.len() < BATCH;
        all.append(&mut found);
        if is_last {
            break;
        }
    }
    let lines = all.iter().map(|app| (app.app_id.clone(), &app.usage));
    Ok(csv("app_id", lines))
}
