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

-- A partition without a row resets nobody, as it comes and as it goes. (t.sync() complains if a device ends up with anything but what its role may SELECT.)
CREATE TABLE docs (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (10) TO (20);
INSERT INTO docs VALUES (10, 'x');
GRANT SELECT ON docs TO bob;
SELECT snapsync.enable('docs');
SELECT t.sync('bob', 'docs');
CREATE TABLE docs_2 PARTITION OF docs FOR VALUES FROM (20) TO (30);
SELECT t.sync('bob', 'docs');
CREATE TABLE docs_3 (note text, id int NOT NULL);
ALTER TABLE docs ATTACH PARTITION docs_3 FOR VALUES FROM (30) TO (40);
SELECT t.sync('bob', 'docs');
INSERT INTO docs VALUES (20, 'x'), (30, 'x');
INSERT INTO docs_3 VALUES ('x', 31);
SELECT t.sync('bob', 'docs');
-- Their rows are told of one by one, also those that go in the same transaction.
DELETE FROM docs WHERE id = 20;
ALTER TABLE docs DETACH PARTITION docs_2;
SELECT t.sync('bob', 'docs');
BEGIN;
DELETE FROM docs_3 WHERE id = 30;
UPDATE docs SET id = 11 WHERE id = 31;
DROP TABLE docs_3;
COMMIT;
SELECT t.sync('bob', 'docs');
BEGIN;
CREATE TABLE docs_3 PARTITION OF docs FOR VALUES FROM (30) TO (40);
INSERT INTO docs VALUES (30, 'x');
COMMIT;
SELECT t.sync('bob', 'docs');
BEGIN;
INSERT INTO docs VALUES (32, 'x');
DELETE FROM docs WHERE id > 29;
DROP TABLE docs_3;
COMMIT;
SELECT t.sync('bob', 'docs');
-- With rows they reset, whoever has written those; and what is attached with dead ones, too, which an older snapshot may see yet.
ALTER TABLE docs ATTACH PARTITION docs_2 FOR VALUES FROM (20) TO (30);
SELECT t.sync('bob', 'docs');
ALTER TABLE docs DETACH PARTITION docs_2;
TRUNCATE docs_2;
ALTER TABLE docs ATTACH PARTITION docs_2 FOR VALUES FROM (20) TO (30);
SELECT t.sync('bob', 'docs');
BEGIN;
CREATE TABLE docs_3 (LIKE docs);
INSERT INTO docs_3 VALUES (30, 'x');
ALTER TABLE docs ATTACH PARTITION docs_3 FOR VALUES FROM (30) TO (40);
COMMIT;
SELECT t.sync('bob', 'docs');
BEGIN;
ALTER TABLE docs DETACH PARTITION docs_3;
DELETE FROM docs_3;
COMMIT;
SELECT t.sync('bob', 'docs');
BEGIN;
ALTER TABLE docs DETACH PARTITION docs_1;
DELETE FROM docs_1 WHERE id = 10;
ALTER TABLE docs ATTACH PARTITION docs_1 FOR VALUES FROM (10) TO (20);
COMMIT;
SELECT t.sync('bob', 'docs');
-- What was seen before it was taken back says nothing of later.
BEGIN;
SAVEPOINT s;
DROP TABLE docs_2;
ROLLBACK TO s;
INSERT INTO docs VALUES (20, 'x');
DROP TABLE docs_2;
COMMIT;
SELECT t.sync('bob', 'docs');
BEGIN;
CREATE TABLE docs_2 PARTITION OF docs FOR VALUES FROM (20) TO (30);
SAVEPOINT s;
INSERT INTO docs VALUES (20, 'x');
ROLLBACK TO s;
ALTER TABLE docs DETACH PARTITION docs_2;
DROP TABLE docs_2;
COMMIT;
SELECT t.sync('bob', 'docs');
-- Partitions of partitions; a schema that goes with one.
CREATE TABLE docs_4 PARTITION OF docs FOR VALUES FROM (40) TO (50) PARTITION BY RANGE (id);
CREATE TABLE docs_41 PARTITION OF docs_4 FOR VALUES FROM (40) TO (50);
CREATE TABLE docs_5 (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
CREATE TABLE docs_51 PARTITION OF docs_5 FOR VALUES FROM (50) TO (55);
CREATE TABLE docs_52 PARTITION OF docs_5 FOR VALUES FROM (55) TO (60);
ALTER TABLE docs ATTACH PARTITION docs_5 FOR VALUES FROM (50) TO (60);
SELECT t.sync('bob', 'docs');
CREATE SCHEMA tenant CREATE TABLE docs_6 PARTITION OF public.docs FOR VALUES FROM (60) TO (70);
SELECT t.sync('bob', 'docs');
INSERT INTO docs VALUES (40, 'x'), (50, 'x'), (55, 'x'), (60, 'x');
SELECT t.sync('bob', 'docs');
DELETE FROM docs WHERE id >= 50;
ALTER TABLE docs DETACH PARTITION docs_5;
SELECT t.sync('bob', 'docs');
SET client_min_messages = warning;
DROP SCHEMA tenant CASCADE;
RESET client_min_messages;
DELETE FROM docs WHERE id = 40;
DROP TABLE docs_4;
SELECT t.sync('bob', 'docs');
INSERT INTO docs_5 VALUES (56, 'x');
ALTER TABLE docs ATTACH PARTITION docs_5 FOR VALUES FROM (50) TO (60);
SELECT t.sync('bob', 'docs');
DROP TABLE docs_51;
SELECT t.sync('bob', 'docs');
DROP TABLE docs_5;
SELECT t.sync('bob', 'docs');
-- Where more comes with it than rows it is as it was: row-level security of its own, triggers that are off.
CREATE TABLE docs_7 (LIKE docs);
ALTER TABLE docs_7 ENABLE ROW LEVEL SECURITY;
ALTER TABLE docs ATTACH PARTITION docs_7 FOR VALUES FROM (70) TO (80);
SELECT t.sync('bob', 'docs');
SET client_min_messages = error;
ALTER TABLE docs_7 DISABLE TRIGGER USER;
SELECT t.sync('bob', 'docs');
INSERT INTO docs VALUES (70, 'untold');
DELETE FROM docs WHERE id = 70;
DROP TABLE docs_7;
RESET client_min_messages;
SELECT t.sync('bob', 'docs');
-- A renamed one has another name in the shape, with or without rows.
CREATE TABLE docs_8 PARTITION OF docs FOR VALUES FROM (80) TO (90);
ALTER TABLE docs_8 RENAME TO docs_eight;
SELECT t.sync('bob', 'docs');
-- Nobody looked, and did not see the rows go.
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
INSERT INTO docs VALUES (80, 'x');
SELECT t.sync('bob', 'docs');
ALTER TABLE docs DETACH PARTITION docs_eight;
DELETE FROM docs_eight;
ALTER EVENT TRIGGER snapsync_command_end ENABLE ALWAYS;
CREATE TABLE docs_9 PARTITION OF docs FOR VALUES FROM (90) TO (100);
SELECT t.sync('bob', 'docs');
-- So many dead rows nobody goes through while all wait.
ALTER TABLE docs_9 ALTER note SET STORAGE PLAIN;
INSERT INTO docs SELECT 90 + n, repeat('x', 7000) FROM generate_series(0, 9) AS n;
SELECT count(t.sync('bob', 'docs'));
DO $$ BEGIN FOR i IN 1 .. 40 LOOP UPDATE docs_9 SET note = repeat('y', 7000) || i; END LOOP; END $$;
SELECT pg_relation_size('docs_9') > 256 * 8192 AS long;
DELETE FROM docs_9;
SELECT count(t.sync('bob', 'docs'));
DROP TABLE docs_9;
SELECT t.sync('bob', 'docs');

-- With foreign keys, both ways.
CREATE TABLE orgs (id int PRIMARY KEY);
INSERT INTO orgs VALUES (1), (2);
CREATE TABLE files (id int PRIMARY KEY, org int REFERENCES orgs ON DELETE CASCADE) PARTITION BY RANGE (id);
CREATE TABLE files_1 PARTITION OF files FOR VALUES FROM (10) TO (20);
CREATE TABLE links (id int PRIMARY KEY, file int REFERENCES files ON DELETE CASCADE);
GRANT SELECT ON files TO bob;
SELECT snapsync.enable('files');
INSERT INTO files VALUES (10, 1);
SELECT t.sync('bob', 'files');
CREATE TABLE files_2 PARTITION OF files FOR VALUES FROM (20) TO (30);
INSERT INTO files VALUES (20, 2);
INSERT INTO links VALUES (1, 20);
SELECT t.sync('bob', 'files');
DELETE FROM orgs WHERE id = 2;
ALTER TABLE files DETACH PARTITION files_2;
SELECT t.sync('bob', 'files');
TRUNCATE files_2;
ALTER TABLE files ATTACH PARTITION files_2 FOR VALUES FROM (20) TO (30);
SELECT t.sync('bob', 'files');

-- A table that policies read: nobody gains or loses anything by a partition that nobody is in.
CREATE TABLE staff (org int, who name, PRIMARY KEY (org, who)) PARTITION BY LIST (org);
CREATE TABLE staff_1 PARTITION OF staff FOR VALUES IN (1);
CREATE TABLE cases (id int PRIMARY KEY, org int);
ALTER TABLE cases ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON cases USING (org IN (SELECT org FROM staff WHERE who = current_user));
GRANT SELECT ON staff, cases TO bob;
SET client_min_messages = warning;
SELECT snapsync.enable('cases');
RESET client_min_messages;
INSERT INTO staff VALUES (1, 'bob');
INSERT INTO cases SELECT 10 + n, 1 FROM generate_series(0, 8) AS n;
INSERT INTO cases VALUES (20, 2);
SELECT t.sync('bob', 'cases');
CREATE TABLE staff_2 PARTITION OF staff FOR VALUES IN (2);
SELECT t.sync('bob', 'cases');
INSERT INTO staff VALUES (2, 'bob');
SELECT t.sync('bob', 'cases');
DELETE FROM staff_2;
SELECT t.sync('bob', 'cases');
DROP TABLE staff_2;
SELECT t.sync('bob', 'cases');
CREATE TABLE staff_2 (LIKE staff);
INSERT INTO staff_2 VALUES (2, 'bob');
ALTER TABLE staff ATTACH PARTITION staff_2 FOR VALUES IN (2);
SELECT t.sync('bob', 'cases');
DROP TABLE staff_2;
SELECT t.sync('bob', 'cases');
