//! The settings outside sections: address, data folder, master key, shards.

use std::path::PathBuf;

use fanfare_store::MasterKey;
use secrecy::{ExposeSecret, SecretString};

use super::rules::Rules;
use super::{Config, without_password};

/// First path segments that are served whatever `path_prefix` is.
const OWN_PATHS: &[&str] = &[
    "api",
    "demo",
    "docs",
    "healthz",
    "openapi.json",
    "readyz",
    "ready",
    "sdk",
    "up",
];

/// What [`is_path_prefix`] demands, for the error.
pub(super) const PATH_PREFIX_FORM: &str = "must be empty, or like /realtime: letters, digits and -_.~ between slashes, and no slash at the end";

/// Returns whether a text can precede paths.
pub(super) fn is_path_prefix(text: &str) -> bool {
    let segment_fits = |segment: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
        !matches!(segment, "" | "." | "..") && segment.chars().all(allowed)
    };
    let segments = text.strip_prefix('/');
    text.is_empty() || segments.is_some_and(|segments| segments.split('/').all(segment_fits))
}

impl Config {
    /// Returns whether there is a demo app and its page.
    pub(crate) fn demo(&self) -> bool {
        let is_local = |listen: std::net::SocketAddr| listen.ip().is_loopback();
        self.demo.unwrap_or_else(|| {
            self.listen.is_local()
                && self.tls_listen().is_none_or(is_local)
                && !self.listen_proxy_protocol
        })
    }

    /// Returns what precedes `/app` and `/apps` in the URLs of clients and backends.
    pub(crate) fn client_prefix(&self) -> String {
        format!("{}{}", self.http.base_path, self.path_prefix)
    }

    /// Returns the URL of what the nodes of a cluster share, if there are several nodes.
    pub(crate) fn cluster_url(&self) -> Option<&SecretString> {
        self.cluster.url(&self.store)
    }

    /// Returns the SQLite file that is the store if no `store.url` is given.
    pub(crate) fn store_file(&self) -> PathBuf {
        self.data_dir.join("fanfare.db")
    }

    /// Returns the store's location without secrets.
    pub(crate) fn store_shown(&self) -> String {
        let file = || format!("sqlite:{}", self.store_file().display());
        self.store
            .url
            .as_ref()
            .map_or_else(file, |url| without_password(url.expose_secret()))
    }

    /// Returns the permissions of the files of Unix sockets.
    pub(crate) fn unix_mode(&self) -> Option<u32> {
        let mode = u32::from_str_radix(&self.listen_unix_mode, 8).ok();
        mode.filter(|mode| (0o600..=0o777).contains(mode))
    }

    pub(super) fn check_server(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.check(
            "listen_unix_mode",
            self.unix_mode().is_some(),
            "must be three octal digits such as 660 (user and group) or 666 (everybody on this machine), and at least 600",
        )?;
        rules.check(
            "listen_proxy_protocol",
            !self.listen_proxy_protocol
                || self.listen.tcp().next().is_none()
                || !self.http.trusted_proxies.trim().is_empty(),
            "must have http.trusted_proxies beside it, with the addresses of the proxies: headers of others are not believed",
        )?;
        rules.check(
            "demo",
            !(self.listen_proxy_protocol && self.demo == Some(true)),
            "must be false with listen_proxy_protocol: the demo answers this machine only, and not a proxy",
        )?;
        rules.check(
            "data_dir",
            !self.data_dir.as_os_str().is_empty(),
            "must name a folder",
        )?;
        rules.check(
            "data_dir",
            !self.data_dir.exists() || self.data_dir.is_dir(),
            format_args!(
                "must be a folder, and {} is a file",
                self.data_dir.display()
            ),
        )?;
        let key = self.master_key.as_ref();
        if let Some(Err(error)) = key.map(|key| MasterKey::parse(key.expose_secret())) {
            rules.check("master_key", false, format_args!("is invalid: {error}"))?;
        }
        rules.range("shards", self.shards, 1..=64, "")?;
        rules.range(
            "activity_timeout",
            self.activity_timeout,
            1..=3600,
            "seconds",
        )?;
        rules.range("pong_timeout", self.pong_timeout, 1..=3600, "seconds")?;
        self.check_path_prefix(rules)
    }

    fn check_path_prefix(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        rules.check(
            "path_prefix",
            is_path_prefix(&self.path_prefix),
            PATH_PREFIX_FORM,
        )?;
        let prefix = self.path_prefix.strip_prefix('/');
        let first = prefix.and_then(|p| p.split('/').next());
        rules.check(
            "path_prefix",
            first.is_none_or(|first| !OWN_PATHS.contains(&first)),
            format_args!(
                "must not begin with a path of Fanfare's own ({}): choose another, such as /realtime",
                OWN_PATHS.join(", ")
            ),
        )
    }
}
