//! Signing in and out, and the state of the server.

use std::io::IsTerminal;

use clap::Args;
use picloud_core::{Confinement, Scope};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::Duration;
use ureq::http::Method;

use super::{
    CommonArgs, ConnectionArgs,
    api::{Api, Payload, segment},
    error::ClientError,
    login::Logins,
    pages::Items,
    principals::{ask, read_input},
    tokens,
};
use crate::terminal::{self, GOOD, WARNING, printable};

/// The start of the name of each token that `picloud login` makes, and `picloud logout` revokes.
const LOGIN_TOKEN: &str = "picloud login";

/// How long such a token lasts.
const LOGIN_LIFETIME: Duration = Duration::days(90);

/// `picloud login`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  picloud login ada --url https://pi.example.org
  picloud login --token-stdin --url https://pi.example.org < token.txt")]
pub(crate) struct LoginArgs {
    /// Name of a user: its password is asked for, or taken from standard input, and a token of 90 days is made and
    /// saved
    #[arg(value_name = "NAME", conflicts_with = "token_stdin")]
    name: Option<String>,
    /// Save the token that standard input has, which is also done where there is neither a name nor a terminal
    #[arg(long)]
    token_stdin: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// Who a token stands for.
#[derive(Debug, Deserialize)]
struct WhoAmI {
    name: String,
    role: String,
    scopes: Vec<String>,
    token_id: Option<String>,
}

/// A token that was made.
#[derive(Debug, Deserialize)]
struct MadeToken {
    token: String,
}

/// A token in the list of one's own.
#[derive(Debug, Deserialize)]
struct OwnToken {
    id: String,
    name: String,
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
    /// What the operating system keeps it from.
    pub(crate) confinement: Confinement,
    /// Why it takes none.
    pub(crate) reasons: Vec<String>,
}

/// Signs in with a password where a name is given or a person can be asked for it; else saves a token, of `--token`, the
/// environment or standard input.
pub(super) fn login(args: LoginArgs) -> Result<(), ClientError> {
    let LoginArgs { name, token_stdin, mut common } = args;
    let is_terminal = std::io::stdin().is_terminal();
    let given = common.connection.token.take().filter(|_| name.is_none() && !token_stdin);
    let token = match (given, name) {
        (Some(token), _) => token,
        (None, Some(name)) => sign_in(&common, &name)?,
        (None, None) if is_terminal && !token_stdin => {
            terminal::note("Name of the user:");
            let mut name = String::new();
            std::io::stdin().read_line(&mut name)?;
            sign_in(&common, name.trim())?
        }
        (None, None) => read_input()?,
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
    if common.json {
        return print_json(&answer);
    }
    terminal::line(format_args!(
        "signed in to {} as {} ({}); saved in {path}",
        api.url(),
        who.name,
        who.role
    ))?;
    Ok(())
}

/// Makes a token in a session that ends with it.
fn sign_in(common: &CommonArgs, name: &str) -> Result<String, ClientError> {
    let mut api = Api::without_token(&common.connection);
    api.warn_of_plain_http(common, "the password");
    let password = if std::io::stdin().is_terminal() {
        ask(&format!("Password of {} at {}: ", printable(name), api.url()))?
    } else {
        read_input()?.lines().next().unwrap_or_default().to_owned()
    };
    api.sign_in(name, &password)?;
    let request =
        json!({ "name": LOGIN_TOKEN, "scopes": Scope::ALL, "expires_at": tokens::end(LOGIN_LIFETIME)? });
    let made = api.call(Method::POST, "/api/v1/tokens", Payload::Json(&request));
    api.call(Method::DELETE, "/api/v1/session", Payload::None)?;
    let made: MadeToken = api.read(&made?)?;
    Ok(made.token)
}

/// Forgets the saved token, and revokes it if `picloud login` made it.
pub(super) fn logout(args: &CommonArgs) -> Result<(), ClientError> {
    let mut logins = Logins::load()?;
    let url = Api::without_token(&args.connection).url().to_owned();
    let Some(token) = logins.token(&url).map(str::to_owned) else {
        terminal::line(format_args!("no token was saved for {url}"))?;
        return Ok(());
    };
    logins.forget(&url)?;
    let mut saved = args.clone();
    saved.connection.token = Some(token);
    // It is forgotten here in any case; a server that cannot be asked refuses it when its time is over.
    if let Err(error) = revoke_login(&saved) {
        terminal::warning(format_args!("the token was forgotten here, but not revoked: {error}"));
    }
    terminal::line(format_args!("signed out of {url}"))?;
    Ok(())
}

fn revoke_login(saved: &CommonArgs) -> Result<(), ClientError> {
    let api = Api::connect(saved)?;
    let me: WhoAmI = api.read(&api.get("/api/v1/whoami")?)?;
    let tokens: Vec<OwnToken> = Items::fetch_whole(&api, "/api/v1/tokens")?.read(&api)?;
    let own = tokens.iter().find(|token| me.token_id.as_ref() == Some(&token.id));
    match own.filter(|token| token.name == LOGIN_TOKEN) {
        Some(own) => {
            api.call(Method::DELETE, &format!("/api/v1/tokens/{}", segment(&own.id)), Payload::None).map(drop)
        }
        None => Ok(()),
    }
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
