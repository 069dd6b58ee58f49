//! What operators learn of clients that were refused a connection.

use std::net::IpAddr;

use fanfare_engine::{Refusal, RefusalKind, Refused, RefusedClient};

use crate::app_state::AppState;

/// Records a refused connection for the operator. `key` is the one of its URL.
pub(crate) fn note(state: &AppState, key: Option<&str>, from: Option<IpAddr>, refusal: &Refusal) {
    let kind = RefusalKind::Connection(refusal.code);
    note_kind(state, kind, key, from, &refusal.message);
}

/// Records a connection that was refused for a reason of this kind.
pub(crate) fn note_kind(
    state: &AppState,
    kind: RefusalKind,
    key: Option<&str>,
    from: Option<IpAddr>,
    reason: &str,
) {
    let apps = state.engine.apps();
    let had_key = |key| apps.by_former_key(key).map(|(app, _)| app);
    let app = key.and_then(|key| apps.by_key(key).or_else(|| had_key(key)));
    let refused = Refused {
        kind,
        app: app.as_ref().map(|app| app.id().as_str()),
        address: from,
        reason,
    };
    let client = RefusedClient {
        key,
        ..RefusedClient::default()
    };
    state.engine.refusals().note_client(refused, client);
}
