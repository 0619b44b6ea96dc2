-- How requests find a script: paths within an app, and hosts that belong to an app.

CREATE TABLE routes (
    id         uuid PRIMARY KEY,
    app_id     uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    -- Refuses to delete a script that is routed; at commit, so that an app can be deleted in cascade.
    script_id  uuid NOT NULL REFERENCES scripts DEFERRABLE INITIALLY DEFERRED,
    methods    text[] NOT NULL CHECK (
        cardinality(methods) BETWEEN 1 AND 7
        AND methods <@ ARRAY['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']
    ),
    pattern    text COLLATE "C" NOT NULL CHECK (octet_length(pattern) BETWEEN 1 AND 512),
    -- The pattern without the names of its parameters: two patterns of one shape match the same paths.
    shape      text COLLATE "C" NOT NULL GENERATED ALWAYS AS (regexp_replace(pattern, '/([:*])[^/]+', '/\1', 'g')) STORED,
    -- Widened when routes can be durable or asynchronous, or ask for a caller's token.
    mode       text NOT NULL DEFAULT 'sync' CONSTRAINT routes_mode_check CHECK (mode IN ('sync')),
    access     text NOT NULL DEFAULT 'public' CONSTRAINT routes_access_check CHECK (access IN ('public')),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Not unique: GET and POST of one path may lead to two scripts. That no two routes of a shape share a method
-- is checked under the lock of the app's row.
CREATE INDEX ON routes (app_id, shape);
CREATE INDEX ON routes (script_id);

CREATE TABLE domains (
    id         uuid PRIMARY KEY,
    app_id     uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    -- One app of the platform at most answers for a host.
    name       text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 253),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX ON domains (app_id);
