//! The conditions of TLS certificates.

use super::conditions::Condition;
use super::kind::AlertKind;
use crate::tls::{Certificates, FailedOrders, Origin, Served, days_left, expires_soon};

/// Failed orders of a certificate that are no cause for alarm. The next attempt is after a minute, and the one after that
/// a quarter of an hour later.
const FAILED_ORDERS: i64 = 1;

/// What a node knows of its certificates.
#[derive(Debug, Default)]
pub(crate) struct CertificateReadings {
    served: Vec<Served>,
    failed_orders: Vec<FailedOrders>,
}

impl CertificateReadings {
    pub(crate) fn take(certificates: &Certificates) -> Self {
        Self {
            served: certificates.served(),
            failed_orders: certificates.failed_orders(),
        }
    }
}

pub(super) fn certificates(node: &str, readings: &CertificateReadings) -> Vec<Condition> {
    let served = readings.served.iter();
    let refused = readings.served.iter();
    let orders = readings.failed_orders.iter();
    let expiring = served.filter_map(expiring);
    let refused = refused.filter_map(|served| self::refused(node, served));
    expiring
        .chain(refused)
        .chain(orders.filter_map(order_failing))
        .collect()
}

fn condition(kind: AlertKind, subject: String, summary: String) -> Condition {
    Condition {
        kind,
        subject,
        app_id: None,
        summary,
    }
}

/// All nodes that serve it see this, and the alert is one.
fn expiring(served: &Served) -> Option<Condition> {
    let certificate = &served.certificate;
    if !expires_soon(&certificate.facts) {
        return None;
    }
    let names = certificate.facts.names.join(", ");
    let source = match &served.origin {
        Origin::Files { certificate, .. } => format!("the file {}", certificate.display()),
        Origin::Managed => "the ACME server".into(),
    };
    let left = days_left(certificate.facts.not_after);
    let summary = if left < 0.0 {
        format!("the certificate for {names} from {source} has expired")
    } else {
        format!("the certificate for {names} from {source} expires in {left:.1} days")
    };
    Some(condition(AlertKind::CertificateExpiresSoon, names, summary))
}

/// Files are a node's own.
fn refused(node: &str, served: &Served) -> Option<Condition> {
    let why = served.refused.as_ref()?;
    let names = served.certificate.facts.names.join(", ");
    let summary = format!("node {node} does not serve the new certificate for {names}: {why}");
    let subject = format!("{node} {names}");
    Some(condition(AlertKind::CertificateRefused, subject, summary))
}

/// All nodes see this, and the alert is one.
fn order_failing(failed: &FailedOrders) -> Option<Condition> {
    let FailedOrders {
        names,
        count,
        error,
    } = failed;
    (*count > FAILED_ORDERS).then(|| {
        let names = names.join(", ");
        let summary = format!("{count} orders of the certificate for {names} have failed: {error}");
        condition(AlertKind::CertificateOrderFailing, names, summary)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::unix_seconds;
    use crate::tls::Certificate;
    use crate::tls::testing::Authority;

    const DAY: i64 = 24 * 60 * 60;

    fn served(days_left: i64, refused: Option<&str>) -> Served {
        let issued = Authority::new("Test CA").issue(&["example.com", "example.org"]);
        let read = Certificate::from_pem(issued.chain().as_bytes(), issued.key().as_bytes());
        let now = i64::try_from(unix_seconds()).expect("a time");
        let mut certificate = read.expect("a pair");
        certificate.facts.not_after = now + days_left * DAY + DAY / 4;
        certificate.facts.not_before = certificate.facts.not_after - 90 * DAY;
        Served {
            origin: Origin::Files {
                certificate: "/etc/tls.crt".into(),
                key: "/etc/tls.key".into(),
            },
            certificate: Arc::new(certificate),
            refused: refused.map(str::to_owned),
        }
    }

    fn found(readings: &CertificateReadings) -> Vec<(&'static str, String, String)> {
        let found = certificates("a:6001", readings).into_iter();
        found
            .map(|it| (it.kind.as_str(), it.subject, it.summary))
            .collect()
    }

    fn of(served: Served) -> CertificateReadings {
        CertificateReadings {
            served: vec![served],
            failed_orders: Vec::new(),
        }
    }

    #[test]
    fn a_certificate_is_told_of_when_it_should_have_been_replaced() {
        assert_eq!(found(&of(served(20, None))), []);
        let names = "example.com, example.org";
        for (days_left, words) in [
            (13, "expires in 13.2 days"),
            (0, "expires in 0.2 days"),
            (-3, "has expired"),
        ] {
            let summary = format!("the certificate for {names} from the file /etc/tls.crt {words}");
            assert_eq!(
                found(&of(served(days_left, None))),
                [("certificate_expires_soon", names.into(), summary)]
            );
        }
    }

    #[test]
    fn files_that_cannot_be_served_are_told_of_with_their_node() {
        let names = "example.com, example.org";
        let summary = format!("node a:6001 does not serve the new certificate for {names}: why");
        assert_eq!(
            found(&of(served(60, Some("why")))),
            [("certificate_refused", format!("a:6001 {names}"), summary)]
        );
    }

    #[test]
    fn orders_that_fail_again_are_told_of() {
        let failed = |count| CertificateReadings {
            served: Vec::new(),
            failed_orders: vec![FailedOrders {
                names: vec!["example.com".into()],
                count,
                error: "why".into(),
            }],
        };
        assert_eq!(found(&failed(1)), []);
        let summary = "2 orders of the certificate for example.com have failed: why";
        assert_eq!(
            found(&failed(2)),
            [(
                "certificate_order_failing",
                "example.com".into(),
                summary.into()
            )]
        );
    }
}
