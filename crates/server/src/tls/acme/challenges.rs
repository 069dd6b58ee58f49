//! What this node answers when an ACME server looks whether it serves a name: over HTTP (RFC 8555 section 8.3) and in
//! TLS handshakes (RFC 8737). The handshakes' certificates are part of the [`Certificates`].

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fanfare_store::AcmeChallenge;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use crate::tls::Certificates;

/// The challenges that this node answers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct AcmeChallenges {
    /// By token.
    answered: Arc<ArcSwap<HashMap<String, AcmeChallenge>>>,
    certificates: Certificates,
}

impl AcmeChallenges {
    /// Creates a table of which those for handshakes go into `certificates`.
    pub(crate) fn new(certificates: Certificates) -> Self {
        Self {
            answered: Arc::default(),
            certificates,
        }
    }

    /// Returns the answer to a challenge over HTTP.
    pub(crate) fn answer(&self, token: &str) -> Option<String> {
        let answered = self.answered.load();
        Some(answered.get(token)?.key_authorization.clone())
    }

    /// Answers `challenges` and no others.
    pub(super) fn follow(&self, challenges: &[AcmeChallenge]) {
        let before = self.answered.load_full();
        let is_same = before.len() == challenges.len()
            && challenges
                .iter()
                .all(|one| before.get(&one.token) == Some(one));
        if is_same {
            return;
        }
        let gone = before.values().filter(|one| !challenges.contains(one));
        for challenge in gone {
            self.certificates.clear_challenge(&challenge.name);
        }
        self.answered.store(Arc::default());
        self.add(challenges);
    }

    /// Answers `challenges` too.
    pub(super) fn add(&self, challenges: &[AcmeChallenge]) {
        let mut answered = HashMap::clone(&self.answered.load());
        for challenge in challenges {
            match certificate(challenge) {
                Ok(key) => self
                    .certificates
                    .set_challenge(&challenge.name, &Arc::new(key)),
                Err(error) => {
                    tracing::error!(name = challenge.name, %error, "a challenge cannot be answered in handshakes");
                }
            }
            answered.insert(challenge.token.clone(), challenge.clone());
        }
        self.answered.store(Arc::new(answered));
    }
}

/// Returns the certificate that proves to an ACME server that this node serves a name.
fn certificate(challenge: &AcmeChallenge) -> anyhow::Result<CertifiedKey> {
    let digest = Sha256::digest(&challenge.key_authorization);
    let mut params = CertificateParams::new(vec![challenge.name.clone()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let key = aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(key)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(token: &str) -> AcmeChallenge {
        AcmeChallenge {
            token: token.into(),
            name: "example.com".into(),
            key_authorization: format!("{token}.thumbprint"),
        }
    }

    #[test]
    fn a_node_answers_what_the_store_holds() {
        let challenges = AcmeChallenges::default();
        challenges.follow(&[challenge("one")]);
        assert_eq!(challenges.answer("one").as_deref(), Some("one.thumbprint"));
        assert_eq!(challenges.answer("two"), None);
        challenges.add(&[challenge("two")]);
        assert!(challenges.answer("one").is_some() && challenges.answer("two").is_some());
        challenges.follow(&[challenge("two")]);
        assert!(challenges.answer("one").is_none() && challenges.answer("two").is_some());
        challenges.follow(&[]);
        assert_eq!(challenges.answer("two"), None);
    }

    #[test]
    fn a_handshake_proves_a_name_with_the_digest_of_the_answer() {
        let key = certificate(&challenge("one")).expect("a certificate");
        let digest = Sha256::digest("one.thumbprint");
        let der = &key.cert[0];
        assert!(memchr::memmem::find(der, &digest).is_some());
        assert!(memchr::memmem::find(der, b"example.com").is_some());
    }
}
