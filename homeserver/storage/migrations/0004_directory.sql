-- Names for rooms, the rooms that this node publishes, and each user's room of server notices.
-- No foreign keys to rooms: an alias, and a notices room, are taken just before the room is written.

CREATE TABLE room_aliases (
    alias text PRIMARY KEY,          -- of this server; other servers' aliases are asked for there
    room_nid integer NOT NULL,
    created_ms bigint NOT NULL,
    creator text NOT NULL            -- user id
);
CREATE INDEX room_aliases_of_rooms ON room_aliases (room_nid);

-- A page of the directory is a range of this index: largest rooms first, then the newest ones.
-- A message changes neither column nor summary, so it still costs no index entry.
ALTER TABLE rooms ADD COLUMN is_published boolean NOT NULL DEFAULT false;
CREATE INDEX rooms_published ON rooms (((summary ->> 'num_joined_members')::integer), nid)
    WHERE is_published;

CREATE TABLE notice_rooms (
    user_nid integer PRIMARY KEY REFERENCES users,
    room_nid integer NOT NULL,
    created_ms bigint NOT NULL
);
