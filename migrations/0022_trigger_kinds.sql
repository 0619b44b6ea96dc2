-- What only one kind of trigger has, queues, and what is remembered of events beyond the outbox.

CREATE TABLE cron_trigger_details (
    trigger_id      uuid PRIMARY KEY REFERENCES triggers ON DELETE CASCADE,
    schedule        text COLLATE "C" NOT NULL CHECK (octet_length(schedule) BETWEEN 1 AND 128),
    -- A name of the IANA time zone database.
    timezone        text COLLATE "C" NOT NULL CHECK (octet_length(timezone) BETWEEN 1 AND 64),
    -- What is done about runs that nobody was there for.
    missed          text COLLATE "C" NOT NULL CHECK (missed IN ('skip', 'once', 'all')),
    -- A run that is later than this is missed.
    max_lateness_ms bigint NOT NULL CHECK (max_lateness_ms BETWEEN 1000 AND 604800000),
    -- Runs are spread over so much time after their slot, each by an amount of its own.
    jitter_ms       bigint NOT NULL CHECK (jitter_ms BETWEEN 0 AND 3600000),
    -- The next slot; NULL where there is none.
    next_at         timestamptz
);

CREATE INDEX ON cron_trigger_details (next_at) WHERE next_at IS NOT NULL;

-- Slots that were enqueued or missed: none is enqueued twice, whoever tries.
CREATE TABLE cron_slots (
    trigger_id    uuid NOT NULL REFERENCES triggers ON DELETE CASCADE,
    scheduled_for timestamptz NOT NULL,
    -- NULL: it was missed.
    event_id      uuid,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (trigger_id, scheduled_for)
);

CREATE INDEX ON cron_slots (created_at);

CREATE TABLE queue_trigger_details (
    trigger_id uuid PRIMARY KEY REFERENCES triggers ON DELETE CASCADE,
    app_id     uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    queue      text COLLATE "C" NOT NULL CHECK (octet_length(queue) BETWEEN 1 AND 64),
    -- One consumer a queue: a message is handled by one script.
    UNIQUE (app_id, queue)
);

CREATE TABLE topic_trigger_details (
    trigger_id    uuid PRIMARY KEY REFERENCES triggers ON DELETE CASCADE,
    topic_pattern text COLLATE "C" NOT NULL CHECK (octet_length(topic_pattern) BETWEEN 1 AND 128)
);

CREATE TABLE email_trigger_details (
    trigger_id uuid PRIMARY KEY REFERENCES triggers ON DELETE CASCADE,
    -- The part before the `@`; the domain is the platform's.
    address    text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(address) BETWEEN 1 AND 64)
);

-- Queues that somebody has set up or sent to.
CREATE TABLE queues (
    app_id      uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    name        text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 64),
    -- Messages that are handled at once in the whole installation; NULL: as many as the app may run.
    concurrency integer CHECK (concurrency BETWEEN 1 AND 10000),
    paused_at   timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, name)
);

-- Groups that have messages, and the sequence of each: its row is locked by whoever adds to the group or ends its first.
CREATE TABLE queue_groups (
    lane_id   bigint NOT NULL REFERENCES outbox_lanes ON DELETE CASCADE,
    group_key text COLLATE "C" NOT NULL CHECK (octet_length(group_key) BETWEEN 1 AND 128),
    last_seq  bigint NOT NULL,
    PRIMARY KEY (lane_id, group_key)
) WITH (fillfactor = 70);

-- A message whose key was sent within a day is not sent again.
CREATE TABLE queue_dedupe_keys (
    app_id     uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    queue      text COLLATE "C" NOT NULL CHECK (octet_length(queue) BETWEEN 1 AND 64),
    key        text COLLATE "C" NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 128),
    event_id   uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, queue, key)
);

CREATE INDEX ON queue_dedupe_keys (expires_at);

-- Answers of asynchronous requests, until they expire.
CREATE TABLE event_results (
    event_id   uuid PRIMARY KEY,
    app_id     uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    status     smallint,
    -- `[[name, value], ...]`.
    headers    jsonb,
    body       bytea,
    error_code text COLLATE "C" CHECK (octet_length(error_code) BETWEEN 1 AND 64),
    error      text CHECK (octet_length(error) <= 16384),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

CREATE INDEX ON event_results (app_id, event_id);
CREATE INDEX ON event_results (expires_at);

-- Requests that were made under a key, and what was answered.
CREATE TABLE idempotency_keys (
    app_id      uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    -- Who asked and what for: the same key of another caller or route is another key.
    scope       bytea NOT NULL CHECK (octet_length(scope) = 32),
    key         text COLLATE "C" NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    -- SHA-256 of the request.
    request     bytea NOT NULL CHECK (octet_length(request) = 32),
    -- NULL while the first request is under way.
    status      smallint,
    headers     jsonb,
    body        bytea,
    -- The process in which it is under way.
    held_by     uuid,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (app_id, scope, key)
);

CREATE INDEX ON idempotency_keys (expires_at);

-- Where a run came from.
ALTER TABLE executions
    ADD COLUMN event_id  uuid,
    ADD COLUMN root_id   uuid,
    ADD COLUMN parent_id uuid,
    ADD COLUMN trigger   text COLLATE "C" CHECK (octet_length(trigger) BETWEEN 1 AND 64),
    ADD COLUMN attempt   smallint;

CREATE INDEX ON executions (app_id, root_id) WHERE root_id IS NOT NULL;
CREATE INDEX ON executions (event_id) WHERE event_id IS NOT NULL;

ALTER TABLE routes
    DROP CONSTRAINT routes_mode_check,
    ADD CONSTRAINT routes_mode_check CHECK (mode IN ('sync', 'durable', 'async')),
    -- Where the answer of an asynchronous request is sent.
    ADD COLUMN callback_url text CHECK (octet_length(callback_url) BETWEEN 1 AND 2048),
    -- How a sender signs its requests, where it is not the platform's own way.
    ADD COLUMN signature text COLLATE "C" NOT NULL DEFAULT 'picloud'
        CHECK (signature IN ('picloud', 'github', 'stripe', 'slack', 'generic'));
