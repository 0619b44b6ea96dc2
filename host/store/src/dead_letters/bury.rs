//! Moving events from the outbox to the dead letters, and telling the triggers that wait for such.

use std::fmt::Write as _;

use picloud_core::{
    AppId, CallbackUrl, DeadLetterId, EventId, Lineage, OutboxKind, ScriptName, TriggerKind, TriggerName,
    WorkerId,
};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    StoreError,
    answers::callback_event,
    outbox::{Claim, EventFault, LaneId, NewEvent, Removed},
    text::parse,
    triggers,
};

/// A claimed event that is given up.
#[derive(Clone, Debug)]
pub(crate) struct Fallen {
    pub(crate) claim: Claim,
    pub(crate) fault: EventFault,
    /// The script that would have handled it, and its version, where that is known.
    pub(crate) script: Option<(ScriptName, i32)>,
}

/// A dead letter that was just written.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    id: DeadLetterId,
    app: AppId,
    event: EventId,
    lineage: Lineage,
    kind: OutboxKind,
    trigger: Option<TriggerName>,
    payload: String,
    code: String,
    message: String,
    attempts: i16,
    created_at: time::OffsetDateTime,
}

/// What is equal for errors that differ in numbers, ids and quoted text only.
pub(crate) fn fingerprint(code: &str, message: &str) -> String {
    let mut plain = String::with_capacity(message.len());
    let mut quote = None;
    for c in message.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '`') => {
                quote = Some(c);
                plain.push('?');
            }
            (Some(_), _) => {}
            // Digits, and what ids in hexadecimal are made of beside them.
            (None, _) if c.is_ascii_digit() => {
                if !plain.ends_with('#') {
                    plain.push('#');
                }
            }
            (None, 'a'..='f' | '-') if plain.ends_with('#') => {}
            (None, _) => plain.push(c),
        }
    }
    let digest = Sha256::new().chain_update(code).chain_update([0]).chain_update(plain).finalize();
    digest[..8].iter().fold(String::with_capacity(16), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Moves events that `worker` has claimed. An event that told of a dead letter makes no new one: that letter says that
/// its handler failed.
pub(crate) async fn bury(
    connection: &mut PgConnection,
    worker: WorkerId,
    fallen: &[Fallen],
) -> Result<(Vec<Letter>, Vec<Removed>), StoreError> {
    let events: Vec<Uuid> = fallen.iter().map(|fallen| fallen.claim.event.as_uuid()).collect();
    let attempts: Vec<i16> = fallen.iter().map(|fallen| fallen.claim.attempt.cast_signed()).collect();
    let letters: Vec<Uuid> = fallen.iter().map(|_| DeadLetterId::generate().as_uuid()).collect();
    let codes: Vec<&str> = fallen.iter().map(|fallen| fallen.fault.code.as_str()).collect();
    let messages: Vec<String> = fallen.iter().map(|fallen| fallen.fault.text()).collect();
    let prints: Vec<String> =
        codes.iter().zip(&messages).map(|(code, message)| fingerprint(code, message)).collect();
    let scripts: Vec<Option<&str>> =
        fallen.iter().map(|fallen| fallen.script.as_ref().map(|(name, _)| name.as_str())).collect();
    let versions: Vec<Option<i32>> =
        fallen.iter().map(|fallen| fallen.script.as_ref().map(|(_, version)| *version)).collect();
    let rows = sqlx::query!(
        r#"WITH gone AS (
            DELETE FROM outbox o USING unnest($2::uuid[], $3::smallint[], $4::uuid[], $5::text[], $6::text[], $7::text[],
                $8::text[], $9::integer[])
                AS f (id, attempts, letter, code, message, fingerprint, script, version)
            WHERE o.id = f.id AND o.claimed_by = $1 AND o.attempts = f.attempts
            RETURNING o.id, o.app_id, o.lane_id, o.kind, o.trigger_id, o.payload, o.attempts, o.root_id, o.parent_id,
                o.depth, o.group_key, o.created_at, o.dead_letter_id, o.reply_to, f.letter, f.code, f.message, f.fingerprint,
                coalesce(f.script, o.script) AS script, coalesce(f.version, o.version) AS version
        ), failed AS (
            UPDATE dead_letters d SET resolution = 'handler_failed', resolved_at = statement_timestamp()
            FROM gone WHERE d.id = gone.dead_letter_id AND d.resolution IS NULL
        ), answered AS (
            INSERT INTO event_results (event_id, app_id, error_code, error, expires_at)
            SELECT gone.id, gone.app_id, gone.code, gone.message, statement_timestamp() + interval '24 hours'
            FROM gone JOIN apps a ON a.id = gone.app_id WHERE gone.kind = 'http' AND gone.reply_to IS NULL
            ON CONFLICT DO NOTHING
        ), buried AS (
            INSERT INTO dead_letters (id, app_id, event_id, kind, trigger_id, trigger_name, script, version, queue,
                priority, group_key, payload, error_code, error, fingerprint, attempts, root_id, parent_id, depth,
                event_created_at)
            SELECT gone.letter, gone.app_id, gone.id, gone.kind, t.id, t.name, coalesce(gone.script, s.name),
                gone.version, l.queue, l.priority, gone.group_key, gone.payload, gone.code, gone.message,
                gone.fingerprint, gone.attempts, gone.root_id, gone.parent_id, gone.depth, gone.created_at
            FROM gone
            JOIN apps a ON a.id = gone.app_id
            JOIN outbox_lanes l ON l.id = gone.lane_id
            LEFT JOIN queue_trigger_details q ON q.app_id = l.app_id AND q.queue = l.queue
            LEFT JOIN triggers t ON t.id = coalesce(gone.trigger_id, q.trigger_id)
            LEFT JOIN scripts s ON s.id = t.script_id
            WHERE gone.dead_letter_id IS NULL
            RETURNING id, app_id, event_id, trigger_name
        )
        SELECT gone.id AS "event!", gone.app_id AS "app!", gone.lane_id AS "lane!", gone.group_key, gone.kind AS "kind!",
            gone.payload AS "payload!", gone.code AS "code!", gone.message AS "message!", gone.attempts AS "attempts!",
            gone.root_id AS "root!", gone.parent_id, gone.depth AS "depth!", gone.created_at AS "created_at!",
            buried.id AS "letter?", buried.trigger_name
        FROM gone LEFT JOIN buried ON buried.event_id = gone.id ORDER BY gone.id"#,
        worker.as_uuid(),
        &events,
        &attempts,
        &letters,
        &codes as _,
        &messages,
        &prints,
        &scripts as _,
        &versions as _,
    );
    let (mut letters, mut removed) = (Vec::new(), Vec::new());
    for row in rows.fetch_all(connection).await? {
        let (event, lane) = (EventId::from_uuid(row.event), LaneId::from_i64(row.lane));
        removed.push(Removed { id: row.event, lane, group: row.group_key });
        let Some(letter) = row.letter else { continue };
        letters.push(Letter {
            id: DeadLetterId::from_uuid(letter),
            app: AppId::from_uuid(row.app),
            event,
            lineage: Lineage {
                root: EventId::from_uuid(row.root),
                parent: row.parent_id.map(EventId::from_uuid),
                depth: row.depth.cast_unsigned(),
            },
            kind: OutboxKind::parse(&row.kind).ok_or_else(|| {
                StoreError::Database(format!("unknown kind of event {:?}", row.kind).into())
            })?,
            trigger: row.trigger_name.as_deref().map(parse).transpose()?,
            payload: row.payload,
            code: row.code,
            message: row.message,
            attempts: row.attempts,
            created_at: row.created_at,
        });
    }
    Ok((letters, removed))
}

#[derive(Serialize)]
struct Payload<'a> {
    dead_letter_id: DeadLetterId,
    source: Source<'a>,
    error: Error<'a>,
    attempts: i16,
}

#[derive(Serialize)]
struct Source<'a> {
    id: EventId,
    kind: &'a str,
    trigger: Option<&'a str>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: time::OffsetDateTime,
    event: &'a RawValue,
}

#[derive(Serialize)]
struct Error<'a> {
    code: &'a str,
    message: &'a str,
}

/// The events that tell of a letter: triggers that wait for such, and who waits for the answer to a request.
pub(crate) async fn tell(
    connection: &mut PgConnection,
    letter: &Letter,
) -> Result<Vec<NewEvent>, StoreError> {
    let mut told: Vec<NewEvent> = letter.callback().into_iter().collect();
    let waiting =
        triggers::list_matching_dead_letter(connection, letter.app, letter.kind, letter.trigger.as_ref());
    for trigger in waiting.await? {
        let event = NewEvent::new(OutboxKind::Trigger(TriggerKind::DeadLetter), letter.text()?);
        told.push(NewEvent {
            lineage: letter.lineage.child(letter.event),
            trigger: Some(trigger.id),
            dead_letter: Some(letter.id),
            ..event
        });
    }
    Ok(told)
}

impl Letter {
    pub(crate) const fn id(&self) -> DeadLetterId {
        self.id
    }

    pub(crate) const fn app(&self) -> AppId {
        self.app
    }

    /// What tells the receiver of an asynchronous request's answer that there is none.
    pub(crate) fn callback(&self) -> Option<NewEvent> {
        #[derive(serde::Deserialize)]
        struct Request {
            callback_url: Option<CallbackUrl>,
        }
        if self.kind != OutboxKind::Http {
            return None;
        }
        let url = serde_json::from_str::<Request>(&self.payload).ok()?.callback_url?;
        let body = serde_json::json!({ "id": self.event, "state": "dead", "error": { "code": self.code } });
        Some(callback_event(self.event, &url, &body))
    }

    fn text(&self) -> Result<String, StoreError> {
        let payload = Payload {
            dead_letter_id: self.id,
            source: Source {
                id: self.event,
                kind: self.kind.as_str(),
                trigger: self.trigger.as_ref().map(TriggerName::as_str),
                created_at: self.created_at,
                event: serde_json::from_str(&self.payload).map_err(StoreError::corrupt)?,
            },
            error: Error { code: &self.code, message: &self.message },
            attempts: self.attempts,
        };
        serde_json::to_string(&payload).map_err(StoreError::corrupt)
    }
}

/// Notes that a script has handled these letters.
pub(crate) async fn handled(
    connection: &mut PgConnection,
    letters: &[DeadLetterId],
) -> Result<(), StoreError> {
    if letters.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = letters.iter().map(|letter| letter.as_uuid()).collect();
    let handled = sqlx::query!(
        "UPDATE dead_letters SET resolution = 'handled_by_script', resolved_at = statement_timestamp()
        WHERE id = ANY ($1) AND (resolution IS NULL OR resolution = 'handler_failed')",
        &ids,
    );
    handled.execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_details_have_one_fingerprint() {
        let print = |message| fingerprint("script_error", message);
        assert_eq!(print("no user 17"), print("no user 4711"));
        assert_eq!(print("no user \"a\" here"), print("no user \"b c\" here"));
        assert_eq!(
            print("order 0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b is gone"),
            print("order 1198f1c2-8d3a-7c21-af7e-3c5d1e2f4a6b is gone")
        );
        assert_ne!(print("no user 17"), print("no order 17"));
        assert_ne!(print("x"), fingerprint("out_of_fuel", "x"));
        assert_eq!(print("").len(), 16);
    }
}
