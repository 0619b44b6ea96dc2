-- Events that were given up: the whole event, why, and what became of it.

CREATE TABLE dead_letters (
    id            uuid PRIMARY KEY,
    app_id        uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    -- The event's id in the outbox.
    event_id      uuid NOT NULL,
    kind          text COLLATE "C" NOT NULL CHECK (octet_length(kind) BETWEEN 1 AND 32),
    -- The trigger, and its name at that time; it may be gone.
    trigger_id    uuid,
    trigger_name  text COLLATE "C" CHECK (octet_length(trigger_name) BETWEEN 1 AND 64),
    script        text COLLATE "C" CHECK (octet_length(script) BETWEEN 1 AND 64),
    version       integer,
    queue         text COLLATE "C" NOT NULL CHECK (octet_length(queue) <= 64),
    priority      smallint NOT NULL,
    group_key     text COLLATE "C" CHECK (octet_length(group_key) BETWEEN 1 AND 128),
    payload       text COLLATE "C" NOT NULL CHECK (octet_length(payload) <= 268435456),
    error_code    text COLLATE "C" NOT NULL CHECK (octet_length(error_code) BETWEEN 1 AND 64),
    error         text NOT NULL CHECK (octet_length(error) <= 16384),
    -- Equal for errors that differ in numbers, ids and quoted text only: what belongs together is replayed together.
    fingerprint   text COLLATE "C" NOT NULL CHECK (octet_length(fingerprint) BETWEEN 1 AND 64),
    attempts      smallint NOT NULL,
    root_id       uuid NOT NULL,
    parent_id     uuid,
    depth         smallint NOT NULL,
    event_created_at timestamptz NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- NULL: nobody has looked after it yet.
    resolution    text COLLATE "C"
        CHECK (resolution IN ('replayed', 'ignored', 'handled_by_script', 'handler_failed')),
    resolved_at   timestamptz,
    -- Who replayed or ignored it; NULL for a script.
    resolved_by   uuid,
    -- The event that replays it.
    replay_id     uuid,
    CHECK ((resolution IS NULL) = (resolved_at IS NULL))
) WITH (fillfactor = 80);

CREATE INDEX ON dead_letters (app_id, id);
-- The dashboard's badge, and what is still to be done.
CREATE INDEX dead_letters_unresolved ON dead_letters (app_id, id) WHERE resolution IS NULL;
CREATE INDEX ON dead_letters (app_id, fingerprint, id) WHERE resolution IS NULL;
CREATE INDEX ON dead_letters (event_id);
CREATE INDEX ON dead_letters (root_id);
-- For removing old ones.
CREATE INDEX ON dead_letters (created_at);
