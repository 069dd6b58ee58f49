//! Certificates for tests.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};

/// A certificate authority of a test.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate that an [`Authority`] has issued.
pub(crate) struct Issued {
    leaf: String,
    authority: String,
    key: String,
}

/// Returns bytes as PEM.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params(&[], name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Returns the authority's own certificate as PEM.
    pub(crate) fn certificate(&self) -> String {
        pem("CERTIFICATE", self.0.der())
    }

    /// Issues a certificate for some names that is valid for a very long time.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |_| {})
    }

    /// Issues a certificate that expires in a year.
    pub(crate) fn issue_until(&self, names: &[&str], year: i32) -> Issued {
        self.issue_with(names, |params| {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
        })
    }

    fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = params(names, "server");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.0).expect("a certificate");
        Issued {
            leaf: pem("CERTIFICATE", leaf.der()),
            authority: self.certificate(),
            key: pem("PRIVATE KEY", &key.serialize_der()),
        }
    }
}

impl Issued {
    pub(crate) fn leaf(&self) -> String {
        self.leaf.clone()
    }

    /// Returns the certificate and its issuer's.
    pub(crate) fn chain(&self) -> String {
        format!("{}{}", self.leaf, self.authority)
    }

    pub(crate) fn key(&self) -> String {
        self.key.clone()
    }
}
