//! Pages of long lists. A cursor holds the position where the previous page ended, so no item is skipped or repeated
//! while others come and go.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::holds_nul;
use super::problem::Problem;

const DEFAULT_LIMIT: u16 = 50;
const MAX_LIMIT: u16 = 200;

/// The page to return.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Most items of a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub(super) limit: Option<u16>,
    /// `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
}

/// Some items of a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Page<T> {
    /// The items.
    pub(crate) items: Vec<T>,
    /// The cursor of the next page; `null` if this is the last one.
    #[schema(required)]
    pub(crate) next_cursor: Option<String>,
}

impl PageQuery {
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        match self.limit.unwrap_or(DEFAULT_LIMIT) {
            limit @ 1..=MAX_LIMIT => Ok(limit.into()),
            limit => Err(Problem::invalid(format!(
                "limit is 1 to {MAX_LIMIT}, not {limit}"
            ))),
        }
    }

    /// Returns the position where the previous page ended, or `None` for the first page.
    pub(super) fn after<C: DeserializeOwned>(&self) -> Result<Option<C>, Problem> {
        let Some(cursor) = &self.cursor else {
            return Ok(None);
        };
        let json = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok();
        let json = json.filter(|json| !holds_nul(json));
        let after = json.and_then(|json| serde_json::from_slice(&json).ok());
        after.map(Some).ok_or_else(|| {
            Problem::invalid("invalid cursor: pass next_cursor of the previous page unchanged")
        })
    }
}

/// Returns the cursor of the page after a position.
pub(super) fn cursor(position: &impl Serialize) -> String {
    let json = serde_json::to_vec(position).expect("positions are JSON");
    BASE64_URL_SAFE_NO_PAD.encode(json)
}

impl<T> Page<T> {
    /// Makes a page of `limit` items from a list of up to `limit + 1`, whose last item shows that there are more.
    pub(super) fn of<R, C: Serialize>(
        mut found: Vec<R>,
        limit: usize,
        position: impl Fn(&R) -> C,
        view: impl Fn(R) -> T,
    ) -> Self {
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more).map(position);
        let next_cursor = last.map(|position| cursor(&position));
        Self {
            items: found.into_iter().map(view).collect(),
            next_cursor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_has_no_cursor_and_every_other_one_goes_on_after_it() {
        let page = Page::of(vec![1, 2, 3], 2, |n| *n, |n| n);
        assert_eq!(page.items, [1, 2]);
        let query = PageQuery {
            limit: None,
            cursor: page.next_cursor,
        };
        assert_eq!(query.after().ok(), Some(Some(2)));
        assert_eq!(Page::of(vec![3], 2, |n| *n, |n| n).next_cursor, None);
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let query = PageQuery {
            limit: Some(0),
            cursor: Some("nope!".into()),
        };
        assert!(query.after::<i64>().is_err());
        assert!(query.limit().is_err());
    }
}
