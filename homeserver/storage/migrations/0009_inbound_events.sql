-- Events from other servers that wait for what they refer to, and where history is known to be missing.

CREATE TABLE inbound_events (
    nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_nid integer NOT NULL,
    received_ms bigint NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    event_id text NOT NULL,
    origin text NOT NULL,            -- the server that sent it
    json bytea NOT NULL,             -- as received; format and signatures were checked
    UNIQUE (room_nid, event_id)
);

CREATE TABLE history_gaps (
    room_nid integer NOT NULL,
    depth bigint NOT NULL,           -- of the newest event that cites the missing one
    retry_at_ms bigint NOT NULL DEFAULT 0,
    failures smallint NOT NULL DEFAULT 0,
    event_id text NOT NULL,          -- the missing event
    PRIMARY KEY (room_nid, event_id)
);
CREATE INDEX history_gaps_by_depth ON history_gaps (room_nid, depth);
