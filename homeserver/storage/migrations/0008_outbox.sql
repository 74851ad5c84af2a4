-- What is to be sent to other servers, until all of them have it.

-- Other servers that something was to be sent to, and how that fares.
CREATE TABLE destinations (
    nid integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    server_name text NOT NULL UNIQUE,
    cursor bigint NOT NULL DEFAULT 0,     -- it has everything of the outbox up to here that is for it
    failures integer NOT NULL DEFAULT 0,  -- in a row
    retry_at_ms bigint NOT NULL DEFAULT 0,
    last_success_ms bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);

-- position: of the change that it belongs to, so that every destination gets its rows in order.
CREATE TABLE federation_outbox (
    position bigint PRIMARY KEY,
    added_ms bigint NOT NULL,
    event_nid bigint,                     -- a room event,
    edu bytea,                            -- or an EDU that must not be lost: canonical JSON
    destinations integer[] NOT NULL       -- numbers of `destinations`
);
