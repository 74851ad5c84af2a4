-- Events from other servers: those that came from the past, and what resolution changed.

-- Numbers of events that did not arrive live: outliers, refused events, history fetched later.
CREATE SEQUENCE past_nids AS bigint INCREMENT BY -1 MAXVALUE -1 START WITH -1;

-- State that became current at a position without being the event of that position.
CREATE TABLE state_changes (
    room_nid integer NOT NULL,
    position bigint NOT NULL,
    event_nids bigint[] NOT NULL,
    PRIMARY KEY (room_nid, position)
);

-- Redactions that came before their target.
CREATE TABLE pending_redactions (
    redacts text NOT NULL,
    event_nid bigint NOT NULL,
    PRIMARY KEY (redacts, event_nid)
);
