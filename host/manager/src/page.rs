//! Lists: `{"items": [...], "next_cursor": null}`, asked for with `?limit=` and an opaque `cursor`.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use picloud_core::ErrorCode;
use picloud_store::PageSize;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiError;

/// How many items a page has: 1 to 200, 50 where nothing is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub(crate) struct PageLimit(PageSize);

impl PageLimit {
    /// The number of items, as the store takes it.
    pub(crate) const fn size(self) -> PageSize {
        self.0
    }
}

impl TryFrom<u32> for PageLimit {
    type Error = picloud_store::StoreError;

    fn try_from(limit: u32) -> Result<Self, Self::Error> {
        PageSize::new(limit).map(Self)
    }
}

/// `?limit=` and `?cursor=` of a list that has no filters.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Items of a page, 1 to 200.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    pub(crate) limit: PageLimit,
    /// `next_cursor` of the page before.
    pub(crate) cursor: Option<Cursor>,
}

/// Where a page starts: the sort key of the last item of the page before, opaque to clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(value_type = String)]
#[serde(transparent)]
pub(crate) struct Cursor(String);

impl Cursor {
    /// The cursor after an item with this sort key.
    pub(crate) fn after(key: &impl fmt::Display) -> Self {
        Self(URL_SAFE_NO_PAD.encode(key.to_string()))
    }

    /// The sort key in it.
    pub(crate) fn key<T: FromStr>(&self) -> Result<T, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(&self.0).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        text.and_then(|text| text.parse().ok()).ok_or_else(|| {
            ApiError::new(ErrorCode::Invalid, "cursor is not one that this list gave as next_cursor")
                .field("cursor")
        })
    }
}

/// The sort key of an optional cursor.
pub(crate) fn start<T: FromStr>(cursor: Option<&Cursor>) -> Result<Option<T>, ApiError> {
    cursor.map(Cursor::key).transpose()
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// The items, in the list's order.
    pub(crate) items: Vec<T>,
    /// Where the next page starts; null on the last page.
    pub(crate) next_cursor: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page of the store, with the sort key of its last item as the cursor of the next.
    pub(crate) fn of<R, K: fmt::Display>(
        found: picloud_store::Page<R>,
        sort_key: impl Fn(&R) -> K,
        view: impl FnMut(R) -> T,
    ) -> Self {
        let last = found.items.last().filter(|_| found.more);
        let next_cursor = last.map(|row| Cursor::after(&sort_key(row)));
        Self { items: found.items.into_iter().map(view).collect(), next_cursor }
    }

    /// A list that always fits one page.
    pub(crate) fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }
}

impl<T, E> Page<Result<T, E>> {
    /// The page, or the first error in it.
    pub(crate) fn transposed(self) -> Result<Page<T>, E> {
        let items = self.items.into_iter().collect::<Result<_, E>>()?;
        Ok(Page { items, next_cursor: self.next_cursor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_the_last_key_where_there_is_more() {
        let page =
            |more| Page::<i32>::of(picloud_store::Page { items: vec![1, 2], more }, |row| *row, |row| row);
        assert_eq!(page(true).next_cursor.unwrap().key::<i32>().unwrap(), 2);
        assert!(page(false).next_cursor.is_none());
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        for text in ["", "%", "bm90IGEgbnVtYmVy", "\u{1F600}"] {
            assert_eq!(Cursor(text.into()).key::<i32>().unwrap_err().code(), ErrorCode::Invalid, "{text}");
        }
    }

    #[test]
    fn limits_of_a_page_are_1_to_200() {
        for bad in [0, 201, u32::MAX] {
            assert!(PageLimit::try_from(bad).unwrap_err().to_string().contains("allowed is 1 to 200"));
        }
    }
}
