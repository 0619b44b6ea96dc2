//! Whether an app may call a URL. Pure: nothing here knows a network.

use picloud_core::{EgressHost, EgressRules, EgressScheme, Method};
use url::{Position, Url};

/// The longest URL, in bytes.
const URL_BYTES: usize = 8 << 10;

/// A URL that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    url: Url,
    scheme: EgressScheme,
    host: EgressHost,
    port: u16,
}

/// Why a URL may not be called. The text is for the script's author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is none, or one that is never called.
    #[error("the URL {0}")]
    Url(&'static str),
    /// The app's allow-list does not have it.
    #[error(
        "this app may not call {method} {place}: its allow-list does not have it; \
         `picloud egress allow {place}` allows it"
    )]
    NotAllowed {
        /// The method.
        method: &'static str,
        /// Scheme, host and port.
        place: String,
    },
}

/// Whether an app with these rules may call a URL.
pub fn decide(url: &str, method: Method, rules: &EgressRules) -> Result<Target, Refusal> {
    let target = Target::read(url)?;
    if rules.allows(target.scheme, &target.host, target.port, method) {
        Ok(target)
    } else {
        Err(Refusal::NotAllowed { method: method.as_str(), place: target.origin() })
    }
}

impl Target {
    /// Reads a URL, whether it is allowed or not.
    pub fn read(url: &str) -> Result<Self, Refusal> {
        if url.len() > URL_BYTES {
            return Err(Refusal::Url("is longer than 8 KiB"));
        }
        // The parser would leave line ends and tabs out.
        if url.chars().any(char::is_control) {
            return Err(Refusal::Url("has a line end, a tab or another control character"));
        }
        let mut url = Url::parse(url).map_err(|_| {
            Refusal::Url(
                "is none; allowed is one with its scheme and host, such as https://api.example.com/path",
            )
        })?;
        let scheme = match url.scheme() {
            "https" => EgressScheme::Https,
            "http" => EgressScheme::Http,
            _ => return Err(Refusal::Url("has another scheme than https and http")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Url(
                "has a user or a password, which would end up in logs; send the header `authorization`",
            ));
        }
        let host = url.host().ok_or(Refusal::Url("has no host"))?;
        let host = EgressHost::of_url(&host).map_err(|_| Refusal::Url("has a host that can be none"))?;
        let port = url.port().unwrap_or(scheme.default_port());
        if port == 0 {
            return Err(Refusal::Url("has the port 0"));
        }
        url.set_fragment(None);
        Ok(Self { url, scheme, host, port })
    }

    /// Where the answer to this one leads.
    pub fn join(&self, location: &str) -> Result<Self, Refusal> {
        if location.len() > URL_BYTES || location.chars().any(char::is_control) {
            return Err(Refusal::Url("that a redirect leads to is none"));
        }
        let url = self.url.join(location).map_err(|_| Refusal::Url("that a redirect leads to is none"))?;
        Self::read(url.as_str())
    }

    /// The scheme.
    pub const fn scheme(&self) -> EgressScheme {
        self.scheme
    }

    /// The host: a name without a dot at its end, or an address.
    pub const fn host(&self) -> &EgressHost {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path, starting with `/`.
    pub fn path(&self) -> &str {
        self.url.path()
    }

    /// Path and query, as a request has them.
    pub fn path_and_query(&self) -> &str {
        &self.url[Position::BeforePath..Position::AfterQuery]
    }

    /// The whole URL, without its fragment.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// Host and port as the header `host` has them.
    pub fn authority(&self) -> String {
        let host = match &self.host {
            EgressHost::Ip(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
            host => host.to_string(),
        };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Scheme, host and port: `https://api.example.com`.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority())
    }

    /// Whether another one is of the same scheme, host and port.
    pub fn is_same_origin(&self, other: &Self) -> bool {
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(places: &[&str]) -> EgressRules {
        EgressRules { allow: places.iter().map(|place| place.parse().unwrap()).collect() }
    }

    fn allowed(url: &str, places: &[&str]) -> Result<String, String> {
        decide(url, Method::Get, &rules(places))
            .map(|target| target.as_str().to_owned())
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn nothing_is_allowed_without_a_rule() {
        let refused = allowed("https://api.example.com/x?y", &[]).unwrap_err();
        assert!(refused.contains("GET https://api.example.com:"), "{refused}");
        assert!(refused.contains("`picloud egress allow https://api.example.com`"), "{refused}");
        assert!(!refused.contains("?y"), "{refused}");
        assert!(allowed("http://api.example.com/", &["api.example.com"]).is_err());
        assert!(allowed("https://api.example.com:8443/", &["api.example.com"]).is_err());
        assert!(allowed("https://api.example.com/", &["api.example.com"]).is_ok());
    }

    #[test]
    fn every_spelling_is_one_host() {
        for url in [
            "https://API.EXAMPLE.COM/",
            "https://api.example.com./",
            "https://ａpi.example。com",
            "https:\\\\api.example.com\\",
        ] {
            let target = decide(url, Method::Get, &rules(&["api.example.com"])).unwrap();
            assert_eq!(target.authority(), "api.example.com", "{url}");
        }
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://017700000001/",
            "http://0x7f000001/",
            "http://0x7f.0.0.0x1/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://１２７.0.0.1/",
            "http://%31%32%37.0.0.1/",
        ] {
            assert!(allowed(url, &["http://*"]).is_err(), "{url}");
            assert!(allowed(url, &["http://127.0.0.1"]).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_is_never_called_is_refused_whatever_the_rules() {
        let long = format!("https://a.example/{}", "x".repeat(9000));
        for url in [
            "",
            "/path",
            "//a.example/",
            "a.example",
            "ftp://a.example/",
            "file:///etc/passwd",
            "data:,x",
            "https://",
            "https://user@a.example/",
            "https://user:password@a.example/",
            "https://:password@a.example/",
            "https://a.example\r\nx: y/",
            "https://a.exa\nmple/",
            "https://a.example/\tx",
            "https://a.example/\0",
            "https://a.example:0/",
            "https://a..example/",
            "https://[fe80::1%25eth0]/",
            "https://a.example:99999/",
            &long,
        ] {
            let refusal = decide(url, Method::Get, &rules(&["*", "http://*"])).unwrap_err();
            assert!(matches!(refusal, Refusal::Url(_)), "{url}: {refusal}");
        }
    }

    #[test]
    fn a_redirect_is_read_against_where_it_came_from() {
        let from = Target::read("https://a.example:8443/one/two?q#f").unwrap();
        let to = |location: &str| from.join(location).map(|target| target.as_str().to_owned());
        assert_eq!(to("three").unwrap(), "https://a.example:8443/one/three");
        assert_eq!(to("//b.example").unwrap(), "https://b.example/");
        assert_eq!(to("http://127.0.0.1/").unwrap(), "http://127.0.0.1/");
        for bad in ["ftp://a", "https://u:p@b.example/", "http://\r\nx/", "javascript:alert(1)"] {
            assert!(to(bad).is_err(), "{bad}");
        }
        assert!(!from.is_same_origin(&from.join("https://a.example/").unwrap()));
        assert!(from.is_same_origin(&from.join("/").unwrap()));
    }

    /// Pieces of URLs, put together by the fuzzer: it knows neither schemes nor addresses.
    const PIECES: [&str; 24] = [
        "https://",
        "http://",
        "//",
        "/",
        "\\",
        "@",
        ":",
        ":8080",
        ".",
        "?",
        "#",
        "%",
        "%2e",
        "a.example.com",
        "a.test",
        "example.com",
        "127.0.0.1",
        "2130706433",
        "0x7f",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "\u{3002}",
        "\n",
        "x",
    ];

    #[test]
    fn what_is_allowed_is_what_a_rule_names() {
        let rules = rules(&["*.example.com", "http://a.test:8080"]);
        bolero::check!(name = "egress-policy").with_max_len(64).with_iterations(20_000).for_each(
            |input: &[u8]| {
                let pieces: String =
                    input.iter().map(|byte| PIECES[usize::from(*byte) % PIECES.len()]).collect();
                for url in [pieces, String::from_utf8_lossy(input).into_owned()] {
                    let Ok(target) = decide(&url, Method::Get, &rules) else { continue };
                    let place = (target.scheme(), target.port());
                    let name = target.host().to_string();
                    let below = name.ends_with(".example.com") && place == (EgressScheme::Https, 443);
                    let exact = name == "a.test" && place == (EgressScheme::Http, 8080);
                    assert!(below || exact, "{url:?} is {}", target.as_str());
                    // What is sent is read the same again.
                    assert_eq!(Target::read(target.as_str()).as_ref(), Ok(&target));
                }
            },
        );
    }
}
