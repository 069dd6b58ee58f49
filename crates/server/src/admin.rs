//! The admin API, `/api/v1`: everything about apps, keys, operators and tokens, by people and programs with different
//! rights. `docs/admin-api.md` shows it with curl; `/docs` has every endpoint.
//!
//! Each handler first says what its caller must be allowed to do; each change is in the store's audit log.
//!
//! | module | what it holds |
//! |---|---|
//! | `apps`, `keys`, `identity` | apps and what belongs to them |
//! | `state` | what is happening on an app now: channels, members, connections; and a test event |
//! | `sessions`, `operators`, `tokens`, `signing_keys` | who may do what |
//! | `audit` | who did what |
//! | `server` | this node |
//! | `problem` | [`Problem`](problem::Problem): what a caller is told instead of an answer |
//! | `extract`, `page`, `once`, `etag` | bodies, pages, idempotent creates, lost updates |

use std::panic::resume_unwind;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{Jwts, Passwords, SignInPace};
use crate::http::AppState;

pub(crate) mod apps;
pub(crate) mod audit;
mod etag;
mod extract;
pub(crate) mod identity;
pub(crate) mod keys;
mod once;
pub(crate) mod operators;
pub(crate) mod page;
pub(crate) mod problem;
mod server;
pub(crate) mod sessions;
pub(crate) mod signing_keys;
pub(crate) mod state;
pub(crate) mod tokens;

/// Where it is.
pub(crate) const PATH: &str = "/api/v1";

/// What the admin API needs beside the engine. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) store: fanfare_store::Store,
    pub(crate) jwts: Jwts,
    pub(crate) passwords: Passwords,
    pub(crate) sign_in_pace: SignInPace,
}

impl Admin {
    pub(crate) fn new(store: fanfare_store::Store) -> Self {
        Self {
            jwts: Jwts::new(store.clone()),
            passwords: Passwords::new(),
            sign_in_pace: SignInPace::new(),
            store,
        }
    }
}

/// Does to its end what changes something, even if whoever asked goes away: who sends a request again must find it done or
/// not done, and never half. It is in force on this node when it is answered.
pub(crate) async fn finish(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let done = tokio::spawn(async move {
        let answer = next.run(request).await;
        if answer.status().is_success() {
            state.in_force.now().await;
        }
        answer
    });
    match done.await {
        Ok(answer) => answer,
        // Whoever catches panics answers; the task is never stopped otherwise.
        Err(error) => resume_unwind(error.into_panic()),
    }
}

/// All routes of the admin API; the crate's `openapi` adds those of apps' backends.
pub(crate) fn router() -> OpenApiRouter<AppState> {
    kept().merge(running())
}

/// What is about the store, so that no node need run for it: the command line calls it as well.
pub(crate) fn kept() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        // Anybody: sign in, and stay so.
        .routes(routes!(sessions::list, sessions::sign_in))
        .routes(routes!(sessions::refresh))
        // Everybody who is signed in, about themselves.
        .routes(routes!(sessions::me))
        .routes(routes!(sessions::set_own_password))
        .routes(routes!(sessions::end))
        // Viewers look, admins change.
        .routes(routes!(apps::list, apps::create))
        .routes(routes!(apps::show, apps::update, apps::delete))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::show, keys::update, keys::revoke))
        .routes(routes!(identity::show, identity::set, identity::delete))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::show, tokens::revoke))
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
        .routes(routes!(signing_keys::list, signing_keys::rotate))
}

/// What only a running node knows or does. Viewers look, admins change.
fn running() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(state::channels))
        .routes(routes!(state::channel))
        .routes(routes!(state::members))
        .routes(routes!(state::connections))
        .routes(routes!(state::connection, state::disconnect))
        .routes(routes!(state::publish))
        .routes(routes!(server::show))
}
