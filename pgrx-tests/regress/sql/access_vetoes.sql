-- Parents: rows go along with the row that a foreign key names, unless a trigger or a rule of the table keeps them. Then a row of the parent that
-- comes or goes is told by no other entry. (t.sync() complains if a device ends up with anything but what its role may SELECT.)
\set ECHO none
\set test regress_access_vetoes
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
-- A child of a parent with this key, of whose rows alice sees those of her parents.
CREATE FUNCTION t.family(name text, key text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %1$I (id int PRIMARY KEY, usr name);
                    GRANT SELECT ON %1$I TO PUBLIC;
                    INSERT INTO %1$I VALUES (1, ''alice''), (2, ''alice''), (3, ''bob'')', name || '_parent');
    EXECUTE format('CREATE TABLE %1$I (id int PRIMARY KEY, parent int REFERENCES %2$I %3$s, v text);
                    ALTER TABLE %1$I ENABLE ROW LEVEL SECURITY;
                    GRANT SELECT ON %1$I TO PUBLIC;
                    INSERT INTO %1$I VALUES (1, 1), (2, 2), (3, 3);
                    CREATE POLICY p ON %1$I USING (EXISTS (SELECT FROM %2$I AS p WHERE p.id = parent AND p.usr = current_user))',
                   name, name || '_parent', key);
END
$$;
CREATE FUNCTION t.kind(name text) RETURNS text LANGUAGE sql AS $$ SELECT kind FROM snapsync.access WHERE relation = name::regclass $$;
CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
\set ECHO all

-- One that keeps rows from being deleted, from the beginning.
SELECT t.family('vetoed', 'ON DELETE CASCADE');
CREATE TRIGGER veto BEFORE DELETE ON vetoed FOR EACH ROW EXECUTE FUNCTION veto();
SELECT snapsync.enable('vetoed');
SELECT t.kind('vetoed');
SELECT t.sync('alice', 'vetoed');
DELETE FROM vetoed_parent WHERE id = 1;
SELECT t.sync('alice', 'vetoed');
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'vetoed' AND finding LIKE '%foreign key%';
DELETE FROM vetoed_parent WHERE id = 3;
INSERT INTO vetoed_parent VALUES (3, 'alice');
SELECT t.sync('alice', 'vetoed');
-- Rows that hang on none stay when the trigger goes, until the key is made anew.
DELETE FROM vetoed_parent WHERE id = 2;
DROP TRIGGER veto ON vetoed;
SELECT t.kind('vetoed');
SELECT t.sync('alice', 'vetoed');
INSERT INTO vetoed_parent VALUES (1, 'alice');
SELECT t.sync('alice', 'vetoed');
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'vetoed' AND finding LIKE 'foreign key%';
SELECT * FROM t.error('ALTER TABLE vetoed DROP CONSTRAINT vetoed_parent_fkey, ADD CONSTRAINT vetoed_parent_fkey FOREIGN KEY (parent) REFERENCES vetoed_parent ON DELETE CASCADE');
DELETE FROM vetoed WHERE parent = 2;
ALTER TABLE vetoed DROP CONSTRAINT vetoed_parent_fkey, ADD CONSTRAINT vetoed_parent_fkey FOREIGN KEY (parent) REFERENCES vetoed_parent ON DELETE CASCADE;
SELECT t.kind('vetoed');
SELECT t.sync('alice', 'vetoed');

-- One that comes later, by whoever has the privilege to make triggers; one that is switched on later.
SELECT t.family('later', 'ON DELETE CASCADE');
CREATE TRIGGER stamp BEFORE UPDATE ON later FOR EACH ROW EXECUTE FUNCTION veto();
CREATE TRIGGER told AFTER DELETE ON later FOR EACH ROW EXECUTE FUNCTION veto();
SELECT snapsync.enable('later');
SELECT t.kind('later');
SELECT t.sync('alice', 'later');
GRANT TRIGGER ON later TO carol;
SET ROLE carol;
CREATE TRIGGER veto BEFORE DELETE ON later FOR EACH ROW EXECUTE FUNCTION veto();
RESET ROLE;
SELECT t.kind('later');
SELECT t.sync('alice', 'later');
DELETE FROM later_parent WHERE id = 1;
SELECT t.sync('alice', 'later');
SELECT t.family('switched', 'ON DELETE CASCADE');
CREATE TRIGGER veto BEFORE DELETE ON switched FOR EACH ROW EXECUTE FUNCTION veto();
ALTER TABLE switched DISABLE TRIGGER veto;
SELECT snapsync.enable('switched');
SELECT t.kind('switched');
SELECT t.sync('alice', 'switched');
ALTER TABLE switched ENABLE TRIGGER veto;
SELECT t.kind('switched');
DELETE FROM switched_parent WHERE id = 1;
SELECT t.sync('alice', 'switched');

-- Updates: a key that follows its parent's, or is set to NULL.
SELECT t.family('moved', 'ON UPDATE CASCADE');
CREATE TRIGGER veto BEFORE UPDATE ON moved FOR EACH ROW EXECUTE FUNCTION veto();
SELECT snapsync.enable('moved');
SELECT t.kind('moved');
SELECT t.sync('alice', 'moved');
UPDATE moved_parent SET id = 10 WHERE id = 1;
SELECT t.sync('alice', 'moved');
SELECT t.family('nulled', 'ON DELETE SET NULL');
SELECT snapsync.enable('nulled');
SELECT t.kind('nulled');
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.parent := old.parent; RETURN new; END';
CREATE TRIGGER keep BEFORE UPDATE ON nulled FOR EACH ROW EXECUTE FUNCTION keep();
SELECT t.kind('nulled');
SELECT t.sync('alice', 'nulled');
DELETE FROM nulled_parent WHERE id = 1;
SELECT t.sync('alice', 'nulled');
-- A key that lets nothing be deleted that rows hang on needs no trust.
SELECT t.family('strict', '');
CREATE TRIGGER veto BEFORE UPDATE OR DELETE ON strict FOR EACH ROW EXECUTE FUNCTION veto();
SELECT snapsync.enable('strict');
SELECT t.kind('strict');

-- A rule with a condition.
SELECT t.family('ruled', 'ON DELETE CASCADE');
SELECT snapsync.enable('ruled');
SELECT t.kind('ruled');
SELECT t.sync('alice', 'ruled');
CREATE RULE keep AS ON DELETE TO ruled WHERE old.v IS NULL DO INSTEAD NOTHING;
SELECT t.kind('ruled');
DELETE FROM ruled_parent WHERE id = 1;
SELECT t.sync('alice', 'ruled');
DROP RULE keep ON ruled;
SELECT t.kind('ruled');

-- A partition's trigger; and one on a table between the two.
CREATE TABLE p_parent (id int PRIMARY KEY, usr name);
CREATE TABLE parted (id int PRIMARY KEY, parent int REFERENCES p_parent ON DELETE CASCADE) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
ALTER TABLE parted ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON parted USING (parent IN (SELECT id FROM p_parent WHERE usr = current_user));
GRANT SELECT ON parted, p_parent TO PUBLIC;
INSERT INTO p_parent VALUES (1, 'alice');
INSERT INTO parted VALUES (1, 1);
SELECT snapsync.enable('parted');
SELECT t.kind('parted');
SELECT t.sync('alice', 'parted');
CREATE TRIGGER veto BEFORE DELETE ON parted_1 FOR EACH ROW EXECUTE FUNCTION veto();
SELECT t.kind('parted');
DELETE FROM p_parent;
SELECT t.sync('alice', 'parted');
-- A row that an update moves to another partition is deleted from its own.
CREATE TABLE m_parent (id int PRIMARY KEY, usr name);
CREATE TABLE strays (id int, parent int REFERENCES m_parent ON UPDATE CASCADE, PRIMARY KEY (id, parent)) PARTITION BY LIST (parent);
CREATE TABLE strays_1 PARTITION OF strays FOR VALUES IN (1);
CREATE TABLE strays_2 PARTITION OF strays DEFAULT;
ALTER TABLE strays ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON strays USING (parent IN (SELECT id FROM m_parent WHERE usr = current_user));
GRANT SELECT ON strays, m_parent TO PUBLIC;
CREATE TRIGGER veto BEFORE DELETE ON strays FOR EACH ROW EXECUTE FUNCTION veto();
SELECT snapsync.enable('strays');
SELECT t.kind('strays');
SELECT t.family('middle', 'ON DELETE CASCADE');
SELECT t.family('bottom', 'ON DELETE CASCADE');
ALTER TABLE bottom DROP CONSTRAINT bottom_parent_fkey, ADD FOREIGN KEY (parent) REFERENCES middle ON DELETE CASCADE;
DROP POLICY p ON bottom;
CREATE POLICY p ON bottom USING (EXISTS (SELECT FROM middle AS m JOIN middle_parent AS p ON p.id = m.parent WHERE m.id = bottom.parent AND p.usr = current_user));
ALTER TABLE middle DISABLE ROW LEVEL SECURITY;
SELECT snapsync.enable('bottom');
SELECT access, kind FROM snapsync.access WHERE relation = 'bottom'::regclass ORDER BY 1;
SELECT t.sync('alice', 'bottom');
CREATE TRIGGER veto BEFORE DELETE ON middle FOR EACH ROW EXECUTE FUNCTION veto();
SELECT access, kind FROM snapsync.access WHERE relation = 'bottom'::regclass ORDER BY 1;
DELETE FROM middle_parent WHERE id = 1;
SELECT t.sync('alice', 'bottom');
DROP TRIGGER veto ON middle;
SELECT access, kind FROM snapsync.access WHERE relation = 'bottom'::regclass ORDER BY 1;

-- pg_upgrade keeps tables and settings, gives keys other Oids, and does not check them again. So it looks then:
SELECT t.family('upgraded', 'ON DELETE CASCADE');
CREATE TRIGGER veto BEFORE DELETE ON upgraded FOR EACH ROW EXECUTE FUNCTION veto();
SELECT snapsync.enable('upgraded');
DELETE FROM upgraded_parent WHERE id = 3;
DROP TRIGGER veto ON upgraded;
SELECT t.sync('alice', 'upgraded');
BEGIN;
SET LOCAL session_replication_role = replica;
UPDATE snapsync.collection SET shape = shape || '{"identity": "1 1 1", "unenforced": ["1"]}' WHERE relation = 'upgraded'::regclass;
UPDATE snapsync.dependency SET name = '1' WHERE classid = 0 AND relation::oid = 0;
COMMIT;
SELECT finding FROM snapsync.doctor() WHERE collection = 'upgraded' AND finding LIKE 'foreign key%';
CREATE TABLE anything (id int);
SELECT t.kind('upgraded');
SELECT shape ->> 'identity' <> '1 1 1', shape -> 'unenforced' <> '["1"]', shape -> 'unenforced_names' FROM snapsync.collection WHERE relation = 'upgraded'::regclass;
SELECT t.sync('alice', 'upgraded');
INSERT INTO upgraded_parent VALUES (3, 'alice');
SELECT t.sync('alice', 'upgraded');
SELECT finding, fix FROM snapsync.doctor() WHERE collection = 'upgraded' AND finding LIKE 'foreign key%';

-- Where it is only a stranger's policy that reads the parent, for which nobody stands up, doctor() has nothing to say to the key's owner.
SELECT t.family('alone', 'ON DELETE CASCADE');
ALTER POLICY p ON alone USING (true);
CREATE TRIGGER veto BEFORE DELETE ON alone FOR EACH ROW EXECUTE FUNCTION veto();
SELECT snapsync.enable('alone');
SET ROLE carol;
CREATE TABLE strange (id int PRIMARY KEY, parent int);
ALTER TABLE strange ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON strange USING (true);
SELECT snapsync.enable('strange');
ALTER POLICY p ON strange USING (EXISTS (SELECT FROM alone_parent AS p WHERE p.id = parent));
RESET ROLE;
SELECT access, untracked FROM snapsync.access WHERE relation = 'strange'::regclass;
SELECT finding FROM snapsync.doctor() WHERE collection = 'alone' AND finding LIKE '%foreign key%';
