-- Values of every kind arrive exactly, in both dialects.
\set ECHO none
\set test regress_push_values
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET timezone = 'UTC';

CREATE TYPE mood AS ENUM ('fine', 'so-so');
CREATE TYPE place AS (x numeric, label text);
CREATE DOMAIN percent AS numeric(5, 2) CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN moment AS timestamptz;
CREATE TABLE v (
    id text PRIMARY KEY,
    i2 int2, i4 int4, i8 int8, n numeric, p percent, f4 float4, f8 float8, ok boolean,
    t text, c char(4), vc varchar(5), b bytea, u uuid, m mood,
    ts timestamp, tz timestamptz, mo moment, d date, ti time, iv interval,
    j json, jb jsonb, a int[], ta text[], aa int[][], pl place, pls place[], r int4range, mr int4multirange, net inet, bits bit varying
);
SELECT snapsync.enable('v');
SELECT t.catch_up('v');
-- As postgrest writes them.
SELECT push_changes($${"v": {"created": [{"id": "1", "i2": -32768, "i4": "2147483647", "i8": 9223372036854775807, "n": 12345678901234567890.12345678901234567890, "p": 99.99,
    "f4": 0.1, "f8": 0.30000000000000004, "ok": true, "t": "ä\u0001\"\\\ud83d\ude00", "c": "x", "vc": "12345", "b": "\\x00ff", "u": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "m": "so-so",
    "ts": "2024-02-29T12:00:00.123456", "tz": "2024-02-29T12:00:00.123456+02:00", "mo": "1900-01-01T00:00:00.000001Z", "d": "4713-01-01 BC", "ti": "24:00:00", "iv": "1 mon -3 days",
    "j": {"b": 1.10, "a": [1e2], "b": 2}, "jb": {"b": 1.10, "a": null}, "a": [1, null, 3], "ta": ["NULL", null, "", "{}"], "aa": [[1, 2], [3, 4]], "pl": {"x": 1.10, "label": null},
    "pls": [{"x": 1, "label": "a"}, null], "r": "[1,5)", "mr": "{[1,3),[5,7)}", "net": "::1/128", "bits": "0101"}]}}$$);
SELECT to_json(v) FROM v;
CREATE TABLE before AS SELECT * FROM v;
-- Round trip: what a pull gives goes back and changes nothing.
CREATE FUNCTION t.back(dialect text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    pulled json := public.pull_changes('{v}', dialect => dialect);
BEGIN
    PERFORM public.push_changes(json_build_object('v', json_build_object('updated', pulled #> '{changes,v,created}')), dialect => dialect);
    RETURN CASE WHEN EXISTS (SELECT FROM v FULL JOIN before AS b ON v.* *= b.* WHERE v.* IS NULL OR b.* IS NULL) THEN 'changed' ELSE 'the same' END;
END
$$;
SELECT t.back('postgrest'), t.back('watermelondb');
SELECT pull_changes('{v}', dialect => 'watermelondb') #> '{changes,v,created,0}';

-- A time in ms leaves alone the microseconds of the same millisecond, and writes any other.
SELECT push_changes('{"v": {"updated": [{"id": "1", "tz": 1709200800123, "ts": 1709208000123, "mo": -2208988800000}]}}', dialect => 'watermelondb');
SELECT tz, ts, mo FROM v;
SELECT push_changes('{"v": {"updated": [{"id": "1", "tz": 1709200800124, "ts": 1709208000122, "mo": -2208988800001}]}}', dialect => 'watermelondb');
SELECT tz, ts, mo FROM v;
-- Far from now, around changes of daylight saving time, with a fraction, as a float; text is not rounded.
SET timezone = 'America/New_York';
SELECT push_changes('{"v": {"created": [{"id": "2", "tz": 9223372036854, "ts": 64060588799999, "d": 64060588800000}, {"id": "3", "tz": 1710054000000.5, "ts": 1.710054e12, "d": -1},
    {"id": "4", "tz": 8640000000000000, "ts": -8640000000000000, "d": 8640000000000000}, {"id": "5", "tz": "2024-03-10T07:00:00.000001Z", "ts": "infinity"}]}}');
SET timezone = 'UTC';
SELECT id, tz, ts, d FROM v WHERE id > '1' ORDER BY id;
SELECT * FROM t.error($$SELECT push_changes('{"v": {"created": [{"id": "6", "tz": 99999999999999999}]}}')$$);
-- Nested values as JSON text, as nested JSON, and as the type's own text.
SELECT push_changes($${"v": {"created": [{"id": "7", "j": "{\"a\":1.10}", "jb": "\"text\"", "a": "[1,2]", "ta": "{x,\"y z\"}", "pl": "{\"x\":2}", "pls": "[]"},
    {"id": "8", "j": {"a": 1.10}, "jb": "null", "a": [1, 2], "ta": [], "pl": "(3,three)", "pls": "{\"(1,a)\"}"}]}}$$, dialect => 'watermelondb');
SELECT id, j, jb, a, ta, pl, pls FROM v WHERE id IN ('7', '8') ORDER BY id;
-- Explicit null is written, absence is not; WatermelonDB's _changed says what of a whole row it is that changed.
SELECT push_changes('{"v": {"updated": [{"id": "7", "a": null, "_status": "updated", "_changed": ""}, {"id": "8", "a": null, "jb": null, "t": "new", "_changed": "t", "_status": "updated"}]}}');
SELECT id, t, j, jb, a, ta FROM v WHERE id IN ('7', '8') ORDER BY id;
-- Each type says what it does not take.
SELECT * FROM t.error($$SELECT push_changes('{"v": {"updated": [{"id": "7", "i2": 32768}]}}')$$);
SELECT * FROM t.error($$SELECT push_changes('{"v": {"updated": [{"id": "7", "i4": 1.5}]}}')$$);
SELECT * FROM t.error($$SELECT push_changes('{"v": {"updated": [{"id": "7", "p": 101}]}}')$$);
SELECT * FROM t.error($$SELECT push_changes('{"v": {"updated": [{"id": "7", "m": "bad"}]}}')$$);
SELECT * FROM t.error($$SELECT push_changes('{"v": {"updated": [{"id": "7", "d": "yesterday-ish"}]}}')$$);
SELECT * FROM t.error($$SELECT push_changes('{"v": {"updated": [{"id": "7", "b": "\\xzz"}]}}')$$);
SELECT * FROM t.error($$SELECT push_changes('{"v": {"updated": [{"id": "7", "a": "no array"}]}}', dialect => 'watermelondb')$$);

-- Computed columns are taken off, defaults fill in, read-only columns are left alone.
CREATE TABLE g (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    by_default int GENERATED BY DEFAULT AS IDENTITY,
    always int GENERATED ALWAYS AS IDENTITY (START 100),
    n int NOT NULL DEFAULT 7,
    twice int GENERATED ALWAYS AS (n * 2) STORED,
    made_by text DEFAULT 'the server'
);
SELECT snapsync.enable('g', readonly => '{made_by}');
SELECT push_changes('{"g": {"created": [{"id": 41}, {"id": "42", "n": 1, "twice": 5, "always": 3, "by_default": 9, "made_by": "me"}]}}');
SELECT * FROM g ORDER BY id;
SELECT push_changes('{"g": {"updated": [{"id": 41, "n": 3, "twice": 5, "always": 3, "made_by": "me"}]}}');
SELECT * FROM g ORDER BY id;
SELECT * FROM t.error($$SELECT push_changes('{"g": {"updated": [{"id": 41, "n": null}]}}')$$);

-- Composite and chosen keys.
CREATE TABLE pairs (a text, b int, n int, PRIMARY KEY (a, b));
CREATE TABLE coded (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, code text UNIQUE NOT NULL, n int);
SELECT snapsync.enable('pairs'), snapsync.enable('coded', key => '{code}');
SELECT push_changes('{"pairs": {"created": [{"a": "x.y", "b": 1, "n": 1}, {"id": "x%2Ey.2", "n": 2}]}, "coded": {"created": [{"code": "c", "n": 1}]}}');
SELECT push_changes('{"pairs": {"updated": [{"id": "x%2Ey.1", "a": "x.y", "b": 1, "n": 10}], "deleted": ["x%2Ey.2", {"a": "x.y", "b": 7}]}, "coded": {"updated": [{"id": "c", "n": 2}]}}', dialect => 'watermelondb');
SELECT * FROM pairs; SELECT * FROM coded;
