-- What became of every event that was accepted: those whose acceptance a client was told of (table noted), and those that
-- scripts have sent and noted in one transaction.
WITH accepted AS (
    SELECT id FROM noted UNION SELECT key FROM kv WHERE collection = 'sent'
), fates AS (
    SELECT seen.value AS times, d.error_code, d.payload::json -> 'body' ->> 'fails' = 'false' AS is_good FROM accepted a
    LEFT JOIN kv seen ON seen.collection = 'seen' AND seen.key = a.id
    LEFT JOIN dead_letters d ON d.event_id::text = a.id
)
SELECT
    count(*) AS accepted,
    count(times) AS done,
    count(error_code) AS dead,
    -- Given up though its handler would have succeeded: a process was lost with it at every attempt.
    count(*) FILTER (WHERE is_good) AS worn_out,
    -- Neither, or both.
    count(*) FILTER (WHERE (times IS NULL) = (error_code IS NULL)) AS lost,
    (SELECT count(*) FROM kv WHERE collection = 'seen' AND value <> '1') AS twice,
    (SELECT count(*) FROM kv WHERE collection = 'disorder') AS disordered
FROM fates
