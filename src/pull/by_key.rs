//! Rows that the client asks for by their keys (`filter`).
//!
//! What changed of them the log says, as of any rows, if there is little to look through. Else, or where that cannot be told, each of them
//! is sent as it stands, and those that are not there are named as gone: the client has named them itself. So no such set is ever replaced,
//! and what a client holds besides, by other cursors, stays.

use std::rc::Rc;

use super::arrays::{Added, Arrays};
use super::changes::Changed;
use super::delta::Past;
use super::next_cursor::Extent;
use super::pages::Page;
use super::{CollectionPull, Reaches, Start};
use crate::log::clock::durable;
use crate::log::read::Entries;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::sight::cause::Cause;
use crate::sight::keys::KeySet;
use crate::sight::policy::Judge;
use crate::sight::reach::{Movement, Reach, ReadTable};
use crate::sight::scope::derived::Patience;
use crate::values::json::{Output, Writer};
use crate::values::token::{Place, RowsPlace};

/// So many entries of the log are looked at, and for each key so many, before all rows are sent as they stand. To look at an entry of
/// another row takes a twentieth of what it takes to send one, and a client takes that in.
const LOOKED_AT: usize = 1_000;
const FOR_EACH: usize = 20;

/// Up to so many are sent as they stand where the caller's access moved: what moved in them is worth its dearer statements for more.
const FEW: usize = 100;

/// What the log says.
enum SaidOfKeys {
    Rows(Vec<Changed>),
    /// The caller's access moved, with these stamps and tables.
    Moved(Vec<i64>, Vec<ReadTable>),
    Cannot,
}

impl CollectionPull<'_> {
    /// All that is to be said of these keys.
    pub(super) fn write_keys(
        &self,
        from: Start,
        keys: &KeySet,
        reach: Option<&mut Reach>,
        out: &mut Writer<Output>,
    ) -> Result<Extent> {
        let mut rows = None;
        if let (Start::Stamp(stamp), Some(reach)) = (from, reach) {
            match self.changed_of(keys, reach)? {
                SaidOfKeys::Rows(changed) => rows = Some(changed),
                SaidOfKeys::Moved(stamps, tables) if keys.count() > FEW => {
                    if self.write_moved(stamp, stamps, &tables, reach, out)?.is_none() {
                        return Ok(Extent::Changes);
                    }
                }
                SaidOfKeys::Moved(..) | SaidOfKeys::Cannot => {}
            }
        }
        let told = if rows.is_some() { Extent::Changes } else { Extent::All(self.replaces(from)) };
        let mut rows = rows.unwrap_or_else(|| self.each_of(keys, from));
        let mut arrays = Arrays::begin(self, out)?;
        arrays.add(self, &mut rows, None)?;
        arrays.end();
        Ok(told)
    }

    /// What a page has room for, of the ids after this one.
    pub(super) fn write_page_of_keys<'s>(
        &self,
        from: Start,
        keys: &KeySet,
        (after, at): (Option<String>, usize),
        page: &mut Page<'s>,
        reaches: &mut Reaches<'s>,
        out: &mut Writer<Output>,
    ) -> Result<Extent> {
        let said = match from {
            Start::Stamp(stamp) => {
                let reach = reaches.entry(stamp).or_insert_with(|| Reach::since(stamp, page.snapshot));
                self.changed_of(keys, reach)?
            }
            _ => SaidOfKeys::Cannot,
        };
        let (told, mut rows) = match said {
            SaidOfKeys::Rows(rows) => (Extent::Changes, rows),
            // Why is said where it begins.
            _ => (Extent::All(self.replaces(from).filter(|_| after.is_none())), self.each_of(keys, from)),
        };
        if from == Start::Nothing || !keys.gained.is_empty() {
            // If the pull began anew, it would not be known which of these the client was sent.
            page.begin_rows();
        }
        rows.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let done = after.as_ref().map_or(0, |after| rows.partition_point(|row| row.id <= *after));
        rows.drain(..done);
        let mut arrays = Arrays::begin(self, out)?;
        if let Added::UpTo(last) = arrays.add(self, &mut rows, Some(page))? {
            // These come in the order of their ids, whatever the indexes.
            let rows = last.or_else(|| after.clone()).map(|after| RowsPlace { order: 0, after });
            page.cut(at, rows.map_or(Place::Begin, |rows| Place::Rows(Some(rows))));
        }
        arrays.end();
        Ok(told)
    }

    /// What the client asked for before cannot be told: what it has beside these rows is not known.
    fn replaces(&self, from: Start) -> Option<Cause> {
        match from {
            Start::Anything(cause) if self.wanted.untold => Some(cause),
            _ => None,
        }
    }

    /// All of them, however they stand.
    fn each_of(&self, keys: &KeySet, from: Start) -> Vec<Changed> {
        durable::saw_rows();
        let (nothing, anything) = (from == Start::Nothing, matches!(from, Start::Anything(_)));
        let stayed = keys.stayed.iter().map(|id| Changed::unknown(id.clone(), nothing, !nothing));
        let mut rows: Vec<Changed> = stayed.gather();
        if nothing {
            memory::extend(&mut rows, keys.gained.iter().map(|id| Changed::unknown(id.clone(), true, false)));
            return rows;
        }
        self.add_asked_otherwise(keys, !anything, &mut rows);
        rows
    }

    /// Adds those that are asked for only now, and those that are not any more. The client may have the former, too: it may have pushed
    /// them. Where it begins anew it is not told what it has.
    pub(super) fn add_asked_otherwise(&self, keys: &KeySet, new: bool, rows: &mut Vec<Changed>) {
        let may_have = new || !self.wanted.untold;
        if !keys.gained.is_empty() {
            durable::saw_rows();
        }
        memory::extend(rows, keys.gained.iter().map(|id| Changed::unknown(id.clone(), new, may_have)));
        let unasked = |id: &String| Changed { unasked: true, ..Changed::unknown(id.clone(), false, true) };
        memory::extend(rows, keys.lost.iter().map(unasked));
    }

    /// What the log says of them.
    fn changed_of(&self, keys: &KeySet, reach: &mut Reach) -> Result<SaidOfKeys> {
        let unchanged_come = self.basis.older && !keys.gained.is_empty();
        if unchanged_come || !self.new_columns.is_empty() || self.wanted.before.differs() {
            return Ok(SaidOfKeys::Cannot);
        }
        let mut found = self.derived(reach, Patience::Pull)?;
        let by_key = [&self.collection.logged_scope].into_iter().flatten().any(|c| self.is_key(c.attnum));
        let scopes = match (self.scopes(), &found.scopes) {
            (None, None) if by_key => Some(&*keys.stayed),
            (None, Some(scopes)) if by_key && scopes.len() > keys.stayed.len() => Some(&*keys.stayed),
            (given, found) => given.or(found.as_deref()),
        };
        let Some(entries) = self.entries_in(scopes, reach)? else { return Ok(SaidOfKeys::Cannot) };
        if entries.was_reset() {
            return Ok(SaidOfKeys::Cannot);
        }
        reach.was_not_reset(self.collection);
        match reach.movement(self.collection, true)? {
            Movement::None { .. } => {}
            Movement::Untold(_) => return Ok(SaidOfKeys::Cannot),
            Movement::Access { stamps, tables } => return Ok(SaidOfKeys::Moved(stamps, tables)),
        }
        if self.needs_judge(&entries) && found.judge.is_none() {
            found.judge = reach.judge(self.collection)?;
            if found.judge.is_none() {
                return Ok(SaidOfKeys::Cannot);
            }
        }
        let judge = found.judge.unwrap_or_else(|| Judge::of_none(self.collection));
        let past = Past::Steady(&judge);
        let Some((mut rows, _)) = self.changed(&entries, &past, None, usize::MAX)? else {
            return Ok(SaidOfKeys::Cannot);
        };
        if self.request.skip_echoes {
            self.leave_out_echoes(&mut rows, &past)?;
        }
        self.add_asked_otherwise(keys, true, &mut rows);
        Ok(SaidOfKeys::Rows(rows))
    }

    /// Is this column the whole key?
    fn is_key(&self, attnum: i16) -> bool {
        matches!(&self.collection.key[..], [key] if key.attnum == attnum)
    }

    /// The entries in these scopes, or in all, of the keys that are asked for; None where there is too much to look through for them.
    pub(super) fn entries_in(&self, scopes: Option<&[String]>, reach: &mut Reach) -> Result<Option<Rc<Entries>>> {
        let relation = self.collection.relation;
        if let Some(keys) = &self.wanted.keys {
            let most = LOOKED_AT + FOR_EACH * keys.count();
            let entries = reach.entries_among(relation, scopes, &|id| keys.has_stayed(id), most)?;
            return Ok(entries.map(Rc::new));
        }
        Ok(Some(match scopes {
            Some(scopes) => Rc::new(reach.entries_in(relation, scopes)?),
            None => reach.entries(relation)?,
        }))
    }
}
