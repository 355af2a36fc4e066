//! Whom changes in access tables concern.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::rc::Rc;

use pgrx::pg_sys;

use super::analysis::{Analysis, Level, Occurrence};
use super::{depends, for_each_policy, Declared, OwnedReads};
use crate::server::error::Result;
use crate::server::pg;

/// Whom a change of a row in an access table concerns.
#[derive(Debug)]
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

/// The conditions that policies put on a table's rows alone, at each place where they read it; None for a place without any, or where they
/// read a partition, whose columns may have other numbers.
type PolicyConditions = Vec<Option<CString>>;

/// How a table reads others, to tell whom changes in these concern. However many they are, names are looked up once, and the policies are read
/// once, if at all.
pub struct Readings {
    relation: pg_sys::Oid,
    /// By the roots of their trees.
    declared: HashMap<pg_sys::Oid, Vec<Option<String>>>,
    /// The owner has declared one without a predicate.
    any_past: bool,
    by_scopes: HashMap<pg_sys::Oid, Vec<Option<String>>>,
    /// What the owner's texts may call.
    calls: Rc<BTreeSet<String>>,
    by_policies: OnceCell<HashMap<pg_sys::Oid, PolicyConditions>>,
}

impl Readings {
    /// Those of `relation`, by its settings and its policies.
    pub fn of(relation: pg_sys::Oid, declared: Option<&str>, owned_reads: Option<&str>) -> Result<Readings> {
        let declared = by_root(Declared::of(declared)?.0);
        let owned_reads = OwnedReads::stored(owned_reads);
        let there = depends::by_name(owned_reads.tables.keys())?;
        let by_scopes = owned_reads.tables.iter();
        let by_scopes = by_scopes.filter_map(|(name, predicate)| Some((there.get(name)?.oid, predicate.clone())));
        Ok(Readings {
            relation,
            any_past: declared.values().flatten().any(Option::is_none),
            declared,
            by_scopes: by_root(by_scopes.collect()),
            calls: Rc::new(owned_reads.calls()),
            by_policies: OnceCell::new(),
        })
    }

    /// Whom changes in `access` concern. What was found out when the tables were last looked at (`stored`) says how to tell; the trees are
    /// taken from the policies as they are now.
    pub fn concerns(&self, access: pg_sys::Oid, stored: Option<&str>) -> Result<Concerns> {
        match stored {
            None => return Ok(Concerns::WhoSees),
            Some("true") => return Ok(Concerns::Everybody),
            Some(_) => {}
        }
        // Where the owner names the table, he speaks for what functions read. Where policies, or `scope_values`, read the table themselves, their own
        // conditions hold beside it; a place without any lets every row matter.
        let said = [&self.declared, &self.by_scopes].into_iter().filter_map(|by| by.get(&access)).flatten();
        let Some(texts) = said.cloned().collect::<Option<Vec<String>>>() else { return Ok(Concerns::Everybody) };
        let trees = self.by_policies()?.get(&access).cloned().unwrap_or_default();
        let trees = trees.into_iter().collect::<Option<Vec<CString>>>();
        Ok(match trees {
            Some(trees) if !(trees.is_empty() && texts.is_empty()) => {
                Concerns::Satisfying { trees, texts, calls: Rc::clone(&self.calls) }
            }
            _ => Concerns::Everybody,
        })
    }

    /// Did the owner name `access`, or a table that rests on it, because functions read it?
    pub fn is_declared(&self, access: pg_sys::Oid, concerns: &Concerns) -> bool {
        // Without a predicate, all that such a table or view rests on counts, too, and is nowhere named.
        self.any_past && matches!(concerns, Concerns::Everybody) || self.declared.contains_key(&access)
    }

    fn by_policies(&self) -> Result<&HashMap<pg_sys::Oid, PolicyConditions>> {
        if let Some(known) = self.by_policies.get() {
            return Ok(known);
        }
        let found = conditions(self.relation)?;
        Ok(self.by_policies.get_or_init(|| found))
    }
}

fn by_root<T>(named: Vec<(pg_sys::Oid, T)>) -> HashMap<pg_sys::Oid, Vec<T>> {
    let mut by_root: HashMap<pg_sys::Oid, Vec<T>> = HashMap::new();
    named.into_iter().for_each(|(table, said)| by_root.entry(pg::root_of(table)).or_default().push(said));
    by_root
}

/// The conditions that the policies of `relation` put on the tables that they read.
fn conditions(relation: pg_sys::Oid) -> Result<HashMap<pg_sys::Oid, PolicyConditions>> {
    let mut occurrences = Vec::new();
    for_each_policy(relation, |node| {
        // SAFETY: a policy's tree, which is only read.
        unsafe { Analysis::of(relation, &mut occurrences, None).expression(node, &[Level::Policy]) }
    })?;
    let mut conditions: HashMap<pg_sys::Oid, PolicyConditions> = HashMap::new();
    for Occurrence { relation, predicate, .. } in occurrences {
        let (table, root) = (pg_sys::Oid::from(relation), pg::root_of(relation.into()));
        conditions.entry(root).or_default().push(predicate.filter(|_| table == root).map(|p| p.tree));
    }
    for all in conditions.values_mut() {
        all.sort_unstable();
        all.dedup();
    }
    Ok(conditions)
}
