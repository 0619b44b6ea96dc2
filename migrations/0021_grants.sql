-- What an app's scripts may use, where it wants to say so before they are deployed. No row: anything.
CREATE TABLE app_grants (
    app_id uuid PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
    -- Whether a version that uses more is refused.
    strict boolean NOT NULL,
    -- As in `script_versions.uses`.
    uses   jsonb NOT NULL CHECK (octet_length(uses::text) <= 1048576)
);
