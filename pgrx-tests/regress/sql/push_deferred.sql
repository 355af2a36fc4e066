-- What is looked at only when the transaction commits is looked at before: one mutation or record that violates it is left out, and
-- fails nobody else.
\set ECHO none
\set test regress_push_deferred
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE children (id int PRIMARY KEY, parent int CONSTRAINT has_parent REFERENCES parents DEFERRABLE INITIALLY DEFERRED,
    place int CONSTRAINT one_place UNIQUE DEFERRABLE INITIALLY DEFERRED, seat int CONSTRAINT one_seat UNIQUE DEFERRABLE,
    EXCLUDE (seat WITH =) DEFERRABLE INITIALLY DEFERRED);
-- No child may have a seat of more than 100; looked at in the end.
CREATE FUNCTION few() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT seat FROM children WHERE id = new.id) > 100 THEN RAISE EXCEPTION 'seat %', new.seat USING ERRCODE = 'ZZ001', CONSTRAINT = 'few'; END IF;
    IF (SELECT seat FROM children WHERE id = new.id) = 99 THEN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER few AFTER INSERT OR UPDATE ON children DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION few();
CREATE FUNCTION add_parent(args json) RETURNS void LANGUAGE sql AS $$ INSERT INTO parents VALUES ((args ->> 'id')::int) $$;
CREATE FUNCTION drop_parent(args json) RETURNS void LANGUAGE sql AS $$ DELETE FROM parents WHERE id = (args ->> 'id')::int $$;
CREATE FUNCTION add_child(args json) RETURNS void LANGUAGE sql AS $$
    INSERT INTO children VALUES ((args ->> 'id')::int, (args ->> 'parent')::int, (args ->> 'place')::int, (args ->> 'seat')::int) $$;
CREATE FUNCTION later(args json) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    SET CONSTRAINTS one_seat DEFERRED;
    INSERT INTO children (id, seat) VALUES ((args ->> 'id')::int, (args ->> 'seat')::int);
END $$;
CREATE FUNCTION push(args json) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM public.push_changes(args); END $$;
SELECT snapsync.register_mutator(f, (f || '(json)')::regprocedure) IS NOT NULL AS registered FROM unnest('{add_parent,drop_parent,add_child,later,push}'::text[]) AS f;
GRANT SELECT, INSERT, UPDATE, DELETE ON parents, children TO alice;
-- Mutations in short: [name, args], numbered from 1 on.
CREATE FUNCTION t.mutate(client text, mutations json) RETURNS json LANGUAGE sql AS $$
    SELECT public.push_mutations((SELECT json_agg(json_build_object('id', n, 'name', m ->> 0, 'args', m -> 1) ORDER BY n) FROM json_array_elements(mutations) WITH ORDINALITY AS a(m, n)), client)::json $$;
CREATE FUNCTION t.short(answer json) RETURNS text LANGUAGE sql AS $$
    SELECT format('last %s, failed: %s', answer ->> 'last_id', (SELECT coalesce(string_agg(format('%s %s %s', f ->> 'id', f ->> 'code', f ->> 'constraint'), ', ' ORDER BY (f ->> 'id')::int), 'none') FROM json_array_elements(answer -> 'failures') AS f)) $$;
INSERT INTO parents VALUES (1);
SET ROLE alice;
\set ECHO all
-- A foreign key, unique values, an exclusion, a trigger of somebody's: each undone alone, the others stay, and so it is told again.
SELECT t.short(t.mutate('phone', '[["add_child", {"id": 1, "parent": 99}], ["add_child", {"id": 2, "parent": 1, "place": 1}], ["add_child", {"id": 3, "place": 1}],
    ["add_child", {"id": 4, "seat": 101}], ["add_child", {"id": 5, "seat": 5}], ["nobody"], ["later", {"id": 6, "seat": 5}], ["later", {"id": 7, "seat": 7}]]'));
SELECT * FROM children ORDER BY id;
SELECT t.short(t.mutate('phone', '[["add_child", {"id": 1, "parent": 99}]]'));
SELECT t.short(t.mutate('phone', '[["add_child", {"id": 1, "parent": 99}], ["add_child"], ["add_child"], ["add_child"], ["add_child"], ["add_child"], ["add_child"], ["add_child"], ["add_child", {"id": 9, "parent": 1}]]'));
-- What another one refers to is deleted; in its place it may come.
SELECT t.short(t.mutate('tablet', '[["drop_parent", {"id": 1}], ["add_parent", {"id": 2}], ["add_child", {"id": 10, "parent": 2}], ["drop_parent", {"id": 2}]]'));
SELECT count(*) FROM children WHERE parent IS NOT NULL;
-- One that fails because of one that is undone does not fail any more.
SELECT t.short(t.mutate('watch', '[["add_child", {"id": 11, "parent": 99}], ["add_child", {"id": 11, "parent": 1}]]'));
-- What says nothing of a mutation fails the call.
SELECT * FROM t.error($$SELECT t.mutate('clock', '[["add_child", {"id": 12, "parent": 99}], ["add_child", {"id": 13, "seat": 99}]]')$$);
SELECT t.short(t.mutate('clock', '[["add_child", {"id": 12, "parent": 1}]]'));
-- A mutator that pushes.
SELECT t.short(t.mutate('desk', '[["add_child", {"id": 14, "parent": 99}], ["push", {}], ["add_child", {"id": 15}]]'));
-- The transaction has it all as it had it before: what is deferred stays deferred, what is not is not, and what it has set itself stays set.
BEGIN;
SELECT t.short(t.mutate('car', '[["add_child", {"id": 20, "parent": 99}], ["add_child", {"id": 21, "parent": 1}]]'));
INSERT INTO children VALUES (22, 98);
SELECT * FROM t.error('INSERT INTO children (id, seat) VALUES (23, 5)');
DELETE FROM children WHERE id = 22;
COMMIT;
BEGIN;
SET CONSTRAINTS has_parent IMMEDIATE;
SET CONSTRAINTS one_seat DEFERRED;
SELECT t.short(t.mutate('bike', '[["add_child", {"id": 24, "parent": 99}], ["add_child", {"id": 25, "seat": 5}], ["add_child", {"id": 26}]]'));
SELECT * FROM t.error('INSERT INTO children VALUES (27, 98)');
INSERT INTO children (id, seat) VALUES (28, 26), (29, 26);
DELETE FROM children WHERE id = 29;
COMMIT;
-- What it has left undone itself is no mutation's fault.
BEGIN;
INSERT INTO children VALUES (30, 97);
SELECT t.short(t.mutate('boat', '[["add_child", {"id": 31}], ["add_child", {"id": 32}]]'));
DELETE FROM children WHERE id = 30;
COMMIT;
BEGIN;
INSERT INTO children VALUES (30, 97);
SELECT t.short(t.mutate('boat', '[["add_child", {}], ["add_child", {}], ["add_child", {"id": 33}]]'));
COMMIT;
SELECT count(*) FROM children WHERE id >= 30;
SELECT t.short(t.mutate('boat', '[["add_child", {}], ["add_child", {}], ["add_child", {"id": 33}]]'));
RESET ROLE;

-- Of many each is looked at once, and once more when the transaction commits; where one fails, those beside it some more times.
CREATE TABLE counted (id int PRIMARY KEY);
CREATE SEQUENCE looks;
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('looks'); IF new.id < 0 THEN RAISE 'no'; END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER look AFTER INSERT ON counted DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look();
CREATE FUNCTION count(args json) RETURNS void LANGUAGE sql AS $$ INSERT INTO counted VALUES ((args ->> 'id')::int) $$;
SELECT snapsync.register_mutator('count', 'count(json)');
SELECT t.short(t.mutate('counting', (SELECT json_agg(json_build_array('count', json_build_object('id', i))) FROM generate_series(1, 200) AS i)));
SELECT last_value FROM looks;
SELECT setval('looks', 1, false);
SELECT t.short(t.mutate('counting too', (SELECT json_agg(json_build_array('count', json_build_object('id', CASE i WHEN 250 THEN -1 ELSE i END))) FROM generate_series(201, 400) AS i)));
SELECT last_value < 2000 AS few, (SELECT count(*) FROM counted) FROM looks;

-- Records: what a trigger writes elsewhere, in a table that has constraints which are deferred.
CREATE TABLE entries (id int PRIMARY KEY, n int);
CREATE FUNCTION adopt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO children VALUES (1000 + new.id, new.n); RETURN NULL; END $$;
CREATE TRIGGER adopt AFTER INSERT ON entries FOR EACH ROW EXECUTE FUNCTION adopt();
GRANT SELECT, INSERT, UPDATE, DELETE ON entries TO alice;
SELECT snapsync.enable('entries');
SET ROLE alice;
SELECT push_changes('{"entries": {"created": [{"id": 1, "n": 1}, {"id": 2, "n": 99}, {"id": 3, "n": 1}]}}', on_rejected => 'report');
SELECT * FROM t.error($$SELECT push_changes('{"entries": {"created": [{"id": 2, "n": 99}]}}')$$);
SELECT * FROM entries ORDER BY id;
-- The transaction has left something undone before.
BEGIN;
INSERT INTO children VALUES (30, 97);
SELECT push_changes('{"entries": {"created": [{"id": 4, "n": 1}]}}', on_rejected => 'report');
DELETE FROM children WHERE id = 30;
COMMIT;
SELECT * FROM entries ORDER BY id;
RESET ROLE;
-- In a partition.
CREATE TABLE parted (id int, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
ALTER TABLE parted_1 ADD CONSTRAINT one_n UNIQUE (n) DEFERRABLE INITIALLY DEFERRED;
GRANT SELECT, INSERT, UPDATE, DELETE ON parted TO alice;
SELECT snapsync.enable('parted');
SET ROLE alice;
SELECT push_changes('{"parted": {"created": [{"id": 1, "n": 1}, {"id": 2, "n": 1}, {"id": 3, "n": 3}]}}', on_rejected => 'report');
SELECT * FROM parted ORDER BY id;
RESET ROLE;
-- What a caller has waiting fires with his own rights, not with those of the function that pushes for him: however the table is locked, and however many are.
CREATE TABLE fired (way text, who name);
GRANT INSERT, SELECT ON fired TO PUBLIC;
CREATE FUNCTION push_for(changes json) RETURNS json LANGUAGE sql SECURITY DEFINER AS 'SELECT public.push_changes(changes)';
SET ROLE alice;
CREATE TABLE mine (way text);
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING '% fires as %', new.way, current_user;
    INSERT INTO public.fired VALUES (new.way, current_user);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER fire AFTER INSERT ON mine DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fire();
DO $$ BEGIN FOR n IN 1 .. 80 LOOP EXECUTE format('CREATE TABLE other_%s ()', n); END LOOP; END $$;
BEGIN;
INSERT INTO mine VALUES ('alone');
SELECT push_for('{"entries": {"created": [{"id": 11, "n": 1}]}}') IS NOT NULL AS pushed, (SELECT count(*) FROM fired) AS fired;
COMMIT;
BEGIN;
DO $$ BEGIN FOR n IN 1 .. 80 LOOP EXECUTE format('LOCK TABLE other_%s IN ROW EXCLUSIVE MODE', n); END LOOP; END $$;
INSERT INTO mine VALUES ('among many');
SELECT push_for('{"entries": {"created": [{"id": 12, "n": 1}]}}') IS NOT NULL AS pushed, (SELECT count(*) FROM fired) AS fired;
COMMIT;
BEGIN;
LOCK TABLE mine IN ACCESS EXCLUSIVE MODE;
INSERT INTO mine VALUES ('to himself');
SELECT push_for('{"entries": {"created": [{"id": 13, "n": 1}]}}') IS NOT NULL AS pushed, (SELECT count(*) FROM fired) AS fired;
COMMIT;
SELECT * FROM fired;
RESET ROLE;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_push_deferred;
