//! Cross-origin sharing: the headers that let pages of other origins read an app's answers
//! (<https://fetch.spec.whatwg.org/#http-cors-protocol>).

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};
use http_body_util::Full;
use picloud_core::{Cors, Method, Names};

/// What a script may not set where its app has settings of its own.
const DECIDED: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// The longest list of headers that a preflight may ask for.
const MAX_ASKED: usize = 1024;

/// An app's settings, and what of them can be written beforehand.
pub(crate) struct CorsPolicy {
    cors: Cors,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    max_age: HeaderValue,
}

/// Whether a request asks for the permission to send another.
pub(crate) fn is_preflight(method: &HttpMethod, headers: &HeaderMap) -> bool {
    method == HttpMethod::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl CorsPolicy {
    pub(crate) fn new(cors: &Cors) -> Self {
        let list = |names: &[&str]| {
            let text = names.join(", ");
            HeaderValue::try_from(text).ok().filter(|value| !value.is_empty())
        };
        let names = |names: &Names| match names {
            Names::Any => Some(HeaderValue::from_static("*")),
            Names::These(names) => list(&names.iter().map(String::as_str).collect::<Vec<_>>()),
        };
        Self {
            methods: list(&cors.methods.iter().map(|method| method.as_str()).collect::<Vec<_>>()),
            headers: names(&cors.headers),
            exposed: names(&cors.exposed_headers),
            max_age: HeaderValue::from(cors.max_age_seconds),
            cors: cors.clone(),
        }
    }

    /// The method that a preflight asks for, if it can be routed.
    pub(crate) fn asked_method(headers: &HeaderMap) -> Option<Method> {
        headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.to_str().ok()?.parse().ok()
    }

    /// The answer to a preflight; [`Self::apply`] adds for whom it is.
    pub(crate) fn preflight(&self, asked: &HeaderMap) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.append(VARY, HeaderValue::from_static("access-control-request-headers"));
        if self.allowed(asked).is_none() {
            return response;
        }
        if let Some(methods) = &self.methods {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
        }
        // A star does not stand for `authorization`, so that what is asked for is repeated.
        let allowed = match &self.cors.headers {
            Names::Any => asked.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|names| names.len() <= MAX_ASKED),
            Names::These(_) => self.headers.as_ref(),
        };
        if let Some(allowed) = allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        response
    }

    /// Says who may read an answer, in place of what a script says of it.
    pub(crate) fn apply(&self, asked: &HeaderMap, headers: &mut HeaderMap, is_preflight: bool) {
        if !is_preflight {
            for name in &DECIDED {
                headers.remove(name);
            }
        }
        if self.cors.origins != Names::Any {
            // Also where the origin may not: caches must not show its answer to one that may.
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        let Some(origin) = self.allowed(asked) else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.cors.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(exposed) = self.exposed.as_ref().filter(|_| !is_preflight) {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }

    /// The origin to allow: `*`, or the one that asks, if it may.
    fn allowed(&self, asked: &HeaderMap) -> Option<HeaderValue> {
        if self.cors.origins == Names::Any {
            return Some(HeaderValue::from_static("*"));
        }
        let mut origins = asked.get_all(ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else { return None };
        self.cors.allows(origin.as_bytes()).then(|| origin.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(settings: Value) -> CorsPolicy {
        CorsPolicy::new(&serde_json::from_value(settings).unwrap())
    }

    fn asked(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn seen(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn an_answer_names_the_origin_that_asked_if_it_may() {
        let policy = policy(json!({
            "origins": ["https://a.example"], "credentials": true, "exposed_headers": ["X-Total"],
        }));
        let mut headers = asked(&[("access-control-allow-origin", "*"), ("access-control-max-age", "1")]);
        policy.apply(&asked(&[("origin", "https://a.example")]), &mut headers, false);
        assert_eq!(
            seen(&headers),
            [
                "access-control-allow-credentials: true",
                "access-control-allow-origin: https://a.example",
                "access-control-expose-headers: x-total",
                "vary: origin"
            ]
        );
        let others: [&[(&str, &str)]; 4] = [
            &[],
            &[("origin", "null")],
            &[("origin", "https://b.example")],
            &[("origin", "https://a.example"), ("origin", "https://b.example")],
        ];
        for other in others {
            let mut headers = asked(&[("access-control-allow-origin", "https://b.example")]);
            policy.apply(&asked(other), &mut headers, false);
            assert_eq!(seen(&headers), ["vary: origin"], "{other:?}");
        }
    }

    #[test]
    fn a_star_is_the_same_for_everybody() {
        let policy = policy(json!({ "origins": ["*"] }));
        for origin in [&[][..], &[("origin", "null")], &[("origin", "https://b.example")]] {
            let mut headers = HeaderMap::new();
            policy.apply(&asked(origin), &mut headers, false);
            assert_eq!(seen(&headers), ["access-control-allow-origin: *"]);
        }
    }

    #[test]
    fn a_preflight_tells_what_may_be_sent() {
        let strict = policy(json!({
            "origins": ["https://a.example"], "methods": ["GET", "PUT"], "headers": ["Content-Type", "X-A"],
            "max_age_seconds": 5,
        }));
        let ask = |origin: &str| {
            asked(&[
                ("origin", origin),
                ("access-control-request-method", "PUT"),
                ("access-control-request-headers", "authorization, x-b"),
            ])
        };
        let mut response = strict.preflight(&ask("https://a.example"));
        strict.apply(&ask("https://a.example"), response.headers_mut(), true);
        assert_eq!(response.status(), 204);
        assert_eq!(
            seen(response.headers()),
            [
                "access-control-allow-headers: content-type, x-a",
                "access-control-allow-methods: GET, PUT",
                "access-control-allow-origin: https://a.example",
                "access-control-max-age: 5",
                "vary: access-control-request-headers",
                "vary: origin"
            ]
        );
        let mut refused = strict.preflight(&ask("https://evil.example"));
        strict.apply(&ask("https://evil.example"), refused.headers_mut(), true);
        assert_eq!(seen(refused.headers()), ["vary: access-control-request-headers", "vary: origin"]);

        let open = policy(json!({ "origins": ["*"], "headers": ["*"] }));
        let allowed = open.preflight(&ask("null")).headers()[ACCESS_CONTROL_ALLOW_HEADERS].clone();
        assert_eq!(allowed, "authorization, x-b");
    }

    #[test]
    fn only_options_with_both_headers_is_a_preflight() {
        let both = asked(&[("origin", "null"), ("access-control-request-method", "GET")]);
        assert!(is_preflight(&HttpMethod::OPTIONS, &both));
        assert!(!is_preflight(&HttpMethod::GET, &both));
        assert!(!is_preflight(&HttpMethod::OPTIONS, &asked(&[("origin", "null")])));
    }
}
