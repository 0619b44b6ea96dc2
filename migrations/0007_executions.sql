-- What ran, what it logged, and exact counters of it all.
--
-- Executions and logs are kept for days, and removed a day at a time by dropping that day's partition, which
-- costs an SD card nothing. The partition key is the execution's id: it is a UUID of version 7, whose first 48
-- bits are its time in milliseconds. So one id is looked up in one partition, and no second key is needed.

CREATE FUNCTION history_day_start(day date) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (lpad(to_hex((day - date '1970-01-01')::bigint * 86400000), 12, '0') || repeat('0', 20))::uuid;

CREATE TABLE executions (
    id             uuid NOT NULL,
    app_id         uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    -- A name, not a reference: the history outlives the script.
    script         text COLLATE "C" NOT NULL CHECK (octet_length(script) BETWEEN 1 AND 64),
    version        integer NOT NULL,
    request_id     uuid NOT NULL,
    kind           text COLLATE "C" NOT NULL CHECK (octet_length(kind) BETWEEN 1 AND 32),
    started_at     timestamptz NOT NULL,
    -- NULL where it succeeded.
    error_code     text COLLATE "C" CHECK (octet_length(error_code) BETWEEN 1 AND 64),
    error_message  text CHECK (octet_length(error_message) <= 16384),
    error_position jsonb CHECK (octet_length(error_position::text) <= 16384),
    status         smallint,
    fuel           bigint NOT NULL,
    duration_us    bigint NOT NULL,
    host_calls     bigint NOT NULL,
    memory_bytes   bigint NOT NULL,
    logs_truncated boolean NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);

CREATE INDEX ON executions (app_id, id);
CREATE INDEX ON executions (app_id, script, id);
CREATE INDEX ON executions (app_id, id) WHERE error_code IS NOT NULL;

-- Lines in the order in which they were stored. Positions become visible in ascending order, because batches
-- are stored one at a time: whoever follows the log by position misses nothing.
CREATE SEQUENCE execution_log_position AS bigint START 1;

CREATE TABLE execution_logs (
    execution_id uuid NOT NULL,
    seq          integer NOT NULL,
    position     bigint NOT NULL DEFAULT nextval('execution_log_position'),
    app_id       uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    script       text COLLATE "C" NOT NULL CHECK (octet_length(script) BETWEEN 1 AND 64),
    level        text COLLATE "C" NOT NULL CHECK (level IN ('debug', 'info', 'warn', 'error')),
    message      text NOT NULL CHECK (octet_length(message) <= 268435456),
    logged_at    timestamptz NOT NULL,
    PRIMARY KEY (execution_id, seq)
) PARTITION BY RANGE (execution_id);

CREATE INDEX ON execution_logs (app_id, position);

-- Makes the partitions of one day; says whether they are new.
CREATE FUNCTION history_make_day(day date) RETURNS boolean
    LANGUAGE plpgsql
AS $$
DECLARE
    parent text;
    made boolean := false;
    partition text;
BEGIN
    -- Two processes may find the same day missing at the same moment.
    PERFORM pg_advisory_xact_lock(hashtext('picloud history partitions'), 0);
    FOREACH parent IN ARRAY ARRAY['executions', 'execution_logs'] LOOP
        partition := parent || to_char(day, '_YYYYMMDD');
        IF to_regclass(partition) IS NULL THEN
            -- In the order of a deletion of an app, which locks `apps` before the history that refers to it.
            LOCK TABLE apps IN SHARE ROW EXCLUSIVE MODE;
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                partition, parent, history_day_start(day), history_day_start(day + 1)
            );
            made := true;
        END IF;
    END LOOP;
    RETURN made;
END
$$;

-- Drops the partitions of the days before `first_kept`; says how many days went.
CREATE FUNCTION history_drop_days(first_kept date) RETURNS integer
    LANGUAGE plpgsql
AS $$
DECLARE
    dropped integer := 0;
    partition record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('picloud history partitions'), 0);
    FOR partition IN
        SELECT child.relname AS name, parent.relname = 'executions' AS is_day
        FROM pg_inherits
        JOIN pg_class child ON child.oid = inhrelid
        JOIN pg_class parent ON parent.oid = inhparent
        WHERE inhparent IN ('executions'::regclass, 'execution_logs'::regclass)
            AND to_date(right(child.relname, 8), 'YYYYMMDD') < first_kept
    LOOP
        EXECUTE format('DROP TABLE %I', partition.name);
        dropped := dropped + partition.is_day::integer;
    END LOOP;
    RETURN dropped;
END
$$;

-- Exact, also where the history keeps a sample of the successes only.
CREATE TABLE usage_hourly (
    app_id      uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    hour        timestamptz NOT NULL,
    script      text COLLATE "C" NOT NULL CHECK (octet_length(script) BETWEEN 1 AND 64),
    -- `ok`, or the code of the failure.
    outcome     text COLLATE "C" NOT NULL CHECK (octet_length(outcome) BETWEEN 1 AND 64),
    count       bigint NOT NULL,
    fuel        bigint NOT NULL,
    duration_us bigint NOT NULL,
    PRIMARY KEY (app_id, hour, script, outcome)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- For removing old hours.
CREATE INDEX ON usage_hourly (hour);
