-- The outbox: every event that is to be handled and is not yet. All kinds write rows of one shape, in the transaction
-- of what they come of; a row is deleted in the transaction of what its handler has done.

-- What events wait in, one after the other: one lane for each queue of an app and each priority in it, and lanes with
-- the queue '' for what is in no queue. Lanes are made when they are first used. Nothing is written here per event:
-- which lanes have events that are due is read from the outbox's index.
CREATE TABLE outbox_lanes (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id   uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    queue    text COLLATE "C" NOT NULL CHECK (octet_length(queue) <= 64),
    -- Those with more go first.
    priority smallint NOT NULL CHECK (priority BETWEEN -100 AND 100),
    UNIQUE (app_id, queue, priority)
);

CREATE TABLE outbox (
    -- A UUID of version 7, made by whoever wrote the event: it is what receivers know it by, again after a retry.
    id           uuid PRIMARY KEY,
    -- No foreign keys, which would be looked up for each row: whoever inserts locks the lanes' rows once in its
    -- transaction, and deleting a lane deletes its events (below).
    lane_id      bigint NOT NULL,
    app_id       uuid NOT NULL,
    kind         text COLLATE "C" NOT NULL CHECK (octet_length(kind) BETWEEN 1 AND 32),
    -- The trigger that is to handle it; NULL where what handles it is found when it is due (queues) or given by name.
    trigger_id   uuid,
    -- The script that is to handle it, where no trigger says so, and its version, where it is not the active one.
    script       text COLLATE "C" CHECK (octet_length(script) BETWEEN 1 AND 64),
    version      integer,
    -- JSON text.
    payload      text COLLATE "C" NOT NULL CHECK (octet_length(payload) <= 268435456),
    run_at       timestamptz NOT NULL,
    -- Counted up when it is claimed, so that a run which kills its process counts too.
    attempts     smallint NOT NULL DEFAULT 0,
    -- The process that handles it, and since when.
    claimed_by   uuid,
    claimed_at   timestamptz,
    -- The process that had it was lost: it is claimed alone, so that if it was the cause nothing else is used up.
    is_suspect   boolean NOT NULL DEFAULT false,
    -- The inbox of a caller that waits for the answer: it is not tried again. It waits in the process that wrote the event,
    -- and that has claimed it with the writing: no other handles it.
    reply_to     uuid,
    -- The first event of the chain, the one that this came of, and how many came before.
    root_id      uuid NOT NULL,
    parent_id    uuid,
    depth        smallint NOT NULL DEFAULT 0 CHECK (depth >= 0),
    -- Messages of a group are handled one after the other: all but the first wait with `run_at` at infinity.
    group_key    text COLLATE "C" CHECK (octet_length(group_key) BETWEEN 1 AND 128),
    group_seq    bigint,
    -- Of a message that waits in its group: when it may be handled at the earliest.
    not_before   timestamptz,
    -- The dead letter that it tells of.
    dead_letter_id uuid,
    -- Why the last attempt failed.
    error_code   text COLLATE "C" CHECK (octet_length(error_code) BETWEEN 1 AND 64),
    error        text CHECK (octet_length(error) <= 16384),
    created_at   timestamptz NOT NULL DEFAULT now()
) WITH (
    fillfactor = 75,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.2,
    autovacuum_vacuum_cost_delay = 0
);

-- What is due in a lane, the oldest first: a claim reads the beginning of some lanes, however long they are.
CREATE INDEX outbox_due ON outbox (lane_id, run_at, id) WHERE claimed_by IS NULL AND NOT is_suspect;
-- What was rescued from a process that is gone.
CREATE INDEX outbox_suspect ON outbox (run_at, id) WHERE claimed_by IS NULL AND is_suspect;
-- What is handled now: by lane for the concurrency of queues; all of it, which is little, to find what lost processes had.
CREATE INDEX outbox_claimed ON outbox (lane_id, claimed_by) WHERE claimed_by IS NOT NULL;
-- The next of a group.
CREATE INDEX outbox_group ON outbox (lane_id, group_key, group_seq) WHERE group_key IS NOT NULL;

CREATE FUNCTION outbox_lane_gone() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM outbox WHERE lane_id = OLD.id AND claimed_by IS NULL AND NOT is_suspect;
    DELETE FROM outbox WHERE lane_id = OLD.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER outbox_lane_gone AFTER DELETE ON outbox_lanes FOR EACH ROW EXECUTE FUNCTION outbox_lane_gone();

-- Processes that handle events. A row is touched every few seconds while its process has claimed something, and by
-- nobody else; a process that is idle writes nothing.
CREATE TABLE outbox_workers (
    id           uuid PRIMARY KEY,
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
