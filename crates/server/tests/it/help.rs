//! What the program says ends with the address of the row of docs/errors.md that explains it.

use fanfare_testkit::Server;
use serde_json::Value;

use crate::{server, server_with};

/// The row about a header that a stranger sends as a proxy would.
const ROW: &str = "/docs/errors#x-forwarded-for-is-not-believed-from-here-if-this-is-a";

async fn get(server: &Server, path: &str) -> reqwest::Response {
    let url = format!("http://{}{path}", server.address);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(url).header("x-forwarded-for", "192.0.2.1");
    request.send().await.unwrap()
}

async fn problem(server: &Server) -> Value {
    let text = get(server, "/api/v1/nothing").await.text().await.unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The line of the log about that header.
async fn line(settings: &[&str]) -> String {
    let server = server_with(settings).await;
    get(&server, "/apps/1/channels").await;
    let log = server.log();
    let line = log.lines().find(|line| line.contains("is not believed"));
    line.unwrap_or_else(|| panic!("{log}")).to_owned()
}

#[tokio::test]
async fn a_problem_names_its_row_or_the_section_of_problems() {
    let server = server_with(&["http.base_path=/realtime"]).await;
    let problem = problem(&server).await;
    let help = problem["help"].as_str().unwrap();
    let (page, anchor) = help.split_once('#').unwrap();
    assert_eq!(page, "/realtime/docs/errors");
    let page = get(&server, page).await.text().await.unwrap();
    assert!(page.contains(&format!("id=\"{anchor}\"")), "{help}");
}

#[tokio::test]
async fn without_the_documentation_nothing_points_to_it() {
    let server = server_with(&["docs.enabled=false"]).await;
    let problem = problem(&server).await;
    assert_eq!(problem.get("help"), None);
    assert!(!line(&["docs.enabled=false"]).await.contains("help="));
}

#[tokio::test]
async fn a_line_of_the_log_names_its_row_as_text_and_as_json() {
    let text = line(&[]).await;
    assert!(text.ends_with(&format!(" help={ROW}")), "{text}");
    let json = line(&["log.format=json"]).await;
    let json: Value = serde_json::from_str(&json).expect("a line of JSON");
    assert_eq!(json["help"], ROW);
    let server = server().await;
    let page = get(&server, "/docs/errors").await.text().await.unwrap();
    let (_, anchor) = ROW.split_once('#').unwrap();
    assert!(page.contains(&format!("id=\"{anchor}\"")));
}
