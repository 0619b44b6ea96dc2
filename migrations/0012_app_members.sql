-- Who may do what in an app. Owners of the installation may do everything everywhere and need no row. The numbers
-- 0008 to 0011 are the triggers framework's.

CREATE TABLE app_members (
    app_id       uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    principal_id uuid NOT NULL REFERENCES principals ON DELETE CASCADE,
    role         text NOT NULL CHECK (role IN ('viewer', 'editor', 'app_admin')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, principal_id)
);

CREATE INDEX ON app_members (principal_id);
