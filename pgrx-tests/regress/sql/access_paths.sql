-- Ways in which policies read tables that decide who sees a row: what is not read as the caller, in a place that the analysis
-- understands, concerns everybody when it changes.
\set ECHO none
\set test regress_access_paths
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO none
SET client_min_messages = warning;
CREATE ROLE access_paths_viewer;
CREATE ROLE access_paths_owner;
-- As t.secured() makes it, with these rows.
CREATE FUNCTION t.make(name text, columns text, rows text, policy text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.secured(name, columns, policy);
    EXECUTE format('INSERT INTO %I VALUES %s', name, rows);
END
$$;
CREATE FUNCTION t.reads(name text) RETURNS TABLE (access regclass, kind text, predicate text, whole boolean) LANGUAGE sql AS
$$ SELECT access, kind, predicate, whole FROM snapsync.access WHERE relation = name::regclass ORDER BY access::text $$;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
\set ECHO all

-- An owner's view: the policies of what it reads run for the view's owner, and what they read is not the caller's to see.
CREATE TABLE licences (id int PRIMARY KEY, valid boolean);
CREATE TABLE seats (id int PRIMARY KEY, who name);
INSERT INTO licences VALUES (1, true), (2, false);
INSERT INTO seats VALUES (1, 'alice'), (2, 'alice');
ALTER TABLE licences ENABLE ROW LEVEL SECURITY;
ALTER TABLE seats ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON licences TO access_paths_viewer USING (true);
CREATE POLICY p ON seats TO access_paths_viewer USING (id IN (SELECT id FROM licences WHERE valid));
CREATE VIEW seated AS SELECT * FROM seats;
ALTER VIEW seated OWNER TO access_paths_viewer;
SELECT t.make('by_view', '', '(1), (2)', 'id IN (SELECT id FROM seated WHERE who = current_user)');
SELECT * FROM t.reads('by_view');
SELECT t.sync('alice', 'by_view');
DELETE FROM licences WHERE id = 1;
SELECT t.sync('alice', 'by_view');

-- A definer's function: current_user is another one in it. With a body that the catalog knows, and with one that it does not.
CREATE TABLE keys (id int PRIMARY KEY, who name);
CREATE TABLE doors (id int PRIMARY KEY);
INSERT INTO keys VALUES (1, 'access_paths_viewer');
INSERT INTO doors VALUES (1), (2);
ALTER TABLE doors ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON doors USING (id IN (SELECT id FROM keys WHERE who = current_user));
CREATE FUNCTION opens(int) RETURNS boolean LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC SELECT EXISTS (SELECT FROM doors WHERE id = $1); END;
CREATE FUNCTION opens_too(int) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS 'SELECT EXISTS (SELECT FROM public.doors WHERE id = $1)';
ALTER FUNCTION opens(int) OWNER TO access_paths_viewer;
ALTER FUNCTION opens_too(int) OWNER TO access_paths_viewer;
SELECT t.make('by_definer', '', '(1), (2)', 'opens(id)'), t.make('by_declared', '', '(1), (2)', 'opens_too(id)');
SELECT snapsync.enable('by_declared', access_tables => '["doors"]');
SELECT * FROM t.reads('by_definer');
SELECT * FROM t.reads('by_declared');
SELECT t.sync('alice', 'by_definer'), t.sync('alice', 'by_declared');
DELETE FROM keys;
SELECT t.sync('alice', 'by_definer'), t.sync('alice', 'by_declared');

-- Who owns the table that a view reads, under the view owner's policies.
CREATE TABLE owned (id int PRIMARY KEY);
CREATE TABLE reasons (id int PRIMARY KEY);
INSERT INTO owned VALUES (1); INSERT INTO reasons VALUES (1);
ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON owned USING (id IN (SELECT id FROM reasons));
CREATE VIEW seen AS SELECT * FROM owned;
ALTER VIEW seen OWNER TO access_paths_viewer;
ALTER TABLE owned OWNER TO access_paths_owner;
SELECT t.make('by_owners_view', '', '(1)', 'id IN (SELECT id FROM seen)');
SELECT t.sync('access_paths_owner', 'by_owners_view');
DELETE FROM reasons;
SELECT t.sync('access_paths_owner', 'by_owners_view');

-- A partition that is read by its own name is read under its own policies, not its root's.
CREATE TABLE parted (id int PRIMARY KEY, who name) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (100);
CREATE TABLE allowed (id int PRIMARY KEY, who name);
INSERT INTO parted VALUES (1, 'x'), (2, 'x'), (3, 'x');
INSERT INTO allowed VALUES (2, 'alice');
ALTER TABLE parted ENABLE ROW LEVEL SECURITY;
SELECT t.make('by_partition', '', '(1), (2), (3)', 'id IN (SELECT id FROM parted_1)');
SELECT t.sync('alice', 'by_partition');
DELETE FROM parted WHERE id = 1;
SELECT t.sync('alice', 'by_partition');
ALTER TABLE parted_1 ENABLE ROW LEVEL SECURITY;
SELECT t.sync('alice', 'by_partition');
CREATE POLICY p ON parted_1 USING (id IN (SELECT id FROM allowed WHERE who = current_user));
SELECT t.sync('alice', 'by_partition');
SELECT * FROM t.reads('by_partition');
DELETE FROM allowed;
SELECT t.sync('alice', 'by_partition');

-- A foreign key to another key than the one that rows are known by; to one of which a value has several texts.
CREATE TABLE by_slug (id int PRIMARY KEY, slug text UNIQUE NOT NULL, secret boolean);
CREATE TABLE by_number (id numeric PRIMARY KEY, secret boolean);
INSERT INTO by_slug VALUES (1, 'x', false); INSERT INTO by_number VALUES (1.0, false);
SELECT t.make('of_slug', ', slug text REFERENCES by_slug (slug)', '(1, ''x'')', 'EXISTS (SELECT FROM by_slug AS s WHERE s.slug = of_slug.slug AND NOT s.secret)');
SELECT t.make('of_number', ', n numeric REFERENCES by_number', '(1, 1)', 'EXISTS (SELECT FROM by_number AS s WHERE s.id = of_number.n AND NOT s.secret)');
SELECT t.sync('alice', 'of_slug'), t.sync('alice', 'of_number');
UPDATE by_slug SET id = 2, secret = true;
UPDATE by_number SET id = 1.00, secret = true;
SELECT t.sync('alice', 'of_slug'), t.sync('alice', 'of_number');
SELECT * FROM t.reads('of_slug') UNION ALL SELECT * FROM t.reads('of_number');

-- What chooses among the rows of a parent makes others matter than the one that the foreign key names.
CREATE TABLE projects (id int PRIMARY KEY, who name);
CREATE TABLE favourites (id int PRIMARY KEY, project int);
INSERT INTO projects VALUES (1, 'alice'), (9, 'nobody');
INSERT INTO favourites VALUES (1, 9);
SELECT t.make('of_newest', ', p int REFERENCES projects', '(1, 1)', 'p IN (SELECT id FROM projects WHERE who = current_user ORDER BY id DESC LIMIT 1)');
SELECT t.make('of_distinct', ', p int REFERENCES projects', '(1, 1)', 'p IN (SELECT DISTINCT ON (who) id FROM projects WHERE who = current_user ORDER BY who, id DESC)');
SELECT t.make('of_second', ', p int REFERENCES projects', '(1, 1)', 'p NOT IN (SELECT id FROM projects WHERE who = current_user ORDER BY id DESC OFFSET 1)');
SELECT t.make('of_most', ', p int REFERENCES projects', '(1, 1)', 'p IN (SELECT max(id) FROM projects WHERE who = current_user)');
SELECT t.make('of_outer', ', p int REFERENCES projects', '(1, 1)', 'p NOT IN (SELECT p.id FROM favourites AS f LEFT JOIN projects AS p ON p.id = f.project)');
SELECT t.sync('alice', 'of_newest'), t.sync('alice', 'of_distinct'), t.sync('alice', 'of_second'), t.sync('alice', 'of_most'), t.sync('alice', 'of_outer');
INSERT INTO projects VALUES (2, 'alice');
DELETE FROM projects WHERE id = 9;
SELECT t.sync('alice', 'of_newest'), t.sync('alice', 'of_distinct'), t.sync('alice', 'of_second'), t.sync('alice', 'of_most'), t.sync('alice', 'of_outer');

-- A key that may be NULL, where the answer for NULL, which is whether there is any row at all, decides: every row of the parent counts.
CREATE TABLE folders (id int PRIMARY KEY, archived boolean);
INSERT INTO folders VALUES (1, false), (2, true);
SELECT t.make('not_in', ', f int REFERENCES folders', '(1, 1), (2, NULL)', 'f NOT IN (SELECT id FROM folders WHERE archived)');
SELECT t.make('not_false', ', f int REFERENCES folders', '(1, 1), (2, NULL)', '(f IN (SELECT id FROM folders WHERE archived)) IS NOT FALSE');
SELECT t.make('if_null', ', f int REFERENCES folders', '(1, 1), (2, NULL)', 'coalesce(f IN (SELECT id FROM folders WHERE archived), true)');
SELECT t.sync('alice', 'not_in'), t.sync('alice', 'not_false'), t.sync('alice', 'if_null');
DELETE FROM folders WHERE id = 2;
SELECT t.sync('alice', 'not_in'), t.sync('alice', 'not_false'), t.sync('alice', 'if_null');
INSERT INTO folders VALUES (3, true);
SELECT t.sync('alice', 'not_in'), t.sync('alice', 'not_false'), t.sync('alice', 'if_null');
-- Not of a key that is never NULL, nor where false and NULL are the same.
SELECT t.make('always', ', f int NOT NULL REFERENCES folders', '(1, 1)', 'f NOT IN (SELECT id FROM folders WHERE archived)');
SELECT t.make('plain', ', f int REFERENCES folders', '(1, 1), (2, NULL)', 'id = 2 OR id < 9 AND f IN (SELECT id FROM folders WHERE NOT archived)');
SELECT t.sync('alice', 'always'), t.sync('alice', 'plain');
SELECT relation, kind FROM snapsync.access WHERE access = 'folders'::regclass ORDER BY relation::text;
ALTER TABLE always ALTER f DROP NOT NULL;
INSERT INTO always VALUES (2, NULL);
SELECT t.sync('alice', 'always');
DELETE FROM folders WHERE id = 3;
SELECT t.sync('alice', 'always'), t.sync('alice', 'plain');

-- A table that is also read where its condition does not reach.
CREATE TABLE votes (id int PRIMARY KEY, who name);
INSERT INTO votes VALUES (1, 'alice'), (2, 'bob');
SELECT t.make('by_limit', '', '(1)', 'EXISTS (SELECT FROM votes WHERE who = current_user LIMIT (SELECT count(*) - 1 FROM votes))');
SELECT * FROM t.reads('by_limit');
SELECT t.sync('alice', 'by_limit');
DELETE FROM votes WHERE who = 'bob';
SELECT t.sync('alice', 'by_limit');

-- Whole rows of it: in a function of the FROM clause, in a subquery, by the name of a join, and of a system column.
CREATE TABLE flags (id int PRIMARY KEY, who name, flag text);
INSERT INTO flags VALUES (1, 'alice', 'on');
SELECT t.make('by_each', '', '(1)', 'EXISTS (SELECT FROM flags AS m, jsonb_each_text(to_jsonb(m)) AS e WHERE m.who = current_user AND e.value = ''on'')');
SELECT t.make('by_inner', '', '(1)', 'EXISTS (SELECT FROM flags AS m WHERE m.who = current_user AND EXISTS (SELECT FROM jsonb_each_text(to_jsonb(m)) AS e WHERE e.value = ''on''))');
SELECT t.make('by_join', '', '(1)', 'EXISTS (SELECT FROM (flags AS m JOIN votes AS z ON true) AS j (a, b, c) WHERE to_jsonb(j) ->> ''c'' = ''on'')');
SELECT t.make('by_place', '', '(1)', 'EXISTS (SELECT FROM flags AS m WHERE m.who = current_user AND m.ctid = ''(0,1)'')');
SELECT t.sync('alice', 'by_each'), t.sync('alice', 'by_inner'), t.sync('alice', 'by_join'), t.sync('alice', 'by_place');
UPDATE flags SET flag = 'off';
SELECT t.sync('alice', 'by_each'), t.sync('alice', 'by_inner'), t.sync('alice', 'by_join'), t.sync('alice', 'by_place');

-- A column of a joined table, by the alias of the join.
CREATE TABLE staff (id int PRIMARY KEY, who name);
CREATE TABLE posts (id int PRIMARY KEY, team int);
INSERT INTO staff VALUES (1, 'alice');
INSERT INTO posts VALUES (1, 1), (2, 2);
SELECT t.make('by_alias', ', team int', '(1, 1), (2, 2)', 'EXISTS (SELECT FROM (staff JOIN posts ON staff.id = posts.id) AS j (a, b, c, d) WHERE j.b = current_user AND j.d = by_alias.team)');
SELECT t.make('by_aliases', ', team int', '(1, 1), (2, 2)', 'EXISTS (SELECT FROM ((posts JOIN staff ON staff.id = posts.id) AS j (a, b, c, d) JOIN generate_series(1, 3) AS g ON j.a = g) AS k (e, f, g, h, i) WHERE k.h = current_user AND k.f < 3 AND k.f = by_aliases.team)');
SELECT c, r.* FROM unnest('{by_alias,by_aliases}'::text[]) AS c, t.reads(c) AS r;
SELECT t.sync('alice', 'by_alias'), t.sync('alice', 'by_aliases');
INSERT INTO staff VALUES (2, 'alice'), (3, 'bob');
SELECT t.sync('alice', 'by_alias'), t.sync('alice', 'by_aliases');

-- Scopes: by a table that others inherit from, by a view of it, and by the collection itself.
CREATE TABLE orgs (org int, who name, PRIMARY KEY (org, who));
CREATE TABLE more_orgs () INHERITS (orgs);
CREATE VIEW all_orgs AS SELECT * FROM orgs;
INSERT INTO orgs VALUES (1, 'alice');
SELECT t.make(name, ', org int, owner name', '(1, 1, ''alice''), (2, 2, ''bob''), (3, 1, ''bob'')', 'true') FROM unnest('{scoped,scoped_by_view,scoped_by_itself}'::text[]) AS name;
SELECT snapsync.enable('scoped', scope_column => 'org', scope_values => '(SELECT array_agg(org::text) FROM public.orgs WHERE who = current_user)');
SELECT snapsync.enable('scoped_by_view', scope_column => 'org', scope_values => '(SELECT array_agg(org::text) FROM public.all_orgs WHERE who = current_user)');
SELECT snapsync.enable('scoped_by_itself', scope_column => 'org', scope_values => '(SELECT array_agg(org::text) FROM public.scoped_by_itself WHERE owner = current_user)');
SET ROLE alice;
SELECT t.catch_up('scoped', 'scoped_by_view', 'scoped_by_itself');
RESET ROLE;
INSERT INTO more_orgs VALUES (2, 'alice');
INSERT INTO scoped_by_itself VALUES (4, 2, 'alice');
SET ROLE alice;
SELECT * FROM t.pull('{scoped,scoped_by_view,scoped_by_itself}');
RESET ROLE;

-- An owner's predicate speaks for what functions read. Where a policy reads the table by a view, or without a condition of its own, its
-- changes concern others than those for whom the predicate holds.
CREATE TABLE rota (id int PRIMARY KEY, team int, who name, day int);
INSERT INTO rota VALUES (1, 1, 'bob', 0);
CREATE VIEW teams AS SELECT team, who FROM rota;
CREATE FUNCTION on_duty() RETURNS SETOF int STABLE LANGUAGE sql AS 'SELECT team FROM public.rota WHERE who = current_user AND day = 0';
SELECT t.make('by_function', ', team int', '(1, 1), (2, 2)', 'team IN (SELECT on_duty())');
SELECT t.make('by_view_too', ', team int', '(1, 1), (2, 2)', 'team IN (SELECT on_duty()) OR team IN (SELECT team FROM teams WHERE who = current_user)');
SELECT t.make('by_any', ', team int', '(1, 1), (2, 2)', 'team IN (SELECT on_duty()) OR team IN (SELECT team FROM rota)');
SELECT count(snapsync.enable(c::regclass, access_tables => '{"rota": "who = current_user AND day = 0"}')) FROM unnest('{by_function,by_view_too,by_any}'::text[]) AS c;
SELECT c, r.* FROM unnest('{by_function,by_view_too,by_any}'::text[]) AS c, t.reads(c) AS r;
SELECT c, t.sync('alice', c) FROM unnest('{by_function,by_view_too,by_any}'::text[]) AS c;
INSERT INTO rota VALUES (2, 2, 'alice', 1);
SELECT c, t.sync('alice', c) FROM unnest('{by_function,by_view_too,by_any}'::text[]) AS c;
INSERT INTO rota VALUES (3, 1, 'alice', 0);
SELECT c, t.sync('alice', c) FROM unnest('{by_function,by_view_too,by_any}'::text[]) AS c;

-- Joins with an alias, whose columns are the tables'.
CREATE TABLE chairs (id int PRIMARY KEY, who name);
CREATE TABLE halls (id int PRIMARY KEY, team int);
INSERT INTO chairs VALUES (1, 'bob'), (2, 'alice');
INSERT INTO halls VALUES (1, 1), (2, 2);
GRANT SELECT ON chairs, halls TO PUBLIC;
SELECT t.make('by_columns', ', team int', '(1, 1), (2, 2)', 'EXISTS (SELECT FROM (chairs AS s JOIN halls AS r ON r.id = s.id) AS j (i, w, k, t) WHERE j.w = current_user AND j.t = by_columns.team)');
SELECT t.make('by_using', ', team int', '(1, 1), (2, 2)', 'EXISTS (SELECT FROM chairs JOIN halls USING (id) AS j WHERE j.id > 0 AND halls.team = by_using.team AND who = current_user)');
SELECT count(snapsync.enable(c::regclass)) FROM unnest('{by_columns,by_using}'::text[]) AS c;
SELECT c, r.* FROM unnest('{by_columns,by_using}'::text[]) AS c, t.reads(c) AS r;
SELECT c, t.sync('alice', c) FROM unnest('{by_columns,by_using}'::text[]) AS c;
UPDATE chairs SET who = 'alice' WHERE id = 1;
SELECT c, t.sync('alice', c) FROM unnest('{by_columns,by_using}'::text[]) AS c;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_access_paths;
DROP ROLE access_paths_viewer, access_paths_owner;
