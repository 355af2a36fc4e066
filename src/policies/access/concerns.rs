//! Whom changes in access tables concern.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::CString;
use std::rc::Rc;

use pgrx::pg_sys;

use super::analysis::{Analysis, Level, Occurrence};
use super::{depends, for_each_policy, Declared, OwnedReads};
use crate::server::error::Result;
use crate::server::pg;

/// Whom a change of a row in an access table concerns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Concerns {
    Everybody,
    /// Those who may see the row.
    WhoSees,
    /// Those for whom one of these holds.
    Satisfying {
        trees: Vec<CString>,
        texts: Vec<String>,
        /// What the texts may call.
        calls: Rc<BTreeSet<String>>,
    },
}

/// One of the ways in which a table reads another.
#[derive(Debug)]
pub struct TableReading {
    pub concerns: Concerns,
    /// Functions read it: the policies' trees do not show how.
    pub hidden: bool,
}

/// How policies read a table.
#[derive(Default, Clone)]
struct PolicyReadings {
    /// What they ask of its rows alone, at one place or another.
    conditions: Vec<CString>,
    /// There is a place where they ask nothing.
    any_unasked: bool,
    /// They read a partition, whose columns may have other numbers.
    any_of_part: bool,
}

/// How a table reads others, to tell whom changes in these concern. However many they are, names are looked up once, and the policies are read
/// once, if at all.
pub struct Readings {
    relation: pg_sys::Oid,
    /// By the roots of their trees.
    declared: HashMap<pg_sys::Oid, Vec<Option<String>>>,
    /// The owner has declared one without a predicate.
    any_past: bool,
    /// Those that inherit from declared ones: who reads these reads them, too.
    inheriting: HashSet<pg_sys::Oid>,
    by_scopes: HashMap<pg_sys::Oid, Vec<Option<String>>>,
    /// What the owner's texts may call.
    calls: Rc<BTreeSet<String>>,
    by_policies: OnceCell<HashMap<pg_sys::Oid, PolicyReadings>>,
}

impl Readings {
    /// Those of `relation`, by its settings and its policies.
    pub fn of(relation: pg_sys::Oid, declared: Option<&str>, owned_reads: Option<&str>) -> Result<Readings> {
        let declared: Vec<_> =
            Declared::of(declared)?.0.into_iter().map(|(access, said)| (access, said.predicate)).collect();
        let named: Vec<_> = declared.iter().map(|(access, _)| *access).collect();
        let inheriting = depends::children(&named)?.into_iter().map(pg::root_of).collect();
        let declared = by_root(declared);
        let owned_reads = OwnedReads::stored(owned_reads);
        let there = depends::by_name(owned_reads.tables.keys())?;
        let by_scopes = owned_reads.tables.iter();
        let by_scopes = by_scopes.filter_map(|(name, predicate)| Some((there.get(name)?.oid, predicate.clone())));
        Ok(Readings {
            relation,
            inheriting,
            any_past: declared.values().flatten().any(Option::is_none),
            declared,
            by_scopes: by_root(by_scopes.collect()),
            calls: Rc::new(owned_reads.calls()),
            by_policies: OnceCell::new(),
        })
    }

    /// The ways in which `access` is read, and whom its changes concern by each. What was found out when the tables were last looked at (`stored`) says how to tell; the trees are
    /// taken from the policies as they are now.
    pub fn of_table(&self, access: pg_sys::Oid, stored: Option<&str>) -> Result<Vec<TableReading>> {
        let declared = self.declared.get(&access);
        let hidden = declared.is_some();
        // Without a predicate, all that such a table or view rests on counts, too, and is nowhere named.
        let hidden_so = hidden || self.any_past || self.inheriting.contains(&access);
        let everybody = || vec![TableReading { concerns: Concerns::Everybody, hidden: hidden_so }];
        match stored {
            None => return Ok(vec![TableReading { concerns: Concerns::WhoSees, hidden }]),
            Some("true") => return Ok(everybody()),
            Some(_) => {}
        }
        let (Some(texts), Some(by_scopes)) = (all(declared), all(self.by_scopes.get(&access))) else {
            return Ok(everybody());
        };
        let PolicyReadings { conditions: trees, any_unasked, any_of_part } =
            self.by_policies()?.get(&access).cloned().unwrap_or_default();
        if any_of_part {
            return Ok(everybody());
        }
        let satisfying = |trees, texts| Concerns::Satisfying { trees, texts, calls: Rc::clone(&self.calls) };
        // Where the owner names the table, he speaks for what functions read. Where policies, or `scope_values`, read the table themselves, their own
        // conditions hold, or, at a place without any, what the table's policies let the caller see.
        let mut readings = Vec::new();
        if hidden {
            readings.push(TableReading { concerns: satisfying(Vec::new(), texts), hidden });
        }
        if any_unasked {
            readings.push(TableReading { concerns: Concerns::WhoSees, hidden: false });
        } else if !(trees.is_empty() && by_scopes.is_empty()) {
            readings.push(TableReading { concerns: satisfying(trees, by_scopes), hidden: false });
        }
        Ok(if readings.is_empty() { everybody() } else { readings })
    }

    fn by_policies(&self) -> Result<&HashMap<pg_sys::Oid, PolicyReadings>> {
        if let Some(known) = self.by_policies.get() {
            return Ok(known);
        }
        let found = by_policies(self.relation)?;
        Ok(self.by_policies.get_or_init(|| found))
    }
}

fn by_root<T>(named: Vec<(pg_sys::Oid, T)>) -> HashMap<pg_sys::Oid, Vec<T>> {
    let mut by_root: HashMap<pg_sys::Oid, Vec<T>> = HashMap::new();
    named.into_iter().for_each(|(table, said)| by_root.entry(pg::root_of(table)).or_default().push(said));
    by_root
}

/// What the owner has said; None where he has said nothing of one place.
fn all(said: Option<&Vec<Option<String>>>) -> Option<Vec<String>> {
    said.into_iter().flatten().cloned().collect()
}

/// How the policies of `relation` read others.
fn by_policies(relation: pg_sys::Oid) -> Result<HashMap<pg_sys::Oid, PolicyReadings>> {
    let mut occurrences = Vec::new();
    for_each_policy(relation, |node| {
        // SAFETY: a policy's tree, which is only read.
        unsafe { Analysis::of(relation, &mut occurrences, None).expression(node, &[Level::Policy]) }
    })?;
    let mut readings: HashMap<pg_sys::Oid, PolicyReadings> = HashMap::new();
    for Occurrence { relation, predicate, .. } in occurrences {
        let (table, root) = (pg_sys::Oid::from(relation), pg::root_of(relation.into()));
        let reading = readings.entry(root).or_default();
        reading.any_of_part |= table != root;
        reading.any_unasked |= predicate.is_none();
        reading.conditions.extend(predicate.map(|p| p.tree));
    }
    for PolicyReadings { conditions, .. } in readings.values_mut() {
        conditions.sort_unstable();
        conditions.dedup();
    }
    Ok(readings)
}
