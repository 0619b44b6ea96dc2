//! `picloud egress`: what an app's scripts may call over HTTP.

use clap::{Args, Subcommand};
use picloud_core::{EgressHost, EgressRule, EgressRules, Method, MethodSet};
use serde::{Deserialize, Deserializer, de};

use super::{AppArgs, CommonArgs, WholeAppArgs, api::Api, error::ClientError, session::print_json};
use crate::terminal::{self, Table};

/// What can be done with what scripts may call.
#[derive(Debug, Subcommand)]
pub(crate) enum EgressCommand {
    /// List what an app's scripts may call over HTTP
    List(WholeAppArgs),
    /// Allow calls to hosts
    Allow(AllowArgs),
    /// Take hosts off the list
    Deny(DenyArgs),
}

/// `picloud egress allow`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    picloud egress allow api.example.com --app shop\n  \
    picloud egress allow https://*.example.com --method GET --method HEAD\n  \
    picloud egress allow http://192.168.1.20:8080\n\n\
    Private and local addresses are reached only where the operator of PiCloud has\n\
    opened them with PICLOUD_EGRESS_PRIVATE.")]
pub(crate) struct AllowArgs {
    /// Hosts, with a scheme before and a port behind if you like (http://192.168.1.20:8080): https where no scheme
    /// is given, *.HOST for every name below it, * for every name
    #[arg(required = true, value_name = "HOST", value_parser = place)]
    hosts: Vec<EgressRule>,
    /// A method that may be used; may be given more than once [default: all]
    #[arg(long, value_name = "METHOD", value_parser = method)]
    method: Vec<Method>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud egress deny`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud egress deny api.example.com --app shop")]
pub(crate) struct DenyArgs {
    /// Hosts as `picloud egress list` shows them
    #[arg(required = true, value_name = "HOST", value_parser = place)]
    hosts: Vec<EgressRule>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

fn place(text: &str) -> Result<EgressRule, String> {
    text.parse().map_err(|error: picloud_core::EgressError| error.to_string())
}

fn method(text: &str) -> Result<Method, String> {
    text.to_ascii_uppercase().parse()
}

/// Runs one of the commands.
pub(super) fn run(command: EgressCommand) -> Result<(), ClientError> {
    match command {
        EgressCommand::List(args) => list(&args),
        EgressCommand::Allow(args) => allow(args),
        EgressCommand::Deny(args) => deny(&args),
    }
}

fn list(args: &WholeAppArgs) -> Result<(), ClientError> {
    let path = args.app.path("/egress")?;
    let api = Api::connect(&args.common)?;
    let answer = api.get(&path)?;
    print(&api, &args.common, &answer)
}

fn allow(args: AllowArgs) -> Result<(), ClientError> {
    let methods = match args.method.as_slice() {
        [] => MethodSet::ANY,
        methods => methods.iter().copied().collect(),
    };
    let hosts = args.hosts;
    change(&args.app, &args.common, move |rules| {
        for rule in hosts {
            rules
                .add(EgressRule { methods, ..rule })
                .map_err(|error| ClientError::Input(error.to_string()))?;
        }
        Ok(())
    })
}

fn deny(args: &DenyArgs) -> Result<(), ClientError> {
    change(&args.app, &args.common, |rules| {
        for place in &args.hosts {
            if !rules.remove(place) {
                let problem = format!("{place} is not on the list; `picloud egress list` shows what is");
                return Err(ClientError::Input(problem));
            }
        }
        Ok(())
    })
}

/// Changes the list as it is now; refused where somebody else has changed it in between.
fn change(
    app: &AppArgs,
    common: &CommonArgs,
    change: impl FnOnce(&mut EgressRules) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let path = app.path("/egress")?;
    let api = Api::connect(common)?;
    let (present, tag) = api.get_tagged(&path)?;
    let mut rules: EgressRules = api.read(&present)?;
    change(&mut rules)?;
    let rules = serde_json::to_value(rules).map_err(|error| ClientError::Input(error.to_string()))?;
    let answer = api.put_tagged(&path, &rules, &tag)?;
    print(&api, common, &answer)
}

fn print(api: &Api, common: &CommonArgs, answer: &str) -> Result<(), ClientError> {
    if common.json {
        return print_json(answer);
    }
    let rules: EgressRules = api.read(answer)?;
    let mut table = Table::new(&["HOST", "METHODS"]);
    for rule in &rules.allow {
        table.row([rule.to_string(), methods(rule.methods)]);
    }
    table.print("scripts may call nothing")?;
    if rules.allow.iter().any(|rule| rule.host == EgressHost::AnyName) {
        terminal::warning("scripts may call every name; what they read can go anywhere");
    }
    Ok(())
}

fn methods(methods: MethodSet) -> String {
    if methods == MethodSet::ANY {
        return "all".to_owned();
    }
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

/// `[egress]` of a manifest: `allow` is a list of hosts as on the command line, or of tables as at the API. It is the
/// whole list; `None` where there is no such part.
pub(super) fn of_manifest<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<EgressRules>, D::Error> {
    let Written { allow } = Written::deserialize(deserializer)?;
    let mut rules = EgressRules::default();
    for value in allow {
        let rule = match value {
            toml::Value::String(text) => text.parse().map_err(de::Error::custom)?,
            other => other.try_into().map_err(de::Error::custom)?,
        };
        rules.add(rule).map_err(de::Error::custom)?;
    }
    Ok(Some(rules))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    allow: Vec<toml::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Manifest {
        #[serde(default, deserialize_with = "of_manifest")]
        egress: Option<EgressRules>,
    }

    fn read(text: &str) -> Result<Option<EgressRules>, String> {
        toml::from_str::<Manifest>(text).map(|manifest| manifest.egress).map_err(|error| error.to_string())
    }

    #[test]
    fn a_manifest_says_what_may_be_called() {
        let text = "[egress]\nallow = ['API.example.com', 'http://192.168.1.20:8080',\n  \
                    { host = '*.example.org', methods = ['get'] }]\n";
        let rules = read(text).unwrap().unwrap();
        let shown: Vec<_> =
            rules.allow.iter().map(|rule| format!("{rule} {}", methods(rule.methods))).collect();
        assert_eq!(
            shown,
            ["https://api.example.com all", "http://192.168.1.20:8080 all", "https://*.example.org GET"]
        );
        assert_eq!(read("[egress]\nallow = []").unwrap(), Some(EgressRules::default()), "nothing may be");
        assert_eq!(read(""), Ok(None), "the list stays");
    }

    #[test]
    fn a_wrong_manifest_says_what_is_allowed() {
        for (text, expected) in [
            ("allow = ['https://a.example/path']", "[SCHEME://]HOST[:PORT]"),
            ("allow = ['a b']", "allowed are a name such as api.example.com"),
            ("allow = [{ host = 'a', methods = ['TRACE'] }]", "allowed are GET"),
            ("allow = [{ hosts = 'a' }]", "unknown field"),
            ("deny = []", "unknown field `deny`"),
            ("", "missing field `allow`"),
        ] {
            let problem = read(&format!("[egress]\n{text}\n")).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }
}
