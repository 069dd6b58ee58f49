//! When to order a certificate: in the window that the ACME server suggests (RFC 9773), otherwise after two thirds of its
//! life, which also suits certificates of six days; and when again after a failure.

use std::time::Duration;

use fanfare_store::AcmeCertificate;
use instant_acme::{Account, CertificateIdentifier, Error, RenewalInfo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::clock::unix_millis as now;
use crate::tls::certificate::Certificate;
use secrecy::ExposeSecret;

/// How often the server is asked when to renew, at least.
pub(super) const LOOK: Duration = Duration::from_secs(6 * 3600);
/// How often at most.
const LOOK_MIN: Duration = Duration::from_secs(60);
/// First pause after a failure.
const PAUSE: Duration = Duration::from_secs(60);
/// Longest pause. Let's Encrypt takes five failed validations an hour and five equal certificates a week.
const MAX_PAUSE: Duration = Duration::from_secs(12 * 3600);
/// Pause at least after a server that counts has refused.
const RATE_LIMITED: Duration = Duration::from_secs(3600);
/// Longest pause while the certificate has less than [`URGENT_LEFT`] left.
const URGENT_PAUSE: Duration = Duration::from_secs(3600);
const URGENT_LEFT: Duration = Duration::from_secs(2 * 24 * 3600);

/// Returns what to replace if it is time to renew, and otherwise when to look again, Unix time in milliseconds. Errors are
/// in words.
pub(super) async fn renewal(
    account: &Account,
    present: &AcmeCertificate,
) -> Result<Result<Option<CertificateIdentifier<'static>>, i64>, String> {
    let key = present.private_key.expose_secret();
    let Ok(certificate) = Certificate::from_pem(present.chain.as_bytes(), key.as_bytes()) else {
        // What can't be served is replaced.
        return Ok(Ok(None));
    };
    let der = CertificateDer::from_pem_slice(present.chain.as_bytes());
    let der = der.map_err(|error| error.to_string())?;
    let at_latest = two_thirds(
        certificate.facts.not_before,
        certificate.facts.not_after,
        0.5,
    );
    let Ok(id) = CertificateIdentifier::try_from(&der) else {
        return Ok(after(at_latest, LOOK, None));
    };
    let id = id.into_owned();
    Ok(match account.renewal_info(&id).await {
        Ok((info, look)) => after(within(&info, rand::random()), look, Some(id)),
        Err(Error::Unsupported(_)) => after(at_latest, LOOK, None),
        Err(error) => {
            tracing::debug!(%error, "the ACME server does not say when to renew");
            after(at_latest, LOOK, None)
        }
    })
}

/// Returns `replaced` if `due_at` has come, and otherwise when to look again.
fn after<T>(due_at: i64, look: Duration, replaced: Option<T>) -> Result<Option<T>, i64> {
    let now = now();
    if due_at <= now {
        return Ok(replaced);
    }
    let look = look.clamp(LOOK_MIN, LOOK).as_millis() as i64;
    Err(due_at.min(now + look))
}

/// Returns a moment in the suggested window, Unix time in milliseconds. `random` is from 0 to 1.
fn within(info: &RenewalInfo, random: f64) -> i64 {
    let window = &info.suggested_window;
    let (start, end) = (window.start.unix_timestamp(), window.end.unix_timestamp());
    let length = end.saturating_sub(start).max(0) as f64;
    (start + (length * random) as i64).saturating_mul(1000)
}

/// Returns when two thirds of a certificate's life are over, Unix time in milliseconds, up to two hundredths of the life
/// earlier or later, so that not all certificates of a day are renewed in the same minute. Its bounds are Unix times in
/// seconds, `random` is from 0 to 1.
pub(super) fn two_thirds(not_before: i64, not_after: i64, random: f64) -> i64 {
    let life = not_after.saturating_sub(not_before) as f64;
    let share = 2.0 / 3.0 + (random - 0.5) * 0.04;
    (not_before + (life * share) as i64).saturating_mul(1000)
}

/// Returns how long to wait after a failure, with `failures` before it. `left` is the life that the served certificate has
/// left, if there is one; `random` is from 0 to 1.
pub(super) fn back_off(
    failures: i64,
    error: &str,
    left: Option<Duration>,
    random: f64,
) -> Duration {
    // A minute, a quarter of an hour, then twice as long each time.
    let pause = match failures {
        ..=0 => PAUSE,
        failures => PAUSE * 15 * (1 << (failures - 1).min(10)),
    };
    let is_urgent = left.is_some_and(|left| left < URGENT_LEFT);
    let longest = if is_urgent { URGENT_PAUSE } else { MAX_PAUSE };
    let pause = pause.min(longest);
    let pause = if error.contains("rateLimited") {
        pause.max(RATE_LIMITED)
    } else {
        pause
    };
    pause.mul_f64(1.0 + random * 0.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    #[test]
    fn certificates_are_renewed_after_two_thirds_of_their_life() {
        for days in [6, 45, 90] {
            let due = |random| two_thirds(0, days * DAY, random) / 1000;
            let (early, middle, late) = (due(0.0), due(0.5), due(1.0));
            assert_eq!(middle, days * DAY * 2 / 3);
            assert!(early < middle && middle < late);
            assert!(late < days * DAY * 7 / 10, "{days} days");
        }
    }

    #[test]
    fn a_time_to_come_is_looked_at_again() {
        assert_eq!(after(now() - 1, LOOK, Some(1)), Ok(Some(1)));
        let due = now() + 60_000;
        assert_eq!(after(due, LOOK, Some(1)), Err(due));
        let again = after::<()>(i64::MAX, Duration::ZERO, None).expect_err("later");
        assert!((59_000..=61_000).contains(&(again - now())), "{again}");
    }

    #[test]
    fn pauses_grow_and_respect_what_the_server_counts() {
        let pause = |failures, error, days: Option<u64>| {
            let left = days.map(|days| Duration::from_secs(days * DAY as u64));
            back_off(failures, error, left, 0.0).as_secs()
        };
        let growing: Vec<_> = (0..8).map(|failures| pause(failures, "", None)).collect();
        assert_eq!(growing, [60, 900, 1800, 3600, 7200, 14_400, 28_800, 43_200]);
        assert_eq!(pause(i64::MAX, "", Some(20)), 43_200);
        assert_eq!(pause(9, "", Some(1)), 3600);
        let limited = "urn:ietf:params:acme:error:rateLimited";
        assert_eq!(pause(0, limited, None), 3600);
        assert_eq!(back_off(0, "", None, 1.0).as_secs(), 72);
    }
}
