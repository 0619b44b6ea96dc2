-- Scripts, their versions, and which version is active.

CREATE TABLE scripts (
    id                uuid PRIMARY KEY,
    app_id            uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    name              text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 64),
    -- NULL only inside the transaction that makes the script.
    active_version_id uuid,
    -- Numbers are never used again, also when the versions that had them are pruned.
    last_number       integer NOT NULL DEFAULT 0,
    created_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (app_id, name)
);

CREATE TABLE script_versions (
    id          uuid PRIMARY KEY,
    script_id   uuid NOT NULL REFERENCES scripts ON DELETE CASCADE,
    -- Repeated from the script, so that an image's sources are found by (app, image key) in one index.
    app_id      uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    number      integer NOT NULL CHECK (number > 0),
    -- The most that any ceiling can allow; the app's own limit is checked before.
    source      text NOT NULL CHECK (octet_length(source) <= 268435456),
    size        integer GENERATED ALWAYS AS (octet_length(source)) STORED,
    source_hash bytea NOT NULL CHECK (octet_length(source_hash) = 32),
    -- Covers the sources of the pinned libraries too.
    image_key   bytea NOT NULL CHECK (octet_length(image_key) = 32),
    -- `on_request` and so on; empty where the body is the handler.
    handlers    text[] NOT NULL CHECK (cardinality(handlers) <= 64),
    created_at  timestamptz NOT NULL DEFAULT now(),
    created_by  uuid REFERENCES principals ON DELETE SET NULL,
    UNIQUE (script_id, number),
    UNIQUE (script_id, id)
);

CREATE INDEX ON script_versions (app_id, image_key);
CREATE INDEX ON script_versions (created_by) WHERE created_by IS NOT NULL;

-- Constraints that point sideways are checked at commit: while an app's rows are deleted in cascade there are
-- moments in which the one side is gone and the other is not yet.
ALTER TABLE scripts ADD CONSTRAINT scripts_active_version_fkey
    FOREIGN KEY (id, active_version_id) REFERENCES script_versions (script_id, id)
    DEFERRABLE INITIALLY DEFERRED;

-- The libraries that a version was built from, directly or not: a rebuild of its image years later must use
-- the very same sources. A library's version stays as long as another script's version pins it.
CREATE TABLE script_imports (
    version_id         uuid NOT NULL REFERENCES script_versions ON DELETE CASCADE,
    library_version_id uuid NOT NULL REFERENCES script_versions DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (version_id, library_version_id)
);

CREATE INDEX ON script_imports (library_version_id);

-- Which version was active from when on: an upload and a rollback each add a row.
CREATE TABLE script_activations (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    script_id    uuid NOT NULL REFERENCES scripts ON DELETE CASCADE,
    version_id   uuid NOT NULL REFERENCES script_versions ON DELETE CASCADE,
    activated_at timestamptz NOT NULL DEFAULT now(),
    activated_by uuid REFERENCES principals ON DELETE SET NULL
);

CREATE INDEX ON script_activations (script_id, id);
CREATE INDEX ON script_activations (version_id);
CREATE INDEX ON script_activations (activated_by) WHERE activated_by IS NOT NULL;
