//! The certificates that the node that answers serves.

use axum::Json;
use axum::extract::State;
use fanfare_store::Role;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::tls::{Origin, Served, days_left};

/// The certificates of a node.
#[derive(Serialize, ToSchema)]
pub(crate) struct CertificateList {
    /// Each certificate; the first one is for clients that ask for no known name. Empty if the node speaks no TLS.
    certificates: Vec<CertificateInfo>,
}

/// A certificate that a node serves.
#[derive(Serialize, ToSchema)]
pub(crate) struct CertificateInfo {
    /// The names and addresses that it is for.
    #[schema(example = json!(["realtime.example.com"]))]
    names: Vec<String>,
    /// Its serial number, in hexadecimal.
    #[schema(example = "04a1b2c3d4e5f60718293a4b5c6d7e8f9001")]
    serial: String,
    /// From when it is valid, Unix time in milliseconds.
    not_before: i64,
    /// Until when it is valid, Unix time in milliseconds.
    not_after: i64,
    /// Days until it expires, negative afterwards.
    #[schema(example = 61.4)]
    days_left: f64,
    /// File that it comes from.
    #[schema(required, example = "/etc/fanfare/tls.crt")]
    certificate_file: Option<String>,
    /// File that its key comes from.
    #[schema(required, example = "/etc/fanfare/tls.key")]
    key_file: Option<String>,
    /// Why what the files hold now isn't served instead, or `null` if it is served.
    #[schema(required)]
    refused: Option<String>,
}

impl From<Served> for CertificateInfo {
    fn from(served: Served) -> Self {
        let certificate = &served.certificate;
        let shown = |file: &std::path::Path| file.display().to_string();
        let (certificate_file, key_file) = match &served.origin {
            Origin::Files { certificate, key } => (Some(shown(certificate)), Some(shown(key))),
            Origin::Managed => (None, None),
        };
        Self {
            names: certificate.facts.names.clone(),
            serial: certificate.facts.serial.clone(),
            not_before: certificate.facts.not_before.saturating_mul(1000),
            not_after: certificate.facts.not_after.saturating_mul(1000),
            days_left: days_left(certificate.facts.not_after),
            certificate_file,
            key_file,
            refused: served.refused,
        }
    }
}

/// List the certificates of the node that answers
///
/// Shows which certificates the node serves (`tls.certificate`), how long they last, and whether new files were
/// refused. Needs the role viewer on all apps.
#[utoipa::path(
    get, path = "/server/certificates", tag = "Server", operation_id = "list_certificates",
    responses((status = 200, body = CertificateList)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<CertificateList>, Problem> {
    caller.require_everywhere(Role::Viewer)?;
    let served = state.tls.as_ref().map(|tls| tls.certificates.served());
    let certificates = served.unwrap_or_default().into_iter();
    Ok(Json(CertificateList {
        certificates: certificates.map(CertificateInfo::from).collect(),
    }))
}
