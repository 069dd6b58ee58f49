//! A certificate with its key, checked before it is served.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A certificate that may be served.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) facts: Facts,
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The names that it is for, in lower case, with their asterisks.
    pub(crate) names: Vec<String>,
    /// From when it is valid, Unix time in seconds.
    pub(crate) not_before: i64,
    /// Until when it is valid, Unix time in seconds.
    pub(crate) not_after: i64,
    /// Its serial number in hexadecimal.
    pub(crate) serial: String,
}

impl Facts {
    /// Reads what a certificate says.
    ///
    /// # Errors
    ///
    /// Returns [`CertificateError::Certificate`] if the bytes are none.
    pub(crate) fn read(der: &CertificateDer<'static>) -> Result<Self, CertificateError> {
        Ok(Self::of(&parse(1, der)?))
    }

    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            names: names(certificate),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            serial: hex::encode(certificate.raw_serial()),
        }
    }
}

/// Why a certificate can't be served. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error(
        "there is no certificate in the file: it must be PEM, with -----BEGIN CERTIFICATE-----"
    )]
    NoCertificate,
    #[error("the certificate's file cannot be read as PEM: {0}")]
    Pem(rustls::pki_types::pem::Error),
    #[error("certificate {0} of the file cannot be read: {1}")]
    Certificate(usize, String),
    #[error(
        "the key is encrypted with a passphrase: write it without one (openssl pkey -in KEY -out NEW_KEY), readable by the \
         server's user alone"
    )]
    EncryptedKey,
    #[error(
        "there is no private key in the key's file: it must be PEM, with -----BEGIN PRIVATE KEY-----"
    )]
    NoKey,
    #[error(
        "the key cannot be used: {0}; keys may be RSA (2048 bits or more), ECDSA (P-256, P-384 or P-521) or Ed25519"
    )]
    Key(rustls::Error),
    #[error(
        "the key does not belong to the certificate: they are of two pairs, or one of the files is not written yet"
    )]
    KeyMismatch,
    #[error(
        "the certificates are in the wrong order: the key belongs to number {0}, which must come first, followed by those of \
         its issuers"
    )]
    WrongOrder(usize),
    #[error(
        "certificate {number} of the file is not the issuer of number {}: it is of {subject:?}, and {issuer:?} is needed; put \
         the server's certificate first, followed by those of its issuers",
        number - 1
    )]
    BrokenChain {
        number: usize,
        subject: String,
        issuer: String,
    },
    #[error(
        "the certificate is for no name: it has no subjectAltName with a DNS name or an address"
    )]
    NoNames,
}

impl Certificate {
    /// Reads a certificate with those of its issuers, and its key.
    ///
    /// # Errors
    ///
    /// Returns why it can't be served. A certificate that isn't valid now can be.
    pub(crate) fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(CertificateError::Pem)?;
        if chain.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            if memchr::memmem::find(key, b"ENCRYPTED").is_some() {
                CertificateError::EncryptedKey
            } else {
                CertificateError::NoKey
            }
        })?;
        let provider = aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(key);
        let key = key.map_err(CertificateError::Key)?;
        Self::new(CertifiedKey::new(chain, key))
    }

    /// Checks a certificate.
    ///
    /// # Errors
    ///
    /// Returns why it can't be served. A certificate that isn't valid now can be.
    pub(crate) fn new(key: CertifiedKey) -> Result<Self, CertificateError> {
        let parsed: Vec<_> = key
            .cert
            .iter()
            .enumerate()
            .map(|(at, der)| parse(at + 1, der))
            .collect::<Result<_, _>>()?;
        let leaf = parsed.first().ok_or(CertificateError::NoCertificate)?;
        if key.keys_match().is_err() {
            let belongs = |der: &CertificateDer<'static>| {
                let alone = CertifiedKey::new(vec![der.clone()], Arc::clone(&key.key));
                alone.keys_match().is_ok()
            };
            return Err(match key.cert.iter().position(belongs) {
                Some(at) => CertificateError::WrongOrder(at + 1),
                None => CertificateError::KeyMismatch,
            });
        }
        for (at, pair) in parsed.windows(2).enumerate() {
            let (issuer, subject) = (pair[0].issuer(), pair[1].subject());
            if issuer.as_raw() != subject.as_raw() {
                return Err(CertificateError::BrokenChain {
                    number: at + 2,
                    subject: subject.to_string(),
                    issuer: issuer.to_string(),
                });
            }
        }
        let facts = Facts::of(leaf);
        if facts.names.is_empty() {
            return Err(CertificateError::NoNames);
        }
        Ok(Self {
            facts,
            key: Arc::new(key),
        })
    }

    /// Returns why the certificate isn't valid at a moment, if it isn't.
    pub(crate) fn invalid_at(&self, now: i64) -> Option<String> {
        if now >= self.facts.not_after {
            return Some(format!("it expired at {}", shown(self.facts.not_after)));
        }
        let is_early = now < self.facts.not_before;
        is_early.then(|| {
            format!(
                "it is valid from {} on, if the clock of this machine is right",
                shown(self.facts.not_before)
            )
        })
    }
}

/// Returns a time as people read it.
pub(crate) fn shown(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn parse<'a>(
    number: usize,
    der: &'a CertificateDer<'static>,
) -> Result<X509Certificate<'a>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(CertificateError::Certificate(number, error.to_string())),
    }
}

/// Returns the names that clients compare with the one they connect to.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name();
    let Ok(Some(alternative)) = alternative else {
        return Vec::new();
    };
    let names = alternative.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        })
        .collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Authority, pem};

    #[test]
    fn a_certificate_has_names_and_a_time() {
        let authority = Authority::new("Test CA");
        let issued = authority.issue(&["Example.com", "*.example.com", "192.0.2.7"]);
        let read = Certificate::from_pem(issued.chain().as_bytes(), issued.key().as_bytes());
        let read = read.expect("a pair");
        assert_eq!(
            read.facts.names,
            ["example.com", "*.example.com", "192.0.2.7"]
        );
        assert!(read.facts.not_before < read.facts.not_after);
        assert_eq!(read.invalid_at(read.facts.not_before), None);
        let late = read.invalid_at(read.facts.not_after).expect("expired");
        assert!(late.contains("expired at 4096-01-01"), "{late}");
        assert!(read.invalid_at(read.facts.not_before - 1).is_some());
    }

    #[test]
    fn what_is_wrong_with_a_pair_is_said() {
        let authority = Authority::new("Test CA");
        let [one, other] = [(); 2].map(|()| authority.issue(&["example.com"]));
        let foreign = Authority::new("Another CA");
        let error = |chain: &str, key: &str| {
            Certificate::from_pem(chain.as_bytes(), key.as_bytes())
                .expect_err("refused")
                .to_string()
        };
        let (leaf, ca) = (one.leaf(), authority.certificate());
        for (chain, key, words) in [
            (String::new(), one.key(), "no certificate in the file"),
            (one.key(), one.key(), "no certificate in the file"),
            (one.chain(), String::new(), "no private key"),
            (one.chain(), one.chain(), "no private key"),
            (
                one.chain(),
                pem("ENCRYPTED PRIVATE KEY", b"x"),
                "passphrase",
            ),
            (one.chain(), pem("PRIVATE KEY", b"x"), "cannot be used"),
            (one.chain(), other.key(), "of two pairs"),
            (format!("{ca}{leaf}"), one.key(), "belongs to number 2"),
            (
                format!("{leaf}{}", foreign.certificate()),
                one.key(),
                "certificate 2 of the file is not the issuer of number 1: it is of \"CN=Another CA\", and \"CN=Test CA\"",
            ),
            (
                pem("CERTIFICATE", b"x"),
                one.key(),
                "certificate 1 of the file cannot be read",
            ),
        ] {
            let message = error(&chain, &key);
            assert!(message.contains(words), "{message}");
        }
        let nameless = authority.issue(&[]);
        assert!(error(&nameless.chain(), &nameless.key()).contains("no subjectAltName"));
    }
}
