-- Keys are claimed in the order of upload, so what is claimed of a device's keys of an algorithm is all up to a
-- number: a claim moves that number on, and writes nothing to the keys or their indexes. Claimed keys stay for a
-- while, so that nobody can upload them again by repeating a request: what is noted as claimed is deleted later.
-- A process of the release before can claim nothing beside this: it would give the same keys once more.

CREATE TABLE claimed_keys (
    device_nid integer NOT NULL,
    upto_nid bigint NOT NULL,
    noted_nid bigint NOT NULL DEFAULT 0,  -- all up to it had been claimed at noted_ms
    noted_ms bigint,                      -- NULL: what was noted is deleted
    algorithm text NOT NULL,
    PRIMARY KEY (device_nid, algorithm)
) WITH (fillfactor = 50);                 -- rows change often, and stay where they are if there is room

INSERT INTO claimed_keys (device_nid, algorithm, upto_nid)
SELECT device_nid, algorithm, max(nid) FROM one_time_keys WHERE claimed_ms IS NOT NULL
GROUP BY device_nid, algorithm;

ALTER TABLE one_time_keys DROP COLUMN claimed_ms;  -- with the indexes over it
-- Of all keys: the condition keeps the planner from looking for names by it, while it knows nothing of the table.
CREATE INDEX one_time_keys_by_number ON one_time_keys (device_nid, algorithm, nid) WHERE nid > 0;
