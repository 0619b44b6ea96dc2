//! An app's allow-list: which hosts its scripts may call, over which scheme and port, with which methods.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use url::Host;

use crate::{Method, MethodSet};

/// An allow-list that cannot be. The text says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EgressError(String);

/// How a host is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EgressScheme {
    /// With TLS.
    Https,
    /// In clear.
    Http,
}

impl EgressScheme {
    /// The scheme as URLs have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    /// The port where a URL names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

impl fmt::Display for EgressScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EgressScheme {
    type Err = EgressError;

    fn from_str(text: &str) -> Result<Self, EgressError> {
        match text.to_ascii_lowercase().as_str() {
            "https" => Ok(Self::Https),
            "http" => Ok(Self::Http),
            _ => Err(EgressError(format!("the scheme is {text:?}; allowed are https and http"))),
        }
    }
}

/// Which hosts a rule is for, in one form: lower case, punycode, no dot at the end, addresses as they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EgressHost {
    /// `*`: every name, and no address.
    AnyName,
    /// `*.example.com`: every name below it, and not itself.
    Below(String),
    /// `api.example.com`.
    Name(String),
    /// An address. IPv4 within IPv6 is IPv4.
    Ip(IpAddr),
}

impl EgressHost {
    /// The longest name of the DNS.
    const NAME_BYTES: usize = 253;
    const LABEL_BYTES: usize = 63;

    /// The host of a URL: a name or an address.
    pub fn of_url<S: AsRef<str>>(host: &Host<S>) -> Result<Self, EgressError> {
        match host {
            Host::Ipv4(ip) => Ok(Self::Ip((*ip).into())),
            Host::Ipv6(ip) => Ok(Self::Ip(IpAddr::from(*ip).to_canonical())),
            Host::Domain(name) => Self::name(name.as_ref()).map(Self::Name),
        }
    }

    /// A name in the form in which it is compared.
    fn name(name: &str) -> Result<String, EgressError> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_label = |label: &str| {
            (1..=Self::LABEL_BYTES).contains(&label.len())
                && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        };
        if name.len() > Self::NAME_BYTES || !name.split('.').all(is_label) {
            return Err(EgressError(format!(
                "{name:?} is no host; allowed are a name such as api.example.com and an address"
            )));
        }
        Ok(name.to_owned())
    }

    /// Whether the host of a URL is one of these.
    pub fn covers(&self, host: &Self) -> bool {
        match (self, host) {
            (Self::AnyName, Self::Name(_)) => true,
            (Self::Below(above), Self::Name(name)) => {
                name.strip_suffix(above.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            _ => self == host,
        }
    }
}

impl fmt::Display for EgressHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyName => f.write_str("*"),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Name(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

impl FromStr for EgressHost {
    type Err = EgressError;

    fn from_str(text: &str) -> Result<Self, EgressError> {
        let wrong = || {
            EgressError(format!(
                "{text:?} is no host; allowed are a name such as api.example.com, *.example.com for every name below \
                 it, * for every name, and an address"
            ))
        };
        if text == "*" {
            return Ok(Self::AnyName);
        }
        let plain = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = plain.parse::<Ipv6Addr>() {
            return Ok(Self::Ip(IpAddr::from(ip).to_canonical()));
        }
        // The parser of URLs would decode it.
        if text.contains('%') {
            return Err(wrong());
        }
        let (above, rest) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        let host = Host::parse(rest).map_err(|_| wrong())?;
        match Self::of_url(&host).map_err(|_| wrong())? {
            Self::Name(name) if above => Ok(Self::Below(name)),
            host if !above => Ok(host),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for EgressHost {
    type Error = EgressError;

    fn try_from(text: String) -> Result<Self, EgressError> {
        text.parse()
    }
}

impl From<EgressHost> for String {
    fn from(host: EgressHost) -> Self {
        host.to_string()
    }
}

/// One line of an allow-list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct EgressRule {
    /// The hosts.
    pub host: EgressHost,
    /// The scheme.
    pub scheme: EgressScheme,
    /// The port.
    pub port: u16,
    /// The methods.
    pub methods: MethodSet,
}

impl EgressRule {
    /// Whether it allows a request.
    pub fn allows(&self, scheme: EgressScheme, host: &EgressHost, port: u16, method: Method) -> bool {
        self.scheme == scheme && self.port == port && self.methods.contains(method) && self.host.covers(host)
    }

    /// Whether it is for the same place as another, whatever the methods.
    pub fn is_same_place(&self, other: &Self) -> bool {
        (&self.host, self.scheme, self.port) == (&other.host, other.scheme, other.port)
    }
}

/// `https://api.example.com`, with its port where that is not the scheme's own.
impl fmt::Display for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        match &self.host {
            EgressHost::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
            host => host.fmt(f)?,
        }
        if self.port == self.scheme.default_port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// `[SCHEME://]HOST[:PORT]`, for all methods; the scheme is https where none is given.
impl FromStr for EgressRule {
    type Err = EgressError;

    fn from_str(text: &str) -> Result<Self, EgressError> {
        let (scheme, place) = match text.split_once("://") {
            Some((scheme, place)) => (scheme.parse()?, place),
            None => (EgressScheme::Https, text),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let wrong = |problem: &str| {
            Err(EgressError(format!(
                "{text:?} {problem}; allowed is [SCHEME://]HOST[:PORT], such as api.example.com or \
                 http://192.168.1.20:8080"
            )))
        };
        if place.contains(['/', '?', '#']) {
            return wrong("has a path or a query, which the list does not know");
        }
        if place.contains('@') {
            return wrong("has a user");
        }
        let is_bare_v6 = place.parse::<Ipv6Addr>().is_ok();
        let port =
            if is_bare_v6 { None } else { place.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) };
        let (host, port) = match port {
            Some((host, port)) => match port.parse::<u16>() {
                Ok(port) if port > 0 => (host, port),
                _ => return wrong("has a wrong port"),
            },
            None => (place, scheme.default_port()),
        };
        Ok(Self { host: host.parse()?, scheme, port, methods: MethodSet::ANY })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    host: EgressHost,
    #[serde(default = "https")]
    scheme: EgressScheme,
    port: Option<u16>,
    methods: Option<Vec<String>>,
}

const fn https() -> EgressScheme {
    EgressScheme::Https
}

impl TryFrom<Written> for EgressRule {
    type Error = EgressError;

    fn try_from(written: Written) -> Result<Self, EgressError> {
        let Written { host, scheme, port, methods } = written;
        let port = port.unwrap_or(scheme.default_port());
        if port == 0 {
            return Err(EgressError("port is 0; allowed are 1 to 65535".to_owned()));
        }
        let methods = methods.map(|names| {
            let methods = names.iter().map(|name| method(name));
            methods.collect::<Result<MethodSet, _>>()
        });
        let methods = methods.transpose()?.unwrap_or(MethodSet::ANY);
        if methods == MethodSet::default() {
            return Err(EgressError("methods is empty; leave it out for all of them".to_owned()));
        }
        Ok(Self { host, scheme, port, methods })
    }
}

impl From<EgressRule> for Written {
    fn from(rule: EgressRule) -> Self {
        let methods = rule.methods.iter().map(|method| method.as_str().to_owned()).collect();
        Self { host: rule.host, scheme: rule.scheme, port: Some(rule.port), methods: Some(methods) }
    }
}

fn method(name: &str) -> Result<Method, EgressError> {
    let method = name.to_ascii_uppercase().parse();
    method.map_err(|_| {
        let all = Method::ALL.map(Method::as_str).join(", ");
        EgressError(format!("the method is {name:?}; allowed are {all}"))
    })
}

/// An app's allow-list. Nothing is allowed that it does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressRules {
    /// What is allowed.
    #[serde(deserialize_with = "bounded")]
    pub allow: Vec<EgressRule>,
}

fn bounded<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<EgressRule>, D::Error> {
    let rules = Vec::deserialize(deserializer)?;
    EgressRules::check(&rules).map_err(serde::de::Error::custom)?;
    Ok(rules)
}

impl EgressRules {
    /// The most rules of an app.
    pub const MOST: usize = 100;

    /// Whether a request is allowed.
    pub fn allows(&self, scheme: EgressScheme, host: &EgressHost, port: u16, method: Method) -> bool {
        self.allow.iter().any(|rule| rule.allows(scheme, host, port, method))
    }

    /// Whether any request to a host is.
    pub fn knows(&self, host: &EgressHost) -> bool {
        self.allow.iter().any(|rule| rule.host.covers(host))
    }

    /// Allows something more: to a place that is there already, the methods are added.
    pub fn add(&mut self, rule: EgressRule) -> Result<(), EgressError> {
        match self.allow.iter_mut().find(|known| known.is_same_place(&rule)) {
            Some(known) => known.methods = known.methods.union(rule.methods),
            None => self.allow.push(rule),
        }
        Self::check(&self.allow)
    }

    /// Takes away what is allowed for a place; whether there was anything.
    pub fn remove(&mut self, place: &EgressRule) -> bool {
        let before = self.allow.len();
        self.allow.retain(|rule| !rule.is_same_place(place));
        self.allow.len() < before
    }

    fn check(rules: &[EgressRule]) -> Result<(), EgressError> {
        if rules.len() > Self::MOST {
            let problem = format!("there are {} rules; allowed are at most {}", rules.len(), Self::MOST);
            return Err(EgressError(problem));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        text.parse::<EgressRule>().map(|rule| rule.to_string()).map_err(|error| error.to_string())
    }

    fn host(url: &str) -> EgressHost {
        EgressHost::of_url(&url::Url::parse(url).unwrap().host().unwrap()).unwrap()
    }

    #[test]
    fn rules_are_kept_in_one_form() {
        for (given, expected) in [
            ("api.example.com", "https://api.example.com"),
            ("API.Example.COM.", "https://api.example.com"),
            ("https://api.example.com:443/", "https://api.example.com"),
            ("http://api.example.com", "http://api.example.com"),
            ("HTTP://api.example.com:8080", "http://api.example.com:8080"),
            ("*.Example.com", "https://*.example.com"),
            ("*", "https://*"),
            ("*:8443", "https://*:8443"),
            ("bücher.example", "https://xn--bcher-kva.example"),
            ("*.bücher.example", "https://*.xn--bcher-kva.example"),
            ("192.168.1.20", "https://192.168.1.20"),
            ("2130706433", "https://127.0.0.1"),
            ("0x7f.1:81", "https://127.0.0.1:81"),
            ("http://[::1]:80", "http://[::1]"),
            ("::1", "https://[::1]"),
            ("[::ffff:127.0.0.1]:8443", "https://127.0.0.1:8443"),
        ] {
            assert_eq!(shown(given).as_deref(), Ok(expected), "{given}");
            assert_eq!(shown(expected).as_deref(), Ok(expected), "{expected}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_with_what_is_allowed() {
        for bad in [
            "",
            ".",
            "a..b",
            "*.",
            "*.*",
            "a.*",
            "*.127.0.0.1",
            "*.[::1]",
            "a b",
            "a%2eb",
            "[::1",
            "a:0",
            "a:65536",
            "a:x",
            "a/b",
            "a?b",
            "user@a",
            "ftp://a",
            "999.1.1.1",
            "[fe80::1%25eth0]",
        ] {
            assert!(shown(bad).unwrap_err().contains("allowed"), "{bad}");
        }
        assert!(shown(&"a.".repeat(150)).is_err());
        assert!(shown(&"a".repeat(64)).is_err());
    }

    #[test]
    fn a_pattern_covers_what_it_names_and_no_more() {
        let covers = |pattern: &str, url: &str| pattern.parse::<EgressHost>().unwrap().covers(&host(url));
        assert!(covers("api.example.com", "https://API.example.com./"));
        assert!(covers("*.example.com", "https://a.b.example.com/"));
        assert!(!covers("*.example.com", "https://example.com/"));
        assert!(!covers("*.example.com", "https://badexample.com/"));
        assert!(!covers("example.com", "https://example.com.evil.test/"));
        assert!(covers("*", "https://anything.test/"));
        assert!(!covers("*", "https://192.0.2.1/"), "an address is named as such");
        assert!(covers("bücher.example", "https://BÜCHER.example/"));
        for url in ["http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://[::ffff:7f00:1]/"] {
            assert!(covers("127.0.0.1", url), "{url}");
        }
    }

    #[test]
    fn a_list_is_read_with_its_defaults_and_written_whole() {
        let json =
            r#"{"allow":[{"host":"a.example"},{"host":"*.B.example","scheme":"http","methods":["get"]}]}"#;
        let rules: EgressRules = serde_json::from_str(json).unwrap();
        let (https, http) = (EgressScheme::Https, EgressScheme::Http);
        assert!(rules.allows(https, &host("https://a.example"), 443, Method::Delete));
        assert!(!rules.allows(https, &host("https://a.example"), 8443, Method::Get));
        assert!(!rules.allows(http, &host("https://a.example"), 443, Method::Get));
        assert!(rules.allows(http, &host("http://x.b.example"), 80, Method::Get));
        assert!(!rules.allows(http, &host("http://x.b.example"), 80, Method::Post));
        let written = serde_json::to_string(&rules).unwrap();
        assert!(written.contains(r#"{"host":"*.b.example","scheme":"http","port":80,"methods":["GET"]}"#));
        assert_eq!(serde_json::from_str::<EgressRules>(&written).unwrap(), rules);
    }

    #[test]
    fn wrong_lists_are_refused() {
        let refused = |json: &str| serde_json::from_str::<EgressRules>(json).unwrap_err().to_string();
        let many = serde_json::json!({ "allow": vec![serde_json::json!({ "host": "a" }); 101] });
        assert!(refused(&many.to_string()).contains("101 rules; allowed are at most 100"));
        for json in [
            "{}",
            r#"{"allow":[{"host":"a","port":0}]}"#,
            r#"{"allow":[{"host":"a","port":65536}]}"#,
            r#"{"allow":[{"host":"a","methods":[]}]}"#,
            r#"{"allow":[{"host":"a","methods":["TRACE"]}]}"#,
            r#"{"allow":[{"host":"a","scheme":"ftp"}]}"#,
            r#"{"allow":[{"host":"a","path":"/"}]}"#,
            r#"{"allow":[{"host":"a/b"}]}"#,
            r#"{"allow":[],"deny":[]}"#,
        ] {
            refused(json);
        }
    }

    #[test]
    fn rules_are_added_and_taken_away_by_place() {
        let rule = |text: &str, methods| EgressRule { methods, ..text.parse().unwrap() };
        let get: MethodSet = [Method::Get].into_iter().collect();
        let mut rules = EgressRules::default();
        rules.add(rule("a.example", get)).unwrap();
        rules.add(rule("A.example:443", [Method::Put].into_iter().collect())).unwrap();
        assert_eq!(rules.allow, [rule("a.example", get.with(Method::Put))]);
        assert!(!rules.remove(&rule("http://a.example", get)));
        assert!(rules.remove(&rule("https://a.example", get)));
        assert!(rules.allow.is_empty());
    }
}
