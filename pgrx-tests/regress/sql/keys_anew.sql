-- What PostgreSQL drops and makes anew inside of a command, without an event: keys of the altered table, and of other tables that refer to it. What is known
-- of these tables is about the keys that they have now, and their clients hear nothing of it.
\set ECHO none
\set test regress_keys_anew
\set roles '{anew_ann,anew_ben}'
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
-- Per table: is it settled, what is known that is not there, and what is there that is not known.
CREATE FUNCTION t.known() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', c.relation, CASE WHEN EXISTS (SELECT FROM snapsync.lost_unseen(c.relation)) THEN 'unsettled' END,
                     (SELECT 'due: ' || min(d.name) FROM snapsync.dependency AS d WHERE d.relation = c.relation AND d.classid = 0),
                     (SELECT 'gone: ' || string_agg(DISTINCT d.classid::regclass::text, ',') FROM snapsync.dependency AS d
                      WHERE d.relation = c.relation AND d.objid <> 0
                        AND CASE d.classid WHEN 'pg_constraint'::regclass THEN d.objid NOT IN (SELECT oid FROM pg_constraint)
                                           WHEN 'pg_class'::regclass THEN d.objid NOT IN (SELECT oid FROM pg_class) END),
                     (SELECT 'unknown: ' || string_agg(DISTINCT f.conname, ',') FROM pg_constraint AS f
                      WHERE f.conrelid = c.relation AND f.contype IN ('f', 'p', 'u') AND f.conparentid = 0
                        AND NOT EXISTS (SELECT FROM snapsync.dependency AS d WHERE d.relation = c.relation AND d.objid = f.oid)),
                     (SELECT 'unknown: ' || string_agg(DISTINCT x.indexrelid::regclass::text, ',') FROM pg_index AS x
                      WHERE x.indrelid = c.relation AND x.indisunique
                        AND NOT EXISTS (SELECT FROM snapsync.dependency AS d WHERE d.relation = c.relation AND d.objid = x.indexrelid)))
    FROM snapsync.collection AS c ORDER BY c.relation::regclass::text COLLATE "C"
$$;
CREATE FUNCTION t.all(who name) RETURNS SETOF text LANGUAGE sql AS
    $$ SELECT c.name || ': ' || t.sync(who, c.name) FROM snapsync.collection AS c WHERE c.name IS NOT NULL ORDER BY c.name COLLATE "C" $$;
\set ECHO all

-- The type of a key: those who refer to it, directly, to a unique column, to itself, to a partitioned table or to a part of it.
CREATE TABLE lists (id int PRIMARY KEY, code int UNIQUE, up int REFERENCES lists);
CREATE TABLE todos (id int PRIMARY KEY, list int REFERENCES lists, code int REFERENCES lists(code));
CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE to_parts (id int PRIMARY KEY, part int REFERENCES parts);
CREATE TABLE to_part (id int PRIMARY KEY, part int REFERENCES parts_1);
CREATE TABLE in_parts (id int PRIMARY KEY, list int REFERENCES lists) PARTITION BY RANGE (id);
CREATE TABLE in_parts_1 PARTITION OF in_parts FOR VALUES FROM (0) TO (100);
GRANT SELECT ON lists, todos, parts, to_parts, to_part, in_parts TO PUBLIC;
SELECT snapsync.enable(x::regclass) FROM unnest('{lists,todos,parts,to_parts,to_part,in_parts}'::text[]) AS x;
INSERT INTO lists VALUES (1, 1, 1); INSERT INTO todos VALUES (1, 1, 1);
INSERT INTO parts VALUES (1); INSERT INTO to_parts VALUES (1, 1); INSERT INTO to_part VALUES (1, 1); INSERT INTO in_parts VALUES (1, 1);
SELECT t.all('alice');
SELECT t.all('alice');
ALTER TABLE lists ALTER id TYPE bigint, ALTER up TYPE bigint;
SELECT t.known();
SELECT t.all('alice');
SELECT t.all('alice');
ALTER TABLE lists ALTER code TYPE bigint;
ALTER TABLE todos ALTER list TYPE bigint;
SELECT t.known();
SELECT count(*) FROM t.all('alice');
SELECT t.all('alice');
-- (A key that is a partition key has its type for good.)
CREATE TABLE split (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE split_1 PARTITION OF split FOR VALUES FROM (0) TO (100);
CREATE TABLE to_split (id int PRIMARY KEY, split int, at int, FOREIGN KEY (split, at) REFERENCES split);
GRANT SELECT ON split, to_split TO PUBLIC;
SELECT snapsync.enable('to_split');
SELECT count(*) FROM t.all('alice');
ALTER TABLE split ALTER id TYPE bigint;
SELECT t.known();
SELECT t.all('alice');
-- Partitions of the other table come and go, and with them parts of the key.
CREATE TABLE split_2 PARTITION OF split FOR VALUES FROM (100) TO (200);
SELECT t.known();
ALTER TABLE split DETACH PARTITION split_2;
SELECT t.known();
ALTER TABLE split ATTACH PARTITION split_2 FOR VALUES FROM (100) TO (200);
SELECT t.known();
ALTER TABLE split DETACH PARTITION split_2 CONCURRENTLY;
SELECT t.known();
DROP TABLE split_2;
SELECT t.all('alice');

-- By way of a type, and of inheritance.
CREATE TYPE listed AS (id int, name text);
CREATE TABLE typed OF listed (PRIMARY KEY (id));
CREATE TABLE to_typed (id int PRIMARY KEY, typed int REFERENCES typed);
CREATE TABLE above (id int);
CREATE TABLE below (PRIMARY KEY (id)) INHERITS (above);
CREATE TABLE to_below (id int PRIMARY KEY, below int REFERENCES below);
GRANT SELECT ON to_typed, to_below TO PUBLIC;
SELECT snapsync.enable(x::regclass) FROM unnest('{to_typed,to_below}'::text[]) AS x;
SELECT count(*) FROM t.all('alice');
ALTER TYPE listed ALTER ATTRIBUTE id TYPE bigint CASCADE;
ALTER TABLE above ALTER id TYPE bigint;
SELECT t.known();
SELECT t.all('alice');

-- Of somebody else's tables, which are settled by the way where nothing else is to be done.
CREATE SCHEMA ann AUTHORIZATION anew_ann;
CREATE SCHEMA ben AUTHORIZATION anew_ben;
GRANT USAGE ON SCHEMA ann, ben TO PUBLIC;
SET ROLE anew_ann;
CREATE TABLE ann.p (id int PRIMARY KEY);
GRANT REFERENCES ON ann.p TO anew_ben;
SET ROLE anew_ben;
CREATE TABLE ben.c (id int PRIMARY KEY, p int REFERENCES ann.p);
GRANT SELECT ON ben.c TO PUBLIC;
SELECT snapsync.enable('ben.c', 'bens');
SET ROLE anew_ann;
ALTER TABLE ann.p ALTER id TYPE bigint;
RESET ROLE;
SELECT line FROM t.known() AS line WHERE line LIKE 'ben%';
-- Where a look is due already it stays so.
INSERT INTO snapsync.dependency (relation, classid, objid, own, name) VALUES ('ben.c', 0, 0, false, 'it is due');
SET ROLE anew_ann;
ALTER TABLE ann.p ALTER id TYPE numeric;
RESET ROLE;
SELECT line FROM t.known() AS line WHERE line LIKE 'ben%';
SET ROLE anew_ben;
SELECT snapsync.enable('ben.c');
RESET ROLE;
SELECT line FROM t.known() AS line WHERE line LIKE 'ben%';

-- A key that was not enforced for a time is made anew without a check where its values stay what they are: there are rows still that hang on none.
CREATE TABLE teams (id varchar(10) PRIMARY KEY, who name);
CREATE TABLE plays (id int PRIMARY KEY, team varchar(10) CONSTRAINT of REFERENCES teams);
CREATE TABLE goals (id int PRIMARY KEY, play int REFERENCES plays);
ALTER TABLE plays ENABLE ROW LEVEL SECURITY;
ALTER TABLE goals ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON plays USING (EXISTS (SELECT FROM teams AS t WHERE t.id = plays.team AND t.who = current_user));
CREATE POLICY p ON goals USING (EXISTS (SELECT FROM plays AS p JOIN teams AS t ON t.id = p.team WHERE p.id = goals.play AND t.who = current_user));
GRANT SELECT ON teams, plays, goals TO PUBLIC;
SELECT snapsync.enable(x::regclass) FROM unnest('{plays,goals}'::text[]) AS x;
CREATE FUNCTION t.kinds() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT format('%s reads %s: %s%s', a.relation, a.access, a.kind, CASE WHEN EXISTS (
        SELECT FROM snapsync.dependency AS d WHERE d.relation = a.relation AND d.name = 'unenforced') THEN ', marked' END)
    FROM snapsync.access AS a WHERE a.relation IN ('plays'::regclass, 'goals'::regclass) ORDER BY 1
$$;
SELECT t.kinds();
ALTER TABLE plays DISABLE TRIGGER ALL;
INSERT INTO plays VALUES (1, 'red'); INSERT INTO goals VALUES (1, 1);
ALTER TABLE plays ENABLE TRIGGER ALL;
SELECT t.kinds();
SELECT t.sync('alice', 'plays'), t.sync('alice', 'goals');
SELECT t.sync('alice', 'plays'), t.sync('alice', 'goals');
-- (PostgreSQL wants policies to go before that.)
\set create_goals 'CREATE POLICY p ON goals USING (EXISTS (SELECT FROM plays AS p JOIN teams AS t ON t.id = p.team WHERE p.id = goals.play AND t.who = current_user));'
\set drop_policies 'DROP POLICY p ON plays; DROP POLICY p ON goals;'
\set create_policies 'CREATE POLICY p ON plays USING (EXISTS (SELECT FROM teams AS t WHERE t.id = plays.team AND t.who = current_user)); CREATE POLICY p ON goals USING (EXISTS (SELECT FROM plays AS p JOIN teams AS t ON t.id = p.team WHERE p.id = goals.play AND t.who = current_user))'
BEGIN;
:drop_policies
ALTER TABLE teams ALTER id TYPE varchar(20);
:create_policies;
COMMIT;
SELECT t.kinds();
BEGIN;
:drop_policies
ALTER TABLE plays ALTER team TYPE varchar(20);
:create_policies;
COMMIT;
SELECT t.kinds();
SELECT t.known();
SELECT t.sync('alice', 'plays'), t.sync('alice', 'goals');
SELECT t.sync('alice', 'plays'), t.sync('alice', 'goals');
INSERT INTO teams VALUES ('red', 'alice');
SELECT t.sync('alice', 'plays'), t.sync('alice', 'goals');
-- Until it is made anew by name, which checks it.
ALTER TABLE plays DROP CONSTRAINT of;
ALTER TABLE plays ADD CONSTRAINT of FOREIGN KEY (team) REFERENCES teams;
SELECT t.kinds();
SELECT t.sync('alice', 'plays'), t.sync('alice', 'goals');
SELECT t.sync('alice', 'plays'), t.sync('alice', 'goals');
-- A mark of a session that is a replica, which nobody has looked at yet.
:drop_policies
SET session_replication_role = replica;
INSERT INTO plays VALUES (2, 'blue'); INSERT INTO goals VALUES (2, 2);
RESET session_replication_role;
SELECT t.kinds();
SELECT count(*) FROM snapsync.dependency WHERE name = 'unenforced' AND relation = 'plays'::regclass;
BEGIN;
ALTER TABLE teams ALTER id TYPE varchar(30);
:create_policies;
COMMIT;
SELECT t.kinds();
SELECT t.sync('alice', 'plays'), t.sync('alice', 'goals');
INSERT INTO teams VALUES ('blue', 'alice');
SELECT t.sync('alice', 'plays'), t.sync('alice', 'goals');
SELECT t.known();

-- What is known of a key outlives the settings of the table that has it.
SELECT snapsync.disable(x::regclass) FROM unnest('{plays,goals}'::text[]) AS x;
SELECT snapsync.enable(x::regclass) FROM unnest('{plays,goals}'::text[]) AS x;
SELECT t.kinds();
-- So it is where only policies read that table, and a migration makes these anew.
SELECT snapsync.disable('plays');
SET session_replication_role = replica;
INSERT INTO plays VALUES (3, 'green'), (4, 'grey'); INSERT INTO goals VALUES (3, 3), (4, 4);
RESET session_replication_role;
SELECT t.sync('alice', 'goals');
BEGIN;
DROP POLICY p ON goals;
SELECT count(*) FROM snapsync.collection WHERE relation = 'plays'::regclass;
:create_goals
COMMIT;
SELECT t.kinds();
SELECT t.sync('alice', 'goals');
SELECT t.sync('alice', 'goals');
INSERT INTO teams VALUES ('green', 'alice');
SELECT t.sync('alice', 'goals');
BEGIN;
:drop_policies
ALTER TABLE teams ALTER id TYPE varchar(40);
ALTER TABLE plays RENAME CONSTRAINT of TO of_team;
ALTER TABLE plays ALTER team TYPE varchar(40);
:create_policies;
COMMIT;
SELECT t.kinds();
SELECT t.sync('alice', 'goals');
INSERT INTO teams VALUES ('grey', 'alice');
SELECT t.sync('alice', 'goals');
-- While nobody reads the table, a key that is made anew has one mark, however often that is.
BEGIN;
:drop_policies
SELECT count(*) FROM snapsync.dependency WHERE name = 'unenforced';
ALTER TABLE plays ALTER team TYPE varchar(20);
ALTER TABLE teams ALTER id TYPE varchar(20);
SELECT count(*) FROM snapsync.dependency WHERE name = 'unenforced';
-- A key that is dropped and added is a new one, and nothing of the old one stays.
ALTER TABLE plays DROP CONSTRAINT of_team;
SELECT count(*) FROM snapsync.dependency WHERE name = 'unenforced';
ALTER TABLE plays ADD CONSTRAINT of_team FOREIGN KEY (team) REFERENCES teams;
:create_policies;
COMMIT;
SELECT t.kinds();
-- Nor where the table goes.
BEGIN;
SET session_replication_role = replica;
INSERT INTO plays VALUES (5, 'grey');
RESET session_replication_role;
:drop_policies
SELECT count(*) FROM snapsync.dependency WHERE name = 'unenforced';
DROP TABLE plays CASCADE;
SELECT count(*) FROM snapsync.dependency WHERE name = 'unenforced';
ROLLBACK;

-- An expression that generates a key (PostgreSQL 17).
CREATE TABLE made (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED UNIQUE);
CREATE TABLE to_made (id int PRIMARY KEY, twice int REFERENCES made(twice));
GRANT SELECT ON to_made TO PUBLIC;
SELECT snapsync.enable('to_made');
SELECT current_setting('server_version_num')::int >= 170000 AS can_set_expression \gset
\set ECHO none
\if :can_set_expression
ALTER TABLE made ALTER twice SET EXPRESSION AS (id * 3);
\endif
\set ECHO all
SELECT line FROM t.known() AS line WHERE line LIKE 'to_made%';
\set ECHO none
DROP SCHEMA ann, ben CASCADE;
