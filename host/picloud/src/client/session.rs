//! Signing in and out, and the state of the server.

use std::io::{IsTerminal, Read};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{CommonArgs, ConnectionArgs, api::Api, error::ClientError, login::Logins};
use crate::terminal::{self, GOOD, WARNING};

/// `picloud login`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud login --url https://pi.example.org < token.txt")]
pub(crate) struct LoginArgs {
    #[command(flatten)]
    common: CommonArgs,
}

/// Who a token stands for.
#[derive(Debug, Deserialize)]
struct WhoAmI {
    name: String,
    role: String,
    scopes: Vec<String>,
}

/// The state of a server.
#[derive(Debug, Deserialize)]
struct Status {
    version: String,
    ready: bool,
    draining: bool,
    pool_mode: String,
    reset: String,
    running: u64,
    waiting: u64,
}

/// What `/readyz` answers.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Readiness {
    /// Whether it takes requests.
    pub(crate) ready: bool,
    /// How instances get their memory.
    pub(crate) pool_mode: String,
    /// Why it takes none.
    pub(crate) reasons: Vec<String>,
}

/// Saves a token: of `--token` or the environment, else of standard input.
pub(super) fn login(args: LoginArgs) -> Result<(), ClientError> {
    let mut common = args.common;
    let token = match common.connection.token.take() {
        Some(token) => token,
        None => read_token()?,
    };
    let token = token.trim().to_owned();
    if token.is_empty() {
        return Err(ClientError::Input("the token is empty".into()));
    }
    common.connection.token = Some(token.clone());
    let api = Api::connect(&common)?;
    let answer = api.get("/api/v1/whoami")?;
    let who: WhoAmI = api.read(&answer)?;
    let mut logins = Logins::load()?;
    let path = logins.save(api.url(), &token)?.display().to_string();
    terminal::line(format_args!(
        "signed in to {} as {} ({}); saved in {path}",
        api.url(),
        who.name,
        who.role
    ))?;
    Ok(())
}

fn read_token() -> Result<String, ClientError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        terminal::note("Paste the token, then press Enter:");
        let mut line = String::new();
        stdin.read_line(&mut line)?;
        return Ok(line);
    }
    let mut text = String::new();
    stdin.take(4096).read_to_string(&mut text)?;
    Ok(text)
}

/// Forgets the saved token.
pub(super) fn logout(args: &CommonArgs) -> Result<(), ClientError> {
    let url = Api::without_token(&args.connection).url().to_owned();
    let text = if Logins::load()?.forget(&url)? { "signed out of" } else { "no token was saved for" };
    terminal::line(format_args!("{text} {url}"))?;
    Ok(())
}

/// Shows who the token stands for.
pub(super) fn whoami(args: &CommonArgs) -> Result<(), ClientError> {
    let api = Api::connect(args)?;
    let answer = api.get("/api/v1/whoami")?;
    if args.json {
        return print_json(&answer);
    }
    let who: WhoAmI = api.read(&answer)?;
    terminal::line(format_args!("{} ({}) at {}", who.name, who.role, api.url()))?;
    terminal::line(format_args!("scopes: {}", who.scopes.join(", ")))?;
    Ok(())
}

/// Shows the state of the server.
pub(super) fn status(args: &CommonArgs) -> Result<(), ClientError> {
    let api = Api::connect(args)?;
    let answer = api.get("/api/v1/status")?;
    if args.json {
        return print_json(&answer);
    }
    let status: Status = api.read(&answer)?;
    let state = match (status.draining, status.ready) {
        (true, _) => WARNING.paint("draining"),
        (false, true) => GOOD.paint("ready"),
        (false, false) => WARNING.paint("not ready"),
    };
    terminal::line(format_args!("{} at {} (PiCloud {})", state, api.url(), status.version))?;
    terminal::line(format_args!("sandbox  {}, {}", status.pool_mode, status.reset))?;
    terminal::line(format_args!("running  {}", status.running))?;
    terminal::line(format_args!("waiting  {}", status.waiting))?;
    Ok(())
}

/// The state of the server at an address, as `/readyz` has it: `None` where nothing answers.
pub(crate) fn readiness(connection: &ConnectionArgs) -> Option<Readiness> {
    let api = Api::without_token(connection);
    let (_, text) = api.probe("/readyz").ok()?;
    serde_json::from_str(&text).ok()
}

/// Prints JSON for programs: one document on one line, as the server gave it.
pub(super) fn print_json(json: &str) -> Result<(), ClientError> {
    terminal::verbatim(json)?;
    Ok(())
}
