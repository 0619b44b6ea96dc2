-- How many e-mails each app has sent on a day (UTC), for its quota. Counted in the transaction that makes them.

CREATE TABLE mails_sent (
    app_id uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    day    date NOT NULL,
    mails  bigint NOT NULL CHECK (mails >= 0),
    PRIMARY KEY (app_id, day)
) WITH (fillfactor = 70);

CREATE INDEX ON mails_sent (day);
