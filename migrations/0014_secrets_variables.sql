-- What an app's scripts are configured with, and what each version of a script uses.

-- One sequence for the whole platform: no two values ever have the same version, so that the row of an older value
-- cannot stand for a newer one. The version is a part of what the ciphertext is bound to.
CREATE SEQUENCE secret_version AS bigint START 1;

CREATE TABLE secrets (
    app_id     uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    name       text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 64),
    -- Which key of the file `secret-keys` it is encrypted with. The keys are never in the database.
    key_id     text COLLATE "C" NOT NULL CHECK (octet_length(key_id) BETWEEN 1 AND 32),
    nonce      bytea NOT NULL CHECK (octet_length(nonce) = 24),
    -- 1 byte to 64 KiB, and the tag of 16 bytes.
    ciphertext bytea NOT NULL CHECK (octet_length(ciphertext) BETWEEN 17 AND 65552),
    version    bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, name)
);

-- For the rotation of keys.
CREATE INDEX ON secrets (key_id);

CREATE TABLE variables (
    app_id     uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    name       text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 64),
    value      text NOT NULL CHECK (octet_length(value) <= 4096),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, name)
);

-- What the version's source and its libraries use, by kind: `{"secrets": {"names": ["stripe"], "any": false}}`.
-- NULL: uploaded before this was noted.
ALTER TABLE script_versions ADD COLUMN uses jsonb CHECK (octet_length(uses::text) <= 1048576);
