//! The dashboard's page and files.

use fanfare_testkit::Server;
use fanfare_testkit::admin::Reply;

use crate::server_with;

async fn get(address: std::net::SocketAddr, path: &str, accept: &str) -> Reply {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(format!("http://{address}{path}"));
    let answer = request.header("accept", accept).send().await.unwrap();
    Reply {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        text: answer.text().await.unwrap(),
    }
}

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

async fn page(server: &Server) -> Reply {
    get(server.address, "/", BROWSER).await
}

#[tokio::test]
async fn a_browser_gets_the_dashboard_and_other_programs_a_text() {
    let server = server_with(&["demo=false"]).await;
    let page = page(&server).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'self';",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let text = get(server.address, "/", "*/*").await;
    assert!(text.text.starts_with("Fanfare is running"), "{text:?}");
}

#[tokio::test]
async fn what_the_page_loads_never_changes_under_its_name() {
    let server = server_with(&[]).await;
    let page = page(&server).await;
    let loaded: Vec<_> = page
        .text
        .split('"')
        .filter(|part| part.starts_with("dashboard/"))
        .collect();
    assert!(loaded.len() >= 2, "{}", page.text);
    for path in loaded {
        let file = get(server.address, &format!("/{path}"), "*/*").await;
        assert_eq!(file.status, 200, "{path}");
        assert!(
            file.header("cache-control").contains("immutable"),
            "{file:?}"
        );
        assert_eq!(file.header("x-content-type-options"), "nosniff");
    }
    let missing = get(server.address, "/dashboard/index-other.js", "*/*").await;
    assert_eq!(missing.status, 404);
    for path in ["/dashboard", "/dashboard/"] {
        let moved = get(server.address, path, BROWSER).await;
        assert_eq!(moved.text, page.text, "{path} leads to the page");
    }
}

#[tokio::test]
async fn with_an_address_for_operators_the_dashboard_is_there_alone() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let server = server_with(&[&format!("ops.listen={address}")]).await;
    let public = page(&server).await;
    assert!(!public.text.contains("dashboard/"), "{public:?}");
    let page = get(address, "/", BROWSER).await;
    assert!(page.text.contains("dashboard/"), "{page:?}");
}
