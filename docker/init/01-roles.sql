-- The roles of PostgREST: it logs in as authenticator, and becomes anon or whatever role the request's JWT names.
\set ON_ERROR_STOP on
\getenv authenticator_password AUTHENTICATOR_PASSWORD

CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE authenticator LOGIN NOINHERIT PASSWORD :'authenticator_password';
GRANT anon, authenticated TO authenticator;

CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO anon, authenticated;

-- The user of this request, from the JWT that PostgREST has checked.
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
  SELECT (nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub')::uuid
$$;
