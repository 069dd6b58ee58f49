//! What browsers ask without a socket and without an app's secret. These requests carry a token of the app's identity
//! provider.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app_state::AppState;

pub(crate) mod token_auth;

/// Returns the routes for browsers of apps without an auth endpoint.
pub(crate) fn clients() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(token_auth::for_bearer))
        .routes(routes!(token_auth::user_for_bearer))
}
