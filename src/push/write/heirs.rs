//! Values by which rows are referred to, and which the push passes on: a product is deleted and made anew under its number; a label is renamed, and another one gets its name.
//!
//! What the push puts under such a value is meant for the row that takes it over, its *heir*. But as long as the heir is not written, the value is still that of the *giver*: what came to hang on it would be
//! deleted with that one, or follow its renaming. So heirs, and what comes to hang on them, wait until the giver is written; or until it is clear that the giver stays as it is.

use std::collections::{HashMap, HashSet};

use super::by_values::{StoredValues, ValueKey};
use super::Work;
use crate::collections::catalog::Column;
use crate::collections::facts::Facts;
use crate::push::item::{Item, What};
use crate::push::steps::Step;
use crate::server::error::{Result, SyncError};
use crate::server::memory::{self, Gather};

/// Which items wait for which giver.
pub(super) type Heirs = HashMap<Item, Item>;

type Values = Vec<String>;

impl Work<'_, '_> {
    /// To be called before anything is written; only a push that fails asks, once.
    pub(super) fn heirs(&self) -> Result<&Heirs> {
        if let Some(known) = self.heirs.get() {
            return Ok(known);
        }
        let keys: Vec<ValueKey> = self.keys()?.iter().filter(|key| self.passes_on(key)).cloned().gather();
        let mut heirs = Heirs::new();
        if !keys.is_empty() {
            let items: Vec<Item> = self.items().gather();
            let stored = self.stored(&items, &keys)?;
            for key in &keys {
                self.add_heirs(key, &items, &stored, &mut heirs);
            }
            self.add_dependents(&items, &mut heirs)?;
        }
        Ok(self.heirs.get_or_init(|| heirs))
    }

    /// Would the first order, in which the rows of a circle are written by one statement, have what comes to hang on an heir follow the giver without an error?
    pub(super) fn heirs_would_follow(&self) -> Result<bool> {
        let mut circular = self.stages.iter().filter(|stage| stage.circular).flat_map(|stage| &stage.targets);
        let is_followed = circular
            .try_fold(false, |any, t| Ok::<_, SyncError>(any || Facts::of(&self.targets[*t].collection)?.followed))?;
        Ok(is_followed && self.items().any(|item| item.changes_row()) && !self.heirs()?.is_empty())
    }

    /// Do rows refer by it to something else than the ids of synced rows? (Of an id no row is an heir.)
    fn passes_on(&self, key: &ValueKey) -> bool {
        let mut parents = self.targets.iter().filter(|t| t.collection.relation.to_u32() == key.parent);
        let is_id = |columns: &[Column]| {
            columns.len() == key.referenced.len() && columns.iter().all(|c| key.referenced.contains(&c.name))
        };
        !key.unique && parents.any(|parent| !is_id(&parent.collection.key))
    }

    fn add_heirs(&self, key: &ValueKey, items: &[Item], stored: &StoredValues, heirs: &mut Heirs) {
        let of = |relation: u32| items.iter().filter(move |item| self.relation(item.target) == relation);
        let mut given: HashMap<Values, Item> = HashMap::new();
        let mut taken: HashMap<Values, Item> = HashMap::new();
        let moves = |item: &Item, columns: &[String]| {
            let (before, after) = (stored.of(item, columns), self.after(item, columns, stored));
            (before != after).then_some((before, after))
        };
        for item in of(key.parent) {
            memory::heed();
            let is_deleted = item.what == What::Delete && self.targets[item.target].collection.soft_delete.is_none();
            let before = match is_deleted {
                true => stored.of(item, &key.referenced),
                false => moves(item, &key.referenced).and_then(|(before, _)| before),
            };
            memory::extend(&mut given, before.map(|values| (values, *item)));
        }
        for item in of(key.parent).filter(|item| !item.what.deletes() && !given.is_empty()) {
            memory::heed();
            let after = moves(item, &key.referenced).and_then(|(_, after)| after);
            if let Some((values, giver)) = after.and_then(|values| given.get_key_value(&values)) {
                memory::extend(&mut taken, [(values.clone(), *giver)]);
                memory::extend(heirs, [(*item, *giver)]);
            }
        }
        for item in of(key.child).filter(|item| !item.what.deletes() && !taken.is_empty()) {
            memory::heed();
            let after = moves(item, &key.columns).and_then(|(_, after)| after);
            memory::extend(heirs, after.and_then(|values| taken.get(&values)).map(|giver| (*item, *giver)));
        }
    }

    /// What refers to new rows that wait.
    fn add_dependents(&self, items: &[Item], heirs: &mut Heirs) -> Result<()> {
        if heirs.is_empty() {
            return Ok(());
        }
        let keys: Vec<&ValueKey> = self.keys()?.iter().filter(|key| !key.unique).gather();
        let mut referring: HashMap<(usize, Values), Vec<Item>> = HashMap::new();
        for (place, key) in keys.iter().enumerate() {
            let own = |item: &&Item| self.relation(item.target) == key.child && !item.what.deletes();
            for item in items.iter().filter(own) {
                memory::heed();
                if let Some(values) = self.sent(item, &key.columns) {
                    referring.entry((place, values)).or_default().push(*item);
                }
            }
        }
        let mut open: Vec<(Item, Item)> = heirs.iter().map(|(item, giver)| (*item, *giver)).gather();
        while let Some((item, giver)) = open.pop() {
            memory::heed();
            let of_it = |key: &&ValueKey| self.relation(item.target) == key.parent && !item.changes_row();
            for (place, key) in keys.iter().enumerate().filter(|(_, key)| of_it(key)) {
                let values = self.sent(&item, &key.referenced);
                // (Once: of rows that are sent with the same values one will be written.)
                let found = values.and_then(|values| referring.remove(&(place, values))).unwrap_or_default();
                for dependent in found {
                    memory::heed();
                    if !heirs.contains_key(&dependent) {
                        memory::extend(heirs, [(dependent, giver)]);
                        open.push((dependent, giver));
                    }
                }
            }
        }
        Ok(())
    }

    /// In the first order, but heirs after everything else; None where there are none.
    pub(super) fn heirs_last(&self) -> Result<Option<Vec<Step>>> {
        let heirs = self.heirs()?;
        if heirs.is_empty() {
            return Ok(None);
        }
        let (mut steps, waiting) = without_heirs(&self.steps, heirs);
        memory::extend(&mut steps, waiting);
        steps.retain(|step| !step.items.is_empty());
        Ok(Some(steps))
    }
}

/// The steps without those that wait, and these, each in their order.
pub(super) fn without_heirs(steps: &[Step], heirs: &Heirs) -> (Vec<Step>, Vec<Step>) {
    let (mut others, mut waiting): (Vec<Step>, Vec<Step>) = (memory::list(steps.len()), memory::list(steps.len()));
    for Step { items, together } in steps {
        let (late, early) = items.iter().copied().gather_parts(|item| heirs.contains_key(item));
        others.push(Step { items: early, together: *together });
        waiting.push(Step { items: late, together: *together });
    }
    (others, waiting)
}

/// Those that need not wait any more, for their givers are written: not among these.
pub(super) fn ready(waiting: &[Step], heirs: &Heirs, unwritten: &HashSet<Item>) -> HashSet<Item> {
    let is_ready = |item: &Item| heirs.get(item).is_none_or(|giver| !unwritten.contains(giver));
    super::items(waiting).filter(is_ready).gather()
}
