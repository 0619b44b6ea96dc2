//! Addresses and mailboxes, in the form that every relay takes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::DomainName;

/// The longest part before the `@` (RFC 5321, 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;

/// The longest address that fits into a path (RFC 5321, 4.5.3.1.3).
const MAX_ADDRESS_BYTES: usize = 254;

/// The longest display name.
const MAX_NAME_BYTES: usize = 200;

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailAddressError {
    /// It has not one `@`, or more than that.
    #[error("is no address; allowed is NAME@DOMAIN, or Name <NAME@DOMAIN>")]
    Form,
    /// It is too long.
    #[error("is longer than an address may be: 64 bytes before the @, 254 in all")]
    Length,
    /// The part before the `@` has what it may not.
    #[error(
        "has a part before the @ that is not allowed; allowed are a-z, 0-9, the characters !#$%&'*+-/=?^_`{{|}}~ and single dots between them"
    )]
    Local,
    /// The part after the `@` is no host name.
    #[error(
        "has a domain that is not allowed; allowed is a host name such as example.org, in its xn-- form where it has other letters than a-z"
    )]
    Domain,
    /// The display name has a control character or is too long.
    #[error("has a name that is not allowed; allowed are 200 bytes of one line")]
    Name,
}

/// An e-mail address: ASCII, its domain a host name in lower case, no comments and no quotes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MailAddress {
    text: String,
    at: usize,
}

impl MailAddress {
    /// The part before the `@`.
    pub fn local(&self) -> &str {
        &self.text[..self.at]
    }

    /// The part after the `@`.
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `text` can stand before the `@`.
    pub fn is_local(text: &str) -> bool {
        text.len() <= MAX_LOCAL_BYTES
            && text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atom_byte))
    }
}

fn is_atom_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

impl FromStr for MailAddress {
    type Err = MailAddressError;

    fn from_str(text: &str) -> Result<Self, MailAddressError> {
        let (local, domain) = text.split_once('@').ok_or(MailAddressError::Form)?;
        if domain.contains('@') {
            return Err(MailAddressError::Form);
        }
        if local.len() > MAX_LOCAL_BYTES || text.len() > MAX_ADDRESS_BYTES {
            return Err(MailAddressError::Length);
        }
        if !Self::is_local(local) {
            return Err(MailAddressError::Local);
        }
        let domain = domain.to_ascii_lowercase();
        DomainName::new(domain.as_str()).map_err(|_| MailAddressError::Domain)?;
        Ok(Self { text: format!("{local}@{domain}"), at: local.len() })
    }
}

impl TryFrom<String> for MailAddress {
    type Error = MailAddressError;

    fn try_from(text: String) -> Result<Self, MailAddressError> {
        text.parse()
    }
}

impl From<MailAddress> for String {
    fn from(address: MailAddress) -> Self {
        address.text
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An address with the name that is shown for it: `Ada <ada@example.org>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// The display name.
    pub name: Option<String>,
    /// The address.
    pub address: MailAddress,
}

impl Mailbox {
    /// Checks a display name.
    pub fn check_name(name: &str) -> Result<(), MailAddressError> {
        let is_good = name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
        is_good.then_some(()).ok_or(MailAddressError::Name)
    }
}

impl FromStr for Mailbox {
    type Err = MailAddressError;

    fn from_str(text: &str) -> Result<Self, MailAddressError> {
        // A name may have anything in it, so that the address is what the last `<` begins.
        let Some(named) = text.strip_suffix('>') else {
            return Ok(Self { name: None, address: text.parse()? });
        };
        let (name, address) = named.rsplit_once('<').ok_or(MailAddressError::Form)?;
        Self::check_name(name)?;
        let name = name.trim();
        let unquoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
        let name = (!unquoted.is_empty()).then(|| unquoted.to_owned());
        Ok(Self { name, address: address.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form() {
        let address: MailAddress = "Ada.L+x@Example.ORG".parse().unwrap();
        assert_eq!((address.local(), address.domain()), ("Ada.L+x", "example.org"));
        assert_eq!(address.to_string(), "Ada.L+x@example.org");
        for bad in [
            "",
            "@",
            "ada",
            "ada@",
            "@b",
            "a@b@c",
            "a b@c.d",
            "a@b c",
            ".a@b.c",
            "a.@b.c",
            "a..b@c.d",
            "ä@b.c",
            "a@bücher.example",
            "a@127.0.0.1",
            "a@[127.0.0.1]",
            "\"a b\"@c.d",
            "a@b.c\r\n",
            "a\n@b.c",
            "a@b.c,d@e.f",
            "(x)a@b.c",
            "a@b.c.",
            "a@-b.c",
        ] {
            assert!(bad.parse::<MailAddress>().is_err(), "{bad:?}");
        }
        assert_eq!(format!("{}@b.c", "a".repeat(65)).parse::<MailAddress>(), Err(MailAddressError::Length));
    }

    #[test]
    fn a_mailbox_has_a_name_or_none() {
        let parse =
            |text: &str| text.parse::<Mailbox>().map(|mailbox| (mailbox.name, mailbox.address.to_string()));
        let address = "ada@example.org".to_owned();
        assert_eq!(parse("ada@example.org"), Ok((None, address.clone())));
        assert_eq!(parse("<ada@example.org>"), Ok((None, address.clone())));
        assert_eq!(parse("Ada, L. <ada@example.org>"), Ok((Some("Ada, L.".into()), address.clone())));
        assert_eq!(parse("\"Ada\" <ada@example.org>"), Ok((Some("Ada".into()), address.clone())));
        assert_eq!(parse("eve@e.org <ada@example.org>"), Ok((Some("eve@e.org".into()), address)));
        for bad in
            ["Ada <>", "Ada ada@example.org>", "A\r\nBcc: x <ada@example.org>", "<a@b.c>, <d@e.f>x", "a@b.c,"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse(&format!("{} <a@b.c>", "n".repeat(201))), Err(MailAddressError::Name));
    }
}
