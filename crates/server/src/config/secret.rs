//! Hides secrets where values are shown.

use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};

/// What is shown instead of a secret.
pub(crate) const HIDDEN: &str = "(hidden)";

pub(super) fn hide<S: Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| HIDDEN).serialize(serializer)
}

pub(super) fn hide_password<S: Serializer>(
    url: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    url.as_ref()
        .map(|url| without_password(url.expose_secret()))
        .serialize(serializer)
}

/// Returns a URL without its password, before the host or in the query.
pub(crate) fn without_password(url: &str) -> String {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let hidden = || {
        let (scheme, rest) = address.split_once("://")?;
        let (user, host) = rest.rsplit_once('@')?;
        let (user, _) = user.split_once(':')?;
        Some(format!("{scheme}://{user}:{HIDDEN}@{host}"))
    };
    let shown = hidden().unwrap_or_else(|| address.to_owned());
    if query.is_empty() {
        return shown;
    }
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.to_lowercase().contains("password") => format!("{name}={HIDDEN}"),
        _ => pair.to_owned(),
    };
    format!(
        "{shown}?{}",
        query.split('&').map(pair).collect::<Vec<_>>().join("&")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{KEY, load};

    #[test]
    fn secrets_are_not_shown() {
        let config = load(&[
            ("store.url", "postgres://me:pass@host/db"),
            ("master_key", KEY),
        ])
        .unwrap();
        let shown = config.to_toml().unwrap();
        assert!(shown.contains("postgres://me:(hidden)@host/db"), "{shown}");
        assert!(!shown.contains("pass@") && !shown.contains(KEY), "{shown}");
        assert!(!format!("{config:?}").contains(KEY));
        let query = without_password("postgres://h/db?user=u&password=hunter2&sslmode=require");
        assert_eq!(
            query,
            "postgres://h/db?user=u&password=(hidden)&sslmode=require"
        );
    }
}
