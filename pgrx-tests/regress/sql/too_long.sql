-- An answer is a value of PostgreSQL's, which has 1 GB at most. The error says what helps.
\set ECHO none
\set test regress_too_long
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO all
CREATE TABLE longs (id int PRIMARY KEY, v text);
CREATE TABLE others (id int PRIMARY KEY);
SELECT snapsync.enable('longs');
SELECT snapsync.enable('others');
-- (Each takes six times as much in JSON.)
INSERT INTO longs SELECT i, repeat(E'\x01', 48000000) FROM generate_series(1, 4) AS i;
\set VERBOSITY default
SELECT length(pull_changes('{longs}')::text);
SELECT length(pull_changes('{others,longs}')::text);
DELETE FROM longs WHERE id > 1;
UPDATE longs SET v = repeat(E'\x01', 190000000) WHERE id = 1;
SELECT length(pull_changes('{longs}', page_size => 1)::text);
SELECT length(pull_changes('{longs}', dialect => 'watermelondb')::text);
\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_too_long;
