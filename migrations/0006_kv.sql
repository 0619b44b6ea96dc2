-- Key-value data of scripts.

-- One sequence for the whole platform: no two writes ever have the same version, so that a key which was
-- deleted and set again is told from one that was left alone. 0 stands for "absent".
CREATE SEQUENCE kv_version AS bigint START 1;

CREATE TABLE kv (
    app_id     uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    collection text COLLATE "C" NOT NULL CHECK (octet_length(collection) BETWEEN 1 AND 128),
    -- Byte order is code point order in UTF-8: the same on every machine, and the order scripts are promised.
    key        text COLLATE "C" NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 512),
    -- JSON text, not jsonb: what a script wrote comes back to the byte, U+0000 (as an escape) included.
    value      text COLLATE "C" NOT NULL CHECK (octet_length(value) <= 268435456),
    -- What the app's quota counts.
    bytes      integer NOT NULL GENERATED ALWAYS AS (octet_length(key) + octet_length(value)) STORED,
    version    bigint NOT NULL DEFAULT nextval('kv_version'),
    -- Expired entries count as absent from this moment on, whether they have been removed yet or not.
    expires_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, collection, key)
) WITH (
    -- Room for the next version of a row on the same page: updates that touch no index stay there.
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05
);

-- For removing what has expired.
CREATE INDEX kv_expiry ON kv (expires_at) WHERE expires_at IS NOT NULL;
