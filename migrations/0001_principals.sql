-- Who can do something: people (`user`) and programs (`service`).

CREATE TABLE principals (
    id          uuid PRIMARY KEY,
    -- Byte order everywhere that names are listed, so that pages do not depend on the server's locale.
    name        text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 64),
    kind        text NOT NULL CHECK (kind IN ('user', 'service')),
    -- The role in the whole installation; roles in an app come with its members.
    role        text NOT NULL CHECK (role IN ('member', 'owner')),
    disabled_at timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now()
);
