//! Settings of `tls.acme`: the certificate that is ordered from an ACME server.

use std::path::PathBuf;

use instant_acme::{ChallengeType, LetsEncrypt};
use serde::{Deserialize, Serialize};

use super::rules::Rules;
use super::units::text_list;

/// Longest domain name, as DNS has it.
const MAX_NAME: usize = 253;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcmeConfig {
    /// Domains that the certificate is for, separated by commas. Nothing is ordered without them.
    #[serde(deserialize_with = "text_list")]
    pub(crate) domains: String,
    /// Address at which the ACME server reaches whoever runs this server. It may be empty.
    pub(crate) email: String,
    /// Directory URL of the ACME server.
    pub(crate) directory: String,
    /// File of the authorities that the ACME server's own certificate may come from, besides the system's.
    pub(crate) directory_ca: PathBuf,
    /// How the ACME server looks whether this server serves a domain.
    pub(crate) challenge: AcmeChallengeKind,
    /// Profile of the certificate, if the ACME server offers several.
    pub(crate) profile: String,
}

/// How an ACME server looks whether this server serves a domain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AcmeChallengeKind {
    /// In a TLS handshake first, then over HTTP, and so on after each failure.
    #[default]
    #[serde(rename = "any")]
    Any,
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    #[serde(rename = "http-01")]
    Http01,
}

impl AcmeChallengeKind {
    /// Returns the challenge of an order with `failures` before it.
    pub(crate) fn of_attempt(self, failures: i64) -> ChallengeType {
        match self {
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Self::Http01 => ChallengeType::Http01,
            Self::Any if failures % 2 == 0 => ChallengeType::TlsAlpn01,
            Self::Any => ChallengeType::Http01,
        }
    }
}

impl Default for AcmeConfig {
    fn default() -> Self {
        Self {
            domains: String::new(),
            email: String::new(),
            directory: LetsEncrypt::Production.url().to_owned(),
            directory_ca: PathBuf::new(),
            challenge: AcmeChallengeKind::Any,
            profile: String::new(),
        }
    }
}

impl AcmeConfig {
    /// Returns the domains in lower case.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.domains.split(',').map(str::trim);
        let names = names.filter(|name| !name.is_empty());
        names.map(str::to_ascii_lowercase).collect()
    }

    /// Returns whether a certificate is ordered.
    pub(crate) fn is_on(&self) -> bool {
        !self.names().is_empty()
    }

    pub(super) fn check(&self, rules: Rules<'_>) -> anyhow::Result<()> {
        for name in self.names() {
            rules.check("acme.domains", !name.starts_with("*."), format_args!(
                "must not hold {name:?}: certificates for all names below a domain need the challenge dns-01, which is not \
                 supported; name each domain, or get the certificate elsewhere (tls.certificate)"
            ))?;
            rules.check(
                "acme.domains",
                is_domain(&name),
                format_args!("must be domain names with commas, for example ws.example.com, and {name:?} is none"),
            )?;
        }
        let is_plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control());
        rules.check(
            "acme.email",
            self.email.is_empty() || (self.email.contains('@') && is_plain(&self.email)),
            format_args!("must be an e-mail address, and {:?} is none", self.email),
        )?;
        rules.check(
            "acme.directory",
            self.directory.starts_with("https://") && is_plain(&self.directory),
            format_args!(
                "must be the https:// URL of an ACME server's directory, and {:?} is none",
                self.directory
            ),
        )?;
        let unused = Self::default();
        for (name, is_default) in [
            ("acme.email", self.email == unused.email),
            ("acme.directory", self.directory == unused.directory),
            (
                "acme.directory_ca",
                self.directory_ca == unused.directory_ca,
            ),
            ("acme.challenge", self.challenge == unused.challenge),
            ("acme.profile", self.profile == unused.profile),
        ] {
            rules.check(
                name,
                is_default || self.is_on(),
                "must have tls.acme.domains beside it: without domains no certificate is ordered",
            )?;
        }
        Ok(())
    }
}

fn is_domain(name: &str) -> bool {
    let label_fits = |label: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    name.len() <= MAX_NAME && !is_address && name.split('.').all(label_fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{load, refused};

    #[test]
    fn domains_are_names_with_commas() {
        let config = load(&[("tls.acme.domains", "WS.example.com, b.example")]).expect("two");
        assert_eq!(config.tls.acme.names(), ["ws.example.com", "b.example"]);
        assert!(config.tls_listen().is_some());
        assert!(!load(&[]).expect("defaults").tls.acme.is_on());
        assert!(refused("tls.acme.domains", "*.example.com").contains("dns-01"));
        for wrong in [
            "192.0.2.7",
            "a b",
            "https://example.com",
            "-a.example",
            "a..b",
        ] {
            let error = refused("tls.acme.domains", wrong);
            assert!(error.contains("domain names"), "{error}");
        }
    }

    #[test]
    fn the_server_is_reached_over_https() {
        assert!(refused("tls.acme.directory", "http://acme.example").contains("https://"));
        assert!(refused("tls.acme.email", "nobody").contains("e-mail"));
        assert!(refused("tls.acme.challenge", "dns-01").contains("tls-alpn-01"));
    }

    #[test]
    fn nothing_of_an_order_is_set_without_its_domains() {
        for (name, value) in [
            ("tls.acme.email", "ops@example.com"),
            ("tls.acme.directory", "https://acme.example/directory"),
            ("tls.acme.directory_ca", "ca.pem"),
            ("tls.acme.challenge", "http-01"),
            ("tls.acme.profile", "shortlived"),
        ] {
            let error = refused(name, value);
            assert!(
                error.contains("must have tls.acme.domains beside it"),
                "{error}"
            );
            load(&[("tls.acme.domains", "a.example"), (name, value)]).expect("an order");
        }
    }

    #[test]
    fn any_challenge_changes_after_a_failure() {
        let kinds = [0, 1, 2].map(|failures| AcmeChallengeKind::Any.of_attempt(failures));
        let (tls, http) = (ChallengeType::TlsAlpn01, ChallengeType::Http01);
        assert_eq!(kinds, [tls.clone(), http, tls]);
    }
}
