-- What makes an EDU superfluous for servers that have not got it yet: a later one of the same name. NULL where
-- every one counts.

ALTER TABLE federation_outbox ADD COLUMN edu_replaces text;
