-- Runs whose waiting caller had gone when there was an answer: their effects are committed, and nobody has seen what
-- they said.

CREATE TABLE abandoned_executions (
    id           uuid PRIMARY KEY,
    app_id       uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    -- The event, the run of it in the history, and the inbox in which nobody waited.
    event_id     uuid NOT NULL,
    execution_id uuid,
    reply_to     uuid NOT NULL,
    script       text COLLATE "C" NOT NULL CHECK (octet_length(script) BETWEEN 1 AND 64),
    -- The answer's status; NULL where the run failed, with the code.
    status       smallint,
    error_code   text COLLATE "C" CHECK (octet_length(error_code) BETWEEN 1 AND 64),
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX ON abandoned_executions (app_id, id);
CREATE INDEX ON abandoned_executions (created_at);
