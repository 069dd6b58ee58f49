//! Counts, for each browser, the requests of the HTTP fallbacks that hang until there are lines for them.
//!
//! A browser opens six HTTP/1.1 connections to a host, shared by all its tabs. Each tab on a fallback holds one with
//! the request that waits for lines. The seventh tab could not even connect, and no tab could send. HTTP/2 has no such
//! bound, but browsers speak it over TLS only, and only where it is offered.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;

use super::pipe::MAX_STREAM_LENGTH;

/// How long a request waits for lines if its browser has as many hanging requests as it may have. With twelve tabs,
/// each one asks about once a second.
pub(super) const SHORT_WAIT: Duration = Duration::from_millis(250);

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
pub(super) struct HangingRequest {
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
    pub(super) fn hang(
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
    pub(super) fn uncounted() -> Self {
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

/// Returns the compressed answer to a streaming request that must not hang: the lines, and then enough padding that
/// pusher-js asks for the next stream. pusher-js asks again because of a stream's length, not because of its end.
///
/// The padding is one line that begins with a space, which clients ignore. Compressed it takes about 300 bytes.
pub(super) fn ended_stream(lines: &[u8]) -> Bytes {
    static PADDING: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut line = vec![b' '; MAX_STREAM_LENGTH + 1];
        line.push(b'\n');
        line
    });
    let mut compressed = GzEncoder::new(Vec::new(), Compression::default());
    for part in [lines, &PADDING] {
        compressed
            .write_all(part)
            .expect("writing into memory does not fail");
    }
    let compressed = compressed.finish();
    compressed
        .expect("writing into memory does not fail")
        .into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

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

    #[test]
    fn an_ended_stream_is_small_and_longer_than_a_client_reads_of_one() {
        let compressed = ended_stream(b"o\na[\"x\"]\n");
        assert!(compressed.len() < 2048, "{}", compressed.len());
        let mut text = String::new();
        flate2::read::GzDecoder::new(&compressed[..])
            .read_to_string(&mut text)
            .expect("gzip");
        let mut lines = text.lines();
        assert_eq!((lines.next(), lines.next()), (Some("o"), Some("a[\"x\"]")));
        assert!(lines.next().expect("padding").starts_with(' '));
        assert!(text.len() > MAX_STREAM_LENGTH && text.ends_with('\n'));
    }
}
