//! Which column divides a table's rows among its users, by its policies: that of which every way in asks that it equal something of the
//! caller's. An entry of the log carries its value, so that a pull reads the entries of its caller's values only.
//!
//! Only the column is decided here. What the caller's values are is found anew in the policies that apply to him (sight/scope/derived.rs),
//! and where these do not bound the column, all is read: so a bad choice costs time, and nothing else.

use std::collections::BTreeSet;

use pgrx::pg_sys::{self, NodeTag};
use serde::Deserialize;

use crate::policies::access::tree::walk;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::{pg, spi};

pub mod bound;
pub mod read;

use bound::{dearness, BoundPart, Search};

const POLICIES: &str = include_str!("scope/policies.sql");
const CANDIDATES: &str = include_str!("scope/candidates.sql");

/// What was found.
#[derive(Default, Clone, PartialEq, Debug)]
pub struct ScopeFinding {
    /// The column's name.
    pub column: Option<String>,
    /// Why there is none; or whom it does not serve.
    pub reason: Option<String>,
}

/// A policy that lets rows be selected, or keeps them from it.
struct Policy {
    name: String,
    permissive: bool,
    /// InvalidOid: everybody.
    roles: BTreeSet<u32>,
    condition: *mut pg_sys::Node,
}

/// As the catalog has it.
#[derive(Deserialize)]
struct StoredPolicy {
    name: String,
    permissive: bool,
    roles: BTreeSet<u32>,
    condition: String,
}

impl Policy {
    /// Does it apply to whoever has this role and no other?
    fn applies(&self, role: u32) -> bool {
        self.roles.contains(&0) || self.roles.contains(&role)
    }

    fn bound(&self, search: &Search) -> Option<Vec<BoundPart>> {
        memory::heed();
        // SAFETY: a policy's tree.
        unsafe { search.bound(self.condition) }
    }
}

/// A column that can be a scope.
#[derive(Deserialize)]
struct ScopeCandidate {
    name: String,
    attnum: i16,
}

/// Each column that is compared is tried with each condition, in whatever session looks at the table: so many nodes are looked at, at most.
const MOST: usize = 500_000;

/// What there is to choose from.
struct Choice {
    policies: Vec<Policy>,
    columns: Vec<ScopeCandidate>,
}

impl Choice {
    /// The column that serves the most roles; of these the one whose values are found with the least work.
    fn best(&self) -> Option<&ScopeCandidate> {
        let ranked = self.columns.iter().filter_map(|c| rank(c, &self.policies).map(|rank| (rank, c)));
        let best = ranked.min_by_key(|((served, dearness), c)| (std::cmp::Reverse(*served), *dearness, c.attnum));
        best.map(|(_, column)| column)
    }
}

/// Looks for the column, in the policies as they are now.
pub fn find(relation: pg_sys::Oid) -> Result<ScopeFinding> {
    let choice = match choice(relation)? {
        Ok(choice) => choice,
        Err(none) => return Ok(none),
    };
    Ok(match choice.best() {
        Some(column) => ScopeFinding { column: Some(column.name.clone()), reason: unserved(column, &choice.policies)? },
        None => ScopeFinding { column: None, reason: reason(&choice.policies, &choice.columns) },
    })
}

/// Where the owner has named a column that the policies do not bound, and they do bound another: what that means.
pub fn beside(relation: pg_sys::Oid, named: &str) -> Result<ScopeFinding> {
    let Ok(choice) = choice(relation)? else { return Ok(ScopeFinding::default()) };
    if choice.columns.iter().any(|c| c.name == named && rank(c, &choice.policies).is_some()) {
        return Ok(ScopeFinding::default());
    }
    let reason = choice.best().map(|best| {
        let (named, best) = (pg::ident(named), pg::ident(&best.name));
        format!("scope_column {named} takes the place of {best}, by which the policies divide the rows")
    });
    Ok(ScopeFinding { column: None, reason })
}

/// What the policies compare; or that there is nothing to choose from.
fn choice(relation: pg_sys::Oid) -> Result<std::result::Result<Choice, ScopeFinding>> {
    let stored: Vec<StoredPolicy> = spi::typed(&spi::read_now(POLICIES, &[spi::arg(relation)])?)?;
    let mut policies = Vec::new();
    for StoredPolicy { name, permissive, roles, condition } in stored {
        memory::heed();
        let tree = spi::c_string(&condition)?;
        // SAFETY: pg_policy.polqual is a node tree of this server's version.
        let condition = unsafe { pg_sys::stringToNode(tree.as_ptr()).cast() };
        policies.push(Policy { name, permissive, roles, condition });
    }
    if !policies.iter().any(|p| p.permissive) {
        return Ok(Err(ScopeFinding::default()));
    }
    let columns: Vec<ScopeCandidate> = spi::typed(&spi::read_now(CANDIDATES, &[spi::arg(relation)])?)?;
    let (mut compared, mut nodes) = (BTreeSet::new(), 0);
    policies.iter().for_each(|p| nodes += columns_compared(p.condition, &mut compared));
    let columns: Vec<ScopeCandidate> = columns.into_iter().filter(|c| compared.contains(&c.attnum)).gather();
    if nodes.saturating_mul(columns.len()) > MOST {
        let reason =
            format!("its policies compare {} columns in too many conditions to choose among them", columns.len());
        return Ok(Err(ScopeFinding { column: None, reason: Some(reason) }));
    }
    Ok(Ok(Choice { policies, columns }))
}

/// For how many roles a column is bounded, and how dear that is; None: for none.
fn rank(column: &ScopeCandidate, policies: &[Policy]) -> Option<(usize, u8)> {
    let bounds = bounds(column, policies);
    let dearness: Vec<u8> = roles(policies).into_iter().filter_map(|role| serves(role, &bounds)).collect();
    Some((dearness.len(), dearness.into_iter().max()?))
}

/// Policies, and how each bounds a column.
type Bounds<'a> = Vec<(&'a Policy, Option<Vec<BoundPart>>)>;

fn bounds<'a>(column: &ScopeCandidate, policies: &'a [Policy]) -> Bounds<'a> {
    let search = Search { column: Some(column.attnum), ..Search::default() };
    policies.iter().map(|p| (p, p.bound(&search))).collect()
}

/// Whom permissive policies are for.
fn roles(policies: &[Policy]) -> BTreeSet<u32> {
    policies.iter().filter(|p| p.permissive).flat_map(|p| p.roles.iter().copied()).collect()
}

/// How dear the bound is for whoever has this role and no other; None where there is none.
fn serves(role: u32, bounds: &Bounds) -> Option<u8> {
    let of_role = || bounds.iter().filter(move |(p, _)| p.applies(role));
    let permissive = || of_role().filter(|(p, _)| p.permissive);
    let tells = |sources: &[BoundPart]| sources.iter().any(BoundPart::tells);
    let by_all = permissive().all(|(_, bound)| bound.is_some())
        && permissive().any(|(_, bound)| bound.as_deref().is_some_and(tells));
    let restricting = of_role().filter(|(p, _)| !p.permissive).find(|(_, bound)| bound.as_deref().is_some_and(tells));
    let sources: Vec<&Vec<BoundPart>> = match (by_all, restricting) {
        (true, _) => permissive().filter_map(|(_, bound)| bound.as_ref()).collect(),
        (false, Some((_, bound))) => bound.iter().collect(),
        (false, None) => return None,
    };
    Some(sources.into_iter().map(|s| dearness(s)).fold(0, u8::max))
}

/// So many roles are named.
const NAMED: usize = 5;

/// Whom the column does not serve, for people.
fn unserved(column: &ScopeCandidate, policies: &[Policy]) -> Result<Option<String>> {
    let bounds = bounds(column, policies);
    // To whom a policy shows all rows no change is a foreign one.
    // SAFETY: policies' trees.
    let shows_all = |p: &Policy| p.permissive && unsafe { (*p.condition).type_ == NodeTag::T_Const };
    let mut names = Vec::new();
    for role in roles(policies) {
        let sees_all = policies.iter().any(|p| p.applies(role) && shows_all(p));
        if !sees_all && serves(role, &bounds).is_none() {
            names.push(match role {
                0 => "PUBLIC".to_string(),
                role => pg::ident(&pg::role_name(role.into())?.to_string_lossy()),
            });
        }
    }
    // (A policy has them by their numbers, which hang on when they were made.)
    names.sort_unstable();
    let roles = match &names[..] {
        [] => return Ok(None),
        [one] => format!("role {one}"),
        [few @ .., last] if names.len() <= NAMED => format!("roles {} and {last}", few.join(", ")),
        many => format!("roles {} and {} more", many[..NAMED].join(", "), many.len() - NAMED),
    };
    Ok(Some(format!("{} does not serve {roles}, whose policies do not go by it", pg::ident(&column.name))))
}

/// Why no column is bounded, for people.
fn reason(policies: &[Policy], columns: &[ScopeCandidate]) -> Option<String> {
    let permissive = || policies.iter().filter(|p| p.permissive);
    let tells = |policy: &Policy, search: Search| policy.bound(&search).is_some_and(|s| s.iter().any(BoundPart::tells));
    let by_any = |policy: &Policy, relaxed: Search| {
        columns.iter().any(|c| tells(policy, Search { column: Some(c.attnum), ..relaxed }))
    };
    // A policy that shows all rows makes no change a foreign one.
    // SAFETY: policies' trees.
    if permissive().any(|p| unsafe { (*p.condition).type_ == NodeTag::T_Const }) {
        return None;
    }
    let Some(policy) = permissive().find(|p| !by_any(p, Search::default())) else {
        let names: Vec<String> = permissive().map(|p| pg::ident(&p.name)).collect();
        return Some(format!("policies {} go by different columns", names.join(", ")));
    };
    let name = pg::ident(&policy.name);
    let (any_type, volatile) = (true, true);
    if by_any(policy, Search { volatile, ..Search::default() }) {
        return Some(format!("policy {name} calls a volatile function: declare it STABLE if it is"));
    }
    if !tells(policy, Search { any_type, ..Search::default() }) {
        return Some(format!("policy {name} does not ask that a column equal something of the caller's"));
    }
    // Whichever column, of whichever type.
    if columns.iter().any(|c| tells(policy, Search { column: Some(c.attnum), any_type, ..Search::default() })) {
        return Some(format!("policy {name} compares its column in a way that does not tell its text"));
    }
    if tells(policy, Search::default()) {
        return Some(format!("policy {name} has several ways in, by different columns"));
    }
    Some(format!("policy {name} goes by a column of a type or a collation that cannot be a scope"))
}

/// The columns of the policy's row that a condition compares with something. Returns how many nodes it has.
fn columns_compared(condition: *mut pg_sys::Node, columns: &mut BTreeSet<i16>) -> usize {
    let mut nodes = 0;
    // SAFETY: a policy's tree, which is only read; nodes with these tags are of these types.
    unsafe {
        walk(condition, &mut |n, depth| {
            nodes += 1;
            memory::heed();
            let args = match (*n).type_ {
                NodeTag::T_OpExpr => (*n.cast::<pg_sys::OpExpr>()).args,
                NodeTag::T_ScalarArrayOpExpr => (*n.cast::<pg_sys::ScalarArrayOpExpr>()).args,
                _ => return,
            };
            columns.extend(spi::pointers::<pg_sys::Node>(args).into_iter().filter_map(|x| bound::column_at(x, depth)));
        });
    }
    nodes
}
