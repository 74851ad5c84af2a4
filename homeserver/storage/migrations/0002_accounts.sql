-- Accounts of this node's users, their devices and tokens. Times are milliseconds since 1970.

CREATE TABLE accounts (
    user_nid integer PRIMARY KEY REFERENCES users,
    created_ms bigint NOT NULL,
    is_admin boolean NOT NULL DEFAULT false,
    is_guest boolean NOT NULL DEFAULT false,
    is_locked boolean NOT NULL DEFAULT false,
    is_suspended boolean NOT NULL DEFAULT false,
    is_deactivated boolean NOT NULL DEFAULT false,
    is_erased boolean NOT NULL DEFAULT false,     -- newcomers to rooms are served redacted events
    is_departing boolean NOT NULL DEFAULT false,  -- deactivated, but has rooms still to leave
    user_type text,
    password_hash text                            -- argon2id, encoded; NULL: no login by password
) WITH (fillfactor = 80);
CREATE INDEX accounts_departing ON accounts (user_nid) WHERE is_departing;

-- A nid is never used again, so that transaction ids of a deleted device cannot come back.
CREATE TABLE devices (
    nid integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_nid integer NOT NULL REFERENCES accounts,
    created_ms bigint NOT NULL,
    last_seen_ms bigint,
    device_id text NOT NULL,
    display_name text,
    last_seen_address text,
    last_seen_agent text,
    UNIQUE (user_nid, device_id)
) WITH (fillfactor = 80);

-- An access token and the refresh token that was handed out with it; only their SHA-256 is known.
CREATE TABLE access_tokens (
    nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    expires_ms bigint,               -- NULL: never
    refresh_expires_ms bigint,
    previous bigint,                 -- the row that this one replaces, until it is first used
    device_nid integer NOT NULL REFERENCES devices ON DELETE CASCADE,
    is_revoked boolean NOT NULL DEFAULT false,    -- replaced: kept to answer with a soft logout
    access_digest bytea NOT NULL UNIQUE,
    refresh_digest bytea
);
CREATE INDEX access_tokens_of_devices ON access_tokens (device_nid);
CREATE UNIQUE INDEX access_tokens_refresh ON access_tokens (refresh_digest) WHERE refresh_digest IS NOT NULL;

-- Short-lived tokens that prove something else: `login` logs a device in once, `openid` names the user.
CREATE TABLE proof_tokens (
    digest bytea PRIMARY KEY,
    expires_ms bigint NOT NULL,
    user_nid integer NOT NULL REFERENCES accounts,
    purpose text NOT NULL
);
CREATE INDEX proof_tokens_by_expiry ON proof_tokens (expires_ms);
CREATE INDEX proof_tokens_of_users ON proof_tokens (user_nid);
