//! `picloud token create`, `list` and `revoke`.

use clap::Args;
use picloud_core::{AppName, Scope};
use serde::Deserialize;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use ureq::http::Method;

use super::{
    CommonArgs,
    api::{Api, Payload, segment, with_query},
    app_name,
    apps::short_time,
    error::ClientError,
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table, printable};

const TOKENS: &str = "/api/v1/tokens";

/// `picloud token create`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  picloud token create ci --scope script:read --scope script:write --app shop
  picloud token create backup --scope data:read --expires-in 90d
  picloud token create deploy --scope script:write --principal ci")]
pub(crate) struct CreateArgs {
    /// What it is for, for people
    #[arg(value_name = "NAME")]
    name: String,
    /// What it allows; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<Scope>,
    /// The only app it is good for [default: all that its holder may reach]
    #[arg(long, value_name = "APP", value_parser = app_name)]
    app: Option<AppName>,
    /// When it ends: a number of hours, days or weeks, as 12h, 90d or 4w [default: as the token it is made with]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires_in: Option<Duration>,
    /// The service that it is for [default: whoever calls]
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud token list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Whose tokens [default: those of whoever calls]
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud token revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// Its id, as `picloud token list` shows it
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Token {
    id: String,
    name: String,
    scopes: Vec<String>,
    app: Option<String>,
    expires_at: Option<String>,
    last_used_at: Option<String>,
}

/// Makes a token. Standard output has the token and nothing else, so that it can go where it is needed.
pub(crate) fn create(args: &CreateArgs) -> Result<(), ClientError> {
    let mut request = json!({ "name": args.name, "scopes": args.scopes, "app": args.app });
    if let Some(lifetime) = args.expires_in {
        request["expires_at"] = end(lifetime)?.into();
    }
    if let Some(principal) = &args.principal {
        request["principal"] = principal.as_str().into();
    }
    let api = Api::connect(&args.common)?;
    let answer = api.call(Method::POST, TOKENS, Payload::Json(&request))?;
    if args.common.json {
        return print_json(&answer);
    }
    let made: Value = api.read(&answer)?;
    let text = |field: &str| made[field].as_str().unwrap_or_default().to_owned();
    terminal::line(printable(&text("token")))?;
    terminal::note(format_args!("it is shown this once; its id is {}", printable(&text("id"))));
    Ok(())
}

/// Lists tokens.
pub(crate) fn list(args: &ListArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let items = Items::fetch_whole(&api, &with_query(TOKENS, &[("principal", args.principal.clone())]))?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["ID", "NAME", "SCOPES", "APP", "EXPIRES", "LAST USED"]);
    let time = |time: Option<String>| time.map_or_else(|| "never".to_owned(), |time| short_time(&time));
    for token in items.read::<Token>(&api)? {
        let app = token.app.unwrap_or_else(|| "all".to_owned());
        let scopes = token.scopes.join(",");
        table.row([token.id, token.name, scopes, app, time(token.expires_at), time(token.last_used_at)]);
    }
    table.print("no tokens")?;
    Ok(())
}

/// Revokes a token.
pub(crate) fn revoke(args: &RevokeArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    api.call(Method::DELETE, &format!("{TOKENS}/{}", segment(&args.id)), Payload::None)?;
    terminal::note(format_args!("revoked {}, and what was made with it", printable(&args.id)));
    Ok(())
}

/// The time that is so far from now, as the API takes it.
pub(super) fn end(lifetime: Duration) -> Result<String, ClientError> {
    let end = OffsetDateTime::now_utc().checked_add(lifetime);
    let text = end.and_then(|end| end.format(&Rfc3339).ok());
    text.ok_or_else(|| ClientError::Input("that is beyond the year 9999".into()))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let wrong = || "allowed is a number of hours, days or weeks, such as 12h, 90d or 4w".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: i64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 7 * 24,
        _ => return Err(wrong()),
    };
    let hours = number.checked_mul(hours).filter(|hours| (1..=876_000).contains(hours)).ok_or_else(wrong)?;
    Ok(Duration::hours(hours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_have_a_unit() {
        assert_eq!(lifetime("12h"), Ok(Duration::hours(12)));
        assert_eq!(lifetime("90d"), Ok(Duration::days(90)));
        assert_eq!(lifetime("4w"), Ok(Duration::days(28)));
        for wrong in ["", "h", "0d", "-1d", "1", "1y", "1é", "99999999999999999999d", "9999999999999999d"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
