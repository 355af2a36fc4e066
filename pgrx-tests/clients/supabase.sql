-- What a Supabase project brings along, in miniature: the three roles of its API and the schema auth.
-- Roles belong to the whole cluster, so running this for a second database must do nothing to them.

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'anon') THEN
    CREATE ROLE anon NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticated') THEN
    CREATE ROLE authenticated NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticator') THEN
    -- A throwaway cluster on loopback: the password is no secret.
    CREATE ROLE authenticator LOGIN NOINHERIT PASSWORD 'authenticator';
    GRANT anon, authenticated TO authenticator;
  END IF;
END
$$;

CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO anon, authenticated;

-- The user of this request, from the JWT that PostgREST checked.
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
  SELECT (nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub')::uuid
$$;
