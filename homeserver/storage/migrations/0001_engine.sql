-- The engine: the commit log's position, rooms, events, state snapshots, memberships.
-- Numbers are the keys inside; each long identifier stands once.

-- The one sequence of positions. Its row is locked while a batch is written, so that positions
-- become visible in order, whichever process writes.
CREATE TABLE stream (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint NOT NULL,
    batch bigint NOT NULL            -- a number of the last batch, so that a broken connection leaves no doubt
);
INSERT INTO stream (position, batch) VALUES (0, 0);

-- Every user id that this node has met, its own users and others'.
CREATE TABLE users (
    nid integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL UNIQUE
);

CREATE SEQUENCE room_nids AS integer;
CREATE TABLE rooms (
    nid integer PRIMARY KEY,
    room_id text NOT NULL UNIQUE,
    version text NOT NULL,
    generation bigint NOT NULL,      -- how often the row was written; compared at each write
    snapshot integer NOT NULL,       -- number of the current state's snapshot
    extremities bigint[] NOT NULL,   -- forward extremities, as event numbers
    summary jsonb NOT NULL           -- what directories and hierarchies show of the room
) WITH (fillfactor = 70);

-- nid: the log position of events that arrived live; negative for events fetched from the past.
CREATE TABLE events (
    nid bigint PRIMARY KEY,
    depth bigint NOT NULL,
    origin_server_ts bigint NOT NULL,
    replaces bigint,                 -- the state event that this one replaced
    redacted_by bigint,              -- the redaction; json is the redacted form then
    room_nid integer NOT NULL,
    snapshot integer NOT NULL,       -- state before the event
    device_nid integer,              -- device and transaction id of a local sender
    flags smallint NOT NULL DEFAULT 0,
    event_id text NOT NULL,
    type text NOT NULL,
    state_key text,
    txn_id text,
    json bytea NOT NULL              -- the exact signed event
);
CREATE UNIQUE INDEX events_event_id ON events (event_id);
CREATE INDEX events_by_position ON events (room_nid, nid);
CREATE INDEX events_by_depth ON events (room_nid, depth, nid);
CREATE INDEX events_by_time ON events (room_nid, origin_server_ts);
CREATE INDEX events_of_state ON events (room_nid, type, state_key, nid) WHERE state_key IS NOT NULL;
-- Client-Server API, "Transaction identifiers": scoped to the device and the path
CREATE UNIQUE INDEX events_of_transactions ON events (device_nid, txn_id, room_nid, type) WHERE txn_id IS NOT NULL;

-- State after some event, as a delta to an earlier snapshot: see homeserver/rooms/snapshots.py.
CREATE TABLE state_snapshots (
    room_nid integer NOT NULL,
    number integer NOT NULL,
    parent integer NOT NULL,         -- number of the snapshot below; 0 is the empty state
    height integer NOT NULL,
    event_nids bigint[] NOT NULL,
    PRIMARY KEY (room_nid, number)
);

CREATE TABLE memberships (
    user_nid integer NOT NULL REFERENCES users,
    room_nid integer NOT NULL,
    event_nid bigint NOT NULL,       -- the current membership event
    since bigint NOT NULL,           -- the position at which the membership took its present value
    membership text NOT NULL,
    forgotten boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_nid, room_nid)
);
CREATE INDEX memberships_of_rooms ON memberships (room_nid, membership);

CREATE TABLE event_relations (
    event_nid bigint PRIMARY KEY,
    room_nid integer NOT NULL,
    relates_to text NOT NULL,
    rel_type text NOT NULL,
    type text NOT NULL,
    sender text NOT NULL,
    key text                         -- of annotations
);
CREATE INDEX event_relations_of_targets ON event_relations (relates_to, rel_type, event_nid);
CREATE INDEX event_relations_of_rooms ON event_relations (room_nid, rel_type, event_nid);

CREATE TABLE receipts (
    room_nid integer NOT NULL,
    user_nid integer NOT NULL REFERENCES users,
    position bigint NOT NULL,
    event_nid bigint NOT NULL,       -- 0 while the event is not known here
    ts bigint NOT NULL,
    type text NOT NULL,
    thread_id text NOT NULL DEFAULT '',  -- '' for an unthreaded receipt
    event_id text NOT NULL,
    PRIMARY KEY (room_nid, user_nid, type, thread_id)
);
CREATE INDEX receipts_by_position ON receipts (room_nid, position);

-- Account data; room_nid 0 is the global one. Push rules and tags are account data too.
CREATE TABLE account_data (
    user_nid integer NOT NULL REFERENCES users,
    room_nid integer NOT NULL DEFAULT 0,
    position bigint NOT NULL,
    type text NOT NULL,
    content bytea NOT NULL,          -- JSON
    PRIMARY KEY (user_nid, room_nid, type)
);
CREATE INDEX account_data_by_position ON account_data (user_nid, position);
