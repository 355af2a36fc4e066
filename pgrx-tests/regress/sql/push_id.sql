-- push_id: a push is carried out once, however often it comes.
\set ECHO none
\set test regress_push_id
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET timezone = 'UTC';

CREATE TABLE counters (id text PRIMARY KEY, n int);
CREATE TABLE pushes (n serial, id text);
CREATE FUNCTION count_push() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.pushes (id) VALUES (NEW.id); RETURN NEW; END $$;
CREATE TRIGGER counting BEFORE INSERT OR UPDATE ON counters FOR EACH ROW EXECUTE FUNCTION count_push();
GRANT ALL ON ALL TABLES IN SCHEMA public TO alice, bob;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO alice, bob;
SELECT snapsync.enable('counters');
SET ROLE alice;
SELECT push_changes('{"counters": {"created": [{"id": "a", "n": 1}]}}', push_id => '00000000-0000-0000-0000-000000000001');
SELECT push_changes('{"counters": {"created": [{"id": "a", "n": 1}]}}', push_id => '00000000-0000-0000-0000-000000000001');
SELECT push_changes('{"counters": {"created": [{"id": "b", "n": "many"}, {"id": "c", "n": 1}]}}', push_id => '00000000-0000-0000-0000-000000000002', on_rejected => 'report');
SELECT push_changes('{"counters": {"created": [{"id": "b", "n": "many"}, {"id": "c", "n": 1}]}}', push_id => '00000000-0000-0000-0000-000000000002', on_rejected => 'report');
SELECT id FROM pushes ORDER BY n;
-- The id of another batch.
SELECT * FROM t.error($$SELECT push_changes('{"counters": {"created": [{"id": "z", "n": 1}]}}', push_id => '00000000-0000-0000-0000-000000000001')$$);
-- Whoever lost the answer may have pulled before he sends the batch again.
SELECT push_changes('{"counters": {"created": [{"id": "a", "n": 1}]}}', '1', push_id => '00000000-0000-0000-0000-000000000001');
-- A failed one did not happen: it can come again.
SELECT * FROM t.error($$SELECT push_changes('{"counters": {"created": [{"id": "d", "n": "many"}]}}', push_id => '00000000-0000-0000-0000-000000000003')$$);
SELECT push_changes('{"counters": {"created": [{"id": "d", "n": 4}]}}', push_id => '00000000-0000-0000-0000-000000000003');
RESET ROLE;
-- Ids are each role's own.
SET ROLE bob;
SELECT push_changes('{"counters": {"updated": [{"id": "a", "n": 2}]}}', push_id => '00000000-0000-0000-0000-000000000001');
SELECT * FROM t.error('SELECT * FROM snapsync.push');
RESET ROLE;
SELECT id, n FROM counters ORDER BY id;
SELECT who, right(push_id::text, 1) AS push_id, answer IS NOT NULL AS answered FROM snapsync.push ORDER BY 1, 2;
-- And each user's own, where one role serves all of them: a number is another user than the text of its digits, and a role's name
-- is no user.
CREATE ROLE "authenticated/A";
GRANT ALL ON ALL TABLES IN SCHEMA public TO authenticated, "authenticated/A";
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO authenticated, "authenticated/A";
SELECT set_config('request.jwt.claims', sub, true), set_config('role', role, true),
       push_changes(format('{"counters": {"created": [{"id": "%s %s", "n": 1}]}}', i, role)::json, push_id => '00000000-0000-0000-0000-000000000005')
FROM (VALUES (1, 'authenticated', '{"sub": "A"}'), (2, 'authenticated', '{"sub": 1}'), (3, 'authenticated', '{"sub": 2}'), (4, 'authenticated', '{"sub": "1"}'),
             (5, 'authenticated', '{}'), (6, 'authenticated/A', '{}')) AS v(i, role, sub);
SELECT who FROM snapsync.push WHERE push_id = '00000000-0000-0000-0000-000000000005' ORDER BY 1;
DROP OWNED BY "authenticated/A";
DROP ROLE "authenticated/A";
-- Kept for snapsync.push_retention.
UPDATE snapsync.push SET at = now() - interval '8 days' WHERE who = '["alice"]';
SELECT push_changes('{}', push_id => '00000000-0000-0000-0000-000000000004');
SELECT who, right(push_id::text, 1) AS push_id FROM snapsync.push ORDER BY 1, 2;
-- A push takes so many outdated answers along as are 1 MB together, and one at least.
INSERT INTO snapsync.push (who, push_id, digest, since, answer, at)
SELECT '["bob"]', gen_random_uuid(), '\x00', 1, (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 32000) WHERE i > 0), now() - interval '9 days' FROM generate_series(1, 5) AS i;
SELECT push_changes('{}', push_id => '00000000-0000-0000-0000-000000000007');
SELECT count(*) FROM snapsync.push WHERE who = '["bob"]' AND at < now() - interval '8 days';
SHOW snapsync.push_retention;

-- An answer of more than 1 MB is not kept, but that it was given.
SELECT json_build_object('counters', json_build_object('created', json_agg(json_build_object('id', 'long' || i || CASE i WHEN 1 THEN '' ELSE repeat('x', 2000) END, 'n', i)))) AS long
FROM generate_series(1, 300) AS i \gset
ALTER TABLE counters ADD CHECK (length(id) < 100);
SET ROLE alice;
SELECT octet_length(push_changes(:'long', push_id => '00000000-0000-0000-0000-000000000008', on_rejected => 'report')::text) > 1 << 20 AS long;
SELECT * FROM t.error(format('SELECT push_changes(%L, push_id => %L, on_rejected => %L)', :'long', '00000000-0000-0000-0000-000000000008', 'report'));
RESET ROLE;
SELECT answer IS NULL AS not_kept FROM snapsync.push WHERE push_id = '00000000-0000-0000-0000-000000000008';
SELECT count(*) FROM counters WHERE id LIKE 'long%';
