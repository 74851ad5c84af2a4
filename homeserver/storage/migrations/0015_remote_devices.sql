-- Device lists of other servers' users, as far as they are known, and what came from other servers' devices.

CREATE TABLE remote_device_lists (
    user_nid integer PRIMARY KEY REFERENCES users,
    position bigint NOT NULL DEFAULT 0,    -- of the log when the list was asked for: it is kept up to date for
                                           -- whoever shared a room with the user then, and has ever since
    stream_id bigint NOT NULL DEFAULT 0,   -- of the last update that was taken in
    snapshot_id bigint NOT NULL DEFAULT 0, -- up to which the list was complete when it was asked for
    updates bigint NOT NULL DEFAULT 0,     -- counted while the list is being asked for
    retry_at_ms bigint NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,   -- of asking for it, in a row
    is_stale boolean NOT NULL DEFAULT true -- an update is missing, or nothing is known yet: to be asked for
) WITH (fillfactor = 80);
CREATE INDEX remote_device_lists_to_ask_for ON remote_device_lists (retry_at_ms) WHERE is_stale;

CREATE TABLE remote_devices (
    user_nid integer NOT NULL REFERENCES remote_device_lists ON DELETE CASCADE,
    device_id text NOT NULL,
    json bytea NOT NULL,                   -- identity keys, with the device's name as `unsigned`
    PRIMARY KEY (user_nid, device_id)
);

-- Messages to devices that were taken in, so that none comes twice; kept for a month.
CREATE TABLE received_messages (
    received_ms bigint NOT NULL,
    origin text NOT NULL,
    message_id text NOT NULL,
    PRIMARY KEY (origin, message_id)
);
CREATE INDEX received_messages_by_age ON received_messages (received_ms);
