//! Redis: version, memory, buffers, rights, its clock.

use bytesize::ByteSize;
use fanfare_cluster::RedisExamination;

use super::round_trip;
use crate::doctor::{Finding, compare_clock};

/// Bytes that should be able to wait for one node before Redis cuts it off.
const MIN_BUFFER: u64 = 64 << 20;
/// Share of its memory above which Redis is nearly full, in percent.
const NEARLY_FULL: u64 = 80;

pub(super) fn findings(master: &RedisExamination) -> Vec<Finding> {
    let name = &master.address;
    let mut findings = vec![
        Finding::ok(
            "cluster.reachable",
            format!("{} at {name}", master.software),
        ),
        round_trip(name, master.round_trip),
        compare_clock("cluster.clock", name, master.clock_ahead),
        memory(master),
        eviction(master),
    ];
    findings.extend(buffer(master));
    findings.push(rights(master));
    findings
}

fn memory(master: &RedisExamination) -> Finding {
    let check = "cluster.memory";
    let (used, max) = (master.used_memory, master.max_memory);
    if max == 0 {
        return Finding::warning(
            check,
            format!(
                "{} uses {} and has no maxmemory",
                master.address,
                ByteSize(used)
            ),
            "set maxmemory below the machine's memory: Redis then refuses events when it is full, instead of being ended by the kernel",
        );
    }
    let found = format!(
        "{} uses {} of {}",
        master.address,
        ByteSize(used),
        ByteSize(max)
    );
    if used.saturating_mul(100) / max < NEARLY_FULL {
        return Finding::ok(check, found);
    }
    Finding::warning(
        check,
        found,
        "raise maxmemory, or keep shorter histories: a full Redis refuses events",
    )
}

fn eviction(master: &RedisExamination) -> Finding {
    let check = "cluster.eviction";
    let found = format!(
        "maxmemory-policy of {} is {}",
        master.address, master.eviction
    );
    if master.eviction == "noeviction" {
        return Finding::ok(check, found);
    }
    Finding::failure(
        check,
        found,
        "set maxmemory-policy to noeviction: a Redis that drops keys by itself loses members of presence channels and counts, without a \
         warning",
    )
}

fn buffer(master: &RedisExamination) -> Option<Finding> {
    let check = "cluster.buffer";
    let bytes = master.subscriber_buffer?;
    if bytes == 0 {
        return Some(Finding::ok(
            check,
            format!("any amount may wait in {} for a node", master.address),
        ));
    }
    let found = format!(
        "{} may wait in {} for a node",
        ByteSize(bytes),
        master.address
    );
    if bytes >= MIN_BUFFER {
        return Some(Finding::ok(check, found));
    }
    Some(Finding::warning(
        check,
        found,
        "set client-output-buffer-limit to \"pubsub 128mb 32mb 60\": a burst of large events otherwise cuts nodes off, and their \
         clients reconnect",
    ))
}

fn rights(master: &RedisExamination) -> Finding {
    let check = "cluster.rights";
    match &master.refused {
        None => Finding::ok(
            check,
            format!(
                "{} takes scripts, keys and sharded publishes",
                master.address
            ),
        ),
        Some(reason) => Finding::failure(
            check,
            format!("{} refused what nodes do: {reason}", master.address),
            "give the user the rights in docs/clustering.md, or use a Redis of version 7 or later that takes changes",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::Severity;

    fn redis() -> RedisExamination {
        RedisExamination {
            address: "127.0.0.1:6379".into(),
            software: "Redis 7.2.4".into(),
            round_trip: Duration::from_micros(200),
            clock_ahead: 0,
            used_memory: 1 << 20,
            max_memory: 1 << 30,
            eviction: "noeviction".into(),
            subscriber_buffer: Some(128 << 20),
            refused: None,
        }
    }

    #[test]
    fn each_trouble_of_redis_is_one_finding() {
        let cases = [
            (redis(), None),
            (
                RedisExamination {
                    max_memory: 0,
                    ..redis()
                },
                Some(("cluster.memory", Severity::Warning)),
            ),
            (
                RedisExamination {
                    used_memory: 900 << 20,
                    ..redis()
                },
                Some(("cluster.memory", Severity::Warning)),
            ),
            (
                RedisExamination {
                    eviction: "allkeys-lru".into(),
                    ..redis()
                },
                Some(("cluster.eviction", Severity::Failure)),
            ),
            (
                RedisExamination {
                    subscriber_buffer: Some(32 << 20),
                    ..redis()
                },
                Some(("cluster.buffer", Severity::Warning)),
            ),
            (
                RedisExamination {
                    subscriber_buffer: Some(0),
                    ..redis()
                },
                None,
            ),
            (
                RedisExamination {
                    subscriber_buffer: None,
                    ..redis()
                },
                None,
            ),
            (
                RedisExamination {
                    refused: Some("NOPERM".into()),
                    ..redis()
                },
                Some(("cluster.rights", Severity::Failure)),
            ),
        ];
        for (master, expected) in cases {
            let wrong: Vec<_> = findings(&master)
                .into_iter()
                .filter(|finding| finding.severity != Severity::Ok)
                .map(|finding| (finding.check, finding.severity))
                .collect();
            assert_eq!(wrong, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
