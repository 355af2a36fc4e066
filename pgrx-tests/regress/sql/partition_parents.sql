-- Parents where one of the two tables is partitioned: PostgreSQL makes keys of its own for the partitions, with triggers of their own, which may
-- be off while those of the whole are on. (t.sync() complains if a device ends up with anything but what its role may SELECT.)
\set ECHO none
\set test regress_partition_parents
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
CREATE FUNCTION t.kinds(name text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s', access::regclass, kind), ', ' ORDER BY access::regclass::text COLLATE "C")
    FROM snapsync.access WHERE relation = name::regclass $$;
-- A table of which alice sees the rows whose project is hers. (Of a partitioned one the key comes with it.)
CREATE FUNCTION t.hangs(name text, on_table text, policy text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %1$I ENABLE ROW LEVEL SECURITY;
                    GRANT SELECT ON %1$I, %2$I TO PUBLIC;
                    CREATE POLICY p ON %1$I USING (%3$s)',
                   name, on_table, coalesce(policy, format('project IN (SELECT id FROM %I WHERE usr = current_user)', on_table)));
    PERFORM snapsync.enable(name::regclass);
END
$$;
CREATE FUNCTION t.said(name text) RETURNS TABLE (severity text, finding text, fix text) LANGUAGE sql AS $$
    SELECT severity, finding, fix FROM snapsync.doctor() WHERE collection = name AND finding LIKE 'foreign key%' $$;
\set ECHO all

-- The table that has the key: a partition, and one of a partition's, loaded as pg_restore --data-only --disable-triggers does it.
CREATE TABLE projects (id int PRIMARY KEY, usr name);
CREATE TABLE tasks (id int PRIMARY KEY, project int REFERENCES projects ON DELETE CASCADE) PARTITION BY RANGE (id);
CREATE TABLE tasks_1 PARTITION OF tasks FOR VALUES FROM (0) TO (10);
CREATE TABLE tasks_2 PARTITION OF tasks FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
CREATE TABLE tasks_21 PARTITION OF tasks_2 FOR VALUES FROM (10) TO (15);
INSERT INTO projects VALUES (1, 'alice');
INSERT INTO tasks VALUES (1, 1), (11, 1);
SELECT t.hangs('tasks', 'projects');
SELECT t.kinds('tasks');
SELECT t.sync('alice', 'tasks');
ALTER TABLE tasks_21 DISABLE TRIGGER ALL;
SELECT t.kinds('tasks');
INSERT INTO tasks_21 VALUES (12, 2);
ALTER TABLE tasks_21 ENABLE TRIGGER ALL;
SELECT t.kinds('tasks');
SELECT t.sync('alice', 'tasks');
INSERT INTO projects VALUES (2, 'alice');
SELECT t.sync('alice', 'tasks');
SELECT * FROM t.said('tasks');
ALTER TABLE tasks DROP CONSTRAINT tasks_project_fkey, ADD CONSTRAINT tasks_project_fkey FOREIGN KEY (project) REFERENCES projects(id) ON DELETE CASCADE;
SELECT t.kinds('tasks');
SELECT t.sync('alice', 'tasks');
BEGIN;
ALTER TABLE tasks_1 DISABLE TRIGGER ALL;
INSERT INTO tasks_1 VALUES (3, 3);
ALTER TABLE tasks_1 ENABLE TRIGGER ALL;
COMMIT;
SELECT t.kinds('tasks');
SELECT t.sync('alice', 'tasks');
INSERT INTO projects VALUES (3, 'alice');
SELECT t.sync('alice', 'tasks');
-- A partition that comes with its triggers off.
ALTER TABLE tasks DROP CONSTRAINT tasks_project_fkey, ADD CONSTRAINT tasks_project_fkey FOREIGN KEY (project) REFERENCES projects(id) ON DELETE CASCADE;
CREATE TABLE tasks_3 (id int PRIMARY KEY, project int REFERENCES projects ON DELETE CASCADE);
ALTER TABLE tasks_3 DISABLE TRIGGER ALL;
INSERT INTO tasks_3 VALUES (24, 4);
SELECT t.kinds('tasks');
ALTER TABLE tasks ATTACH PARTITION tasks_3 FOR VALUES FROM (20) TO (30);
SELECT t.kinds('tasks');
ALTER TABLE tasks_3 ENABLE TRIGGER ALL;
SELECT t.kinds('tasks');
SELECT t.sync('alice', 'tasks');
INSERT INTO projects VALUES (4, 'alice');
SELECT t.sync('alice', 'tasks');
-- What its partition did it has done, although that one goes.
ALTER TABLE tasks DETACH PARTITION tasks_3;
SELECT t.kinds('tasks');
SELECT t.sync('alice', 'tasks');
-- Triggers that fire for a replica alone are off for all others.
ALTER TABLE tasks DROP CONSTRAINT tasks_project_fkey, ADD CONSTRAINT tasks_project_fkey FOREIGN KEY (project) REFERENCES projects(id) ON DELETE CASCADE;
SELECT t.kinds('tasks');
DO $$
    DECLARE name text;
    BEGIN
        FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'tasks_1'::regclass AND tgconstraint <> 0 LOOP
            EXECUTE format('ALTER TABLE tasks_1 ENABLE REPLICA TRIGGER %I', name);
        END LOOP;
    END $$;
SELECT t.kinds('tasks');
-- An ordinary trigger of a partition's that is off says nothing of the key.
ALTER TABLE tasks DROP CONSTRAINT tasks_project_fkey, ADD CONSTRAINT tasks_project_fkey FOREIGN KEY (project) REFERENCES projects(id) ON DELETE CASCADE;
CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER told AFTER INSERT ON tasks_1 FOR EACH ROW EXECUTE FUNCTION told();
ALTER TABLE tasks_1 DISABLE TRIGGER told;
SELECT t.kinds('tasks');
-- One that vetoes what the key does counts also if it comes with a partition, and when that has gone.
CREATE TABLE tasks_4 (id int PRIMARY KEY, project int REFERENCES projects ON DELETE CASCADE);
CREATE TRIGGER veto BEFORE DELETE ON tasks_4 FOR EACH ROW EXECUTE FUNCTION told();
ALTER TABLE tasks ATTACH PARTITION tasks_4 FOR VALUES FROM (30) TO (40);
SELECT t.kinds('tasks');
ALTER TABLE tasks DETACH PARTITION tasks_4;
SELECT t.kinds('tasks');

-- The table that the key names: from a partition of it, or of a partition's, a row goes and leaves others behind.
CREATE TABLE lists (id int PRIMARY KEY, usr name) PARTITION BY RANGE (id);
CREATE TABLE lists_1 PARTITION OF lists FOR VALUES FROM (0) TO (10);
CREATE TABLE lists_2 PARTITION OF lists FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
CREATE TABLE lists_21 PARTITION OF lists_2 FOR VALUES FROM (10) TO (15);
CREATE TABLE items (id int PRIMARY KEY, project int REFERENCES lists ON DELETE CASCADE);
INSERT INTO lists VALUES (1, 'alice'), (2, 'alice'), (11, 'alice'), (12, 'alice');
INSERT INTO items VALUES (1, 1), (2, 2), (11, 11), (12, 12);
SELECT t.hangs('items', 'lists');
SELECT t.kinds('items');
SELECT t.sync('alice', 'items');
BEGIN;
ALTER TABLE lists_21 DISABLE TRIGGER ALL;
DELETE FROM lists_21 WHERE id = 12;
ALTER TABLE lists_21 ENABLE TRIGGER ALL;
COMMIT;
SELECT t.kinds('items');
SELECT t.sync('alice', 'items');
INSERT INTO lists VALUES (12, 'alice');
SELECT t.sync('alice', 'items');
SELECT * FROM t.said('items');
SELECT shape ->> 'unenforced_names' FROM snapsync.collection WHERE relation = 'items'::regclass;
-- Both are partitioned.
CREATE TABLE pieces (id int PRIMARY KEY, project int REFERENCES lists ON DELETE CASCADE) PARTITION BY RANGE (id);
CREATE TABLE pieces_1 PARTITION OF pieces DEFAULT;
INSERT INTO pieces VALUES (1, 1), (2, 2);
SELECT t.hangs('pieces', 'lists');
SELECT t.kinds('pieces');
SELECT t.sync('alice', 'pieces');
BEGIN;
ALTER TABLE lists_1 DISABLE TRIGGER ALL;
DELETE FROM lists WHERE id = 2;
ALTER TABLE lists_1 ENABLE TRIGGER ALL;
COMMIT;
SELECT t.kinds('pieces');
SELECT t.sync('alice', 'pieces');
INSERT INTO lists VALUES (2, 'alice');
SELECT t.sync('alice', 'pieces');

-- A policy that reads partitions by themselves: what is remembered of keys is that of whole tables.
CREATE TABLE parts (id int PRIMARY KEY, project int REFERENCES lists ON DELETE CASCADE);
INSERT INTO parts VALUES (1, 1), (2, 2);
SELECT t.hangs('parts', 'lists_1');
SELECT t.kinds('parts');
SELECT t.sync('alice', 'parts');
SET session_replication_role = replica;
DELETE FROM lists WHERE id = 2;
RESET session_replication_role;
SELECT t.sync('alice', 'parts');
INSERT INTO lists VALUES (2, 'alice');
SELECT t.sync('alice', 'parts');

CREATE TABLE splits (id int PRIMARY KEY, task int REFERENCES tasks_1 ON DELETE CASCADE);
GRANT SELECT ON tasks_1 TO PUBLIC;
INSERT INTO splits VALUES (1, 1), (3, 3);
SELECT t.hangs('splits', 'projects', 'EXISTS (SELECT FROM tasks_1 AS t JOIN projects AS p ON p.id = t.project WHERE t.id = splits.task AND p.usr = current_user)');
SELECT t.kinds('splits');
SELECT t.sync('alice', 'splits');
SET session_replication_role = replica;
DELETE FROM projects WHERE id = 3;
RESET session_replication_role;
SELECT t.sync('alice', 'splits');
INSERT INTO projects VALUES (3, 'alice');
SELECT t.sync('alice', 'splits');

-- A key that nobody follows yet.
CREATE TABLE unread (id int PRIMARY KEY, usr name) PARTITION BY HASH (id);
CREATE TABLE unread_1 PARTITION OF unread FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE leaves (id int PRIMARY KEY, project int REFERENCES unread ON DELETE CASCADE);
INSERT INTO unread VALUES (1, 'alice'), (2, 'alice');
INSERT INTO leaves VALUES (1, 1), (2, 2);
SELECT snapsync.enable('leaves');
BEGIN;
ALTER TABLE unread_1 DISABLE TRIGGER ALL;
DELETE FROM unread WHERE id = 2;
ALTER TABLE unread_1 ENABLE TRIGGER ALL;
COMMIT;
SELECT t.hangs('leaves', 'unread');
SELECT t.kinds('leaves');
SELECT t.sync('alice', 'leaves');
INSERT INTO unread VALUES (2, 'alice');
SELECT t.sync('alice', 'leaves');

-- A table between the two, which has no policies itself.
CREATE TABLE tops (id int PRIMARY KEY, usr name);
CREATE TABLE middles (id int PRIMARY KEY, top int REFERENCES tops ON DELETE CASCADE);
CREATE TABLE bottoms (id int PRIMARY KEY, middle int REFERENCES middles ON DELETE CASCADE);
GRANT SELECT ON middles TO PUBLIC;
INSERT INTO tops VALUES (1, 'alice'), (2, 'alice');
INSERT INTO middles VALUES (1, 1), (2, 2);
INSERT INTO bottoms VALUES (1, 1), (2, 2);
SELECT t.hangs('bottoms', 'tops', 'EXISTS (SELECT FROM middles AS m JOIN tops AS t ON t.id = m.top WHERE m.id = bottoms.middle AND t.usr = current_user)');
SELECT t.kinds('bottoms');
SELECT t.sync('alice', 'bottoms');
BEGIN;
ALTER TABLE tops DISABLE TRIGGER ALL;
DELETE FROM tops WHERE id = 2;
ALTER TABLE tops ENABLE TRIGGER ALL;
COMMIT;
SELECT t.kinds('bottoms');
SELECT t.sync('alice', 'bottoms');
INSERT INTO tops VALUES (2, 'alice');
SELECT t.sync('alice', 'bottoms');
\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_partition_parents;
