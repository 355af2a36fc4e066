-- push_mutations: intentions instead of rows.
\set ECHO none
\set test regress_push_mutations
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET timezone = 'UTC';

CREATE TABLE quotes (id int PRIMARY KEY, likes int NOT NULL DEFAULT 0 CONSTRAINT enough CHECK (likes < 5), digits numeric);
CREATE FUNCTION like_quote(args json) RETURNS void LANGUAGE sql AS $$ UPDATE quotes SET likes = likes + coalesce((args ->> 'by')::int, 1) WHERE id = (args ->> 'id')::int $$;
CREATE FUNCTION write_quote(args jsonb) RETURNS int LANGUAGE sql AS $$ INSERT INTO quotes (id, digits) VALUES ((args ->> 'id')::int, (args ->> 'digits')::numeric) RETURNING id $$;
CREATE FUNCTION two(a json, b json) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION owners_only(args json) RETURNS void LANGUAGE sql AS $$ INSERT INTO quotes VALUES (99) $$;
REVOKE EXECUTE ON FUNCTION owners_only FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE ON quotes TO alice, bob;
SELECT snapsync.enable('quotes');
SELECT snapsync.register_mutator('like', 'like_quote(json)'), snapsync.register_mutator('write', 'write_quote(jsonb)'), snapsync.register_mutator('owners', 'owners_only(json)');
SELECT * FROM t.error($$SELECT snapsync.register_mutator('two', 'two(json, json)')$$);
SELECT * FROM t.error($$SELECT snapsync.register_mutator('', 'like_quote(json)')$$);
SET ROLE alice;
-- Whoever registers decides what runs as others.
SELECT * FROM t.error($$SELECT snapsync.register_mutator('like', 'write_quote(jsonb)')$$);
SELECT push_mutations('[{"id": 1, "name": "write", "args": {"id": 1, "digits": 12345678901234567890.10}}, {"id": 2, "name": "like", "args": {"id": 1}}]', 'phone');
-- The answer was lost, and one more came since.
SELECT push_mutations('[{"id": 1, "name": "write", "args": {"id": 1}}, {"id": 2, "name": "like", "args": {"id": 1}}, {"id": 3, "name": "like", "args": {"id": 1}}]', 'phone');
SELECT * FROM quotes;
-- What fails is undone, recorded, reported and skipped.
SELECT push_mutations('[{"id": 4, "name": "like", "args": {"id": 1, "by": 10}}, {"id": 5, "name": "unlike"}, {"id": 6, "name": "owners"}, {"id": 7, "name": "like", "args": {"id": "one"}}, {"id": 8, "name": "like", "args": {"id": 1}}]', 'phone');
SELECT push_mutations('[{"id": 7, "name": "like", "args": {"id": "one"}}, {"id": 8, "name": "like", "args": {"id": 1}}]', 'phone');
SELECT * FROM quotes;
-- Another client counts for itself, and so does another role with the same id.
SELECT push_mutations('[{"id": 1, "name": "like", "args": {"id": 1}}]', 'tablet');
RESET ROLE;
SET ROLE bob;
SELECT push_mutations('[{"id": 1, "name": "write", "args": {"id": 2}}]', 'phone');
RESET ROLE;
-- PostgREST's users share a role; a device that another one signs in on counts anew for him.
SET ROLE authenticated;
SET request.jwt.claims = '{"sub": "ann"}';
SELECT push_mutations('[{"id": 1, "name": "none"}]', 'phone');
SET request.jwt.claims = '{"sub": "ben"}';
SELECT push_mutations('[{"id": 1, "name": "nothing"}]', 'phone');
SET request.jwt.claims = 'not JSON';
SELECT push_mutations('[]', 'phone');
RESET request.jwt.claims;
RESET ROLE;
-- Nothing may be missing, or out of order.
SELECT * FROM t.error($$SELECT push_mutations('[{"id": 2, "name": "like"}]', 'new')$$);
SELECT * FROM t.error($$SELECT push_mutations('[{"id": 1, "name": "like"}, {"id": 3, "name": "like"}]', 'new')$$);
SELECT * FROM t.error($$SELECT push_mutations('[{"id": 0, "name": "like"}]', 'new')$$);
SELECT * FROM t.error($$SELECT push_mutations('{"id": 1}', 'new')$$);
SELECT * FROM t.error($$SELECT push_mutations('[{"id": 1, "nam": "like"}]', 'new')$$);
SELECT * FROM t.error($$SELECT push_mutations('[{"id": 1, "name": "like"}, {"id": 2, "name": "li\u0000ke"}]', 'new')$$);
SELECT * FROM t.error($$SELECT push_mutations('[]', '')$$);
SELECT * FROM t.error($$SELECT push_mutations(NULL, 'new')$$);
SELECT push_mutations('[]', 'new');
-- The client's own rows do not come back as created.
SELECT set_config('t.cursor', '2', false);
SELECT what, item::json ->> 'id' AS id FROM t.pull('{quotes}', client_id => 'phone');
-- The function that was found is called, also if its name passes to another one meanwhile.
CREATE SCHEMA lib;
CREATE SCHEMA decoy AUTHORIZATION alice;
CREATE FUNCTION lib.step(args json) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF to_regnamespace('decoy') IS NOT NULL THEN
        ALTER SCHEMA lib RENAME TO was;
        ALTER SCHEMA decoy RENAME TO lib;
    END IF;
    RAISE WARNING 'the one that is registered: %', args;
END
$$;
CREATE FUNCTION decoy.step(args json) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'another one'; END $$;
ALTER FUNCTION decoy.step OWNER TO alice;
SELECT snapsync.register_mutator('step', 'lib.step(json)');
-- Who could not call it by its name does not, nor who may not execute it.
SET ROLE bob;
SELECT push_mutations('[{"id": 1, "name": "step"}]', 'hidden');
RESET ROLE;
GRANT USAGE ON SCHEMA lib, decoy TO PUBLIC;
REVOKE EXECUTE ON FUNCTION lib.step FROM PUBLIC;
SET ROLE bob;
SELECT push_mutations('[{"id": 2, "name": "step"}]', 'hidden');
RESET ROLE;
GRANT EXECUTE ON FUNCTION lib.step TO PUBLIC;
SET ROLE bob;
SELECT push_mutations('[{"id": 1, "name": "step", "args": 1}, {"id": 2, "name": "step"}]', 'swapped');
-- What comes of the name next is another owner's.
SELECT push_mutations('[{"id": 3, "name": "step"}]', 'swapped');
RESET ROLE;
-- A name that is taken away, a function that is gone.
SELECT snapsync.register_mutator('write', NULL);
DROP FUNCTION like_quote(json);
SELECT push_mutations('[{"id": 1, "name": "write"}, {"id": 2, "name": "like"}]', 'new');
SELECT who, client_id, last_id FROM snapsync.mutation_client ORDER BY 1, 2;
SELECT who, client_id, id, name, code, constraint_name FROM snapsync.mutation_failure ORDER BY 1, 2, 3;
-- A client that prune() has forgotten begins anew, and nothing of before is in its way or held against it.
SET ROLE alice;
SELECT push_mutations('[{"id": 1, "name": "none"}, {"id": 2, "name": "none"}]', 'old');
RESET ROLE;
UPDATE quotes SET likes = likes;
SELECT snapsync.prune('0') IS NOT NULL;
SELECT count(*) FROM snapsync.mutation_client AS c FULL JOIN snapsync.mutation_failure AS f USING (who, client_id) WHERE client_id = 'old';
-- As an older version left it.
INSERT INTO snapsync.mutation_failure (who, client_id, id, name, code, message, at) VALUES ('["alice"]', 'old', 1, 'x', '42883', 'before', now()), ('["alice"]', 'old', 2, 'x', '42883', 'before', now());
SET ROLE alice;
SELECT push_mutations('[{"id": 1, "name": "none"}]', 'old');
SELECT push_mutations('[{"id": 1, "name": "none"}, {"id": 2, "name": "none"}, {"id": 3, "name": "none"}]', 'old');
RESET ROLE;

-- A set that a mutator returns is read to its end; whatever else it returns, too.
CREATE FUNCTION likes(args json) RETURNS TABLE (n int) LANGUAGE sql AS $$ INSERT INTO quotes SELECT i FROM generate_series(201, 203) AS i RETURNING id $$;
CREATE FUNCTION one_by_one(args json) RETURNS SETOF int LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 211..213 LOOP
        INSERT INTO quotes VALUES (n);
        RETURN NEXT n;
    END LOOP;
END
$$;
CREATE FUNCTION both_ways(INOUT args json, OUT n int) LANGUAGE plpgsql AS $$ BEGIN INSERT INTO quotes VALUES (221); END $$;
CREATE FUNCTION any_row(args json) RETURNS record LANGUAGE sql AS $$ INSERT INTO quotes VALUES (222) RETURNING id, likes $$;
CREATE FUNCTION any_rows(args json) RETURNS SETOF record LANGUAGE sql AS $$ INSERT INTO quotes VALUES (223), (224) RETURNING id, likes $$;
SELECT snapsync.register_mutator(name, (name || '(json)')::regprocedure) FROM unnest(ARRAY['likes', 'one_by_one', 'both_ways', 'any_row', 'any_rows']) AS name;
SET ROLE alice;
SELECT push_mutations('[{"id": 1, "name": "likes"}, {"id": 2, "name": "one_by_one"}, {"id": 3, "name": "both_ways"}, {"id": 4, "name": "any_row"}, {"id": 5, "name": "any_rows"}]', 'sets');
SELECT array_agg(id ORDER BY id) FROM quotes WHERE id > 200;
RESET ROLE;

-- Of a name that no mutator has, and of what an error says, so much is kept as people read.
CREATE FUNCTION says(args json) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE '%', repeat('ü', 100000); END $$;
SELECT snapsync.register_mutator('says', 'says(json)');
SET ROLE alice;
SELECT json_array_length(push_mutations(format('[{"id": 1, "name": "%s"}, {"id": 2, "name": "says"}]', repeat('ä', 100000))::json, 'long') -> 'failures');
RESET ROLE;
SELECT id, octet_length(name) AS name, octet_length(message) AS message FROM snapsync.mutation_failure WHERE client_id = 'long' ORDER BY id;

-- Who may do nothing at all can have mutations fail. All that fail are reported, and the newest of each client are kept for who sends them again.
CREATE ROLE nobody_at_all;
SELECT json_agg(json_build_object('id', i, 'name', 'none ' || i)) AS failing FROM generate_series(1, 1500) AS i \gset
CREATE FUNCTION t.failed(answer json) RETURNS TABLE (count bigint, first int, last int) LANGUAGE sql AS $$
    SELECT count(*), min((f ->> 'id')::int), max((f ->> 'id')::int) FROM json_array_elements(answer -> 'failures') AS f
$$;
SET ROLE nobody_at_all;
SELECT * FROM t.failed(push_mutations(:'failing', 'many'));
SELECT * FROM t.failed(push_mutations(:'failing', 'many'));
SELECT * FROM t.failed(push_mutations('[{"id": 1500, "name": "none"}, {"id": 1501, "name": "none"}, {"id": 1502, "name": "none"}]', 'many'));
RESET ROLE;
SELECT count(*), min(id), max(id) FROM snapsync.mutation_failure WHERE client_id = 'many';
DROP ROLE nobody_at_all;

-- A mutator that sends mutations of its own client: none of them is carried out twice.
CREATE TABLE carried_out (what text);
CREATE FUNCTION notes(args json) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ INSERT INTO carried_out VALUES (args ->> 'what') $$;
CREATE FUNCTION nests(args json) RETURNS json LANGUAGE sql AS $$ SELECT push_mutations('[{"id": 1, "name": "notes", "args": {"what": "inner"}}, {"id": 2, "name": "notes", "args": {"what": "second"}}]', 'nested') $$;
SELECT snapsync.register_mutator('notes', 'notes(json)'), snapsync.register_mutator('nests', 'nests(json)');
SET ROLE alice;
SELECT push_mutations('[{"id": 1, "name": "nests"}]', 'nested') -> 'failures';
SELECT push_mutations('[{"id": 2, "name": "notes", "args": {"what": "again"}}, {"id": 3, "name": "notes", "args": {"what": "next"}}]', 'nested');
RESET ROLE;
SELECT * FROM carried_out;
