-- The usual order of a client: pull, push, and with the next pull ask for something else. What it pushed since the cursor into a scope that it
-- asks for no more is named, as all that it had there is; so is a row that it asks for by its key for the first time and that is gone.
\set ECHO none
\set test regress_push_then_filter
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
CREATE PROCEDURE t.go(before jsonb, change text, after jsonb, by_others text DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
    since text;
BEGIN
    TRUNCATE rows;
    INSERT INTO rows VALUES (1, 'A', 'a'), (2, 'B', 'b'), (3, 'B', 'c');
    COMMIT;
    SET ROLE alice;
    since := public.pull_changes('{rows}', filter => before, client_id => 'c') ->> 'timestamp';
    COMMIT;
    PERFORM public.push_changes(change::json, since, client_id => 'c');
    COMMIT;
    RESET ROLE;
    IF by_others IS NOT NULL THEN
        EXECUTE by_others;
        COMMIT;
    END IF;
    SET ROLE alice;
    RAISE INFO '%', public.pull_changes('{rows}', since, filter => after, last_filter => coalesce(before, '{}'), client_id => 'c') #> '{changes,rows}';
    RESET ROLE;
END
$$;
\set ECHO all

CREATE TABLE rows (id int PRIMARY KEY, scope text, v text);
ALTER TABLE rows ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON rows USING (scope <> 'X' OR current_user <> 'alice');
CREATE POLICY w ON rows FOR INSERT WITH CHECK (true);
GRANT ALL ON rows TO alice;
SELECT snapsync.enable('rows', scope_column => 'scope');
\set new '{"rows": {"created": [{"id": 10, "scope": "B", "v": "mine"}]}}'
-- Two scopes, then one; all, then one; one, then the other.
CALL t.go('{"rows": {"scope": ["A", "B"]}}', :'new', '{"rows": {"scope": ["A"]}}');
CALL t.go(NULL, :'new', '{"rows": {"scope": ["A"]}}');
CALL t.go('{"rows": {"scope": ["B"]}}', :'new', '{"rows": {"scope": ["A"]}}');
-- One, then both: it comes as it stands. Of what it never asked for it is not told.
CALL t.go('{"rows": {"scope": ["A"]}}', :'new', '{"rows": {"scope": ["A", "B"]}}');
-- Others have changed, moved or deleted it meanwhile, or taken it out of sight: what is nobody's to see is named only if it was his.
CALL t.go('{"rows": {"scope": ["A", "B"]}}', :'new', '{"rows": {"scope": ["A"]}}', 'UPDATE rows SET v = ''theirs'' WHERE id = 10');
CALL t.go('{"rows": {"scope": ["A", "B"]}}', :'new', '{"rows": {"scope": ["A"]}}', 'UPDATE rows SET scope = ''C'' WHERE id = 10');
CALL t.go('{"rows": {"scope": ["A", "B"]}}', :'new', '{"rows": {"scope": ["A"]}}', 'DELETE FROM rows WHERE id = 10');
CALL t.go('{"rows": {"scope": ["A", "B"]}}', :'new', '{"rows": {"scope": ["A"]}}', 'UPDATE rows SET scope = ''X'' WHERE id = 10');
-- A row that it moved into that scope, or out of it.
CALL t.go('{"rows": {"scope": ["A", "B"]}}', '{"rows": {"updated": [{"id": 1, "scope": "B"}]}}', '{"rows": {"scope": ["A"]}}');
CALL t.go('{"rows": {"scope": ["A", "B"]}}', '{"rows": {"updated": [{"id": 2, "scope": "A"}]}}', '{"rows": {"scope": ["A"]}}');
-- By keys: a new row that the next pull asks for, and that somebody has deleted.
CALL t.go('{"rows": {"id": [1]}}', :'new', '{"rows": {"id": [1, 10]}}');
CALL t.go('{"rows": {"id": [1]}}', :'new', '{"rows": {"id": [1, 10]}}', 'DELETE FROM rows WHERE id = 10');

-- With skip_echoes, too: what it pushed outside of what it asked for it need not have kept.
INSERT INTO rows VALUES (20, 'B', 'b');
SET ROLE alice;
SELECT pull_changes('{rows}', filter => '{"rows": {"scope": ["A"]}}', client_id => 'c') ->> 'timestamp' AS since \gset
SELECT push_changes('{"rows": {"created": [{"id": 21, "scope": "B", "v": "mine"}]}}', :'since', client_id => 'c');
SELECT pull_changes('{rows}', :'since', filter => '{"rows": {"scope": ["B"]}}', last_filter => '{"rows": {"scope": ["A"]}}', client_id => 'c', skip_echoes => true) #> '{changes,rows}';
RESET ROLE;

-- From what the owner's expression gives to scopes of its own, beside a membership that has come: what the client pulled or pushed of that goes, too.
CREATE TABLE members (who text, scope text, PRIMARY KEY (who, scope));
GRANT SELECT ON members TO alice;
CREATE TABLE owned (id int PRIMARY KEY, scope text NOT NULL);
GRANT ALL ON owned TO alice;
SELECT snapsync.enable('owned', scope_column => 'scope', scope_values => 'ARRAY(SELECT m.scope FROM members AS m WHERE m.who = current_user)');
INSERT INTO members VALUES ('alice', 'a');
INSERT INTO owned VALUES (1, 'a'), (2, 'b'), (4, 'c');
SET ROLE alice;
SELECT pull_changes('{owned}') ->> 'timestamp' AS since \gset
RESET ROLE;
INSERT INTO members VALUES ('alice', 'b');
SET ROLE alice;
SELECT push_changes('{"owned": {"created": [{"id": 3, "scope": "b"}]}}', :'since', client_id => 'c');
SELECT a.changes, a.reason FROM pull_changes('{owned}', :'since', filter => '{"owned": {"scope": ["c"]}}', last_filter => '{}', client_id => 'c') AS p,
    json_to_record(p) AS a(changes json, reason json);
-- Where nothing moved, ids tell it.
SELECT pull_changes('{owned}') ->> 'timestamp' AS since \gset
SELECT push_changes('{"owned": {"created": [{"id": 5, "scope": "b"}]}}', :'since', client_id => 'c');
SELECT a.changes, a.reason FROM pull_changes('{owned}', :'since', filter => '{"owned": {"scope": ["c"]}}', last_filter => '{}', client_id => 'c') AS p,
    json_to_record(p) AS a(changes json, reason json);
RESET ROLE;
