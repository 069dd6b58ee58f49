//! Reads the bodies of requests, with bounds on size and time. A body from a client that has proved nothing yet is
//! charged to the node and to the client's network. A backend's body is read after its signature was checked, and isn't
//! charged.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use fanfare_engine::{BudgetExceeded, Charge, Ledger, Resource};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::time::timeout;

/// How long a client or backend may take to send a body.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How many bytes of a refused body are read, and for how long.
const MAX_DISCARDED: usize = 16 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// A request's body, before it is read.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Body,
    /// Whether the client sends it only after `100 Continue`, which it gets with the first read.
    awaits_continue: bool,
}

impl RequestBody {
    /// Returns the body of a request with these headers.
    pub(crate) fn new(headers: &HeaderMap, body: Body) -> Self {
        let expect = headers.get(header::EXPECT);
        let awaits_continue =
            expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self {
            body,
            awaits_continue,
        }
    }

    /// Returns whether the announced length is over `limit`, which is known before anything is read.
    fn is_longer_than(&self, limit: usize) -> bool {
        self.body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX)
    }

    /// Returns the body to read it, which asks the client to send it.
    fn requested(&mut self) -> &mut Body {
        self.awaits_continue = false;
        &mut self.body
    }
}

impl From<Request> for RequestBody {
    fn from(request: Request) -> Self {
        let (parts, body) = request.into_parts();
        Self::new(&parts.headers, body)
    }
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("The body is too large: at most {0} bytes are allowed")]
    TooLarge(usize),
    #[error("The body did not arrive in time")]
    Late,
    #[error("{0} (http.max_pending_body_bytes); try again later")]
    Busy(BudgetExceeded),
    #[error("The body did not arrive: {0}")]
    Broken(String),
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
///
/// Returns [`BodyError::TooLarge`], [`BodyError::Late`] after 30 seconds, or [`BodyError::Broken`]. The rest of a body
/// that is too large or late is discarded, so that the caller reads the answer.
pub(crate) async fn read_body(
    body: impl Into<RequestBody>,
    limit: usize,
) -> Result<Bytes, BodyError> {
    let mut body = body.into();
    if body.is_longer_than(limit) {
        discard(body).await;
        return Err(BodyError::TooLarge(limit));
    }
    let collected = Limited::new(body.requested(), limit).collect();
    let error = match timeout(BODY_TIMEOUT, collected).await {
        Ok(Ok(collected)) => return Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => BodyError::TooLarge(limit),
        Ok(Err(error)) => return Err(BodyError::Broken(error.to_string())),
        Err(_) => BodyError::Late,
    };
    discard(body).await;
    Err(error)
}

/// Reads and drops the body of a refused caller. A caller that is still sending doesn't read the answer, and could not
/// use its connection again. Bounded in bytes and time. A body that the client has yet to be asked for isn't read: it
/// reads the answer instead.
pub(crate) async fn discard(body: impl Into<RequestBody>) {
    let body = body.into();
    if body.awaits_continue {
        return;
    }
    let mut body = Limited::new(body.body, MAX_DISCARDED);
    let discarded = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whatever comes after that is lost when the connection closes.
    let _ = timeout(DISCARD_TIMEOUT, discarded).await;
}

/// A body and its charge, which is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct PendingBody {
    pub(crate) bytes: Bytes,
    pub(crate) charge: Charge,
}

/// Reads a body of at most `limit` bytes and charges it. The network of the address `from` pays.
///
/// # Errors
///
/// Returns [`BodyError::TooLarge`], [`BodyError::Late`], or [`BodyError::Busy`] if other bodies take up the budget. The
/// rest of the body is read and dropped, as [`discard`] does.
pub(crate) async fn read_pending(
    ledger: &Ledger,
    body: impl Into<RequestBody>,
    limit: usize,
    from: Option<IpAddr>,
) -> Result<PendingBody, BodyError> {
    let mut body = body.into();
    let mut charge = ledger.payer(from).empty_charge(Resource::RequestBytes);
    let read = timeout(BODY_TIMEOUT, collect(&mut body, limit, &mut charge)).await;
    match read.unwrap_or(Err(BodyError::Late)) {
        Ok(bytes) => Ok(PendingBody { bytes, charge }),
        Err(error) => {
            // Given back before the rest is discarded, which may take seconds and holds no memory.
            drop(charge);
            if !matches!(error, BodyError::Broken(_)) {
                discard(body).await;
            }
            Err(error)
        }
    }
}

async fn collect(
    body: &mut RequestBody,
    limit: usize,
    charge: &mut Charge,
) -> Result<Bytes, BodyError> {
    // A body whose announced length is too large is refused before it is read.
    if body.is_longer_than(limit) {
        return Err(BodyError::TooLarge(limit));
    }
    let body = body.requested();
    // Room for the whole body. Memory is only used for bytes that have come, and a growing buffer would take twice as
    // much.
    let announced = body.size_hint().exact().unwrap_or(0);
    let mut collected = Vec::with_capacity(announced.try_into().unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = collected.len() + data.len();
        if length > limit {
            return Err(BodyError::TooLarge(limit));
        }
        let mut held = length;
        if length > collected.capacity() {
            // No length was announced, so the buffer grows ahead of what has come, and all of it is charged.
            held = length.saturating_mul(2).min(limit);
        }
        let more = held.saturating_sub(charge.amount());
        charge.grow(more).map_err(BodyError::Busy)?;
        collected.reserve_exact(held - collected.len());
        collected.extend_from_slice(&data);
    }
    Ok(collected.into())
}

#[cfg(test)]
mod tests {
    use fanfare_engine::{Bounds, Budgets};

    use super::*;

    const ONE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const OTHER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    #[tokio::test]
    async fn one_network_holds_a_part_of_the_budget_and_leaves_room_for_others() {
        let bounds = |max| Bounds::unlimited().with(Resource::RequestBytes, max);
        let ledger = Ledger::new(Budgets {
            node: bounds(400),
            network: bounds(100),
            ..Budgets::default()
        });
        let read = |size, from| {
            let body = RequestBody::new(&HeaderMap::new(), Body::from(vec![b'x'; size]));
            read_pending(&ledger, body, 100, from)
        };
        let held = read(100, ONE).await.expect("it fits");
        let refused = read(1, ONE).await.expect_err("full");
        assert!(matches!(refused, BodyError::Busy(_)), "{refused}");
        read(100, OTHER).await.expect("another network");
        drop(held);
        read(100, ONE).await.expect("it fits again");
        assert_eq!(ledger.used(Resource::RequestBytes), 0);
        let refused = read(101, ONE).await;
        assert!(
            matches!(refused, Err(BodyError::TooLarge(100))),
            "{refused:?}"
        );
    }
}
