-- Triggers: which script runs when something happens. The columns here are those that every kind shares; what only one
-- kind has is in its own table.

CREATE TABLE triggers (
    id                      uuid PRIMARY KEY,
    app_id                  uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    -- Refuses to delete a script that a trigger runs; at commit, so that an app can be deleted in cascade.
    script_id               uuid NOT NULL REFERENCES scripts DEFERRABLE INITIALLY DEFERRED,
    kind                    text COLLATE "C" NOT NULL
        CONSTRAINT triggers_kind_check CHECK (kind IN ('kv', 'cron', 'queue', 'topic', 'email', 'dead_letter')),
    name                    text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 64),
    enabled                 boolean NOT NULL DEFAULT true,
    -- NULL: the platform's defaults (PICLOUD_TRIGGER_RETRY_*).
    max_attempts            smallint CHECK (max_attempts BETWEEN 1 AND 100),
    retry_base_delay_ms     bigint CHECK (retry_base_delay_ms >= 0),
    retry_max_delay_ms      bigint CHECK (retry_max_delay_ms >= 0),
    -- The trigger runs as this principal. No foreign key: a principal that is gone must stay told from none, since an
    -- event of its triggers then becomes a dead letter that says so.
    registered_by_principal uuid NOT NULL,
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now(),
    UNIQUE (app_id, name)
);

CREATE INDEX ON triggers (script_id);
CREATE INDEX ON triggers (app_id, kind) WHERE enabled;

CREATE TABLE kv_trigger_details (
    trigger_id         uuid PRIMARY KEY REFERENCES triggers ON DELETE CASCADE,
    -- `*`, `prefix*` or a collection's name.
    collection_pattern text COLLATE "C" NOT NULL CHECK (octet_length(collection_pattern) BETWEEN 1 AND 128),
    operations         text[] NOT NULL
        CHECK (cardinality(operations) BETWEEN 1 AND 2 AND operations <@ ARRAY['set', 'delete'])
);

CREATE TABLE dead_letter_trigger_details (
    trigger_id   uuid PRIMARY KEY REFERENCES triggers ON DELETE CASCADE,
    -- Which events' dead letters it handles: kinds of events, names of triggers. An empty list is any.
    source_kinds    text[] NOT NULL DEFAULT '{}' CHECK (cardinality(source_kinds) <= 16),
    source_triggers text[] NOT NULL DEFAULT '{}' CHECK (cardinality(source_triggers) <= 64)
);
