-- What clients call a table, and to whom a name belongs.
\set ECHO none
\set test regress_names
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
-- Where a pull of this name reads.
CREATE FUNCTION t.read(name text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN public.pull_changes(ARRAY[name]) -> 'changes' -> name -> 'created' -> 0 ->> 'of';
EXCEPTION WHEN undefined_table THEN
    RETURN 'does not exist';
END
$$;
CREATE FUNCTION t.table(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %s (id int PRIMARY KEY, "of" text)', name);
    EXECUTE format('INSERT INTO %s VALUES (1, %L)', name, name);
    EXECUTE format('GRANT SELECT, INSERT ON %s TO PUBLIC', name);
END
$$;
CREATE SCHEMA app; CREATE SCHEMA bobs AUTHORIZATION bob;
GRANT USAGE ON SCHEMA app, bobs TO PUBLIC;

-- A table in public has its own name and the same with its schema, any other one that with its schema.
SELECT t.table('notes'), t.table('app.tasks');
SELECT snapsync.enable('notes'), snapsync.enable('app.tasks');
SELECT name, qualified_name FROM snapsync.collection ORDER BY name;
SELECT n, t.read(n) FROM unnest('{notes,public.notes,app.tasks,tasks,public.tasks,public.app.tasks}'::text[]) AS n;
-- A name of one's own choice; the one with the schema works as well.
SELECT snapsync.enable('app.tasks', name => 'tasks');
SELECT n, t.read(n) FROM unnest('{tasks,public.tasks,app.tasks}'::text[]) AS n;
-- Both names outlive a rename; they change when another one is given.
ALTER TABLE notes RENAME TO remarks;
SELECT n, t.read(n) FROM unnest('{notes,public.notes,remarks,public.remarks}'::text[]) AS n;
SELECT snapsync.enable('remarks', exclude => '{}');
SELECT n, t.read(n) FROM unnest('{notes,public.notes,remarks,public.remarks}'::text[]) AS n;
SELECT snapsync.enable('remarks', name => 'remarks');
SELECT n, t.read(n) FROM unnest('{notes,public.notes,remarks,public.remarks}'::text[]) AS n;
ALTER TABLE remarks RENAME TO notes;
SELECT snapsync.enable('notes', name => 'notes');

-- Names with a dot belong to the table that is called so; they can be given to it, and to no other one.
SET ROLE bob;
SELECT t.table('bobs.trap');
SELECT * FROM t.error($$ SELECT snapsync.enable('bobs.trap', name => 'public.notes') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('bobs.trap', name => 'public.nobodys') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('bobs.trap', name => 'trap.bobs') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('bobs.trap', name => '.') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('bobs.trap', name => repeat('x', 256)) $$);
SELECT snapsync.enable('bobs.trap', name => 'bobs.trap');
-- Bare names belong to the tables of public, whether they are synced or not.
SELECT * FROM t.error($$ SELECT snapsync.enable('bobs.trap', name => 'notes') $$);
RESET ROLE;
SELECT t.table('plans');
CREATE VIEW latest AS SELECT 1 AS id;
SET ROLE bob;
SELECT * FROM t.error($$ SELECT snapsync.enable('bobs.trap', name => 'plans') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('bobs.trap', name => 'latest') $$);
SELECT name FROM snapsync.status WHERE "table" = 'bobs.trap'::regclass;
RESET ROLE;
-- Who owns both tables may choose.
SELECT snapsync.enable('app.tasks', name => 'plans');
SELECT n, t.read(n) FROM unnest('{plans,public.plans,app.tasks}'::text[]) AS n;
SELECT snapsync.enable('app.tasks', name => 'tasks');

-- Who was quicker keeps a bare name: no push goes to another table than before. The table in public has its full name.
SET ROLE bob;
SELECT t.table('bobs.squat');
SELECT snapsync.enable('bobs.squat', name => 'invoices');
RESET ROLE;
SELECT t.table('invoices');
SELECT n, t.read(n) FROM unnest('{invoices,public.invoices}'::text[]) AS n;
SELECT snapsync.enable('invoices');
SELECT n, t.read(n) FROM unnest('{invoices,public.invoices,bobs.squat}'::text[]) AS n;
SELECT push_changes('{"public.invoices": {"created": [{"id": 2, "of": "mine"}]}}');
SELECT count(*) FROM invoices;
SELECT count(*) FROM bobs.squat;
-- Settings can be changed under these names.
SELECT snapsync.enable('invoices', conflict => 'merge');
SET ROLE bob;
SELECT snapsync.enable('bobs.squat', conflict => 'merge');
RESET ROLE;
SELECT * FROM t.error($$ SELECT snapsync.enable('invoices', name => 'invoices') $$);
SELECT name FROM snapsync.status WHERE "table" IN ('invoices'::regclass, 'bobs.squat'::regclass) ORDER BY 1;
-- A superuser settles it.
SELECT snapsync.enable('bobs.squat', name => 'bobs.squat');
SELECT snapsync.enable('invoices', name => 'invoices');
SELECT n, t.read(n) FROM unnest('{invoices,public.invoices,bobs.squat}'::text[]) AS n;

-- A renamed table keeps both: another one in its place is refused, with the reason, or gets a name of its own.
ALTER TABLE notes RENAME TO notes_old;
SELECT t.table('notes');
UPDATE notes SET "of" = 'another notes';
SELECT n, t.read(n) FROM unnest('{notes,public.notes}'::text[]) AS n;
SELECT * FROM t.error($$ SELECT snapsync.enable('notes') $$);
SELECT snapsync.enable('notes', name => 'memos');
SELECT n, t.read(n) FROM unnest('{notes,public.notes,memos}'::text[]) AS n;
SELECT snapsync.disable('notes_old');
SELECT n, t.read(n) FROM unnest('{notes,public.notes,memos}'::text[]) AS n;
SELECT snapsync.enable('notes', name => 'notes');
SELECT n, t.read(n) FROM unnest('{notes,public.notes,memos}'::text[]) AS n;

-- Dots in names: no two tables have one name.
CREATE SCHEMA "a.b"; CREATE SCHEMA a;
SELECT t.table('"app.tasks"'), t.table('"a.b".c'), t.table('a."b.c"');
SELECT snapsync.enable('public."app.tasks"'), snapsync.enable('"a.b".c'), snapsync.enable('a."b.c"');
SELECT name, "table" FROM snapsync.status WHERE "table"::text LIKE '%"%' ORDER BY name COLLATE "C";
SELECT n, t.read(n) FROM unnest('{app.tasks,public.app.tasks,a.b.c}'::text[]) AS n;

-- A name may be longer than a table's, of which the first 63 bytes belong to a table in public.
SELECT t.table(repeat('x', 63));
CREATE SCHEMA longer AUTHORIZATION bob;
SET ROLE bob;
CREATE TABLE longer.mine (id int PRIMARY KEY);
SELECT snapsync.enable('longer.mine', name => repeat('x', 63) || '_2');
SELECT * FROM t.error($$ SELECT snapsync.enable('longer.mine', name => repeat('x', 63)) $$);
RESET ROLE;
