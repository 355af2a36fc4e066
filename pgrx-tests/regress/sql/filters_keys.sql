-- Filters by key: one row, a set of ids that grows and shrinks; and scopes that do. What a client held before it says itself (last_filter).
\set ECHO none
\set test regress_filters_keys
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE members (org int, who text, PRIMARY KEY (org, who));
CREATE TABLE notes (id int PRIMARY KEY, org int NOT NULL, body text);
GRANT SELECT ON members, notes TO alice, bob;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON notes FOR SELECT USING (org IN (SELECT m.org FROM members AS m WHERE m.who = current_user));
INSERT INTO members VALUES (1, 'alice'), (2, 'alice'), (2, 'bob'), (3, 'bob');
INSERT INTO notes SELECT n, n / 10, 'n' || n FROM generate_series(10, 35) AS n;
SELECT snapsync.enable('notes', scope_column => 'org');
-- (Long before it is used: horizons are 5 ms apart.)
CREATE TABLE items (id int PRIMARY KEY, org int NOT NULL);
GRANT SELECT ON items TO alice;
SELECT snapsync.enable('items', scope_column => 'org');

-- A client: its cursor and its filter are kept under its name, as an app keeps them.
CREATE FUNCTION t.ask(client text, filter jsonb, who name DEFAULT 'alice', collections text[] DEFAULT '{notes}', dialect text DEFAULT NULL)
RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    answer json;
BEGIN
    EXECUTE format('SET ROLE %I', who);
    answer := public.pull_changes(collections, current_setting('t.at_' || client, true), dialect => dialect, filter => ask.filter,
                                  last_filter => nullif(current_setting('t.filter_' || client, true), '')::jsonb);
    RESET ROLE;
    PERFORM set_config('t.at_' || client, answer ->> 'timestamp', false),
            set_config('t.filter_' || client, coalesce(ask.filter, '{}')::text, false);
    RETURN QUERY
        SELECT concat_ws(' ', s.key || ' by ' || s.value, answer #>> ARRAY['reason', s.key])
        FROM json_each_text(answer #> '{experimentalStrategy,override}') AS s
        UNION ALL
        SELECT concat_ws(' ', c.key || '.' || a.key || ':',
                         (SELECT string_agg(coalesce(i.value ->> 'id', i.value #>> '{}'), ' ' ORDER BY i.value::text)
                          FROM json_array_elements(a.value) AS i))
        FROM json_each(answer -> 'changes') AS c, json_each(c.value) AS a
        WHERE json_array_length(a.value) > 0;
END
$$;
\set ECHO queries

-- One row: the key's column, and a number or a text.
SELECT t.ask('one', '{"notes": {"id": 11}}');
UPDATE notes SET body = 'x' WHERE id IN (11, 12);
SELECT t.ask('one', '{"notes": {"id": "11"}}');
SELECT t.ask('one', '{"notes": {"id": "11"}}');
DELETE FROM notes WHERE id = 11;
SELECT t.ask('one', '{"notes": {"id": 11}}');
INSERT INTO notes VALUES (11, 1, 'again');
SELECT t.ask('one', '{"notes": {"id": 11}}');

-- A set. Ids that come in come whole, though their rows have not changed; what leaves it is named.
SELECT t.ask('many', '{"notes": {"id": [12, 13, 12]}}');
SELECT t.ask('many', '{"notes": {"id": [13, 14, 15]}}');
UPDATE notes SET body = 'y' WHERE id BETWEEN 10 AND 15;
SELECT t.ask('many', '{"notes": {"id": [15, 16]}}');
SELECT t.ask('many', '{"notes": {"id": []}}');
SELECT t.ask('many', '{"notes": {"id": [17]}}');
-- A row that does not exist and one that is another's have the same answer.
SELECT t.ask('many', '{"notes": {"id": [17, 31, 99]}}');
UPDATE notes SET body = 'z' WHERE id IN (17, 31);
SELECT t.ask('many', '{"notes": {"id": [17, 31, 99]}}');
SELECT t.ask('many', '{"notes": {"id": [17]}}');
-- It comes into view, and goes out of it.
INSERT INTO members VALUES (3, 'alice');
SELECT t.ask('many', '{"notes": {"id": [17, 31]}}');
UPDATE notes SET org = 4 WHERE id = 31;
SELECT t.ask('many', '{"notes": {"id": [17, 31]}}');
-- Several clients of one user hold each what it asked for.
SELECT t.ask('one', '{"notes": {"id": 11}}');
SELECT t.ask('all', NULL);
UPDATE notes SET body = 'a' WHERE id IN (11, 17, 20);
SELECT t.ask('one', '{"notes": {"id": 11}}');
SELECT t.ask('many', '{"notes": {"id": [17, 31]}}');
SELECT t.ask('all', NULL);

-- A large set, and an access that moved: what came into view and what went out.
SELECT t.ask('large', jsonb_build_object('notes', jsonb_build_object('id', jsonb_agg(n)))) FROM generate_series(12, 150) AS n;
DELETE FROM members WHERE (org, who) = (2, 'alice');
UPDATE notes SET body = 'moved' WHERE id IN (12, 20);
SELECT t.ask('large', jsonb_build_object('notes', jsonb_build_object('id', jsonb_agg(n)))) FROM generate_series(13, 151) AS n;
INSERT INTO members VALUES (2, 'alice');
SELECT t.ask('large', jsonb_build_object('notes', jsonb_build_object('id', jsonb_agg(n)))) FROM generate_series(13, 151) AS n;

-- A set is never replaced: of each it is said how it stands.
SELECT snapsync.reset('notes');
SELECT t.ask('many', '{"notes": {"id": [17, 18, 31, 99]}}');
SELECT t.ask('all', NULL);
SELECT set_config('t.at_many', '3', false);
SELECT t.ask('many', '{"notes": {"id": [18, 31, 99]}}');
-- Nor where too many others changed to look through.
INSERT INTO notes SELECT n, 2, 'many' FROM generate_series(100, 140000) AS n;
SELECT t.ask('many', '{"notes": {"id": [18, 31, 99]}}');
SELECT t.ask('many', '{"notes": {"id": [18, 31, 99]}}');
DELETE FROM notes WHERE id >= 100;

-- Scopes that grow and shrink.
SELECT t.ask('orgs', '{"notes": {"org": 1}}');
SELECT t.ask('orgs', '{"notes": {"org": [1, 3]}}');
UPDATE notes SET org = 3 WHERE id = 12;
UPDATE notes SET org = 2 WHERE id = 13;
UPDATE notes SET body = 'b' WHERE id = 14;
DELETE FROM notes WHERE id = 15;
SELECT t.ask('orgs', '{"notes": {"org": [2, 3]}}');
SELECT t.ask('orgs', NULL);
SELECT t.ask('orgs', '{"notes": {"org": [3]}}');
SELECT t.ask('orgs', '{"notes": {"org": []}}');
SELECT t.ask('orgs', '{"notes": {"org": [3]}}');
-- With a membership that goes in the meantime.
INSERT INTO members VALUES (4, 'alice');
SELECT t.ask('orgs', '{"notes": {"org": [3, 4]}}');
DELETE FROM members WHERE (org, who) = (3, 'alice');
SELECT t.ask('orgs', '{"notes": {"org": [2, 3]}}');
INSERT INTO members VALUES (3, 'alice');
SELECT t.ask('orgs', '{"notes": {"org": [2, 3]}}');

-- Both: the rows of these ids in these scopes.
SELECT t.ask('both', '{"notes": {"org": [1, 2], "id": [10, 20, 30]}}');
SELECT t.ask('both', '{"notes": {"org": [2, 3], "id": [10, 20, 30]}}');
-- From one kind to the other: the client's rows are replaced.
SELECT t.ask('kinds', '{"notes": {"org": 1}}');
SELECT t.ask('kinds', '{"notes": {"id": [10, 20]}}');
SELECT t.ask('kinds', '{"notes": {"org": [3]}}');
-- The other collections' cursors of the call do not matter.
SELECT pull_changes('{notes}', since => '{"notes": null}', filter => '{"notes": {"id": [10]}}', last_filter => '{"notes": {"id": [20]}}') -> 'changes';

-- What the set was is passed over where it means nothing any more.
SELECT set_config('t.filter_kinds', '{"gone": {"x": 1}}', false);
SELECT t.ask('kinds', '{"notes": {"id": [10]}}');
SELECT set_config('t.filter_kinds', '{"notes": {"x": 1}}', false);
SELECT t.ask('kinds', '{"notes": {"id": [10]}}');
SELECT set_config('t.filter_kinds', '{"notes": {"id": "x"}}', false);
SELECT t.ask('kinds', '{"notes": {"id": [10]}}');

-- A dependent set: the ids first, then the members.
CREATE TABLE tags (note int, tag text, PRIMARY KEY (note, tag));
GRANT SELECT ON tags TO alice;
INSERT INTO tags VALUES (10, 'a b'), (10, 'c'), (20, 'c');
SELECT snapsync.enable('tags');
SELECT t.ask('tags', '{"tags": {"id": ["10.a%20b", "20.c", "7.x"]}}', collections => '{tags}', dialect => 'watermelondb');
UPDATE tags SET tag = 'd' WHERE note = 20;
SELECT t.ask('tags', '{"tags": {"id": ["10.a%20b", "20.c", "20.d"]}}', collections => '{tags}', dialect => 'watermelondb');
SELECT pull_changes('{tags}', filter => '{"tags": {"id": ["10.c"]}}') -> 'changes';
-- The key is the scope that the policies give.
CREATE TABLE orgs (id int PRIMARY KEY, title text);
ALTER TABLE orgs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON orgs FOR SELECT USING (id IN (SELECT m.org FROM members AS m WHERE m.who = current_user));
GRANT SELECT ON orgs TO alice, bob;
INSERT INTO orgs SELECT n, 'o' || n FROM generate_series(1, 5) AS n;
SELECT snapsync.enable('orgs');
SELECT t.ask('keyed', '{"orgs": {"id": [1, 5]}}', collections => '{orgs}');
UPDATE orgs SET title = 'x';
SELECT t.ask('keyed', '{"orgs": {"id": [1, 2, 5]}}', collections => '{orgs}');
DELETE FROM orgs WHERE id = 2;
SELECT t.ask('keyed', '{"orgs": {"id": [1, 2, 5]}}', collections => '{orgs}');

-- An old snapshot has seen more than its cursor says: what it has seen, and is not asked for any more, is not held on to.
INSERT INTO items VALUES (1, 3), (2, 2);
DELETE FROM snapsync.horizon WHERE snapmin = (SELECT max(snapmin) FROM snapsync.horizon);
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ;
SELECT t.ask('old', NULL, collections => '{items}');
COMMIT;
SELECT t.ask('old', '{"items": {"org": [2]}}', collections => '{items}');
SELECT t.ask('old', '{"items": {"org": [3]}}', collections => '{items}');

-- In pages.
CREATE FUNCTION t.pages(size int, cursor text, filter jsonb, last_filter jsonb DEFAULT NULL) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    answer json;
BEGIN
    LOOP
        SET LOCAL ROLE alice;
        answer := public.pull_changes('{notes}', cursor, filter => pages.filter, page_size => size, next => answer ->> 'next', last_filter => pages.last_filter);
        RESET ROLE;
        RETURN NEXT concat_ws(' ', (SELECT string_agg(a.key || ': ' || (SELECT string_agg(coalesce(i.value ->> 'id', i.value #>> '{}'), ' ')
                                                              FROM json_array_elements(a.value) AS i), ', ')
                    FROM json_each(answer #> '{changes,notes}') AS a WHERE json_array_length(a.value) > 0), answer #>> '{reason,notes}');
        EXIT WHEN answer ->> 'next' IS NULL;
    END LOOP;
    PERFORM set_config('t.at_pages', answer ->> 'timestamp', false);
END
$$;
SELECT t.pages(2, NULL, '{"notes": {"id": [10, 11, 99, 20, 21, 30]}}');
UPDATE notes SET body = 'p' WHERE id IN (10, 20);
DELETE FROM notes WHERE id = 21;
SELECT t.pages(2, current_setting('t.at_pages'), '{"notes": {"id": [10, 11, 99, 20, 21, 30]}}');
SELECT t.pages(2, current_setting('t.at_pages'), '{"notes": {"id": [10, 99, 22, 23, 24, 30]}}', '{"notes": {"id": [10, 11, 99, 20, 21, 30]}}');
SELECT t.pages(2, '3', '{"notes": {"id": [10, 22, 98, 99]}}');
SELECT t.pages(10, NULL, '{"notes": {"org": [1]}}');
SELECT t.pages(10, current_setting('t.at_pages'), '{"notes": {"org": [1, 2]}}', '{"notes": {"org": [1]}}');

-- What cannot be meant.
CREATE TABLE amounts (n numeric PRIMARY KEY, id int);
CREATE TABLE codes (code text PRIMARY KEY, id int);
SELECT snapsync.enable('amounts'), snapsync.enable('codes'), t.secured('owned', ', owner text', 'owner = current_user');
\set VERBOSITY default
SELECT pull_changes('{notes}', filter => '{"notes": {"body": "x"}}');
SELECT pull_changes('{notes}', filter => '{"notes": {"id": "x"}}');
SELECT pull_changes('{notes}', filter => '{"notes": {"id": [true]}}');
SELECT pull_changes('{notes}', filter => '{"notes": {"id": {"a": 1}}}');
SELECT pull_changes('{tags}', filter => '{"tags": {"note": 10}}');
SELECT pull_changes('{tags}', filter => '{"tags": {"id": "10"}}');
SELECT pull_changes('{amounts}', filter => '{"amounts": {"n": 1}}');
SELECT pull_changes('{codes}', filter => '{"codes": {"id": 1}}');
SELECT pull_changes('{codes}', filter => '{"codes": {"id": "a"}}', dialect => 'watermelondb') -> 'changes';
SELECT pull_changes('{codes}', filter => '{"codes": {"code": "a"}}') -> 'changes';
SELECT pull_changes('{owned}', filter => '{"owned": {"owner": "a"}}');
SELECT pull_changes('{notes}', filter => '{"orgs": {"id": 1}}');
SELECT pull_changes('{notes}', last_filter => '[]');
SELECT pull_changes('{notes}', last_filter => '{"notes": 1}');
