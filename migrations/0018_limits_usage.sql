-- Limits of scripts, budgets of fuel, and what apps use.

-- What a script sets lower than its app has it, one row a limit, as in `app_limits`.
CREATE TABLE script_limits (
    script_id uuid NOT NULL REFERENCES scripts ON DELETE CASCADE,
    name      text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 64),
    value     bigint NOT NULL CHECK (value >= 0),
    PRIMARY KEY (script_id, name)
);

-- How often runs took how long, in the buckets of `Latencies` of the domain crate, without the empty ones at the end.
ALTER TABLE usage_hourly
    ADD COLUMN latency bigint[] NOT NULL DEFAULT '{}' CHECK (cardinality(latency) <= 256);

-- The same for a whole app: what its budgets are compared with, one row an hour, whatever the number of its scripts.
CREATE TABLE usage_apps (
    app_id           uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    hour             timestamptz NOT NULL,
    invocations      bigint NOT NULL,
    failures         bigint NOT NULL,
    fuel             bigint NOT NULL,
    -- The most invocations that ran at once on one node.
    peak_concurrency integer NOT NULL,
    PRIMARY KEY (app_id, hour)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- For removing old hours, and for reading the present day of all apps.
CREATE INDEX ON usage_apps (hour);

INSERT INTO usage_apps (app_id, hour, invocations, failures, fuel, peak_concurrency)
SELECT app_id, hour, sum(count), coalesce(sum(count) FILTER (WHERE outcome <> 'ok'), 0),
    least(sum(fuel), 9223372036854775807), 0
FROM usage_hourly GROUP BY app_id, hour;

-- The last batch of counters that each process has stored. A connection that breaks while a batch is committed leaves
-- open whether it was; with this the batch is tried again and counts once.
CREATE TABLE usage_writers (
    writer    uuid PRIMARY KEY,
    batch     bigint NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now()
);
