//! The signed requests of backends, as the Pusher server SDKs send them, with one file for each resource.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app_state::AppState;

mod auth;
mod channel_auth;
mod channels;
mod events;
mod history;
mod idempotency;
mod unauthenticated;
pub(crate) mod users;

pub(crate) use auth::{Authenticated, SignedHead, SignedRequest, authenticate, note_refusal};
pub(crate) use events::{Endpoint, PublishRequest};
pub(crate) use idempotency::Idempotency;
pub(crate) use unauthenticated::Unauthenticated;

/// Returns the routes that take requests signed by a backend.
pub(crate) fn backend() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(events::publish))
        .routes(routes!(events::publish_batch))
        .routes(routes!(channels::list))
        .routes(routes!(channels::show))
        .routes(routes!(channels::users))
        .routes(routes!(channels::connections))
        .routes(routes!(users::terminate))
        // Signatures for backends that don't compute them themselves.
        .routes(routes!(channel_auth::for_backend))
        .routes(routes!(channel_auth::user_for_backend))
        // Requests of older SDKs.
        .routes(routes!(history::list, events::publish_to_channel))
        .routes(routes!(channels::stats))
}
