-- Events that users have scheduled (MSC4140): what is due is sent, and deleted here. Times are milliseconds
-- since 1970.
CREATE TABLE delayed_events (
    nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    send_at_ms bigint NOT NULL,
    started_ms bigint NOT NULL,      -- when it was scheduled or restarted
    delay_ms bigint NOT NULL,
    position bigint NOT NULL,        -- of the log when it was scheduled: newer state counts more
    user_nid integer NOT NULL REFERENCES accounts,
    device_nid integer NOT NULL,
    room_nid integer NOT NULL REFERENCES rooms,
    delay_id text NOT NULL UNIQUE,
    type text NOT NULL,
    state_key text,
    txn_id text,                     -- of a message's sending
    content bytea NOT NULL           -- JSON
) WITH (fillfactor = 80);
CREATE INDEX delayed_events_by_time ON delayed_events (send_at_ms);
CREATE INDEX delayed_events_of_users ON delayed_events (user_nid);
CREATE UNIQUE INDEX delayed_events_of_transactions ON delayed_events (device_nid, txn_id, room_nid, type)
    WHERE txn_id IS NOT NULL;
