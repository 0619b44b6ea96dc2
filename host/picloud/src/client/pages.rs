//! Lists of the API, page after page.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{
    api::{Api, with_query},
    error::ClientError,
};

/// The largest page of the API.
const PAGE: usize = 200;

/// Items of a list as the server gave them.
#[derive(Debug, Default)]
pub(super) struct Items(Vec<Box<RawValue>>);

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

impl Items {
    /// The items of a list: at most `limit` of them, all without one.
    pub(super) fn fetch(
        api: &Api,
        path: &str,
        query: &[(&str, Option<String>)],
        limit: Option<usize>,
    ) -> Result<Self, ClientError> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let left = limit.map_or(PAGE, |limit| (limit - items.len()).min(PAGE));
            let mut pairs = query.to_vec();
            pairs.push(("limit", Some(left.to_string())));
            pairs.push(("cursor", cursor.take()));
            let page: Page = api.read(&api.get(&with_query(path, &pairs))?)?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() || limit.is_some_and(|limit| items.len() >= limit) {
                return Ok(Self(items));
            }
        }
    }

    /// The items of a list that the API does not page.
    pub(super) fn fetch_whole(api: &Api, path: &str) -> Result<Self, ClientError> {
        let page: Page = api.read(&api.get(path)?)?;
        Ok(Self(page.items))
    }

    /// The items as `T`.
    pub(super) fn read<T: DeserializeOwned>(&self, api: &Api) -> Result<Vec<T>, ClientError> {
        self.0.iter().map(|item| api.read(item.get())).collect()
    }

    /// One document for programs.
    pub(super) fn json(&self) -> String {
        let items: Vec<&str> = self.0.iter().map(|item| item.get()).collect();
        format!("{{\"items\":[{}]}}", items.join(","))
    }
}
