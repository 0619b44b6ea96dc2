//! Where the relay is, and from which address apps send.

use std::{fmt, net::IpAddr, str::FromStr};

use picloud_core::{AppName, MailAddress};
use url::Url;

/// How a connection is kept from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    /// Not at all, on this machine.
    None,
    /// By STARTTLS, without which nothing is sent.
    StartTls,
    /// By TLS from the first byte on.
    Tls,
}

/// Where a relay is: `smtp://[USER@]HOST[:PORT]` with STARTTLS, `smtps://[USER@]HOST[:PORT]` with TLS, or
/// `smtp://HOST[:PORT]?tls=none` for one on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayUrl {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) security: Security,
}

impl RelayUrl {
    /// Whether it has a user, for whom a password is needed.
    pub const fn has_user(&self) -> bool {
        self.user.is_some()
    }
}

impl FromStr for RelayUrl {
    type Err = String;

    /// Reads a URL. The error says what is allowed and does not repeat the text, which may have a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |problem: &str| {
            format!(
                "{problem}; allowed is smtp://USER@HOST:PORT or smtps://USER@HOST:PORT, USER@ and :PORT may be left out"
            )
        };
        let url = Url::parse(text.trim()).map_err(|_| wrong("it is no URL"))?;
        let (port, mut security) = match url.scheme() {
            "smtp" => (587, Security::StartTls),
            "smtps" => (465, Security::Tls),
            _ => return Err(wrong("its scheme is another")),
        };
        if url.password().is_some() {
            return Err(
                "it has a password; allowed is a user, and the password in PICLOUD_SMTP_RELAY_PASSWORD"
                    .into(),
            );
        }
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(wrong("it has a path"));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it has no host"))?;
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        match (url.query(), security) {
            (None, _) => {}
            (Some("tls=none"), Security::StartTls) if is_loopback(&host) => security = Security::None,
            (Some("tls=none"), _) => {
                return Err(
                    "tls=none is for a relay on this machine; allowed is smtp://127.0.0.1:PORT?tls=none"
                        .into(),
                );
            }
            (Some(_), _) => return Err(wrong("what it asks for is unknown")),
        }
        let user = percent_decoded(url.username()).ok_or_else(|| wrong("its user is no text"))?;
        let user = Some(user).filter(|user| !user.is_empty());
        Ok(Self { host, port: url.port().unwrap_or(port), user, security })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A user name, whose `@` is written as `%40`.
fn percent_decoded(text: &str) -> Option<String> {
    // As a form has it, but for its plus sign.
    let text = text.replace('+', "%2B");
    let (decoded, _) = url::form_urlencoded::parse(text.as_bytes()).next().unwrap_or_default();
    let is_text = !decoded.contains(char::REPLACEMENT_CHARACTER) && !decoded.chars().any(char::is_control);
    is_text.then(|| decoded.into_owned())
}

/// The address that apps send from; `{app}` in it is the app's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderAddress(String);

impl SenderAddress {
    const APP: &'static str = "{app}";

    /// The address of an app.
    pub fn of(&self, app: &AppName) -> MailAddress {
        let address = self.0.replace(Self::APP, app.as_str());
        address
            .parse()
            .expect("an address is checked with the longest name of an app, and others are as good")
    }
}

impl FromStr for SenderAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        // Whatever a name has, it is a label of host names.
        let longest = text.replace(Self::APP, &"a".repeat(63));
        match longest.parse::<MailAddress>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(problem) => {
                Err(format!("it {problem}; {{app}} in it becomes the app's name of up to 63 characters"))
            }
        }
    }
}

impl fmt::Display for SenderAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_reached_by_tls_unless_it_is_on_this_machine() {
        let parse =
            |text: &str| text.parse::<RelayUrl>().map(|url| (url.host, url.port, url.user, url.security));
        assert_eq!(
            parse("smtp://mail.example.org"),
            Ok(("mail.example.org".into(), 587, None, Security::StartTls))
        );
        assert_eq!(
            parse("smtps://a+b%40example.org@mail.example.org:1465/"),
            Ok(("mail.example.org".into(), 1465, Some("a+b@example.org".into()), Security::Tls))
        );
        assert_eq!(parse("smtp://[::1]:25?tls=none"), Ok(("::1".into(), 25, None, Security::None)));
        for bad in [
            "",
            "mail.example.org",
            "http://mail.example.org",
            "smtp://",
            "smtp://mail.example.org?tls=none",
            "smtps://127.0.0.1?tls=none",
            "smtp://127.0.0.1?tls=no",
            "smtp://user:hunter2@mail.example.org",
            "smtp://mail.example.org/x",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains("allowed is") && !error.contains("hunter2"), "{bad}: {error}");
        }
    }

    #[test]
    fn the_address_of_an_app_is_good_for_every_name() {
        let longest = AppName::new("a".repeat(63)).unwrap();
        for good in ["{app}@apps.example.org", "noreply@example.org", "x@{app}.example.org"] {
            let sender: SenderAddress = good.parse().unwrap();
            assert!(!sender.of(&longest).as_str().contains('{'), "{good}");
        }
        for bad in ["{app}", "mail-{app}@example.org", "{app}@", "{app}@127.0.0.1", "a b@example.org", ""] {
            assert!(bad.parse::<SenderAddress>().is_err(), "{bad}");
        }
    }
}
