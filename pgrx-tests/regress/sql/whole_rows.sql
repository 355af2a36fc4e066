-- Policies that ask for rows as a whole, of tables that had more columns once: what is gone of a row counts no more, of old rows either.
\set ECHO none
\set test regress_whole_rows
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
-- A table that alice sees by this policy, with a column that was dropped before all others and one behind.
CREATE FUNCTION t.rested(name text, policy text, more text DEFAULT '') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (junk int, id int PRIMARY KEY, body text%s, rest text)', name, more);
    EXECUTE format('ALTER TABLE %I DROP COLUMN junk, DROP COLUMN rest', name);
    IF policy IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY p ON %I USING (%s)', name, policy);
    END IF;
    EXECUTE format('GRANT SELECT ON %I TO alice', name);
END
$$;
SET client_min_messages = warning;
\set ECHO all
-- The row itself: all its columns have values, or none, or the row is there at all.
SELECT t.rested('other', NULL), t.rested('complete', NULL), t.rested('incomplete', NULL), t.rested('there', NULL), t.rested('inlined', NULL), t.rested('counted', NULL),
       t.rested('same', NULL), t.rested('never', NULL), t.rested('chosen', NULL), t.rested('nested', NULL, ', inner_row other');
CREATE FUNCTION is_complete(inlined) RETURNS boolean LANGUAGE sql AS 'SELECT $1 IS NOT NULL';
CREATE FUNCTION t.policy(name text, policy text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY p ON %I USING (%s)', name, policy);
END
$$;
SELECT t.policy('complete', 'complete.* IS NOT NULL'), t.policy('incomplete', 'NOT (incomplete IS NOT NULL)'),
       t.policy('there', 'there IS DISTINCT FROM NULL AND NOT there IS NULL AND body IS NOT NULL'), t.policy('inlined', 'is_complete(inlined)'),
       t.policy('counted', '(SELECT count(x.whole) FROM (SELECT counted AS whole) AS x) = 1 AND (SELECT counted IS NOT NULL)'),
       t.policy('same', 'same = ROW(id, body)::same AND same IS NOT NULL AND ROW(same, 1) IS NOT NULL'), t.policy('never', 'never = NULL'),
       t.policy('chosen', 'CASE WHEN true THEN chosen END IS NOT NULL AND COALESCE(chosen, chosen) IS NOT NULL'),
       t.policy('nested', 'nested IS NOT NULL');
SELECT snapsync.enable(name::regclass) FROM unnest('{complete,incomplete,there,inlined,counted,same,never,chosen,nested}'::text[]) AS name;
SELECT format('INSERT INTO %I SELECT n, CASE WHEN n < 5 THEN ''text'' END FROM generate_series(1, 6) AS n', name)
FROM unnest('{complete,incomplete,there,inlined,counted,same,never,chosen}'::text[]) AS name \gexec
INSERT INTO nested SELECT n, 'text', ROW(NULL, NULL)::other FROM generate_series(1, 4) AS n;
INSERT INTO nested VALUES (5, 'text', NULL);
SELECT t.sync('alice', name) FROM unnest('{complete,incomplete,there,inlined,counted,same,never,chosen,nested}'::text[]) AS name;
SELECT format('DELETE FROM %I WHERE id IN (1, 5); UPDATE %1$I SET body = NULL WHERE id = 2; UPDATE %1$I SET body = ''other'' WHERE id IN (3, 6)', name)
FROM unnest('{complete,incomplete,there,inlined,counted,same,never,chosen,nested}'::text[]) AS name \gexec
SELECT t.sync('alice', name) FROM unnest('{complete,incomplete,there,inlined,counted,same,never,chosen,nested}'::text[]) AS name;
-- Columns that are renamed, added and generated meanwhile.
ALTER TABLE complete RENAME COLUMN body TO text;
ALTER TABLE complete ADD COLUMN twice int GENERATED ALWAYS AS (nullif(id, 4) * 2) STORED;
SELECT t.sync('alice', 'complete');
DELETE FROM complete;
SELECT t.sync('alice', 'complete');

-- Rows of another table. Memberships as a whole, in all places where a query can have them.
SELECT t.rested('members', NULL, ', team int, who name, note text');
SELECT t.rested('teams', NULL);
CREATE VIEW joined AS SELECT m, m.team FROM members AS m WHERE m.who = current_user;
GRANT SELECT ON joined TO alice;
CREATE FUNCTION is_member(m members) RETURNS boolean LANGUAGE sql AS 'SELECT $1 IS NOT NULL';
SELECT t.rested('by_exists', 'EXISTS (SELECT FROM members AS m WHERE m.team = by_exists.team AND m.who = current_user AND m IS NOT NULL)', ', team int'),
       t.rested('by_outer_join', 'EXISTS (SELECT FROM teams AS t LEFT JOIN members AS m ON m.team = t.id AND m.who = current_user WHERE t.id = by_outer_join.team AND (t.body = ''open'' OR m IS NOT NULL))', ', team int'),
       t.rested('by_no_member', 'EXISTS (SELECT FROM teams AS t LEFT JOIN members AS m ON m.team = t.id AND m.who = current_user WHERE t.id = by_no_member.team AND m IS NULL)', ', team int'),
       t.rested('by_distinct', 'EXISTS (SELECT FROM teams AS t LEFT JOIN members AS m ON m.team = t.id AND m.who = current_user WHERE t.id = by_distinct.team AND m IS DISTINCT FROM NULL)', ', team int'),
       t.rested('by_count', '(SELECT count(m.*) FROM teams AS t LEFT JOIN members AS m ON m.team = t.id AND m.who = current_user WHERE t.id = by_count.team) = 1', ', team int'),
       t.rested('by_subquery', 'team IN (SELECT s.team FROM (SELECT m, m.team FROM members AS m WHERE m.who = current_user) AS s WHERE s.m IS NOT NULL)', ', team int'),
       t.rested('by_view', 'team IN (SELECT team FROM joined WHERE m IS NOT NULL)', ', team int'),
       t.rested('by_function', 'team IN (SELECT team FROM members AS m WHERE m.who = current_user AND is_member(m))', ', team int'),
       t.rested('by_group', 'team IN (SELECT min(m.team) FROM members AS m WHERE m.who = current_user GROUP BY m HAVING m IS NOT NULL)', ', team int'),
       t.rested('by_inner', 'EXISTS (SELECT FROM members AS m WHERE m.team = by_inner.team AND m.who = current_user AND EXISTS (SELECT FROM teams AS t WHERE t.id = m.team AND m IS NOT NULL))', ', team int');
SELECT array_agg(relname::text ORDER BY relname) AS names FROM pg_class WHERE relname LIKE 'by\_%' AND relkind = 'r' \gset
SELECT snapsync.enable(name::regclass) FROM unnest(:'names'::text[]) AS name;
INSERT INTO teams SELECT n, 'team' FROM generate_series(1, 5) AS n;
INSERT INTO members SELECT n, 'text', n, 'alice', 'note' FROM generate_series(1, 3) AS n;
INSERT INTO members VALUES (4, 'text', 4, 'alice', NULL);
SELECT format('INSERT INTO %I SELECT n, ''text'', n FROM generate_series(1, 5) AS n', name) FROM unnest(:'names'::text[]) AS name \gexec
SELECT name, t.sync('alice', name) FROM unnest(:'names'::text[]) AS name;
-- One goes, one loses its note, one gets one, one comes.
DELETE FROM members WHERE id = 1;
SELECT name, t.sync('alice', name) FROM unnest(:'names'::text[]) AS name;
UPDATE members SET note = NULL WHERE id = 2;
SELECT name, t.sync('alice', name) FROM unnest(:'names'::text[]) AS name;
BEGIN; UPDATE members SET note = 'note' WHERE id = 4; INSERT INTO members VALUES (5, 'text', 5, 'alice', 'note'); COMMIT;
SELECT name, t.sync('alice', name) FROM unnest(:'names'::text[]) AS name;
-- With rows of the collection that go beside.
SELECT format('DELETE FROM %I WHERE id IN (3, 4)', name) FROM unnest(:'names'::text[]) AS name \gexec
DELETE FROM members WHERE id = 4;
SELECT name, t.sync('alice', name) FROM unnest(:'names'::text[]) AS name;
-- Parents that go with their rows, and their columns that change.
SELECT t.rested('parents', NULL), t.rested('children', 'EXISTS (SELECT FROM parents AS p WHERE p.id = children.parent AND p IS NOT NULL)', ', parent int NOT NULL');
ALTER TABLE children ADD FOREIGN KEY (parent) REFERENCES parents ON DELETE CASCADE;
SELECT snapsync.enable('children');
INSERT INTO parents VALUES (1, 'x'), (2, 'x'), (3, NULL);
INSERT INTO children SELECT n, 'text', n FROM generate_series(1, 3) AS n;
SELECT t.sync('alice', 'children');
DELETE FROM parents WHERE id = 1;
SELECT t.sync('alice', 'children');
UPDATE parents SET body = CASE WHEN id = 3 THEN 'x' END;
SELECT t.sync('alice', 'children');
-- The other table's own policy asks for whole rows.
SELECT t.policy('members', 'who = current_user AND members IS NOT NULL');
SELECT name, t.sync('alice', name) FROM unnest('{by_exists,by_subquery}'::text[]) AS name;
DELETE FROM members WHERE id = 3;
INSERT INTO by_exists VALUES (3, 'text', 3), (6, 'text', 5);
SELECT name, t.sync('alice', name) FROM unnest('{by_exists,by_subquery}'::text[]) AS name;
UPDATE members SET note = NULL WHERE id = 5;
SELECT name, t.sync('alice', name) FROM unnest('{by_exists,by_subquery}'::text[]) AS name;
\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_whole_rows;
