//! `fanfare quotas`.

use clap::Args;

use super::api::{Api, Call, ServerFlags};
use super::output;
use crate::quotas::QuotaUse;

#[derive(Debug, Args)]
pub(crate) struct Quotas {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// One app's [default: those of all apps together]
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(quotas: &Quotas, api: &Api) -> anyhow::Result<()> {
    let call = match &quotas.app {
        Some(app) => Call::get(&["apps", app, "quotas"]),
        None => Call::get(&["quotas"]),
    };
    let answer = api.send(call).await?;
    let headings = [
        "QUOTA",
        "USED",
        "LIMIT",
        "SOFT LIMIT",
        "STATE",
        "BEGINS AGAIN",
    ];
    output::list(answer, quotas.json, &headings, |quota: QuotaUse| {
        let limit = |limit: Option<u64>| limit.map_or("none".into(), |limit| limit.to_string());
        vec![
            quota.quota,
            quota.used.to_string(),
            limit(quota.limit),
            limit(quota.soft_limit),
            quota.state,
            output::time(quota.resets_at),
        ]
    })
}
