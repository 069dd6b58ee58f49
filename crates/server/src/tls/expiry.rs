//! Log lines about certificates that end soon. Whoever renews them has failed to do so by then.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::sleep;

use super::certificate::{Certificate, shown};
use super::certificates::Certificates;
use crate::clock::unix_seconds;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(60);
/// Days left at which a line is logged.
const THRESHOLDS: [i64; 4] = [1, 7, 14, 30];
const DAY: i64 = 24 * 60 * 60;

/// Returns the days until a certificate expires, with their fraction. They are negative afterwards.
#[expect(clippy::cast_precision_loss, reason = "days are few")]
pub(crate) fn days_left(not_after: i64) -> f64 {
    (not_after - now()) as f64 / DAY as f64
}

/// Returns the Unix time in seconds.
pub(super) fn now() -> i64 {
    i64::try_from(unix_seconds()).unwrap_or(i64::MAX)
}

/// Logs certificates that end soon, forever.
pub(crate) async fn warn_of_expiry(certificates: Certificates) {
    let mut logged = Logged::default();
    loop {
        let served = certificates.served();
        let served: Vec<_> = served.iter().map(|served| &*served.certificate).collect();
        for (certificate, left) in logged.due(&served, now()) {
            let names = certificate.names.join(", ");
            let not_after = shown(certificate.not_after);
            match left {
                Left::Expired => tracing::error!(
                    names,
                    not_after,
                    "a certificate has expired, and clients refuse to connect: replace its files (tls.certificate, tls.key)"
                ),
                Left::Days(days) => tracing::warn!(
                    names,
                    not_after,
                    days,
                    "a certificate expires soon: what renews it has not done so yet"
                ),
            }
        }
        sleep(INTERVAL).await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Expired,
    /// At most so many days.
    Days(i64),
}

/// What was logged of each certificate, by its serial number.
#[derive(Debug, Default)]
struct Logged(HashMap<String, Left>);

impl Logged {
    /// Returns the certificates for which a line is due, and forgets those that are gone.
    fn due<'a>(&mut self, served: &[&'a Certificate], now: i64) -> Vec<(&'a Certificate, Left)> {
        let before = std::mem::take(&mut self.0);
        let mut due = Vec::new();
        for certificate in served {
            let Some(left) = left(certificate, now) else {
                continue;
            };
            let last = before.get(&certificate.serial);
            if last.is_none_or(|last| left < *last) {
                due.push((*certificate, left));
            }
            self.0.insert(certificate.serial.clone(), left);
        }
        due
    }
}

/// Returns the threshold that a certificate has reached. One that lives for a few days has only the last of them,
/// because its renewal isn't due before.
fn left(certificate: &Certificate, now: i64) -> Option<Left> {
    let left = certificate.not_after - now;
    if left <= 0 {
        return Some(Left::Expired);
    }
    let lifetime = certificate.not_after - certificate.not_before;
    let reached = THRESHOLDS.into_iter().find(|days| left <= days * DAY)?;
    (reached * DAY <= lifetime / 3 || reached == THRESHOLDS[0]).then_some(Left::Days(reached))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Authority;

    fn certificate(lifetime_days: i64) -> Certificate {
        let issued = Authority::new("Test CA").issue(&["example.com"]);
        let read = Certificate::from_pem(issued.chain().as_bytes(), issued.key().as_bytes());
        Certificate {
            not_before: 0,
            not_after: lifetime_days * DAY,
            ..read.expect("a pair")
        }
    }

    fn days_of_lines(lifetime_days: i64) -> Vec<(i64, Left)> {
        let certificate = certificate(lifetime_days);
        let mut logged = Logged::default();
        let mut lines = Vec::new();
        for hour in 0..(lifetime_days + 3) * 24 {
            for (_, left) in logged.due(&[&certificate], hour * DAY / 24) {
                lines.push((lifetime_days - hour / 24, left));
            }
        }
        lines
    }

    #[test]
    fn a_line_is_logged_once_at_each_threshold_that_the_lifetime_allows() {
        use Left::{Days, Expired};
        let last = [(1, Days(1)), (0, Expired)];
        assert_eq!(
            days_of_lines(90),
            [&[(30, Days(30)), (14, Days(14)), (7, Days(7))][..], &last].concat()
        );
        assert_eq!(
            days_of_lines(45),
            [&[(14, Days(14)), (7, Days(7))][..], &last].concat()
        );
        assert_eq!(days_of_lines(6), last);
    }

    #[test]
    fn a_renewed_certificate_has_lines_of_its_own() {
        let (old, new) = (certificate(90), certificate(90));
        let mut logged = Logged::default();
        let late = 89 * DAY + 1;
        assert_eq!(logged.due(&[&old], late).len(), 1);
        assert_eq!(logged.due(&[&old], late).len(), 0);
        assert_eq!(logged.due(&[&new], late).len(), 1);
        assert_eq!(logged.0.len(), 1);
    }
}
