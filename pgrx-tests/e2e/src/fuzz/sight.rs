//! What a role sees by plain SELECT: what every pull is held against.

use std::collections::HashMap;

use anyhow::{anyhow, Result};
use postgres::error::SqlState;
use postgres::{Client, SimpleQueryMessage};

use crate::postgrest::Caller;

use super::oracle::Visible;
use super::schema::{Ask, Soft, Table, World};

/// Tables' columns by number: they are renamed, dropped and added while a world is played.
const ORG: i16 = 3;
const GONE: i16 = 8;

#[derive(Clone)]
struct Column {
    number: i16,
    name: String,
    readable: bool,
}

/// The columns of the tables for each role; forgotten when something other than rows changes.
#[derive(Default)]
pub struct Sight {
    columns: HashMap<(String, String), Vec<Column>>,
    bypassing: HashMap<String, bool>,
    /// the number and the name of the column that is not synced, by table
    excluded: HashMap<String, (i16, String)>,
    hostile: bool,
}

pub fn denied(error: &postgres::Error) -> bool {
    error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

impl Sight {
    pub fn of(admin: &mut Client, world: &World) -> Result<Self> {
        let mut sight = Self { hostile: world.hostile, ..Self::default() };
        for (table, column) in world.collections().filter_map(|t| Some((&t.name, t.exclude.as_ref()?))) {
            sight.excluded.insert(table.clone(), (0, column.clone()));
        }
        sight.forget(admin)?;
        Ok(sight)
    }

    /// Something other than rows has changed. A column that is not synced is followed when it is renamed; one that was dropped
    /// is known by its name when it comes again.
    pub fn forget(&mut self, admin: &mut Client) -> Result<()> {
        self.columns.clear();
        self.bypassing.clear();
        for (table, (number, name)) in &mut self.excluded {
            let row = admin.query_opt(
                "SELECT attnum, attname::text FROM pg_attribute WHERE attrelid = to_regclass($1::text) AND NOT attisdropped \
                 AND (attnum = $2 OR attname = $3) ORDER BY attnum <> $2 LIMIT 1",
                &[table, number, name],
            )?;
            if let Some(row) = row {
                (*number, *name) = (row.get(0), row.get(1));
            }
        }
        Ok(())
    }

    fn bypasses(&mut self, admin: &mut Client, role: &str) -> Result<bool> {
        if let Some(known) = self.bypassing.get(role) {
            return Ok(*known);
        }
        let row = admin.query_one("SELECT rolbypassrls FROM pg_roles WHERE rolname = $1", &[&role])?;
        self.bypassing.insert(role.to_owned(), row.get(0));
        Ok(row.get(0))
    }

    fn columns(&mut self, admin: &mut Client, role: &str, table: &str) -> Result<&[Column]> {
        let key = (role.to_owned(), table.to_owned());
        if !self.columns.contains_key(&key) {
            let rows = admin.query(
                "SELECT attnum, attname::text, has_column_privilege($1, attrelid, attnum, 'SELECT') FROM pg_attribute \
                 WHERE attrelid = $2::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                &[&role, &table],
            )?;
            let columns =
                rows.iter().map(|r| Column { number: r.get(0), name: r.get(1), readable: r.get(2) }).collect();
            self.columns.insert(key.clone(), columns);
        }
        Ok(&self.columns[&key])
    }

    /// Whether the role may read the key, so that there is a row to speak of.
    fn key_readable(&mut self, admin: &mut Client, role: &str, table: &Table) -> Result<bool> {
        let key = table.spec().key;
        Ok(self.columns(admin, role, &table.name)?.iter().filter(|c| key.contains(&c.name)).all(|c| c.readable))
    }

    /// The scope column's name as it is now.
    pub fn scope(&mut self, admin: &mut Client, role: &str, table: &Table) -> Result<String> {
        let columns = self.columns(admin, role, &table.name)?;
        Ok(columns.iter().find(|c| c.number == ORG).map(|c| c.name.clone()).unwrap_or_default())
    }

    /// All rows of a collection that a client with this filter shall hold, as `row_to_json` writes them; None if the role
    /// may not read the table, or not what its policies read.
    pub fn rows(
        &mut self,
        admin: &mut Client,
        app: &mut Client,
        caller: &Caller,
        table: &Table,
        asks: &Ask,
    ) -> Result<Option<Vec<String>>> {
        if !self.key_readable(admin, &caller.role, table)? {
            return Ok(None);
        }
        // `scope_values` is somebody's SQL: not for those who may do more than its author.
        let bypasses = self.bypasses(admin, &caller.role)?;
        let (excluded, hostile) = (self.excluded.get(&table.name).map(|(number, _)| *number), self.hostile);
        let columns = self.columns(admin, &caller.role, &table.name)?;
        let named = |number| columns.iter().find(|c| c.number == number).map_or("", |c| c.name.as_str());
        let list: Vec<&str> =
            columns.iter().filter(|c| c.readable && Some(c.number) != excluded).map(|c| c.name.as_str()).collect();
        let mut conditions = vec!["true".to_owned()];
        if table.scoped {
            if let Some(orgs) = &asks.orgs {
                let orgs: Vec<String> = orgs.iter().map(i64::to_string).collect();
                conditions.push(format!("{} = ANY (ARRAY[{}]::int[])", named(ORG), orgs.join(", ")));
            } else if let Some(values) = table.scope_values.filter(|_| !bypasses) {
                conditions.push(format!("{} = ANY (({})::int[])", named(ORG), values.sql(hostile)));
            }
        }
        conditions.extend(asks.ids.as_ref().map(|ids| table.has_id(ids)));
        match table.soft {
            Some(Soft::Flag) => conditions.push(format!("{} IS NOT TRUE", named(GONE))),
            Some(Soft::Time) => conditions.push(format!("{} IS NULL", named(GONE))),
            None => {}
        }
        let sql = format!(
            "SELECT row_to_json(__row)::text FROM (SELECT {} FROM {} WHERE {}) AS __row",
            list.join(", "),
            table.name,
            conditions.join(" AND ")
        );
        let mut tx = caller.begin(app, true, false)?;
        match tx.query(&sql, &[]) {
            Ok(rows) => Ok(Some(rows.iter().map(|r| r.get(0)).collect())),
            Err(e) if denied(&e) => Ok(None),
            Err(e) => Err(anyhow!(e).context(sql)),
        }
    }

    /// The ids of all rows that the caller may SELECT, of all collections.
    pub fn ids(&mut self, admin: &mut Client, app: &mut Client, caller: &Caller, world: &World) -> Result<Visible> {
        let mut selects = Vec::new();
        for table in world.collections() {
            if self.key_readable(admin, &caller.role, table)? {
                let key = if table.name == "members" { "org || '.' || usr" } else { "id::text" };
                selects.push(format!("SELECT '{0}', {key} FROM {0}", table.name));
            }
        }
        let mut visible = Visible::new();
        if select_ids(app, caller, &selects.join(" UNION ALL "), &mut visible)? {
            return Ok(visible);
        }
        // What one table's policies read is not for this role; the others' rows are seen all the same.
        for select in &selects {
            select_ids(app, caller, select, &mut visible)?;
        }
        Ok(visible)
    }
}

/// False if it was denied.
fn select_ids(app: &mut Client, caller: &Caller, select: &str, visible: &mut Visible) -> Result<bool> {
    if select.is_empty() {
        return Ok(true);
    }
    let sql = format!(
        "BEGIN READ ONLY; SELECT set_config('role', '{}', true), set_config('request.jwt.claims', '{}', true), ''; {select}; ROLLBACK",
        caller.role, caller.claims,
    );
    match app.simple_query(&sql) {
        Ok(answer) => {
            for message in answer {
                // The answer of set_config has three columns.
                if let SimpleQueryMessage::Row(row) = message {
                    if row.len() == 2 {
                        let text = |i| row.get(i).unwrap_or_default().to_owned();
                        visible.insert((text(0), text(1)));
                    }
                }
            }
            Ok(true)
        }
        Err(e) if denied(&e) => {
            app.batch_execute("ROLLBACK")?;
            Ok(false)
        }
        Err(e) => Err(anyhow!(e).context(sql)),
    }
}
