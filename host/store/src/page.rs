//! Pages of a list. A page starts after the key that the last one ended with, so that it costs the same
//! however deep it is.

use crate::StoreError;

/// How many items of a list are wanted: 1 to 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u16);

impl PageSize {
    /// The most.
    pub const MAX: Self = Self(200);
    /// The smallest: to see whether there is anything.
    pub const ONE: Self = Self(1);

    /// Checks a number that a client gave.
    pub fn new(size: u32) -> Result<Self, StoreError> {
        match u16::try_from(size) {
            Ok(size) if (1..=Self::MAX.0).contains(&size) => Ok(Self(size)),
            _ => Err(StoreError::Invalid(format!("limit is {size}; allowed is 1 to {}", Self::MAX.0))),
        }
    }

    /// The number.
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// One more than wanted, to see whether there is a next page.
    pub(crate) const fn and_one(self) -> i64 {
        self.0 as i64 + 1
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self(50)
    }
}

/// Some items of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Whether there are more after the last one.
    pub more: bool,
}

impl<T> Page<T> {
    /// Makes a page of rows that were asked for with [`PageSize::and_one`].
    pub(crate) fn of<R>(
        rows: Vec<R>,
        size: PageSize,
        item: impl FnMut(R) -> Result<T, StoreError>,
    ) -> Result<Self, StoreError> {
        let more = rows.len() > size.get();
        let items = rows.into_iter().take(size.get()).map(item).collect::<Result<_, _>>()?;
        Ok(Self { items, more })
    }
}
