//! What is happening on an app: channels, members, connections, a test event.

use fanfare_testkit::admin::text;
use fanfare_testkit::{APP_ID, Admin, KEY, OWNER, PASSWORD};
use serde_json::{Value, json};

use super::{SECOND, server, within};

async fn items(admin: &Admin, path: &str) -> Vec<Value> {
    let page = admin.get(&format!("/apps/{APP_ID}{path}")).await;
    page.expect(200)["items"].as_array().unwrap().clone()
}

/// All pages of one item each.
async fn one_by_one(admin: &Admin, path: &str, field: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = format!("/apps/{APP_ID}{path}?limit=1{cursor}");
        let page = admin.get(&page).await.expect(200);
        found.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| text(it, field)),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[tokio::test]
async fn channels_and_members_are_shown_as_they_are_now() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let mut ada = server.connect().await;
    let mut bob = server.connect().await;
    ada.subscribe("news").await;
    bob.subscribe("news").await;
    ada.subscribe("private-x").await;
    ada.join("presence-room", r#"{"user_id":"ada"}"#).await;
    bob.join("presence-room", r#"{"user_id":"bob"}"#).await;
    assert_eq!(
        one_by_one(&owner, "/channels", "name").await,
        ["news", "presence-room", "private-x"]
    );
    let room = json!({"name": "presence-room", "subscription_count": 2, "user_count": 2});
    assert_eq!(
        items(&owner, "/channels?prefix=presence-").await,
        std::slice::from_ref(&room)
    );
    let path = format!("/apps/{APP_ID}/channels");
    let shown = owner.get(&format!("{path}/presence-room")).await;
    let expected = json!({
        "name": "presence-room", "subscription_count": 2, "user_count": 2,
        "cache": null, "history": null, "events_per_minute": null,
    });
    assert_eq!(shown.expect(200), expected);
    let nobody = owner.get(&format!("{path}/empty")).await.expect(200);
    assert_eq!(nobody["subscription_count"], 0);
    assert_eq!(
        one_by_one(&owner, "/channels/presence-room/members", "user_id").await,
        ["ada", "bob"]
    );
    let members = owner.get(&format!("{path}/news/members")).await;
    assert_eq!(members.problem(400), "invalid");
    let odd = owner.get(&format!("{path}/a%20b")).await;
    assert_eq!(odd.problem(400), "invalid");
    drop(bob);
    within(5 * SECOND, "bob is gone", async || {
        items(&owner, "/channels/presence-room/members").await.len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_test_event_arrives_as_a_backends_would_and_is_written_down() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let mut client = server.connect().await;
    client.subscribe("news").await;
    let path = format!("/apps/{APP_ID}/events");
    let publish = async |event: Value| owner.post(&path, &event).await;
    let event = json!({"name": "greeting", "channels": ["news"], "data": {"text": "hi"}});
    let told = publish(event).await.expect(200);
    assert_eq!(told["channels"], json!({"news": {"subscribers": 1}}));
    assert!(told["took_us"].as_u64().is_some(), "{told}");
    let event = json!({"name": "greeting", "channels": ["news"], "data": "as it is"});
    publish(event.clone()).await.expect(200);
    assert_eq!(client.expect("greeting").await["data"], r#"{"text":"hi"}"#);
    assert_eq!(client.expect("greeting").await["data"], "as it is");
    for bad in [
        json!({"name": "", "channels": ["news"], "data": 1}),
        json!({"name": "pusher:x", "channels": ["news"], "data": 1}),
        json!({"name": "e", "channels": ["a b"], "data": 1}),
        json!({"name": "e", "channels": [], "data": 1}),
        json!({"name": "e", "channels": ["news"], "data": "x".repeat(10241)}),
    ] {
        assert_eq!(publish(bad.clone()).await.problem(400), "invalid", "{bad}");
    }
    let written = owner.get("/audit?action=event.publish").await.expect(200);
    assert_eq!(written["items"].as_array().unwrap().len(), 2);
    assert!(!written.to_string().contains("as it is"));
    let limit = json!({"settings": {"limits": {"backend_events_per_second": 1}}});
    owner
        .patch(&format!("/apps/{APP_ID}"), &limit)
        .await
        .expect(200);
    let mut refused = publish(event.clone()).await;
    for _ in 0..5 {
        if refused.status == 200 {
            refused = publish(event.clone()).await;
        }
    }
    assert_eq!(refused.problem(429), "too_many");
    assert!(!refused.header("retry-after").is_empty());
    let disabled = json!({"settings": {"enabled": false}});
    owner
        .patch(&format!("/apps/{APP_ID}"), &disabled)
        .await
        .expect(200);
    assert_eq!(publish(event).await.problem(409), "conflict");
}

#[tokio::test]
async fn a_test_event_leaves_out_the_connection_that_is_named() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    one.subscribe("news").await;
    two.subscribe("news").await;
    let path = format!("/apps/{APP_ID}/events");
    let except = json!({"name": "e", "channels": ["news"], "data": 1, "socket_id": one.socket_id});
    owner.post(&path, &except).await.expect(200);
    let to_both = json!({"name": "last", "channels": ["news"], "data": 1});
    owner.post(&path, &to_both).await.expect(200);
    two.expect("e").await;
    assert_eq!(one.event().await["event"], "last");
    let wrong = json!({"name": "e", "channels": ["news"], "data": 1, "socket_id": "x"});
    assert_eq!(owner.post(&path, &wrong).await.problem(400), "invalid");
}

#[tokio::test]
async fn a_batch_is_published_whole_or_not_at_all() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let mut client = server.connect().await;
    client.subscribe("news").await;
    let path = format!("/apps/{APP_ID}/events/batch");
    let event = |name: &str, channel: &str| json!({"name": name, "channel": channel, "data": name});
    let bad = json!({"batch": [event("one", "news"), event("two", "a b")]});
    let refused = owner.post(&path, &bad).await;
    assert_eq!(refused.problem(400), "invalid");
    assert!(refused.text.contains("batch[1]"), "{refused:?}");
    let good =
        json!({"batch": [event("three", "news"), event("four", "other"), event("five", "news")]});
    let told = owner.post(&path, &good).await.expect(200);
    let audience = json!({"news": {"subscribers": 1}, "other": {"subscribers": 0}});
    assert_eq!(told["channels"], audience);
    assert_eq!(client.event().await["event"], "three");
    assert_eq!(client.event().await["event"], "five");
    let written = owner.get("/audit?action=event.publish").await.expect(200);
    let details = &written["items"][0]["details"];
    assert_eq!(details["names"], json!(["three", "four", "five"]));
}

#[tokio::test]
async fn a_client_event_is_sent_in_place_of_a_client() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let app = format!("/apps/{APP_ID}");
    let allow = json!({"settings": {"client_events": true}});
    owner.patch(&app, &allow).await.expect(200);
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    one.subscribe("private-room").await;
    two.subscribe("private-room").await;
    let path = format!("{app}/client-events");
    let event = json!({"name": "client-typing", "channel": "private-room", "data": {"on": true}, "socket_id": one.socket_id});
    let told = owner.post(&path, &event).await.expect(200);
    assert_eq!(told["channels"]["private-room"]["subscribers"], 2);
    let got = two.expect("client-typing").await;
    assert_eq!(got["data"], r#"{"on":true}"#);
    assert!(got.get("user_id").is_none(), "{got}");
    let mut member = server.connect().await;
    member
        .join("presence-room", r#"{"user_id":"reader-1"}"#)
        .await;
    let event = json!({"name": "client-typing", "channel": "presence-room", "data": "x", "user_id": "editor-1"});
    owner.post(&path, &event).await.expect(200);
    assert_eq!(member.expect("client-typing").await["user_id"], "editor-1");
    for (bad, why) in [
        (
            json!({"name": "typing", "channel": "private-room", "data": 1}),
            "begins with client-",
        ),
        (
            json!({"name": "client-a", "channel": "news", "data": 1}),
            "private or presence channel",
        ),
        (
            json!({"name": "client-a", "channel": "presence-room", "data": 1}),
            "has a user_id",
        ),
        (
            json!({"name": "client-a", "channel": "private-room", "data": 1, "user_id": "a"}),
            "has a user_id",
        ),
        (
            json!({"name": "client-a", "channel": "private-room", "data": 1, "socket_id": "x"}),
            "socket_id",
        ),
        (
            json!({"name": "client-a", "channel": "presence-room", "data": 1, "user_id": "u".repeat(129)}),
            "exceeds 128 characters",
        ),
    ] {
        let refused = owner.post(&path, &bad).await;
        assert_eq!(refused.problem(400), "invalid", "{bad}");
        assert!(refused.text.contains(why), "{refused:?}");
    }
    let written = owner.get("/audit?action=event.simulate").await.expect(200);
    assert!(written["items"].as_array().unwrap().len() >= 2);
}

#[tokio::test]
async fn the_configuration_is_shown_with_sources_and_without_secrets() {
    let server = server(&["pong_timeout=7"]).await;
    let owner = server.owner().await;
    let shown = owner.get("/configuration").await;
    let settings = shown.expect(200);
    let settings = settings["settings"].as_array().unwrap();
    let of = |name: &str| settings.iter().find(|one| one["name"] == name).unwrap();
    let pong = of("pong_timeout");
    assert_eq!((&pong["value"], &pong["default"]), (&json!(7), &json!(30)));
    assert_eq!(pong["is_default"], false);
    assert_eq!(of("owner.password")["is_secret"], true);
    assert!(!shown.text.contains(PASSWORD));
}

#[tokio::test]
async fn a_test_events_data_is_passed_on_byte_for_byte() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = server(&[]).await;
    let (_, signed_in) = Admin::nobody(server.address).sign_in(OWNER, PASSWORD).await;
    let mut client = server.connect().await;
    client.subscribe("news").await;
    for (sent, arrives) in [
        (
            r#"{"b":1,"a":1.50,"n":123456789012345678901234567890}"#,
            None,
        ),
        (r#"[1e400,-0,"\u00e9",{"a":1,"a":2}]"#, None),
        (r#""{\"b\":1, \"a\":1.50}""#, Some(r#"{"b":1, "a":1.50}"#)),
    ] {
        let body = format!(r#"{{"name":"e","channels":["news"],"data":{sent}}}"#);
        let request = format!(
            "POST /api/v1/apps/{APP_ID}/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Authorization: Bearer {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            text(&signed_in, "access_token"),
            body.len(),
        );
        let mut stream = tokio::net::TcpStream::connect(server.address)
            .await
            .unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let event = client.expect("e").await;
        assert_eq!(event["data"], arrives.unwrap_or(sent));
    }
}

#[tokio::test]
async fn connections_are_listed_inspected_and_closed() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let mut one = server.connect().await;
    let mut two = server.connect().await;
    one.subscribe("news").await;
    one.subscribe("private-x").await;
    let asked = json!({"socket_id": one.socket_id, "user": {"id": "ada"}});
    let signed = server
        .api()
        .post("user-auth", asked.to_string())
        .await
        .json();
    one.send(&json!({"event": "pusher:signin", "data": signed}))
        .await;
    one.expect("pusher:signin_success").await;

    let listed = one_by_one(&owner, "/connections", "socket_id").await;
    assert_eq!(listed.len(), 2);
    assert!(listed.contains(&one.socket_id) && listed.contains(&two.socket_id));
    let of_ada = items(&owner, "/connections?user_id=ada").await;
    assert_eq!(of_ada.len(), 1);
    assert!(items(&owner, "/connections?user_id=bob").await.is_empty());
    let path = |id: &str| format!("/apps/{APP_ID}/connections/{id}");
    let shown = owner.get(&path(&one.socket_id)).await.expect(200);
    assert_eq!(shown["user_id"], "ada");
    assert_eq!(shown["key"], KEY);
    assert_eq!(shown["transport"], "websocket");
    let mut channels: Vec<_> = shown["channels"].as_array().unwrap().clone();
    channels.sort_by_key(ToString::to_string);
    assert!(channels.contains(&json!("news")) && channels.contains(&json!("private-x")));
    let subscriptions = shown["subscriptions"].as_array().unwrap();
    assert_eq!(subscriptions.len(), 2);
    assert_eq!(subscriptions[0]["channel"], "news");
    assert_eq!(subscriptions[0]["position"], Value::Null);
    let whats: Vec<_> = shown["recent"].as_array().unwrap().iter().collect();
    let whats: Vec<_> = whats.iter().map(|entry| text(entry, "what")).collect();
    assert_eq!(
        whats,
        [
            "connected with js 8.6.0",
            "subscribed to news",
            "subscribed to private-x",
            "signed in as ada"
        ]
    );
    let explained = owner
        .get(&format!(
            "/apps/{APP_ID}/explain?channel=%23server-to-user-ada"
        ))
        .await
        .expect(200);
    let answer = text(&explained, "answer");
    assert!(
        answer.contains("the user \"ada\" is subscribed"),
        "{answer}"
    );
    let since = super::now() - subscriptions[0]["subscribed_at"].as_i64().unwrap();
    assert!((0..20_000).contains(&since), "{since}");
    assert_eq!(shown["messages_in"], 3);
    assert!(shown["bytes_out"].as_u64().unwrap() > 100, "{shown}");
    assert_eq!(shown["address"], "127.0.0.1");
    let age = super::now() - shown["connected_at"].as_i64().unwrap();
    assert!((0..20_000).contains(&age), "{age}");

    assert_eq!(owner.delete(&path(&one.socket_id)).await.status, 204);
    assert_eq!(one.closed().await, 4009);
    let again = owner.delete(&path(&one.socket_id)).await;
    assert_eq!(again.problem(404), "not_found");
    let gone = owner.get(&path(&one.socket_id)).await;
    assert_eq!(gone.problem(404), "not_found");
    let detail = text(&gone.json(), "detail").to_owned();
    assert!(
        detail.contains("closed with 4009, An operator has closed this connection"),
        "{detail}"
    );
    assert_eq!(owner.get(&path("nonsense")).await.problem(400), "invalid");
    two.expect_nothing().await;
    let written = owner
        .get("/audit?action=connection.close")
        .await
        .expect(200);
    assert_eq!(written["items"][0]["target_id"], json!(one.socket_id));
    assert_eq!(written["items"][0]["app_id"], APP_ID);
}

#[tokio::test]
async fn a_client_of_the_http_fallbacks_is_a_connection_like_others() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let url = format!(
        "http://{}/pusher/app/{KEY}/1/abcdefgh/xhr_streaming?protocol=7",
        server.address
    );
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let stream = http.post(url).send().await.unwrap();
    within(5 * SECOND, "it is listed", async || {
        items(&owner, "/connections").await.len() == 1
    })
    .await;
    let found = items(&owner, "/connections").await.remove(0);
    assert_eq!(found["transport"], "http");
    let path = format!("/apps/{APP_ID}/connections/{}", text(&found, "socket_id"));
    assert_eq!(owner.get(&path).await.expect(200)["key"], KEY);
    assert_eq!(owner.delete(&path).await.status, 204);
    let all = stream.text().await.unwrap();
    let last = all.lines().last().unwrap();
    assert!(last.starts_with("c[4009,"), "{last}");
}

#[tokio::test]
async fn connections_are_found_by_whatever_is_known_of_them() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let mut one = server.connect().await;
    let two = server.connect().await;
    one.join("presence-room", r#"{"user_id":"ada"}"#).await;
    let ids = async |query: &str| -> Vec<String> {
        let found = items(&owner, &format!("/connections?{query}")).await;
        found.iter().map(|found| text(found, "socket_id")).collect()
    };
    assert_eq!(ids("user_id=ada").await, [one.socket_id.as_str()]);
    assert_eq!(ids("channel=presence-room").await, [one.socket_id.as_str()]);
    assert_eq!(
        ids(&format!("q={}", two.socket_id)).await,
        [two.socket_id.as_str()]
    );
    assert_eq!(ids("address=127.0.0.0/8").await.len(), 2);
    assert!(ids("address=10.0.0.1").await.is_empty());
    assert_eq!(ids(&format!("key={KEY}")).await.len(), 2);
    assert!(ids("key=another").await.is_empty());
    let node = text(&owner.get("/server").await.expect(200), "node");
    assert_eq!(ids(&format!("node={node}")).await.len(), 2);
    let subscribers = items(&owner, "/channels/presence-room/subscribers").await;
    assert_eq!(text(&subscribers[0], "socket_id"), one.socket_id);
    assert_eq!(subscribers.len(), 1);
    for (query, problem) in [
        ("address=nowhere", "invalid"),
        ("channel=%20", "invalid"),
        ("user_id=", "invalid"),
    ] {
        let path = format!("/apps/{APP_ID}/connections?{query}");
        assert_eq!(owner.get(&path).await.problem(400), problem, "{query}");
    }
    let path = format!("/apps/{APP_ID}/connections?node=elsewhere");
    assert_eq!(owner.get(&path).await.problem(404), "not_found");
    let path = format!("/apps/{APP_ID}/connections/{}?node={node}", one.socket_id);
    let shown = owner.get(&path).await.expect(200);
    assert_eq!(shown["subscriptions"][0]["user_id"], "ada");
    assert_eq!(shown["node"], json!(node));
}

#[tokio::test]
async fn the_only_node_shows_itself_and_is_not_drained_because_its_clients_could_go_nowhere() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let mut client = server.connect().await;
    client.subscribe("news").await;
    let list = owner.get("/nodes").await.expect(200);
    let [node] = &list["nodes"].as_array().unwrap()[..] else {
        panic!("{list}");
    };
    assert_eq!(node["is_answering_node"], true);
    assert_eq!(
        (&node["state"], &node["reason"]),
        (&json!("ready"), &Value::Null)
    );
    assert_eq!(node["connections"], 1);
    assert_eq!(node["messages_received"], 1);
    assert!(node["memory_bytes"].as_u64().unwrap() > 1 << 20, "{node}");
    assert!(list["unanswered"].as_array().unwrap().is_empty());
    let path = format!("/nodes/{}/drain", text(node, "name"));
    let refused = owner.post(&path, &Value::Null).await;
    assert_eq!(refused.problem(409), "conflict");
    let audit = owner.get("/audit?action=node.drain").await.expect(200);
    assert!(audit["items"].as_array().unwrap().is_empty(), "{audit}");
    client.expect_nothing().await;
    // There is nothing to end, so that it is as it is asked to be.
    assert_eq!(owner.delete(&path).await.status, 204);
}

#[tokio::test]
async fn a_history_is_paged_and_says_what_it_means_where_it_cannot() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    let rules = json!({"settings": {"history": [{"channels": "kept-*", "size": 100, "ttl": 300}]}});
    let app = format!("/apps/{APP_ID}");
    owner.patch(&app, &rules).await.expect(200);
    for number in 0..3 {
        let event = json!({"name": "tick", "channel": "kept-a", "data": number.to_string()});
        let answer = server.api().post("events", event.to_string()).await;
        assert_eq!(answer.status, 200);
    }
    let history = async |query: &str| {
        owner
            .get(&format!("{app}/channels/kept-a/history{query}"))
            .await
    };
    let data = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| text(item, "data")).collect()
    };
    let newest = history("?limit=2").await.expect(200);
    assert_eq!(data(&newest), ["2", "1"]);
    assert_eq!(newest["more"], true);
    assert_eq!(newest["data_hidden_because"], Value::Null);
    let before = format!("?before={}", text(&newest["items"][1], "position"));
    let oldest = history(&before).await.expect(200);
    assert_eq!(
        (data(&oldest), &oldest["more"]),
        (vec!["0".to_owned()], &json!(false))
    );
    let after = format!("?after={}", text(&oldest["items"][0], "position"));
    assert_eq!(data(&history(&after).await.expect(200)), ["1", "2"]);
    assert_eq!(
        data(&history("?after=0").await.expect(200)),
        ["0", "1", "2"]
    );
    for query in [
        "?after=0&before=e:1",
        "?after=nonsense",
        "?before=elsewhere:7",
        "?limit=0",
    ] {
        assert_eq!(history(query).await.problem(400), "invalid", "{query}");
    }
    let none = owner.get(&format!("{app}/channels/news/history")).await;
    assert_eq!(none.problem(404), "not_found");
    let shown = owner
        .get(&format!("{app}/channels/kept-a"))
        .await
        .expect(200);
    assert_eq!(shown["history"]["oldest"], oldest["items"][0]["position"]);
    assert_eq!(shown["history"]["newest"], newest["position"]);
    assert_eq!(shown["events_per_minute"], 3.0);
}
