//! What the nodes of a cluster share: Redis or Postgres.

mod postgres;
mod redis;

use std::time::Duration;

use fanfare_cluster::Choice;
use secrecy::ExposeSecret;

use super::Finding;
use crate::config::{Config, without_password};

/// Round trip above which every publish of a cluster is slow.
const SLOW: Duration = Duration::from_millis(10);

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let Some(url) = config.cluster_url() else {
        return Vec::new();
    };
    let url = url.expose_secret();
    let examined = match Choice::new(url, &config.cluster.prefix) {
        Ok(Choice::Redis(server)) => server
            .examine()
            .await
            .map(|masters| masters.iter().flat_map(redis::findings).collect()),
        Ok(Choice::Postgres(server)) => server
            .examine()
            .await
            .map(|examination| postgres::findings(&examination)),
        Err(error) => return vec![unreachable(url, &error.to_string())],
    };
    examined.unwrap_or_else(|error| vec![unreachable(url, &error.to_string())])
}

fn unreachable(url: &str, error: &str) -> Finding {
    Finding::failure(
        "cluster.reachable",
        format!("cluster.url {}: {error}", without_password(url)),
        "without what nodes share a node refuses events and connections; make it reachable from here, or check user and password",
    )
}

fn round_trip(name: &str, round_trip: Duration) -> Finding {
    let check = "cluster.round_trip";
    let milliseconds = round_trip.as_secs_f64() * 1000.0;
    let found = format!("a command to {name} takes {milliseconds:.1} ms");
    if round_trip <= SLOW {
        return Finding::ok(check, found);
    }
    Finding::warning(
        check,
        found,
        "every publish waits for one of these; run it in the nodes' data center",
    )
}
