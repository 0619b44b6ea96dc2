-- A sender that signs in the generic way may have a header of its own: `generic:x-shopify-hmac-sha256`.

ALTER TABLE routes
    DROP CONSTRAINT routes_signature_check,
    ADD CONSTRAINT routes_signature_check CHECK (
        signature IN ('picloud', 'github', 'stripe', 'slack', 'generic')
        OR signature ~ '^generic:[a-z0-9-]{1,64}$'
    );
