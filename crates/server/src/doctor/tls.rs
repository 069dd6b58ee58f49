//! TLS: the certificates' files, whether clients trust what is in them, and what the running server shows at its port.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;
use tokio::task::spawn_blocking;

use super::Finding;
use crate::config::{Config, reachable};
use crate::tls::{Certificate, Facts, days_left, expires_soon, read_pem};

/// How long the server may take for each step of a handshake.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What stands for the asterisk of a certificate's name when the server is asked for it.
const ANY_LABEL: &str = "fanfare-doctor";

/// Looks at the certificates of a node that speaks TLS.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let Some(listen) = config.tls_listen() else {
        return Vec::new();
    };
    let (pairs, domains) = (config.tls.pairs(), config.tls.acme.names());
    let address = reachable(listen);
    let looked = spawn_blocking(move || look(&pairs, &domains, address));
    looked.await.unwrap_or_default()
}

/// A certificate as clients see it.
struct Seen {
    chain: Vec<CertificateDer<'static>>,
    facts: Facts,
}

impl Seen {
    /// Returns a server name that the certificate is for, or `None` if it is for none.
    fn name(&self) -> Option<ServerName<'static>> {
        server_name(self.facts.names.first()?)
    }
}

fn look(pairs: &[(PathBuf, PathBuf)], domains: &[String], address: SocketAddr) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut on_disk = Vec::new();
    for (certificate, key) in pairs {
        findings.extend(key_file(key));
        match read(certificate, key) {
            Err(why) => findings.push(Finding::failure(
                "tls.files",
                format!("the certificate {} can't be served: {why}", certificate.display()),
                "put a certificate with those of its issuers and its own key there: a server that has the one before goes on with it, \
                 and doesn't start again",
            )),
            Ok(seen) => {
                let names = seen.facts.names.join(", ");
                let what = format!("the certificate {}", certificate.display());
                let found = format!("{what} and its key are a pair, for {names}");
                findings.push(Finding::ok("tls.files", found));
                findings.push(expiry(&what, &seen.facts));
                findings.push(trust(&what, &seen));
                on_disk.push(seen);
            }
        }
    }
    findings.extend(served(&on_disk, domains, address));
    findings
}

fn read(certificate: &Path, key: &Path) -> Result<Seen, String> {
    let read = |file: &Path| {
        read_pem(file).map_err(|error| format!("reading {}: {error}", file.display()))
    };
    let pair = Certificate::from_pem(&read(certificate)?, &read(key)?);
    let Certificate { key, facts } = pair.map_err(|error| error.to_string())?;
    let chain = key.cert.clone();
    Ok(Seen { chain, facts })
}

/// Returns nothing for a file that can't be looked at, which reading the pair reports.
fn key_file(key: &Path) -> Option<Finding> {
    let check = "tls.key_file";
    let mode = fs::metadata(key).ok()?.permissions().mode() & 0o777;
    let found = format!("the key {} has the mode {mode:o}", key.display());
    if mode & 0o007 == 0 {
        return Some(Finding::ok(check, found));
    }
    let advice = format!(
        "chmod o= {}: every user of this machine can read the key, and then pretend to be this server",
        key.display()
    );
    Some(Finding::warning(check, found, advice))
}

fn expiry(what: &str, facts: &Facts) -> Finding {
    let check = "tls.expiry";
    let left = days_left(facts.not_after);
    let found = format!("{what} is valid for {left:.1} more days");
    let advice = "find out why what renews it has not done so, and whether it writes the files that tls.certificate and tls.key name";
    if left <= 0.0 {
        return Finding::failure(check, format!("{what} has expired"), advice);
    }
    if days_left(facts.not_before) > 0.0 {
        let found = format!("{what} is not valid yet");
        let advice = "set this machine's clock, or wait: clients refuse the certificate until then";
        return Finding::failure(check, found, advice);
    }
    if expires_soon(facts) {
        return Finding::warning(check, found, advice);
    }
    Finding::ok(check, found)
}

/// Verifies a certificate for its first name as a client on this machine would. Whether it is valid now is another
/// finding.
fn trust(what: &str, seen: &Seen) -> Finding {
    let check = "tls.chain";
    let verified = Verifier::new(provider()).and_then(|verifier| {
        let (leaf, issuers) = seen
            .chain
            .split_first()
            .ok_or(Error::NoCertificatesPresented)?;
        let name = seen
            .name()
            .ok_or_else(|| Error::General("it is for no name".into()))?;
        let valid = u64::try_from(seen.facts.not_after - 1).unwrap_or_default();
        let valid = UnixTime::since_unix_epoch(Duration::from_secs(valid));
        verifier.verify_server_cert(leaf, issuers, &name, &[], valid)
    });
    match verified {
        Ok(_) => Finding::ok(
            check,
            format!("clients that trust what this machine trusts accept {what}"),
        ),
        Err(error) => Finding::warning(
            check,
            format!("clients that trust what this machine trusts refuse {what}: {error}"),
            "if a public authority has issued it, the certificates of its issuers are missing: use the file with the whole chain \
             (fullchain.pem); an authority of your own must be known to all clients",
        ),
    }
}

/// Compares what the server shows with what it should.
fn served(on_disk: &[Seen], domains: &[String], address: SocketAddr) -> Vec<Finding> {
    let check = "tls.served";
    let mut findings = Vec::new();
    let names = on_disk.iter().filter_map(|seen| seen.facts.names.first());
    for name in names.chain(domains) {
        let Some(server_name) = server_name(name) else {
            continue;
        };
        let shown = match shown_certificate(address, server_name) {
            Ok(shown) => shown,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                findings.push(Finding::warning(
                    check,
                    format!("no server answers at {address}: {error}"),
                    "start it, or give doctor the configuration that the server has (--config, --set tls.listen)",
                ));
                break;
            }
            Err(error) => {
                findings.push(Finding::failure(
                    check,
                    format!("a TLS handshake with {address} for {name}: {error}"),
                    "look at the server's log; until an ACME server has issued the first certificate, all handshakes fail",
                ));
                continue;
            }
        };
        let what = format!("the certificate that {address} shows for {name}");
        if domains.contains(name) {
            findings.push(expiry(&what, &shown.facts));
            findings.push(trust(&what, &shown));
            continue;
        }
        let serial = &shown.facts.serial;
        findings.push(if on_disk.iter().any(|seen| seen.facts.serial == *serial) {
            Finding::ok(check, format!("{what} is that of the files"))
        } else {
            Finding::failure(
                check,
                format!("{what} isn't that of the files: it has the serial number {serial}"),
                "look in the server's log for \"a certificate was not replaced\", and whether another program has the port",
            )
        });
    }
    findings
}

fn server_name(name: &str) -> Option<ServerName<'static>> {
    let name = match name.strip_prefix("*.") {
        Some(parent) => format!("{ANY_LABEL}.{parent}"),
        None => name.to_owned(),
    };
    ServerName::try_from(name).ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Returns the certificate that a server shows to clients that ask for a name, whether they would trust it or not.
fn shown_certificate(address: SocketAddr, name: ServerName<'static>) -> io::Result<Seen> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let chain = connection.peer_certificates().unwrap_or_default().to_vec();
    let leaf = chain.first().ok_or(ErrorKind::InvalidData)?;
    let facts = Facts::read(leaf).map_err(io::Error::other)?;
    connection.send_close_notify();
    // Only a courtesy: all that is asked for has come.
    let _ = connection.complete_io(&mut stream);
    Ok(Seen { chain, facts })
}

/// Takes every certificate, because a doctor looks at those that nobody trusts too. Nothing is sent to the server.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;
    use crate::tls::testing::{Authority, Issued};

    /// Writes a pair, and returns what is found about it and the most serious of it by check.
    fn found(issued: &Issued, key: &str) -> Vec<(&'static str, Severity)> {
        let folder = tempfile::tempdir().expect("a folder");
        let files = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
        fs::write(&files[0], issued.chain()).expect("a file");
        fs::write(&files[1], key).expect("a file");
        fs::set_permissions(&files[1], fs::Permissions::from_mode(0o600)).expect("a mode");
        let [certificate, key] = files;
        // Port 1 is one at which nobody listens.
        let findings = look(&[(certificate, key)], &[], ([127, 0, 0, 1], 1).into());
        findings
            .iter()
            .map(|finding| (finding.check, finding.severity))
            .collect()
    }

    #[test]
    fn a_pair_of_an_own_authority_is_fine_but_for_clients_that_do_not_know_it() {
        let issued = Authority::new("Test CA").issue(&["example.com"]);
        assert_eq!(
            found(&issued, &issued.key()),
            [
                ("tls.key_file", Severity::Ok),
                ("tls.files", Severity::Ok),
                ("tls.expiry", Severity::Ok),
                ("tls.chain", Severity::Warning),
                ("tls.served", Severity::Warning),
            ]
        );
    }

    #[test]
    fn a_key_of_another_pair_and_an_expired_certificate_are_failures() {
        let authority = Authority::new("Test CA");
        let [issued, other] = [(); 2].map(|()| authority.issue(&["example.com"]));
        assert!(found(&issued, &other.key()).contains(&("tls.files", Severity::Failure)));
        let expired = authority.issue_until(&["example.com"], 2020);
        let found = found(&expired, &expired.key());
        assert!(
            found.contains(&("tls.expiry", Severity::Failure)),
            "{found:?}"
        );
    }

    #[test]
    fn a_key_that_every_user_can_read_is_a_warning() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (mode, severity) in [
            (0o600, Severity::Ok),
            (0o640, Severity::Ok),
            (0o644, Severity::Warning),
        ] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("a mode");
            let finding = key_file(file.path()).expect("a file");
            assert_eq!(finding.severity, severity, "{mode:o}");
        }
        assert_eq!(key_file(Path::new("/nowhere/tls.key")), None);
    }

    #[test]
    fn an_asterisk_is_asked_for_with_a_label_in_its_place() {
        let name = server_name("*.example.com").expect("a name");
        assert_eq!(name.to_str(), "fanfare-doctor.example.com");
        assert!(server_name("not a name").is_none());
    }
}
