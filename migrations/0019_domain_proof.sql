-- A host is served for an app once somebody has proved that they decide about it.

ALTER TABLE domains
    -- What the proof has to say: 128 random bits in hexadecimal. What the default makes is never asked for: those rows
    -- are verified below.
    ADD COLUMN challenge text COLLATE "C" NOT NULL DEFAULT md5(gen_random_uuid()::text) CHECK (octet_length(challenge) = 32),
    ADD COLUMN checked_at timestamptz,
    ADD COLUMN verified_at timestamptz,
    ADD COLUMN verified_by text COLLATE "C" CHECK (verified_by IN ('dns', 'operator')),
    ADD CHECK ((verified_at IS NULL) = (verified_by IS NULL));

ALTER TABLE domains ALTER COLUMN challenge DROP DEFAULT;

-- Those that are served already stay: whoever runs the installation let them in.
UPDATE domains SET verified_at = created_at, verified_by = 'operator';

-- Several apps may claim a host, so that no claim keeps out who owns it. One at most has proved it.
ALTER TABLE domains DROP CONSTRAINT domains_name_key;
ALTER TABLE domains ADD UNIQUE (app_id, name);
DROP INDEX domains_app_id_idx;
CREATE UNIQUE INDEX domains_verified_name ON domains (name) WHERE verified_at IS NOT NULL;
