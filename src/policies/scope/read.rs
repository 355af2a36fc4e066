//! Which column divides a table's rows among those whom they let see rows of others: that which policies of other tables compare with
//! something of the caller's wherever they read this one (`members.user_id = auth.uid()`). As with a collection's own scope, what the entries
//! carry is decided here, and no more: which of them a pull reads is found out when it runs (sight/reach/part.rs).

use std::collections::BTreeSet;
use std::ffi::CString;

use pgrx::pg_sys;

use super::bound::{dearness, BoundPart, Search};
use super::{columns_compared, ScopeCandidate, CANDIDATES, MOST};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::spi;

/// Who reads a table.
#[derive(Default)]
pub struct Readers {
    /// For each table whose policies or owner's words do.
    pub conditions: Vec<Conditions>,
    /// Some put none, and see what the table's own policies let them: the column that these divide it by.
    pub own: Option<String>,
}

/// Which of a table's rows matter to one that reads it.
#[derive(Default)]
pub struct Conditions {
    /// Those for which one of these conditions of policies is true: nodeToString of expressions over range table entry 1.
    pub trees: Vec<CString>,
    /// And by each text of the owner's: the columns that it bounds (`bounded`).
    pub texts: Vec<BTreeSet<String>>,
}

/// The columns that are equal to something of the caller's wherever one of these conditions on a table's rows is true.
///
/// # Safety
/// Expressions over range table entry 1, which are only read.
pub unsafe fn bounded(relation: pg_sys::Oid, conditions: &[*mut pg_sys::Node]) -> Result<BTreeSet<String>> {
    let (mut compared, mut nodes) = (BTreeSet::new(), 0);
    conditions.iter().for_each(|tree| nodes += columns_compared(*tree, &mut compared));
    let candidates = candidates(relation)?;
    if nodes.saturating_mul(candidates.len()) > MOST {
        return Ok(BTreeSet::new());
    }
    let is_bounded = |c: &ScopeCandidate| {
        let search = Search { column: Some(c.attnum), ..Search::default() };
        compared.contains(&c.attnum) && bound(&search, conditions).is_some()
    };
    Ok(candidates.into_iter().filter(|c| is_bounded(c)).map(|c| c.name).gather())
}

/// Is there a column of this name, and can it be the one?
pub fn can_be(relation: pg_sys::Oid, column: &str) -> Result<bool> {
    Ok(candidates(relation)?.iter().any(|c| c.name == column))
}

fn candidates(relation: pg_sys::Oid) -> Result<Vec<ScopeCandidate>> {
    spi::typed(&spi::read_now(CANDIDATES, &[spi::arg(relation)])?)
}

/// The column that serves the most of them. The known one stays while it serves any, or nothing serves more, because another one means that
/// the clients of all that read the table are reset.
pub fn column(relation: pg_sys::Oid, readers: &Readers, known: Option<&str>) -> Result<Option<String>> {
    let candidates = candidates(relation)?;
    let (mut compared, mut nodes) = (BTreeSet::new(), 0);
    let mut parsed: Vec<(Vec<*mut pg_sys::Node>, &[BTreeSet<String>])> = Vec::new();
    for Conditions { trees, texts } in &readers.conditions {
        memory::heed();
        // SAFETY: the texts of trees that this server wrote, in this session.
        let trees: Vec<*mut pg_sys::Node> =
            trees.iter().map(|tree| unsafe { pg_sys::stringToNode(tree.as_ptr()).cast() }).gather();
        trees.iter().for_each(|tree| nodes += columns_compared(*tree, &mut compared));
        memory::push(&mut parsed, (trees, &texts[..]))?;
    }
    let served = |candidate: &ScopeCandidate| {
        let search = Search { column: Some(candidate.attnum), ..Search::default() };
        let by_texts = parsed.iter().filter(|(_, texts)| texts.iter().all(|text| text.contains(&candidate.name)));
        let bounds =
            by_texts.filter_map(|(trees, _)| if trees.is_empty() { Some(Vec::new()) } else { bound(&search, trees) });
        let own = usize::from(readers.own.as_ref() == Some(&candidate.name));
        bounds.fold((own, 0u8), |(served, dearest), bound| (served + 1, dearest.max(dearness(&bound))))
    };
    let is_known = |candidate: &&ScopeCandidate| known == Some(&*candidate.name);
    let is_named = |c: &ScopeCandidate| parsed.iter().any(|(_, texts)| texts.iter().any(|text| text.contains(&c.name)));
    let is_asked =
        |c: &ScopeCandidate| compared.contains(&c.attnum) || readers.own.as_ref() == Some(&c.name) || is_named(c);
    let few = nodes.saturating_mul(candidates.len()) <= MOST;
    let ranked = candidates.iter().filter(|c| few && is_asked(c)).map(|c| (served(c), c));
    let ranked: Vec<_> = ranked.filter(|((served, _), _)| *served > 0).gather();
    let kept = ranked.iter().map(|(_, c)| *c).find(is_known);
    let best = ranked.iter().min_by_key(|((served, dearest), c)| (std::cmp::Reverse(*served), *dearest, c.attnum));
    let stays = || candidates.iter().find(is_known);
    Ok(kept.or(best.map(|(_, c)| *c)).or_else(stays).map(|c| c.name.clone()))
}

/// What bounds the column in all of these conditions, something of the caller's among it.
fn bound(search: &Search, trees: &[*mut pg_sys::Node]) -> Option<Vec<BoundPart>> {
    // SAFETY: trees of such conditions.
    let parts = trees.iter().map(|tree| unsafe { search.bound(*tree) }).collect::<Option<Vec<_>>>()?;
    let parts: Vec<BoundPart> = parts.into_iter().flatten().gather();
    parts.iter().any(BoundPart::tells).then_some(parts)
}
