//! The settings in force on the node that answers.

use axum::Json;
use axum::extract::State;
use fanfare_store::Role;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::access::Caller;
use crate::app_state::AppState;
use crate::config::SettingInForce;

/// The settings in force on a node, by name.
#[derive(Serialize, ToSchema)]
pub(crate) struct Configuration {
    /// Each setting.
    settings: Vec<Setting>,
}

/// A setting of a node.
#[derive(Serialize, ToSchema)]
#[schema(as = NodeSetting)]
pub(crate) struct Setting {
    /// Its name in the configuration file.
    #[schema(example = "http.max_body_bytes")]
    name: &'static str,
    /// Its value. Secrets are hidden, and `null` is none.
    #[schema(required, value_type = Value)]
    value: Value,
    /// The value that it has unless it is set.
    #[schema(required, value_type = Value)]
    default: Value,
    /// Where the value is from, such as a file, a variable, or `default`.
    #[schema(example = "default")]
    source: String,
    /// Whether nobody set it.
    is_default: bool,
    /// Whether the value is never shown.
    is_secret: bool,
}

impl From<&SettingInForce> for Setting {
    fn from(found: &SettingInForce) -> Self {
        Self {
            name: found.name,
            value: found.value.clone(),
            default: found.default.clone(),
            source: found.source.clone(),
            is_default: found.is_default,
            is_secret: found.is_secret,
        }
    }
}

/// Show the settings in force on the node that answers
///
/// Shows what `fanfare config` prints. Needs the role admin on all apps.
#[utoipa::path(
    get, path = "/configuration", tag = "Server", operation_id = "show_configuration",
    responses((status = 200, body = Configuration)),
)]
pub(super) async fn show(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Configuration>, Problem> {
    caller.require_everywhere(Role::Admin)?;
    let settings = state.settings.iter().map(Setting::from);
    Ok(Json(Configuration {
        settings: settings.collect(),
    }))
}
