//! The admin API's own routes within this process. A person who can read this machine's configuration and store may do
//! everything with them, and is in the audit log as the command line.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::{Answer, AnswerBody};
use crate::access::Caller;
use crate::config::{Config, reachable};
use crate::server_lock::ServerLock;
use crate::startup::Begin;
use crate::{admin, startup};

/// The routes of the admin API that need no running node.
#[derive(Debug)]
pub(super) struct Local {
    router: Router,
    /// Address at which the server of this store serves operators, or would.
    operators: SocketAddr,
    base_path: String,
}

impl Local {
    pub(super) async fn open(config: &Config, begin: Begin) -> anyhow::Result<Self> {
        let store = startup::open_store(config, begin).await?;
        let state = startup::state_at_rest(config, store)?;
        let routes = Router::from(admin::offline_routes());
        Ok(Self {
            base_path: config.http.base_path.clone(),
            router: Router::new().nest("/api/v1", routes).with_state(state),
            operators: config
                .ops
                .listen
                .unwrap_or_else(|| ServerLock::address_of_server(config)),
        })
    }

    pub(super) fn dashboard(&self) -> String {
        format!("http://{}{}", reachable(self.operators), self.base_path)
    }

    pub(super) async fn send(&self, request: Request<Bytes>) -> Answer {
        let mut request = request.map(Body::from);
        request.extensions_mut().insert(Caller::command_line());
        let answered: Result<Response, Infallible> = self.router.clone().oneshot(request).await;
        let response = answered.unwrap_or_else(|never| match never {});
        Answer {
            status: response.status(),
            body: AnswerBody::Local(response.into_body()),
        }
    }
}

pub(super) async fn chunk(body: &mut Body) -> anyhow::Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
