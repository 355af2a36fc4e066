-- Keys that carry the tenant, which a default fills and no client sends: the id says which row is meant.
\set ECHO none
\set test regress_push_tenants
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
CREATE FUNCTION t.push(changes json, on_rejected text DEFAULT 'abort') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN push_changes(changes, client_id => 'c', on_rejected => on_rejected);
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
\set ECHO all
-- A new post with its cover image; the images' policy reads the posts.
CREATE TABLE posts (id text PRIMARY KEY, tenant name NOT NULL DEFAULT current_user, title text, cover text, UNIQUE (tenant, id));
CREATE TABLE images (id text PRIMARY KEY, tenant name NOT NULL DEFAULT current_user, post text NOT NULL, UNIQUE (tenant, id),
                     FOREIGN KEY (tenant, post) REFERENCES posts (tenant, id) ON DELETE CASCADE);
ALTER TABLE posts ADD FOREIGN KEY (tenant, cover) REFERENCES images (tenant, id) ON DELETE SET NULL (cover);
-- Blocks that stand one after the other: a trigger numbers each by the one before.
CREATE TABLE blocks (id text PRIMARY KEY, tenant name NOT NULL DEFAULT current_user, after text, depth int, UNIQUE (tenant, id),
                     FOREIGN KEY (tenant, after) REFERENCES blocks (tenant, id));
CREATE FUNCTION deepen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.depth := coalesce((SELECT depth + 1 FROM blocks WHERE id = NEW.after), 0); RETURN NEW; END $$;
CREATE TRIGGER deepen BEFORE INSERT OR UPDATE OF after ON blocks FOR EACH ROW EXECUTE FUNCTION deepen();
-- Labels with a name of their own in each tenant.
CREATE TABLE labels (id text PRIMARY KEY, tenant name NOT NULL DEFAULT current_user, name text NOT NULL, UNIQUE (tenant, name));
ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
ALTER TABLE images ENABLE ROW LEVEL SECURITY;
ALTER TABLE blocks ENABLE ROW LEVEL SECURITY;
ALTER TABLE labels ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON posts USING (tenant = current_user);
CREATE POLICY own ON images USING (EXISTS (SELECT FROM posts WHERE posts.id = post));
CREATE POLICY own ON blocks USING (tenant = current_user);
CREATE POLICY own ON labels USING (tenant = current_user);
GRANT ALL ON posts, images, blocks, labels TO alice;
SELECT count(snapsync.enable(c::regclass, exclude => '{tenant}')) FROM unnest('{posts,images,blocks,labels}'::text[]) AS c;
SELECT snapsync.enable('blocks', readonly => '{depth}');

SET ROLE alice;
SELECT t.push('{"posts": {"created": [{"id": "p", "title": "P", "cover": "i"}]}, "images": {"created": [{"id": "i", "post": "p"}]}}');
SELECT t.push('{"posts": {"created": [{"id": "q", "title": "Q", "cover": "j"}, {"id": "r", "cover": "none"}]}, "images": {"created": [{"id": "j", "post": "q"}]}}', 'report')::json -> 'experimentalRejectedIds';
SELECT p.id, p.tenant, cover, i.tenant FROM posts AS p LEFT JOIN images AS i ON i.id = cover ORDER BY 1;

-- Each comes after the one that it hangs on, whatever order they were sent in, also beside one that hangs on nothing.
SELECT t.push('{"blocks": {"created": [{"id": "c", "after": "b"}, {"id": "b", "after": "a"}, {"id": "d", "after": "c"}, {"id": "a", "after": null}]}}');
SELECT string_agg(id || ' ' || depth, ', ' ORDER BY id) FROM blocks;
SELECT t.push(json_build_object('blocks', json_build_object('created',
           (SELECT json_agg(json_build_object('id', 'n' || n, 'after', 'n' || n - 1) ORDER BY n * 37 % 101) FROM generate_series(1, 100) AS n),
           'updated', '[{"id": "n0", "after": "d"}, {"id": "orphan", "after": "none"}]'::json)), 'report')::json -> 'experimentalRejectedIds';
SELECT count(*), max(depth) FROM blocks;
-- Moved with what they hang on.
SELECT t.push('{"blocks": {"updated": [{"id": "b", "after": "e"}], "created": [{"id": "e", "after": "n100"}]}}');
SELECT depth FROM blocks WHERE id = 'b';

-- A name that is given up is another one's, new or old.
SELECT t.push('{"labels": {"created": [{"id": "1", "name": "one"}, {"id": "2", "name": "two"}]}}');
SELECT t.push('{"labels": {"created": [{"id": "0", "name": "one"}], "updated": [{"id": "1", "name": "two"}, {"id": "2", "name": "three"}]}}');
SELECT t.push('{"labels": {"created": [{"id": "3", "name": "three"}, {"id": "4", "name": null}], "updated": [{"id": "1", "name": "four"}, {"id": "2", "name": "two"}]}}', 'report')::json -> 'experimentalRejectedIds';
SELECT string_agg(id || ' ' || name, ', ' ORDER BY id) FROM labels;
RESET ROLE;

-- What refers by a code hangs on the row that takes the code over, and does not go with the one that gives it up.
CREATE TABLE products (id text PRIMARY KEY, tenant name NOT NULL DEFAULT current_user, code text NOT NULL, UNIQUE (tenant, code));
CREATE TABLE lines (id text PRIMARY KEY, tenant name NOT NULL DEFAULT current_user, code text, FOREIGN KEY (tenant, code) REFERENCES products (tenant, code) ON UPDATE CASCADE ON DELETE CASCADE);
GRANT ALL ON products, lines TO alice;
SELECT count(snapsync.enable(c::regclass, exclude => '{tenant}')) FROM unnest('{products,lines}'::text[]) AS c;
SET ROLE alice;
SELECT t.push('{"products": {"created": [{"id": "1", "code": "a"}, {"id": "2", "code": "b"}, {"id": "3", "code": "c"}]}, "lines": {"created": [{"id": "l", "code": "a"}, {"id": "m", "code": "b"}, {"id": "n", "code": "c"}]}}');
SELECT t.push('{"products": {"created": [{"id": "9", "code": "b"}], "deleted": ["2"]}, "lines": {"updated": [{"id": "l", "code": "b"}]}}');
SELECT t.push('{"products": {"updated": [{"id": "9", "code": "d"}, {"id": "3", "code": "b"}]}, "lines": {"updated": [{"id": "n", "code": "d"}]}}');
SELECT string_agg(concat_ws(' ', id, code), ', ' ORDER BY id) FROM products;
SELECT string_agg(concat_ws(' ', id, code), ', ' ORDER BY id) FROM lines;
