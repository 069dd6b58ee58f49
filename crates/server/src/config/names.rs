//! The names of all settings, and which of them was meant by another word.

/// Every setting, by its name in the file. The environment variable is `FANFARE_` and the name in capitals, with `_`
/// for `.`.
pub(crate) const SETTINGS: &[&str] = &[
    "listen",
    "data_dir",
    "demo",
    "path_prefix",
    "shards",
    "activity_timeout",
    "pong_timeout",
    "master_key",
    "store.url",
    "store.listen_url",
    "cluster.url",
    "cluster.prefix",
    "cluster.lease",
    "memory.limit",
    "memory.subscriptions",
    "memory.subscriptions_of_app",
    "connections.max",
    "connections.max_pending",
    "connections.max_subscriptions",
    "connections.messages_per_second",
    "outbox.max_bytes",
    "outbox.max_total_bytes",
    "outbox.max_app_bytes",
    "outbox.max_replay_bytes",
    "inbox.max_bytes",
    "websocket.max_message_bytes",
    "websocket.max_unfinished_bytes",
    "websocket.message_timeout",
    "websocket.ping_interval",
    "fallback.websocket_retry",
    "fallback.max_hanging_requests",
    "http.threads",
    "http.max_body_bytes",
    "http.max_pending_body_bytes",
    "http.first_head_timeout",
    "http.header_timeout",
    "http.max_sockets",
    "http.trusted_proxies",
    "network.max_connections",
    "network.max_waiting_bytes",
    "network.max_sockets",
    "network.max_pending",
    "network.max_subscription_bytes",
    "network.exempt",
    "idempotency.max_bytes",
    "recent_events.max_bytes",
    "identity.allow_inner_addresses",
    "ceilings.connections",
    "ceilings.backend_events_per_second",
    "ceilings.client_events_per_second",
    "ceilings.channel_name",
    "ceilings.event_name",
    "ceilings.event_data",
    "ceilings.client_event_data",
    "ceilings.channels_per_publish",
    "ceilings.batch_events",
    "ceilings.presence_members",
    "ceilings.presence_member_size",
    "ceilings.user_id",
    "ceilings.watchlist",
    "ceilings.cache_ttl",
    "ceilings.cache_bytes",
    "ceilings.history_bytes",
    "ceilings.history_size",
    "ceilings.history_ttl",
    "owner.name",
    "owner.password",
    "drain.period",
    "fence.max",
    "fence.per_second",
    "log.filter",
    "log.format",
];

/// The settings that are text: `1234` is a folder's name there, and no number.
pub(super) const TEXT: &[&str] = &[
    "listen",
    "data_dir",
    "path_prefix",
    "master_key",
    "store.url",
    "store.listen_url",
    "cluster.url",
    "cluster.prefix",
    "http.trusted_proxies",
    "network.exempt",
    "owner.name",
    "owner.password",
    "log.filter",
    "log.format",
];

/// The known name that is most like `name`, if one is like it at all.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (likeness, best) = known
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .max_by(|one, other| one.0.total_cmp(&other.0))?;
    (likeness >= 0.7).then_some(best)
}

/// What to say of a name that is no setting.
pub(super) fn no_such_setting(name: &str) -> String {
    if fanfare_protocol::AppSettings::names().iter().any(|known| {
        known == name
            || known
                .split_once('.')
                .is_some_and(|(section, _)| section == name)
    }) {
        return format!(
            "{name:?} is a setting of an app, not of the server: fanfare app update ID --setting NAME=VALUE"
        );
    }
    match nearest(name, SETTINGS.iter().copied()) {
        Some(meant) => format!("there is no setting {name:?}; did you mean {meant}?"),
        None => format!(
            "there is no setting {name:?}; there are {}",
            SETTINGS.join(", ")
        ),
    }
}
