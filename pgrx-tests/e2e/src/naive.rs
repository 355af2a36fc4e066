//! The cursors that hand-written sync functions use, in plain SQL, so that the model check can show that it catches them.
//!
//! Each keeps a log of changed keys with a stamp instead of a column per table: which transaction gets which stamp, and
//! when it becomes visible, is the same, and one function serves every table.

use anyhow::Result;
use postgres::Client;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Cursor {
    /// the extension
    Snapsync,
    /// `updated_at >= last_pulled_at`, both `now()`
    UpdatedAt,
    /// a version per row from a sequence; the cursor is the largest version seen
    Nextval,
    /// rows stamped with the writer's `pg_snapshot_xmin`, the cursor is the reader's
    #[value(name = "xmin-stamp")]
    XminStamp,
    /// rows stamped with the writer's own xid, the cursor is the reader's xmin, read before the rows: correct, but resends
    #[value(name = "own-xid")]
    OwnXid,
    /// the same, but the xmin is read after the rows
    #[value(name = "own-xid-after")]
    OwnXidAfter,
}

impl Cursor {
    fn stamp(self) -> &'static str {
        match self {
            Self::Snapsync => unreachable!("the extension stamps by itself"),
            Self::UpdatedAt => "(extract(epoch FROM now()) * 1000000)::bigint",
            Self::Nextval => "nextval('naive_version')",
            Self::XminStamp => "pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
            Self::OwnXid | Self::OwnXidAfter => "pg_current_xact_id()::text::bigint",
        }
    }

    fn next_cursor(self) -> &'static str {
        match self {
            Self::Snapsync => unreachable!("the extension has its own clock"),
            Self::UpdatedAt => "(extract(epoch FROM now()) * 1000000)::bigint",
            Self::Nextval => "(SELECT coalesce(max(stamp), 1) FROM naive_log)",
            Self::XminStamp | Self::OwnXid | Self::OwnXidAfter => {
                "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
            }
        }
    }
}

/// A table for the naive functions: its name and the SQL expressions of its key parts.
pub struct Table<'a> {
    pub name: &'a str,
    pub key: &'a [String],
}

pub fn install(client: &mut Client, cursor: Cursor, tables: &[Table<'_>]) -> Result<()> {
    let after = cursor == Cursor::OwnXidAfter;
    // STABLE: one snapshot for all that the function reads, the best case for the naive ways. Only the variant that reads
    // its xmin after the rows is VOLATILE, as a plpgsql function is when nobody says otherwise.
    let volatility = if after { "VOLATILE" } else { "STABLE" };
    let next = cursor.next_cursor();
    let (first, last) = if after { ("NULL", next) } else { (next, "upto") };
    let comparison = if cursor == Cursor::Nextval { ">" } else { ">=" };
    client.batch_execute(&format!(
        r#"
CREATE SEQUENCE naive_version;
CREATE TABLE naive_log (tbl text, key text, stamp bigint);
CREATE INDEX ON naive_log (tbl, stamp);
GRANT SELECT ON naive_log TO PUBLIC;

CREATE FUNCTION naive_id(VARIADIC parts text[]) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE part text; letter text; encoded text; ids text[] := '{{}}';
BEGIN
  IF cardinality(parts) = 1 THEN RETURN parts[1]; END IF;
  FOREACH part IN ARRAY parts LOOP
    IF part ~ '^[A-Za-z0-9_-]*$' THEN ids := ids || part; CONTINUE; END IF;
    encoded := '';
    FOREACH letter IN ARRAY string_to_array(part, NULL) LOOP
      encoded := encoded || CASE WHEN letter ~ '^[A-Za-z0-9_-]$' THEN letter
        ELSE regexp_replace(upper(encode(convert_to(letter, 'UTF8'), 'hex')), '(..)', '%\1', 'g') END;
    END LOOP;
    ids := ids || encoded;
  END LOOP;
  RETURN array_to_string(ids, '.');
END $$;

CREATE FUNCTION naive_track() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE oldkey text; newkey text;
BEGIN
  IF TG_OP <> 'INSERT' THEN EXECUTE format('SELECT naive_id(%s) FROM (SELECT ($1).*) r', TG_ARGV[1]) INTO oldkey USING OLD; END IF;
  IF TG_OP <> 'DELETE' THEN EXECUTE format('SELECT naive_id(%s) FROM (SELECT ($1).*) r', TG_ARGV[1]) INTO newkey USING NEW; END IF;
  IF oldkey IS DISTINCT FROM newkey AND oldkey IS NOT NULL THEN
    INSERT INTO naive_log VALUES (TG_ARGV[0], oldkey, {stamp});
  END IF;
  IF newkey IS NOT NULL THEN INSERT INTO naive_log VALUES (TG_ARGV[0], newkey, {stamp}); END IF;
  RETURN NULL;
END $$;

CREATE TABLE naive_collection (name text PRIMARY KEY, key text);
GRANT SELECT ON naive_collection TO PUBLIC;

-- As snapsync's own does, so that the same requests fit.
CREATE SCHEMA snapsync;
CREATE DOMAIN snapsync."*/*" AS json;
GRANT USAGE ON SCHEMA snapsync TO PUBLIC;
CREATE FUNCTION pull_changes(collections text[], last_pulled_at text DEFAULT NULL) RETURNS snapsync."*/*" {volatility}
LANGUAGE plpgsql AS $$
DECLARE since bigint := coalesce(last_pulled_at::bigint, 0); upto bigint := {first}; c naive_collection; wanted text;
        live json; gone json; answer text[] := '{{}}';
BEGIN
  FOREACH wanted IN ARRAY collections LOOP
    SELECT * INTO STRICT c FROM naive_collection WHERE name = wanted;
    IF since = 0 THEN
      EXECUTE format('SELECT coalesce(json_agg(row_to_json(whole)), ''[]'') FROM %I whole', c.name) INTO live;
      answer := answer || format('%s:{{"created":%s,"updated":[],"deleted":[]}}', to_json(c.name), live);
    ELSE
      EXECUTE format($f$
        WITH k AS MATERIALIZED (SELECT DISTINCT key FROM naive_log WHERE tbl = $1 AND stamp {comparison} $2)
        SELECT coalesce(json_agg(row) FILTER (WHERE id IS NOT NULL), '[]'),
               coalesce(json_agg(k.key) FILTER (WHERE id IS NULL), '[]')
          FROM k LEFT JOIN LATERAL (SELECT row_to_json(whole) AS row, naive_id(%2$s) AS id
                                      FROM %1$I whole WHERE naive_id(%2$s) = k.key) r ON true
        $f$, c.name, c.key) INTO live, gone USING c.name, since;
      answer := answer || format('%s:{{"created":[],"updated":%s,"deleted":%s}}', to_json(c.name), live, gone);
    END IF;
  END LOOP;
  upto := {last};
  RETURN format('{{"changes":{{%s}},"timestamp":%s}}', array_to_string(answer, ','), upto)::json;
END $$;
"#,
        stamp = cursor.stamp(),
    ))?;
    for table in tables {
        let key = table.key.iter().map(|k| format!("{k}::text")).collect::<Vec<_>>().join(", ");
        let name = table.name;
        client.batch_execute(&format!(
            "INSERT INTO naive_collection VALUES ('{name}', '{key}');
             CREATE INDEX ON {name} (naive_id({key}));
             CREATE TRIGGER naive_track AFTER INSERT OR UPDATE OR DELETE ON {name}
               FOR EACH ROW EXECUTE FUNCTION naive_track('{name}', '{key}');"
        ))?;
    }
    Ok(())
}
