//! Log lines about certificates that end soon. Whoever renews them has failed to do so by then.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::sleep;

use super::certificate::{Certificate, Facts, shown};
use super::certificates::Certificates;
use crate::clock::unix_seconds;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(60);
/// Days left at which a line is logged.
const THRESHOLDS: [i64; 4] = [1, 7, 14, 30];
const DAY: i64 = 24 * 60 * 60;
/// Days left from which on a certificate should have been replaced.
const SOON: i64 = 14 * DAY;
/// Part of its life that is left then, if that is less. Renewal is due with twice as much left.
const SOON_PART: i64 = 6;

/// Returns the days until a certificate expires, with their fraction. They are negative afterwards.
#[expect(clippy::cast_precision_loss, reason = "days are few")]
pub(crate) fn days_left(not_after: i64) -> f64 {
    (not_after - now()) as f64 / DAY as f64
}

/// Returns whether a certificate should have been replaced by now: less than two weeks are left, or a sixth of its life if
/// that is less. It is `true` afterwards too.
pub(crate) fn expires_soon(facts: &Facts) -> bool {
    expires_soon_at(facts, now())
}

fn expires_soon_at(facts: &Facts, now: i64) -> bool {
    let lifetime = facts.not_after - facts.not_before;
    facts.not_after - now <= SOON.min(lifetime / SOON_PART)
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
            let names = certificate.facts.names.join(", ");
            let not_after = shown(certificate.facts.not_after);
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
            let last = before.get(&certificate.facts.serial);
            if last.is_none_or(|last| left < *last) {
                due.push((*certificate, left));
            }
            self.0.insert(certificate.facts.serial.clone(), left);
        }
        due
    }
}

/// Returns the threshold that a certificate has reached. One that lives for a few days has only the last of them,
/// because its renewal isn't due before.
fn left(certificate: &Certificate, now: i64) -> Option<Left> {
    let left = certificate.facts.not_after - now;
    if left <= 0 {
        return Some(Left::Expired);
    }
    let lifetime = certificate.facts.not_after - certificate.facts.not_before;
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
        let mut certificate = read.expect("a pair");
        certificate.facts.not_before = 0;
        certificate.facts.not_after = lifetime_days * DAY;
        certificate
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
    fn a_certificate_that_should_have_been_replaced_expires_soon() {
        for (lifetime_days, soon) in [(365, 14), (90, 14), (48, 8), (6, 1)] {
            let certificate = certificate(lifetime_days);
            let at =
                |days_left| expires_soon_at(&certificate.facts, (lifetime_days - days_left) * DAY);
            assert!(!at(soon + 1), "{lifetime_days}");
            assert!(at(soon) && at(0) && at(-1), "{lifetime_days}");
        }
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
