//! `picloud route`: which script or which files answer for which paths.

use clap::{Args, Subcommand};
use picloud_core::{
    CallbackUrl, Change, FilePath, Method, RateLimit, RouteAccess, RouteMode, RoutePattern, SignatureScheme,
};
use serde::Deserialize;
use serde_json::json;
use ureq::http;

use super::{
    AppArgs, CommonArgs, WholeAppArgs,
    access::{OrNone, or_none, rate},
    api::{Api, Payload, segment},
    error::ClientError,
    pages::Items,
    secrets::of_stdin,
    session::print_json,
};
use crate::{
    terminal::{self, Table, printable},
    units,
};

/// What can be done with routes.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// List an app's routes
    List(WholeAppArgs),
    /// Add a route, or give the one of the same path and methods to another script
    Add(AddArgs),
    /// Make a key for the callers of a route with `--access hmac` to sign with
    Key(KeyArgs),
    /// Remove a route
    Remove(RemoveArgs),
}

/// `picloud route add`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud route add /users/:id users --method GET --method PUT\n  picloud route add '/files/*path' files\n  picloud route add /hook hook --access hmac --signature github\n  picloud route add /report report --mode async\n  picloud route add /admin admin --access token --client-rate-limit 10/min\n  picloud route add '/a/*path' --files static/a/ --fallback static/a/index.html"
)]
pub(crate) struct AddArgs {
    /// The paths: literals, `:name` for one segment, `*name` at the end for whatever follows
    #[arg(value_name = "PATH", value_parser = new_pattern)]
    path: RoutePattern,
    /// The script that answers
    #[arg(value_name = "SCRIPT", required_unless_present = "files", conflicts_with = "files")]
    script: Option<String>,
    /// The folder of files that answers, in place of a script; the path must end with `*name`
    #[arg(long, value_name = "FOLDER")]
    files: Option<String>,
    /// How long browsers may keep files that are no pages without asking again: a time with s, min or h
    #[arg(long, value_name = "TIME", value_parser = seconds, requires = "files")]
    max_age: Option<u64>,
    /// The file that is answered where there is none
    #[arg(long, value_name = "PATH", requires = "files")]
    fallback: Option<FilePath>,
    /// A method that it answers; may be given more than once [default: all]
    #[arg(long, short, value_name = "METHOD", value_parser = method)]
    method: Vec<Method>,
    /// Who may call it: public, token (who may invoke scripts of the app) or hmac (who signs with a key of the route)
    /// [default: as it is, else public]
    #[arg(long, value_name = "ACCESS", value_parser = access)]
    access: Option<RouteAccess>,
    /// How those sign who call a route with `--access hmac`: picloud, github, stripe, slack, generic or generic:HEADER
    /// [default: as it is, else picloud]
    #[arg(long, value_name = "SENDER", value_parser = signature)]
    signature: Option<SignatureScheme>,
    /// How its runs go: sync while the client waits, durable to the end whether it waits or not, async later
    /// [default: as it is, else sync]
    #[arg(long, value_name = "MODE", value_parser = mode)]
    mode: Option<RouteMode>,
    /// Where each answer of a route with `--mode async` is sent by POST, or `none`
    #[arg(long, value_name = "URL", value_parser = callback)]
    callback_url: Option<OrNone<CallbackUrl>>,
    /// How many requests all clients together may make, such as 1000/min, or `none`
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate_limit: Option<OrNone<RateLimit>>,
    /// How many requests each client may make, such as 100/min, or `none`
    #[arg(long, value_name = "RATE", value_parser = rate)]
    client_rate_limit: Option<OrNone<RateLimit>>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud route key`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud route key /hook\n  picloud route key /hook --keep 0\n  pass show github-webhook | picloud route key /hook --stdin"
)]
pub(crate) struct KeyArgs {
    /// Its path, as `picloud route list` shows it
    #[arg(value_name = "PATH", value_parser = pattern)]
    path: RoutePattern,
    /// One of its methods, where several routes have this path
    #[arg(long, short, value_name = "METHOD", value_parser = method)]
    method: Option<Method>,
    /// How long the key before stays good: a time with s, min or h, at most 720h, or 0 [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    keep: Option<u64>,
    /// Take the sender's own key from standard input, in place of making one
    #[arg(long)]
    stdin: bool,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud route remove`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud route remove /users/:id\n  picloud route remove /users/:id --method GET"
)]
pub(crate) struct RemoveArgs {
    /// Its path, as `picloud route list` shows it
    #[arg(value_name = "PATH", value_parser = pattern)]
    path: RoutePattern,
    /// One of its methods, where several routes have this path
    #[arg(long, short, value_name = "METHOD", value_parser = method)]
    method: Option<Method>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
pub(super) struct Route {
    id: String,
    methods: Vec<String>,
    pub(super) path: String,
    script: Option<String>,
    files: Option<String>,
    access: RouteAccess,
    signature: Option<SignatureScheme>,
    mode: RouteMode,
    rate_limit: Option<RateLimit>,
    client_rate_limit: Option<RateLimit>,
    signing_keys: Vec<Key>,
    url: String,
}

#[derive(Debug, Deserialize)]
struct Key {}

#[derive(Debug, Deserialize)]
struct NewKey {
    key: Option<String>,
}

impl Route {
    /// Who may call it, and how often where that is limited.
    fn access(&self) -> String {
        let of = |rate: Option<RateLimit>, of: &str| rate.map(|rate| format!("{rate}{of}"));
        let limits = [of(self.rate_limit, ""), of(self.client_rate_limit, " a client")];
        let signature = self.signature.as_ref().filter(|signature| **signature != SignatureScheme::Picloud);
        let access = match signature {
            Some(signature) => format!("{} of {signature}", self.access),
            None => self.access.to_string(),
        };
        let mode = (self.mode != RouteMode::Sync).then(|| self.mode.to_string());
        let parts = std::iter::once(access).chain(mode).chain(limits.into_iter().flatten());
        parts.collect::<Vec<_>>().join(", ")
    }

    /// What answers: a script by its name, files by their folder.
    pub(super) fn target(&self) -> String {
        self.script.clone().or_else(|| self.files.clone()).unwrap_or_default()
    }

    /// Its methods, in short where it has all of them.
    pub(super) fn methods(&self) -> String {
        if self.methods.len() == Method::ALL.len() { "any".to_owned() } else { self.methods.join(",") }
    }
}

/// Runs one of the commands.
pub(super) fn run(command: RouteCommand) -> Result<(), ClientError> {
    match command {
        RouteCommand::List(args) => list(&args),
        RouteCommand::Add(args) => add(&args),
        RouteCommand::Key(args) => key(&args),
        RouteCommand::Remove(args) => remove(&args),
    }
}

fn list(args: &WholeAppArgs) -> Result<(), ClientError> {
    let path = args.app.path("/routes")?;
    let api = Api::connect(&args.common)?;
    let items = Items::fetch_whole(&api, &path)?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["METHODS", "PATH", "ANSWERS", "ACCESS", "ADDRESS"]);
    for route in items.read::<Route>(&api)? {
        let (access, target) = (route.access(), route.target());
        table.row([route.methods(), route.path, target, access, route.url]);
    }
    table.print("no routes; a script that has none answers at its own name")?;
    Ok(())
}

fn add(args: &AddArgs) -> Result<(), ClientError> {
    let path = args.app.path("/routes")?;
    let api = Api::connect(&args.common)?;
    let mut route = json!({ "path": args.path.to_string() });
    for (name, value) in [("script", &args.script), ("files", &args.files)] {
        if let Some(value) = value {
            route[name] = value.as_str().into();
        }
    }
    if let Some(max_age) = args.max_age {
        route["max_age"] = max_age.into();
    }
    if let Some(fallback) = &args.fallback {
        route["fallback"] = fallback.as_str().into();
    }
    if !args.method.is_empty() {
        route["methods"] = args.method.iter().map(|method| method.as_str()).collect();
    }
    if let Some(access) = args.access {
        route["access"] = access.as_str().into();
    }
    if let Some(signature) = &args.signature {
        route["signature"] = signature.to_string().into();
    }
    if let Some(mode) = args.mode {
        route["mode"] = mode.as_str().into();
    }
    if let Some(url) = &args.callback_url {
        route["callback_url"] = json!(Change::from(url.clone()));
    }
    for (name, rate) in [("rate_limit", args.rate_limit), ("client_rate_limit", args.client_rate_limit)] {
        let Some(rate) = rate else { continue };
        route[name] = json!(Change::from(rate));
    }
    let answer = api.call(http::Method::POST, &path, Payload::Json(&route))?;
    if args.common.json {
        return print_json(&answer);
    }
    let route: Route = api.read(&answer)?;
    terminal::line(format_args!(
        "{} {} leads to {}: {}",
        route.methods(),
        printable(&route.path),
        printable(&route.target()),
        printable(&route.url)
    ))?;
    if route.access == RouteAccess::Hmac && route.signing_keys.is_empty() {
        let hint = match &route.signature {
            None | Some(SignatureScheme::Picloud) => format!("`picloud route key {}` makes one", args.path),
            Some(_) => format!("`picloud route key {} --stdin` takes that of the sender", args.path),
        };
        terminal::note(format_args!("it has no key yet: {hint}"));
    }
    Ok(())
}

/// Shows the key once: alone on standard output, so that it can be piped to where it is kept.
fn key(args: &KeyArgs) -> Result<(), ClientError> {
    let path = args.app.path("/routes")?;
    let api = Api::connect(&args.common)?;
    let route = find(&api, &args.app, &path, &args.path, args.method)?;
    let mut new = json!({});
    if let Some(keep) = args.keep {
        new["keep_seconds"] = keep.into();
    }
    if args.stdin {
        new["key"] = of_stdin()?.into();
    }
    let keys = format!("{path}/{}/keys", segment(&route.id));
    let answer = api.call(http::Method::POST, &keys, Payload::Json(&new))?;
    if args.common.json {
        return print_json(&answer);
    }
    let new: NewKey = api.read(&answer)?;
    match &new.key {
        Some(key) => {
            terminal::line(printable(key))?;
            terminal::note("this key is not shown again");
        }
        None => terminal::note(format_args!("{} {} has a new key", route.methods(), args.path)),
    }
    Ok(())
}

/// Finds the route's id and removes that: what others change in between cannot make it another route.
fn remove(args: &RemoveArgs) -> Result<(), ClientError> {
    let path = args.app.path("/routes")?;
    let api = Api::connect(&args.common)?;
    let route = find(&api, &args.app, &path, &args.path, args.method)?;
    api.call(http::Method::DELETE, &format!("{path}/{}", segment(&route.id)), Payload::None)?;
    terminal::note(format_args!("removed the route {} {}", route.methods(), args.path));
    Ok(())
}

/// The only route of this path, and of this method if one is given.
fn find(
    api: &Api,
    app: &AppArgs,
    routes: &str,
    path: &RoutePattern,
    method: Option<Method>,
) -> Result<Route, ClientError> {
    let mut routes: Vec<Route> = Items::fetch_whole(api, routes)?.read(api)?;
    let wanted = path.to_string();
    let method = method.map(Method::as_str);
    routes.retain(|route| {
        route.path == wanted && method.is_none_or(|method| route.methods.iter().any(|m| m == method))
    });
    if routes.len() > 1 {
        let methods: Vec<_> = routes.iter().map(Route::methods).collect();
        return Err(ClientError::Input(format!(
            "{wanted} has {} routes ({}); --method says which",
            routes.len(),
            methods.join("; ")
        )));
    }
    routes.pop().map_or_else(
        || {
            let method = method.map(|method| format!("{method} ")).unwrap_or_default();
            Err(ClientError::NotFound(format!("no route {method}{wanted} in app \"{}\"", app.name()?)))
        },
        Ok,
    )
}

fn new_pattern(text: &str) -> Result<RoutePattern, String> {
    RoutePattern::for_new_route(text).map_err(|error| error.to_string())
}

fn pattern(text: &str) -> Result<RoutePattern, String> {
    text.parse().map_err(|error: picloud_core::PatternError| error.to_string())
}

fn access(text: &str) -> Result<RouteAccess, String> {
    text.parse().map_err(|error: picloud_core::AccessError| error.to_string())
}

fn mode(text: &str) -> Result<RouteMode, String> {
    text.parse().map_err(|error: picloud_core::UnknownRouteMode| error.to_string())
}

fn callback(text: &str) -> Result<OrNone<CallbackUrl>, String> {
    or_none(text)
}

fn signature(text: &str) -> Result<SignatureScheme, String> {
    text.parse().map_err(|error: picloud_core::AccessError| error.to_string())
}

fn seconds(text: &str) -> Result<u64, String> {
    let millis = units::parse_millis(text).filter(|millis| millis.is_multiple_of(1000));
    millis
        .map(|millis| millis / 1000)
        .ok_or_else(|| format!("{text:?} is no time; allowed is one such as 30min, 24h or 0"))
}

fn method(text: &str) -> Result<Method, String> {
    text.to_uppercase().parse()
}
