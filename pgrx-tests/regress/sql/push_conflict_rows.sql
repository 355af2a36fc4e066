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
