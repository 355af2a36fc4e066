//! New rows that refer to each other in a circle, where one statement cannot write them: a policy or a trigger of the one looks for the other, and does not find what the statement is just writing. Whoever
//! worked online created the one without the reference, then the other, and then set the reference. Here they are written in the same two steps ([`TwoSteps`]).
//!
//! Their tables are put in an order: parents first, as keys without nulls have it, and what policies read before those whose policies they are. What these leave open stands in the order of the push, or in the
//! other one ([`TableOrder`]). A reference against that order is left out at first, if its columns may be NULL. So is one within a table, in a circle.

use std::collections::{HashMap, HashSet};

use super::orders::{are_alike, Lacking};
use super::{items, only, Work, Written};
use crate::collections::facts::Facts;
use crate::push::apply::TwoSteps;
use crate::push::item::{Item, What};
use crate::push::order;
use crate::push::statement::Later;
use crate::push::steps::{Foremost, Step};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::subxact::End;

/// New rows, and how they refer to each other.
struct References {
    rows: Vec<Item>,
    /// Of each row the places of those to which it refers, with the number of the key.
    to: Vec<Vec<(usize, usize)>>,
}

/// An order of tables.
#[derive(Clone, Copy)]
pub(super) struct TableOrder {
    /// What is left open stands in the other order of the push.
    turned: bool,
    /// What needs rows of a circle belongs to it, and may come before others of it: functions in their policies may read it, of which nobody knows what they read.
    wide: bool,
}

pub(super) const TABLE_ORDERS: [TableOrder; 4] = [
    TableOrder { turned: false, wide: false },
    TableOrder { turned: true, wide: false },
    TableOrder { turned: false, wide: true },
    TableOrder { turned: true, wide: true },
];

impl TableOrder {
    pub(super) fn is_wide(self) -> bool {
        self.wide
    }
}

/// New rows that refer to each other, or to themselves.
pub(super) struct Circle {
    pub(super) rows: Vec<Item>,
    /// Rows that refer to these, of tables that come between theirs: policies may look for them.
    pub(super) between: Vec<Item>,
}

impl Circle {
    pub(super) fn items(&self) -> impl Iterator<Item = Item> + '_ {
        self.rows.iter().chain(&self.between).copied()
    }
}

/// In which order the tables of a push are inserted into, by the number of their target.
struct TableRanks {
    ranks: Vec<(usize, usize, usize)>,
}

impl Work<'_, '_> {
    /// All of it with its circles in two steps, if it can be written so.
    pub(super) fn in_two_steps(&self, lacking: &mut Vec<Lacking>) -> Result<Option<Written>> {
        let heirs = self.heirs()?;
        let mut tried: Vec<(Vec<Step>, TwoSteps)> = Vec::new();
        for order in [Foremost::Parents, Foremost::Children] {
            let Some(steps) = self.in_order(order)? else { continue };
            for (steps, way) in self.with_heirs(steps)?.iter().flat_map(|steps| TABLE_ORDERS.map(|way| (steps, way))) {
                // (Heirs and followers stay in their places.)
                let is_free = |item: &Item| self.is_new(item) && heirs.layer_of(item) == 0;
                let new: Vec<Item> = items(steps).filter(is_free).gather();
                let Some(linked) = self.linked(&new, way)? else { continue };
                let steps = joined(steps, &linked);
                if tried.iter().any(|(s, l)| are_alike(s, &steps) && *l == linked) {
                    continue;
                }
                let mut deferred = Vec::new();
                match self.write_all((&steps, Some(&linked)), &mut deferred, false)? {
                    Ok(End::Keep(written)) => return Ok(Some(written)),
                    Ok(End::Undo(rows)) => lacking.push(Lacking { order, steps, linked: Some(linked), deferred, rows }),
                    Err(_) => tried.push((steps, linked)),
                }
            }
            if tried.is_empty() {
                // There is no circle; or one that can be written, though something is lacking.
                break;
            }
        }
        Ok(None)
    }

    /// How these new rows are written in two steps; None where there is nothing to be set later, or no such order. (Without those of tables that have nothing to do with what is set later.)
    pub(super) fn linked(&self, new: &[Item], way: TableOrder) -> Result<Option<TwoSteps>> {
        let references = self.references(new)?;
        if references.to.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        let (optional, tables) = (self.optional()?, self.tables(way)?);
        let own = references.ranks_within_tables();
        let (mut later, mut before) = (Later::new(), memory::filled(Vec::new(), new.len()));
        for (place, to) in references.to.iter().enumerate() {
            for &(to, key) in to {
                memory::heed();
                let (table, other) = (tables.rank(&new[place]), tables.rank(&new[to]));
                let is_circle = table == other && own[to].0 == own[place].0 && own[to].1 >= own[place].1;
                if other < table || table == other && !is_circle {
                    memory::extend(&mut before[place], (table == other).then_some(to));
                    continue;
                }
                if optional[key].is_empty() && to != place {
                    return Ok(None);
                }
                for column in &optional[key] {
                    let columns: &mut Vec<String> = later.entry(new[place]).or_default();
                    let is_known = columns.contains(column);
                    memory::extend(columns, (!is_known).then(|| column.clone()));
                }
            }
        }
        if later.is_empty() {
            return Ok(None);
        }
        let concerned: HashSet<usize> = later.keys().map(|item| tables.rank(item).0).gather();
        let mut parts = references.parts(&tables, &own, &before);
        parts.iter_mut().for_each(|part| part.retain(|item| concerned.contains(&tables.rank(item).0)));
        Ok(Some(TwoSteps { parts, later }))
    }

    /// The circles among these.
    pub(super) fn circles_to_link(&self, items: &[Item], way: TableOrder) -> Result<Vec<Circle>> {
        let new: Vec<Item> = items.iter().copied().filter(|item| self.is_new(item)).gather();
        let references = self.references(&new)?;
        let circles = references.circles();
        if circles.is_empty() {
            return Ok(Vec::new());
        }
        Ok(references.with_those_between(circles, &self.tables(way)?))
    }

    fn references(&self, new: &[Item]) -> Result<References> {
        let mut to = memory::filled(Vec::new(), new.len());
        let rows: Vec<Item> = new.iter().copied().gather();
        if rows.is_empty() {
            return Ok(References { rows, to });
        }
        for (number, key) in self.keys()?.iter().enumerate().filter(|(_, key)| !key.unique) {
            let of = |relation: u32| rows.iter().enumerate().filter(move |(_, i)| self.relation(i.target) == relation);
            let parents = of(key.parent).filter_map(|(place, item)| Some((self.sent(item, &key.referenced)?, place)));
            let parents: HashMap<Vec<String>, usize> = parents.gather();
            for (place, item) in of(key.child) {
                memory::heed();
                let parent = self.sent(item, &key.columns).and_then(|values| parents.get(&values).copied());
                memory::extend(&mut to[place], parent.map(|parent| (parent, number)));
            }
        }
        Ok(References { rows, to })
    }

    /// Of each key the columns that can be left out: those that may be NULL, and belong to no other key, if there are such.
    fn optional(&self) -> Result<Vec<Vec<String>>> {
        let mut optional = Vec::new();
        for key in self.keys()? {
            let child = self.targets.iter().find(|target| target.collection.relation.to_u32() == key.child);
            let Some(child) = child.filter(|_| !key.unique) else {
                optional.push(Vec::new());
                continue;
            };
            let may_be_null = |name: &&String| child.collection.column(name).is_some_and(|column| !column.not_null);
            let names: Vec<String> = key.columns.iter().filter(may_be_null).cloned().gather();
            let referring = &Facts::of(&child.collection)?.referring;
            let is_shared = |name: &String| referring.iter().any(|(column, to)| column == name && *to != key.parent);
            let (shared, own) = names.into_iter().gather_parts(is_shared);
            optional.push(if own.is_empty() { shared } else { own });
        }
        Ok(optional)
    }

    fn tables(&self, way: TableOrder) -> Result<TableRanks> {
        let turned = way.turned;
        let place = |table: u32| (0..self.targets.len()).find(|target| self.relation(*target) == table);
        let mut edges = [(); 3].map(|()| memory::filled(Vec::<usize>::new(), self.targets.len()));
        let [all, needed_and_read, needed] = &mut edges;
        for key in self.keys()?.iter().filter(|key| !key.unique && key.child != key.parent) {
            memory::extend(&mut all[place(key.child).unwrap_or(0)], place(key.parent));
        }
        for target in 0..self.targets.len() {
            memory::heed();
            let (collection, table) = (&self.targets[target].collection, self.relation(target));
            let facts = Facts::of(collection)?;
            let others = |table_of: &u32| Some(*table_of).filter(|other| *other != table).and_then(place);
            let needs: Vec<usize> = facts.needs.iter().filter_map(others).gather();
            let read = order::read_by_policies(collection)?;
            let read = facts.read_by_policies.iter().chain(&read).filter_map(others);
            memory::extend(&mut needed_and_read[target], read.chain(needs.iter().copied()));
            memory::extend(&mut all[target], needed_and_read[target].iter().copied());
            memory::extend(&mut needed[target], needs);
        }
        if way.wide {
            widen(all, needed);
        }
        let (circles, read, needed) =
            (order::grades(all, turned), order::grades(needed_and_read, turned), order::ranks(needed, turned));
        let of = |target: usize| place(self.relation(target)).unwrap_or(target);
        let rank = |target: usize| (circles[of(target)], read[of(target)], needed[of(target)]);
        Ok(TableRanks { ranks: (0..self.targets.len()).map(rank).gather() })
    }
}

impl TableRanks {
    /// First the number of the circle that its table is in.
    fn rank(&self, item: &Item) -> (usize, usize, usize) {
        self.ranks[item.target]
    }
}

impl References {
    fn edges(&self, wanted: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
        let of = |(place, to): (usize, &Vec<(usize, usize)>)| {
            to.iter().map(|(to, _)| *to).filter(|to| wanted(place, *to)).gather::<Vec<usize>>()
        };
        self.to.iter().enumerate().map(of).gather()
    }

    /// The places of rows that refer to each other, or to themselves.
    fn circles(&self) -> Vec<Vec<usize>> {
        let all = order::components(&self.edges(|_, _| true)).into_iter();
        let refers_to_itself = |place: usize| self.to[place].iter().any(|(to, _)| *to == place);
        all.filter(|circle| circle.len() > 1 || refers_to_itself(circle[0])).gather()
    }

    /// Of each row the places of those that refer to it.
    fn referring(&self) -> Vec<Vec<usize>> {
        let mut referring = memory::filled(Vec::new(), self.rows.len());
        for (place, to) in self.to.iter().enumerate() {
            memory::heed();
            to.iter().for_each(|(to, _)| memory::extend(&mut referring[*to], [place]));
        }
        referring
    }

    /// These circles, each with what refers to it of tables that come after its first one and before its last. What refers to several comes after them.
    fn with_those_between(&self, circles: Vec<Vec<usize>>, tables: &TableRanks) -> Vec<Circle> {
        let (referring, rank) = (self.referring(), |place: usize| tables.rank(&self.rows[place]));
        let (mut in_circle, mut counts) = (memory::filled(false, self.rows.len()), memory::filled(0, self.rows.len()));
        circles.iter().flatten().for_each(|place| in_circle[*place] = true);
        let mut found: Vec<Vec<usize>> = Vec::new();
        for circle in &circles {
            let (first, last) = (circle.iter().map(|p| rank(*p)).min(), circle.iter().map(|p| rank(*p)).max());
            let (mut taken, mut between): (HashSet<usize>, Vec<usize>) = (HashSet::new(), Vec::new());
            let mut open: Vec<usize> = circle.iter().copied().gather();
            while let Some(place) = open.pop() {
                for &place in &referring[place] {
                    memory::heed();
                    let is_between = !in_circle[place] && Some(rank(place)) > first && Some(rank(place)) < last;
                    // (What two have come to is not gone through for others, however many hang on each other.)
                    if is_between && counts[place] < 2 && taken.insert(place) {
                        counts[place] += 1;
                        memory::extend(&mut between, [place]);
                        memory::extend(&mut open, [place]);
                    }
                }
            }
            found.push(between);
        }
        // Nor does what refers to such a row belong to one of them.
        let mut open: Vec<usize> = (0..counts.len()).filter(|place| counts[*place] > 1).gather();
        while let Some(place) = open.pop() {
            for &place in &referring[place] {
                memory::heed();
                if counts[place] == 1 {
                    counts[place] = 2;
                    memory::extend(&mut open, [place]);
                }
            }
        }
        let of = |places: Vec<usize>| places.into_iter().map(|place| self.rows[place]).gather();
        let only = |between: Vec<usize>| between.into_iter().filter(|place| counts[*place] == 1).gather();
        let circle = |(circle, between)| Circle { rows: of(circle), between: of(only(between)) };
        circles.into_iter().zip(found).map(circle).gather()
    }

    /// Of each row the number of the circle in its own table, and its place. A row comes after those of its table that it refers to, as far as that is no circle.
    fn ranks_within_tables(&self) -> Vec<(usize, usize)> {
        let are_of_one = |one: usize, other: usize| self.rows[one].target == self.rows[other].target;
        let mut ranks = memory::filled((0, 0), self.rows.len());
        let circles = order::components(&self.edges(are_of_one)).into_iter().enumerate();
        let places = circles.flat_map(|(number, circle)| circle.into_iter().map(move |place| (number, place)));
        places.enumerate().for_each(|(rank, (number, place))| ranks[place] = (number, rank));
        ranks
    }

    /// The rows, table by table, each in a part after those of its table that come before it.
    fn parts(&self, tables: &TableRanks, own: &[(usize, usize)], before: &[Vec<usize>]) -> Vec<Vec<Item>> {
        let mut order: Vec<usize> = (0..self.rows.len()).gather();
        memory::sort_by(&mut order, |one, other| own[*one].cmp(&own[*other]));
        let mut parts = memory::filled(0, self.rows.len());
        for place in &order {
            memory::heed();
            parts[*place] = before[*place].iter().map(|before| parts[*before] + 1).max().unwrap_or(0);
        }
        // What goes into one statement stands together.
        let statement = |place: usize| match self.rows[place].what {
            What::Insert(group) => (self.rows[place].target, group),
            _ => (self.rows[place].target, 0),
        };
        let part = |place: usize| (tables.rank(&self.rows[place]), parts[place]);
        let whole = |place: usize| (part(place), statement(place), place);
        memory::sort_by(&mut order, |one, other| whole(*one).cmp(&whole(*other)));
        let parts = order.chunk_by(|one, other| part(*one) == part(*other));
        parts.map(|part| part.iter().map(|place| self.rows[*place]).gather()).gather()
    }
}

/// What needs something of a circle of tables belongs to it from now on.
fn widen(all: &mut [Vec<usize>], needed: &[Vec<usize>]) {
    let grades = order::grades(all, false);
    let mut counts = memory::filled(0, grades.len());
    grades.iter().for_each(|grade| counts[*grade] += 1);
    let mut open: Vec<usize> = (0..grades.len()).filter(|table| counts[grades[*table]] > 1).gather();
    let mut known: HashSet<usize> = open.iter().copied().gather();
    while let Some(table) = open.pop() {
        memory::heed();
        let needing: Vec<usize> = (0..needed.len()).filter(|other| needed[*other].contains(&table)).gather();
        memory::extend(&mut open, needing.iter().copied().filter(|other| known.insert(*other)));
        memory::extend(&mut all[table], needing);
    }
}

/// These steps, with what is written in two in the place of the first that has some of it.
fn joined(steps: &[Step], linked: &TwoSteps) -> Vec<Step> {
    let taken: HashSet<Item> = linked.items().gather();
    let place = steps.iter().position(|step| step.items.iter().any(|item| taken.contains(item))).unwrap_or(0);
    let rest = |steps: &[Step]| only(steps, |item| !taken.contains(item));
    let step = Step { items: linked.items().gather(), together: true };
    rest(&steps[..place]).into_iter().chain([step]).chain(rest(&steps[place..])).gather()
}
