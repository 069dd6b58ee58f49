//! Who may do what: every route, everybody, on an app they see, on one they do not and on one that does not exist.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use fanfare_testkit::admin::text;
use fanfare_testkit::{Admin, Client, OWNER, PASSWORD, Reply, Server};
use serde_json::{Value, json};

use super::{BEHIND_A_PROXY, client, server};

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing.
    Nothing,
    /// To be somebody.
    SignedIn,
    /// To be a person: API tokens may not.
    Person,
    /// To see the app.
    Sight,
    /// To see all apps.
    SightOfAll,
    /// To be an admin, or more, of the app.
    AppAdmin,
    /// To be an admin, or more, of all apps; to whoever does not see the app there is no such app.
    AppAdminOfAll,
    /// To be an admin, or more, of some app.
    SomeAdmin,
    /// To be an admin, or more, of all apps.
    Admin,
    /// To be an owner of all apps.
    Owner,
    /// To be an owner of all apps; to everybody else there is no such thing.
    OwnerOrNone,
    /// To be an owner of all apps, or a token of whoever made the token in question, without fewer rights than that.
    ItsMaker,
    /// The same, and to be an admin.
    ItsMakerAdmin,
}
use Needs::*;

struct Route {
    method: &'static str,
    path: &'static str,
    needs: Needs,
    /// What the answer to whoever may is.
    status: u16,
    body: fn(&Fixture) -> Value,
}

const fn route(method: &'static str, path: &'static str, needs: Needs, status: u16) -> Route {
    Route {
        method,
        path,
        needs,
        status,
        body: |_| Value::Null,
    }
}

impl Route {
    const fn with(self, body: fn(&Fixture) -> Value) -> Self {
        Self { body, ..self }
    }
}

fn routes() -> Vec<Route> {
    let mut all = webhook_routes();
    all.extend(operator_routes());
    all.extend(other_routes());
    all
}

fn webhook_routes() -> Vec<Route> {
    vec![
        route("GET", "/apps/{app_id}/webhooks", Sight, 200),
        route("POST", "/apps/{app_id}/webhooks", AppAdmin, 201)
            .with(|on| json!({"name": on.unique})),
        route("GET", "/apps/{app_id}/webhooks/{webhook_id}", Sight, 200),
        route(
            "PATCH",
            "/apps/{app_id}/webhooks/{webhook_id}",
            AppAdmin,
            200,
        )
        .with(|on| json!({"name": on.unique})),
        route(
            "DELETE",
            "/apps/{app_id}/webhooks/{webhook_id}",
            AppAdmin,
            204,
        ),
        route(
            "PUT",
            "/apps/{app_id}/webhooks/{webhook_id}/state",
            AppAdmin,
            200,
        )
        .with(|_| json!({"state": "paused"})),
        route(
            "POST",
            "/apps/{app_id}/webhooks/{webhook_id}/secrets",
            AppAdmin,
            201,
        )
        .with(|_| json!({})),
        route(
            "GET",
            "/apps/{app_id}/webhooks/{webhook_id}/deliveries",
            Sight,
            200,
        ),
        // 404: nothing was recorded.
        route(
            "GET",
            "/apps/{app_id}/webhooks/{webhook_id}/deliveries/{sequence}",
            Sight,
            404,
        ),
        // 409: it has no URL.
        route(
            "POST",
            "/apps/{app_id}/webhooks/{webhook_id}/replay",
            AppAdmin,
            409,
        )
        .with(|_| json!({"after": 0})),
        route(
            "POST",
            "/apps/{app_id}/webhooks/{webhook_id}/test",
            AppAdmin,
            409,
        )
        .with(|_| json!({})),
    ]
}

fn operator_routes() -> Vec<Route> {
    vec![
        route("GET", "/operators", Owner, 200),
        route("POST", "/operators", Owner, 201)
            .with(|on| json!({"name": on.unique, "password": "a-long-password", "role": "viewer"})),
        route("GET", "/operators/{operator_id}", Owner, 200),
        route("PATCH", "/operators/{operator_id}", Owner, 200)
            .with(|on| json!({"name": on.unique})),
        route("PUT", "/operators/{operator_id}/password", Owner, 204)
            .with(|_| json!({"password": "another-long-password"})),
        route("POST", "/operators/{operator_id}/sign-in-links", Owner, 201),
        route("DELETE", "/operators/{operator_id}", Owner, 204),
    ]
}

fn other_routes() -> Vec<Route> {
    vec![
        route("POST", "/sessions", Nothing, 201)
            .with(|_| json!({"name": OWNER, "password": PASSWORD})),
        route("POST", "/browser-sessions", Nothing, 201)
            .with(|_| json!({"name": OWNER, "password": PASSWORD})),
        route("POST", "/sessions/refresh", Nothing, 200)
            .with(|on| json!({"refresh_token": on.refresh_token})),
        route("GET", "/sessions", SignedIn, 200),
        route("DELETE", "/sessions/{session_id}", OwnerOrNone, 204),
        route("GET", "/me", SignedIn, 200),
        // 400: it is known who asks, and the new password is too short.
        route("PUT", "/me/password", Person, 400)
            .with(|_| json!({"current_password": PASSWORD, "new_password": "short"})),
        route("GET", "/server", SignedIn, 200),
        route("GET", "/server/certificates", SightOfAll, 200),
        route("GET", "/nodes", SightOfAll, 200),
        // 404: there is no node of this name.
        route("POST", "/nodes/{name}/drain", Admin, 404),
        route("DELETE", "/nodes/{name}/drain", Admin, 404),
        route("GET", "/apps", SignedIn, 200),
        route("POST", "/apps", Admin, 201).with(|on| json!({"name": on.unique})),
        route("GET", "/apps/{app_id}", Sight, 200),
        route("PATCH", "/apps/{app_id}", AppAdmin, 200)
            .with(|on| json!({"settings": {"limits": {"event_data": 10_000 - on.number}}})),
        // What protects the other apps is not the app's own to raise.
        route("PATCH", "/apps/{app_id}", AppAdminOfAll, 200)
            .with(|on| json!({"settings": {"limits": {"cache_bytes": (16 << 20) + on.number}}})),
        // Nor what it may use, whether to raise or to lower it.
        route("PATCH", "/apps/{app_id}", AppAdminOfAll, 200).with(
            |on| json!({"settings": {"quotas": {"messages_per_day": 1_000_000 - on.number}}}),
        ),
        // 400: it is not confirmed.
        route("DELETE", "/apps/{app_id}", AppAdmin, 400),
        route("GET", "/apps/{app_id}/keys", Sight, 200),
        route("POST", "/apps/{app_id}/keys", AppAdmin, 201).with(|on| json!({"label": on.unique})),
        route("GET", "/apps/{app_id}/keys/{key}", Sight, 200),
        route("PATCH", "/apps/{app_id}/keys/{key}", AppAdmin, 200)
            .with(|on| json!({"label": on.unique})),
        route("DELETE", "/apps/{app_id}/keys/{key}", AppAdmin, 204),
        route("PUT", "/apps/{app_id}/identity", AppAdmin, 204).with(identity),
        route("GET", "/apps/{app_id}/identity", Sight, 200),
        route("DELETE", "/apps/{app_id}/identity", AppAdmin, 204),
        // Nodes connect to where it leads, so it is not the app's own to choose.
        route("PUT", "/apps/{app_id}/outbox", AppAdminOfAll, 200).with(outbox),
        route("GET", "/apps/{app_id}/outbox", Sight, 200),
        route("DELETE", "/apps/{app_id}/outbox", AppAdminOfAll, 204),
        route("GET", "/apps/{app_id}/channels", Sight, 200),
        route("GET", "/apps/{app_id}/channels/{channel}", Sight, 200),
        route(
            "GET",
            "/apps/{app_id}/channels/{channel}/members",
            Sight,
            200,
        ),
        // 404: it keeps none.
        route(
            "GET",
            "/apps/{app_id}/channels/{channel}/history",
            Sight,
            404,
        ),
        // 400: it isn't said whose event it is.
        route("GET", "/apps/{app_id}/explain", Sight, 400),
        route(
            "GET",
            "/apps/{app_id}/channels/{channel}/subscribers",
            Sight,
            200,
        ),
        route("GET", "/apps/{app_id}/connections", Sight, 200),
        route("GET", "/apps/{app_id}/clients", Sight, 200),
        route("GET", "/apps/{app_id}/connections/{socket_id}", Sight, 200),
        route(
            "DELETE",
            "/apps/{app_id}/connections/{socket_id}",
            AppAdmin,
            204,
        ),
        route("POST", "/apps/{app_id}/events", AppAdmin, 200)
            .with(|_| json!({"name": "test", "channels": ["news"], "data": {}})),
        route("GET", "/apps/{app_id}/events/live", Sight, 200),
        route("POST", "/apps/{app_id}/events/batch", AppAdmin, 200)
            .with(|_| json!({"batch": [{"name": "test", "channel": "news", "data": {}}]})),
        // 400: it is known who asks, and the app takes no client events.
        route("POST", "/apps/{app_id}/client-events", AppAdmin, 400)
            .with(|_| json!({"name": "client-test", "channel": "private-room", "data": {}})),
        route("GET", "/configuration", Admin, 200),
        route("GET", "/tokens", SignedIn, 200),
        route("POST", "/tokens", SomeAdmin, 201)
            .with(|on| json!({"name": on.unique, "role": "viewer"})),
        route("GET", "/tokens/{token_id}", ItsMaker, 200),
        route("DELETE", "/tokens/{token_id}", ItsMakerAdmin, 204),
        route("GET", "/apps/{app_id}/usage", Sight, 200),
        route("GET", "/usage", SightOfAll, 200),
        route("GET", "/apps/{app_id}/quotas", Sight, 200),
        route("GET", "/quotas", SightOfAll, 200),
        route("GET", "/usage/apps", SightOfAll, 200),
        route("GET", "/alerts", SignedIn, 200),
        route("PUT", "/alerts/{alert_id}/silence", Admin, 404).with(|_| json!({"seconds": 60})),
        route("GET", "/audit", SomeAdmin, 200),
        route("GET", "/audit/export", SomeAdmin, 200),
        route("GET", "/signing-keys", Owner, 200),
        route("POST", "/signing-keys", Owner, 201).with(|_| json!({})),
    ]
}

fn identity(_: &Fixture) -> Value {
    let secret = "0123456789abcdef0123456789abcdef";
    json!({
        "providers": [{"algorithms": ["HS256"], "secret": secret}],
        "grants": [{"channels": "private-user-{sub}"}],
    })
}

fn outbox(_: &Fixture) -> Value {
    json!({"url": "postgres://me:secret@127.0.0.1:1/shop"})
}

/// Somebody with rights.
struct Caller {
    name: String,
    admin: Admin,
    role: Option<&'static str>,
    scoped: bool,
    is_token: bool,
}

impl Caller {
    fn rank(&self) -> usize {
        ["viewer", "admin", "owner"]
            .iter()
            .position(|role| Some(*role) == self.role)
            .unwrap()
    }

    /// What the answer must be, where `visible` says whether the app is one that this caller sees.
    fn expected(&self, route: &Route, visible: bool) -> u16 {
        if route.needs == Nothing {
            return route.status;
        }
        if self.role.is_none() {
            return 401;
        }
        let sees = visible || !self.scoped;
        let is_admin = self.rank() >= 1;
        let is_full_owner = self.rank() == 2 && !self.scoped;
        let or = |may: bool, otherwise: u16| if may { route.status } else { otherwise };
        match route.needs {
            Nothing | SignedIn => route.status,
            Person => or(!self.is_token, 403),
            Sight => or(sees, 404),
            SightOfAll => or(!self.scoped, 403),
            AppAdmin | AppAdminOfAll if !sees => 404,
            AppAdmin | SomeAdmin => or(is_admin, 403),
            Admin | AppAdminOfAll => or(is_admin && !self.scoped, 403),
            Owner => or(is_full_owner, 403),
            OwnerOrNone => or(is_full_owner, 404),
            ItsMakerAdmin if !is_admin => 403,
            ItsMaker | ItsMakerAdmin => or(is_full_owner || (self.is_token && !self.scoped), 404),
        }
    }
}

/// What a request is about; made anew for each that uses it up.
struct Fixture {
    unique: String,
    number: u32,
    refresh_token: String,
    path: String,
    /// Stays connected until the request is answered.
    _socket: Option<Client>,
}

struct World {
    server: Server,
    owner: Admin,
    apps: [App; 2],
    sockets: [Client; 2],
    callers: Vec<Caller>,
    count: AtomicU32,
}

/// Whom an app belongs to.
#[derive(Clone)]
struct App {
    id: String,
    key: String,
}

const UNKNOWN: &str = "999999999999";

impl World {
    async fn new() -> Self {
        let server = server(&[BEHIND_A_PROXY, "webhooks.max_per_app=100"]).await;
        let owner = server.owner().await;
        let mut apps = Vec::new();
        for name in ["Seen", "Hidden"] {
            let made = owner.create_app(name).await;
            let (id, key) = (text(&made, "id"), text(&made["key"], "key"));
            apps.push(App { id, key });
        }
        let sockets = [
            client(&server, &apps[0].key).await,
            client(&server, &apps[1].key).await,
        ];
        let mut world = Self {
            server,
            owner,
            apps: apps.try_into().ok().unwrap(),
            sockets,
            callers: Vec::new(),
            count: AtomicU32::new(1),
        };
        world.callers = world.everybody().await;
        // What scoped callers must not find in a list.
        let hidden = [&*world.apps[1].id];
        world.owner.make_token("owner", Some(&hidden)).await;
        world
    }

    fn next(&self) -> u32 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    /// Each from an address of its own.
    fn somewhere(&self) -> Admin {
        let n = self.next();
        let address = format!("10.1.{}.{}", n / 256, n % 256);
        Admin::nobody(self.server.address).with_header("x-forwarded-for", &address)
    }

    async fn everybody(&self) -> Vec<Caller> {
        let mut all = vec![Caller {
            name: "nobody".into(),
            admin: Admin::nobody(self.server.address),
            role: None,
            scoped: false,
            is_token: false,
        }];
        let seen = [&*self.apps[0].id];
        for role in ["viewer", "admin", "owner"] {
            for scope in [None, Some(&seen[..])] {
                let scoped = scope.is_some();
                let name = format!("{role}-{}", if scoped { "of-one" } else { "of-all" });
                let operator = json!({
                    "name": name, "password": "a-long-password", "role": role, "apps": scope,
                });
                self.owner.post("/operators", &operator).await.expect(201);
                let (session, _) = self.somewhere().sign_in(&name, "a-long-password").await;
                let token = self.owner.make_token(role, scope).await;
                for (kind, admin) in [("session", session), ("token", token)] {
                    all.push(Caller {
                        name: format!("{kind} of {name}"),
                        is_token: kind == "token",
                        admin,
                        role: Some(role),
                        scoped,
                    });
                }
            }
        }
        all
    }

    /// What a request to a route needs to be there, for an app that may not be.
    async fn prepare(&self, route: &Route, app: Option<usize>) -> Fixture {
        let owner = &self.owner;
        let number = self.next();
        let unique = format!("x{number}");
        let id = app.map_or(UNKNOWN, |app| &self.apps[app].id);
        let mut path = route.path.replace("{app_id}", id);
        let mut socket = None;
        let mut refresh_token = String::new();
        let uses_up = route.method != "GET";
        if path.contains("{key}") {
            let key = match app {
                Some(_) if uses_up => {
                    let made = owner.post(&format!("/apps/{id}/keys"), &json!({})).await;
                    text(&made.expect(201), "key")
                }
                Some(app) => self.apps[app].key.clone(),
                None => "nokey".into(),
            };
            path = path.replace("{key}", &key);
        }
        if path.contains("{webhook_id}") {
            let webhook = match app {
                Some(app) => self.webhook(app).await,
                None => "wh_none".into(),
            };
            path = path.replace("{webhook_id}", &webhook);
        }
        path = path.replace("{sequence}", "1");
        if path.ends_with("/events/live") {
            // Else the answer would not end.
            path.push_str("?follow=false");
        }
        if path.contains("{socket_id}") {
            let socket_id = match app {
                Some(app) if uses_up => {
                    let client = client(&self.server, &self.apps[app].key).await;
                    socket.insert(client).socket_id.clone()
                }
                Some(app) => self.sockets[app].socket_id.clone(),
                None => "1.1".into(),
            };
            path = path.replace("{socket_id}", &socket_id);
        }
        path = path.replace("{channel}", "presence-room");
        path = path.replace("{name}", "no-such-node");
        if path.contains("{token_id}") {
            let body = json!({"name": unique, "role": "viewer"});
            let made = owner.post("/tokens", &body).await.expect(201);
            path = path.replace("{token_id}", &text(&made, "id"));
        }
        if path.contains("{operator_id}") {
            let body = json!({"name": format!("{unique}-before"), "role": "viewer",
                "password": "a-long-password"});
            let made = owner.post("/operators", &body).await.expect(201);
            path = path.replace("{operator_id}", &text(&made, "id"));
        }
        if path.contains("{session_id}") || path == "/sessions/refresh" {
            let (_, made) = self.somewhere().sign_in(OWNER, PASSWORD).await;
            refresh_token = text(&made, "refresh_token");
            path = path.replace("{session_id}", &text(&made, "session_id"));
        }
        if path.ends_with("/identity") && app.is_some() {
            let body = identity(&Fixture::empty());
            let set = owner.put(&format!("/apps/{id}/identity"), &body).await;
            assert_eq!(set.status, 204, "{set:?}");
        }
        if path.ends_with("/outbox") && app.is_some() {
            let body = outbox(&Fixture::empty());
            owner
                .put(&format!("/apps/{id}/outbox"), &body)
                .await
                .expect(200);
        }
        Fixture {
            unique,
            number,
            refresh_token,
            path,
            _socket: socket,
        }
    }

    /// Returns the id of a webhook of an app: its only one, made again if a request has used it up. An app may have few.
    async fn webhook(&self, app: usize) -> String {
        let path = format!("/apps/{}/webhooks", self.apps[app].id);
        let all = self.owner.get(&path).await.expect(200)["items"].clone();
        let all = all.as_array().unwrap();
        // Those that a request has made.
        for webhook in all.iter().skip(1) {
            let path = format!("{path}/{}", text(webhook, "id"));
            assert_eq!(self.owner.delete(&path).await.status, 204);
        }
        match all.first() {
            Some(webhook) => text(webhook, "id"),
            None => {
                let made = self.owner.post(&path, &json!({})).await.expect(201);
                text(&made, "id")
            }
        }
    }

    async fn ask(&self, route: &Route, caller: &Caller, app: Option<usize>) -> Reply {
        let fixture = self.prepare(route, app).await;
        let body = Some((route.body)(&fixture)).filter(|body| !body.is_null());
        let n = self.next();
        let address = format!("10.2.{}.{}", n / 256, n % 256);
        let caller = caller.admin.with_header("x-forwarded-for", &address);
        caller
            .call(route.method, &fixture.path, &[], body.as_ref())
            .await
    }
}

impl Fixture {
    fn empty() -> Self {
        Self {
            unique: String::new(),
            number: 0,
            refresh_token: String::new(),
            path: String::new(),
            _socket: None,
        }
    }
}

/// An answer without what may differ: the app's id, and the moment.
fn shape(reply: &Reply, app: &str) -> (u16, String, Vec<String>) {
    let names = reply.headers.keys().map(ToString::to_string);
    (
        reply.status,
        reply.text.replace(app, "APP"),
        names.collect(),
    )
}

#[tokio::test]
async fn every_route_of_the_description_has_an_entry_and_every_entry_a_route() {
    let server = server(&[]).await;
    let described = Admin::nobody(server.address)
        .send("GET", "/openapi.json", &[], None)
        .await
        .expect(200);
    let mut found = BTreeSet::new();
    for (path, item) in described["paths"].as_object().unwrap() {
        let Some(path) = path.strip_prefix("/api/v1") else {
            continue;
        };
        for (method, operation) in item.as_object().unwrap() {
            let is_open = operation["security"] == json!([{}]);
            found.insert((method.to_uppercase(), path.to_owned(), is_open));
        }
    }
    let entry = |route: Route| {
        let is_open = route.needs == Nothing;
        (route.method.to_owned(), route.path.to_owned(), is_open)
    };
    let entries: BTreeSet<_> = routes().into_iter().map(entry).collect();
    assert_eq!(
        found, entries,
        "on the left /openapi.json, on the right the table"
    );
}

#[tokio::test]
async fn everybody_may_do_what_their_role_and_apps_allow_and_nothing_else() {
    let world = World::new().await;
    let mut wrong = Vec::new();
    for route in routes() {
        for caller in &world.callers {
            let apps = if route.path.contains("{app_id}") {
                2
            } else {
                1
            };
            for app in 0..apps {
                let reply = world.ask(&route, caller, Some(app)).await;
                let expected = caller.expected(&route, app == 0);
                if reply.status != expected {
                    wrong.push(format!(
                        "{} {} on app {app} as {}: {} instead of {expected}: {}",
                        route.method, route.path, caller.name, reply.status, reply.text
                    ));
                }
                if expected >= 400 {
                    assert_eq!(reply.header("content-type"), "application/problem+json");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn to_who_sees_some_apps_the_others_are_as_if_they_did_not_exist() {
    let world = World::new().await;
    let hidden = &world.apps[1];
    for caller in world.callers.iter().filter(|caller| caller.scoped) {
        for route in routes() {
            if route.path.contains("{app_id}") {
                let other = world.ask(&route, caller, Some(1)).await;
                let none = world.ask(&route, caller, None).await;
                assert_eq!(
                    shape(&other, &hidden.id),
                    shape(&none, UNKNOWN),
                    "{} {} as {}",
                    route.method,
                    route.path,
                    caller.name
                );
            }
            let seen = world.ask(&route, caller, Some(0)).await;
            for sign in [&*hidden.id, &*hidden.key, "Hidden"] {
                assert!(
                    !seen.text.contains(sign),
                    "{} {} tells {} of {sign}: {}",
                    route.method,
                    route.path,
                    caller.name,
                    seen.text
                );
            }
        }
        let filtered = format!("/audit?app_id={}", hidden.id);
        let filtered = caller.admin.get(&filtered).await;
        assert!(
            filtered.json()["items"]
                .as_array()
                .is_none_or(Vec::is_empty)
        );
        let rights = json!({"name": "more", "role": "viewer", "apps": [hidden.id]});
        let unknown = json!({"name": "more", "role": "viewer", "apps": [UNKNOWN]});
        let given = caller.admin.post("/tokens", &rights).await;
        let none = caller.admin.post("/tokens", &unknown).await;
        assert_eq!(shape(&given, &hidden.id), shape(&none, UNKNOWN));
        assert!(given.status >= 400);
    }
}

#[tokio::test]
async fn a_path_that_is_not_there_is_a_problem_as_well() {
    let server = server(&[]).await;
    let owner = server.owner().await;
    assert_eq!(owner.get("/nothing").await.problem(404), "not_found");
    let method = owner.call("POST", "/server", &[], None).await;
    assert_eq!(method.problem(405), "method_not_allowed");
}
