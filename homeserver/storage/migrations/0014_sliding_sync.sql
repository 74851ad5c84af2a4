-- Connections of sliding sync: what each has been told of, room by room.
-- A connection is one row, so that telling of a few more rooms writes those few and not all: `whole` is the
-- state at the generation `whole_generation`, `deltas` what came after, each with its own generation. JSON;
-- see homeserver/sync/sliding/connection_state.py. Losing the newest of it in a power failure costs the
-- client one start from scratch, so it is written without waiting for the disk.
CREATE TABLE sliding_sync_connections (
    number bigint PRIMARY KEY,       -- random; part of every `pos` of the connection
    device_nid integer NOT NULL REFERENCES devices ON DELETE CASCADE,
    whole_generation integer NOT NULL,
    used_ms bigint NOT NULL,         -- a day behind at most
    conn_id text NOT NULL,
    whole bytea NOT NULL,
    deltas bytea NOT NULL,
    UNIQUE (device_nid, conn_id)
);
CREATE INDEX sliding_sync_connections_by_use ON sliding_sync_connections (used_ms);
