-- A table as any app has one, with row-level security; the last two lines are all that syncing it takes.
\set ON_ERROR_STOP on

CREATE TABLE todos (
  id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  owner_id uuid NOT NULL DEFAULT auth.uid(),
  title    text NOT NULL,
  done     boolean NOT NULL DEFAULT false
);
CREATE INDEX ON todos (owner_id);

ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON todos TO authenticated USING (owner_id = (SELECT auth.uid()));
GRANT SELECT, INSERT, UPDATE, DELETE ON todos TO authenticated;

CREATE EXTENSION snapsync;
SELECT snapsync.enable('todos', exclude => '{owner_id}');
