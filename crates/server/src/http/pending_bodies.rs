//! Bodies of clients that have proved nothing yet: each is read with a bound of its own, and charged to the node and the client's
//! network while it is in memory. A backend's body is read after its signature was checked, and is not charged.

use std::net::IpAddr;

use axum::body::{Body, Bytes};
use bytes::BytesMut;
use fanfare_engine::{Charge, Ledger, Resource};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::timeout;

use super::auth::{BODY_TIMEOUT, BodyError, discard};

/// A body, and what is charged for it until it is dropped.
#[derive(Debug)]
pub(crate) struct PendingBody {
    pub(crate) bytes: Bytes,
    pub(crate) charge: Charge,
}

/// Reads a body of at most `limit` bytes; `from` is the address that pays for it.
///
/// # Errors
///
/// It is too large, does not arrive in time, or other bodies take up the budget ([`BodyError::Busy`]). The rest of it is read
/// and forgotten, as [`discard`] does.
pub(crate) async fn read_pending(
    ledger: &Ledger,
    mut body: Body,
    limit: usize,
    from: Option<IpAddr>,
) -> Result<PendingBody, BodyError> {
    let mut charge = ledger.payer(from).empty_charge(Resource::RequestBytes);
    let read = timeout(BODY_TIMEOUT, collect(&mut body, limit, &mut charge)).await;
    match read.unwrap_or(Err(BodyError::Late)) {
        Ok(bytes) => Ok(PendingBody { bytes, charge }),
        Err(error) => {
            drop(charge);
            if !matches!(error, BodyError::Broken(_)) {
                discard(body).await;
            }
            Err(error)
        }
    }
}

async fn collect(body: &mut Body, limit: usize, charge: &mut Charge) -> Result<Bytes, BodyError> {
    // Where the client says how long it is, nothing of it need be read.
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLarge(limit));
    }
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if collected.len() + data.len() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        charge.grow(data.len()).map_err(BodyError::Busy)?;
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
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
        let read = |size, from| read_pending(&ledger, Body::from(vec![b'x'; size]), 100, from);
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
