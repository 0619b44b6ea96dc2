-- Files of apps: names that lead to contents by their hash.

-- One sequence for the whole platform: no two writes ever have the same version. 0 stands for "absent".
CREATE SEQUENCE file_version AS bigint START 1;

-- Contents, each once an app. They are not shared between apps: knowing a hash gives an app nothing that is another's.
CREATE TABLE blobs (
    app_id  uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    sha256  bytea NOT NULL CHECK (octet_length(sha256) = 32),
    content bytea NOT NULL CHECK (octet_length(content) <= 268435456),
    PRIMARY KEY (app_id, sha256)
);

-- Images, fonts and archives are compressed already, and what is not is compressed once by each node.
ALTER TABLE blobs ALTER COLUMN content SET STORAGE EXTERNAL;

-- A file is there as soon as its row is. The content of a row that goes goes with the last that names it.
CREATE TABLE files (
    app_id       uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    -- Byte order, the same on every machine.
    path         text COLLATE "C" NOT NULL CHECK (octet_length(path) BETWEEN 1 AND 512),
    sha256       bytea NOT NULL,
    size         integer NOT NULL CHECK (size >= 0),
    content_type text COLLATE "C" NOT NULL CHECK (octet_length(content_type) BETWEEN 3 AND 255),
    version      bigint NOT NULL DEFAULT nextval('file_version'),
    modified_at  timestamptz NOT NULL,
    PRIMARY KEY (app_id, path),
    -- At commit, since an app's rows are deleted in cascade.
    FOREIGN KEY (app_id, sha256) REFERENCES blobs DEFERRABLE INITIALLY DEFERRED
);

CREATE INDEX ON files (app_id, sha256);

-- What the quotas count. Every commit that writes files of an app changes this row under the app's lock of files.
CREATE TABLE file_usage (
    app_id     uuid PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
    files      bigint NOT NULL CHECK (files >= 0),
    bytes      bigint NOT NULL CHECK (bytes >= 0),
    -- Counts the commits, so that a list which was read can be checked without reading it again.
    generation bigint NOT NULL
);

-- A route leads to a script or to a folder of files.
ALTER TABLE routes
    ALTER COLUMN script_id DROP NOT NULL,
    ADD COLUMN files         text COLLATE "C" CHECK (octet_length(files) BETWEEN 2 AND 513),
    -- Seconds that browsers may keep an answer without asking again, of files other than pages.
    ADD COLUMN files_max_age bigint CHECK (files_max_age BETWEEN 0 AND 31536000),
    -- The file that is answered where there is none, for pages that route by themselves.
    ADD COLUMN files_fallback text COLLATE "C" CHECK (octet_length(files_fallback) BETWEEN 1 AND 512),
    ADD CONSTRAINT routes_target_check CHECK ((script_id IS NULL) <> (files IS NULL)),
    ADD CONSTRAINT routes_files_settings_check
        CHECK (files IS NOT NULL OR (files_max_age IS NULL AND files_fallback IS NULL));
