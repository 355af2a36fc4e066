-- Scopes by themselves: the column that the policies divide the rows by is found in their trees, and a pull reads only the entries of its
-- caller's values.
\set ECHO none
\set test regress_own_scopes
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;

CREATE FUNCTION me() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_user::text $$;
CREATE FUNCTION my_orgs() RETURNS SETOF int LANGUAGE sql STABLE AS $$ SELECT 1 $$;
CREATE FUNCTION my_org_array() RETURNS int[] LANGUAGE sql STABLE AS $$ SELECT '{1,2}'::int[] $$;
CREATE FUNCTION whatever() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT current_user::text $$;
CREATE DOMAIN tenant AS int;
CREATE TABLE projects (id int PRIMARY KEY, owner text NOT NULL, org int);
CREATE TABLE members (project int, who text, role text, PRIMARY KEY (project, who));
CREATE VIEW random_projects AS SELECT id FROM projects WHERE random() < 2;
GRANT SELECT ON projects, members, random_projects TO PUBLIC;

-- What is found in one policy.
CREATE FUNCTION found(policy text, columns text DEFAULT 'owner text, org int, project int REFERENCES projects, note text, amount numeric, day date, c char(8), tenant tenant, u uuid, small int2, big int8, flag boolean')
RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
  PERFORM t.secured('x', ', ' || columns, policy);
  SELECT coalesce(found_scope, '-') || coalesce(': ' || no_scope, '') INTO answer FROM snapsync.collection WHERE relation = 'x'::regclass;
  PERFORM snapsync.disable('x');
  DROP TABLE x;
  RETURN answer;
END $$;
\set ECHO all
SELECT policy, found(policy) FROM unnest(ARRAY[
  'owner = me()', 'me() = owner', 'owner = (SELECT me())', 'owner = current_user', 'u = (SELECT gen_random_uuid())',
  'u = (current_setting(''t.claims'', true)::json ->> ''sub'')::uuid', 'u::text = (current_setting(''t.claims'', true)::json ->> ''sub'')',
  'org = ANY (my_org_array())', 'org IN (SELECT my_orgs())', 'org = ANY (ARRAY(SELECT my_orgs()))', 'org = 1::bigint', 'tenant IN (SELECT my_orgs())',
  'small IN (SELECT my_orgs())', 'big = ANY (my_org_array())', 'org IN (1, 2)', 'flag AND note = ''x''', 'note = ''x'' AND owner = me()',
  'owner = me() AND flag', 'flag AND (owner = me() AND note IS NOT NULL)', '(owner = me()) IS TRUE',
  'owner = me() OR owner = ''everybody''', 'owner = me() OR (flag AND owner IN (SELECT who FROM members))', 'owner = me() OR flag',
  'owner = me() OR project IN (SELECT project FROM members WHERE who = me())', 'me() = ''admin'' OR owner = me()', 'false OR owner = me()',
  'me() = ''admin''', 'true', 'owner <> me()', 'NOT owner = me()', 'owner LIKE me()', 'owner = note', 'owner = me() || note', 'owner IS NOT DISTINCT FROM me()',
  'owner = whatever()', 'owner = me() AND whatever() = me()',
  'amount = 1', 'day = current_date', 'c = me()', 'lower(owner) = me()',
  'project IN (SELECT id FROM projects WHERE owner = me())',
  'project IN (SELECT id FROM projects UNION SELECT project FROM members)',
  'project IN (SELECT id FROM random_projects)',
  'EXISTS (SELECT FROM projects AS p WHERE p.id = x.project AND p.owner = me())',
  'EXISTS (SELECT FROM projects AS p JOIN members AS m ON m.project = p.id WHERE m.project = x.project AND m.who = me())',
  'EXISTS (SELECT FROM members AS m WHERE m.project = x.project AND m.who = me() AND (m.role = ''admin'' OR x.flag) LIMIT 1)',
  'EXISTS (SELECT FROM members AS m WHERE m.who = me() AND (m.project = x.project OR x.flag))',
  'EXISTS (SELECT FROM members AS m WHERE m.who = me())',
  'EXISTS (SELECT FROM projects AS p WHERE p.id = x.project AND EXISTS (SELECT FROM members AS m WHERE m.project = p.id AND m.who = me()))',
  'EXISTS (SELECT count(*) FROM members AS m WHERE m.project = x.project)',
  'me() IN (SELECT who FROM members AS m WHERE m.project = x.project)',
  'me() = (SELECT p.owner FROM projects AS p WHERE p.id = x.project)',
  '(SELECT p.owner = me() FROM projects AS p WHERE p.id = x.project)',
  '(project, owner) IN (SELECT m.project, m.who FROM members AS m WHERE m.who = me())',
  'project NOT IN (SELECT project FROM members)', 'project > ALL (SELECT project FROM members)',
  'x IS NOT NULL AND owner = me()']) WITH ORDINALITY AS p(policy, n) ORDER BY n;

-- Several policies: every way in counts, by role; what restricts all may tell, too.
CREATE FUNCTION found_in(VARIADIC policies text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text; policy text;
BEGIN
  CREATE TABLE x (id int PRIMARY KEY, owner text, org int, flag boolean);
  ALTER TABLE x ENABLE ROW LEVEL SECURITY;
  FOREACH policy IN ARRAY policies LOOP
    EXECUTE format('CREATE POLICY %I ON x %s', 'p ' || policy, policy);
  END LOOP;
  PERFORM snapsync.enable('x');
  SELECT coalesce(found_scope, '-') || coalesce(': ' || no_scope, '') INTO answer FROM snapsync.collection WHERE relation = 'x'::regclass;
  DROP TABLE x;
  RETURN answer;
END $$;
SELECT found_in('USING (owner = me())', 'FOR SELECT USING (owner = ''everybody'')');
SELECT found_in('USING (owner = me())', 'FOR SELECT USING (org IN (SELECT my_orgs()))');
SELECT found_in('USING (owner = me())', 'FOR SELECT USING (flag)');
SELECT found_in('USING (owner = me())', 'FOR INSERT WITH CHECK (flag)', 'FOR UPDATE USING (flag)', 'FOR DELETE USING (flag)');
SELECT found_in('TO alice USING (owner = me())', 'TO bob USING (true)');
SELECT found_in('TO alice USING (owner = me())', 'TO bob USING (org IN (SELECT my_orgs()))', 'TO carol USING (org = 7 AND org = ANY (my_org_array()))');
SELECT found_in('TO alice USING (owner = me())', 'TO bob USING (org IN (SELECT my_orgs()))');
SELECT found_in('USING (owner = me())', 'TO bob USING (org IN (SELECT my_orgs()))');
SELECT found_in('TO alice USING (owner = me())', 'TO bob USING (flag)', 'TO carol USING (org = 7)', 'TO authenticated USING (true)');
SELECT found_in('TO alice USING (owner = me())', 'TO bob, carol, authenticated, anon, service_role, authenticator USING (flag)');
SELECT found_in('USING (flag)', 'AS RESTRICTIVE USING (org = ANY (my_org_array()))');
SELECT found_in('USING (flag)', 'AS RESTRICTIVE TO alice USING (org = ANY (my_org_array()))');
SELECT found_in('AS RESTRICTIVE USING (org = ANY (my_org_array()))');

-- Whoever replaces a function that policies call waits for the search: columns that nothing is compared with are none, and many times many are
-- not tried.
CREATE FUNCTION found_among(columns int, policies int, comparison text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
  EXECUTE (SELECT format('CREATE TABLE x (id int PRIMARY KEY, %s)', string_agg(format('c%s int', i), ', ')) FROM generate_series(1, columns) AS i);
  ALTER TABLE x ENABLE ROW LEVEL SECURITY;
  FOR p IN 1 .. policies LOOP
    EXECUTE (SELECT format('CREATE POLICY p%s ON x USING (%s)', p, string_agg(format(comparison, i), ' AND ')) FROM generate_series(1, columns) AS i);
  END LOOP;
  PERFORM snapsync.enable('x');
  SELECT coalesce(found_scope, '-') || coalesce(': ' || no_scope, '') INTO answer FROM snapsync.collection WHERE relation = 'x'::regclass;
  DROP TABLE x;
  RETURN answer;
END $$;
SELECT found_among(500, 4, 'c%s IS NULL');
SELECT found_among(400, 4, 'c%s = ANY (my_org_array())');
SELECT found_among(20, 4, 'c%s = ANY (my_org_array())');

-- Without policies nothing is found, and nothing is missing. What the owner names wins; taken away again, it is found again.
CREATE TABLE plain (id int PRIMARY KEY, owner text, org int);
SELECT snapsync.enable('plain');
CREATE TABLE todos (id int PRIMARY KEY, owner text, org int, title text);
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON todos USING (owner = me());
GRANT SELECT ON todos TO PUBLIC;
SELECT snapsync.enable('todos');
SELECT name, scope, scope_from, no_scope FROM snapsync.status ORDER BY name;
SELECT snapsync.enable('todos', scope_column => 'org');
SELECT name, scope, scope_from FROM snapsync.status WHERE name = 'todos';
SELECT found_scope, no_scope FROM snapsync.collection WHERE relation = 'todos'::regclass;
SELECT snapsync.enable('todos', scope_column => 'owner');
SELECT found_scope, no_scope FROM snapsync.collection WHERE relation = 'todos'::regclass;
SELECT snapsync.enable('todos', scope_column => '');
SELECT name, scope, scope_from FROM snapsync.status WHERE name = 'todos';

-- How many rows of the log a pull of a role reads, and what comes.
CREATE FUNCTION reads(who name, collection text, cursor text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE before bigint; after bigint; answer json;
BEGIN
  EXECUTE format('SET LOCAL ROLE %I', who);
  SELECT coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0) INTO before FROM pg_stat_xact_all_tables WHERE relid = 'snapsync.change'::regclass;
  answer := public.pull_changes(ARRAY[collection], cursor);
  SELECT coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0) - before INTO after FROM pg_stat_xact_all_tables WHERE relid = 'snapsync.change'::regclass;
  RESET ROLE;
  RETURN format('%s read, %s came', after, (SELECT sum(json_array_length(value)) FROM json_each(answer -> 'changes' -> collection)));
END $$;
SELECT pull_changes('{}') ->> 'timestamp' AS cursor \gset
INSERT INTO todos SELECT n, CASE WHEN n <= 10 THEN 'alice' ELSE 'u' || n END, 1, n FROM generate_series(1, 5000) AS n;
-- (A row of the log is of up to thirty rows of the table; what is in no scope, and who flushed early, is looked for as well,
-- and so are the entries of some five scopes in the same bucket.)
SELECT regexp_replace(reads('alice', 'todos', :'cursor'), '^\d{1,2} read', 'few read');
-- A superuser sees all.
SELECT regexp_replace(reads('postgres', 'todos', :'cursor'), '^\d+ read', 'thousands read');

-- A row's way: it comes, goes, moves to others and back, also while nobody looks.
SELECT t.sync('alice', 'todos');
SELECT t.sync('bob', 'todos');
UPDATE todos SET owner = 'bob' WHERE id = 1;
UPDATE todos SET title = 'x' WHERE id IN (1, 2, 3, 100);
DELETE FROM todos WHERE id IN (3, 101);
SELECT t.sync('alice', 'todos');
SELECT t.sync('bob', 'todos');
UPDATE todos SET owner = 'bob' WHERE id = 4;
UPDATE todos SET owner = 'carol' WHERE id = 4;
UPDATE todos SET owner = NULL WHERE id IN (5, 1);
UPDATE todos SET owner = 'alice' WHERE id = 1;
SELECT t.sync('alice', 'todos');
SELECT t.sync('bob', 'todos');
BEGIN;
SET LOCAL snapsync.flush_threshold = 1;
UPDATE todos SET owner = 'bob' WHERE id = 6;
UPDATE todos SET owner = 'carol' WHERE id = 6;
UPDATE todos SET owner = 'bob' WHERE id = 7;
UPDATE todos SET owner = 'alice' WHERE id = 7;
COMMIT;
SELECT t.sync('alice', 'todos');
SELECT t.sync('bob', 'todos');

-- The column keeps its name, without a reset; another policy brings another column, and a reset.
ALTER TABLE todos RENAME owner TO person;
SELECT found_scope FROM snapsync.collection WHERE relation = 'todos'::regclass;
SELECT t.sync('alice', 'todos');
UPDATE todos SET title = 'y' WHERE id = 2;
SELECT t.sync('alice', 'todos');
ALTER POLICY own ON todos USING (org = ANY (my_org_array()));
SELECT found_scope FROM snapsync.collection WHERE relation = 'todos'::regclass;
SELECT left(t.sync('alice', 'todos'), 30);
DELETE FROM todos WHERE id > 20;
SELECT left(t.sync('alice', 'todos'), 30);
UPDATE todos SET org = 3 WHERE id = 2;
SELECT t.sync('alice', 'todos');
-- A way in that no column bounds: nothing is narrowed.
CREATE POLICY shared ON todos USING (title = 'shared' OR length(title) > 5);
SELECT found_scope, no_scope FROM snapsync.collection WHERE relation = 'todos'::regclass;
SELECT left(t.sync('alice', 'todos'), 30);
UPDATE todos SET title = 'shared' WHERE id = 2;
SELECT t.sync('alice', 'todos');
DROP POLICY shared ON todos;
SELECT found_scope FROM snapsync.collection WHERE relation = 'todos'::regclass;
SELECT left(t.sync('alice', 'todos'), 30);
-- A function that becomes volatile bounds nothing from then on.
ALTER FUNCTION my_org_array() VOLATILE;
SELECT found_scope, no_scope FROM snapsync.collection WHERE relation = 'todos'::regclass;
SELECT left(t.sync('alice', 'todos'), 30);
UPDATE todos SET title = 'z' WHERE id = 8;
SELECT t.sync('alice', 'todos');
ALTER FUNCTION my_org_array() STABLE;
SELECT found_scope, no_scope FROM snapsync.collection WHERE relation = 'todos'::regclass;
-- What fails there fails nobody's pull that does not fail by itself.
CREATE FUNCTION fails() RETURNS int[] LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE 'no orgs'; END $$;
ALTER POLICY own ON todos USING (person = me() AND CASE WHEN person = me() THEN true ELSE org = ANY (fails()) END OR false AND org = ANY (fails()));
SELECT left(t.sync('alice', 'todos'), 30);
UPDATE todos SET title = 'w' WHERE id = 8;
SELECT t.sync('alice', 'todos');

-- Through a parent: its rows go with those that hang on them, and what went is told.
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON projects USING (owner = me());
CREATE TABLE tasks (id int PRIMARY KEY, project int NOT NULL REFERENCES projects ON DELETE CASCADE, title text);
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasks USING (project IN (SELECT id FROM projects));
GRANT SELECT ON tasks TO PUBLIC;
SELECT snapsync.enable('projects'), snapsync.enable('tasks');
SELECT name, scope, scope_from FROM snapsync.status WHERE name IN ('projects', 'tasks') ORDER BY name;
INSERT INTO projects VALUES (1, 'alice'), (2, 'alice'), (3, 'bob');
INSERT INTO tasks SELECT n, n % 3 + 1, n FROM generate_series(1, 9) AS n;
SELECT t.sync('alice', 'tasks');
SELECT t.sync('bob', 'tasks');
UPDATE tasks SET title = 'x';
SELECT t.sync('alice', 'tasks');
DELETE FROM projects WHERE id = 1;
SELECT t.sync('alice', 'tasks');
SELECT t.sync('bob', 'tasks');
INSERT INTO projects VALUES (4, 'bob');
UPDATE tasks SET project = 4 WHERE id = 1;
SELECT t.sync('alice', 'tasks');
SELECT t.sync('bob', 'tasks');
UPDATE projects SET owner = 'bob' WHERE id = 2;
SELECT t.sync('alice', 'tasks');
SELECT t.sync('bob', 'tasks');
DELETE FROM projects WHERE id IN (2, 3);
SELECT t.sync('bob', 'tasks');

-- By memberships: whoever joins or leaves hears of it, also of what happened meanwhile.
CREATE TABLE cards (id int PRIMARY KEY, project int, title text);
ALTER TABLE cards ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON cards USING (EXISTS (SELECT FROM members AS m WHERE m.project = cards.project AND m.who = me()) OR me() = 'carol');
GRANT SELECT ON cards TO PUBLIC;
SELECT snapsync.enable('cards');
SELECT scope FROM snapsync.status WHERE name = 'cards';
INSERT INTO members VALUES (1, 'alice'), (2, 'bob');
INSERT INTO cards SELECT n, n % 3, n FROM generate_series(1, 6) AS n;
SELECT t.sync(who, 'cards') FROM unnest('{alice,bob,carol}'::name[]) AS who;
UPDATE cards SET title = 'x' WHERE id IN (2, 4);
SELECT t.sync(who, 'cards') FROM unnest('{alice,bob,carol}'::name[]) AS who;
DELETE FROM members WHERE who = 'alice';
DELETE FROM cards WHERE id = 4;
INSERT INTO members VALUES (0, 'bob');
UPDATE cards SET title = 'y' WHERE id = 3;
SELECT t.sync(who, 'cards') FROM unnest('{alice,bob,carol}'::name[]) AS who;

-- Only columns that something is compared with are tried: others' DDL would pay for the rest.
DO $$
BEGIN
    EXECUTE (SELECT format('CREATE TABLE long (id int PRIMARY KEY, %s)', string_agg(format('c%s int', i), ', ')) FROM generate_series(1, 900) AS i);
    EXECUTE (SELECT format('CREATE POLICY p ON long USING (c1 = 1 AND %s)', string_agg(format('c%s IS NULL', i), ' AND ')) FROM generate_series(1, 900) AS i);
END
$$;
ALTER TABLE long ENABLE ROW LEVEL SECURITY;
SELECT snapsync.enable('long');
SELECT scope, no_scope FROM snapsync.status WHERE name = 'long';

-- Word for who pushed a row that the server writes otherwise is read by nobody else.
CREATE TABLE papers (id uuid PRIMARY KEY, owner text);
ALTER TABLE papers ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON papers USING (owner = me());
GRANT ALL ON papers TO PUBLIC;
SELECT snapsync.enable('papers');
SELECT pull_changes('{}') ->> 'timestamp' AS cursor \gset
SET ROLE alice;
SELECT push_changes(json_build_object('papers', json_build_object('created', (
    SELECT json_agg(json_build_object('id', 'ABCDEF00-0000-4000-8000-' || lpad(i::text, 12, '0'), 'owner', 'alice')) FROM generate_series(1, 50) AS i))),
    :'cursor', client_id => 'phone');
SELECT json_array_length(c -> 'created') + json_array_length(c -> 'updated') AS rows, json_array_length(c -> 'deleted') AS deleted
FROM (SELECT pull_changes('{papers}', :'cursor', client_id => client) #> '{changes,papers}' FROM unnest('{phone,tablet}'::text[]) AS client) AS p(c);
RESET ROLE;
SELECT reads('bob', 'papers', :'cursor');

-- An owner's predicate speaks for functions. What scope_values read, by a view or as far as the caller may see it, moves scopes whatever it says.
CREATE TABLE staff (id int PRIMARY KEY, org int, who text, role text);
ALTER TABLE staff ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON staff USING (who = me());
CREATE VIEW my_staff WITH (security_invoker = true) AS SELECT org FROM staff WHERE who = me();
GRANT SELECT ON staff, my_staff TO PUBLIC;
CREATE FUNCTION is_admin(org int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS
    $$ SELECT EXISTS (SELECT FROM public.staff AS s WHERE s.org = is_admin.org AND s.who = session_user AND s.role = 'admin') $$;
CREATE TABLE plans (id int PRIMARY KEY, org int, open boolean);
ALTER TABLE plans ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON plans USING (open OR is_admin(org));
GRANT SELECT ON plans TO PUBLIC;
INSERT INTO plans SELECT i, 1 + i % 2, true FROM generate_series(1, 4) AS i;
CREATE FUNCTION plans(reads text) RETURNS void LANGUAGE sql AS $$
    SELECT snapsync.enable('plans', scope_column => 'org', scope_values => format('(SELECT array_agg(org::text) FROM %s)', reads),
                           access_tables => '{"public.staff": "who = me() AND role = ''admin''"}')
$$;
-- What comes when alice joins another organisation, and when she has left her own.
SELECT plans('my_staff');
INSERT INTO staff VALUES (1, 1, 'alice', 'viewer');
SET ROLE alice;
SELECT pull_changes('{plans}') ->> 'timestamp' AS c \gset
RESET ROLE;
INSERT INTO staff VALUES (2, 2, 'alice', 'viewer');
SET ROLE alice;
SELECT p -> 'reason' AS reason, p #> '{changes,plans}' AS plans FROM pull_changes('{plans}', :'c') AS p;
SELECT pull_changes('{plans}', :'c') ->> 'timestamp' AS c \gset
RESET ROLE;
DELETE FROM staff WHERE id = 1;
SET ROLE alice;
SELECT p -> 'reason' AS reason, p #> '{changes,plans}' AS plans FROM pull_changes('{plans}', :'c') AS p;
RESET ROLE;
SELECT plans('staff');
SET ROLE alice;
SELECT pull_changes('{plans}') ->> 'timestamp' AS c \gset
RESET ROLE;
UPDATE staff SET org = 1;
SET ROLE alice;
SELECT p -> 'reason' AS reason, p #> '{changes,plans}' AS plans FROM pull_changes('{plans}', :'c') AS p;
RESET ROLE;
