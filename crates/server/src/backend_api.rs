//! What backends call, through the Pusher server SDKs: signed requests, one file for each resource. The same signatures for browsers
//! of apps without an auth endpoint of their own are in `channel_auth`.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app_state::AppState;

mod auth;
pub(crate) mod channel_auth;
mod channels;
mod events;
mod history;
mod idempotency;
pub(crate) mod users;

pub(crate) use idempotency::Idempotency;

/// What backends call, through the Pusher server SDKs, signed.
pub(crate) fn backend() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(events::publish))
        .routes(routes!(events::publish_batch))
        .routes(routes!(channels::list))
        .routes(routes!(channels::show))
        .routes(routes!(channels::users))
        .routes(routes!(channels::connections))
        .routes(routes!(users::terminate))
        // Backends that would rather ask for a signature than make one.
        .routes(routes!(channel_auth::for_backend))
        .routes(routes!(channel_auth::user_for_backend))
        // Older SDKs.
        .routes(routes!(history::list, events::publish_to_channel))
        .routes(routes!(channels::stats))
}

/// What browsers of apps without an auth endpoint of their own ask, with a token of the app's identity provider.
pub(crate) fn clients() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(channel_auth::for_bearer))
        .routes(routes!(channel_auth::user_for_bearer))
}
