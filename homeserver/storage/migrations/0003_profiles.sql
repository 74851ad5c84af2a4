-- Profiles, the index that the user directory is searched by, and sync filters.

CREATE TABLE profiles (
    user_nid integer PRIMARY KEY REFERENCES users,
    changes integer NOT NULL DEFAULT 0,     -- of displayname and avatar_url, counted
    propagated integer NOT NULL DEFAULT 0,  -- the count that the user's rooms were told of
    displayname text,
    avatar_url text,
    fields bytea NOT NULL DEFAULT '{}'      -- all other fields, a JSON object
);
CREATE INDEX profiles_to_propagate ON profiles (user_nid) WHERE propagated <> changes;

-- The words of display names, as homeserver/storage/user_directory.py folds them.
CREATE TABLE profile_words (
    word text COLLATE "C" NOT NULL,
    user_nid integer NOT NULL REFERENCES users,
    PRIMARY KEY (word, user_nid)
);
CREATE INDEX profile_words_of_users ON profile_words (user_nid);
CREATE INDEX users_by_prefix ON users (lower(user_id) COLLATE "C");

-- A filter never changes once it has a number, so it may be kept in memory for ever.
CREATE TABLE filters (
    user_nid integer NOT NULL REFERENCES users,
    number integer NOT NULL,
    sha256 bytea NOT NULL,                  -- of the definition, to give the same filter the same number
    definition bytea NOT NULL,              -- JSON
    PRIMARY KEY (user_nid, number)
);
CREATE UNIQUE INDEX filters_by_content ON filters (user_nid, sha256);
