-- What is written by the hundred in a request refers to devices without the database's checking it row by row:
-- a device's number never comes again, so what is left of one that went at the same moment is nobody's, and is
-- swept. Keys are found by their names; a number beside them only orders them.

ALTER TABLE to_device_messages DROP CONSTRAINT to_device_messages_device_nid_fkey;
ALTER TABLE to_device_transactions DROP CONSTRAINT to_device_transactions_device_nid_fkey;
ALTER TABLE fallback_keys DROP CONSTRAINT fallback_keys_device_nid_fkey;
ALTER TABLE one_time_keys DROP CONSTRAINT one_time_keys_device_nid_fkey, DROP CONSTRAINT one_time_keys_pkey;
