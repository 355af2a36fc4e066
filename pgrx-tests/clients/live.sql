-- The app of `make demo-live`: lists of todos, which their owners share with other users.

CREATE TABLE lists (
  id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  owner_id uuid NOT NULL DEFAULT auth.uid(),
  name     text NOT NULL
);

-- Who sees a list. The owner of a list is one of them.
CREATE TABLE members (
  list_id  uuid NOT NULL REFERENCES lists ON DELETE CASCADE,
  user_id  uuid NOT NULL,
  owner_id uuid NOT NULL DEFAULT auth.uid(),
  PRIMARY KEY (list_id, user_id)
);

CREATE TABLE todos (
  id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  list_id    uuid NOT NULL REFERENCES lists ON DELETE CASCADE,
  title      text NOT NULL,
  done       boolean NOT NULL DEFAULT false,
  created_at timestamptz(3) NOT NULL DEFAULT now()
);

CREATE INDEX ON members (user_id);
CREATE INDEX ON members (owner_id);
CREATE INDEX ON todos (list_id);

ALTER TABLE lists ENABLE ROW LEVEL SECURITY;
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;

CREATE POLICY of_members ON lists TO authenticated
  USING (id IN (SELECT list_id FROM members WHERE user_id = (SELECT auth.uid())));
CREATE POLICY of_members ON todos TO authenticated
  USING (list_id IN (SELECT list_id FROM members WHERE user_id = (SELECT auth.uid())));

-- The policies of lists read members: those of members that read lists would go round in a circle.
CREATE FUNCTION owns(list uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
  SELECT EXISTS (SELECT FROM public.lists WHERE id = list AND owner_id = auth.uid())
$$;

-- A member sees his own membership, an owner all those of his lists. Only the owner gives and takes them.
CREATE POLICY reads ON members FOR SELECT TO authenticated
  USING (user_id = (SELECT auth.uid()) OR owner_id = (SELECT auth.uid()));
CREATE POLICY shares ON members FOR INSERT TO authenticated WITH CHECK (owner_id = (SELECT auth.uid()) AND owns(list_id));
CREATE POLICY takes_back ON members FOR DELETE TO authenticated USING (owner_id = (SELECT auth.uid()));

GRANT SELECT ON lists TO authenticated;
GRANT SELECT, INSERT, DELETE ON members TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON todos TO authenticated;

-- Sync, and pokes on the channel snapsync.
CREATE EXTENSION snapsync;
SELECT snapsync.enable('lists', notify => 'notify');
SELECT snapsync.enable('members', exclude => '{owner_id}', notify => 'notify');
SELECT snapsync.enable('todos', notify => 'notify');

-- The gateway's login: it may become whoever signs in, as PostgREST's does, and knows what pokes call a scope.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gateway') THEN
    -- A throwaway cluster on loopback: the password is no secret.
    CREATE ROLE gateway LOGIN NOINHERIT PASSWORD 'gateway';
    GRANT anon, authenticated TO gateway;
  END IF;
END
$$;
GRANT EXECUTE ON FUNCTION snapsync.poke_scope(text, text) TO gateway;
