-- Threads that users subscribed to, or unsubscribed from: what an automatic subscription must not undo.
CREATE TABLE thread_subscriptions (
    position bigint NOT NULL,        -- of the last change
    user_nid integer NOT NULL REFERENCES users,
    room_nid integer NOT NULL,
    is_subscribed boolean NOT NULL,
    is_automatic boolean NOT NULL,
    root_id text NOT NULL,           -- event id of the thread's root
    PRIMARY KEY (user_nid, room_nid, root_id)
);
CREATE INDEX thread_subscriptions_by_position ON thread_subscriptions (user_nid, position);
