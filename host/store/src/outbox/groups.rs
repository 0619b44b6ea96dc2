//! Message groups: within one, messages are handled in the order in which they were committed, one at a time.
//!
//! Only the first message of a group can be claimed; the others wait without a time. A group's row is locked by whoever
//! adds to it and by whoever ends its first message, so that the two agree on which is the first.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::{LaneId, NewEvent};
use crate::StoreError;

/// Where a message stands in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Its number; `None` where it has no group.
    pub(super) number: Option<i64>,
    /// Whether another comes before it.
    pub(super) waits: bool,
}

/// Gives each of `events` its place.
pub(super) async fn places(
    connection: &mut PgConnection,
    events: &[&NewEvent],
    lane_of: impl Fn(&NewEvent) -> LaneId,
) -> Result<Vec<Place>, StoreError> {
    let mut added: BTreeMap<(LaneId, &str), i64> = BTreeMap::new();
    for event in events {
        if let Some(group) = &event.group {
            *added.entry((lane_of(event), group.as_str())).or_default() += 1;
        }
    }
    if added.is_empty() {
        return Ok(vec![Place::default(); events.len()]);
    }
    // In the order of the keys, so that no two wait for each other.
    let lanes: Vec<i64> = added.keys().map(|(lane, _)| lane.0).collect();
    let groups: Vec<&str> = added.keys().map(|(_, group)| *group).collect();
    let counts: Vec<i64> = added.values().copied().collect();
    let rows = sqlx::query!(
        r#"INSERT INTO queue_groups AS g (lane_id, group_key, last_seq)
        SELECT lane, grouped, count FROM unnest($1::bigint[], $2::text[], $3::bigint[]) WITH ORDINALITY
            AS new (lane, grouped, count, at) ORDER BY at
        ON CONFLICT (lane_id, group_key) DO UPDATE SET last_seq = g.last_seq + excluded.last_seq
        RETURNING lane_id, group_key, last_seq"#,
        &lanes,
        &groups as _,
        &counts,
    );
    let mut next: BTreeMap<(LaneId, String), i64> = BTreeMap::new();
    for row in rows.fetch_all(connection).await? {
        let key = (LaneId(row.lane_id), row.group_key);
        let count = added.get(&(key.0, key.1.as_str())).copied().unwrap_or_default();
        next.insert(key, row.last_seq - count + 1);
    }
    let place = |event: &&NewEvent| {
        let Some(group) = &event.group else { return Place::default() };
        let key = (lane_of(event), group.as_str().to_owned());
        let number = next.get_mut(&key).map(|number| std::mem::replace(number, *number + 1));
        // A group's row goes with its last message, so that the first one of a group has the number 1.
        Place { number, waits: number.is_some_and(|number| number > 1) }
    };
    Ok(events.iter().map(place).collect())
}

/// Lets the next message of each group go, after the first was ended in this transaction.
pub(super) async fn advance(
    connection: &mut PgConnection,
    ended: &BTreeSet<(LaneId, String)>,
) -> Result<(), StoreError> {
    if ended.is_empty() {
        return Ok(());
    }
    let lanes: Vec<i64> = ended.iter().map(|(lane, _)| lane.0).collect();
    let groups: Vec<&str> = ended.iter().map(|(_, group)| group.as_str()).collect();
    let locked = sqlx::query!(
        "SELECT g.lane_id FROM queue_groups g
        JOIN unnest($1::bigint[], $2::text[]) AS e (lane, grouped) ON g.lane_id = e.lane AND g.group_key = e.grouped
        ORDER BY g.lane_id, g.group_key FOR UPDATE OF g",
        &lanes,
        &groups as _,
    );
    locked.fetch_all(&mut *connection).await?;
    let freed = sqlx::query!(
        r#"UPDATE outbox o SET run_at = greatest(statement_timestamp(), coalesce(o.not_before, '-infinity'))
        FROM unnest($1::bigint[], $2::text[]) AS e (lane, grouped)
        CROSS JOIN LATERAL (
            SELECT id FROM outbox WHERE lane_id = e.lane AND group_key = e.grouped ORDER BY group_seq LIMIT 1
        ) next
        WHERE o.id = next.id RETURNING o.lane_id, o.group_key AS "group_key!""#,
        &lanes,
        &groups as _,
    );
    let freed = freed.fetch_all(&mut *connection).await?;
    let freed: BTreeSet<(LaneId, String)> =
        freed.into_iter().map(|row| (LaneId(row.lane_id), row.group_key)).collect();
    let empty: Vec<&(LaneId, String)> = ended.difference(&freed).collect();
    if empty.is_empty() {
        return Ok(());
    }
    let lanes: Vec<i64> = empty.iter().map(|(lane, _)| lane.0).collect();
    let groups: Vec<&str> = empty.iter().map(|(_, group)| group.as_str()).collect();
    let removed = sqlx::query!(
        "DELETE FROM queue_groups g USING unnest($1::bigint[], $2::text[]) AS e (lane, grouped)
        WHERE g.lane_id = e.lane AND g.group_key = e.grouped",
        &lanes,
        &groups as _,
    );
    removed.execute(connection).await?;
    Ok(())
}
