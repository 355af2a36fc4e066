//! Errors that name the record which they are about.

use std::borrow::Cow;

use super::Target;
use crate::push::payload::Record;
use crate::server::error::{code, SyncError};
use crate::server::memory::Gather;
use crate::values::excerpt;

impl Target<'_> {
    /// Where an id stands in the payload.
    pub fn path_of(&self, id: &str) -> String {
        let sources = self.sources.get_or_init(|| {
            let records = self.plan.records.iter().map(|r| (r.id.to_string(), r.source));
            records.chain(self.plan.deletions.iter().map(|d| (d.id.to_string(), d.source))).gather()
        });
        sources.get(id).map(|s| self.plan.path(*s)).unwrap_or_default()
    }

    pub(super) fn no_column(&self, name: &str, record: &Record) -> SyncError {
        let (column, collection) = (excerpt::name(name), &self.collection.name);
        SyncError::new(
            code::UNDEFINED_COLUMN,
            format!("column \"{column}\" of collection \"{collection}\" does not exist"),
        )
        .detail(format!("It is in {}.", self.plan.field_path(record.source, name)))
        .hint("Send only synced columns. A table's columns are synced unless snapsync.enable() left them out.")
    }

    /// A row that the caller sees and no policy lets him change.
    pub fn refused(&self, what: &str, id: &str) -> SyncError {
        SyncError::new(
            code::INSUFFICIENT_PRIVILEGE,
            format!("a row of collection \"{}\" may not be {what}", self.collection.name),
        )
        .detail(format!("Row-level security refuses {}.", self.path_of(id)))
        .hint("The role can see the row but no policy lets it change the row.")
    }

    /// A row that another change of the same push has deleted, which was to change it later.
    pub fn taken_along(&self, id: &str) -> SyncError {
        let collection = &self.collection.name;
        SyncError::new(
            code::CHANGED_BY_ITS_OWN,
            format!("a row of collection \"{collection}\" was deleted by another change of this push"),
        )
        .detail(format!("It is {}.", self.path_of(id)))
        .hint(
            "A cascade or a trigger deleted the row before it could be changed. Push the changes one after the other.",
        )
    }

    /// What would take along a row that another change of the same push was to move away.
    pub fn spared(&self, id: &str) -> SyncError {
        let (id, collection) = (excerpt::name(self.as_sent(id)), &self.collection.name);
        SyncError::new(
            code::CHANGED_BY_ITS_OWN,
            format!("row \"{id}\" of collection \"{collection}\" would be deleted along, and its move is not written"),
        )
        .hint("The same push was to move that row away before. Pull, and push again.")
    }

    /// An error of Postgres about one record, with the record's place in the payload.
    pub fn about(&self, id: &str, e: SyncError) -> SyncError {
        self.located(e, format!("It is about {} (id \"{}\").", self.path_of(id), excerpt::name(id)))
    }

    /// An error of Postgres about the collection.
    pub fn while_pushing(&self, e: SyncError) -> SyncError {
        self.located(e, format!("While pushing collection \"{}\".", self.collection.name))
    }

    fn located(&self, e: SyncError, place: String) -> SyncError {
        // RAISE leaves an empty text where nothing was to be said.
        let said = |text: Option<String>| text.filter(|t| !t.is_empty());
        let e = SyncError { detail: said(e.detail), hint: said(e.hint), ..e };
        let says_so = |text: &Option<String>| text.as_ref().is_some_and(|t| t.contains("changes."));
        let lists_rows = e.code == code::CONFLICT && e.detail.as_ref().is_some_and(|d| d.starts_with('['));
        if lists_rows || says_so(&e.detail) || says_so(&e.hint) {
            return e;
        }
        // A trigger of the user's may tell its clients something in JSON: that stays as it is.
        if e.detail.as_ref().is_some_and(|d| serde_json::from_str::<serde::de::IgnoredAny>(d).is_ok()) {
            let hint = Some(e.hint.map_or(place.clone(), |h| format!("{h} {place}")));
            return SyncError { message: excerpt::cut(&e.message, 400), hint, ..e };
        }
        let hint: Cow<str> = match e.code.get(..2).unwrap_or("") {
            "22" => "Send values as pull_changes writes them, in the same dialect.".into(),
            "23" => "Nothing was applied. Correct the record on the client, or let the constraint allow it.".into(),
            "42" if e.code == code::GENERATED_ALWAYS => {
                "The table makes the key's value itself: clients can pull, change and delete its rows, and create none."
                    .into()
            }
            "42" if e.code == code::INSUFFICIENT_PRIVILEGE => {
                "The role needs the table's privileges and a row-level security policy that allows the change.".into()
            }
            "42" => {
                let at = e.raised_in().map_or(String::new(), |at| format!(" It was in {}.", excerpt::cut(at, 200)));
                let of = "a type, a default, a trigger, a policy, or a function that one of these calls";
                format!("Something of the table's own fails: {of}.{at}").into()
            }
            _ => "Nothing was applied.".into(),
        };
        SyncError {
            // Postgres quotes the whole value, which may be megabytes that the client sent.
            message: excerpt::cut(&e.message, 400),
            detail: Some(e.detail.map_or(place.clone(), |d| format!("{d} {place}"))),
            hint: Some(e.hint.unwrap_or_else(|| hint.into_owned())),
            ..e
        }
    }
}
