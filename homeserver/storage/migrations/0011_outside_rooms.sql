-- Rooms of other servers that users of this node are invited to, or knock on, while the node is not in them.

-- Those that this node has never been in; a room keeps its number when it is joined.
CREATE TABLE outside_rooms (
    room_nid integer PRIMARY KEY,
    room_id text NOT NULL UNIQUE,
    version text NOT NULL
);

-- What `memberships` says of a user, as another server told it.
CREATE TABLE outside_memberships (
    user_nid integer NOT NULL REFERENCES users,
    room_nid integer NOT NULL,
    event_nid bigint NOT NULL,       -- the member event, an outlier
    servers text[] NOT NULL,         -- that know of it
    stripped bytea NOT NULL,         -- JSON: what is shown of the room
    PRIMARY KEY (user_nid, room_nid)
);
CREATE INDEX outside_memberships_of_rooms ON outside_memberships (room_nid);
