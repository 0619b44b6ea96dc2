-- The unit of ownership, isolation and limits.

CREATE TABLE apps (
    id         uuid PRIMARY KEY,
    -- A DNS label, since it is the first label of the app's host name.
    name       text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 63),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What an app sets other than the platform's defaults, one row a limit: a new limit needs no migration, and
-- the names are those of `LimitField` in the domain crate. Whether a value is at or under the ceiling is not
-- checked here, because the ceiling belongs to the process and can be lowered after the value was set.
CREATE TABLE app_limits (
    app_id uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    name   text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 64),
    value  bigint NOT NULL CHECK (value >= 0),
    PRIMARY KEY (app_id, name)
);

-- A token can be good for one app only; it goes with the app.
ALTER TABLE tokens ADD FOREIGN KEY (app_id) REFERENCES apps ON DELETE CASCADE;
CREATE INDEX ON tokens (app_id) WHERE app_id IS NOT NULL;
