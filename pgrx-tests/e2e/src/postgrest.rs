//! Calls shaped as PostgREST makes them: one transaction per request, the role and the claims set with
//! `set_config(..., true)`, named arguments through `json_to_record`.

use anyhow::Result;
use postgres::types::{FromSql, Type};
use postgres::{Client, IsolationLevel, Transaction};
use serde_json::{json, Map, Value};

/// Who calls: the database role, and the user in the claims.
#[derive(Clone, Debug)]
pub struct Caller {
    pub role: String,
    pub claims: Value,
}

impl Caller {
    pub fn new(role: &str, sub: &str) -> Self {
        Self { role: role.to_owned(), claims: json!({ "role": role, "sub": sub }) }
    }

    /// The way PostgREST opens a request's transaction. `repeatable_read`: as `default_transaction_isolation` would make it.
    pub fn begin<'a>(&self, client: &'a mut Client, read_only: bool, repeatable_read: bool) -> Result<Transaction<'a>> {
        let level = if repeatable_read { IsolationLevel::RepeatableRead } else { IsolationLevel::ReadCommitted };
        let mut tx = client.build_transaction().isolation_level(level).read_only(read_only).start()?;
        tx.execute(
            "SELECT set_config('search_path', 'public', true), set_config('role', $1, true), \
                    set_config('request.jwt.claims', $2, true), set_config('request.method', 'POST', true)",
            &[&self.role, &self.claims.to_string()],
        )?;
        Ok(tx)
    }
}

/// The arguments of a pull that the checks use.
#[derive(Clone, Debug, Default)]
pub struct Pull<'a> {
    pub collections: &'a [String],
    pub last_pulled_at: Option<i64>,
    pub dialect: Option<&'a str>,
    pub filter: Option<Value>,
    /// of the pull that gave the cursor
    pub last_filter: Option<Value>,
    /// PostgREST casts a JSON number and a JSON string equally to text; callers use both.
    pub cursor_as_number: bool,
    pub page_size: Option<i32>,
    /// of the page before
    pub next: Option<&'a str>,
    pub client_id: Option<&'a str>,
}

impl Pull<'_> {
    fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("collections".into(), json!(self.collections));
        let cursor = match self.last_pulled_at {
            Some(c) if self.cursor_as_number => json!(c),
            Some(c) => json!(c.to_string()),
            None => Value::Null,
        };
        body.insert("last_pulled_at".into(), cursor);
        if let Some(dialect) = self.dialect {
            body.insert("dialect".into(), json!(dialect));
        }
        if let Some(filter) = &self.filter {
            body.insert("filter".into(), filter.clone());
        }
        if let Some(filter) = &self.last_filter {
            body.insert("last_filter".into(), filter.clone());
        }
        if let Some(size) = self.page_size {
            body.insert("page_size".into(), json!(size));
        }
        if let Some(next) = self.next {
            body.insert("next".into(), json!(next));
        }
        if let Some(client) = self.client_id {
            body.insert("client_id".into(), json!(client));
        }
        body
    }

    pub fn run(&self, tx: &mut Transaction<'_>) -> Result<String> {
        rpc(tx, "pull_changes", &self.body(), PULL_TYPES)
    }
}

/// Argument types as PostgREST reads them from the catalog.
pub const PULL_TYPES: &[(&str, &str)] = &[
    ("collections", "text[]"),
    ("last_pulled_at", "text"),
    ("dialect", "text"),
    ("filter", "jsonb"),
    ("client_id", "text"),
    ("send_created_as_updated", "boolean"),
    ("skip_echoes", "boolean"),
    ("page_size", "integer"),
    ("next", "text"),
    ("schema_version", "integer"),
    ("migration", "jsonb"),
    ("since", "jsonb"),
    ("last_filter", "jsonb"),
];

pub const PUSH_TYPES: &[(&str, &str)] = &[
    ("changes", "json"),
    ("last_pulled_at", "text"),
    ("dialect", "text"),
    ("client_id", "text"),
    ("push_id", "uuid"),
    ("on_rejected", "text"),
];

/// `POST /rpc/<function>` with a JSON body.
pub fn rpc(
    tx: &mut Transaction<'_>,
    function: &str,
    body: &Map<String, Value>,
    types: &[(&str, &str)],
) -> Result<String> {
    rpc_text(
        tx,
        function,
        &Value::Object(body.clone()).to_string(),
        &body.keys().map(String::as_str).collect::<Vec<_>>(),
        types,
    )
}

/// The same with the body as text, so that a test can send what no JSON library would write.
pub fn rpc_text(
    tx: &mut Transaction<'_>,
    function: &str,
    body: &str,
    arguments: &[&str],
    types: &[(&str, &str)],
) -> Result<String> {
    let row = tx.query_one(&rpc_sql(function, arguments, types), &[&body])?;
    Ok(row.get::<_, Body>(0).0)
}

/// Which PostgREST: what they send for one function differs by whether it knows handlers of media types.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Release {
    Eleven,
    /// And later ones, up to 14.
    Twelve,
}

/// The statement of a POST, as PostgREST 12 to 14 send it.
pub fn rpc_sql(function: &str, arguments: &[&str], types: &[(&str, &str)]) -> String {
    rpc_sql_of(Release::Twelve, function, arguments, types)
}

/// The statement of a POST, and `body` first: PostgREST reads it by its place.
pub fn rpc_sql_of(release: Release, function: &str, arguments: &[&str], types: &[(&str, &str)]) -> String {
    let type_of = |a: &str| types.iter().find(|(n, _)| *n == a).map_or("text", |(_, t)| *t);
    let columns: Vec<String> = arguments.iter().map(|a| format!("\"{a}\" {}", type_of(a))).collect();
    let named: Vec<String> = arguments.iter().map(|a| format!("\"{a}\" := pgrst_body.\"{a}\"")).collect();
    // Only pull_changes returns a domain that is named as a media type.
    let body = match release {
        Release::Twelve if function == "pull_changes" => "\"snapsync\".\"*/*\"(_postgrest_t.pgrst_scalar)",
        _ => "coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null')",
    };
    format!(
        "WITH pgrst_source AS (SELECT pgrst_call.pgrst_scalar FROM (SELECT $1::text::json AS json_data) pgrst_payload, \
         LATERAL (SELECT {} FROM json_to_record(pgrst_payload.json_data) AS _({}) LIMIT 1) pgrst_body, \
         LATERAL (SELECT \"public\".\"{function}\"({}) pgrst_scalar) pgrst_call) \
         SELECT {body} AS body, null::bigint AS total_result_set, 1 AS page_total, \
         nullif(current_setting('response.headers', true), '') AS response_headers, \
         nullif(current_setting('response.status', true), '') AS response_status, '' AS response_inserted \
         FROM (SELECT \"{function}\".* FROM \"pgrst_source\" AS \"{function}\") _postgrest_t",
        arguments.iter().map(|a| format!("\"{a}\"")).collect::<Vec<_>>().join(", "),
        columns.join(", "),
        named.join(", "),
    )
}

/// The statement of a GET of a whole table: what PostgREST makes of its endpoint.
pub fn table_sql(table: &str) -> String {
    format!(
        "WITH pgrst_source AS (SELECT \"public\".\"{table}\".* FROM \"public\".\"{table}\") \
         SELECT coalesce(json_agg(_postgrest_t), '[]') AS body, null::bigint AS total_result_set, \
         pg_catalog.count(_postgrest_t) AS page_total, \
         nullif(current_setting('response.headers', true), '') AS response_headers, \
         nullif(current_setting('response.status', true), '') AS response_status, '' AS response_inserted \
         FROM (SELECT * FROM pgrst_source) _postgrest_t"
    )
}

/// JSON as the text that it is on the wire.
struct Body(String);

impl FromSql<'_> for Body {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Body(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::JSON
    }
}

/// A plain SELECT of a whole table as the caller, each row as `row_to_json` writes it. The alias is no column's name: an
/// alias like a column of the table would mean that column.
pub fn select_rows(tx: &mut Transaction<'_>, table: &str) -> Result<Vec<String>> {
    let sql = format!("SELECT row_to_json(__whole_row)::text FROM {table} AS __whole_row");
    Ok(tx.query(&sql, &[])?.iter().map(|r| r.get(0)).collect())
}
