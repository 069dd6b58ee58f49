//! Finds the app of a thing whose id alone was given.

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::api::{Api, Call};
use crate::admin::apps::App;
use crate::admin::page::Page;

/// Number of apps that are searched at a time.
const CONCURRENT_LOOKUPS: usize = 8;

/// Returns the id of the app with an item in `collection` whose `field` has this value, or `None` if there is none.
pub(super) async fn app_of(
    api: &Api,
    collection: &str,
    field: &str,
    value: &str,
) -> anyhow::Result<Option<String>> {
    let apps = api.list(|| Call::get(&["apps"]), None).await?;
    let apps: Page<App> = serde_json::from_value(apps)?;
    let holds = async |app: App| -> anyhow::Result<Option<String>> {
        let call = || Call::get(&["apps", &app.id, collection]);
        let listed = api.list(call, None).await?;
        let mut items = listed["items"].as_array().into_iter().flatten();
        let is_it = |item: &Value| item[field] == value;
        Ok(items.any(is_it).then_some(app.id))
    };
    let found = stream::iter(apps.items)
        .map(holds)
        .buffer_unordered(CONCURRENT_LOOKUPS);
    let found: Vec<String> = found
        .try_filter_map(async |id| Ok(id))
        .try_collect()
        .await?;
    Ok(found.into_iter().next())
}
