-- A small multi-tenant app: projects and their tasks. Everybody sees and writes their own rows, by row-level security.

CREATE TABLE projects (
  id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  owner_id   uuid NOT NULL DEFAULT auth.uid(),
  name       text NOT NULL,
  created_at timestamptz(3) NOT NULL DEFAULT now()
);

CREATE TABLE tasks (
  id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  owner_id   uuid NOT NULL DEFAULT auth.uid(),
  project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
  title      text NOT NULL,
  done       boolean NOT NULL DEFAULT false,
  due_at     timestamptz(3),
  labels     jsonb NOT NULL DEFAULT '[]',
  views      bigint NOT NULL DEFAULT 0
);

CREATE INDEX ON projects (owner_id);
CREATE INDEX ON tasks (owner_id);
CREATE INDEX ON tasks (project_id);

ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON projects TO authenticated USING (owner_id = (SELECT auth.uid()));
CREATE POLICY own ON tasks TO authenticated USING (owner_id = (SELECT auth.uid()));

GRANT SELECT, INSERT, UPDATE, DELETE ON projects, tasks TO authenticated;

-- Sync. The server alone decides who owns a row, so owner_id stays away from the clients.
CREATE EXTENSION snapsync;
SELECT snapsync.enable('projects', exclude => '{owner_id}');
SELECT snapsync.enable('tasks', exclude => '{owner_id}');
