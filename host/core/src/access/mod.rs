//! Who may call an app's endpoints, from where and how often: what a route asks of its callers, and what holds for
//! the whole app.

mod change;
mod cors;
mod network;
mod rate;
mod signature;

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

pub use change::Change;
pub use cors::{Cors, Names};
pub use network::Network;
pub use rate::RateLimit;
pub use signature::{SignatureHeader, SignatureScheme};

/// A setting that cannot be. The text says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AccessError(String);

impl AccessError {
    fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// What a route asks of its callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum RouteAccess {
    /// Nothing: anyone may call it.
    #[default]
    Public,
    /// A token of the platform that may invoke scripts of the app.
    Token,
    /// A signature over the body, made with a key of the route.
    Hmac,
}

impl RouteAccess {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Public, Self::Token, Self::Hmac];

    /// The kind as storage and clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Token => "token",
            Self::Hmac => "hmac",
        }
    }
}

impl fmt::Display for RouteAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RouteAccess {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let known = Self::ALL.into_iter().find(|access| access.as_str() == text);
        known.ok_or_else(|| AccessError(format!("it is {text:?}; allowed are public, token and hmac")))
    }
}

impl TryFrom<String> for RouteAccess {
    type Error = AccessError;

    fn try_from(text: String) -> Result<Self, AccessError> {
        text.parse()
    }
}

impl From<RouteAccess> for &'static str {
    fn from(access: RouteAccess) -> Self {
        access.as_str()
    }
}

/// What holds for all endpoints of an app. Without any of it, they are open to everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessSettings {
    /// Which pages of other origins may read answers. `None` leaves that to the scripts.
    pub cors: Option<Cors>,
    /// Networks that may call; all may if there are none.
    pub allow_ips: Networks,
    /// Networks that may not call, whatever `allow_ips` says.
    pub deny_ips: Networks,
    /// How many requests all clients together may make.
    pub rate_limit: Option<RateLimit>,
    /// How many requests each client may make; a route can have another.
    pub client_rate_limit: Option<RateLimit>,
    /// Whether the error text of scripts is shown to everybody.
    pub development: bool,
}

impl AccessSettings {
    /// Whether requests from `ip` are accepted: what is denied is, also if it is allowed as well.
    pub fn admits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let has = |networks: &Networks| networks.0.iter().any(|network| network.contains(ip));
        !has(&self.deny_ips) && (self.allow_ips.0.is_empty() || has(&self.allow_ips))
    }

    /// These settings with what `patch` names in place of what they had.
    pub fn patched(self, patch: &AccessPatch) -> Self {
        Self {
            cors: patch.cors.clone().apply(self.cors),
            allow_ips: patch.allow_ips.clone().unwrap_or(self.allow_ips),
            deny_ips: patch.deny_ips.clone().unwrap_or(self.deny_ips),
            rate_limit: patch.rate_limit.apply(self.rate_limit),
            client_rate_limit: patch.client_rate_limit.apply(self.client_rate_limit),
            development: patch.development.unwrap_or(self.development),
        }
    }
}

/// A change of [`AccessSettings`]: what is named is replaced, `null` takes it away, the rest stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessPatch {
    /// See [`AccessSettings::cors`].
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub cors: Change<Cors>,
    /// See [`AccessSettings::allow_ips`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_ips: Option<Networks>,
    /// See [`AccessSettings::deny_ips`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny_ips: Option<Networks>,
    /// See [`AccessSettings::rate_limit`].
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub rate_limit: Change<RateLimit>,
    /// See [`AccessSettings::client_rate_limit`].
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub client_rate_limit: Change<RateLimit>,
    /// See [`AccessSettings::development`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub development: Option<bool>,
}

/// A list of networks, at most [`Networks::MOST`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Network>")]
pub struct Networks(Vec<Network>);

impl Networks {
    /// The most networks of a list: they are compared one by one.
    pub const MOST: usize = 256;

    /// The networks.
    pub fn iter(&self) -> impl Iterator<Item = &Network> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<Network>> for Networks {
    type Error = AccessError;

    fn try_from(networks: Vec<Network>) -> Result<Self, AccessError> {
        at_most(networks.len(), Self::MOST, "networks")?;
        Ok(Self(networks))
    }
}

fn at_most(count: usize, most: usize, what: &str) -> Result<(), AccessError> {
    if count <= most {
        return Ok(());
    }
    Err(AccessError(format!("there are {count} {what}; allowed are at most {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(json: &str) -> AccessPatch {
        serde_json::from_str(json).unwrap()
    }

    fn admits(allow: &[&str], deny: &[&str], ip: &str) -> bool {
        let settings = AccessSettings::default()
            .patched(&patch(&serde_json::json!({ "allow_ips": allow, "deny_ips": deny }).to_string()));
        settings.admits(ip.parse().unwrap())
    }

    #[test]
    fn without_lists_every_address_is_admitted() {
        for ip in ["1.2.3.4", "::1", "::ffff:1.2.3.4"] {
            assert!(admits(&[], &[], ip), "{ip}");
        }
    }

    #[test]
    fn what_is_denied_is_not_admitted_by_being_allowed() {
        assert!(admits(&["10.0.0.0/8"], &["10.1.0.0/16"], "10.2.0.1"));
        assert!(!admits(&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.0.1"));
        assert!(!admits(&["10.1.0.1"], &["10.1.0.0/16"], "10.1.0.1"), "also where the allowed is narrower");
        assert!(!admits(&["10.0.0.0/8"], &[], "192.0.2.1"));
        assert!(!admits(&["10.0.0.0/8"], &[], "2001:db8::1"));
        assert!(!admits(&[], &["0.0.0.0/0"], "192.0.2.1"));
        assert!(admits(&[], &["0.0.0.0/0"], "2001:db8::1"));
    }

    #[test]
    fn mapped_addresses_are_the_addresses_they_stand_for() {
        assert!(!admits(&[], &["10.0.0.0/8"], "::ffff:10.0.0.1"));
        assert!(!admits(&[], &["::ffff:10.0.0.0/104"], "10.0.0.1"));
        assert!(admits(&["::ffff:10.0.0.1"], &[], "10.0.0.1"));
    }

    #[test]
    fn a_patch_replaces_what_it_names_and_null_takes_away() {
        let first =
            patch(r#"{"rate_limit":{"requests":5,"seconds":1},"development":true,"deny_ips":["::1"]}"#);
        let settings = AccessSettings::default().patched(&first);
        assert!(settings.rate_limit.is_some() && settings.development && !settings.deny_ips.is_empty());
        let same = settings.clone().patched(&patch("{}"));
        assert_eq!(same, settings);
        let less = settings.patched(&patch(r#"{"rate_limit":null,"deny_ips":[],"development":false}"#));
        assert_eq!(less, AccessSettings::default());
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let settings = AccessSettings::default().patched(&patch(
            r#"{"cors":{"origins":["https://a.example"],"credentials":true},"allow_ips":["10.0.0.0/8","::1"],
            "client_rate_limit":{"requests":1,"seconds":60}}"#,
        ));
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<AccessSettings>(&json).unwrap(), settings);
    }

    #[test]
    fn lists_are_bounded_and_unknown_fields_refused() {
        let refused = |json: &str| serde_json::from_str::<AccessPatch>(json).unwrap_err().to_string();
        let many = serde_json::json!({ "deny_ips": vec!["::1"; 257] }).to_string();
        assert!(refused(&many).contains("257 networks; allowed are at most 256"));
        assert!(refused(r#"{"role":1}"#).contains("unknown field"));
        assert!(refused(r#"{"deny_ips":null,"development":"yes"}"#).contains("invalid type"));
        assert!("private".parse::<RouteAccess>().unwrap_err().to_string().contains("public, token and hmac"));
    }
}
