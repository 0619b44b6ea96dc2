//! Settings of the control plane.

use std::net::SocketAddr;

use ipnet::IpNet;
use picloud_core::{AppName, Confinement, DomainName, SandboxCeiling};

use crate::oidc::OidcConfig;

/// Settings of the control plane.
#[derive(Clone, Debug)]
pub struct ManagerConfig {
    /// The address that the control listener is bound to: requests for this host are answered.
    pub bind: SocketAddr,
    /// Host names it answers for beside that one and localhost (`PICLOUD_ADMIN_HOSTS`).
    pub hosts: Vec<String>,
    /// The most that any app may be given.
    pub ceiling: SandboxCeiling,
    /// Where apps are reached.
    pub apps: AppAddress,
    /// Networks whose word on `x-forwarded-for` is taken (`PICLOUD_TRUSTED_PROXIES`).
    pub trusted_proxies: Vec<IpNet>,
    /// Who is asked for the records that prove hosts (`PICLOUD_NAME_SERVER`); the machine's own if it is `None`.
    pub name_server: Option<SocketAddr>,
    /// The issuer by way of which users may sign in, if there is one.
    pub oidc: Option<OidcConfig>,
    /// What the operating system keeps this process from.
    pub confinement: Confinement,
}

/// Where apps are reached by their users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppAddress {
    /// All under one host, in the path form: `BASE/@APP`.
    Path {
        /// Such as `http://127.0.0.1:8421`, without a slash at its end.
        base: String,
    },
    /// Each under its own host: `SCHEME://APP.DOMAIN[:PORT]`.
    Host {
        /// `http` or `https`.
        scheme: &'static str,
        /// The domain (`PICLOUD_APP_DOMAIN`).
        domain: String,
        /// The port, if it is not the scheme's own.
        port: Option<u16>,
    },
}

impl AppAddress {
    /// The platform's own domain, if `name` is that or lies below it: no app can have it.
    pub(crate) fn owner_of(&self, name: &DomainName) -> Option<&str> {
        let own = match self {
            // Every machine's own name (RFC 6761), below which the apps answer too.
            Self::Path { .. } => "localhost",
            Self::Host { domain, .. } => domain,
        };
        [own, "localhost"].into_iter().find(|own| {
            let rest = name.as_str().strip_suffix(own);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// The address of a path within an app; `path` starts with a slash.
    pub fn url(&self, app: &AppName, path: &str) -> String {
        match self {
            Self::Path { base } => format!("{base}/@{app}{path}"),
            Self::Host { scheme, domain, port: Some(port) } => {
                format!("{scheme}://{app}.{domain}:{port}{path}")
            }
            Self::Host { scheme, domain, port: None } => format!("{scheme}://{app}.{domain}{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_apps() {
        let app = AppName::new("demo").unwrap();
        let path = AppAddress::Path { base: "http://127.0.0.1:8421".into() };
        assert_eq!(path.url(&app, "/hello"), "http://127.0.0.1:8421/@demo/hello");
        let host = AppAddress::Host { scheme: "https", domain: "example.org".into(), port: None };
        assert_eq!(host.url(&app, "/hello"), "https://demo.example.org/hello");
        let port = AppAddress::Host { scheme: "http", domain: "localhost".into(), port: Some(8421) };
        assert_eq!(port.url(&app, "/"), "http://demo.localhost:8421/");
    }

    #[test]
    fn the_platforms_names_are_not_for_apps() {
        let address = AppAddress::Host { scheme: "https", domain: "apps.example".into(), port: None };
        let owner = |name: &str| address.owner_of(&DomainName::new(name).unwrap()).map(str::to_owned);
        for name in ["apps.example", "x.apps.example", "a.b.apps.example", "localhost", "x.localhost"] {
            assert!(owner(name).is_some(), "{name}");
        }
        for name in ["example", "myapps.example", "apps.example.org"] {
            assert_eq!(owner(name), None, "{name}");
        }
    }
}
