//! What an operator is told about Redis.

use fanfare_cluster::{Redis, RedisExamination};
use fanfare_testkit::RedisServer;

use crate::servers;

async fn examine(url: &str) -> Vec<RedisExamination> {
    let redis = Redis::new(url, "fanfare").unwrap();
    redis.examine().await.unwrap()
}

#[tokio::test]
async fn memory_eviction_and_buffers_are_those_that_redis_has() {
    let lines = [
        "maxmemory 64mb",
        "maxmemory-policy allkeys-lru",
        "client-output-buffer-limit pubsub 48mb 8mb 60",
    ];
    let server = RedisServer::start(&lines);
    let masters = examine(&format!("redis://127.0.0.1:{}", server.port)).await;
    let [redis] = &masters[..] else {
        panic!("{masters:?}")
    };
    assert_eq!(redis.address, format!("127.0.0.1:{}", server.port));
    assert_eq!(
        (redis.max_memory, &*redis.eviction, redis.subscriber_buffer),
        (64 << 20, "allkeys-lru", Some(48 << 20))
    );
    assert!(redis.used_memory > 0 && redis.clock_ahead.abs() < 1000);
    assert_eq!(redis.refused, None);
    assert_eq!(
        server.ask(&["DBSIZE"]).trim(),
        "0",
        "nothing is left behind"
    );
}

#[tokio::test]
async fn a_user_with_the_documented_rights_is_enough_and_one_with_fewer_is_told() {
    let docs = include_str!("../../../../docs/clustering.md");
    let (_, rights) = docs
        .split_once("ACL SETUSER fanfare on >PASSWORD ")
        .unwrap();
    let (rights, _) = rights.split_once("```").unwrap();
    let documented = format!(
        "user full on >secret {}",
        rights.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    let fewer = documented
        .replace("user full", "user fewer")
        .replace("+@scripting", "");
    let server = RedisServer::start(&[&documented, &fewer]);
    let url = |user: &str| format!("redis://{user}:secret@127.0.0.1:{}", server.port);
    let masters = examine(&url("full")).await;
    assert_eq!(masters[0].refused, None);
    assert_eq!(
        masters[0].subscriber_buffer, None,
        "CONFIG isn't among the rights"
    );
    let masters = examine(&url("fewer")).await;
    let refused = masters[0].refused.as_deref().unwrap_or_default();
    assert!(refused.contains("permission"), "{refused}");
}

#[tokio::test]
async fn each_master_of_a_redis_cluster_is_tried() {
    let servers = servers::cluster();
    let masters = examine(&format!("redis://127.0.0.1:{}", servers[0].port)).await;
    assert_eq!(masters.len(), servers.len());
    for master in masters {
        assert_eq!(master.refused, None, "{}", master.address);
    }
}
