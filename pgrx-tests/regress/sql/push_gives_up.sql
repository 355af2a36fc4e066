-- One push that writes rows and gives up what shows them: it leaves the list, hands it over, archives it. What was edited is edited, what
-- was created and is out of sight is named as deleted, whatever the order of the collections.
\set ECHO none
\set test regress_push_gives_up
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
CREATE FUNCTION t.refill() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE todos, members, lists;
    INSERT INTO lists VALUES (1, 'alice', false), (2, 'alice', false);
    INSERT INTO members VALUES (1, 1, 'alice', true), (2, 2, 'alice', true), (3, 1, 'bob', true);
    INSERT INTO todos VALUES (1, 1, 'old'), (2, 2, 'other');
END
$$;
-- What alice's device is answered, what her next pull says, and what stands; each call is a transaction.
CREATE PROCEDURE t.push(changes text) LANGUAGE plpgsql AS $$
DECLARE
    since text;
    pulled jsonb;
    answer text;
    about text;
BEGIN
    COMMIT;
    SET ROLE alice;
    since := public.pull_changes('{todos,members}', client_id => 'c') ->> 'timestamp';
    COMMIT;
    BEGIN
        answer := public.push_changes(changes::json, since, client_id => 'c');
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS about = PG_EXCEPTION_DETAIL;
        answer := concat(SQLSTATE, ' ', SQLERRM, ' (', about, ')');
    END;
    COMMIT;
    pulled := public.pull_changes('{todos,members}', since, client_id => 'c') -> 'changes' -> 'todos';
    RESET ROLE;
    COMMIT;
    RAISE INFO 'answer %, created %, deleted %, stands: %', answer, pulled ->> 'created', pulled ->> 'deleted',
        (SELECT string_agg(format('%s %s', id, v), ', ' ORDER BY id) FROM todos);
END
$$;
-- In both orders.
CREATE PROCEDURE t.both(todos text, members text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.refill();
    CALL t.push(format('{"todos": {%s}, "members": {%s}}', todos, members));
    PERFORM t.refill();
    CALL t.push(format('{"members": {%s}, "todos": {%s}}', members, todos));
END
$$;
\set ECHO all

CREATE TABLE lists (id int PRIMARY KEY, owner name DEFAULT current_user, archived boolean NOT NULL DEFAULT false);
CREATE TABLE members (id int PRIMARY KEY, list int, who name DEFAULT current_user, active boolean NOT NULL DEFAULT true);
CREATE TABLE todos (id int PRIMARY KEY, list int, v text);
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON members USING (who = current_user);
CREATE POLICY member ON todos USING (list IN (SELECT m.list FROM members AS m WHERE m.who = current_user AND m.active));
GRANT ALL ON lists, members, todos TO alice;
SET client_min_messages = warning;
SELECT snapsync.enable('todos'), snapsync.enable('members'), snapsync.enable('lists');

-- An edit, a deletion, a new row; and the membership is deleted, or switched off.
CALL t.both('"updated": [{"id": 1, "v": "edited"}]', '"deleted": ["1"]');
CALL t.both('"updated": [{"id": 1, "v": "edited"}]', '"updated": [{"id": 1, "active": false}]');
CALL t.both('"deleted": ["1"]', '"deleted": ["1"]');
CALL t.both('"deleted": ["1"]', '"updated": [{"id": 1, "active": false}]');
CALL t.both('"created": [{"id": 10, "list": 1, "v": "mine"}]', '"deleted": ["1"]');
CALL t.both('"created": [{"id": 10, "list": 1, "v": "mine"}]', '"updated": [{"id": 1, "active": false}]');
-- A new membership and a new row of its list; one that is switched on; one that is deleted and made anew under another id.
CALL t.both('"created": [{"id": 10, "list": 3, "v": "mine"}]', '"created": [{"id": 9, "list": 3}]');
UPDATE members SET active = false WHERE id = 1;
CALL t.push('{"todos": {"created": [{"id": 11, "list": 1, "v": "mine"}]}, "members": {"updated": [{"id": 1, "active": true}]}}');
ALTER TABLE members ADD UNIQUE (list, who);
CALL t.both('"updated": [{"id": 1, "v": "edited"}]', '"created": [{"id": 9, "list": 1}], "deleted": ["1"]');
-- A trigger that gives up the access with the first write.
CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN DELETE FROM members WHERE members.list = NEW.list; RETURN NULL; END $$;
CREATE TRIGGER leave AFTER INSERT ON todos FOR EACH ROW EXECUTE FUNCTION leave();
SELECT t.refill();
CALL t.push('{"todos": {"created": [{"id": 10, "list": 1, "v": "mine"}], "updated": [{"id": 1, "v": "edited"}]}}');
-- Many of them need the update first: a list that is opened again.
DROP TRIGGER leave ON todos;
SELECT t.refill();
UPDATE members SET active = false WHERE id = 1;
SELECT format('{"todos": {"created": %s}, "members": {"updated": [{"id": 1, "active": true}]}}',
              json_agg(json_build_object('id', n, 'list', 1, 'v', 'n'))) AS many FROM generate_series(100, 139) AS n \gset
CALL t.push(:'many');
-- Many memberships that are given up and made anew beside a row.
TRUNCATE todos, members;
INSERT INTO members SELECT n, n, 'alice' FROM generate_series(1, 40) AS n;
SELECT format('{"todos": {"created": [{"id": 10, "list": 1, "v": "mine"}]}, "members": {"created": %s, "deleted": %s}}',
              json_agg(json_build_object('id', n + 100, 'list', n)), json_agg(n::text)) AS many FROM generate_series(1, 40) AS n \gset
CALL t.push(:'many');
