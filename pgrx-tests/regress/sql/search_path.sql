-- Policies run over rows that the caller must not see. Whatever he puts into his search_path, no operator of his gets to see
-- their values.
\set ECHO none
\set test regress_search_path
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO none
SET client_min_messages = warning;
CREATE TYPE kind AS ENUM ('open', 'closed');
CREATE TABLE members (who name, team varchar(20), PRIMARY KEY (who, team));
CREATE TABLE docs (id int PRIMARY KEY, team varchar(20));
CREATE TABLE pairs (id int PRIMARY KEY, who name, team varchar(20));
CREATE TABLE cases (id int PRIMARY KEY, kind kind);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
ALTER TABLE pairs ENABLE ROW LEVEL SECURITY;
ALTER TABLE cases ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON docs FOR SELECT USING (team IN (SELECT m.team FROM members AS m WHERE m.who = current_user));
CREATE POLICY p ON pairs FOR SELECT USING ((who, team) IN (SELECT m.who, m.team FROM members AS m WHERE m.who = current_user));
CREATE POLICY p ON cases FOR SELECT USING (CASE kind WHEN 'open' THEN true ELSE current_user = 'alice' END);
GRANT SELECT ON members, docs, pairs, cases TO alice, bob;
GRANT CREATE ON DATABASE regress_search_path TO bob;
SELECT snapsync.enable('docs'), snapsync.enable('pairs'), snapsync.enable('cases');
INSERT INTO members VALUES ('alice', 'red'), ('bob', 'blue');
INSERT INTO docs VALUES (1, 'red'), (2, 'blue');
INSERT INTO pairs VALUES (1, 'alice', 'red'), (2, 'bob', 'blue');
INSERT INTO cases VALUES (1, 'closed'), (2, 'open');
RESET client_min_messages;
\set ECHO all

SET ROLE bob;
CREATE SCHEMA evil;
CREATE FUNCTION evil.look(text, varchar) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE WARNING 'saw % %', $1, $2; RETURN true; END $$;
CREATE FUNCTION evil.look(varchar, varchar) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE WARNING 'saw % %', $1, $2; RETURN true; END $$;
CREATE FUNCTION evil.look(public.kind, public.kind) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE WARNING 'saw % %', $1, $2; RETURN true; END $$;
CREATE OPERATOR evil.= (FUNCTION = evil.look, LEFTARG = text, RIGHTARG = varchar);
CREATE OPERATOR evil.= (FUNCTION = evil.look, LEFTARG = varchar, RIGHTARG = varchar);
CREATE OPERATOR evil.= (FUNCTION = evil.look, LEFTARG = public.kind, RIGHTARG = public.kind);
SELECT t.catch_up('docs', 'pairs', 'cases');
RESET ROLE;
DELETE FROM docs;
DELETE FROM pairs;
DELETE FROM cases;
SET ROLE bob;
SET search_path = evil, public;
SELECT what, item FROM t.pull('{docs,pairs,cases}', current_setting('t.cursor'));
RESET search_path;

-- Nor where he has no right any more to create there what he created before.
RESET ROLE;
INSERT INTO docs VALUES (1, 'red'), (2, 'blue');
INSERT INTO pairs VALUES (1, 'alice', 'red'), (2, 'bob', 'blue');
INSERT INTO cases VALUES (1, 'closed'), (2, 'open');
SET ROLE bob;
REVOKE CREATE ON SCHEMA evil FROM bob;
SELECT t.catch_up('docs', 'pairs', 'cases');
RESET ROLE;
DELETE FROM docs;
DELETE FROM pairs;
DELETE FROM cases;
SET ROLE bob;
SET search_path = evil, public;
SELECT what, item FROM t.pull('{docs,pairs,cases}', current_setting('t.cursor'));
