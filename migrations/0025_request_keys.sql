-- Keys of requests to the management API are remembered in the same way as those of requests to scripts. Some of these
-- are for no app. What a key is a key of is in `scope`, the app included.

-- Those of before had no app in it. Who makes such a request again now makes it anew.
DELETE FROM idempotency_keys;

ALTER TABLE idempotency_keys
    DROP CONSTRAINT idempotency_keys_pkey,
    ADD PRIMARY KEY (scope, key),
    ALTER COLUMN app_id DROP NOT NULL;

-- How many an app has, and to remove them with it.
CREATE INDEX ON idempotency_keys (app_id);
