-- Names for rooms, and the rooms that this node publishes. No foreign key to rooms: an alias is taken
-- just before its room is written.

CREATE TABLE room_aliases (
    alias text PRIMARY KEY,          -- of this server; other servers' aliases are asked for there
    room_nid integer NOT NULL,
    created_ms bigint NOT NULL,
    creator text NOT NULL            -- user id
);
CREATE INDEX room_aliases_of_rooms ON room_aliases (room_nid);

CREATE TABLE published_rooms (
    room_nid integer PRIMARY KEY,
    published_ms bigint NOT NULL
);
