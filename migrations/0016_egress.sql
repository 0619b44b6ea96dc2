-- What scripts may call over HTTP, and what they did call.

-- In the shape of `EgressRules` of the domain crate, which checks it before it is written. It is read as a whole and
-- never searched. An app without a row may call nothing.
CREATE TABLE app_egress (
    app_id uuid PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
    rules  jsonb NOT NULL CHECK (jsonb_typeof(rules) = 'object')
);

-- The requests of an execution, in the shape of `EgressRecord`; NULL where there was none. It goes with its day.
ALTER TABLE executions
    ADD COLUMN egress jsonb CHECK (jsonb_typeof(egress) = 'array');
