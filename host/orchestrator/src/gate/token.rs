//! Callers that show a token of the platform.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use picloud_core::{AppId, ErrorCode};
use picloud_edge::Problem;
use picloud_store::{AppCaller, Store, TokenHash};
use tokio::{sync::Semaphore, time::timeout};

use crate::host::describe;

/// Tokens that are looked up at once: with their connections, guessing tokens cannot keep out the rest of the platform.
const LOOK_UPS: usize = 3;

/// How long a look-up may take.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// What a request shows in `authorization`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// A token of the platform.
    Token(TokenHash),
    /// Nothing, or what is no bearer token of the platform.
    None,
    /// Two headers, of which one cannot know which is meant.
    Twice,
}

/// Whether a request can show a token of the platform at all: what every request is asked.
pub(crate) fn can_show_token(headers: &HeaderMap) -> bool {
    let has_token = |value: &HeaderValue| value.as_bytes().windows(4).any(|part| part == b"pcl_");
    headers.get_all(AUTHORIZATION).iter().any(has_token)
}

impl Shown {
    pub(super) fn in_headers(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Self::None };
        if values.next().is_some() {
            return Self::Twice;
        }
        let token = value.to_str().ok().and_then(|text| text.split_once(' ')).and_then(|(scheme, token)| {
            let token = token.trim();
            (scheme.eq_ignore_ascii_case("bearer") && token.starts_with("pcl_")).then_some(token)
        });
        token.map_or(Self::None, |token| Self::Token(TokenHash::of(token)))
    }
}

/// Looks tokens up. Nothing is remembered, so that a revoked one is refused at once, on every node: the query takes a
/// fraction of the time of the shortest invocation.
pub(crate) struct Callers {
    store: Store,
    turns: Semaphore,
}

impl Callers {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, turns: Semaphore::new(LOOK_UPS) }
    }

    /// What the holder of a token is at an app; `None` where the token is unknown, expired or revoked.
    pub(super) async fn at(&self, app: AppId, token: TokenHash) -> Result<Option<AppCaller>, Problem> {
        let look_up = async {
            let _turn = self.turns.acquire().await;
            self.store.authenticate_at(token, app).await
        };
        match timeout(MAX_WAIT, look_up).await {
            Ok(Ok(caller)) => Ok(caller),
            Ok(Err(error)) => {
                let (code, detail) = describe(&error);
                Err(Problem::new(code).detail(detail))
            }
            Err(_) => {
                Err(Problem::new(ErrorCode::NodeBusy).detail("the token could not be looked up in time"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_bearer_token_of_the_platform_is_one() {
        let shown = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            let shown = Shown::in_headers(&headers);
            assert!(can_show_token(&headers) || !matches!(shown, Shown::Token(_)), "{values:?}");
            shown
        };
        let token = || Shown::Token(TokenHash::of("pcl_1"));
        assert_eq!(shown(&["Bearer pcl_1"]), token());
        assert_eq!(shown(&["bearer  pcl_1 "]), token());
        for other in
            ["pcl_1", "Basic pcl_1", "Bearer", "Bearer ", "Bearer xpcl_1", "Token pcl_1", "Bearer\tpcl_1"]
        {
            assert_eq!(shown(&[other]), Shown::None, "{other}");
        }
        assert_eq!(shown(&["Bearer pcl_1", "Bearer pcl_1"]), Shown::Twice);
        assert_eq!(
            shown(&["Bearer pcl_1, Bearer pcl_2"]),
            Shown::Token(TokenHash::of("pcl_1, Bearer pcl_2"))
        );
        assert_eq!(shown(&[]), Shown::None);
    }
}
