//! The admin API, `/api/v1`: apps, keys, operators and tokens, for operators and programs with different rights.
//! `docs/admin-api.md` shows it with curl; `/docs` has every endpoint.
//!
//! Each handler first checks its caller's rights. Each change is in the store's audit log.
//!
//! | module | what it holds |
//! |---|---|
//! | `apps`, `keys`, `identity` | apps and what belongs to them |
//! | `channels`, `connections` | the current state of an app: channels, members, connections, client libraries |
//! | `events`, `live` | test events, and what happens in an app as it happens |
//! | `sessions`, `operators`, `tokens`, `signing_keys` | the callers and their rights |
//! | `usage`, `quotas` | what apps did, and how far their quotas are used |
//! | `alerts` | conditions that need an operator |
//! | `webhooks` | who is told what happens on an app's channels |
//! | `outbox` | where an app's backends write events in their own database |
//! | `audit` | the audit log |
//! | `server`, `certificates`, `configuration`, `nodes` | this node, what it serves with which settings, and all nodes |
//! | `problem` | [`Problem`](problem::Problem): an error with its status and code |
//! | `extract`, `page`, `idempotent_request`, `etag` | bodies, pages, idempotent creates, lost updates |

use std::net::IpAddr;
use std::panic::resume_unwind;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use fanfare_engine::{RefusalKind, Refused};
use percent_encoding::percent_decode_str;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::problem::ProblemDetail;
use crate::access::{ConfirmedScrapers, Jwts, Passwords, Refusals, SignInRateLimiter};
use crate::app_state::AppState;
use crate::http::paths;
use crate::traces::AdminSpans;

pub(crate) mod alerts;
pub(crate) mod apps;
pub(crate) mod audit;
mod certificates;
pub(crate) mod channels;
mod configuration;
pub(crate) mod connections;
mod etag;
pub(crate) mod events;
pub(crate) mod explain;
mod extract;
mod idempotent_request;
pub(crate) mod identity;
pub(crate) mod keys;
pub(crate) mod live;
pub(crate) mod nodes;
pub(crate) mod operators;
pub(crate) mod outbox;
pub(crate) mod page;
pub(crate) mod problem;
mod quotas;
pub(crate) mod server;
pub(crate) mod sessions;
pub(crate) mod signing_keys;
pub(crate) mod tokens;
pub(crate) mod usage;
pub(crate) mod webhooks;

/// Path of the admin API.
pub(crate) const PATH: &str = "/api/v1";

/// The shared parts of the admin API besides the engine. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) store: fanfare_store::Store,
    pub(crate) jwts: Jwts,
    pub(crate) passwords: Passwords,
    pub(crate) sign_in_limiter: SignInRateLimiter,
    pub(crate) refusals: Refusals,
    pub(crate) confirmed_scrapers: ConfirmedScrapers,
    pub(crate) pulls: webhooks::Pulls,
    pub(crate) webhook_limiter: webhooks::WebhookLimiter,
}

impl Admin {
    pub(crate) fn new(store: fanfare_store::Store) -> Self {
        Self {
            jwts: Jwts::new(store.clone()),
            passwords: Passwords::new(),
            sign_in_limiter: SignInRateLimiter::default(),
            refusals: Refusals::default(),
            confirmed_scrapers: ConfirmedScrapers::default(),
            pulls: webhooks::Pulls::default(),
            webhook_limiter: webhooks::WebhookLimiter::default(),
            store,
        }
    }
}

/// Runs as middleware of all routes. It completes a change even if the caller goes away, so that a caller who sends a
/// request again finds it done or not done, never half done. The change is active on this node before the answer. It
/// also records refusals for the operator.
pub(crate) async fn finish(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let from = state.addresses.of(request.headers(), request.extensions());
    let path = paths::original(request.uri(), request.extensions());
    let (app, signs_in) = (named_app(path), signs_in(&request, path));
    let spans = state.traces.admin_request(&request, path);
    let answer = do_whole(state.clone(), request, next, &spans).await;
    spans.finish(answer.status(), || {
        note_refusal(&state, &answer, app, signs_in, from);
    });
    answer
}

/// Records for the operator that a request was refused, if it was.
fn note_refusal(
    state: &AppState,
    answer: &Response,
    app: Option<String>,
    signs_in: bool,
    from: Option<IpAddr>,
) {
    let kind = match answer.status().as_u16() {
        401 | 429 if signs_in => RefusalKind::OperatorSignIn,
        401 => RefusalKind::OperatorToken,
        403 => RefusalKind::OperatorRights,
        _ => return,
    };
    let told = answer.extensions().get::<ProblemDetail>();
    // Refusals are counted for each app only if the app exists, so that a stranger can't fill the counters.
    let app = app.and_then(|id| state.engine.apps().by_id(&id));
    state.engine.refusals().note(Refused {
        kind,
        app: app.as_ref().map(|app| app.id().as_str()),
        address: from,
        reason: told.map_or("", |ProblemDetail(detail)| detail),
    });
}

fn signs_in(request: &Request, path: &str) -> bool {
    request.method() == Method::POST
        && path
            .strip_prefix(PATH)
            .is_some_and(|path| path.starts_with("/sessions") || path == "/browser-sessions")
}

/// Returns the id of the app that a path is about, if it is about one.
fn named_app(path: &str) -> Option<String> {
    let rest = path.strip_prefix(PATH)?.strip_prefix("/apps/")?;
    let id = rest.split('/').next()?;
    Some(percent_decode_str(id).decode_utf8_lossy().into_owned())
}

async fn do_whole(state: AppState, request: Request, next: Next, spans: &AdminSpans) -> Response {
    if request.method().is_safe() {
        return spans.instrument(next.run(request)).await;
    }
    // In a task of its own, because hyper drops the handler's future when the client disconnects.
    let done = tokio::spawn(spans.instrument(async move {
        let answer = next.run(request).await;
        if answer.status().is_success() {
            // Before the answer, so that the caller's next request finds its own change active.
            state.config_barrier.wait().await;
        }
        answer
    }));
    match done.await {
        Ok(answer) => answer,
        // A panic is passed on to the layer that answers it. The task is never cancelled, so there is no other error.
        Err(error) => resume_unwind(error.into_panic()),
    }
}

/// Returns all routes of the admin API. The crate's `openapi` adds those of apps' backends.
pub(crate) fn router() -> OpenApiRouter<AppState> {
    offline_routes().merge(live_routes())
}

/// Returns the routes that only need the store. The command line calls them without a running node.
pub(crate) fn offline_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        // Without a token: sign in, and refresh a session.
        .routes(routes!(sessions::list, sessions::sign_in))
        .routes(routes!(sessions::browser::sign_in))
        .routes(routes!(sessions::refresh))
        // All signed-in operators, about themselves.
        .routes(routes!(sessions::me))
        .routes(routes!(sessions::set_own_password))
        .routes(routes!(sessions::end))
        // Viewers read, admins change.
        .routes(routes!(apps::list, apps::create))
        .routes(routes!(apps::show, apps::update, apps::delete))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::show, keys::update, keys::revoke))
        .routes(routes!(identity::show, identity::set, identity::delete))
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::show, webhooks::update, webhooks::delete))
        .routes(routes!(webhooks::set_state))
        .routes(routes!(webhooks::create_secret))
        .routes(routes!(webhooks::deliveries::list))
        .routes(routes!(webhooks::deliveries::show))
        .routes(routes!(webhooks::replay::replay))
        .routes(routes!(webhooks::replay::test))
        .routes(routes!(outbox::show, outbox::set, outbox::remove))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::show, tokens::revoke))
        .routes(routes!(usage::show_app))
        .routes(routes!(usage::show))
        .routes(routes!(usage::list))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::silence))
        .routes(routes!(quotas::show_app))
        .routes(routes!(quotas::show))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        // Owners.
        .routes(routes!(operators::list, operators::create))
        .routes(routes!(
            operators::show,
            operators::update,
            operators::delete
        ))
        .routes(routes!(operators::set_password))
        .routes(routes!(sessions::browser::create_link))
        .routes(routes!(signing_keys::list, signing_keys::rotate))
}

/// Returns the routes that need a running node. Viewers read, admins change.
fn live_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(channels::channels))
        .routes(routes!(channels::channel))
        .routes(routes!(channels::members))
        .routes(routes!(channels::subscribers))
        .routes(routes!(channels::history))
        .routes(routes!(explain::explain))
        .routes(routes!(connections::connections))
        .routes(routes!(connections::clients))
        .routes(routes!(connections::connection, connections::disconnect))
        .routes(routes!(events::publish))
        .routes(routes!(live::watch))
        .routes(routes!(events::publish_batch))
        .routes(routes!(events::simulate_client_event))
        .routes(routes!(configuration::show))
        .routes(routes!(server::show))
        .routes(routes!(certificates::list))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::drain, nodes::end_drain))
}
