//! Descriptions that operations, parameters and fields share, written once.

use serde_json::{Map, Value, json};

const ADMIN: &str = "/api/v1/";
const BACKEND: &str = "/apps/";
const WEBSOCKET: &str = "/ws/";
const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

const DESCRIPTION: &str = "\
Three APIs on one listener.

**Admin** (`/api/v1`, all tags but the last two): apps, keys, operators, tokens, audit log and what is happening now. Sign in \
with `POST /api/v1/sessions`, or use an API token; both go into `Authorization: Bearer`. Times are Unix milliseconds. Lists come \
in pages; creating takes an `Idempotency-Key`, changing an `If-Match`. Errors are problem details (RFC 9457) with a `code` that \
stays. Unknown fields are refused, and so is the character U+0000, which databases cannot store.

**Backend** (`/apps`): what every Pusher server SDK calls, signed with a key of the app. Errors are plain text. Fields and \
parameters that are not known are ignored, as Pusher does.

**Clients** (`/app`, `/sse`, `/ws`): what pusher-js asks in apps without an auth endpoint of their own, with a token of the app's \
identity provider; and streams and WebSockets of clients without a library. Errors are plain text.";

const SIGNATURE: &str = "\
Every Pusher server SDK signs for you. The query of a signed request has, beside the endpoint's own parameters:

- `auth_key`: a key of the app
- `auth_timestamp`: Unix time in seconds; less than 600 from the server's
- `auth_version`: `1.0`
- `body_md5`: the MD5 of the body in lowercase hex; where there is a body
- `auth_signature`: HMAC-SHA256 in lowercase hex, with the key's secret, of method, path and all other parameters, sorted by \
name and not percent-encoded, with line feeds between the three: \
`POST\\n/apps/123456789/events\\nauth_key=...&auth_timestamp=...&auth_version=1.0&body_md5=...`";

const TAGS: [(&str, &str); 16] = [
    (
        "Sessions",
        "Sign-in, refresh, and the caller's own sessions.",
    ),
    (
        "Apps",
        "An app is a tenant: its connections, channels and events are its own.",
    ),
    (
        "Keys",
        "An app's keys. Several are active at once, so that one can replace another while everything runs.",
    ),
    (
        "Identity",
        "The identity providers of an app's users, for apps whose subscriptions Fanfare signs.",
    ),
    (
        "Webhooks",
        "An app's webhooks: who is told what happens on its channels, where and how.",
    ),
    (
        "Outbox",
        "An app's outbox: where its backends write events in their own database, to be published from there.",
    ),
    (
        "State",
        "An app's channels, members and connections at this moment; and a test event.",
    ),
    (
        "Tokens",
        "API tokens for programs: each has a role, all apps or some, and an expiry.",
    ),
    (
        "Operators",
        "The people who administer the installation. For owners.",
    ),
    (
        "Signing keys",
        "The keys that sign sessions and API tokens. For owners.",
    ),
    (
        "Usage",
        "What apps did, by minute, hour and day, over all nodes.",
    ),
    ("Alerts", "Conditions that need an operator, and silences."),
    (
        "Audit",
        "All changes, with their actors, times and addresses.",
    ),
    ("Server", "The node that answers."),
    (
        "Backend",
        "Requests of an app's backends, through any Pusher server SDK or signed by hand.",
    ),
    (
        "Clients",
        "Requests of browsers and mobile clients, with a token of the app's identity provider; and clients without a library.",
    ),
];

/// Status, title, code and an example message of each problem.
const PROBLEMS: [(&str, &str, &str, &str); 12] = [
    ("400", "Bad Request", "invalid", "limit is 1 to 200, not 0"),
    (
        "401",
        "Unauthorized",
        "unauthorized",
        "the session has ended; sign in again",
    ),
    (
        "403",
        "Forbidden",
        "forbidden",
        "this needs the role admin, and yours is viewer",
    ),
    (
        "404",
        "Not Found",
        "not_found",
        "there is no app with id \"1\"",
    ),
    (
        "405",
        "Method Not Allowed",
        "method_not_allowed",
        "PUT is not possible at /api/v1/apps",
    ),
    (
        "409",
        "Conflict",
        "conflict",
        "there is an app with id \"123456789\" already",
    ),
    (
        "412",
        "Precondition Failed",
        "stale",
        "the app \"123456789\" was changed in the meantime; read it again, and send If-Match with its new ETag",
    ),
    (
        "413",
        "Payload Too Large",
        "too_large",
        "The body is too large: at most 262144 bytes are allowed",
    ),
    (
        "415",
        "Unsupported Media Type",
        "wrong_media_type",
        "the body must be JSON, with the header `Content-Type: application/json`",
    ),
    (
        "429",
        "Too Many Requests",
        "too_many",
        "too many attempts to sign in from this address; try again in 6 s",
    ),
    ("500", "Internal Server Error", "internal", "Internal error"),
    (
        "503",
        "Service Unavailable",
        "unavailable",
        "the store does not answer, or not to this process; the server's log says more",
    ),
];

/// An example text for each status.
const TEXTS: [(&str, &str); 11] = [
    ("400", "Missing parameter: name\n"),
    (
        "401",
        "Timestamp expired: auth_timestamp is 1767220000, the server's clock says 1767225600; they may differ by less than 600 seconds\n",
    ),
    ("403", "App 123456789 is disabled\n"),
    ("404", "There is no app with id \"123456789\"\n"),
    ("408", "The body did not arrive in time\n"),
    (
        "410",
        "The position is of a history that is not there any more: begin without one\n",
    ),
    (
        "413",
        "The data content of this event is too large: 10241 bytes, at most 10240 are allowed\n",
    ),
    ("415", "Unsupported content type\n"),
    (
        "426",
        "This is a WebSocket endpoint, and the request is no handshake: Upgrade is missing, it must hold websocket; does a proxy in \
         between drop it?\n",
    ),
    (
        "429",
        "Nothing was published: the app may publish 100 events per second; try again later\n",
    ),
    (
        "503",
        "Nothing was published: the server is overloaded; try again later\n",
    ),
];

/// Returns the schema of parameters and fields of this name, unless they have their own.
fn of_name(name: &str) -> Value {
    const TIME: i64 = 1_767_225_600_000;
    match name {
        "app_id" => json!({"example": "123456789"}),
        "key" => json!({"example": "278d425bdf160c739803"}),
        "operator_id" | "actor_id" => json!({"example": "op_4be1f0c6a5d2e7938b10"}),
        "token_id" => json!({"example": "tok_0c9a7be25f1d8e643a2b"}),
        "session_id" => json!({"example": "ses_7d20f3a914c5b86e0a1f"}),
        "webhook_id" => json!({"example": "wh_9e3f7a10c5d8b2461f7e"}),
        "alert_id" => json!({"example": "alr_2b6f90d1c7e3a845f01d"}),
        "target_id" => json!({"example": "278d425bdf160c739803"}),
        "socket_id" => json!({"example": "123.456", "pattern": r"^[0-9]+\.[0-9]+$"}),
        "channel" => json!({
            "example": "presence-room-1", "maxLength": 200,
            "pattern": "^[-a-zA-Z0-9_=@,.;]+$",
        }),
        "user" | "user_id" => json!({"example": "ada", "minLength": 1}),
        "address" | "last_used_from" => json!({"example": "203.0.113.7"}),
        "agent" => json!({"example": "Mozilla/5.0"}),
        "action" => json!({"example": "key.revoke"}),
        "next_cursor" => json!({"example": "WzE3NjcyMjU2MDAwMDAsIjEyMzQ1Njc4OSJd"}),
        "idempotency-key" => json!({"example": "5f0c1f6e", "minLength": 1, "maxLength": 255}),
        "if-match" => json!({"example": "\"42\"", "pattern": r#"^(\*|(W/)?"[0-9]{1,18}")$"#}),
        "prefix" | "filter_by_prefix" => json!({"example": "presence-"}),
        "info" => json!({"example": "subscription_count"}),
        "since" => json!({"example": TIME}),
        "until" => json!({"example": TIME + 86_400_000}),
        "at" => json!({"example": TIME}),
        "expires_at" => json!({"example": 1_893_456_000_000_i64}),
        name if name.ends_with("_at") => json!({"example": TIME}),
        _ => json!({}),
    }
}

/// Returns the schema of a line of text.
fn name_of_people() -> Value {
    json!({
        "minLength": 1, "maxLength": 200,
        "pattern": r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
    })
}

/// Returns the schema of an app's id, a key or a secret that is imported.
fn credential() -> Value {
    json!({
        "minLength": 1, "maxLength": 200,
        "pattern": r"^(?!\.{1,2}$)([^:/\s\x00-\x1f\x7f-\x9f]| )+$",
    })
}

/// Returns the bounds of a field of a schema.
fn of_field(schema: &str, field: &str) -> Value {
    match (schema, field) {
        (
            "CreateApp" | "UpdateApp" | "CreateOperator" | "UpdateOperator" | "CreateToken"
            | "CreateWebhook" | "UpdateWebhook",
            "name",
        ) => name_of_people(),
        ("CreateApp" | "CreateKey", "id" | "key" | "secret") => credential(),
        ("CreateOperator" | "UpdateOperator" | "CreateToken", "apps") => {
            let mut items = credential();
            items["type"] = json!("string");
            json!({"items": items, "example": ["123456789"]})
        }
        ("CreateKey" | "UpdateKey", "label") => {
            json!({"maxLength": 200, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"})
        }
        ("CreateOperator" | "SetPassword", "password") | ("SetOwnPassword", "new_password") => {
            json!({"minLength": 10, "maxLength": 1000, "example": "correct horse battery staple"})
        }
        ("PublishEvent" | "Trigger" | "BatchTrigger", "channel" | "channels") => {
            let pattern = "^(#server-to-user-)?[-a-zA-Z0-9_=@,.;]+$";
            let mut items = json!({"maxLength": 200, "pattern": pattern});
            if field == "channel" {
                return items;
            }
            items["type"] = json!("string");
            json!({"items": items, "minItems": 1, "maxItems": 100})
        }
        ("UserData", "watchlist") => json!({"items": {"type": "string", "minLength": 1}}),
        ("AppSettings" | "AppSettingsPatch", "allowed_origins") => {
            let pattern = r"^(\*|[a-z][-a-z0-9+.]*://([-A-Za-z0-9._]*\*)?[-A-Za-z0-9._]+(:[1-9][0-9]{3,4})?)$";
            json!({"items": {"type": "string", "maxLength": 300, "pattern": pattern}, "maxItems": 500})
        }
        ("AppSettings" | "AppSettingsPatch", "client_event_channels") => {
            let pattern = "^[-a-zA-Z0-9_=@,.;*]*$";
            json!({"items": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": pattern, "example": "chat-*"}, "maxItems": 100})
        }
        ("SocketIoSettings" | "SocketIoSettingsPatch", "broadcast") => {
            let pattern = "^(?!private-|presence-)[-a-zA-Z0-9_=@,.;]+$";
            json!({"items": {"type": "string", "maxLength": 200, "pattern": pattern, "example": "chat"}, "maxItems": 10})
        }
        ("CreateWebhook" | "UpdateWebhook", "events") => {
            json!({"minItems": 1, "uniqueItems": true})
        }
        (_, "apps") => json!({"example": ["123456789"]}),
        _ => json!({}),
    }
}

/// Adds the shared parts to a document.
pub(super) fn add(document: &mut Value, base_path: &str, path_prefix: &str) {
    document["info"] = json!({
        "title": "Fanfare",
        "version": env!("CARGO_PKG_VERSION"),
        "description": DESCRIPTION,
        "license": {"name": "Apache-2.0", "identifier": env!("CARGO_PKG_LICENSE")},
    });
    document["servers"] =
        json!([{"url": format!("{base_path}/"), "description": "Where this document comes from"}]);
    let tag = |(name, description): (&str, &str)| json!({"name": name, "description": description});
    document["tags"] = TAGS.into_iter().map(tag).collect();
    document["components"]["securitySchemes"] = json!({
        "bearer": {
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "The access token of a session, or an API token",
        },
        "signed": {"type": "apiKey", "in": "query", "name": "auth_signature", "description": SIGNATURE},
        "end_user": {
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "A token that the app's identity provider has issued to the user",
        },
    });
    for (path, item) in object(&mut document["paths"]) {
        if !path.starts_with(ADMIN) && path_prefix != base_path {
            item["servers"] = json!([{"url": path_prefix}]);
        }
        let operations = object(item).iter_mut();
        for (_, operation) in operations.filter(|(name, _)| METHODS.contains(&name.as_str())) {
            describe_operation(path, operation);
        }
    }
    let schemas = object(&mut document["components"]["schemas"]);
    split_settings(schemas);
    let names: Vec<String> = schemas.keys().cloned().collect();
    for (name, schema) in schemas {
        describe_schema(name, schema, &names);
    }
}

fn describe_operation(path: &str, operation: &mut Value) {
    let is_admin = path.starts_with(ADMIN);
    let has = |part: &str| operation.get(part).is_some();
    let (is_open, has_body) = (has("security"), has("requestBody"));
    let takes = |name: &str| {
        let parameters = operation["parameters"].as_array();
        parameters.is_some_and(|all| all.iter().any(|it| it["name"] == name))
    };
    let mut errors = vec![("400", "The request is invalid")];
    if is_admin {
        errors.push(("503", "The store does not answer; nothing was changed"));
        if !is_open {
            errors.push(("401", "The token is missing or invalid"));
            errors.push(("403", "The rights of the caller do not allow it"));
        }
        if has_body {
            errors.push(("413", "The body is too large"));
            errors.push(("415", "The body is not JSON"));
        }
        if takes("idempotency-key") {
            errors.push((
                "409",
                "The name is in use, or another request had this Idempotency-Key",
            ));
        }
    } else if !path.starts_with(WEBSOCKET) {
        errors.push(("401", "The signature or the token is invalid"));
        errors.push(("403", "The app is disabled, or does not allow it"));
        errors.push(("404", "There is no such app"));
        // Whatever backends send has a body that is read.
        if path.starts_with(BACKEND) || has_body {
            errors.push(("408", "The body did not arrive in time"));
            errors.push(("413", "The body, or an event's data, is too large"));
        }
    }
    if !is_open {
        let scheme = match path {
            path if path.starts_with(ADMIN) => json!({"bearer": []}),
            path if path.starts_with(BACKEND) => json!({"signed": []}),
            _ => json!({"end_user": []}),
        };
        operation["security"] = json!([scheme]);
    }
    for parameter in items(operation, "parameters") {
        describe_parameter(parameter);
    }
    let responses = object(&mut operation["responses"]);
    for (status, description) in errors {
        let response = responses.entry(status).or_insert_with(|| json!({}));
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = json!(description);
        }
    }
    for (status, response) in responses {
        describe_response(status, response, is_admin);
    }
}

fn describe_parameter(parameter: &mut Value) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    let optional = parameter["required"] == false;
    let schema = &mut parameter["schema"];
    // An optional parameter is absent rather than null, because a query can't carry null.
    not_null(schema);
    let mut more = of_name(&name);
    let example = object(&mut more).remove("example");
    merge(schema, more);
    let Some(example) = example else { return };
    if optional {
        // Not as an example value, because /docs would send it.
        let description = parameter["description"].as_str().unwrap_or_default();
        let description = description.trim_end_matches('.');
        parameter["description"] =
            json!(format!("{description}. For example `{}`.", text(&example)));
    } else {
        parameter["example"] = example;
    }
}

fn describe_response(status: &str, response: &mut Value, is_admin: bool) {
    if response["description"].as_str().is_none_or(str::is_empty) {
        let description = match status {
            "200" => "The answer",
            "201" => "Created",
            "204" => "Done",
            "401" => "The credentials are missing or invalid",
            "404" => "There is no such resource, or the caller may not see it",
            "409" => "The request conflicts with something that exists",
            "412" => "The resource was changed in the meantime",
            "429" => "Too many requests; try again later",
            _ => "Refused",
        };
        response["description"] = json!(description);
    }
    if status < "400" {
        return;
    }
    if is_admin {
        let example = PROBLEMS.iter().find(|(of, ..)| *of == status);
        let example = example.map(|(status, title, code, detail)| {
            let status: u16 = status.parse().expect("a status is a number");
            let kind = format!("urn:fanfare:problem:{code}");
            json!({"type": kind, "title": title, "status": status, "code": code, "detail": detail})
        });
        response["content"]["application/problem+json"] = json!({
            "schema": {"$ref": "#/components/schemas/Problem"}, "example": example,
        });
    } else {
        let example = TEXTS.iter().find(|(of, _)| *of == status);
        response["content"]["text/plain"] = json!({
            "schema": {"type": "string"}, "example": example.map(|(_, text)| text),
        });
    }
    let header = match status {
        "401" if is_admin => (
            "www-authenticate",
            "The way to authenticate",
            json!({"type": "string", "example": "Bearer"}),
        ),
        "429" | "503" => (
            "retry-after",
            "Seconds after which to try again",
            json!({"type": "integer", "minimum": 1, "example": 1}),
        ),
        _ => return,
    };
    let (name, description, schema) = header;
    response["headers"][name] =
        json!({"description": description, "required": true, "schema": schema});
}

/// Splits the schemas of settings: answers hold every setting, requests some of them.
fn split_settings(schemas: &mut Map<String, Value>) {
    for (name, patch_name) in [
        ("AppSettings", "AppSettingsPatch"),
        ("Limits", "LimitsPatch"),
        ("Quotas", "QuotasPatch"),
        ("SocketIoSettings", "SocketIoSettingsPatch"),
    ] {
        let whole = &mut schemas[name];
        let fields: Vec<Value> = object(&mut whole["properties"])
            .keys()
            .map(|name| json!(name))
            .collect();
        let mut patch = whole.clone();
        whole["required"] = Value::Array(fields);
        patch["additionalProperties"] = json!(false);
        patch["description"] = json!("The settings to change; the others stay.");
        for field in object(&mut patch["properties"]).values_mut() {
            if let Some(field) = field.as_object_mut() {
                field.remove("default");
            }
        }
        schemas.insert(patch_name.into(), patch);
    }
    point_to(&mut schemas["AppSettingsPatch"], "Limits", "LimitsPatch");
    point_to(&mut schemas["AppSettingsPatch"], "Quotas", "QuotasPatch");
    point_to(
        &mut schemas["AppSettingsPatch"],
        "SocketIoSettings",
        "SocketIoSettingsPatch",
    );
    for request in ["CreateApp", "UpdateApp"] {
        point_to(&mut schemas[request], "AppSettings", "AppSettingsPatch");
    }
}

/// Changes all references from one schema to another.
fn point_to(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::Object(fields) => {
            if fields.get("$ref").and_then(Value::as_str) == Some(&reference(from)) {
                fields["$ref"] = json!(reference(to));
            }
            fields
                .values_mut()
                .for_each(|field| point_to(field, from, to));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| point_to(item, from, to)),
        _ => {}
    }
}

fn describe_schema(name: &str, schema: &mut Value, schemas: &[String]) {
    // A page of items that have a schema of their own.
    if let Some(item) = name
        .strip_prefix("Page_")
        .filter(|item| schemas.iter().any(|it| it == item))
    {
        schema["properties"]["items"]["items"] = json!({"$ref": reference(item)});
    }
    for part in items(schema, "allOf") {
        describe_schema(name, part, schemas);
    }
    let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (field, schema) in fields {
        let is_plain = schema.get("type").is_some();
        merge(schema, of_field(name, field));
        // An example must have the field's type.
        let more = of_name(field);
        let kind = if more["example"].is_string() {
            "string"
        } else {
            "integer"
        };
        let fits = schema["type"] == kind
            || schema["type"]
                .as_array()
                .is_some_and(|all| all.contains(&json!(kind)));
        if is_plain && fits {
            merge(schema, json!({"example": more["example"]}));
        }
    }
}

fn items<'a>(value: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    let items = value.get_mut(name).and_then(Value::as_array_mut);
    items.into_iter().flatten()
}

/// Returns a value as it is written in a query or a header.
fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn reference(schema: &str) -> String {
    format!("#/components/schemas/{schema}")
}

/// Adds the fields of `more` that `into` doesn't have.
fn merge(into: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    for (name, value) in more.into_iter().filter(|(_, value)| !value.is_null()) {
        if name == "items" || into.get(&name).is_none() {
            into[name.as_str()] = value;
        }
    }
}

fn not_null(schema: &mut Value) {
    if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind != "null");
        if let [kind] = kinds.as_slice() {
            schema["type"] = kind.clone();
        }
    }
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it is one now")
}
