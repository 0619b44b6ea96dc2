//! `picloud access`: who may call an app's endpoints.

use clap::{Args, Subcommand};
use picloud_core::{AccessPatch, AccessSettings, Change, Cors, Network, Networks, RateLimit};
use serde::{Deserialize, Deserializer, de};
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs, WholeAppArgs,
    api::{Api, Payload},
    error::ClientError,
    session::print_json,
};
use crate::terminal::{Table, warning};

/// The word for what is not set.
const NONE: &str = "none";

/// What can be done with who may call.
#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// Show who may call an app's endpoints
    Show(WholeAppArgs),
    /// Set who may call an app's endpoints; what is not named stays
    Set(SetArgs),
}

/// `picloud access set`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    picloud access set --cors-origin https://shop.example --cors-method GET\n  \
    picloud access set --allow-ip 192.0.2.0/24 --allow-ip 2001:db8::/32\n  \
    picloud access set --client-rate-limit 100/min --deny-ip none")]
pub(crate) struct SetArgs {
    /// An origin whose pages may read answers, or * for all; may be given more than once, `none` for no sharing
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<String>,
    /// A method that such pages may use; may be given more than once [default: all]
    #[arg(long, value_name = "METHOD", requires = "cors_origin")]
    cors_method: Vec<String>,
    /// A header that such pages may send, or * for all; may be given more than once
    #[arg(long, value_name = "NAME", requires = "cors_origin")]
    cors_header: Vec<String>,
    /// A header of answers that such pages may read; may be given more than once
    #[arg(long, value_name = "NAME", requires = "cors_origin")]
    cors_expose: Vec<String>,
    /// Let such pages send cookies
    #[arg(long, requires = "cors_origin")]
    cors_credentials: bool,
    /// How many seconds a browser may remember a permission [default: 600]
    #[arg(long, value_name = "SECONDS", requires = "cors_origin")]
    cors_max_age: Option<u32>,
    /// A network or address that may call; may be given more than once, `none` for all
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    allow_ip: Vec<OrNone<Network>>,
    /// A network or address that may not call; may be given more than once, `none` for no such
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    deny_ip: Vec<OrNone<Network>>,
    /// How many requests all clients together may make, such as 1000/min, or `none`
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate_limit: Option<OrNone<RateLimit>>,
    /// How many requests each client may make, such as 100/min, or `none`
    #[arg(long, value_name = "RATE", value_parser = rate)]
    client_rate_limit: Option<OrNone<RateLimit>>,
    /// Whether everybody sees the error text of scripts: true or false
    #[arg(long, value_name = "BOOL")]
    development: Option<bool>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// A value, or the word `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrNone<T> {
    None,
    Value(T),
}

impl<T> From<OrNone<T>> for Change<T> {
    fn from(given: OrNone<T>) -> Self {
        match given {
            OrNone::None => Self::Remove,
            OrNone::Value(value) => Self::Set(value),
        }
    }
}

/// A rate, or `none`.
pub(super) fn rate(text: &str) -> Result<OrNone<RateLimit>, String> {
    or_none(text)
}

fn network(text: &str) -> Result<OrNone<Network>, String> {
    or_none(text)
}

pub(super) fn or_none<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<OrNone<T>, String> {
    if text == NONE {
        return Ok(OrNone::None);
    }
    text.parse().map(OrNone::Value).map_err(|error: T::Err| format!("{error}, or none"))
}

/// Runs one of the commands.
pub(super) fn run(command: AccessCommand) -> Result<(), ClientError> {
    match command {
        AccessCommand::Show(args) => show(&args),
        AccessCommand::Set(args) => set(&args),
    }
}

fn show(args: &WholeAppArgs) -> Result<(), ClientError> {
    let path = args.app.path("/access")?;
    let api = Api::connect(&args.common)?;
    let answer = api.get(&path)?;
    print(&api, &args.common, &answer)
}

fn set(args: &SetArgs) -> Result<(), ClientError> {
    let patch = args.patch().map_err(ClientError::Input)?;
    if patch == AccessPatch::default() {
        return Err(ClientError::Input(
            "nothing to set; `picloud access set --help` lists what there is".into(),
        ));
    }
    let path = args.app.path("/access")?;
    let patch = serde_json::to_value(patch).map_err(|error| ClientError::Input(error.to_string()))?;
    let api = Api::connect(&args.common)?;
    let answer = api.call(Method::PUT, &path, Payload::Json(&patch))?;
    print(&api, &args.common, &answer)
}

impl SetArgs {
    fn patch(&self) -> Result<AccessPatch, String> {
        Ok(AccessPatch {
            cors: self.cors()?,
            allow_ips: networks(&self.allow_ip)?,
            deny_ips: networks(&self.deny_ip)?,
            rate_limit: self.rate_limit.map_or(Change::Keep, Change::from),
            client_rate_limit: self.client_rate_limit.map_or(Change::Keep, Change::from),
            development: self.development,
        })
    }

    fn cors(&self) -> Result<Change<Cors>, String> {
        if self.cors_origin.is_empty() {
            return Ok(Change::Keep);
        }
        if self.cors_origin == [NONE] {
            return Ok(Change::Remove);
        }
        let mut cors = serde_json::json!({
            "origins": self.cors_origin, "headers": self.cors_header, "exposed_headers": self.cors_expose,
            "credentials": self.cors_credentials,
        });
        if !self.cors_method.is_empty() {
            cors["methods"] = self.cors_method.iter().map(|method| method.to_uppercase()).collect();
        }
        if let Some(seconds) = self.cors_max_age {
            cors["max_age_seconds"] = seconds.into();
        }
        serde_json::from_value(cors).map(Change::Set).map_err(|error| error.to_string())
    }
}

/// The networks that are given; `none` alone empties the list.
fn networks(given: &[OrNone<Network>]) -> Result<Option<Networks>, String> {
    let networks: Vec<Network> = given
        .iter()
        .filter_map(|given| match given {
            OrNone::None => None,
            OrNone::Value(network) => Some(*network),
        })
        .collect();
    match (given.len(), networks.len()) {
        (0, _) => Ok(None),
        (all, some) if all == some || all == 1 => {
            Networks::try_from(networks).map(Some).map_err(|error| error.to_string())
        }
        _ => Err("none stands alone".to_owned()),
    }
}

fn print(api: &Api, common: &CommonArgs, answer: &str) -> Result<(), ClientError> {
    if common.json {
        return print_json(answer);
    }
    let settings: AccessSettings = api.read(answer)?;
    let rate = |rate: Option<RateLimit>| rate.map_or_else(|| NONE.to_owned(), |rate| rate.to_string());
    let list = |networks: &Networks, empty: &str| {
        let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
        if networks.is_empty() { empty.to_owned() } else { networks.join(", ") }
    };
    let mut table = Table::new(&["SETTING", "VALUE"]);
    match settings.cors {
        None => table.row(["cors".to_owned(), "left to the scripts".to_owned()]),
        Some(cors) => {
            let methods: Vec<&str> = cors.methods.iter().map(|method| method.as_str()).collect();
            let (methods, credentials) = (methods.join(", "), cors.credentials);
            for (name, value) in [
                ("cors origins", Vec::from(cors.origins).join(", ")),
                ("cors methods", methods),
                ("cors headers", Vec::from(cors.headers).join(", ")),
                ("cors exposed headers", Vec::from(cors.exposed_headers).join(", ")),
                ("cors credentials", credentials.to_string()),
                ("cors max age", format!("{} s", cors.max_age_seconds)),
            ] {
                table.row([name.to_owned(), value]);
            }
        }
    }
    table.row(["allowed addresses".to_owned(), list(&settings.allow_ips, "all")]);
    table.row(["denied addresses".to_owned(), list(&settings.deny_ips, NONE)]);
    table.row(["rate limit".to_owned(), rate(settings.rate_limit)]);
    table.row(["rate limit of a client".to_owned(), rate(settings.client_rate_limit)]);
    table.row(["development".to_owned(), settings.development.to_string()]);
    table.print("no settings")?;
    if settings.development {
        warn_of_development();
    }
    Ok(())
}

/// Says that the error text of scripts is public.
pub(super) fn warn_of_development() {
    warning("development mode: everybody who calls the app sees the error text of its scripts");
}

/// `[access]` of a manifest: as at the API, with rates as texts, and `none` for what is taken away. `None` if it names
/// nothing.
pub(super) fn of_manifest<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<AccessPatch>, D::Error> {
    let written = Written::deserialize(deserializer)?;
    let patch = AccessPatch {
        cors: match written.cors {
            None => Change::Keep,
            Some(toml::Value::String(text)) if text == NONE => Change::Remove,
            Some(cors) => cors.try_into().map(Change::Set).map_err(de::Error::custom)?,
        },
        allow_ips: written.allow_ips,
        deny_ips: written.deny_ips,
        rate_limit: written.rate_limit,
        client_rate_limit: written.client_rate_limit,
        development: written.development,
    };
    Ok((patch != AccessPatch::default()).then_some(patch))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    cors: Option<toml::Value>,
    allow_ips: Option<Networks>,
    deny_ips: Option<Networks>,
    #[serde(default, deserialize_with = "rate_of_manifest")]
    rate_limit: Change<RateLimit>,
    #[serde(default, deserialize_with = "rate_of_manifest")]
    client_rate_limit: Change<RateLimit>,
    development: Option<bool>,
}

/// A rate of a manifest: `100/min`, or `none`.
pub(super) fn rate_of_manifest<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Change<RateLimit>, D::Error> {
    let text = String::deserialize(deserializer)?;
    rate(&text).map(Change::from).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Manifest {
        #[serde(default, deserialize_with = "of_manifest")]
        access: Option<AccessPatch>,
    }

    fn read(text: &str) -> Result<Option<AccessPatch>, String> {
        toml::from_str::<Manifest>(text).map(|manifest| manifest.access).map_err(|error| error.to_string())
    }

    #[test]
    fn a_manifest_says_who_may_call() {
        let text = "[access]\nallow_ips = ['10.0.0.0/8']\nrate_limit = '100/min'\nclient_rate_limit = 'none'\n\
                    development = true\n[access.cors]\norigins = ['https://a.example']\n";
        let patch = read(text).unwrap().unwrap();
        assert_eq!(patch.rate_limit, Change::Set(RateLimit::new(100, 60).unwrap()));
        assert_eq!((patch.client_rate_limit, patch.development), (Change::Remove, Some(true)));
        assert!(matches!(&patch.cors, Change::Set(cors) if cors.allows(b"https://a.example")));
        assert_eq!(read("[access]\ncors = 'none'").unwrap().unwrap().cors, Change::Remove);
        assert_eq!(read("[access]\n"), Ok(None), "to send it would need a scope");
        assert_eq!(read(""), Ok(None));
    }

    #[test]
    fn a_wrong_manifest_says_what_is_allowed() {
        for (text, expected) in [
            ("rate_limit = '5'", "such as 100/min"),
            ("rate_limit = 5", "expected a string"),
            ("deny_ips = ['10.0.0.0/33']", "such as 10.0.0.0/8"),
            ("cors = 'all'", "expected"),
            ("ip = 1", "unknown field `ip`"),
            ("cors = { origins = ['*'], credentials = true }", "credentials is true"),
        ] {
            let problem = read(&format!("[access]\n{text}\n")).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }

    #[test]
    fn none_empties_a_list_and_stands_alone() {
        let network = |text: &str| network(text).unwrap();
        assert_eq!(networks(&[]), Ok(None));
        assert!(networks(&[OrNone::None]).unwrap().unwrap().is_empty());
        assert!(networks(&[OrNone::None, network("::1")]).is_err());
        assert_eq!(networks(&[network("::1"), network("10.0.0.0/8")]).unwrap().unwrap().iter().count(), 2);
    }
}
