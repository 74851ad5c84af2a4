-- End-to-end encryption: keys of devices and of users, and messages from device to device.
-- What belongs to a device goes with it: every table but the first two refers to `devices`.

-- When a user's device keys or cross-signing keys changed last; users of other servers too.
CREATE TABLE device_lists (
    user_nid integer PRIMARY KEY REFERENCES users,
    position bigint NOT NULL,
    stream_id bigint NOT NULL        -- of the last update that other servers were sent; 0: of none
);
CREATE INDEX device_lists_by_position ON device_lists (position);
CREATE SEQUENCE device_list_stream_ids AS bigint;

-- Devices with keys that were deleted or renamed, and nobody was told yet: written together with that.
CREATE TABLE untold_devices (
    user_nid integer NOT NULL REFERENCES users,
    device_id text NOT NULL,
    PRIMARY KEY (user_nid, device_id)
);

CREATE TABLE device_keys (
    device_nid integer PRIMARY KEY REFERENCES devices ON DELETE CASCADE,
    json bytea NOT NULL              -- as uploaded, with the signatures that everyone may see
);

-- A claimed key stays for a while, so that nobody can upload it again by repeating a request.
CREATE TABLE one_time_keys (
    nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- the order of upload
    claimed_ms bigint,
    device_nid integer NOT NULL REFERENCES devices ON DELETE CASCADE,
    algorithm text NOT NULL,
    key_id text NOT NULL,
    json bytea NOT NULL,
    UNIQUE (device_nid, algorithm, key_id)
);
CREATE INDEX one_time_keys_unclaimed ON one_time_keys (device_nid, algorithm, nid) WHERE claimed_ms IS NULL;
CREATE INDEX one_time_keys_claimed ON one_time_keys (claimed_ms) WHERE claimed_ms IS NOT NULL;

CREATE TABLE fallback_keys (
    device_nid integer NOT NULL REFERENCES devices ON DELETE CASCADE,
    is_used boolean NOT NULL DEFAULT false,
    algorithm text NOT NULL,
    key_id text NOT NULL,
    json bytea NOT NULL,
    PRIMARY KEY (device_nid, algorithm)
);

-- usage: master, self_signing, user_signing. Of other servers' users, the first two.
CREATE TABLE cross_signing_keys (
    user_nid integer NOT NULL REFERENCES users,
    usage text NOT NULL,
    json bytea NOT NULL,             -- with the signatures that everyone may see
    PRIMARY KEY (user_nid, usage)
);

-- What users' user-signing keys say of others' master keys. Only the signer is told.
CREATE TABLE user_signatures (
    position bigint NOT NULL,
    signer_nid integer NOT NULL REFERENCES users,
    target_nid integer NOT NULL REFERENCES users,
    master_key text NOT NULL,        -- that was signed, as it names itself: unpadded Base64
    key_id text NOT NULL,            -- of the user-signing key
    signature text NOT NULL,
    PRIMARY KEY (signer_nid, target_nid, key_id)
);

CREATE TABLE to_device_messages (
    position bigint NOT NULL,
    device_nid integer NOT NULL REFERENCES devices ON DELETE CASCADE,
    event bytea NOT NULL,            -- JSON, as its device is shown it
    PRIMARY KEY (device_nid, position)
);

-- Requests that were done, so that repeating one sends nothing twice; kept for a day.
CREATE TABLE to_device_transactions (
    sent_ms bigint NOT NULL,
    device_nid integer NOT NULL REFERENCES devices ON DELETE CASCADE,
    type text NOT NULL,
    txn_id text NOT NULL,
    PRIMARY KEY (device_nid, type, txn_id)
);
CREATE INDEX to_device_transactions_by_age ON to_device_transactions (sent_ms);

-- A device that nobody is logged in on, which collects keys for its owner's next one (MSC3814).
CREATE TABLE dehydrated_devices (
    user_nid integer PRIMARY KEY REFERENCES accounts,
    device_nid integer NOT NULL UNIQUE REFERENCES devices ON DELETE CASCADE,
    data bytea NOT NULL              -- JSON
);
