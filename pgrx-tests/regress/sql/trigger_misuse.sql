-- snapsync.track() called otherwise than by enable()'s triggers: an error, whatever the trigger, and the backend lives.
\set ECHO none
\set test regress_trigger_misuse
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

SELECT pg_backend_pid() AS pid \gset
SELECT snapsync.track();
\echo :SQLSTATE
-- A trigger of one's own with it says nothing: enable() makes those that are needed. By its name it is refused; under the name of
-- snapsync's, on a table that is not synced, it does nothing.
SET SESSION AUTHORIZATION alice;
CREATE TABLE alices (id int PRIMARY KEY);
CREATE TRIGGER own AFTER INSERT ON alices FOR EACH ROW EXECUTE FUNCTION snapsync.track('{"key": ["id"], "image": []}');
\echo :SQLSTATE
INSERT INTO alices VALUES (1);
\echo :SQLSTATE
DROP TRIGGER own ON alices;
CREATE TRIGGER "00_snapsync_track" AFTER INSERT ON alices FOR EACH ROW EXECUTE FUNCTION snapsync.track('{"key": ["id"], "image": []}');
INSERT INTO alices VALUES (1);
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM snapsync.change;
SET SESSION AUTHORIZATION alice;
-- It is replaced by the right one.
SELECT snapsync.enable('alices');
SELECT tgtype, tgenabled, tgargs = '' FROM pg_trigger WHERE tgrelid = 'alices'::regclass ORDER BY tgname;
DELETE FROM alices;
SELECT t.pull_ids('alices');
RESET SESSION AUTHORIZATION;
-- What a superuser could try. Each statement is refused; 39P01 is PostgreSQL's code for a trigger function that is called
-- wrongly, 55000 says that the trigger does not say what to track.
CREATE TABLE mine (id int PRIMARY KEY);
CREATE FUNCTION try(kind text, argument text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    EXECUTE format('CREATE TRIGGER own %s EXECUTE FUNCTION snapsync.track(%L)', kind, argument);
    FOREACH statement IN ARRAY '{INSERT INTO mine VALUES (1),UPDATE mine SET id = 2,DELETE FROM mine,TRUNCATE mine}'::text[] LOOP
        BEGIN
            EXECUTE statement;
        EXCEPTION WHEN OTHERS THEN
            RETURN NEXT format('%s: %s', statement, SQLSTATE);
        END;
    END LOOP;
    DROP TRIGGER own ON mine;
END
$$;
SELECT try('AFTER INSERT ON mine FOR EACH ROW', '');
SELECT try('AFTER INSERT ON mine FOR EACH ROW', 'not json');
SELECT try('BEFORE INSERT ON mine FOR EACH ROW', '{"key": ["id"], "image": []}');
SELECT try('AFTER INSERT ON mine FOR EACH STATEMENT', '{"key": ["id"], "image": []}');
SELECT try('BEFORE TRUNCATE ON mine FOR EACH STATEMENT', '{"key": ["id"], "image": []}');
SELECT pg_backend_pid() = :pid AS "alive";
-- Nothing of a table that is not enabled gets into the log.
SELECT count(*) FROM snapsync.change WHERE relation = 'mine'::regclass;
