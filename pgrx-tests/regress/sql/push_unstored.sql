-- What a push changes nothing by, and its client does not have so: the next pull brings the stored row.
\set ECHO none
\set test regress_push_unstored
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET timezone = 'UTC';

CREATE TABLE accounts (id int PRIMARY KEY, name text, role text NOT NULL DEFAULT 'member', price numeric(10,1) DEFAULT 1.0, short varchar(3) DEFAULT 'abc',
    seen timestamptz(0) DEFAULT '2026-01-01', ref uuid DEFAULT '7b1e7d80-0000-4000-8000-00000000000a', plan text DEFAULT 'free',
    twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE FUNCTION keep_role() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.role := old.role; RETURN new; END $$;
SELECT snapsync.enable('accounts', readonly => '{plan}');
INSERT INTO accounts (id, name) SELECT i, 'n' || i FROM generate_series(1, 9) AS i;
GRANT SELECT, UPDATE ON accounts TO alice;
GRANT SELECT, INSERT ON accounts TO bob;
-- A push, and the ids that the next pull brings.
CREATE FUNCTION t.told(changes text, dialect text DEFAULT NULL, client text DEFAULT 'device', skip boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    c text := public.pull_changes('{accounts}') ->> 'timestamp';
    answer text;
BEGIN
    PERFORM set_config('t.cursor', c, false);
    answer := public.push_changes(changes::json, c, dialect => dialect, client_id => client);
    RETURN answer || ' ' || coalesce((SELECT string_agg(a.key || ' ' || coalesce(i.value ->> 'id', i.value #>> '{}'), ', ' ORDER BY (i.value ->> 'id')::int)
        FROM public.pull_changes('{accounts}', c, client_id => client, dialect => dialect, skip_echoes => skip) AS p,
             json_each(p #> '{changes,accounts}') AS a, json_array_elements(a.value) AS i), 'nothing');
END
$$;
-- Rounded, trimmed, in capitals: what is stored is what was.
SELECT t.told('{"accounts": {"updated": [{"id": 1, "price": 1.04}, {"id": 2, "short": "abc "}, {"id": 3, "seen": "2026-01-01T00:00:00.4Z"},
    {"id": 4, "ref": "7B1E7D80-0000-4000-8000-00000000000A"}, {"id": 5, "name": "n5"}]}}');
SELECT t.told('{"accounts": {"updated": [{"id": 1, "price": 1.04}]}}', skip => true);
SELECT t.told('{"accounts": {"updated": [{"id": 1, "price": 1.04}]}}', client => NULL);
SELECT t.told('{"accounts": {"updated": [{"id": "1", "seen": 1767225600400}, {"id": "2", "seen": 1767225600000, "_changed": "name", "name": "n2"}]}}', 'watermelondb');
-- Columns that clients cannot write, alone and beside others; and where it says that it changed others.
SELECT t.told('{"accounts": {"updated": [{"id": 1, "plan": "pro"}, {"id": 2, "twice": 5}, {"id": 3, "name": "n3", "plan": "pro"}, {"id": 4}]}}');
SELECT t.told('{"accounts": {"updated": [{"id": 1, "plan": "pro", "name": "n1", "_changed": "name"}, {"id": 2, "plan": "pro", "name": "n2", "_changed": "plan"}]}}');
SELECT t.told('{"accounts": {"updated": [{"id": 1, "name": "n1"}, {"id": 1, "plan": "pro"}, {"id": 2, "name": "n2"}, {"id": 2, "name": "n2"}]}}');
-- Created rows that are there.
SELECT t.told('{"accounts": {"created": [{"id": 1, "price": 1.04}, {"id": 2, "name": "n2"}, {"id": 3, "name": "n3", "plan": "pro"}, {"id": 4, "plan": "pro"}]}}');
-- Of a row that it has created the client does not know the rest: the row comes where there is more than it sent.
CREATE TABLE notes (id text PRIMARY KEY, title text, body text, stars int, hidden text);
SELECT snapsync.enable('notes', exclude => '{hidden}');
INSERT INTO notes VALUES ('1', 'shopping', 'milk, bread', 5, 'x'), ('2', 'shopping', NULL, NULL, 'x');
CREATE FUNCTION t.noted(changes text, who name DEFAULT current_user) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    c text := public.pull_changes('{notes}') ->> 'timestamp';
    answer text;
BEGIN
    EXECUTE format('SET ROLE %I', who);
    answer := public.push_changes(json_build_object('notes', changes::json), c, client_id => 'device');
    RETURN answer || ' ' || (public.pull_changes('{notes}', c, client_id => 'device', skip_echoes => true) #>> '{changes,notes}');
END
$$;
SELECT t.noted('{"created": [{"id": "1", "title": "shopping"}, {"id": "2", "title": "shopping"}]}');
SELECT t.noted('{"created": [{"id": "1", "title": "shopping", "body": "milk, bread", "stars": 5}]}');
SELECT t.noted('{"created": [{"id": "1"}]}');
SELECT t.noted('{"updated": [{"id": "1", "title": "shopping"}]}');
-- Not of what the client may not read.
GRANT SELECT (id, title), INSERT, UPDATE ON notes TO alice;
SELECT t.noted('{"created": [{"id": "1", "title": "shopping"}]}', 'alice');
RESET ROLE;
-- One who may not write is refused, or hears by himself what stands.
SET ROLE bob;
SELECT t.told('{"accounts": {"created": [{"id": 1, "price": 1.04}, {"id": 2, "name": "n2"}]}}');
RESET ROLE;
-- A trigger puts a column back. Who sent what stands hears it, too: what the trigger does is not known.
CREATE TRIGGER keep_role BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION keep_role();
SET ROLE alice;
SELECT t.told('{"accounts": {"updated": [{"id": 1, "role": "admin"}, {"id": 2, "name": "n2"}]}}');
RESET ROLE;
-- Sent again, it is no conflict, nor is it one to others: nothing has changed.
SELECT push_changes('{"accounts": {"updated": [{"id": 1, "role": "admin"}]}}', current_setting('t.cursor'), client_id => 'device');
SELECT push_changes('{"accounts": {"updated": [{"id": 1, "name": "N1"}]}}', current_setting('t.cursor'), client_id => 'another');
SELECT t.told('{"accounts": {"updated": [{"id": 1, "role": "admin", "name": "n1"}]}}');
-- So is what a trigger vetoes.
CREATE OR REPLACE FUNCTION keep_role() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
SELECT t.told('{"accounts": {"updated": [{"id": 1, "role": "admin"}]}}');
SELECT push_changes('{"accounts": {"updated": [{"id": 1, "role": "admin"}]}}', current_setting('t.cursor'), client_id => 'device');
SELECT push_changes('{"accounts": {"updated": [{"id": 1, "role": "admin"}]}}', current_setting('t.cursor'), client_id => 'another');
DROP TRIGGER keep_role ON accounts;
-- One of several that cannot be written: the others are looked at one by one. What is rolled back tells nothing.
SELECT push_changes('{"accounts": {"updated": [{"id": 1, "price": 1.04}, {"id": 2, "price": "x"}, {"id": 3, "price": 1.04}]}}', client_id => 'device', on_rejected => 'report') -> 'experimentalRejectedIds';
SELECT t.pull_ids('accounts');
BEGIN;
SAVEPOINT s;
SELECT push_changes('{"accounts": {"updated": [{"id": 1, "price": 1.04}]}}', client_id => 'device');
ROLLBACK TO s;
COMMIT;
SELECT t.pull_ids('accounts');

-- A deletion that marks the row, where a trigger takes the mark off.
CREATE TABLE soft (id int PRIMARY KEY, gone boolean NOT NULL DEFAULT false);
CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.gone := false; RETURN new; END $$;
CREATE TRIGGER stays BEFORE UPDATE ON soft FOR EACH ROW EXECUTE FUNCTION stays();
SELECT snapsync.enable('soft', soft_delete_column => 'gone');
INSERT INTO soft VALUES (1), (2);
SELECT t.catch_up('soft') IS NULL;
SELECT push_changes('{"soft": {"deleted": [1]}}', current_setting('t.cursor'), client_id => 'device');
SELECT t.pull_ids('soft');

-- Of a scope, and of a partitioned table, in one statement with another collection.
CREATE TABLE parents (id int PRIMARY KEY, org text, price numeric(10,1), child int);
CREATE TABLE children (id int PRIMARY KEY, org text, price numeric(10,1), parent int REFERENCES parents DEFERRABLE) PARTITION BY RANGE (id);
CREATE TABLE children_1 PARTITION OF children FOR VALUES FROM (0) TO (100);
ALTER TABLE parents ADD FOREIGN KEY (child) REFERENCES children DEFERRABLE;
SELECT snapsync.enable('parents', scope_column => 'org'), snapsync.enable('children', scope_column => 'org');
INSERT INTO parents VALUES (1, 'a', 1.0), (2, 'a', 1.0);
INSERT INTO children VALUES (1, 'a', 1.0, 1), (2, 'a', 1.0, 2);
SELECT pull_changes('{parents,children}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"parents": {"updated": [{"id": 1, "price": 1.04}, {"id": 2, "price": 1.0}]}, "children": {"updated": [{"id": 1, "price": 1.04}, {"id": 2, "price": 2.0}]}}', :'c', client_id => 'device');
SELECT pull_changes('{parents,children}', :'c', filter => '{"parents": {"org": ["a"]}, "children": {"org": ["a"]}}', client_id => 'device', skip_echoes => true) -> 'changes';

-- Deleted rows stay known as deleted, although a conflict function leaves them so.
CREATE TABLE asked (id int PRIMARY KEY, n int);
CREATE FUNCTION leave_deleted(text, text, jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT 'null'::jsonb $$;
SELECT snapsync.enable('asked', conflict => 'custom', conflict_function => 'leave_deleted(text,text,jsonb,jsonb)');
INSERT INTO asked VALUES (1, 1);
SELECT pull_changes('{asked}') ->> 'timestamp' AS c \gset
DELETE FROM asked;
SELECT push_changes('{"asked": {"updated": [{"id": 1, "n": 2}]}}', :'c', client_id => 'device');
SELECT pull_changes('{asked}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"asked": {"updated": [{"id": 1, "n": 2}]}}', :'c', client_id => 'device');
SELECT * FROM asked;

-- Of a row that its pusher may see and not change: he alone gets it.
CREATE TABLE shared (id text PRIMARY KEY, owner name, price numeric(8,2), version int, title text);
ALTER TABLE shared ENABLE ROW LEVEL SECURITY;
CREATE POLICY reads ON shared FOR SELECT USING (true);
CREATE POLICY writes ON shared FOR UPDATE USING (owner = current_user);
GRANT SELECT, UPDATE ON shared TO alice, bob;
INSERT INTO shared VALUES ('a', 'bob', 1, 7, 'x'), ('b', 'bob', 1, 7, 'x');
SELECT snapsync.enable('shared', readonly => '{version}');
SET ROLE alice;
SELECT pull_changes('{shared}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"shared": {"updated": [{"id": "a", "owner": "bob", "price": 1.00, "version": 8, "title": "x", "_changed": "version"}]}}', :'c', client_id => 'device');
SELECT pull_changes('{shared}', :'c', client_id => 'device') #> '{changes,shared,updated}' AS updated, pull_changes('{shared}', :'c', client_id => 'another') #> '{changes,shared,updated}' AS "of another device";
SELECT pull_changes('{shared}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"shared": {"updated": [{"id": "b", "price": 1.004}, {"id": "a", "title": "x"}]}}', :'c', client_id => 'device');
SELECT pull_changes('{shared}', :'c', client_id => 'device', skip_echoes => true) #> '{changes,shared,updated}' AS updated;
RESET ROLE;
SET ROLE bob;
SELECT pull_changes('{shared}', :'c', client_id => 'device') #> '{changes,shared,updated}' AS "of another user";
RESET ROLE;
-- So it is with what he has made himself, and sends once more: columns that he did not send, and an id that the server writes otherwise.
CREATE TABLE made (id uuid PRIMARY KEY, title text, by_server text DEFAULT 'x');
GRANT SELECT, INSERT ON made TO alice;
SELECT snapsync.enable('made');
SET ROLE alice;
\set batch '{"made": {"created": [{"id": "00000000-0000-0000-0000-00000000000B", "title": "spelled", "by_server": "x"}, {"id": "00000000-0000-0000-0000-00000000000c", "title": "lacks"}]}}'
SELECT push_changes(:'batch', NULL, client_id => 'device');
SELECT pull_changes('{made}') ->> 'timestamp' AS c \gset
SELECT push_changes(:'batch', :'c', client_id => 'device');
SELECT pull_changes('{made}', :'c', client_id => 'device') #> '{changes,made}' AS changes;
RESET ROLE;
-- A rule that does more has its own commands run before the one that changes the rows.
CREATE TABLE ruled (id int PRIMARY KEY, price numeric(10,1), title text);
CREATE TABLE noted (id int);
CREATE RULE notes AS ON UPDATE TO ruled DO ALSO INSERT INTO noted VALUES (old.id);
CREATE RULE more AS ON UPDATE TO ruled DO ALSO INSERT INTO noted VALUES (new.id);
INSERT INTO ruled VALUES (1, 3.1, 'x'), (2, 3.1, 'x');
GRANT ALL ON ruled, noted TO alice;
SELECT snapsync.enable('ruled');
SET ROLE alice;
SELECT pull_changes('{ruled}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"ruled": {"updated": [{"id": 1, "price": 3.14}, {"id": 2, "price": 3.2}]}}', :'c', client_id => 'device');
SELECT pull_changes('{ruled}', :'c', client_id => 'device') #> '{changes,ruled,updated}' AS updated;
RESET ROLE;
-- A row that is made anew by what was sent of a change has not what its client has in the other columns.
CREATE TABLE remade (id int PRIMARY KEY, n int, title text);
INSERT INTO remade VALUES (1, 1, 'x'), (2, 1, 'x');
GRANT ALL ON remade TO alice;
SELECT snapsync.enable('remade');
SELECT pull_changes('{remade}') ->> 'timestamp' AS c \gset
DELETE FROM remade;
SET ROLE alice;
SELECT push_changes('{"remade": {"updated": [{"id": 1, "n": 1}, {"id": 2, "n": 2, "title": "all"}], "created": [{"id": 3, "n": 3}]}}', client_id => 'device');
SELECT pull_changes('{remade}', :'c', client_id => 'device', skip_echoes => true) #> '{changes,remade}' AS changes;
RESET ROLE;
-- What a conflict function leaves as it is, its client has otherwise.
CREATE FUNCTION leaves(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
SELECT snapsync.enable('ruled', conflict => 'custom', conflict_function => 'leaves(text,text,jsonb,jsonb)');
SET ROLE alice;
SELECT pull_changes('{ruled}') ->> 'timestamp' AS before \gset
RESET ROLE;
UPDATE ruled SET title = 'theirs' WHERE id = 1;
SET ROLE alice;
SELECT pull_changes('{ruled}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"ruled": {"updated": [{"id": 1, "title": "mine"}]}}', :'before', client_id => 'device');
SELECT pull_changes('{ruled}', :'c', client_id => 'device') #> '{changes,ruled,updated}' AS updated;
RESET ROLE;
