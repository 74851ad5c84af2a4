-- Rooms of other servers that were entered without most of their members, which are being fetched.
CREATE TABLE partial_rooms (
    room_nid integer PRIMARY KEY,
    join_event_id text NOT NULL,     -- the state before it is what is wanted
    first_snapshot integer NOT NULL, -- states from this number on lack members
    servers text[] NOT NULL          -- in the room before the join, the one that let us in first
);
