-- What other servers published about themselves.

CREATE TABLE server_keys (
    server_name text PRIMARY KEY,
    document bytea NOT NULL,      -- the newest key document, as its server signed it
    retired bytea NOT NULL,       -- keys of earlier documents that it no longer lists: old_verify_keys' form
    fetched_ms bigint NOT NULL
);
