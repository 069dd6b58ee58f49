//! A receiver of webhooks that judges each request.

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use fanfare_protocol::signature::SigningKey;
use fanfare_testkit::SECRET;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::sync::mpsc;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Received {
    /// Returns a header, or an empty text.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// Returns whether the secret has signed it, as hosted Pusher signs.
    pub(crate) fn is_signed_with(&self, secret: &str) -> bool {
        SigningKey::new(secret).sign(&self.body) == self.header("x-pusher-signature")
    }

    /// Returns whether the test app's key has signed it.
    pub(crate) fn is_signed(&self) -> bool {
        self.is_signed_with(SECRET)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Starts a receiver on a port of its own, and returns its address and what it gets. It runs as long as the test.
pub(crate) async fn start(
    judge: impl Fn(&Received) -> u16 + Clone + Send + Sync + 'static,
) -> (String, mpsc::UnboundedReceiver<Received>) {
    let (tell, told) = mpsc::unbounded_channel();
    let take = async move |headers: HeaderMap, body: Bytes| {
        let body = String::from_utf8(body.to_vec()).unwrap();
        let received = Received { headers, body };
        let status = judge(&received);
        // A test that has ended doesn't listen any more.
        let _ = tell.send(received);
        StatusCode::from_u16(status).unwrap()
    };
    let router = axum::Router::new().route("/hook", post(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(router.clone());
            let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            tokio::spawn(connection);
        }
    });
    (url, told)
}
