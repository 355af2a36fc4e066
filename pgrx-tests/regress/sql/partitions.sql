-- Partitioned tables: tracked and pulled as one collection.
\set ECHO none
\set test regress_partitions
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE events (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE events_eu PARTITION OF events FOR VALUES IN ('eu');
-- A partition whose columns stand in another order.
CREATE TABLE events_us (region text NOT NULL, dropped int, n int, id int NOT NULL);
ALTER TABLE events_us DROP COLUMN dropped;
ALTER TABLE events ATTACH PARTITION events_us FOR VALUES IN ('us');
CREATE TABLE events_rest PARTITION OF events DEFAULT PARTITION BY RANGE (id);
CREATE TABLE events_rest_1 PARTITION OF events_rest FOR VALUES FROM (0) TO (100);
SELECT snapsync.enable('events');
SELECT t.catch_up('events');

INSERT INTO events VALUES (1, 'eu', 1), (1, 'us', 1), (1, 'cn', 1);
INSERT INTO events_us (id, region, n) VALUES (2, 'us', 2);
INSERT INTO events_rest_1 VALUES (3, 'in', 3);
SELECT * FROM t.log();
SELECT * FROM t.pull('{events}');
SELECT * FROM t.pull('{events}', NULL, dialect => 'watermelondb');

-- Through the root or a leaf; a row that moves to another partition has another key here.
UPDATE events SET n = n + 10 WHERE id = 1;
UPDATE events_rest_1 SET n = 33;
UPDATE events SET region = 'eu' WHERE id = 2;
DELETE FROM events_us;
SELECT * FROM t.pull('{events}');

CREATE TABLE parcels (id int, zone int, note text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parcels_1 PARTITION OF parcels FOR VALUES FROM (0) TO (10);
CREATE TABLE parcels_2 PARTITION OF parcels FOR VALUES FROM (10) TO (20);
SELECT snapsync.enable('parcels');
INSERT INTO parcels VALUES (1, 1, 'x');
SELECT t.catch_up('parcels');
UPDATE parcels SET id = 11;
SELECT * FROM t.pull('{parcels}');
BEGIN; UPDATE parcels SET id = 1; UPDATE parcels SET id = 11; COMMIT;
SELECT what, item FROM t.pull('{parcels}');

-- A new partition is tracked from its first row.
CREATE TABLE parcels_3 PARTITION OF parcels FOR VALUES FROM (20) TO (30);
SELECT t.catch_up('parcels');
INSERT INTO parcels VALUES (21, 1, 'new'), (22, 1, 'new');
SELECT * FROM t.pull('{parcels}');
-- TRUNCATE: of the root, of one partition, of one that came later.
TRUNCATE parcels_3;
SELECT * FROM t.pull('{parcels}');
TRUNCATE parcels_2;
SELECT * FROM t.pull('{parcels}');
INSERT INTO parcels VALUES (2, 2, 'y');
SELECT t.catch_up('parcels');
TRUNCATE parcels;
SELECT * FROM t.pull('{parcels}');
INSERT INTO parcels VALUES (2, 2, 'y'), (12, 2, 'y');
SELECT t.catch_up('parcels');
-- Detached: its rows are gone for clients. Attached: there again.
ALTER TABLE parcels DETACH PARTITION parcels_1;
SELECT * FROM t.pull('{parcels}');
INSERT INTO parcels_1 VALUES (3, 3, 'not synced');
ALTER TABLE parcels ATTACH PARTITION parcels_1 FOR VALUES FROM (0) TO (10);
SELECT * FROM t.pull('{parcels}');
UPDATE parcels SET note = 'z' WHERE id = 3;
SELECT * FROM t.pull('{parcels}');
DROP TABLE parcels_2;
SELECT * FROM t.pull('{parcels}');

-- Tracked also as the apply worker of logical replication, which writes to the leaves.
SET session_replication_role = replica;
INSERT INTO parcels_3 VALUES (25, 1, 'applied');
RESET session_replication_role;
SELECT * FROM t.pull('{parcels}');

-- push through the root.
SELECT push_changes('{"parcels": {"created": [{"id": 26, "zone": 1, "note": "pushed"}], "updated": [{"id": 25, "note": "u"}], "deleted": ["2"]}}');
SELECT * FROM parcels ORDER BY id;
-- What somebody has switched off, on one partition or on the root alone, stays so where the triggers are made anew, and nothing else is.
CREATE VIEW t.switched AS SELECT tgrelid::regclass, tgname, tgenabled, tgargs = (SELECT tgargs FROM pg_trigger WHERE tgrelid = 'parcels'::regclass AND tgname = '00_snapsync_track') AS same
FROM pg_trigger WHERE tgname LIKE '%snapsync%' AND tgrelid::regclass::text LIKE 'parcels%' ORDER BY tgrelid::regclass::text, tgname;
ALTER TABLE parcels_1 DISABLE TRIGGER "00_snapsync_track";
ALTER TABLE parcels_3 DISABLE TRIGGER "00_snapsync_truncate";
ALTER TABLE parcels ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON parcels USING (zone > 0);
SELECT * FROM t.switched;
ALTER TABLE ONLY parcels DISABLE TRIGGER "00_snapsync_track";
ALTER POLICY p ON parcels USING (zone > 0 AND note <> '');
SELECT * FROM t.switched;
SELECT snapsync.enable('parcels');
SELECT * FROM t.switched;
-- The state is that of all parts: with one trigger off, or gone behind our back, changes are lost.
CREATE TABLE parcels_4 PARTITION OF parcels FOR VALUES FROM (30) TO (40) PARTITION BY RANGE (id);
CREATE TABLE parcels_41 PARTITION OF parcels_4 FOR VALUES FROM (30) TO (35);
SET client_min_messages = error;
SELECT state FROM snapsync.status WHERE name = 'parcels';
ALTER TABLE parcels_41 DISABLE TRIGGER "00_snapsync_track";
SELECT state FROM snapsync.status WHERE name = 'parcels';
ALTER TABLE parcels_41 ENABLE TRIGGER "00_snapsync_track";
ALTER TABLE parcels_4 DISABLE TRIGGER "00_snapsync_truncate";
SELECT state FROM snapsync.status WHERE name = 'parcels';
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
ALTER TABLE parcels_4 ENABLE TRIGGER "00_snapsync_truncate";
ALTER EVENT TRIGGER snapsync_command_end ENABLE ALWAYS;
SELECT state FROM snapsync.status WHERE name = 'parcels';
SELECT snapsync.enable('parcels');
SELECT state FROM snapsync.status WHERE name = 'parcels';
ALTER EVENT TRIGGER snapsync_drop DISABLE;
DROP TRIGGER "00_snapsync_truncate" ON parcels_41;
ALTER EVENT TRIGGER snapsync_drop ENABLE ALWAYS;
SELECT state FROM snapsync.status WHERE name = 'parcels';
SELECT snapsync.enable('parcels');
SELECT state FROM snapsync.status WHERE name = 'parcels';
RESET client_min_messages;
SELECT snapsync.disable('parcels');
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE '%snapsync%' AND tgrelid::regclass::text LIKE 'parcels%';

-- A part of somebody else's, who gives it parts of its own: they have our triggers, which CREATE TRIGGER would let him make; or the table waits for who may.
CREATE TABLE fields (id int, zone int, PRIMARY KEY (zone, id)) PARTITION BY LIST (zone);
CREATE TABLE fields_1 PARTITION OF fields FOR VALUES IN (1) PARTITION BY RANGE (id);
ALTER TABLE fields ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON fields USING (true);
GRANT SELECT ON fields TO bob;
SELECT snapsync.enable('fields');
CREATE SCHEMA of_alice AUTHORIZATION alice;
ALTER TABLE fields_1 OWNER TO alice;
SET ROLE alice;
CREATE TABLE of_alice.fields_11 PARTITION OF fields_1 FOR VALUES FROM (0) TO (10);
CREATE TABLE of_alice.fields_12 (id int NOT NULL, zone int NOT NULL);
ALTER TABLE fields_1 ATTACH PARTITION of_alice.fields_12 FOR VALUES FROM (10) TO (20);
INSERT INTO of_alice.fields_11 VALUES (1, 1);
INSERT INTO of_alice.fields_12 VALUES (11, 1);
RESET ROLE;
CREATE VIEW t.tracked AS SELECT tgrelid::regclass AS part, count(*) FROM pg_trigger WHERE tgname ~ 'snapsync_t' AND tgrelid::regclass::text ~ 'fields' GROUP BY tgrelid ORDER BY tgrelid::regclass::text COLLATE "C";
SELECT * FROM t.tracked;
SELECT t.sync('bob', 'fields');
SELECT t.sync('bob', 'fields');
SET ROLE alice;
TRUNCATE of_alice.fields_11;
RESET ROLE;
SELECT t.sync('bob', 'fields');
-- What he alters besides is no veil.
SET ROLE alice;
ALTER TABLE of_alice.fields_12 ENABLE REPLICA TRIGGER "00_snapsync_track", ENABLE ROW LEVEL SECURITY;
RESET ROLE;
SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'of_alice.fields_12'::regclass AND tgname ~ 'snapsync_t';
SELECT t.sync('bob', 'fields');
SET ROLE alice;
CREATE TABLE of_alice.fields_13 PARTITION OF fields_1 FOR VALUES FROM (20) TO (30);
REVOKE TRIGGER ON of_alice.fields_13 FROM alice;
RESET ROLE;
ALTER EVENT TRIGGER snapsync_drop DISABLE;
DROP TRIGGER "00_snapsync_truncate" ON of_alice.fields_13;
ALTER EVENT TRIGGER snapsync_drop ENABLE ALWAYS;
SET ROLE alice;
ALTER TABLE of_alice.fields_13 ENABLE ROW LEVEL SECURITY;
RESET ROLE;
SELECT * FROM t.tracked;
SELECT t.sync('bob', 'fields'), t.sync('bob', 'fields');
ALTER TABLE fields ALTER id SET STATISTICS 10;
SELECT * FROM t.tracked;
SELECT t.sync('bob', 'fields'), t.sync('bob', 'fields');

-- Who owns a part, and may not change the whole's triggers, leaves what these say where it is more than they must.
CREATE TABLE acc (id int PRIMARY KEY, who text) PARTITION BY RANGE (id);
CREATE TABLE acc_1 PARTITION OF acc DEFAULT;
CREATE TABLE follows (id int PRIMARY KEY, acc int REFERENCES acc);
ALTER TABLE follows ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON follows USING (EXISTS (SELECT FROM acc WHERE acc.id = follows.acc AND who = current_user));
CREATE POLICY q ON follows USING (false);
GRANT SELECT, REFERENCES ON acc, follows TO bob, carol;
SELECT snapsync.enable('acc'), snapsync.enable('follows');
ALTER TABLE follows OWNER TO carol;
ALTER TABLE acc_1 OWNER TO alice;
SET ROLE carol;
DROP POLICY p ON follows;
RESET ROLE;
SELECT encode(tgargs, 'escape') ~ 'parent' AS says_more FROM pg_trigger WHERE tgrelid = 'acc'::regclass AND tgname = '00_snapsync_track';
SELECT count(*) FROM t.sync('bob', 'acc');
SET ROLE alice;
ALTER TABLE acc_1 ALTER who SET STATISTICS 11;
ALTER TABLE acc_1 ALTER who SET STATISTICS 12;
ALTER TABLE acc_1 ALTER who SET STATISTICS 13;
RESET ROLE;
SELECT name FROM snapsync.dependency WHERE classid = 0 AND relation::oid <> 0;
SELECT t.sync('bob', 'acc');
