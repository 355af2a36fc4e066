-- Indexes come and go while a client pulls in pages that are in the order of the key.
\set ECHO none
\set test regress_pages_order
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\i pages.psql
\set ECHO queries

CREATE TABLE seats (event int NOT NULL, usr int NOT NULL, note text, secret text, CONSTRAINT seats_key PRIMARY KEY (event, usr));
CREATE UNIQUE INDEX seats_by_usr ON seats (usr, event);
INSERT INTO seats SELECT e, 21 - u, 'x' FROM generate_series(1, 20) AS e, generate_series(1, 20) AS u;
-- Who may not read all columns is not sent the rows as they stand.
GRANT SELECT (event, usr, note) ON seats TO alice;
SELECT snapsync.enable('seats');
CREATE VIEW pages AS
    SELECT count(*), min((item ->> 'event')::int) || ' to ' || max((item ->> 'event')::int) AS events,
           min((item ->> 'usr')::int) || ' to ' || max((item ->> 'usr')::int) AS users
    FROM c.held WHERE who = 'a';

SET ROLE alice;
SELECT c.page('a', '{seats}', 100, '{event,usr}');
RESET ROLE;
-- The key's index gets another number, and is taken before the other one all the same.
REINDEX INDEX CONCURRENTLY seats_key;
SET ROLE alice;
SELECT c.page('a', '{seats}', 100, '{event,usr}');
RESET ROLE;
TABLE pages;
-- The other one has to serve now: in its order these rows begin anew.
ALTER TABLE seats DROP CONSTRAINT seats_key;
SET ROLE alice;
SELECT c.page('a', '{seats}', 100, '{event,usr}');
RESET ROLE;
TABLE pages;
-- And once more.
CREATE UNIQUE INDEX seats_again ON seats (event, usr);
SET ROLE alice;
SELECT c.pages('a', '{seats}', 150, '{event,usr}');
RESET ROLE;
TABLE pages;
