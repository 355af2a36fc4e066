//! Values by which rows are referred to, and which the push passes on: a product is deleted and made anew under its number; a label is renamed, and another one gets its name.
//!
//! What the push puts under such a value is meant for the row that takes the value over, its *heir*: it *follows* the heir. But as long as the heir is not written, the value is still that of the *giver*: what
//! comes to hang on it would be deleted with the giver, or follow its renaming, without an error. So followers wait for their heirs, or until it is clear that the giver stays as it is.

use std::collections::{HashMap, HashSet};

use super::by_values::{Holders, StoredValues, ValueKey};
use super::{only, Work};
use crate::collections::catalog::Column;
use crate::collections::facts::Facts;
use crate::push::item::{Item, What};
use crate::push::steps::{Sorter, Step};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};

/// What the push passes on.
#[derive(Default)]
pub(super) struct Heirs {
    /// Who gives up what each heir takes over.
    givers: HashMap<Item, Vec<Item>>,
    /// The heirs that each follower waits for: by one key or another.
    heirs: HashMap<Item, Vec<Item>>,
    /// The givers on which a follower hangs as yet.
    leaves: HashMap<Item, Vec<Item>>,
    /// In which layer heirs and followers are written, from 1: each heir after its givers.
    layers: HashMap<Item, usize>,
}

/// So many values are passed on one after the other in one order of steps.
const LAYERS: usize = 16;

/// So many rows of the same values.
const FEW: usize = 16;

impl Work<'_, '_> {
    /// To be called before anything is written. Asked for once, by a push that fails, and where the first order may do the wrong thing without an error.
    pub(super) fn heirs(&self) -> Result<&Heirs> {
        if let Some(known) = self.heirs.get() {
            return Ok(known);
        }
        let keys: Vec<ValueKey> = self.keys()?.iter().filter(|key| self.passes_on(key)).cloned().gather();
        let mut heirs = Heirs::default();
        if !keys.is_empty() {
            let items: Vec<Item> = self.items().gather();
            let stored = self.stored(&items, &keys)?;
            for key in &keys {
                self.add_heirs(key, &items, &stored, &mut heirs);
            }
            self.add_dependents(&items, &stored, &mut heirs)?;
            heirs.layer();
        }
        Ok(self.heirs.get_or_init(|| heirs))
    }

    /// May rows follow a giver without an error, whatever the order? Only where keys follow updates (ON UPDATE CASCADE): what is deleted has its value until then, so that its heir fails before.
    pub(super) fn has_heirs_at_once(&self) -> Result<bool> {
        for (index, target) in self.targets.iter().enumerate() {
            let changes = || self.items().any(|item| item.target == index && item.changes_row());
            if Facts::of(&target.collection)?.followed && changes() {
                return Ok(!self.heirs()?.is_empty());
            }
        }
        Ok(false)
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
        let of = |relation: u32| items.iter().copied().filter(move |item| self.relation(item.target) == relation);
        let (mut given, mut taken) = (Holders::default(), Holders::default());
        for item in of(key.parent) {
            memory::heed();
            let gives = self.is_gone(&item) || self.moves(&item, &key.referenced, stored);
            if let Some(values) = stored.of(&item, &key.referenced).filter(|_| gives) {
                given.add(values, item);
            }
        }
        let writes = |item: &Item| !item.what.deletes();
        for heir in of(key.parent).filter(|item| writes(item) && !given.is_empty()) {
            memory::heed();
            let after = self
                .after(&heir, &key.referenced, &key.filled_there, stored)
                .filter(|_| self.moves(&heir, &key.referenced, stored));
            if let Some((values, giver)) = after.and_then(|after| given.find(&after)) {
                let values = values.iter().cloned().gather();
                add(&mut heirs.givers, heir, giver);
                taken.add(values, heir);
            }
        }
        for follower in of(key.child).filter(|item| writes(item) && !taken.is_empty()) {
            memory::heed();
            let points = self.moves(&follower, &key.columns, stored) || self.points_anew(&follower, &key.columns);
            let after = self.after(&follower, &key.columns, &key.filled, stored).filter(|_| points);
            let Some((_, heir)) = after.and_then(|after| taken.find(&after)) else { continue };
            let before = stored.of(&follower, &key.columns);
            let before = before.and_then(|values| given.find(&values.into_iter().map(Some).gather::<Vec<_>>()));
            // What hangs on the giver, and is sent so, goes with it by a cascade.
            let goes = before.is_some_and(|(_, giver)| key.cascades && self.is_gone(&giver));
            if goes && !self.moves(&follower, &key.columns, stored) {
                continue;
            }
            add(&mut heirs.heirs, follower, heir);
            if let Some((_, giver)) = before {
                add(&mut heirs.leaves, follower, giver);
            }
        }
    }

    /// Does it say once more to which row it refers? (Of a key of several columns some say no more than of whom both are: those are never NULL.)
    fn points_anew(&self, item: &Item, columns: &[String]) -> bool {
        let collection = &self.targets[item.target].collection;
        let is_nullable = |name: &&String| collection.column(name).is_some_and(|column| !column.not_null);
        let mut nullable = columns.iter().filter(is_nullable).peekable();
        match nullable.peek() {
            Some(_) => nullable.all(|name| self.writes_any(item, std::slice::from_ref(name))),
            None => self.writes_any(item, columns),
        }
    }

    /// Will its row not be there any more?
    fn is_gone(&self, item: &Item) -> bool {
        item.what == What::Delete && self.targets[item.target].collection.soft_delete.is_none()
    }

    /// What refers to new rows that are heirs or followers waits as they do.
    fn add_dependents(&self, items: &[Item], stored: &StoredValues, heirs: &mut Heirs) -> Result<()> {
        let keys: Vec<&ValueKey> = self.keys()?.iter().filter(|key| !key.unique).gather();
        let mut referring: HashMap<(usize, Vec<String>), Vec<Item>> = HashMap::new();
        for (place, key) in keys.iter().enumerate().filter(|_| !heirs.givers.is_empty()) {
            let is_known = self.passes_on(key);
            let own = |item: &&Item| self.relation(item.target) == key.child && !item.what.deletes();
            for item in items.iter().filter(own) {
                memory::heed();
                let refers = !is_known || self.moves(item, &key.columns, stored);
                if let Some(values) = self.sent(item, &key.columns).filter(|_| refers) {
                    referring.entry((place, values)).or_default().push(*item);
                }
            }
        }
        let is_new = |item: &Item| !item.changes_row();
        // (In the order of the push: a hash map's is another one each time.)
        let new = || items.iter().copied().filter(is_new);
        let new_heirs = new().filter(|item| heirs.givers.contains_key(item)).map(|heir| (heir, vec![heir]));
        let followers = new().filter_map(|item| Some((item, heirs.heirs.get(&item)?.iter().copied().gather())));
        let mut open: Vec<(Item, Vec<Item>)> = new_heirs.chain(followers).gather();
        // Of rows that are sent with the same values one will be written: they pass on what a few of them wait for.
        let mut done: HashMap<(usize, Vec<String>), Vec<Vec<Item>>> = HashMap::new();
        while let Some((item, waits)) = open.pop() {
            for (place, key) in keys.iter().enumerate().filter(|(_, k)| self.relation(item.target) == k.parent) {
                memory::heed();
                let Some(values) = self.sent(&item, &key.referenced) else { continue };
                let waits = || waits.iter().copied().gather::<Vec<Item>>();
                let passed_on = done.entry((place, values.iter().cloned().gather())).or_default();
                if passed_on.len() >= FEW || passed_on.contains(&waits()) {
                    continue;
                }
                passed_on.push(waits());
                for dependent in referring.get(&(place, values)).into_iter().flatten().filter(|d| **d != item) {
                    memory::heed();
                    let known = heirs.heirs.entry(*dependent).or_default();
                    let more: Vec<Item> = waits().into_iter().filter(|w| !known.contains(w) && w != dependent).gather();
                    if !more.is_empty() {
                        memory::extend(known, more.iter().copied());
                        memory::extend(&mut open, is_new(dependent).then_some((*dependent, more)));
                    }
                }
            }
        }
        heirs.heirs.retain(|_, waits| !waits.is_empty());
        Ok(())
    }

    /// These steps as they are, if nothing is passed on; else without heirs and followers, and then these, layer by layer, parents first. Or givers before all else, with heirs and followers behind them
    /// or in their places: something else of the push may close what they hang on.
    pub(super) fn with_heirs(&self, steps: Vec<Step>) -> Result<Vec<Vec<Step>>> {
        let heirs = self.heirs()?;
        if heirs.is_empty() {
            return Ok(vec![steps]);
        }
        let sorter = Sorter { targets: self.targets, decisions: self.decisions, stages: &self.stages };
        let last = sorter.parents_first(true);
        let layers = || (1..=LAYERS).flat_map(|layer| only(&last, |item| heirs.layer_of(item) == layer));
        let givers: HashSet<Item> = heirs.givers.values().flatten().copied().gather();
        let is_giver = |item: &Item| givers.contains(item) && heirs.layer_of(item) == 0;
        let first = || only(&steps, is_giver).into_iter();
        let others = |item: &Item| heirs.layer_of(item) == 0 && !is_giver(item);
        let layers_last = only(&steps, |item| heirs.layer_of(item) == 0).into_iter().chain(layers());
        let layers_first = first().chain(layers()).chain(only(&steps, others));
        let in_place = first().chain(only(&steps, |item| !is_giver(item)));
        let are_simple = heirs.layers.values().all(|layer| *layer == 1);
        let mut ways = vec![layers_last.gather(), layers_first.gather::<Vec<Step>>()];
        memory::extend(&mut ways, are_simple.then(|| in_place.gather::<Vec<Step>>()));
        Ok(ways)
    }
}

fn add(lists: &mut HashMap<Item, Vec<Item>>, of: Item, item: Item) {
    let list = lists.entry(of).or_default();
    if of != item && !list.contains(&item) {
        list.push(item);
    }
}

impl Heirs {
    pub(super) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    fn layer(&mut self) {
        let all = || self.givers.keys().chain(self.heirs.keys());
        let mut layers: HashMap<Item, usize> = all().map(|item| (*item, 1)).gather();
        for _ in 0..LAYERS {
            let mut changed = false;
            for item in all() {
                memory::heed();
                let of = |item: &Item| layers.get(item).copied().unwrap_or(0);
                let after_givers = self.givers.get(item).into_iter().flatten().map(|giver| of(giver) + 1);
                let with_heirs = self.heirs.get(item).into_iter().flatten().map(of);
                let layer = after_givers.chain(with_heirs).max().unwrap_or(1).min(LAYERS);
                if layer > of(item) {
                    layers.insert(*item, layer);
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        self.layers = layers;
    }

    /// 0: of neither heirs nor followers.
    pub(super) fn layer_of(&self, item: &Item) -> usize {
        self.layers.get(item).copied().unwrap_or(0)
    }

    pub(super) fn follows(&self, item: &Item) -> bool {
        self.heirs.contains_key(item)
    }

    /// Those of these followers that need not wait any more: their heirs are written, so not among these.
    pub(super) fn ready(&self, waiting: impl Iterator<Item = Item>, unwritten: &HashSet<Item>) -> HashSet<Item> {
        let is_open = |item: &Item| self.heirs.get(item).into_iter().flatten().any(|heir| unwritten.contains(heir));
        waiting.filter(|item| !is_open(item)).gather()
    }

    /// Where nobody is ready: the followers that wait in vain, and the givers that they wait for, which have failed. First those givers on which nothing hangs that waits itself.
    pub(super) fn in_vain(&self, waiting: &[Item], unwritten: &HashSet<Item>) -> (HashSet<Item>, HashSet<Item>) {
        let left: HashSet<Item> = waiting.iter().filter_map(|item| self.leaves.get(item)).flatten().copied().gather();
        let givers = |item: &Item| {
            let open = self.heirs.get(item).into_iter().flatten().filter(|heir| unwritten.contains(heir));
            open.filter_map(|heir| self.givers.get(heir)).flatten().copied().gather::<Vec<Item>>()
        };
        let hangs = |item: &Item| givers(item).iter().any(|giver| left.contains(giver));
        let (blocked, free): (Vec<Item>, Vec<Item>) = waiting.iter().copied().gather_parts(hangs);
        let let_in = if free.is_empty() { blocked } else { free };
        let givers = let_in.iter().flat_map(givers).gather();
        (let_in.into_iter().gather(), givers)
    }
}
