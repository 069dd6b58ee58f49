//! Counts, for each browser, the requests that hang until there is something for their client: those of the HTTP
//! fallbacks, and polls of Socket.IO.
//!
//! A browser opens six HTTP/1.1 connections to a host, shared by all its tabs. Each tab that asks over HTTP holds one
//! with the request that waits. The seventh tab could not even connect, and no tab could send. HTTP/2 has no such
//! bound, but browsers speak it over TLS only, and only where it is offered.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Extensions, Version};
use parking_lot::Mutex;

use crate::access::OverTls;

/// How long a request waits if its browser has as many hanging requests as it may have. With twelve tabs,
/// each one asks about once a second.
pub(crate) const SHORT_WAIT: Duration = Duration::from_millis(250);

/// Returns whether a browser has only a few connections for such requests: it speaks HTTP/1.1. Over TLS browsers speak
/// HTTP/2 to this server and to the proxies in `deploy/`, unless it is switched off.
pub(crate) fn has_few_connections(version: Version, extensions: &Extensions, secure: bool) -> bool {
    let is_http1_over_tls = version < Version::HTTP_2 && extensions.get::<OverTls>().is_some();
    !secure || is_http1_over_tls
}

/// Counts hanging requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HangingRequests {
    /// Largest number for one browser, or `None` if there is no bound.
    max: Option<usize>,
    hasher: RandomState,
    browsers: Arc<Browsers>,
}

/// Number of hanging requests of each browser, by its hash.
type Browsers = Mutex<HashMap<u64, usize>>;

/// Permit for one hanging request, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct HangingRequest {
    of: Option<(Arc<Browsers>, u64)>,
}

impl fmt::Debug for HangingRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HangingRequests(max: {:?})", self.max)
    }
}

impl HangingRequests {
    /// Creates a counter. If `max` is zero, any number may hang.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max: (max > 0).then_some(max),
            hasher: RandomState::new(),
            browsers: Arc::default(),
        }
    }

    /// Returns a permit for a hanging request, or `None` if its browser has as many as it may have.
    pub(crate) fn hang(
        &self,
        address: Option<IpAddr>,
        agent: Option<&str>,
    ) -> Option<HangingRequest> {
        let Some(max) = self.max else {
            return Some(HangingRequest::uncounted());
        };
        let browser = self.hasher.hash_one((address, agent));
        let mut browsers = self.browsers.lock();
        let hanging = browsers.entry(browser).or_default();
        if *hanging >= max {
            return None;
        }
        *hanging += 1;
        Some(HangingRequest {
            of: Some((Arc::clone(&self.browsers), browser)),
        })
    }
}

impl HangingRequest {
    /// Returns a permit for a client whose connections have no such bound.
    pub(crate) fn uncounted() -> Self {
        Self { of: None }
    }
}

impl Drop for HangingRequest {
    fn drop(&mut self) {
        let Some((browsers, browser)) = self.of.take() else {
            return;
        };
        let mut browsers = browsers.lock();
        if let Some(hanging) = browsers.get_mut(&browser) {
            *hanging -= 1;
            if *hanging == 0 {
                browsers.remove(&browser);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[test]
    fn a_browser_has_so_many_hanging_requests_and_the_next_when_one_ends() {
        let requests = HangingRequests::new(4);
        let mut hanging: Vec<_> = (0..4)
            .map(|_| requests.hang(ADDRESS, Some("a")).expect("a place"))
            .collect();
        assert!(requests.hang(ADDRESS, Some("a")).is_none());
        assert!(requests.hang(ADDRESS, Some("b")).is_some());
        hanging.pop();
        assert!(requests.hang(ADDRESS, Some("a")).is_some());
        drop(hanging);
        assert!(
            requests.browsers.lock().is_empty(),
            "nothing is left behind"
        );
    }
}
