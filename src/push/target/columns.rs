//! The rows of a target as statements have them: `r`, with the key and the columns that are written.

use pgrx::pg_sys;

use super::{decode, Target};
use crate::collections::catalog::Column;
use crate::collections::lookup;
use crate::push::payload::Group;
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::spi::{self, Arg};
use crate::values::dialect::Dialect;

/// So many columns a recordset can have (MaxHeapAttributeNumber).
const MOST: usize = 1600;

/// The columns of a group: recordset declarations, quoted names, value expressions.
pub struct Columns {
    pub declared: Vec<String>,
    pub names: Vec<String>,
    pub values: Vec<String>,
}

impl<'a> Target<'a> {
    /// The rows of a parameter, `r(n, k0, ...)` with the key and these columns. The key has its own types here and in `id_rows`:
    /// row-level security lets no condition use an index that calls a function which might tell what it was given, and a cast
    /// from text is one.
    pub fn recordset(&self, parameter: usize, columns: &[String]) -> String {
        let key = self.collection.key.iter().enumerate();
        let keys = key.map(|(i, k)| format!("k{i} {}", k.facts.base_type_name()));
        let number = std::iter::once("n pg_catalog.int4".to_string());
        let all: Vec<String> = number.chain(keys).chain(columns.iter().cloned()).gather();
        let function = format!("pg_catalog.json_to_recordset(${parameter})");
        if all.len() <= MOST {
            return lookup::keys(&self.collection, &function, &all.join(", "));
        }
        // Of a table with as many columns as there can be, with the rows' number: the rest of each row comes by that.
        let (first, rest) = all.split_at(MOST);
        let rest = rest.join(", ");
        let rest = format!("(SELECT * FROM {function} AS x({}, {rest})) AS rest(m)", all[0]);
        let rest = format!("JOIN {rest} ON n OPERATOR(pg_catalog.=) m");
        lookup::keys_with(&self.collection, &function, &first.join(", "), &rest)
    }

    /// The ids as a set of rows `r(k0, ..., n)`, n from 1.
    pub fn id_rows(&self, ids: &[&str]) -> (String, Vec<Arg>) {
        let key = &self.collection.key;
        let args = if key.len() == 1 {
            vec![spi::arg(ids.iter().copied().gather::<Vec<&str>>())]
        } else {
            let mut parts: Vec<Vec<String>> = memory::filled(memory::list(ids.len()), key.len());
            for id in ids {
                for (part, value) in parts.iter_mut().zip(self.plan.key_parts(id)) {
                    part.push(value);
                }
            }
            parts.into_iter().map(spi::arg).gather()
        };
        let typed = |(i, k): (usize, &Column)| format!("pg_catalog.unnest(${}::{}[])", i + 1, k.facts.base_type_name());
        let arrays: Vec<String> = key.iter().enumerate().map(typed).gather();
        let names: Vec<String> = (0..key.len()).map(|i| format!("k{i}")).gather();
        let functions = format!("ROWS FROM ({}) WITH ORDINALITY", arrays.join(", "));
        (lookup::keys(&self.collection, &functions, &format!("{}, n", names.join(", "))), args)
    }

    /// The columns of a group as a new row has them.
    pub fn columns(&self, group: &Group) -> Columns {
        let mut columns = Columns { declared: Vec::new(), names: Vec::new(), values: Vec::new() };
        for (i, name) in group.columns.iter().enumerate() {
            let Some(column) = self.collection.column(name) else { continue };
            let is_text = self.is_text(group, i, column);
            let (declaration, value) = decode::value((self.dialect, self.device), column, &format!("c{i}"), is_text);
            columns.declared.push(format!("c{i} {declaration}"));
            columns.names.push(column.ident.clone());
            columns.values.push(value);
        }
        self.raise_version(group, &mut columns.values);
        columns
    }

    /// What `columns` depends on, besides the collection, the dialect and the device.
    pub fn shape(&self, group: &Group<'a>) -> String {
        let mut shape = String::new();
        for (i, name) in group.columns.iter().enumerate() {
            let is_text = self.collection.column(name).is_some_and(|column| self.is_text(group, i, column));
            shape.push_str(name);
            // (In no name.)
            shape.push_str(if is_text { "\0t" } else { "\0-" });
        }
        shape
    }

    /// A row of the Drift client is as late as its deletion, which may leave `updated_at` as it was.
    fn raise_version(&self, group: &Group, values: &mut [String]) {
        let Some((version, mark)) = self.version_and_mark() else { return };
        let place = |column: &Column| group.columns.iter().position(|name| *name == column.name);
        let (Some(at), Some(mark)) = (place(version), place(mark)) else { return };
        let base = &version.base_type_name;
        values[at] = format!("GREATEST(({})::{base}, ({})::{base})::{}", values[at], values[mark], version.type_name);
    }

    /// The columns that say how late a row of the Drift client is, where they are two.
    pub fn version_and_mark(&self) -> Option<(&Column, &Column)> {
        let (version, mark) = (self.collection.version.as_ref()?, self.collection.soft_delete.as_ref()?);
        let are_times = matches!(version.facts.base, pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID);
        let alike = are_times && version.facts.base == mark.facts.base;
        (self.dialect == Dialect::Drift && alike).then_some((version, mark))
    }

    /// The columns of a group as an existing row `t` gets them: what only lost digits on its way is left as it is.
    pub fn columns_over_stored(&self, group: &Group) -> Columns {
        let mut columns = self.columns(group);
        for (i, (name, value)) in group.columns.iter().zip(&mut columns.values).enumerate() {
            let Some(column) = self.collection.column(name) else { continue };
            if !self.is_text(group, i, column) && pg::may_select(self.collection.relation, column.attnum) {
                *value = decode::over_stored(column, &format!("c{i}"), std::mem::take(value));
            }
        }
        columns
    }

    /// The declaration of a column of the recordset whose values may be of any kind, and its value where a row exists.
    pub fn value_over_stored(&self, column: &Column, field: &str) -> (String, String) {
        let (declaration, value) = decode::value((self.dialect, self.device), column, field, false);
        let readable = pg::may_select(self.collection.relation, column.attnum);
        let value = if readable { decode::over_stored(column, field, value) } else { value };
        (format!("{field} {declaration}"), value)
    }

    /// Is every value of this column of the group a text or null? Then the column's type reads it without more ado: taking
    /// json apart once more for each value cost 3 us.
    fn is_text(&self, group: &Group<'a>, index: usize, column: &Column) -> bool {
        decode::is_time(column) && self.plan.all(group, index, |raw| raw.starts_with('"') || raw == "null")
    }
}

pub fn json_arg(text: &str) -> Arg {
    spi::text_as(pg_sys::JSONOID, text)
}
