-- The tables of a to-do app with the Drift/Supabase client: rows of one user on several devices. Each has what the client wants of a table:
-- an id that it makes itself, whose row it is, and when it was made, changed and deleted.

CREATE TABLE project (
  id          uuid PRIMARY KEY,
  user_id     uuid NOT NULL,
  name        text NOT NULL,
  instance_id uuid,
  created_at  timestamptz NOT NULL,
  updated_at  timestamptz NOT NULL,
  deleted_at  timestamptz
);

CREATE TABLE task (
  id          uuid PRIMARY KEY,
  user_id     uuid NOT NULL,
  project_id  uuid NOT NULL,
  name        text NOT NULL,
  note        text,
  instance_id uuid,
  created_at  timestamptz NOT NULL,
  updated_at  timestamptz NOT NULL,
  deleted_at  timestamptz
);

CREATE TABLE doc_updates (
  id          uuid PRIMARY KEY,
  user_id     uuid NOT NULL,
  task_id     uuid NOT NULL,
  data_b64    text NOT NULL,
  created_at  timestamptz NOT NULL,
  updated_at  timestamptz NOT NULL,
  deleted_at  timestamptz
);

CREATE INDEX ON project (user_id);
CREATE INDEX ON task (user_id);
CREATE INDEX ON doc_updates (user_id);

ALTER TABLE project ENABLE ROW LEVEL SECURITY;
ALTER TABLE task ENABLE ROW LEVEL SECURITY;
ALTER TABLE doc_updates ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON project TO authenticated USING (user_id = (SELECT auth.uid()));
CREATE POLICY own ON task TO authenticated USING (user_id = (SELECT auth.uid()));
CREATE POLICY own ON doc_updates TO authenticated USING (user_id = (SELECT auth.uid()));

GRANT SELECT, INSERT, UPDATE, DELETE ON project, task, doc_updates TO authenticated;

-- Who changes rows on the server makes them later than they were: a client takes no others.
CREATE FUNCTION make_later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := greatest(now(), OLD.updated_at + interval '2 milliseconds');
  RETURN NEW;
END
$$;
CREATE TRIGGER make_later BEFORE UPDATE ON project
  FOR EACH ROW WHEN (NEW.updated_at <= OLD.updated_at) EXECUTE FUNCTION make_later();
CREATE TRIGGER make_later BEFORE UPDATE ON task
  FOR EACH ROW WHEN (NEW.updated_at <= OLD.updated_at) EXECUTE FUNCTION make_later();
CREATE TRIGGER make_later BEFORE UPDATE ON doc_updates
  FOR EACH ROW WHEN (NEW.updated_at <= OLD.updated_at) EXECUTE FUNCTION make_later();

CREATE EXTENSION snapsync;
SELECT snapsync.enable(t, conflict => 'last_write_wins', version_column => 'updated_at', soft_delete_column => 'deleted_at')
FROM unnest('{project,task,doc_updates}'::regclass[]) AS t;

-- The client says no dialect. And its clock may be hours ahead.
DO $$
BEGIN
  EXECUTE format('ALTER DATABASE %I SET snapsync.dialect = ''drift''', current_database());
  EXECUTE format('ALTER DATABASE %I SET snapsync.timestamp_slack = ''4h''', current_database());
END
$$;
