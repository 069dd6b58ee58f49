//! Messages about a wrong path: the one that came, and the whole path that was probably meant, `http.base_path` and
//! `path_prefix` included.

use axum::extract::OriginalUri;
use axum::http::{Extensions, Uri};

/// Beginnings of paths of backends and clients, after the prefix. The first one that a path contains is the one meant.
const ROOTS: [&str; 5] = ["/apps/", "/app/", "/users/", "/sse/", "/ws/"];
/// Largest number of characters of a path in a message.
const MAX_SHOWN: usize = 100;

/// The address of a request from which the base path was removed, as it came.
#[derive(Debug, Clone)]
pub(crate) struct RequestedUri(pub(crate) Uri);

/// Returns the path as it came, base path included.
pub(crate) fn requested<'a>(uri: &'a Uri, extensions: &'a Extensions) -> &'a str {
    extensions
        .get::<RequestedUri>()
        .map_or_else(|| original(uri, extensions), |RequestedUri(uri)| uri.path())
}

/// Returns the path below the base path, before a nested router removed the prefix.
pub(crate) fn original<'a>(uri: &'a Uri, extensions: &'a Extensions) -> &'a str {
    extensions
        .get::<OriginalUri>()
        .map_or(uri.path(), |original| original.path())
}

/// Returns a path for a message, cut if it is long.
pub(crate) fn truncated(path: &str) -> String {
    match path.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &path[..end]),
        None => path.to_owned(),
    }
}

/// Returns the message for a client that wants a WebSocket at another path.
pub(crate) fn no_websocket_message(prefix: &str, path: &str) -> String {
    let shown = truncated(path);
    // Whatever precedes it, such as the path of another server: a client has put it into wsPath.
    let is_key = |key: &&str| !key.is_empty() && !key.contains('/');
    let key = |root: &str| path.rsplit_once(root).map(|(_, key)| key).filter(is_key);
    if let Some(key) = key("/ws/") {
        return format!("Path not found: {shown}, connect to {prefix}/ws/{key}");
    }
    match key("/app/") {
        Some(key) => format!(
            "Path not found: {shown}, connect to {prefix}/app/{key} ({})",
            ws_path(prefix)
        ),
        None => format!("Path not found: {shown}, connect to {prefix}/app/APP_KEY"),
    }
}

fn ws_path(prefix: &str) -> String {
    match prefix {
        "" => "in pusher-js leave wsPath out".into(),
        prefix => format!("in pusher-js set wsPath to {prefix}"),
    }
}

/// Returns the message for a backend or browser at a path that has no route.
pub(crate) fn not_found_message(prefix: &str, path: &str) -> String {
    let shown = truncated(path);
    match intended(prefix, path) {
        Some(meant) if meant != path => format!(
            "There is nothing at {shown}: it should be {} (http.base_path and path_prefix are {prefix:?} together)",
            self::truncated(&meant)
        ),
        _ => format!(
            "There is nothing at {shown}: clients connect to {prefix}/app/APP_KEY, backends publish to \
             {prefix}/apps/APP_ID/events"
        ),
    }
}

/// Returns the last known root in a path and what follows it, after the prefix.
fn intended(prefix: &str, path: &str) -> Option<String> {
    let root = ROOTS.iter().find_map(|root| path.rfind(root))?;
    // The fallbacks of pusher-js are at `/pusher/app/`.
    let start = path[..root].strip_suffix("/pusher").map_or(root, str::len);
    Some(format!("{prefix}{}", &path[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_websocket_path_is_told_with_the_whole_right_one() {
        for (prefix, path, words) in [
            (
                "",
                "/app/app/k",
                "Path not found: /app/app/k, connect to /app/k (in pusher-js leave wsPath out)",
            ),
            (
                "/rt",
                "/app/k",
                "Path not found: /app/k, connect to /rt/app/k (in pusher-js set wsPath to /rt)",
            ),
            ("/rt", "/rt/app/app/k", "connect to /rt/app/k ("),
            ("", "/apps/app/k", "connect to /app/k (in pusher-js leave"),
            ("", "/pusher/app/k", "connect to /app/k (in pusher-js leave"),
            ("/rt", "/ws/k", "/ws/k, connect to /rt/ws/k"),
            ("", "/ws/", "Path not found: /ws/, connect to /app/APP_KEY"),
            ("", "/", "Path not found: /, connect to /app/APP_KEY"),
            (
                "/rt",
                "/rt/app/",
                "Path not found: /rt/app/, connect to /rt/app/APP_KEY",
            ),
            ("", "/apps/1/events", "connect to /app/APP_KEY"),
        ] {
            let message = no_websocket_message(prefix, path);
            assert!(message.contains(words), "{prefix} {path}: {message}");
        }
    }

    #[test]
    fn a_wrong_path_of_a_backend_is_told_with_the_whole_right_one() {
        for (prefix, path, words) in [
            (
                "/rt",
                "/apps/1/events",
                "it should be /rt/apps/1/events (http.base_path and path_prefix are \"/rt\" together)",
            ),
            ("", "/rt/apps/1/events", "it should be /apps/1/events"),
            (
                "/rt",
                "/pusher/app/k/1/a/xhr",
                "it should be /rt/pusher/app/k/1/a/xhr",
            ),
            (
                "/rt",
                "/rt/apps/1/nope",
                "backends publish to /rt/apps/APP_ID/events",
            ),
            (
                "",
                "/nowhere",
                "There is nothing at /nowhere: clients connect to /app/APP_KEY",
            ),
        ] {
            let message = not_found_message(prefix, path);
            assert!(message.contains(words), "{prefix} {path}: {message}");
        }
        let long = not_found_message("", &format!("/{}", "é".repeat(10_000)));
        assert!(long.len() < 500, "{} bytes", long.len());
    }
}
