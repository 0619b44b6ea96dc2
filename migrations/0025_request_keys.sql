-- Keys of requests to the management API are remembered in the same way as those of requests to scripts, but counted for
-- who makes them. What a key is a key of is in `scope`, the app or the principal included.

-- Those of before have no app in their scope. Who makes such a request again now makes it anew.
DELETE FROM idempotency_keys;

ALTER TABLE idempotency_keys
    DROP CONSTRAINT idempotency_keys_pkey,
    ADD PRIMARY KEY (scope, key),
    ALTER COLUMN app_id DROP NOT NULL,
    ADD COLUMN principal_id uuid REFERENCES principals ON DELETE CASCADE,
    ADD CHECK ((app_id IS NULL) <> (principal_id IS NULL));

-- How many each has, and to remove them with it.
CREATE INDEX ON idempotency_keys (app_id) WHERE app_id IS NOT NULL;
CREATE INDEX ON idempotency_keys (principal_id) WHERE principal_id IS NOT NULL;
