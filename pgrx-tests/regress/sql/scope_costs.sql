-- Whether a pull asks for its caller's scopes goes by what that costs, and by how many rows others have changed. So that it shows which entries were
-- read, those of other scopes are made such that nobody can read them.
\set ECHO none
\set test regress_scope_costs
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
-- One's projects: as many as t.projects says, from the first on.
CREATE FUNCTION mine() RETURNS SETOF int LANGUAGE plpgsql STABLE AS
    $$ BEGIN RETURN QUERY SELECT generate_series(1, coalesce(nullif(current_setting('t.projects', true), ''), '1')::int); END $$;
CREATE TABLE todos (id bigserial PRIMARY KEY, project int);
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON todos USING (project IN (SELECT mine()));
GRANT SELECT ON todos TO PUBLIC;
CREATE TABLE other (id serial PRIMARY KEY);
SELECT snapsync.enable('todos'), snapsync.enable('other');
-- A row of alice's is inserted, and `others` is done. Her pull, when nobody can read the entries of projects behind those that are hers, nor of
-- others' memberships.
CREATE PROCEDURE after(others text, pages boolean DEFAULT false, waits boolean DEFAULT false, transactions int DEFAULT 1,
    INOUT said text DEFAULT '') LANGUAGE plpgsql AS $$
DECLARE
    cursor text := public.pull_changes('{}') ->> 'timestamp';
    answer json;
    mine int := coalesce(nullif(current_setting('t.projects', true), ''), '1');
BEGIN
    INSERT INTO todos (project) VALUES (1);
    COMMIT;
    FOR i IN 1 .. transactions LOOP
        EXECUTE others;
        COMMIT;
    END LOOP;
    UPDATE snapsync.change SET op = '?' WHERE stamp >= cursor::bigint AND op <> 'R'
        AND CASE WHEN relation = 'todos'::regclass THEN scope::int > mine ELSE scope <> 'alice' END;
    COMMIT;
    SET LOCAL ROLE alice;
    BEGIN
        IF waits THEN
            answer := public.wait_for_changes('{todos}', cursor, timeout => '0');
            said := format('changed: %s, of others nothing was read', answer ->> 'changed');
        ELSE
            answer := public.pull_changes('{todos}', cursor, page_size => CASE WHEN pages THEN 10 END);
            said := format('%s came, of others nothing was read', json_array_length(answer #> '{changes,todos,created}'));
        END IF;
    EXCEPTION WHEN internal_error THEN said := SQLERRM;
    END;
    COMMIT;
END $$;
RESET client_min_messages;
\set ECHO all
SELECT scope FROM snapsync.status WHERE name = 'todos';

-- What the planner expects to come is no matter: what comes is.
ALTER FUNCTION mine() ROWS 20000;
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 10) AS n');
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 10) AS n', pages => true);
SET t.projects = 10000;
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 10) AS n');
SET t.projects = 10001;
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 10) AS n');
RESET t.projects;

-- What is dear (10 ms) is asked where others have changed much, also in one transaction; also if what is written at once shares entries, or
-- was written before the transaction had its stamp. Not where it is little, whatever happened elsewhere.
ALTER FUNCTION mine() COST 400000;
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 400) AS n');
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 700) AS n');
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 700) AS n', pages => true);
CALL after('INSERT INTO todos (project) SELECT 50000 FROM generate_series(1, 400) AS n');
CALL after('INSERT INTO todos (project) SELECT 50000 FROM generate_series(1, 5000) AS n');
CALL after('SET LOCAL snapsync.flush_threshold = 10; INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 700) AS n');
CALL after('INSERT INTO todos (project) VALUES (50001)', transactions => 700);
CALL after('INSERT INTO other DEFAULT VALUES; INSERT INTO todos (project) SELECT 50001 WHERE lastval() % 100 = 0', transactions => 2500);
-- Who waits asks for more (20 ms), or others would wake him.
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 10) AS n', waits => true);
ALTER FUNCTION mine() COST 1e6;
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 10) AS n', waits => true);
-- However dear it is: what the policy asks in each statement that it is put to, it would ask for each thousand of others' rows.
ALTER FUNCTION mine() COST 1e9;
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 700) AS n');
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 1000) AS n');
-- Where it looks something up for each row, no more is asked than these look-ups cost.
ALTER POLICY p ON todos USING (EXISTS (SELECT FROM mine() AS m(project) WHERE m.project = todos.project));
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 2500) AS n');
ALTER FUNCTION mine() COST 400000;
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 1500) AS n');
CALL after('INSERT INTO todos (project) SELECT 50000 + n FROM generate_series(1, 2500) AS n');

-- A table that has policies itself, of which half of the rows are expected to be seen: alice sees one of 21,000.
SET client_min_messages = warning;
CREATE TABLE members (team int PRIMARY KEY, who text);
INSERT INTO members VALUES (1, 'alice');
CREATE TABLE projects (id int PRIMARY KEY, team int NOT NULL);
INSERT INTO projects SELECT n, n FROM generate_series(1, 21000) AS n;
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON projects USING (team IN (SELECT m.team FROM members AS m WHERE m.who = (SELECT current_user)));
GRANT SELECT ON members, projects TO PUBLIC;
ANALYZE members, projects;
ALTER POLICY p ON todos USING (project IN (SELECT p.id FROM projects AS p));
RESET client_min_messages;
SELECT scope FROM snapsync.status WHERE name = 'todos';
CALL after('INSERT INTO todos (project) SELECT n FROM generate_series(1001, 2000) AS n');
ALTER POLICY p ON todos USING (EXISTS (SELECT FROM projects AS p WHERE p.id = todos.project));
CALL after('INSERT INTO todos (project) SELECT n FROM generate_series(1001, 3000) AS n');

-- Which memberships are the caller's is asked in the same way.
SET client_min_messages = warning;
CREATE FUNCTION names() RETURNS SETOF text LANGUAGE plpgsql STABLE ROWS 20000 AS $$ BEGIN RETURN QUERY SELECT current_user::text; END $$;
DROP POLICY p ON todos;
CREATE POLICY p ON todos USING (project IN (SELECT m.team FROM members AS m WHERE m.who IN (SELECT names())));
RESET client_min_messages;
SELECT found_scope FROM snapsync.collection WHERE relation = 'members'::regclass;
CALL after('INSERT INTO members SELECT 50000 + n, ''bob'' FROM generate_series(1, 10) AS n');
ALTER FUNCTION names() COST 400000;
CALL after('INSERT INTO members SELECT 60000 + n, ''bob'' FROM generate_series(1, 10) AS n');
CALL after('INSERT INTO members SELECT 70000 + n, ''bob'' FROM generate_series(1, 5000) AS n');
