//! What an app's scripts logged, and which invocations failed: a list, or a stream of server-sent events.

use std::{collections::VecDeque, fmt, str::FromStr, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, Method},
    response::{IntoResponse, Response, Sse, sse::Event},
};
use futures_util::{Stream, stream};
use picloud_core::{App, AppId, AppName, Capability, ErrorCode, ExecutionId, LogLevel, ScriptName};
use picloud_store::{LogContent, LogEntry, LogPosition, PageSize};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::TargetApp,
    api::executions::{ExecutionError, check_script},
    authenticate::authenticate,
    context::Context,
    error::ApiError,
    extract::QueryOf,
    page::{Cursor, Page, PageLimit, start},
    store_error::from_store,
};

/// How often new lines are looked for while somebody follows, and only then.
const POLL: Duration = Duration::from_secs(1);
/// After how many looks without a line a comment is sent, so that a client that has gone is noticed.
const QUIET_POLLS: u32 = 15;
/// How often it is looked whether somebody who follows still may.
const RECHECK: Duration = Duration::from_secs(3);
/// How long one stream lasts. Its client comes back by itself, with `last-event-id`, and is authorised anew.
const LONGEST: Duration = Duration::from_mins(15);

/// An entry of a log: a line that a script wrote, or that an invocation failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogView {
    /// Its place in the app's log; entries that were stored later have greater ones.
    position: i64,
    /// The execution that left it.
    #[schema(value_type = uuid::Uuid)]
    execution_id: ExecutionId,
    /// The script.
    #[schema(value_type = String)]
    script: ScriptName,
    /// `debug`, `info`, `warn` or `error`; `error` where the invocation failed.
    #[schema(value_type = String)]
    level: LogLevel,
    /// Its text; the error's where the invocation failed.
    message: String,
    /// Why the invocation failed; null for a line of the script.
    error: Option<ExecutionError>,
    /// When it was left.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

impl From<LogEntry> for LogView {
    fn from(entry: LogEntry) -> Self {
        let (level, message, error) = match entry.content {
            LogContent::Line { level, message } => (level, message, None),
            LogContent::Failure(fault) => {
                (LogLevel::Error, fault.message.clone(), Some(ExecutionError::from(fault)))
            }
        };
        Self {
            position: entry.position.as_i64(),
            execution_id: entry.execution,
            script: entry.script,
            level,
            message,
            error,
            at: entry.at,
        }
    }
}

/// Which lines to read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogsQuery {
    /// Only those of this script.
    #[param(value_type = Option<String>)]
    script: Option<ScriptName>,
    /// Only those after this position, oldest first; without it, newest first.
    after: Option<i64>,
    /// Whether to go on with what comes, as server-sent events.
    #[serde(default)]
    follow: bool,
    /// Items of a page, 1 to 200; with `follow`, how many past lines to begin with.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: PageLimit,
    /// `next_cursor` of the page before.
    cursor: Option<Cursor>,
}

/// Where a page of lines starts, and which way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    After(LogPosition),
    Before(LogPosition),
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(position) => write!(f, ">{}", position.as_i64()),
            Self::Before(position) => write!(f, "<{}", position.as_i64()),
        }
    }
}

impl FromStr for Start {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (direction, position) = text.split_at_checked(1).unwrap_or(("", text));
        let position = LogPosition::from_i64(position.parse()?);
        Ok(if direction == ">" { Self::After(position) } else { Self::Before(position) })
    }
}

/// What an app's scripts logged, and its failures: newest first, or after a position, or as it comes.
#[utoipa::path(get, path = "/api/v1/apps/{app}/logs", tag = "history", params(LogsQuery,
    ("last-event-id" = Option<i64>, Header, description = "With `follow`: the position to go on after.")),
    responses(
        (status = 200, description = "A page of lines; with `follow`, events named `log` with a line as data", content(
            (Page<LogView> = "application/json"),
            (String = "text/event-stream"))),
    ))]
pub(crate) async fn read_logs(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    QueryOf(query): QueryOf<LogsQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if query.follow {
        return follow(context, &app, query, &headers).await;
    }
    let from =
        start(query.cursor.as_ref())?.or(query.after.map(|after| Start::After(LogPosition::from_i64(after))));
    let (script, size) = (query.script.as_ref(), query.limit.size());
    let page = match from {
        Some(Start::After(position)) => {
            let found = context.store.logs_after(app.id, script, position, size).await;
            Page::of(found.map_err(from_store)?, |line| Start::After(line.position), LogView::from)
        }
        before => {
            let before = before.map(|(Start::After(position) | Start::Before(position))| position);
            let found = context.store.logs_before(app.id, script, before, size).await;
            Page::of(found.map_err(from_store)?, |line| Start::Before(line.position), LogView::from)
        }
    };
    if page.items.is_empty() && from.is_none() {
        check_script(&context, &app, script).await?;
    }
    Ok(Json(page).into_response())
}

async fn follow(
    context: Context,
    app: &App,
    query: LogsQuery,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let Ok(permit) = context.followers.clone().try_acquire_owned() else {
        return Err(ApiError::new(ErrorCode::NodeBusy, "too many clients follow logs"));
    };
    let last_event = match headers.get("last-event-id") {
        None => None,
        Some(id) => Some(id.to_str().ok().and_then(|id| id.parse().ok()).ok_or_else(|| {
            ApiError::new(ErrorCode::BadRequest, "last-event-id is not a position of this log")
        })?),
    };
    let mut backlog = VecDeque::new();
    let position = if let Some(position) = last_event.or(query.after) {
        LogPosition::from_i64(position)
    } else {
        let found = context.store.logs_before(app.id, query.script.as_ref(), None, query.limit.size()).await;
        backlog.extend(found.map_err(from_store)?.items.into_iter().rev());
        if backlog.is_empty() {
            check_script(&context, app, query.script.as_ref()).await?;
        }
        backlog.back().map_or_else(LogPosition::default, |line: &LogEntry| line.position)
    };
    let now = Instant::now();
    let follower = Follower {
        context,
        app: app.id,
        name: app.name.clone(),
        headers: headers.clone(),
        checked: now,
        script: query.script,
        position,
        backlog,
        quiet_polls: 0,
        until: now + LONGEST,
        _permit: permit,
    };
    Ok(Sse::new(follower.into_stream()).into_response())
}

/// One client that follows.
struct Follower {
    context: Context,
    app: AppId,
    name: AppName,
    /// What shows who it is.
    headers: HeaderMap,
    /// When it was last seen that it may follow.
    checked: Instant,
    script: Option<ScriptName>,
    position: LogPosition,
    backlog: VecDeque<LogEntry>,
    quiet_polls: u32,
    until: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    fn into_stream(self) -> impl Stream<Item = Result<Event, axum::Error>> {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((event, follower))
        })
    }

    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Result<Event, axum::Error>> {
        loop {
            if let Some(line) = self.backlog.pop_front() {
                let id = line.position.as_i64().to_string();
                return Some(Event::default().event("log").id(id).json_data(LogView::from(line)));
            }
            self.fetch().await?;
            if !self.backlog.is_empty() {
                continue;
            }
            self.quiet_polls += 1;
            if self.quiet_polls == QUIET_POLLS {
                self.quiet_polls = 0;
                return Some(Ok(Event::default().comment("nothing new")));
            }
            tokio::select! {
                () = self.context.shutdown.cancelled() => return None,
                () = sleep(POLL) => {}
            }
            let now = Instant::now();
            if now >= self.until {
                return None;
            }
            if now >= self.checked + RECHECK {
                if !self.may_follow().await {
                    return None;
                }
                self.checked = now;
            }
        }
    }

    /// Whether its token or session and its role still allow it. Where that cannot be found out it may not.
    async fn may_follow(&self) -> bool {
        let Ok(caller) = authenticate(&self.context.store, &Method::GET, &self.headers).await else {
            return false;
        };
        let may = caller.still_may(&self.context, &self.name, Capability::AppReadLogs(self.app)).await;
        may.unwrap_or(false)
    }

    /// Fetches what is new. A database that does not answer ends the stream; its client comes back.
    async fn fetch(&mut self) -> Option<()> {
        let found =
            self.context.store.logs_after(self.app, self.script.as_ref(), self.position, PageSize::MAX);
        match found.await {
            Ok(page) => {
                if let Some(last) = page.items.last() {
                    self.position = last.position;
                    self.quiet_polls = 0;
                }
                self.backlog.extend(page.items);
                Some(())
            }
            Err(error) => {
                tracing::warn!(%error, "a log cannot be followed");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_round_trip() {
        for start in [Start::After(LogPosition::from_i64(7)), Start::Before(LogPosition::from_i64(0))] {
            assert_eq!(start.to_string().parse(), Ok(start));
        }
        assert!("é7".parse::<Start>().is_err());
        assert!("".parse::<Start>().is_err());
    }
}
