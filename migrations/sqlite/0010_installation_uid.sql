-- Tells this installation from others, so that nodes of two don't take each other for parts of one cluster.

ALTER TABLE installation ADD COLUMN uid TEXT;
UPDATE installation SET uid = lower(hex(randomblob(16)));
