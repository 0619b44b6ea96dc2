//! `ETag`, `If-Match` and `If-None-Match`: nobody overwrites what they have not seen.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use picloud_core::ErrorCode;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::ApiError;

/// A strong entity tag: 16 hexadecimal digits of a digest of what the entity is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ETag(String);

impl ETag {
    /// The tag of an entity that is shown whole, as this JSON.
    pub(crate) fn of_json(entity: &impl Serialize) -> Result<Self, ApiError> {
        let text = serde_json::to_vec(entity);
        text.map(|text| Self::of(&[&text])).map_err(|error| ApiError::internal("an entity tag", &error))
    }

    /// The tag of an entity that these parts identify.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let start: [u8; 8] = std::array::from_fn(|i| digest[i]);
        Self(format!("{:016x}", u64::from_be_bytes(start)))
    }

    /// The tag as a header.
    pub(crate) fn header(&self) -> (HeaderName, String) {
        (header::ETAG, format!("\"{}\"", self.0))
    }
}

/// What a request requires of the entity it changes.
#[derive(Debug)]
pub(crate) struct Precondition {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

#[derive(Debug)]
enum Tags {
    Any,
    These(Vec<String>),
}

impl Precondition {
    /// Reads both headers.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        Ok(Self {
            if_match: Tags::parse(headers, &header::IF_MATCH)?,
            if_none_match: Tags::parse(headers, &header::IF_NONE_MATCH)?,
        })
    }

    /// Whether nothing is required.
    pub(crate) fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// Whether the client has the entity already, as `If-None-Match` of a GET says.
    pub(crate) fn is_known(&self, current: &ETag) -> bool {
        self.if_none_match.as_ref().is_some_and(|tags| tags.contain(Some(current)))
    }

    /// Checks against the entity as it is now; `None` is absent.
    pub(crate) fn check(&self, current: Option<&ETag>) -> Result<(), ApiError> {
        let fail = |detail: &'static str| Err(ApiError::new(ErrorCode::PreconditionFailed, detail));
        if self.if_match.as_ref().is_some_and(|tags| !tags.contain(current)) {
            return fail("it was changed since: If-Match names another version than the present one");
        }
        if self.if_none_match.as_ref().is_some_and(|tags| tags.contain(current)) {
            return fail("it exists: If-None-Match asks for it not to");
        }
        Ok(())
    }
}

impl Tags {
    fn parse(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, ApiError> {
        let mut tags = Vec::new();
        let mut is_given = false;
        for value in headers.get_all(name) {
            is_given = true;
            for tag in text_of(value, name)?.split(',').map(str::trim) {
                if tag == "*" {
                    return Ok(Some(Self::Any));
                }
                let strong = tag.strip_prefix("W/").unwrap_or(tag);
                match strong.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) {
                    Some(tag) => tags.push(tag.to_owned()),
                    None => return Err(wrong(name)),
                }
            }
        }
        Ok(is_given.then_some(Self::These(tags)))
    }

    fn contain(&self, current: Option<&ETag>) -> bool {
        match self {
            Self::Any => current.is_some(),
            Self::These(tags) => current.is_some_and(|current| tags.contains(&current.0)),
        }
    }
}

fn text_of<'a>(value: &'a HeaderValue, name: &HeaderName) -> Result<&'a str, ApiError> {
    value.to_str().map_err(|_| wrong(name))
}

fn wrong(name: &HeaderName) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, format!("{name} is not a list of quoted entity tags or *"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, value: &str, current: Option<&ETag>) -> Result<(), ErrorCode> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let precondition = Precondition::of(&headers).map_err(|error| error.code())?;
        precondition.check(current).map_err(|error| error.code())
    }

    #[test]
    fn preconditions_compare_with_what_is_there() {
        let tag = ETag::of(&[b"1"]);
        let quoted = tag.header().1;
        let failed = Err(ErrorCode::PreconditionFailed);
        assert_eq!(check("if-match", &quoted, Some(&tag)), Ok(()));
        assert_eq!(check("if-match", &format!("\"x\", {quoted}"), Some(&tag)), Ok(()));
        assert_eq!(check("if-match", &quoted, None), failed);
        assert_eq!(check("if-match", "\"x\"", Some(&tag)), failed);
        assert_eq!(check("if-match", "*", None), failed);
        assert_eq!(check("if-none-match", "*", Some(&tag)), failed);
        assert_eq!(check("if-none-match", "*", None), Ok(()));
        assert_eq!(check("if-match", "x", Some(&tag)), Err(ErrorCode::BadRequest));
    }

    #[test]
    fn tags_differ_by_the_borders_of_their_parts() {
        assert_ne!(ETag::of(&[b"ab", b"c"]), ETag::of(&[b"a", b"bc"]));
    }
}
