-- Foreign keys, triggers, partitions: what else happens while rows are written.
\set ECHO none
\set test regress_push_fk
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET timezone = 'UTC';

CREATE TABLE folders (id text PRIMARY KEY, parent text REFERENCES folders, name text);
CREATE TABLE files (id text PRIMARY KEY, folder text NOT NULL REFERENCES folders ON DELETE CASCADE, name text UNIQUE, main text);
CREATE TABLE versions (id text PRIMARY KEY, file text REFERENCES files ON DELETE SET NULL, n int);
ALTER TABLE files ADD FOREIGN KEY (main) REFERENCES versions;
SELECT snapsync.enable('folders'), snapsync.enable('files'), snapsync.enable('versions');

-- Children before parents in the payload, in other columns than they, updated ones that hang on created ones, and a circle
-- between two tables that no order could satisfy.
SELECT push_changes('{
    "versions": {"created": [{"id": "v", "file": "f", "n": 1}]},
    "files": {"created": [{"id": "f", "folder": "c", "main": "v"}, {"id": "g", "folder": "a", "name": "g"}]},
    "folders": {"created": [{"id": "c", "parent": "b", "name": "c"}, {"id": "b", "parent": "a"}], "updated": [{"id": "a", "name": "root"}]}}');
SELECT * FROM folders ORDER BY id; SELECT * FROM files ORDER BY id; SELECT * FROM versions ORDER BY id;
SELECT push_changes('{"folders": {"created": [{"id": "d", "parent": "a"}], "updated": [{"id": "c", "parent": "d"}, {"id": "b", "name": "alone", "parent": null}]}}');
SELECT * FROM folders ORDER BY id;
-- A parent is deleted when its children have moved, or are deleted in the same push.
SELECT push_changes('{"folders": {"deleted": ["c"]}, "files": {"updated": [{"id": "f", "folder": "b"}]}}');
SELECT * FROM files ORDER BY id;
SELECT * FROM t.error($$SELECT push_changes('{"folders": {"deleted": ["a"]}}')$$);
SELECT push_changes('{"folders": {"deleted": ["a", "d"]}, "versions": {"deleted": ["v"]}, "files": {"deleted": ["f"]}}');
SELECT * FROM folders ORDER BY id; SELECT * FROM files ORDER BY id; SELECT * FROM versions ORDER BY id;
-- A unique value moves from a deleted row to a new one, also where the deleted row is referred to by others.
SELECT push_changes('{"files": {"created": [{"id": "h", "folder": "b", "name": "name"}]}}');
SELECT push_changes('{"files": {"created": [{"id": "i", "folder": "b", "name": "name"}], "deleted": ["h"]}}');
SELECT id, name FROM files ORDER BY id;
-- What the server deletes along comes to the client.
SELECT t.catch_up('folders', 'files');
SELECT push_changes('{"folders": {"deleted": ["b"]}}', client_id => 'me');
SELECT * FROM t.pull('{folders,files}', client_id => 'me');

-- A policy that looks a row's parent up in its own table sees it one statement later.
CREATE TABLE tree (id text PRIMARY KEY, parent text REFERENCES tree, owner name DEFAULT CURRENT_USER);
ALTER TABLE tree ENABLE ROW LEVEL SECURITY;
CREATE POLICY see ON tree FOR SELECT USING (true);
CREATE POLICY hang ON tree FOR INSERT WITH CHECK (parent IS NULL OR EXISTS (SELECT FROM tree AS p WHERE p.id = tree.parent));
GRANT SELECT, INSERT ON tree TO alice;
SELECT snapsync.enable('tree');
SET ROLE alice;
SELECT push_changes('{"tree": {"created": [{"id": "leaf", "parent": "branch"}, {"id": "branch", "parent": "root"}, {"id": "root"}]}}');
SELECT * FROM t.error($$SELECT push_changes('{"tree": {"created": [{"id": "x", "parent": "branch"}, {"id": "y", "parent": "nowhere"}]}}')$$);
RESET ROLE;
SELECT id, parent FROM tree ORDER BY id;

-- Triggers that change rows: the client gets what was stored. Triggers that veto: the client gets back what it had.
CREATE TABLE watched (id text PRIMARY KEY, name text, at int NOT NULL DEFAULT 0);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.name = 'keep' THEN RETURN NULL; END IF;
        RETURN OLD;
    END IF;
    IF NEW.name = 'veto' THEN RETURN NULL; END IF;
    IF NEW.name = 'fail' THEN RAISE EXCEPTION 'no such name' USING ERRCODE = 'ZZ001', DETAIL = 'Ask somebody.'; END IF;
    NEW.name := upper(NEW.name); NEW.at := NEW.at + 1;
    RETURN NEW;
END
$$;
CREATE TRIGGER watch BEFORE INSERT OR UPDATE OR DELETE ON watched FOR EACH ROW EXECUTE FUNCTION watch();
SELECT snapsync.enable('watched');
SELECT t.catch_up('watched');
SELECT push_changes('{"watched": {"created": [{"id": "a", "name": "a"}, {"id": "b", "name": "veto"}]}}', client_id => 'me');
SELECT * FROM t.pull('{watched}', client_id => 'me');
SELECT push_changes('{"watched": {"updated": [{"id": "a", "name": "veto"}]}}', client_id => 'me');
SELECT * FROM t.pull('{watched}', client_id => 'me');
SELECT * FROM t.error($$SELECT push_changes('{"watched": {"updated": [{"id": "a", "name": "fail"}]}}')$$);
ALTER TABLE watched DISABLE TRIGGER watch; UPDATE watched SET name = 'keep'; ALTER TABLE watched ENABLE TRIGGER watch;
SELECT t.catch_up('watched');
SELECT push_changes('{"watched": {"deleted": ["a"]}}', client_id => 'me');
SELECT * FROM t.pull('{watched}', client_id => 'me');

-- Partitions: rows go where they belong, and may move.
CREATE TABLE parted (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parted_north PARTITION OF parted FOR VALUES IN ('north');
CREATE TABLE parted_south (n int, region text NOT NULL, id int NOT NULL);
ALTER TABLE parted ATTACH PARTITION parted_south FOR VALUES IN ('south');
SELECT snapsync.enable('parted', conflict => 'merge');
SELECT push_changes('{"parted": {"created": [{"id": 1, "region": "north", "n": 1}, {"id": 2, "region": "south", "n": 2}]}}');
SELECT push_changes('{"parted": {"updated": [{"id": 2, "region": "south", "n": 3}], "deleted": ["1.north"], "created": [{"id": 2, "region": "north", "n": 9}]}}');
SELECT tableoid::regclass, id, region, n FROM parted ORDER BY 1;
SELECT key, op, columns FROM snapsync.change WHERE relation = 'parted'::regclass AND op = 'U';
SELECT * FROM t.error($$SELECT push_changes('{"parted": {"created": [{"id": 3, "region": "west"}]}}')$$);

-- Soft deletion.
CREATE TABLE kept (id text PRIMARY KEY, name text, deleted_at timestamptz);
CREATE TABLE kept_too (id text PRIMARY KEY, gone boolean NOT NULL DEFAULT false);
SELECT snapsync.enable('kept', soft_delete_column => 'deleted_at'), snapsync.enable('kept_too', soft_delete_column => 'gone');
SELECT push_changes('{"kept": {"created": [{"id": "a"}, {"id": "b"}]}, "kept_too": {"created": [{"id": "a"}]}}');
SELECT t.catch_up('kept', 'kept_too');
SELECT push_changes('{"kept": {"deleted": ["a", "zz"]}, "kept_too": {"deleted": ["a"]}}');
SELECT id, deleted_at IS NOT NULL AS deleted FROM kept ORDER BY id; SELECT * FROM kept_too;
SELECT push_changes('{"kept": {"deleted": ["a"]}, "kept_too": {"deleted": ["a"]}}');
SELECT * FROM t.error(format($$SELECT push_changes('{"kept": {"updated": [{"id": "a", "name": "back?"}]}}', %L)$$, current_setting('t.cursor')));
