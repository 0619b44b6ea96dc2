-- Lanes in which nothing waits are removed now and then: to remove one must not cost a look through the whole outbox.

CREATE OR REPLACE FUNCTION outbox_lane_gone() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM outbox WHERE lane_id = OLD.id AND claimed_by IS NULL AND NOT is_suspect;
    DELETE FROM outbox WHERE lane_id = OLD.id AND claimed_by IS NOT NULL;
    DELETE FROM outbox WHERE lane_id = OLD.id AND claimed_by IS NULL AND is_suspect;
    RETURN NULL;
END
$$;
