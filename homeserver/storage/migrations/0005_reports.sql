-- What users reported as inappropriate, for administrators to look at.

CREATE TABLE reports (
    nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_ms bigint NOT NULL,
    reporter_nid integer NOT NULL REFERENCES users,
    room_nid integer,                -- of a reported room, or of the room of a reported event
    event_id text,                   -- of a reported event
    user_nid integer REFERENCES users,  -- a reported user
    reason text NOT NULL
);
