//! Which pushed rows will be stored exactly as their client sent them, so that it need not hear of them again
//! (`pull_changes(..., skip_echoes => true)`).
//!
//! And which rows that a push left as they were its client must be sent all the same, because they are not what it sent.
//!
//! Said only where it is certain, and cheap to tell: nothing of the server's may change the values on their way into the row
//! (BEFORE ROW triggers, rules, defaults, generated columns), all that was sent must have been written, and each column's
//! type must give back the JSON value that it took. Whatever else changes the row afterwards (AFTER triggers, cascades)
//! makes an entry of its own in the journal, which takes the mark back.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use pgrx::pg_sys;

use super::item::{Item, What};
use super::payload::{Group, Record};
use super::target::Target;
use crate::collections::catalog::Column;
use crate::collections::facts::Stores;
use crate::log::change::Op;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::values::dialect::Dialect;
use crate::values::wire_id;

/// What must be known to tell.
#[derive(Debug)]
pub struct Echo {
    stores: Rc<Stores>,
    /// Generated columns change with others.
    computed: bool,
}

impl Echo {
    /// None where the caller could not tell the rows apart in any case.
    pub fn of(target: &Target) -> Result<Option<Echo>> {
        let collection = &target.collection;
        let may_read = |c: &Column| pg::may_select(collection.relation, c.attnum);
        if !collection.key.iter().all(may_read) {
            return Ok(None);
        }
        let Some(stores) = Stores::of(collection)? else { return Ok(None) };
        let computed = collection.columns.iter().any(|c| c.generated && may_read(c));
        Ok(Some(Echo { computed, stores }))
    }

    /// The rows among these items of the target that a statement of this kind will store as they were sent, and what it does to them.
    pub fn rows(&self, target: &Target, what: What, items: &[&Item]) -> HashMap<Box<[u8]>, Op> {
        let mut keys: HashMap<Box<[u8]>, Op> = HashMap::new();
        let records = || items.iter().map(|i| &target.plan.records[i.row as usize]);
        match what {
            What::Delete => {
                let op = if target.collection.soft_delete.is_none() { Op::Delete } else { Op::Update };
                if op == Op::Delete || self.stores.updates {
                    let ids = items.iter().map(|i| &*target.plan.deletions[i.row as usize].id);
                    // Of a row that it named otherwise the client may have the one that the server names.
                    let ids = ids.filter(|id| target.as_sent(id) == *id);
                    memory::extend(&mut keys, ids.map(|id| (id.as_bytes().into(), op)));
                }
            }
            What::Update(_) | What::Mark(_) if !self.computed => {
                memory::extend(
                    &mut keys,
                    self.as_sent(target, what, items).into_iter().map(|id| (id.into(), Op::Update)),
                );
            }
            What::Insert(group) if self.stores.inserts => {
                let group = &target.plan.groups[group as usize];
                if is_complete(target, self, group) {
                    let forms = forms(target, self, group);
                    // Of a row that its client did not make it has more than it sends of a change.
                    let has_all = others(target, group).next().is_none();
                    let whole = records().filter(|r| has_all || r.created);
                    let whole = whole.filter(|r| r.exact_key && r.whole_key && target.plan.readonly(r).is_empty());
                    let kept = whole.filter(|r| keeps(target, &forms, target.plan.fields(r)));
                    memory::extend(&mut keys, kept.map(|r| (r.id.as_bytes().into(), Op::Insert)));
                }
            }
            _ => {}
        }
        keys
    }

    /// The ids of the items of an update whose rows will be, as far as it sets them, what was sent, and of which the client knows the rest.
    pub fn as_sent<'t>(&self, target: &'t Target, what: What, items: &[&Item]) -> HashSet<&'t [u8]> {
        let mut kept = HashSet::new();
        if let What::Update(group) | What::Mark(group) = what {
            if self.stores.updates {
                let forms = forms(target, self, &target.updates[group as usize]);
                let records = items.iter().map(|i| &target.plan.records[i.row as usize]);
                let records = records.filter(|r| is_known(target, r) && keeps(target, &forms, target.plan.fields(r)));
                memory::extend(&mut kept, records.map(|r| r.id.as_bytes()));
            }
        }
        kept
    }

    /// Those of these records, whose rows have in their columns what was sent, as far as the columns' types tell, that are just what was sent.
    pub fn equal(&self, target: &Target, records: &[u32]) -> HashSet<u32> {
        let mut equal = HashSet::new();
        for rows in records.chunk_by(|a, b| target.group_of_update(*a) == target.group_of_update(*b)) {
            let forms = forms(target, self, &target.updates[target.group_of_update(rows[0]) as usize]);
            memory::extend(
                &mut equal,
                rows.iter().copied().filter(|row| {
                    memory::heed();
                    let record = &target.plan.records[*row as usize];
                    is_written_whole(target, record) && keeps(target, &forms, target.plan.fields(record))
                }),
            );
        }
        equal
    }
}

/// Does the client know what an updated row has in the columns that it did not send? (Of a created record that exists it may not.)
pub fn is_known(target: &Target, record: &Record) -> bool {
    !record.created && is_written_whole(target, record)
}

/// Is all written that the client sent of a record, its id as it is?
fn is_written_whole(target: &Target, record: &Record) -> bool {
    if !record.exact_key {
        return false;
    }
    // What it says not to have changed is what it last saw.
    let readonly = target.plan.readonly(record);
    readonly.is_empty() || {
        let changed: HashSet<&str> = target.plan.changed(record).unwrap_or_default().iter().map(|n| &**n).gather();
        !changed.is_empty() && !readonly.iter().any(|c| changed.contains(c))
    }
}

/// Will a new row with these columns have nothing in the others that its client could see?
fn is_complete(target: &Target, echo: &Echo, group: &Group) -> bool {
    !others(target, group).any(|c| echo.stores.filled.contains(&c.name))
}

/// The other columns that its client could see.
fn others<'t>(target: &'t Target, group: &'t Group) -> impl Iterator<Item = &'t Column> {
    let collection = &target.collection;
    let others = collection.columns.iter().filter(|c| !collection.key.iter().any(|k| k.attnum == c.attnum));
    let others = others.filter(|c| !group.columns.contains(&c.name.as_str()));
    others.filter(|c| pg::may_select(collection.relation, c.attnum))
}

/// Does each of these columns give back what it takes from this record?
fn keeps<'f>(target: &Target, forms: &[(&str, EchoForm)], fields: impl Iterator<Item = (&'f str, &'f str)>) -> bool {
    // Both are in order of name, and what is written is part of what was sent.
    let mut forms = forms.iter().peekable();
    let soft_delete = target.collection.soft_delete.as_ref().map(|c| c.name.as_str());
    for (name, raw) in fields {
        let Some((_, form)) = forms.next_if(|(written, _)| *written == name) else { continue };
        // A row that is sent with its mark of deletion is `deleted` to those who pull.
        if soft_delete == Some(name) && raw != "null" && raw != "false" || !form.keeps(raw) {
            return false;
        }
    }
    true
}

fn forms<'t>(target: &Target<'t>, echo: &Echo, group: &Group<'t>) -> Vec<(&'t str, EchoForm)> {
    let form = |name: &&'t str| {
        let column = target.collection.column(name);
        (
            *name,
            column.map_or(EchoForm::Unsure, |c| EchoForm::of(target.dialect, c, echo.stores.cast.contains(&c.name))),
        )
    };
    group.columns.iter().map(form).gather()
}

/// Which JSON values a column gives back as it took them. Null it always does.
#[derive(Clone, Copy, PartialEq, Debug)]
enum EchoForm {
    Unsure,
    Bool,
    /// Any number: it has been taken, so every digit is there.
    Number,
    /// A number that is the shortest way to write its float.
    Float,
    Text,
    /// A text that may lose blanks at its end.
    ShortText,
    Uuid,
    /// Any value.
    Json,
    /// Whole milliseconds.
    Millis,
    /// ISO 8601, as exact as the column, with or without an offset. (It may come back in another time zone.)
    Time {
        digits: usize,
        offset: bool,
    },
    Date,
}

impl EchoForm {
    fn of(dialect: Dialect, column: &Column, has_cast: bool) -> EchoForm {
        let flat = dialect == Dialect::WatermelonDb;
        // Neither a modifier, which may cut and round, nor a domain, which may have one.
        let plain = column.type_name == column.base_type_name;
        let base = column.facts.base;
        match base {
            // A deletion makes a row later, and the device's place decides what a time means.
            pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID if dialect == Dialect::Drift => EchoForm::Unsure,
            pg_sys::VARCHAROID if column.type_name.starts_with("character varying(") => EchoForm::ShortText,
            pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID => {
                let modifier = column.type_name.strip_prefix("timestamp(").and_then(|t| t.get(..1)?.parse().ok());
                match modifier.or(plain.then_some(6)) {
                    Some(3..) if flat => EchoForm::Millis,
                    Some(digits) if !flat => EchoForm::Time { digits, offset: base == pg_sys::TIMESTAMPTZOID },
                    _ => EchoForm::Unsure,
                }
            }
            _ if !plain => EchoForm::Unsure,
            pg_sys::BOOLOID => EchoForm::Bool,
            pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID | pg_sys::NUMERICOID => EchoForm::Number,
            pg_sys::FLOAT8OID => EchoForm::Float,
            pg_sys::TEXTOID | pg_sys::VARCHAROID => EchoForm::Text,
            pg_sys::UUIDOID => EchoForm::Uuid,
            // JSON text in a string.
            pg_sys::JSONOID | pg_sys::JSONBOID if flat => EchoForm::Text,
            pg_sys::JSONOID | pg_sys::JSONBOID => EchoForm::Json,
            pg_sys::DATEOID if !flat => EchoForm::Date,
            _ if column.facts.typtype == b'e' && !has_cast => EchoForm::Text,
            _ => EchoForm::Unsure,
        }
    }

    fn keeps(self, raw: &str) -> bool {
        if raw == "null" {
            return true;
        }
        let text = raw.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        let is_number = || raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        match self {
            EchoForm::Unsure => false,
            EchoForm::Bool => raw == "true" || raw == "false",
            EchoForm::Number => is_number(),
            EchoForm::Float => is_number() && is_shortest(raw),
            EchoForm::Text => text.is_some(),
            EchoForm::ShortText => text.is_some_and(|t| !t.ends_with(' ') && !t.ends_with("0020")),
            EchoForm::Uuid => text.is_some_and(|t| t.len() == 36 && wire_id::canonical_uuid(t).is_none()),
            EchoForm::Json => true,
            EchoForm::Millis => raw.strip_prefix('-').unwrap_or(raw).bytes().all(|b| b.is_ascii_digit()),
            EchoForm::Time { digits, offset } => text.is_some_and(|t| is_time(t, digits, offset)),
            EchoForm::Date => text.is_some_and(|t| has_shape(t, "dddd-dd-dd")),
        }
    }
}

/// Is this JSON number written with the digits that its float is written with?
fn is_shortest(raw: &str) -> bool {
    let digits = |text: &str| {
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        let digits = mantissa.replace(|c: char| !c.is_ascii_digit(), "");
        digits.trim_matches('0').to_string()
    };
    raw.parse::<f64>().is_ok_and(|f| f.is_finite() && digits(&format!("{f:e}")) == digits(raw))
}

/// `2026-02-03T04:05:06.789+02:00`, with no more than so many digits of a second; with or without an offset.
fn is_time(text: &str, digits: usize, offset: bool) -> bool {
    let Some((whole, rest)) = text.split_at_checked("dddd-dd-ddTdd:dd:dd".len()) else { return false };
    let fraction = rest.strip_prefix('.').map_or(0, |f| f.bytes().take_while(u8::is_ascii_digit).count());
    let zone = if fraction > 0 { &rest[fraction + 1..] } else { rest };
    // What counts on into the next day or minute would come back as that.
    has_shape(whole, "dddd-dd-ddTdd:dd:dd")
        && &whole[11..13] < "24"
        && &whole[17..] < "60"
        && fraction <= digits
        && match zone.as_bytes().first() {
            None => !offset,
            Some(b'Z') => offset && zone.len() == 1,
            Some(b'+' | b'-') => offset && (has_shape(&zone[1..], "dd:dd") || has_shape(&zone[1..], "dd")),
            _ => false,
        }
}

/// Is `text` like `shape`, in which each `d` stands for a digit?
fn has_shape(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(t, s)| if s == b'd' { t.is_ascii_digit() } else { t == s })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps(form: EchoForm, values: &[&str]) -> Vec<bool> {
        values.iter().map(|v| form.keeps(v)).collect()
    }

    #[test]
    fn floats_keep_the_shortest_form() {
        let kept = ["0", "-0.0", "1", "0.1", "0.30000000000000004", "1e21", "1.0", "100", "5e-324", "-1.5E+10"];
        assert_eq!(keeps(EchoForm::Float, &kept), [true; 10]);
        assert_eq!(keeps(EchoForm::Float, &["0.10000000000000001", "9007199254740993", "\"NaN\""]), [false; 3]);
        assert_eq!(keeps(EchoForm::Float, &["1e400", "5e-325"]), [false; 2]);
    }

    #[test]
    fn times_keep_what_they_have_digits_for() {
        let zoned = EchoForm::Time { digits: 3, offset: true };
        let kept = ["2026-02-03T04:05:06Z", "2026-02-03T04:05:06.789+02:00", "2026-02-03T04:05:06.7-08"];
        assert_eq!(keeps(zoned, &kept.map(|t| format!("\"{t}\"")).each_ref().map(String::as_str)), [true; 3]);
        let lost = [
            "2026-02-03T04:05:06.7891Z",
            "2026-02-03T04:05:06",
            "2026-02-03",
            "2026-02-03T24:00:00Z",
            "2026-02-03T23:59:60Z",
            "2026-02-03T04:05:06+020",
            "2026-02-03T04:05:06.é",
            "infinity",
        ];
        assert_eq!(keeps(zoned, &lost.map(|t| format!("\"{t}\"")).each_ref().map(String::as_str)), [false; 8]);
        let local = EchoForm::Time { digits: 6, offset: false };
        assert_eq!(
            keeps(local, &["\"2026-02-03T04:05:06.789\"", "\"2026-02-03T04:05:06Z\"", "5"]),
            [true, false, false]
        );
        assert_eq!(
            keeps(EchoForm::Millis, &["-5", "1700000000000", "1.5", "1e3", "\"5\""]),
            [true, true, false, false, false]
        );
        assert_eq!(keeps(EchoForm::Date, &["\"2026-02-03\"", "\"today\""]), [true, false]);
    }

    #[test]
    fn texts_and_ids_keep_their_own_form() {
        assert_eq!(keeps(EchoForm::Text, &["\"x \"", "5", "null"]), [true, false, true]);
        assert_eq!(keeps(EchoForm::ShortText, &["\"x\"", "\"x \"", "\"x\\u0020\""]), [true, false, false]);
        let uuid = "\"7b1e7d80-0000-4000-8000-00000000000a\"";
        assert_eq!(
            keeps(EchoForm::Uuid, &[uuid, &uuid.to_uppercase(), "\"7b1e7d8000004000800000000000000a\""]),
            [true, false, false]
        );
        assert_eq!(keeps(EchoForm::Bool, &["true", "\"true\"", "1"]), [true, false, false]);
        assert_eq!(keeps(EchoForm::Number, &["-1.10", "\"1\""]), [true, false]);
    }
}
