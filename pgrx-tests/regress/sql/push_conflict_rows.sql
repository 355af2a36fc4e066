-- What a conflict function may return: the row that it was asked about, however its key is written, and no other one.
\set ECHO none
\set test regress_push_conflict_rows
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE FUNCTION made(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE incoming ->> 'a'
        WHEN 'whole' THEN stored || incoming
        WHEN 'null' THEN incoming || CASE collection WHEN 'one' THEN '{"id": null}'::jsonb ELSE '{"id": null, "no": null}' END
        WHEN 'same' THEN incoming || '{"id": "x.1"}'
        WHEN 'other' THEN incoming || '{"id": "3"}'
        WHEN 'other no' THEN incoming || '{"no": 3}'
        WHEN 'no number' THEN incoming || '{"no": "q"}'
        WHEN 'unknown' THEN incoming || '{"nonsense": 1}'
        ELSE incoming END $$;
CREATE TABLE one (id text PRIMARY KEY, a text, b text);
CREATE TABLE two (org text, no int, a text, b text, PRIMARY KEY (org, no));
SELECT snapsync.enable(t, conflict => 'custom', conflict_function => 'made(text, text, jsonb, jsonb)') FROM unnest('{one,two}'::text[]) AS t;

-- Rows 1 and 2 change on the server.
CREATE PROCEDURE t.both() LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM one;
    DELETE FROM two;
    INSERT INTO one SELECT i::text, 'old', 'old' FROM generate_series(1, 3) AS i;
    INSERT INTO two SELECT 'x', i, 'old', 'old' FROM generate_series(1, 3) AS i;
    COMMIT;
    PERFORM t.catch_up('one');
    UPDATE one SET b = 'server' WHERE id <> '3';
    UPDATE two SET b = 'server' WHERE no <> 3;
    COMMIT;
END
$$;
CREATE FUNCTION t.push(changes text) RETURNS text LANGUAGE sql AS $$
    SELECT public.push_changes(changes::json, current_setting('t.cursor'), on_rejected => 'report')::text $$;

CALL t.both();
SELECT t.push('{"one": {"updated": [{"id": "1", "a": "whole"}, {"id": "2", "a": "bare"}]}, "two": {"updated": [{"id": "x.1", "a": "whole"}, {"id": "x.2", "a": "bare"}]}}');
SELECT * FROM one ORDER BY id;
SELECT * FROM two ORDER BY no;
-- A key of which nothing is known.
CALL t.both();
SELECT t.push('{"one": {"updated": [{"id": "1", "a": "null"}]}, "two": {"updated": [{"id": "x.1", "a": "same"}, {"id": "x.2", "a": "null"}]}}');
SELECT * FROM one ORDER BY id;
SELECT * FROM two ORDER BY no;
-- Another row: it is not written over, unasked, and the client does not hear that all went well.
CALL t.both();
SELECT t.push('{"one": {"updated": [{"id": "1", "a": "other"}, {"id": "2", "a": "bare"}]}}');
SELECT t.push('{"two": {"updated": [{"id": "x.1", "a": "other"}]}}');
SELECT t.push('{"two": {"updated": [{"id": "x.1", "a": "other no"}]}}');
SELECT t.push('{"two": {"updated": [{"id": "x.1", "a": "no number"}]}}');
SELECT * FROM one ORDER BY id;
SELECT * FROM two ORDER BY no;
SELECT * FROM t.error($$SELECT push_changes('{"one": {"updated": [{"id": "1", "a": "other"}]}}', current_setting('t.cursor'))$$);
-- A column that there is not.
SELECT t.push('{"one": {"updated": [{"id": "1", "a": "unknown"}]}}');

-- A row that exists, and that its pusher sees only since he has joined by the same push: what others did to it since his cursor is a conflict.
RESET ROLE;
CREATE TABLE joined (id text PRIMARY KEY, who name DEFAULT current_user, team text);
CREATE TABLE boards (id text PRIMARY KEY, team text, title text);
ALTER TABLE boards ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON boards USING (EXISTS (SELECT FROM joined AS j WHERE j.team = boards.team AND j.who = current_user)) WITH CHECK (true);
GRANT ALL ON joined, boards TO alice, bob;
SELECT snapsync.enable('boards'), snapsync.enable('joined');
INSERT INTO joined VALUES ('2', 'bob', 't');
INSERT INTO boards VALUES ('x', 't', 'a'), ('y', 't', 'a'), ('gone', 'own', 'a');
INSERT INTO joined VALUES ('1', 'alice', 'own');
SET ROLE alice;
SELECT pull_changes('{joined,boards}') ->> 'timestamp' AS c \gset
RESET ROLE;
UPDATE boards SET title = 'by bob' WHERE id = 'x';
SET ROLE alice;
\set batch '{"joined": {"created": [{"id": "3", "team": "t"}]}, "boards": {"created": [{"id": "x", "team": "t", "title": "mine"}, {"id": "y", "team": "t", "title": "mine"}, {"id": "z", "team": "t", "title": "mine"}], "deleted": ["gone"]}}'
SELECT push_changes(:'batch', :'c');
SELECT push_changes(:'batch', :'c', on_rejected => 'report') -> 'rejected' AS rejected;
SELECT * FROM boards ORDER BY id;
-- (Under other policies the stored one stands.)
RESET ROLE;
DELETE FROM joined WHERE who = 'alice';
DELETE FROM boards WHERE id = 'z';
SELECT snapsync.enable('boards', conflict => 'server_wins');
SET ROLE alice;
SELECT pull_changes('{joined,boards}') ->> 'timestamp' AS c \gset
RESET ROLE;
UPDATE boards SET title = 'by bob again' WHERE id = 'x';
SET ROLE alice;
SELECT push_changes(:'batch', :'c') -> 'experimentalRejectedIds' AS rejected;
SELECT * FROM boards ORDER BY id;
RESET ROLE;
