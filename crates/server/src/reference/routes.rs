//! Every request that the server answers, out of the description of its HTTP APIs.

use serde_json::Value;

use super::released::since;
use crate::openapi;

/// Returns the table of the requests of the admin API.
pub(super) fn of_admin_api() -> String {
    table(requests().into_iter().filter(Request::is_admin))
}

/// Returns the table of the requests of backends and clients.
pub(super) fn of_others() -> String {
    table(requests().into_iter().filter(|request| !request.is_admin()))
}

fn table(requests: impl Iterator<Item = Request>) -> String {
    let rows = requests.map(|request| {
        let Request {
            name,
            summary,
            parameters,
            statuses,
        } = request;
        let since = since(&name);
        format!("| `{name}` | {summary} | {parameters} | {statuses} | {since} |\n")
    });
    format!(
        "| request | what it does | query | answers | since |\n|---|---|---|---|---|\n{}",
        rows.collect::<String>()
    )
}

/// Returns all requests, for example `GET /api/v1/apps`.
pub(super) fn names() -> Vec<String> {
    requests().into_iter().map(|request| request.name).collect()
}

struct Request {
    name: String,
    summary: String,
    parameters: String,
    statuses: String,
}

impl Request {
    fn is_admin(&self) -> bool {
        self.name.contains(" /api/v1/")
    }
}

fn requests() -> Vec<Request> {
    let document = serde_json::to_value(openapi::document()).unwrap_or_default();
    let paths = document["paths"].as_object().cloned().unwrap_or_default();
    let mut requests = Vec::new();
    for (path, methods) in paths {
        let methods = methods.as_object().cloned().unwrap_or_default();
        // What the description has beside methods has no answers.
        let methods = methods.iter().filter(|(_, of)| of["responses"].is_object());
        requests.extend(methods.map(|(method, of)| request(method, &path, of)));
    }
    requests
}

fn request(method: &str, path: &str, of: &Value) -> Request {
    let parameters = of["parameters"].as_array().cloned().unwrap_or_default();
    let of_query = parameters.iter().filter(|one| one["in"] == "query");
    let of_query = of_query.filter_map(|one| Some(format!("`{}`", one["name"].as_str()?)));
    let statuses = of["responses"].as_object().into_iter().flatten();
    let statuses: Vec<&str> = statuses.map(|(status, _)| status.as_str()).collect();
    Request {
        name: format!("{} {path}", method.to_uppercase()),
        summary: of["summary"].as_str().unwrap_or_default().to_owned(),
        parameters: of_query.collect::<Vec<_>>().join(", "),
        statuses: statuses.join(", "),
    }
}
