//! TLS: the certificates that are served, and how they are watched. The sockets are in [`edge`](crate::edge).
//!
//! | file | content |
//! |---|---|
//! | `acme` | certificates that are ordered from an ACME server |
//! | `certificate` | a certificate with its key, checked before it is served |
//! | `certificates` | all that are served, and which one a client gets |
//! | `files` | the files that certificates come from, read again when they change |
//! | `expiry` | log lines about certificates that end soon |
//! | `handshakes` | counts how handshakes end |

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};

use crate::config::{Config, TlsVersion};
use crate::edge::tls_handshake::TlsAcceptor;
use crate::failure::Failure;

mod acme;
mod certificate;
mod certificates;
mod expiry;
mod files;
mod handshakes;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use acme::Acme;
pub(crate) use acme::challenges::AcmeChallenges;
pub(crate) use certificate::{Certificate, Facts};
pub(crate) use certificates::{Certificates, FailedOrders, Origin, Served};
pub(crate) use expiry::{days_left, expires_soon, warn_of_expiry};
pub(crate) use files::{CertificateFiles, read_pem};
pub(crate) use handshakes::{HandshakeCounts, HandshakeOutcome};

/// The protocol of many requests at a time on a connection in ALPN.
pub(crate) const HTTP_2: &[u8] = b"h2";
/// The protocol of WebSockets, and of requests one after the other.
const HTTP_1: &[u8] = b"http/1.1";
/// The protocol in which an ACME server looks for a challenge (RFC 8737).
pub(crate) const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// The TLS of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) certificates: Certificates,
    pub(crate) acceptor: TlsAcceptor,
    /// What this node answers to an ACME server.
    pub(crate) challenges: AcmeChallenges,
}

impl Tls {
    /// Reads the certificates of the configuration. Returns `None` if it asks for no TLS.
    ///
    /// # Errors
    ///
    /// Returns a failure if a certificate can't be served, or none could be ordered.
    pub(crate) fn start(config: &Config) -> anyhow::Result<Option<(Self, CertificateFiles)>> {
        if config.tls_listen().is_none() {
            return Ok(None);
        }
        let certificates = Certificates::default();
        let files = CertificateFiles::read(config.tls.pairs(), certificates.clone())
            .map_err(Failure::misuse)?;
        acme::check(&config.tls.acme).map_err(Failure::misuse)?;
        let acceptor = TlsAcceptor::new(
            Arc::new(server_config(
                &certificates,
                config.tls.min_version,
                config.http.max_streams > 0,
            )?),
            config.http_threads(),
            Arc::default(),
        );
        let tls = Self {
            challenges: AcmeChallenges::new(certificates.clone()),
            certificates,
            acceptor,
        };
        Ok(Some((tls, files)))
    }
}

/// Returns how connections are encrypted. It is the same for as long as the process runs, so that clients resume their
/// sessions after a certificate was replaced.
fn server_config(
    certificates: &Certificates,
    min: TlsVersion,
    with_http2: bool,
) -> anyhow::Result<ServerConfig> {
    let versions = match min {
        TlsVersion::Tls12 => &[&TLS13, &TLS12][..],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates.clone()));
    // The first that the client offers. Browsers offer HTTP/1.1 alone for a WebSocket.
    let http2 = with_http2.then_some(HTTP_2);
    let protocols = http2.into_iter().chain([HTTP_1, ACME_PROTOCOL]);
    config.alpn_protocols = protocols.map(<[u8]>::to_vec).collect();
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}
