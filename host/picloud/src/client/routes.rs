//! `picloud route`: which script answers for which paths.

use clap::{Args, Subcommand};
use picloud_core::{Method, RoutePattern};
use serde::Deserialize;
use serde_json::json;
use ureq::http;

use super::{
    AppArgs, CommonArgs, WholeAppArgs,
    api::{Api, Payload, segment},
    error::ClientError,
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table, printable};

/// What can be done with routes.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// List an app's routes
    List(WholeAppArgs),
    /// Add a route, or give the one of the same path and methods to another script
    Add(AddArgs),
    /// Remove a route
    Remove(RemoveArgs),
}

/// `picloud route add`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud route add /users/:id users --method GET --method PUT\n  picloud route add '/files/*path' files"
)]
pub(crate) struct AddArgs {
    /// The paths: literals, `:name` for one segment, `*name` at the end for whatever follows
    #[arg(value_name = "PATH", value_parser = new_pattern)]
    path: RoutePattern,
    /// The script that answers
    #[arg(value_name = "SCRIPT")]
    script: String,
    /// A method that it answers; may be given more than once [default: all]
    #[arg(long, short, value_name = "METHOD", value_parser = method)]
    method: Vec<Method>,
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
    pub(super) script: String,
    url: String,
}

impl Route {
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
    let mut table = Table::new(&["METHODS", "PATH", "SCRIPT", "ADDRESS"]);
    for route in items.read::<Route>(&api)? {
        table.row([route.methods(), route.path, route.script, route.url]);
    }
    table.print("no routes; a script that has none answers at its own name")?;
    Ok(())
}

fn add(args: &AddArgs) -> Result<(), ClientError> {
    let path = args.app.path("/routes")?;
    let api = Api::connect(&args.common)?;
    let mut route = json!({ "path": args.path.to_string(), "script": args.script });
    if !args.method.is_empty() {
        route["methods"] = args.method.iter().map(|method| method.as_str()).collect();
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
        printable(&route.script),
        printable(&route.url)
    ))?;
    Ok(())
}

/// Finds the route's id and removes that: what others change in between cannot make it another route.
fn remove(args: &RemoveArgs) -> Result<(), ClientError> {
    let path = args.app.path("/routes")?;
    let api = Api::connect(&args.common)?;
    let mut routes: Vec<Route> = Items::fetch_whole(&api, &path)?.read(&api)?;
    let wanted = args.path.to_string();
    let method = args.method.map(Method::as_str);
    routes.retain(|route| {
        route.path == wanted && method.is_none_or(|method| route.methods.iter().any(|m| m == method))
    });
    let route = match routes.as_slice() {
        [] => {
            let method = method.map(|method| format!("{method} ")).unwrap_or_default();
            let app = args.app.name()?;
            return Err(ClientError::NotFound(format!("no route {method}{wanted} in app \"{app}\"")));
        }
        [only] => only,
        several => {
            let methods: Vec<_> = several.iter().map(Route::methods).collect();
            return Err(ClientError::Input(format!(
                "{wanted} has {} routes ({}); --method says which",
                several.len(),
                methods.join("; ")
            )));
        }
    };
    api.call(http::Method::DELETE, &format!("{path}/{}", segment(&route.id)), Payload::None)?;
    terminal::note(format_args!("removed the route {} {wanted}", route.methods()));
    Ok(())
}

fn new_pattern(text: &str) -> Result<RoutePattern, String> {
    RoutePattern::for_new_route(text).map_err(|error| error.to_string())
}

fn pattern(text: &str) -> Result<RoutePattern, String> {
    text.parse().map_err(|error: picloud_core::PatternError| error.to_string())
}

fn method(text: &str) -> Result<Method, String> {
    text.to_uppercase().parse()
}
