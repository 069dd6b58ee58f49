//! All certificates that are served, and which one a client gets. A handshake takes no lock.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::ACME_PROTOCOL;
use super::certificate::Certificate;

/// The certificates of a node. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Certificates(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    table: ArcSwap<Table>,
    challenges: ArcSwap<HashMap<String, Arc<CertifiedKey>>>,
    sources: Mutex<Sources>,
}

/// Where certificates come from. Those of files come first.
#[derive(Debug, Default)]
struct Sources {
    files: Vec<Served>,
    managed: BTreeMap<Vec<String>, Served>,
    failed_orders: BTreeMap<Vec<String>, FailedOrders>,
}

/// The orders of a certificate that failed since the last one that didn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedOrders {
    pub(crate) names: Vec<String>,
    pub(crate) count: i64,
    /// Why the last one failed.
    pub(crate) error: String,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Files that the configuration names.
    Files { certificate: PathBuf, key: PathBuf },
    /// This installation has ordered it.
    Managed,
}

/// A certificate that is served.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) origin: Origin,
    pub(crate) certificate: Arc<Certificate>,
    /// Why what its files hold now isn't served instead, if it isn't.
    pub(crate) refused: Option<String>,
}

/// The certificates by name. Of several for one name, a client gets the first whose key it can verify.
#[derive(Debug, Default)]
struct Table {
    /// By the whole name.
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By the name without its first label.
    wildcards: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// All, for clients that ask for no name or for an unknown one.
    all: Vec<Arc<CertifiedKey>>,
}

impl Table {
    fn new<'a>(served: impl Iterator<Item = &'a Served>) -> Self {
        let mut table = Self::default();
        for served in served {
            let certificate = &served.certificate;
            for name in &certificate.facts.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut table.wildcards, parent),
                    None => (&mut table.exact, &**name),
                };
                let keys = names.entry(name.to_owned()).or_default();
                keys.push(Arc::clone(&certificate.key));
            }
            table.all.push(Arc::clone(&certificate.key));
        }
        table
    }

    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let keys = name.map_or(&self.all, |name| self.named(name));
        let verifiable = keys
            .iter()
            .find(|key| key.key.choose_scheme(schemes).is_some());
        // Without one, the handshake fails with an alert that says why.
        verifiable.or(keys.first()).cloned()
    }

    fn named(&self, name: &str) -> &Vec<Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let wildcard = || self.wildcards.get(name.split_once('.')?.1);
        self.exact.get(&name).or_else(wildcard).unwrap_or(&self.all)
    }
}

impl Certificates {
    /// Replaces the certificates of the files. The first one is for clients that ask for no known name.
    pub(super) fn set_files(&self, files: Vec<Served>) {
        let mut sources = self.0.sources.lock();
        sources.files = files;
        self.publish(&sources);
    }

    /// Serves a certificate that this installation has ordered for `names`, instead of the one before it. Open
    /// connections go on.
    pub(super) fn set_managed(&self, names: &[String], certificate: Certificate) {
        let served = Served {
            origin: Origin::Managed,
            certificate: Arc::new(certificate),
            refused: None,
        };
        let mut sources = self.0.sources.lock();
        sources.managed.insert(names.to_vec(), served);
        self.publish(&sources);
    }

    /// Returns until when the certificate is valid that was ordered for `names`, Unix time in seconds.
    pub(super) fn managed_until(&self, names: &[String]) -> Option<i64> {
        let sources = self.0.sources.lock();
        Some(sources.managed.get(names)?.certificate.facts.not_after)
    }

    /// Takes note of the orders for `names` that failed since the last one that didn't: none, if the last one didn't.
    pub(super) fn note_failed_orders(&self, names: &[String], count: i64, error: Option<&str>) {
        let mut sources = self.0.sources.lock();
        if count == 0 {
            sources.failed_orders.remove(names);
            return;
        }
        let failed = FailedOrders {
            names: names.to_vec(),
            count,
            error: error.unwrap_or_default().to_owned(),
        };
        sources.failed_orders.insert(names.to_vec(), failed);
    }

    /// Returns the orders that fail.
    pub(crate) fn failed_orders(&self) -> Vec<FailedOrders> {
        let sources = self.0.sources.lock();
        sources.failed_orders.values().cloned().collect()
    }

    /// Serves a certificate to ACME servers that look for a challenge for `name`, until it is cleared.
    pub(super) fn set_challenge(&self, name: &str, key: &Arc<CertifiedKey>) {
        self.change_challenges(|challenges| {
            challenges.insert(name.to_ascii_lowercase(), Arc::clone(key));
        });
    }

    /// Ends [`Self::set_challenge`].
    pub(super) fn clear_challenge(&self, name: &str) {
        self.change_challenges(|challenges| {
            challenges.remove(&name.to_ascii_lowercase());
        });
    }

    fn change_challenges(&self, change: impl Fn(&mut HashMap<String, Arc<CertifiedKey>>)) {
        self.0.challenges.rcu(|challenges| {
            let mut challenges = HashMap::clone(challenges);
            change(&mut challenges);
            challenges
        });
    }

    /// Returns all certificates, those of files first, in the order of the configuration.
    pub(crate) fn served(&self) -> Vec<Served> {
        let sources = self.0.sources.lock();
        sources.all().cloned().collect()
    }

    fn publish(&self, sources: &Sources) {
        self.0.table.store(Arc::new(Table::new(sources.all())));
    }
}

impl Sources {
    fn all(&self) -> impl Iterator<Item = &Served> {
        self.files.iter().chain(self.managed.values())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        let is_challenge = |mut protocols: Box<dyn Iterator<Item = &[u8]> + '_>| {
            protocols.any(|it| it == ACME_PROTOCOL)
        };
        if hello
            .alpn()
            .is_some_and(|protocols| is_challenge(Box::new(protocols)))
        {
            return self
                .0
                .challenges
                .load()
                .get(&name?.to_ascii_lowercase())
                .cloned();
        }
        self.0.table.load().find(name, hello.signature_schemes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Authority;

    fn served(authority: &Authority, names: &[&str]) -> Served {
        let issued = authority.issue(names);
        let read = Certificate::from_pem(issued.chain().as_bytes(), issued.key().as_bytes());
        Served {
            origin: Origin::Managed,
            certificate: Arc::new(read.expect("a pair")),
            refused: None,
        }
    }

    #[test]
    fn a_client_gets_the_certificate_of_its_name_then_of_its_parent_then_the_first() {
        let authority = Authority::new("Test CA");
        let all = [
            served(&authority, &["first.example"]),
            served(&authority, &["*.example.com", "example.com"]),
            served(&authority, &["Own.example.com"]),
        ];
        let table = Table::new(all.iter());
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        for (name, expected) in [
            (Some("own.example.com"), 2),
            (Some("OWN.Example.com"), 2),
            (Some("other.example.com"), 1),
            (Some("example.com"), 1),
            // An asterisk stands for one label.
            (Some("a.b.example.com"), 0),
            (Some("first.example"), 0),
            (Some("unknown.test"), 0),
            (None, 0),
        ] {
            let found = table.find(name, &schemes).expect("a certificate");
            assert!(
                Arc::ptr_eq(&found, &all[expected].certificate.key),
                "{name:?}"
            );
        }
        assert!(Table::default().find(None, &schemes).is_none());
        // A client that can verify none is refused by rustls, with an alert.
        assert!(
            table
                .find(None, &[SignatureScheme::RSA_PSS_SHA256])
                .is_some()
        );
    }

    #[test]
    fn files_come_before_what_was_ordered_and_both_are_listed() {
        let authority = Authority::new("Test CA");
        let certificates = Certificates::default();
        certificates.set_files(vec![served(&authority, &["one.example"])]);
        let names: Vec<_> = certificates
            .served()
            .iter()
            .map(|served| served.certificate.facts.names.clone())
            .collect();
        assert_eq!(names, [["one.example"]]);
    }

    #[test]
    fn orders_fail_until_one_does_not() {
        let certificates = Certificates::default();
        let names = ["example.com".to_owned()];
        certificates.note_failed_orders(&names, 2, Some("why"));
        let failed = FailedOrders {
            names: names.to_vec(),
            count: 2,
            error: "why".into(),
        };
        assert_eq!(certificates.failed_orders(), [failed]);
        certificates.note_failed_orders(&names, 0, Some("why"));
        assert_eq!(certificates.failed_orders(), []);
    }
}
