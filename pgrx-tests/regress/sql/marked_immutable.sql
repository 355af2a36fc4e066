-- A pooled session: one role, users who are told apart by a setting. A function that reads it and is marked IMMUTABLE is called when a plan is
-- made, and what it says stays in the plan. So no such plan serves another call.
\set ECHO none
\set test regress_marked_immutable
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE SCHEMA f;
GRANT USAGE ON SCHEMA f TO PUBLIC;
CREATE FUNCTION f.me() RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN current_setting('t.who', true); END$$;
CREATE FUNCTION f.of(name text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN current_setting(name, true); END$$;
CREATE FUNCTION f.is_mine(usr text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN usr = current_setting('t.who', true); END$$;
-- The planner puts these bodies in the place of the call.
CREATE FUNCTION f.stable_text() RETURNS text LANGUAGE sql STABLE AS 'SELECT f.me()';
CREATE FUNCTION f.stable_standard() RETURNS text LANGUAGE sql STABLE RETURN f.me();
CREATE FUNCTION f.twice() RETURNS text LANGUAGE sql STABLE AS 'SELECT f.stable_text()';
CREATE FUNCTION f.passes(name text) RETURNS text LANGUAGE sql STABLE AS 'SELECT f.of(name)';
CREATE FUNCTION f.all_mine() RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT f.me()';
CREATE FUNCTION f.left_out(usr text DEFAULT f.me()) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN usr; END$$;
CREATE SCHEMA one;
CREATE SCHEMA two;
GRANT USAGE ON SCHEMA one, two TO PUBLIC;
CREATE FUNCTION one.me_by_path() RETURNS text LANGUAGE sql STABLE AS $$SELECT current_setting('t.who', true)$$;
CREATE FUNCTION two.me_by_path() RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN current_setting('t.who', true); END$$;
SET search_path = one;
CREATE FUNCTION f.by_path() RETURNS text LANGUAGE sql STABLE AS 'SELECT me_by_path()';
RESET search_path;
CREATE FUNCTION f.same(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN $1 = $2; END$$;
CREATE OPERATOR f.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = f.same);
CREATE FUNCTION f.named(text, text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN current_setting($1 || $2, true); END$$;
CREATE OPERATOR f.!! (LEFTARG = text, RIGHTARG = text, FUNCTION = f.named);
CREATE VIEW f.who AS SELECT f.me() AS usr;
GRANT SELECT ON f.who TO PUBLIC;

-- Both users pull in one session, rows of both are changed and deleted, and both pull again: what does each get that his SELECT does not give, or
-- of whose deletions does he hear?
CREATE FUNCTION t.two_users(name text, policy text, paths text[] DEFAULT '{public,public}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    cursor text; who text; came json; said text := ''; path text;
BEGIN
    PERFORM t.secured(name, ', usr text, v text DEFAULT ''''', policy);
    EXECUTE format('INSERT INTO %I SELECT n, (''{A,B}''::text[])[n %% 2 + 1] FROM generate_series(1, 8) AS n', name);
    cursor := public.pull_changes('{}') ->> 'timestamp';
    FOR round IN 1 .. 2 LOOP
        FOREACH who IN ARRAY '{A,B}'::text[] LOOP
            PERFORM set_config('t.who', who, true), set_config('search_path', paths[CASE WHEN round = 1 AND who = 'A' THEN 1 ELSE 2 END], true);
            SET LOCAL ROLE alice;
            came := public.pull_changes(ARRAY['public.' || name], cursor);
            RESET ROLE;
            SET LOCAL search_path = public;
            said := said || format(' %s: %s,', who,
                (SELECT string_agg(DISTINCT coalesce(i.value ->> 'usr', 'deleted ' || (i.value #>> '{}')), ' ')
                 FROM json_each(came -> 'changes') AS c, json_each(c.value) AS a, json_array_elements(a.value) AS i));
        END LOOP;
        EXECUTE format('UPDATE %I SET v = v || ''.''', name);
        EXECUTE format('DELETE FROM %I WHERE id IN (7, 8)', name);
    END LOOP;
    RETURN rtrim(said, ',');
END
$$;
\set ECHO all
SELECT t.two_users('bare', 'usr = f.me()');
SELECT t.two_users('constant', $$usr = f.of('t.who')$$);
SELECT t.two_users('operator', $$usr OPERATOR(f.===) ('t.' OPERATOR(f.!!) 'who')$$);
SELECT t.two_users('in_text', 'usr = f.stable_text()');
SELECT t.two_users('in_standard', 'usr = f.stable_standard()');
SELECT t.two_users('deeper', 'usr = f.twice()');
SELECT t.two_users('passed', $$usr = f.passes('t.who')$$);
SELECT t.two_users('set_of', 'usr IN (SELECT s FROM f.all_mine() AS s)');
SELECT t.two_users('left_out', 'usr = f.left_out()');
SELECT t.two_users('in_view', 'usr IN (SELECT w.usr FROM f.who AS w)');
SELECT t.two_users('of_values', $$EXISTS (SELECT FROM (VALUES ('t.who')) AS s(name) WHERE usr = f.of(s.name))$$);
SELECT t.two_users('of_subquery', $$EXISTS (SELECT FROM (SELECT 't.who' AS name) AS s WHERE usr = f.of(s.name))$$);
SELECT t.two_users('path', 'usr = f.by_path()', '{one,two}');
-- These are right in any case: the planner has nothing to call.
SELECT t.two_users('of_column', 'f.is_mine(usr)');
SELECT t.two_users('asked', 'usr = (SELECT current_setting(''t.who'', true))');

-- The owner hears of it.
SELECT collection, finding FROM snapsync.doctor() WHERE finding ~ 'IMMUTABLE' ORDER BY collection COLLATE "C", finding COLLATE "C";
SET ROLE alice;
SELECT * FROM t.error('SELECT snapsync.planned_calls(0)');
RESET ROLE;

-- It became so meanwhile.
CREATE FUNCTION f.turns() RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN current_setting('t.who', true); END$$;
CREATE FUNCTION f.turning() RETURNS text LANGUAGE sql STABLE AS 'SELECT f.turns()';
SELECT t.two_users('turned', 'usr = f.turning()');
ALTER FUNCTION f.turns() IMMUTABLE;
UPDATE turned SET v = 'turned';
CREATE FUNCTION t.pulled_by(who text, name text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(DISTINCT i.value ->> 'usr', ' ')
    FROM (SELECT set_config('t.who', who, false) OFFSET 0) AS s, public.pull_changes(ARRAY[name], current_setting('t.cursor')) AS came,
         json_each(came -> 'changes') AS c, json_each(c.value) AS a, json_array_elements(a.value) AS i
$$;
SELECT t.catch_up('turned');
UPDATE turned SET v = 'again';
SET ROLE alice;
SELECT t.pulled_by('A', 'turned');
SELECT t.pulled_by('B', 'turned');
RESET ROLE;

-- Pushes: checks of what is written, and what defaults say.
CREATE TABLE written (id int PRIMARY KEY, usr text, by text DEFAULT f.me());
ALTER TABLE written ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON written USING (usr = f.me());
GRANT SELECT, INSERT, UPDATE, DELETE ON written TO alice;
SELECT snapsync.enable('written');
SET ROLE alice;
SET t.who = 'A';
SELECT public.push_changes('{"written": {"created": [{"id": 1, "usr": "A"}]}}', NULL);
SELECT public.push_changes('{"written": {"updated": [{"id": 1, "usr": "A"}]}}', NULL);
SET t.who = 'B';
SELECT public.push_changes('{"written": {"created": [{"id": 2, "usr": "B"}]}}', NULL);
SELECT public.push_changes('{"written": {"updated": [{"id": 2, "usr": "B"}]}}', NULL);
SELECT t.error($$SELECT public.push_changes('{"written": {"created": [{"id": 3, "usr": "A"}]}}', NULL)$$);
RESET ROLE;
SELECT id, usr, by FROM written ORDER BY id;

-- Others are kept. (The planner asks a STABLE function, to know how many rows there will be.)
CREATE FUNCTION f.counts() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM set_config('t.calls', (coalesce(nullif(current_setting('t.calls', true), ''), '0')::int + 1)::text, false);
    RETURN current_setting('t.who', true);
END$$;
SELECT t.secured('kept', ', usr text', 'usr = f.counts()');
CREATE INDEX ON kept (usr);
INSERT INTO kept SELECT n, (CASE n % 2 WHEN 0 THEN 'A' ELSE 'B' END) || n / 100 FROM generate_series(1, 1000) AS n;
ANALYZE kept;
CREATE FUNCTION t.calls() RETURNS int LANGUAGE plpgsql AS $$
DECLARE before int := coalesce(nullif(current_setting('t.calls', true), ''), '0');
BEGIN
    PERFORM public.pull_changes('{kept}');
    RETURN current_setting('t.calls')::int - before;
END$$;
SET ROLE alice;
SELECT t.calls() > t.calls() AS "the first plans", t.calls() = t.calls() AS "no other does";
RESET ROLE;
