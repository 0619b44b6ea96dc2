-- Secrets that stand for a principal at the management API.

CREATE TABLE tokens (
    id           uuid PRIMARY KEY,
    principal_id uuid NOT NULL REFERENCES principals ON DELETE CASCADE,
    name         text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 128),
    -- SHA-256 of the secret. The secret has 256 random bits, so that a slow password hash would add nothing.
    hash         bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    scopes       text[] NOT NULL CHECK (cardinality(scopes) BETWEEN 1 AND 16),
    -- Only for this app; NULL is for all that the principal may reach. The foreign key comes with the apps.
    app_id       uuid,
    expires_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- To the minute: a busy token must not write a row per request.
    last_used_at timestamptz
) WITH (fillfactor = 80);

CREATE INDEX ON tokens (principal_id, id);
