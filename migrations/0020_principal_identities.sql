-- Whom an OpenID Connect issuer's users are here.

CREATE TABLE principal_identities (
    id           uuid PRIMARY KEY,
    principal_id uuid NOT NULL REFERENCES principals ON DELETE CASCADE,
    -- In lower case. Of a link that is not used yet it says whose the link is; after that it is only shown.
    email        text NOT NULL CHECK (octet_length(email) BETWEEN 3 AND 254),
    -- Both NULL until the first sign-in. From then on they alone say who it is: an address can change hands.
    issuer       text COLLATE "C" CHECK (octet_length(issuer) BETWEEN 1 AND 512),
    subject      text COLLATE "C" CHECK (octet_length(subject) BETWEEN 1 AND 255),
    created_at   timestamptz NOT NULL DEFAULT now(),
    bound_at     timestamptz,
    CONSTRAINT bound_as_a_whole CHECK ((issuer IS NULL) = (subject IS NULL) AND (issuer IS NULL) = (bound_at IS NULL)),
    UNIQUE (issuer, subject)
);

CREATE INDEX ON principal_identities (principal_id, id);
CREATE UNIQUE INDEX ON principal_identities (email) WHERE issuer IS NULL;
