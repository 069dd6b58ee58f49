//! The audit log: who did what, when, from where.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use fanfare_store::{AUDIT_ACTIONS, AuditFilter, AuditRecord, Role, StoreError};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::extract::QueryParams;
use super::page::{Page, PageQuery};
use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;

/// Number of entries that an export reads at once.
const EXPORT_BATCH: i64 = 500;

/// A recorded change.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct AuditEntry {
    /// The id of the entry; later entries have higher ones.
    pub(crate) id: i64,
    /// Unix time in milliseconds.
    pub(crate) at: i64,
    /// The actor.
    pub(crate) actor: AuditActor,
    /// The kind of change.
    #[schema(example = "key.create")]
    pub(crate) action: String,
    /// The kind of what it was done to.
    #[schema(example = "key")]
    pub(crate) target_kind: String,
    /// The id of what it was done to.
    pub(crate) target_id: String,
    /// The app it belongs to.
    #[schema(required)]
    pub(crate) app_id: Option<String>,
    /// Details, never a secret; of a change each field with `before` and `after`.
    #[schema(value_type = Object)]
    pub(crate) details: Value,
}

/// The kind of an actor.
#[derive(ToSchema)]
#[schema(as = ActorKind, rename_all = "snake_case")]
#[expect(
    dead_code,
    reason = "describes `ActorKind`, which knows nothing of HTTP"
)]
pub(crate) enum ActorName {
    /// An operator who signed in.
    Operator,
    /// An API token.
    Token,
    /// Somebody with access to the machine.
    CommandLine,
    /// Fanfare itself.
    System,
}

/// The actor of a change.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct AuditActor {
    /// `operator`, `token`, `command_line` or `system`.
    #[schema(value_type = ActorName)]
    pub(crate) kind: String,
    /// The operator's or token's id.
    #[schema(required)]
    pub(crate) id: Option<String>,
    /// The name that people see, as it was then.
    pub(crate) name: String,
    /// The network address.
    #[schema(required)]
    pub(crate) address: Option<String>,
}

/// The entries to return; all of them without a filter.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// The entries of one app.
    app_id: Option<String>,
    /// The entries of one operator or token.
    actor_id: Option<String>,
    /// The entries of one kind.
    #[param(value_type = Option<ActionName>, inline)]
    action: Option<String>,
    /// The entries about this target.
    target_id: Option<String>,
    /// The entries from this Unix time in milliseconds on.
    since: Option<i64>,
    /// The entries before this Unix time in milliseconds.
    until: Option<i64>,
}

impl AuditQuery {
    fn filter(self, caller: &Caller) -> Result<AuditFilter, Problem> {
        if let Some(action) = &self.action
            && !AUDIT_ACTIONS.contains(&action.as_str())
        {
            return Err(Problem::invalid(format!(
                "there is no action {action:?}; there are {}",
                AUDIT_ACTIONS.join(", ")
            )));
        }
        Ok(AuditFilter {
            app: self.app_id,
            apps: caller.apps().map(<[String]>::to_vec),
            actor_id: self.actor_id,
            action: self.action,
            target_id: self.target_id,
            since: self.since,
            until: self.until,
            before_id: None,
        })
    }
}

/// Describes the name of an action, which the store declares.
struct ActionName;

impl PartialSchema for ActionName {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(AUDIT_ACTIONS))
            .into()
    }
}

impl ToSchema for ActionName {}

impl From<AuditRecord> for AuditEntry {
    fn from(entry: AuditRecord) -> Self {
        Self {
            id: entry.id,
            at: entry.at,
            actor: AuditActor {
                kind: entry.actor.kind.to_string(),
                id: entry.actor.id,
                name: entry.actor.name,
                address: entry.actor.address,
            },
            action: entry.action,
            target_kind: entry.target_kind,
            target_id: entry.target_id,
            app_id: entry.app_id,
            details: entry.details,
        }
    }
}

/// List what was done, newest first
///
/// A caller with rights on some apps gets the entries of those. Needs the role admin.
#[utoipa::path(
    get, path = "/audit", tag = "Audit", operation_id = "list_audit",
    params(AuditQuery, PageQuery),
    responses(
        (status = 200, body = Page<AuditEntry>),
    ),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    QueryParams(query): QueryParams<AuditQuery>,
    QueryParams(page): QueryParams<PageQuery>,
) -> Result<Json<Page<AuditEntry>>, Problem> {
    caller.require(Role::Admin)?;
    let limit = page.limit()?;
    let filter = AuditFilter {
        before_id: page.after()?,
        ..query.filter(&caller)?
    };
    let entries = state.admin.store.audit(&filter, limit as i64 + 1).await?;
    Ok(Json(Page::of(
        entries,
        limit,
        |entry| entry.id,
        AuditEntry::from,
    )))
}

/// Export the audit log, newest first
///
/// All entries, one JSON object a line. Needs the role admin.
#[utoipa::path(
    get, path = "/audit/export", tag = "Audit", operation_id = "export_audit",
    params(AuditQuery),
    responses(
        (status = 200, body = String, content_type = "application/x-ndjson"),
    ),
)]
pub(super) async fn export(
    State(state): State<AppState>,
    caller: Caller,
    QueryParams(query): QueryParams<AuditQuery>,
) -> Result<Response, Problem> {
    caller.require(Role::Admin)?;
    let next = Some(query.filter(&caller)?);
    let lines = stream::try_unfold((state, next), async |(state, next)| {
        let Some(filter) = next else { return Ok(None) };
        let entries = state.admin.store.audit(&filter, EXPORT_BATCH).await?;
        // A full batch means that there may be more.
        let next = entries
            .last()
            .filter(|_| entries.len() as i64 == EXPORT_BATCH)
            .map(|last| AuditFilter {
                before_id: Some(last.id),
                ..filter
            });
        let lines: Vec<u8> = entries.into_iter().flat_map(to_line).collect();
        Ok::<_, StoreError>(Some((Bytes::from(lines), (state, next))))
    });
    let headers = [
        (CONTENT_TYPE, "application/x-ndjson"),
        (CONTENT_DISPOSITION, "attachment; filename=\"audit.ndjson\""),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

fn to_line(entry: AuditRecord) -> Vec<u8> {
    let mut line = serde_json::to_vec(&AuditEntry::from(entry)).expect("entries are JSON");
    line.push(b'\n');
    line
}
