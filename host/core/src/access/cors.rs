//! Which pages of other origins may read an app's answers (<https://fetch.spec.whatwg.org/#http-cors-protocol>).

use serde::{Deserialize, Serialize};

use super::{AccessError, at_most};
use crate::Method;

/// The settings of cross-origin sharing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Cors {
    /// Origins whose pages may read answers, such as `https://shop.example`.
    pub origins: Names,
    /// Methods that they may use.
    pub methods: Vec<Method>,
    /// Headers that they may send, in lower case.
    pub headers: Names,
    /// Headers of answers that they may read, in lower case.
    pub exposed_headers: Names,
    /// Whether they may send cookies and other credentials; never together with a `*`.
    pub credentials: bool,
    /// How long a browser may remember that a request is allowed.
    pub max_age_seconds: u32,
}

/// Some names, or any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// `*`.
    Any,
    /// These.
    These(Vec<String>),
}

impl Cors {
    /// The most origins.
    pub const MOST_ORIGINS: usize = 100;
    /// The most names of headers in a list.
    pub const MOST_HEADERS: usize = 50;
    /// The longest origin or name, in bytes.
    pub const LONGEST_NAME: usize = 255;
    /// The longest time for a browser to remember, in seconds: a day.
    pub const LONGEST_AGE: u32 = 86_400;

    /// Whether pages of `origin`, as a browser sends it, may read answers.
    pub fn allows(&self, origin: &[u8]) -> bool {
        match &self.origins {
            Names::Any => true,
            Names::These(origins) => origins.iter().any(|allowed| allowed.as_bytes() == origin),
        }
    }
}

impl Names {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::These(names) if names.is_empty())
    }

    fn new(
        given: Vec<String>,
        what: &str,
        most: usize,
        check: impl Fn(String) -> Result<String, AccessError>,
    ) -> Result<Self, AccessError> {
        at_most(given.len(), most, what)?;
        if given.iter().any(|name| name == "*") {
            if given.len() > 1 {
                return Err(AccessError(format!("{what} are * and others; * stands alone")));
            }
            return Ok(Self::Any);
        }
        let mut names = given.into_iter().map(check).collect::<Result<Vec<_>, _>>()?;
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(Self::These(names))
    }
}

impl From<Names> for Vec<String> {
    fn from(names: Names) -> Self {
        match names {
            Names::Any => vec!["*".to_owned()],
            Names::These(names) => names,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    origins: Vec<String>,
    #[serde(default = "every_method")]
    methods: Vec<String>,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    exposed_headers: Vec<String>,
    #[serde(default)]
    credentials: bool,
    #[serde(default = "ten_minutes")]
    max_age_seconds: u32,
}

/// All but OPTIONS, which asks for the permission itself.
fn every_method() -> Vec<String> {
    let methods = Method::ALL.into_iter().filter(|method| *method != Method::Options);
    methods.map(|method| method.as_str().to_owned()).collect()
}

fn ten_minutes() -> u32 {
    600
}

impl TryFrom<Written> for Cors {
    type Error = AccessError;

    fn try_from(written: Written) -> Result<Self, AccessError> {
        let origins = Names::new(written.origins, "origins", Self::MOST_ORIGINS, |text| origin(&text))?;
        if origins.is_empty() {
            return Err(AccessError::new("origins is empty; name one, or * for all, or leave cors out"));
        }
        at_most(written.methods.len(), Method::ALL.len(), "methods")?;
        let methods = written.methods.iter().map(|name| name.parse().map_err(AccessError));
        let methods = methods.collect::<Result<Vec<Method>, _>>()?;
        let headers = Names::new(written.headers, "headers", Self::MOST_HEADERS, |text| header(&text))?;
        let exposed_headers =
            Names::new(written.exposed_headers, "exposed_headers", Self::MOST_HEADERS, |text| header(&text))?;
        if written.credentials && [&origins, &headers, &exposed_headers].contains(&&Names::Any) {
            return Err(AccessError::new(
                "credentials is true and a list is *; name the origins and headers that may be used with credentials",
            ));
        }
        if written.max_age_seconds > Self::LONGEST_AGE {
            return Err(AccessError(format!(
                "max_age_seconds is {}; allowed is 0 to {}",
                written.max_age_seconds,
                Self::LONGEST_AGE
            )));
        }
        let (credentials, max_age_seconds) = (written.credentials, written.max_age_seconds);
        Ok(Self { origins, methods, headers, exposed_headers, credentials, max_age_seconds })
    }
}

impl From<Cors> for Written {
    fn from(cors: Cors) -> Self {
        Self {
            origins: cors.origins.into(),
            methods: cors.methods.into_iter().map(|method| method.as_str().to_owned()).collect(),
            headers: cors.headers.into(),
            exposed_headers: cors.exposed_headers.into(),
            credentials: cors.credentials,
            max_age_seconds: cors.max_age_seconds,
        }
    }
}

/// An origin in the form in which browsers send it: lower case, without the scheme's own port.
fn origin(text: &str) -> Result<String, AccessError> {
    let refused = || {
        AccessError(format!(
            "{text:?} is no origin; allowed is SCHEME://HOST or SCHEME://HOST:PORT, such as https://shop.example"
        ))
    };
    let lower = text.to_ascii_lowercase();
    let (scheme, host) = lower.split_once("://").ok_or_else(refused)?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_host = !host.is_empty()
        && !host.starts_with(':')
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    if !is_scheme || !is_host || text.len() > Cors::LONGEST_NAME {
        return Err(refused());
    }
    let own_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return Ok(lower),
    };
    Ok(lower.strip_suffix(own_port).unwrap_or(&lower).to_owned())
}

/// A header's name in lower case.
fn header(text: &str) -> Result<String, AccessError> {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || text.len() > Cors::LONGEST_NAME || !text.bytes().all(is_tchar) {
        return Err(AccessError(format!(
            "{text:?} is no header's name; allowed is one such as content-type"
        )));
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cors(value: Value) -> Result<Cors, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn an_origin_is_compared_exactly() {
        let cors = cors(json!({ "origins": ["HTTPS://Shop.example:443", "http://localhost:3000"] })).unwrap();
        for allowed in ["https://shop.example", "http://localhost:3000"] {
            assert!(cors.allows(allowed.as_bytes()), "{allowed}");
        }
        for other in [
            "null",
            "",
            "http://shop.example",
            "https://shop.example:8443",
            "https://shop.example.evil.example",
            "https://evil.example/https://shop.example",
            "https://sub.shop.example",
            "http://localhost",
        ] {
            assert!(!cors.allows(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let cors = cors(json!({ "origins": ["*"] })).unwrap();
        assert!(cors.allows(b"null") && cors.allows(b"https://any.example"));
        assert_eq!((cors.methods.len(), cors.credentials, cors.max_age_seconds), (6, false, 600));
        assert!(cors.headers.is_empty() && cors.exposed_headers.is_empty());
    }

    #[test]
    fn credentials_never_go_with_a_star() {
        for key in ["origins", "headers", "exposed_headers"] {
            let mut value = json!({ "origins": ["https://a.example"], "credentials": true });
            assert!(cors(value.clone()).is_ok());
            value[key] = json!(["*"]);
            assert!(cors(value).unwrap_err().contains("credentials is true and a list is *"), "{key}");
        }
    }

    #[test]
    fn wrong_settings_say_what_is_allowed() {
        for (value, expected) in [
            (json!({ "origins": [] }), "origins is empty"),
            (json!({ "origins": ["null"] }), "is no origin"),
            (json!({ "origins": ["https://a.example/"] }), "is no origin"),
            (json!({ "origins": ["a.example"] }), "SCHEME://HOST"),
            (json!({ "origins": ["https://*.example"] }), "is no origin"),
            (json!({ "origins": ["https://a.example\r\nx: y"] }), "is no origin"),
            (json!({ "origins": ["https://user@a.example"] }), "is no origin"),
            (json!({ "origins": ["*", "https://a.example"] }), "* stands alone"),
            (json!({ "origins": vec!["https://a.example"; 101] }), "at most 100"),
            (json!({ "origins": ["*"], "methods": ["TRACE"] }), "allowed are GET"),
            (json!({ "origins": ["*"], "headers": ["a b"] }), "is no header's name"),
            (json!({ "origins": ["*"], "headers": [""] }), "is no header's name"),
            (json!({ "origins": ["*"], "max_age_seconds": 86_401 }), "allowed is 0 to 86400"),
            (json!({ "origins": ["*"], "max_age": 1 }), "unknown field"),
            (json!({}), "missing field `origins`"),
        ] {
            let problem = cors(value.clone()).unwrap_err();
            assert!(problem.contains(expected), "{value}: {problem}");
        }
    }
}
