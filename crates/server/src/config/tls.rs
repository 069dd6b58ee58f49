//! Settings of `tls`: certificates, where TLS is spoken, and with which versions.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Config;
use super::acme::AcmeConfig;
use super::rules::Rules;

/// Port of `tls.listen` if none is given.
pub(super) const DEFAULT_TLS_PORT: u16 = 6443;

/// What a pair of files must be.
const PAIR: &str = "a certificate with those of its issuers, and its key, both as PEM";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsConfig {
    /// File of the certificate, followed by those of its issuers.
    pub(crate) certificate: PathBuf,
    /// File of its private key.
    pub(crate) key: PathBuf,
    /// Address at which TLS is spoken. By default port 6443 of the host of `listen`, if there is a certificate.
    pub(crate) listen: Option<SocketAddr>,
    /// Oldest version of TLS that is spoken.
    pub(crate) min_version: TlsVersion,
    /// Whether browsers that ask for a page over plain HTTP are sent to `https`.
    pub(crate) redirect: bool,
    /// Port that they are sent to; 0 for that of `tls.listen`.
    pub(crate) redirect_port: u16,
    /// The certificate that is ordered from an ACME server.
    pub(crate) acme: AcmeConfig,
    /// More pairs of files, chosen by the name that a client asks for.
    pub(crate) certificates: Vec<CertificatePair>,
}

/// The files of a certificate and of its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificatePair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

impl TlsConfig {
    /// Returns the files of all pairs, those of `tls.certificate` first.
    pub(crate) fn pairs(&self) -> Vec<(PathBuf, PathBuf)> {
        let first = (self.certificate.clone(), self.key.clone());
        let first = (!self.certificate.as_os_str().is_empty()).then_some(first);
        let more = self.certificates.iter();
        let more = more.map(|pair| (pair.certificate.clone(), pair.key.clone()));
        first.into_iter().chain(more).collect()
    }

    fn has_certificate(&self) -> bool {
        let has_files = !self.certificate.as_os_str().is_empty() || !self.certificates.is_empty();
        has_files || self.acme.is_on()
    }

    pub(super) fn check(&self, others: &[SocketAddr], rules: Rules<'_>) -> anyhow::Result<()> {
        let (certificate, key) = (self.certificate.as_os_str(), self.key.as_os_str());
        rules.check(
            "certificate",
            certificate.is_empty() || !key.is_empty(),
            format_args!("must have tls.key beside it: {PAIR}"),
        )?;
        rules.check(
            "key",
            key.is_empty() || !certificate.is_empty(),
            format_args!("must have tls.certificate beside it: {PAIR}"),
        )?;
        let is_whole = |pair: &CertificatePair| {
            !pair.certificate.as_os_str().is_empty() && !pair.key.as_os_str().is_empty()
        };
        rules.check(
            "certificates",
            self.certificates.iter().all(is_whole),
            format_args!("must name two files each: {PAIR}"),
        )?;
        rules.check(
            "listen",
            self.listen.is_none() || self.has_certificate(),
            format_args!(
                "must have tls.certificate and tls.key beside it ({PAIR}), or tls.acme.domains"
            ),
        )?;
        self.acme.check(rules)?;
        let is_taken = self
            .listen
            .filter(|listen| listen.port() != 0 && others.contains(listen));
        rules.check(
            "listen",
            is_taken.is_none(),
            "must be another address than listen and ops.listen, which speak plain HTTP",
        )?;
        rules.check(
            "redirect",
            !self.redirect || self.has_certificate(),
            "must have tls.certificate and tls.key beside it, or tls.acme.domains: there is no TLS to send browsers to",
        )?;
        rules.check(
            "redirect_port",
            self.redirect_port == 0 || self.redirect,
            "must have tls.redirect beside it: without it nobody is sent to that port",
        )
    }
}

impl Config {
    /// Returns the address at which TLS is spoken, if it is.
    pub(crate) fn tls_listen(&self) -> Option<SocketAddr> {
        let default = SocketAddr::new(self.listen.first_tcp().ip(), DEFAULT_TLS_PORT);
        self.tls
            .has_certificate()
            .then(|| self.tls.listen.unwrap_or(default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{load, refused};

    const CERTIFICATE: (&str, &str) = ("tls.certificate", "tls.crt");
    const KEY: (&str, &str) = ("tls.key", "tls.key");

    #[test]
    fn tls_is_spoken_where_there_is_a_certificate() {
        assert_eq!(load(&[]).expect("defaults").tls_listen(), None);
        let listen = |settings: &[(&str, &str)]| {
            let all = [&[CERTIFICATE, KEY], settings].concat();
            load(&all)
                .expect("a pair")
                .tls_listen()
                .map(|it| it.to_string())
        };
        assert_eq!(listen(&[]).as_deref(), Some("127.0.0.1:6443"));
        let open = listen(&[("listen", "0.0.0.0:80")]);
        assert_eq!(open.as_deref(), Some("0.0.0.0:6443"));
        let own = listen(&[("tls.listen", "*")]);
        assert_eq!(own.as_deref(), Some("0.0.0.0:6443"));
        let own = listen(&[("tls.listen", "[::]:443")]);
        assert_eq!(own.as_deref(), Some("[::]:443"));
    }

    #[test]
    fn certificates_are_pairs() {
        assert!(refused(CERTIFICATE.0, CERTIFICATE.1).contains("tls.key beside it"));
        assert!(refused(KEY.0, KEY.1).contains("tls.certificate beside it"));
        assert!(refused("tls.listen", ":6443").contains("tls.certificate and tls.key"));
        let error = refused("tls.listen", ":6443");
        assert!(
            error.ends_with("(it was set to \":6443\" by flag --set)"),
            "{error}"
        );
        assert!(refused("tls.redirect", "true").contains("no TLS"));
        let same = [CERTIFICATE, KEY, ("tls.listen", "127.0.0.1:6001")];
        let error = load(&same).expect_err("the plain port").to_string();
        assert!(error.contains("another address"), "{error}");
        let error = refused("tls.min_version", "1.1");
        assert!(error.contains("1.2, 1.3"), "{error}");
    }

    #[test]
    fn more_certificates_are_listed_in_the_file_or_in_a_variable() {
        let list = r#"[{certificate="b.crt",key="b.key"}]"#;
        let config = load(&[CERTIFICATE, KEY, ("tls.certificates", list)]).expect("two pairs");
        let pairs = config.tls.pairs();
        assert_eq!(pairs[0], ("tls.crt".into(), "tls.key".into()));
        assert_eq!(pairs[1], ("b.crt".into(), "b.key".into()));
        let shown = config.to_toml().expect("text");
        let read: toml::Table = toml::from_str(&shown).expect("TOML");
        assert_eq!(
            read["tls"]["certificates"][0]["key"].as_str(),
            Some("b.key")
        );
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.toml");
        let text = "[[tls.certificates]]\ncertificate = \"a.crt\"\nkey = \"a.key\"\n";
        std::fs::write(&file, text).expect("a file");
        let config = Config::load(Some(&file), vec![]).expect("a pair");
        assert_eq!(config.tls.pairs().len(), 1);
        assert!(config.tls_listen().is_some());
    }
}
