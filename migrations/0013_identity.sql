-- Passwords, sessions, what a token was made with, and the audit log.

-- In PHC form: $argon2id$v=19$... A program has none, and neither has a user until one is set.
ALTER TABLE principals ADD COLUMN password_hash text CHECK (octet_length(password_hash) BETWEEN 1 AND 512);
ALTER TABLE principals ADD CONSTRAINT only_users_sign_in CHECK (kind = 'user' OR password_hash IS NULL);

-- A token that was made with another one ends with it, so that whoever finds a token cannot outlive its revocation.
ALTER TABLE tokens ADD COLUMN made_by uuid REFERENCES tokens ON DELETE CASCADE;
CREATE INDEX ON tokens (made_by) WHERE made_by IS NOT NULL;

CREATE TABLE sessions (
    id           uuid PRIMARY KEY,
    principal_id uuid NOT NULL REFERENCES principals ON DELETE CASCADE,
    -- SHA-256 of the cookie's 256 random bits.
    hash         bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- To the minute, as that of tokens.
    last_used_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL
) WITH (fillfactor = 80);

CREATE INDEX ON sessions (principal_id, id);

-- Who did what, when, from where, and how it ended. Nothing refers to it and it refers to nothing: an entry outlasts
-- whoever and whatever it is about, so that it has their names as well as their ids.
CREATE TABLE audit_log (
    -- Version 7: in the order of time.
    id             uuid PRIMARY KEY,
    at             timestamptz NOT NULL DEFAULT now(),
    request_id     uuid NOT NULL,
    -- Of whom nobody knows who it was: NULL, as for a failed sign-in.
    principal_id   uuid,
    principal_name text COLLATE "C",
    token_id       uuid,
    session_id     uuid,
    address        text,
    -- The operation of the API, such as put_script.
    action         text COLLATE "C" NOT NULL CHECK (octet_length(action) BETWEEN 1 AND 64),
    capability     text COLLATE "C",
    app_id         uuid,
    app_name       text COLLATE "C",
    -- What in the app or the installation: a script, a key, a principal.
    target         text CHECK (octet_length(target) <= 1024),
    detail         text CHECK (octet_length(detail) <= 1024),
    -- ok, or the error code.
    outcome        text COLLATE "C" NOT NULL CHECK (octet_length(outcome) BETWEEN 1 AND 64)
);

CREATE INDEX ON audit_log (app_name, id) WHERE app_name IS NOT NULL;
CREATE INDEX ON audit_log (principal_name, id) WHERE principal_name IS NOT NULL;
CREATE INDEX ON audit_log (at);

-- Entries are added and never changed. They are removed only by retention, which says in its transaction how many days
-- it keeps: at least one, and nothing younger can go.
CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    kept_days integer := nullif(current_setting('picloud.audit_retention_days', true), '')::integer;
BEGIN
    IF TG_OP = 'DELETE' AND kept_days >= 1 THEN
        IF OLD.at < now() - make_interval(days => kept_days) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_log_is_append_only();
CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();
