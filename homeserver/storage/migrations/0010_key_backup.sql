-- Server-side key backups: room keys that a user's devices keep here, encrypted. Source: Client-Server API,
-- "Server-side key backups".

-- The newest version of a user stays as a row when it is deleted, so that no version number comes again.
CREATE TABLE key_backups (
    user_nid integer NOT NULL REFERENCES accounts,
    version bigint NOT NULL,
    etag bigint NOT NULL DEFAULT 0,               -- how often its keys have changed
    session_count bigint NOT NULL DEFAULT 0,
    is_deleted boolean NOT NULL DEFAULT false,
    algorithm text NOT NULL,
    auth_data bytea NOT NULL,                     -- JSON
    PRIMARY KEY (user_nid, version)
) WITH (fillfactor = 80);

CREATE TABLE key_backup_sessions (
    user_nid integer NOT NULL,
    version bigint NOT NULL,
    first_message_index bigint NOT NULL,
    forwarded_count bigint NOT NULL,
    is_verified boolean NOT NULL,
    room_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    session_data bytea NOT NULL,                  -- JSON
    PRIMARY KEY (user_nid, version, room_id, session_id),
    FOREIGN KEY (user_nid, version) REFERENCES key_backups ON DELETE CASCADE
);
