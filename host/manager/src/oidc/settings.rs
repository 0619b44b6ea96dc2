//! Settings of signing in by way of an issuer, each checked as far as it can be without asking anybody.

use std::{fmt, net::IpAddr, sync::Arc};

use axum::http::Uri;
use zeroize::Zeroizing;

/// The longest address of an issuer or of this server.
const MAX_URL_BYTES: usize = 512;

/// The longest e-mail address (RFC 5321).
const MAX_EMAIL_BYTES: usize = 254;

/// How users sign in by way of an issuer.
#[derive(Clone, Debug)]
pub struct OidcConfig {
    /// Who signs them in (`PICLOUD_OIDC_ISSUER`).
    pub issuer: IssuerUrl,
    /// What the issuer knows this server by (`PICLOUD_OIDC_CLIENT_ID`).
    pub client_id: String,
    /// What proves that to the issuer (`PICLOUD_OIDC_CLIENT_SECRET_FILE`); `None` for a public client.
    pub client_secret: Option<ClientSecret>,
    /// Whose addresses may sign in (`PICLOUD_OIDC_ALLOWED`).
    pub allowed: AllowedEmails,
    /// Whether a user that nobody knows is made a member (`PICLOUD_OIDC_CREATE`).
    pub create: bool,
    /// Where browsers reach this server (`PICLOUD_PUBLIC_URL`); as the request says if it is `None`.
    pub public_url: Option<PublicUrl>,
}

/// The address of an issuer, to the letter: its tokens have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerUrl {
    text: Arc<str>,
    is_plain: bool,
}

impl IssuerUrl {
    /// Reads `https://...`, or `http://...` of this machine. The error says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let allowed = "allowed is the issuer's address as it writes it: https://login.example.org, or http:// with a \
                       loopback address, without a query";
        let (scheme, is_loopback) = checked(text).ok_or(allowed)?;
        let is_plain = scheme == "http";
        if is_plain && !is_loopback {
            return Err(allowed.to_owned());
        }
        Ok(Self { text: text.into(), is_plain })
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is on this machine, without TLS.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Where its document is (OpenID Connect Discovery 1.0, 4).
    pub(super) fn document(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.text.trim_end_matches('/'))
    }

    /// Whether an address that its document names is one of TLS, or like the issuer's own on this machine.
    pub(super) fn trusts(&self, url: &str) -> bool {
        match parts(url) {
            Some(("https", _)) => true,
            Some(("http", is_loopback)) => self.is_plain && is_loopback,
            _ => false,
        }
    }
}

/// The address of this server as browsers know it: scheme, host and perhaps a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Reads `https://HOST[:PORT]` or `http://HOST[:PORT]`. The error says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = text.strip_suffix('/').unwrap_or(text);
        let is_origin = text.split_once("://").is_some_and(|(_, rest)| !rest.contains('/'));
        match checked(text).filter(|_| is_origin) {
            Some(_) => Ok(Self(text.to_ascii_lowercase())),
            None => Err("allowed is where browsers reach the control listener, without a path: \
                         https://cloud.example.org"
                .to_owned()),
        }
    }

    /// Without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An address without user information, query or fragment: its scheme, and whether it is of this machine.
fn checked(text: &str) -> Option<(&'static str, bool)> {
    let is_short = text.len() <= MAX_URL_BYTES && !text.contains(['?', '#', '@']);
    parts(text).filter(|_| is_short)
}

fn parts(text: &str) -> Option<(&'static str, bool)> {
    if text.contains('#') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let uri: Uri = text.parse().ok()?;
    let scheme = match uri.scheme_str()? {
        "https" => "https",
        "http" => "http",
        _ => return None,
    };
    let authority = uri.authority()?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return None;
    }
    let host = authority.host().trim_matches(['[', ']']);
    let is_loopback =
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    Some((scheme, is_loopback))
}

/// What proves to the issuer who asks. Its `Debug` form hides it.
#[derive(Clone)]
pub struct ClientSecret(Arc<Zeroizing<String>>);

impl ClientSecret {
    /// A secret as its file has it; the end of the line does not count. The error says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.contains(['\r', '\n']) {
            return Err("allowed is the client's secret, in one line".to_owned());
        }
        Ok(Self(Arc::new(Zeroizing::new(text.to_owned()))))
    }

    /// The secret in clear.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(..)")
    }
}

/// Whose verified addresses may sign in: single ones, and all of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedEmails(Vec<String>);

impl AllowedEmails {
    /// Reads addresses and `@domain`s, separated by commas. The error says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let allowed: Vec<String> = parts.map(allowed_part).collect::<Result<_, _>>()?;
        if allowed.is_empty() {
            return Err(
                "allowed are e-mail addresses and domains, separated by commas: ada@example.org,@example.net"
                    .to_owned(),
            );
        }
        Ok(Self(allowed))
    }

    /// Whether an address in normal form may sign in. A domain does not stand for those below it.
    pub(super) fn allows(&self, email: &str) -> bool {
        let domain = email.rfind('@').map(|at| &email[at..]);
        self.0.iter().any(|allowed| allowed == email || Some(allowed.as_str()) == domain)
    }
}

fn allowed_part(part: &str) -> Result<String, String> {
    let whole = if part.starts_with('@') { format!("x{part}") } else { part.to_owned() };
    match normal_email(&whole) {
        Some(_) => Ok(part.to_ascii_lowercase()),
        None => Err(format!(
            "{part:?} is neither an e-mail address nor a domain; allowed are ada@example.org and @example.org"
        )),
    }
}

/// An e-mail address in lower case; `None` for what is none, or has letters beyond ASCII, which can look like others.
pub(crate) fn normal_email(text: &str) -> Option<String> {
    let (local, domain) = text.split_once('@')?;
    let is_good = !local.is_empty()
        && !domain.is_empty()
        && text.len() <= MAX_EMAIL_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b'"' | b'<' | b'>'))
        && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    is_good.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_of_tls_or_of_this_machine() {
        for good in [
            "https://login.example.org",
            "https://e.org/realms/x/",
            "http://127.0.0.1:9000/x",
            "http://[::1]",
        ] {
            assert_eq!(IssuerUrl::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "login.example.org",
            "http://login.example.org",
            "ftp://e.org",
            "https://a@e.org",
            "https://e.org/?x",
            "https://e.org/#x",
            "https://",
            "http://localhost.example.org",
            "https://e.org/ x",
        ] {
            assert!(IssuerUrl::parse(bad).unwrap_err().contains("allowed"), "{bad}");
        }
        let document = "https://e.org/x/.well-known/openid-configuration";
        assert_eq!(IssuerUrl::parse("https://e.org/x/").unwrap().document(), document);
        assert_eq!(IssuerUrl::parse("https://e.org/x").unwrap().document(), document);
    }

    #[test]
    fn an_issuer_leads_to_nothing_less_safe_than_itself() {
        let far = IssuerUrl::parse("https://e.org").unwrap();
        assert!(far.trusts("https://keys.example.net/x?y=z"));
        for bad in ["http://e.org/x", "http://127.0.0.1/x", "file:///etc/passwd", "x", "https://a@e.org/"] {
            assert!(!far.trusts(bad), "{bad}");
        }
        let near = IssuerUrl::parse("http://localhost:1").unwrap();
        assert!(near.trusts("http://127.0.0.1:2/x") && !near.trusts("http://e.org/x"));
    }

    #[test]
    fn addresses_of_this_server_are_origins() {
        assert_eq!(PublicUrl::parse("https://Cloud.example/").unwrap().as_str(), "https://cloud.example");
        for bad in ["cloud.example", "https://e.org/x", "https://e.org?x", "https://"] {
            assert!(PublicUrl::parse(bad).unwrap_err().contains("allowed"), "{bad}");
        }
    }

    #[test]
    fn addresses_are_allowed_singly_and_by_domain() {
        let allowed = AllowedEmails::parse("Ada@Example.org, @example.net").unwrap();
        for good in ["ada@example.org", "bob@example.net"] {
            assert!(allowed.allows(good), "{good}");
        }
        for bad in [
            "bob@example.org",
            "bob@x.example.net",
            "bob@notexample.net",
            "@example.net@e.org",
            "example.net",
        ] {
            assert!(!allowed.allows(bad), "{bad}");
        }
        for bad in ["", ",", "ada", "@", "ada@", "@@example.org", "@a b", "*@example.org,@"] {
            assert!(AllowedEmails::parse(bad).unwrap_err().contains("allowed"), "{bad}");
        }
    }

    #[test]
    fn addresses_have_one_form() {
        assert_eq!(normal_email("Ada@Example.ORG").as_deref(), Some("ada@example.org"));
        for bad in [
            "ada",
            "ada@x@y",
            "\"a@b\"@e.org",
            "аda@example.org",
            "ada@exаmple.org",
            "a b@e.org",
            "@e.org",
            "a@",
        ] {
            assert_eq!(normal_email(bad), None, "{bad}");
        }
        assert_eq!(normal_email(&format!("{}@e.org", "x".repeat(250))), None);
    }

    #[test]
    fn a_secret_is_one_line_and_never_printed() {
        let secret = ClientSecret::parse("hunter2\n").unwrap();
        assert_eq!((secret.reveal(), format!("{secret:?}").as_str()), ("hunter2", "ClientSecret(..)"));
        assert!(ClientSecret::parse("\n").is_err() && ClientSecret::parse("a\nb").is_err());
    }
}
