-- Who may call an app's endpoints, from where and how often.

ALTER TABLE routes DROP CONSTRAINT routes_access_check;
ALTER TABLE routes
    ADD CONSTRAINT routes_access_check CHECK (access IN ('public', 'token', 'hmac')),
    -- Rates as the domain crate writes them: `100/min`. For all clients together, and for each of them.
    ADD COLUMN rate_limit        text CHECK (rate_limit ~ '^[0-9]+/([0-9]*s|min|h)$'),
    ADD COLUMN client_rate_limit text CHECK (client_rate_limit ~ '^[0-9]+/([0-9]*s|min|h)$');

-- What callers of a route sign with. Verifying takes the key itself, so that a hash would not do.
CREATE TABLE route_signing_keys (
    id         uuid PRIMARY KEY,
    route_id   uuid NOT NULL REFERENCES routes ON DELETE CASCADE,
    key        bytea NOT NULL CHECK (octet_length(key) BETWEEN 16 AND 1024),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Set when a newer key has taken its place.
    expires_at timestamptz
);

CREATE INDEX ON route_signing_keys (route_id);

-- What holds for all endpoints of an app, in the shape of `AccessSettings` of the domain crate, which checks it before
-- it is written. It is read as a whole and never searched.
CREATE TABLE app_access (
    app_id   uuid PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
    settings jsonb NOT NULL CHECK (jsonb_typeof(settings) = 'object')
);
