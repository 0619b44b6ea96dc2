//! Signing in by way of an OpenID Connect issuer: settings of which one asks for another.

use std::path::PathBuf;

use clap::Args;
use picloud_manager::{AllowedEmails, ClientSecret, IssuerUrl, OidcConfig, PublicUrl};

use super::secret_file;
use crate::exit::{Exit, Failure};

/// How users sign in by way of an issuer.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sign-in")]
pub(crate) struct OidcArgs {
    /// OpenID Connect issuer by way of which users may sign in, to the letter as it names itself
    #[arg(long, env = "PICLOUD_OIDC_ISSUER", value_name = "URL", value_parser = IssuerUrl::parse)]
    oidc_issuer: Option<IssuerUrl>,

    /// What the issuer knows this server by
    #[arg(long, env = "PICLOUD_OIDC_CLIENT_ID", value_name = "ID", value_parser = client_id)]
    oidc_client_id: Option<String>,

    /// File of the client's secret, mode 0600 [default: none, for a public client]
    #[arg(long, env = "PICLOUD_OIDC_CLIENT_SECRET_FILE", value_name = "FILE")]
    oidc_client_secret_file: Option<PathBuf>,

    /// Whose verified e-mail addresses may sign in: addresses and @DOMAINs, separated by commas
    #[arg(long, env = "PICLOUD_OIDC_ALLOWED", value_name = "ADDRESSES", value_parser = AllowedEmails::parse)]
    oidc_allowed: Option<AllowedEmails>,

    /// Whether a user that nobody knows yet is made a member at the first sign-in [default: false]
    #[arg(long, env = "PICLOUD_OIDC_CREATE", value_name = "BOOL", value_parser = flag)]
    oidc_create: Option<bool>,

    /// Where browsers reach the control listener, for the issuer to send them back [default: as they ask for it]
    #[arg(long, env = "PICLOUD_PUBLIC_URL", value_name = "URL", value_parser = PublicUrl::parse)]
    public_url: Option<PublicUrl>,
}

impl OidcArgs {
    /// The settings as a whole; `None` where there is no issuer. Reads the file of the secret.
    pub(crate) fn config(&self) -> Result<Option<OidcConfig>, Failure> {
        let Some(issuer) = &self.oidc_issuer else { return self.check_unset().map(|()| None) };
        let missing = |variable: &str, what: &str| {
            let problem = format!("PICLOUD_OIDC_ISSUER is set and {variable} is not; {what}");
            Failure::new(Exit::Usage, problem)
        };
        let client_id = self
            .oidc_client_id
            .clone()
            .ok_or_else(|| missing("PICLOUD_OIDC_CLIENT_ID", "it is what the issuer knows this server by"))?;
        let allowed = self.oidc_allowed.clone().ok_or_else(|| {
            let what = "allowed are the addresses and domains that may sign in: ada@example.org,@example.net";
            missing("PICLOUD_OIDC_ALLOWED", what)
        })?;
        let client_secret = self
            .oidc_client_secret_file
            .as_deref()
            .map(|file| secret_file::read("PICLOUD_OIDC_CLIENT_SECRET_FILE", file, ClientSecret::parse))
            .transpose()?;
        Ok(Some(OidcConfig {
            issuer: issuer.clone(),
            client_id,
            client_secret,
            allowed,
            create: self.oidc_create.unwrap_or(false),
            public_url: self.public_url.clone(),
        }))
    }

    /// Without an issuer the rest would do nothing, which nobody means.
    fn check_unset(&self) -> Result<(), Failure> {
        let set = [
            ("PICLOUD_OIDC_CLIENT_ID", self.oidc_client_id.is_some()),
            ("PICLOUD_OIDC_CLIENT_SECRET_FILE", self.oidc_client_secret_file.is_some()),
            ("PICLOUD_OIDC_ALLOWED", self.oidc_allowed.is_some()),
            ("PICLOUD_OIDC_CREATE", self.oidc_create == Some(true)),
        ];
        match set.iter().find(|(_, is_set)| *is_set) {
            None => Ok(()),
            Some((variable, _)) => {
                let problem =
                    format!("{variable} is set and PICLOUD_OIDC_ISSUER is not; set both or neither");
                Err(Failure::new(Exit::Usage, problem))
            }
        }
    }
}

fn client_id(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_good = (1..=512).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    is_good.then(|| text.to_owned()).ok_or_else(|| "allowed are 1 to 512 ASCII characters".to_owned())
}

fn flag(text: &str) -> Result<bool, String> {
    text.trim().parse().map_err(|_| "allowed is true or false".to_owned())
}
