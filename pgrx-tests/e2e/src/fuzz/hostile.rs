//! What a hostile world has besides: columns whose values and literals look otherwise under other settings, operators, domains and
//! functions of the tables' owner, and somebody's decoys of the same names. A decoy says so when it runs; nothing may ever run one.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// What a decoy's notice begins with.
pub const DECOY: &str = "decoy:";

/// Made in the template. `lib` is the tables' owner's, `sneak` one puller's.
pub const TEMPLATE: &str = r"
CREATE SCHEMA lib AUTHORIZATION tabler;
CREATE SCHEMA sneak AUTHORIZATION app;
GRANT USAGE ON SCHEMA lib, sneak TO PUBLIC;

SET ROLE tabler;
CREATE DOMAIN lib.who AS int;
CREATE FUNCTION lib.is_me(who lib.who) RETURNS boolean STABLE LANGUAGE sql AS
  $$ SELECT who::int OPERATOR(pg_catalog.=) public.me() $$;
CREATE FUNCTION lib.same(a int, b int) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT a OPERATOR(pg_catalog.=) b $$;
CREATE OPERATOR lib.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = lib.same);

SET ROLE app;
CREATE FUNCTION sneak.spy(what text) RETURNS boolean LANGUAGE plpgsql AS
  $$ BEGIN RAISE NOTICE 'decoy: % ran as %', what, current_user; RETURN true; END $$;
CREATE FUNCTION sneak.me() RETURNS int LANGUAGE sql AS $$ SELECT CASE WHEN sneak.spy('me') THEN 1 END $$;
CREATE FUNCTION sneak.my_orgs() RETURNS SETOF int LANGUAGE sql AS
  $$ SELECT o FROM pg_catalog.generate_series(1, 4) AS o WHERE sneak.spy('my_orgs') $$;
CREATE FUNCTION sneak.is_me(who int) RETURNS boolean LANGUAGE sql AS $$ SELECT sneak.spy('is_me of ' || who) $$;
CREATE FUNCTION sneak.op(a int, b int) RETURNS boolean LANGUAGE sql AS $$ SELECT sneak.spy('int of ' || a || ', ' || b) $$;
CREATE FUNCTION sneak.op(a text, b text) RETURNS boolean LANGUAGE sql AS $$ SELECT sneak.spy('text of ' || a || ', ' || b) $$;
CREATE FUNCTION sneak.op(a pg_catalog.date, b pg_catalog.date) RETURNS boolean LANGUAGE sql AS $$ SELECT sneak.spy('date') $$;
CREATE FUNCTION sneak.op(a pg_catalog.timestamptz, b pg_catalog.timestamptz) RETURNS boolean LANGUAGE sql AS
  $$ SELECT sneak.spy('timestamptz') $$;
CREATE FUNCTION sneak.op(a pg_catalog.float8, b pg_catalog.float8) RETURNS boolean LANGUAGE sql AS $$ SELECT sneak.spy('float8') $$;
CREATE FUNCTION sneak.op(a interval, b interval) RETURNS boolean LANGUAGE sql AS $$ SELECT sneak.spy('interval') $$;
CREATE FUNCTION sneak.op(a pg_catalog.bytea, b pg_catalog.bytea) RETURNS boolean LANGUAGE sql AS $$ SELECT sneak.spy('bytea') $$;
CREATE OPERATOR sneak.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = sneak.op);
CREATE OPERATOR sneak.= (LEFTARG = int, RIGHTARG = int, FUNCTION = sneak.op);
CREATE OPERATOR sneak.> (LEFTARG = int, RIGHTARG = int, FUNCTION = sneak.op);
CREATE OPERATOR sneak.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = sneak.op);
CREATE OPERATOR sneak.<= (LEFTARG = pg_catalog.date, RIGHTARG = pg_catalog.date, FUNCTION = sneak.op);
CREATE OPERATOR sneak.< (LEFTARG = pg_catalog.timestamptz, RIGHTARG = pg_catalog.timestamptz, FUNCTION = sneak.op);
CREATE OPERATOR sneak.< (LEFTARG = pg_catalog.float8, RIGHTARG = pg_catalog.float8, FUNCTION = sneak.op);
CREATE OPERATOR sneak.<= (LEFTARG = interval, RIGHTARG = interval, FUNCTION = sneak.op);
CREATE OPERATOR sneak.<> (LEFTARG = pg_catalog.bytea, RIGHTARG = pg_catalog.bytea, FUNCTION = sneak.op);
CREATE DOMAIN sneak.who AS int CHECK (sneak.spy('domain who'));
CREATE DOMAIN sneak.date AS pg_catalog.date CHECK (sneak.spy('domain date'));
CREATE DOMAIN sneak.float8 AS pg_catalog.float8 CHECK (sneak.spy('domain float8'));
CREATE DOMAIN sneak.bytea AS pg_catalog.bytea CHECK (sneak.spy('domain bytea'));
CREATE VIEW sneak.members AS SELECT o AS org, u AS usr, 2 AS level, '2025-01-01'::pg_catalog.date AS since
  FROM pg_catalog.generate_series(1, 4) AS o, pg_catalog.generate_series(1, 4) AS u WHERE sneak.spy('members');
CREATE VIEW sneak.memberships AS SELECT org, usr FROM sneak.members;
GRANT SELECT ON sneak.members, sneak.memberships TO PUBLIC;
RESET ROLE;
";

/// The columns that a hostile world's tables have after the others.
pub const COLUMNS: &str = ", day date, at timestamptz, lvl float8, span interval, raw bytea, tags text[], who lib.who";

/// Those of them that JSON writes as the session's settings say: a client's copies of them are not compared.
pub const LOOKS: [&str; 4] = ["at", "lvl", "span", "raw"];

/// A condition on one of the columns. The literals' text is another under other settings, and some mean something else to other readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Typed {
    Day(usize),
    At(usize),
    Lvl(usize),
    Span(usize),
    Raw(usize),
    Tags(usize),
    Text(usize),
    /// the owner's operator
    Operator,
    /// the owner's function over a domain
    Domain,
}

const DAYS: [&str; 5] = ["2025-02-01", "2025-03-04", "01/02/2025", "03/04/2025", "2025-01-15"];
const TIMES: [&str; 5] =
    ["2025-03-04 10:00", "2025-03-04 10:00+00", "2026-01-01 00:00+00", "2025-10-26 02:30", "2025-03-04 12:00+05:30"];
const LEVELS: [&str; 5] = ["1.51", "0.3", "1.0000000000000002", "1e22", "1.5000000000000002"];
const SPANS: [&str; 4] = ["1 year 2 mons -3 days", "-1 days +02:03:00", "P1Y2M3D", "-1-2 3 4:05:06"];
const BYTES: [&str; 4] = [r"E'\\x4142'", r"E'\\x5c27'", r"E'\\x'", r"E'\\x00ff5c'"];
const TAGS: [&str; 4] = [
    "body <> ALL ('{b1,NULL}'::text[])",
    "tags && '{x,NULL}'::text[]",
    "tags && '{x,\"NULL\"}'::text[]",
    "tags = '{NULL}'::text[]",
];
const TEXTS: [&str; 3] = [r"E'b\\1'", r"E'b\\\\1'", r"E'it''s \\'''"];

impl Typed {
    pub fn random(rng: &mut StdRng) -> Self {
        match rng.random_range(0..9) {
            0 => Self::Day(rng.random_range(0..DAYS.len())),
            1 => Self::At(rng.random_range(0..TIMES.len())),
            2 => Self::Lvl(rng.random_range(0..LEVELS.len())),
            3 => Self::Span(rng.random_range(0..SPANS.len())),
            4 => Self::Raw(rng.random_range(0..BYTES.len())),
            5 => Self::Tags(rng.random_range(0..TAGS.len())),
            6 => Self::Text(rng.random_range(0..TEXTS.len())),
            7 => Self::Operator,
            _ => Self::Domain,
        }
    }

    pub fn sql(self) -> String {
        match self {
            Self::Day(i) => format!("day <= '{}'::date", DAYS[i]),
            Self::At(i) => format!("at < '{}'::timestamptz", TIMES[i]),
            Self::Lvl(i) => format!("lvl < '{}'::float8", LEVELS[i]),
            Self::Span(i) => format!("span <= '{}'::interval", SPANS[i]),
            Self::Raw(i) => format!("raw <> {}::bytea", BYTES[i]),
            Self::Tags(i) => TAGS[i].to_owned(),
            Self::Text(i) => format!("body <> {}", TEXTS[i]),
            Self::Operator => "owner OPERATOR(lib.===) me()".to_owned(),
            Self::Domain => "lib.is_me(who)".to_owned(),
        }
    }
}

/// The columns that a statement gives values, and values near the policies' literals.
pub fn value(rng: &mut StdRng) -> (&'static str, String) {
    let quoted = |text: &str| format!("'{text}'");
    if rng.random_bool(0.1) {
        return (["day", "at", "lvl", "span", "raw", "tags", "who"][rng.random_range(0..7)], "NULL".to_owned());
    }
    let mut pick = |some: &[&'static str]| *some.choose(rng).expect("not empty");
    let column = pick(&["day", "at", "lvl", "span", "raw", "tags", "who"]);
    let value = match column {
        "day" => quoted(pick(&[
            "2025-01-15",
            "2025-02-01",
            "2025-02-02",
            "2025-03-04",
            "2025-04-03",
            "01/02/2025",
            "infinity",
        ])),
        "at" => quoted(pick(&[
            "2025-03-04 10:00",
            "2025-03-04 02:00+00",
            "2026-01-01 10:00+00",
            "2025-10-26 02:30",
            "-infinity",
        ])),
        "lvl" => quoted(pick(&[
            "1",
            "1.8",
            "1.51",
            "1.5100000000000002",
            "0.30000000000000004",
            "1.0000000000000002",
            "NaN",
            "-0",
        ])),
        "span" => quoted(pick(&["1 year 2 mons -3 days", "-1 days +02:03:00", "P1Y2M3D", "-1-2 3 4:05:06", "1 mon"])),
        "raw" => pick(&[r"E'\\x4142'", r"E'\\x5c27'", r"E'\\x'", r"E'\\x00ff5c'", r"E'\\xc3a9'"]).to_owned(),
        "tags" => {
            pick(&["'{x}'", "'{NULL}'", "'{\"NULL\"}'", "'{x,NULL,y}'", r#"E'{"a\\\\b","c,d"}'"#, "'{}'"]).to_owned()
        }
        _ => pick(&["1", "2", "3", "4"]).to_owned(),
    };
    (column, value)
}

/// Bodies that a literal's quotes and backslashes matter to.
pub fn body(rng: &mut StdRng) -> String {
    [r"E'b\\1'", r"E'b\\\\1'", r"E'it''s \\'''", "'b1'"][rng.random_range(0..4)].to_owned()
}

/// DDL that touches nothing of what is synced, in a session whose path begins with decoys: all names are qualified.
pub fn unrelated(rng: &mut StdRng, table: &str) -> String {
    match rng.random_range(0..6) {
        0 => "CREATE OR REPLACE FUNCTION public.unrelated() RETURNS int LANGUAGE sql AS 'SELECT 1'".to_owned(),
        1 => "CREATE TABLE IF NOT EXISTS lib.unrelated (id int)".to_owned(),
        2 => "DROP TABLE IF EXISTS lib.unrelated".to_owned(),
        3 => format!("COMMENT ON TABLE public.{table} IS 'unrelated'"),
        4 => format!("CREATE INDEX IF NOT EXISTS unrelated_{table} ON public.{table} (n)"),
        _ => "CREATE DOMAIN lib.unrelated_type AS int; DROP DOMAIN lib.unrelated_type".to_owned(),
    }
}
