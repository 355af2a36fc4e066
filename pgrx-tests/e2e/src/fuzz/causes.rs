//! How many pulls were resets, by what had happened since the same client's last pull. Where several things had, the one
//! that comes first in `OpKind` is taken.

use std::collections::{BTreeMap, BTreeSet};

use super::kind::OpKind;

#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub pulls: u64,
    pub with_reset: u64,
    pub collections: u64,
    pub reset: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Causes {
    since: BTreeMap<Option<OpKind>, Count>,
    /// pulls with a collection that was replaced for this reason, and where nothing but rows had changed
    reasons: BTreeMap<String, (u64, u64)>,
    pulls: u64,
}

impl Causes {
    /// A pull that was not the client's first: of so many collections, so many came as resets.
    pub fn note(&mut self, since: &BTreeSet<OpKind>, collections: u64, reset: u64, reasons: &[String]) {
        self.pulls += 1;
        let rows_only = since.first().is_none_or(|kind| *kind > OpKind::Truncate);
        for reason in reasons.iter().collect::<BTreeSet<_>>() {
            let count = self.reasons.entry(reason.clone()).or_default();
            count.0 += 1;
            count.1 += u64::from(rows_only);
        }
        let count = self.since.entry(since.first().copied()).or_default();
        count.pulls += 1;
        count.with_reset += u64::from(reset > 0);
        count.collections += collections;
        count.reset += reset;
    }

    pub fn add(&mut self, other: &Self) {
        self.pulls += other.pulls;
        for (reason, theirs) in &other.reasons {
            let count = self.reasons.entry(reason.clone()).or_default();
            count.0 += theirs.0;
            count.1 += theirs.1;
        }
        for (cause, theirs) in &other.since {
            let count = self.since.entry(*cause).or_default();
            count.pulls += theirs.pulls;
            count.with_reset += theirs.with_reset;
            count.collections += theirs.collections;
            count.reset += theirs.reset;
        }
    }

    pub fn table(&self) -> String {
        let mut out = format!(
            "{:<34} {:>7} {:>11} {:>12} {:>8}\n",
            "since the last pull", "pulls", "with reset", "collections", "reset"
        );
        for (cause, n) in &self.since {
            let name = match cause {
                None => "nothing",
                Some(OpKind::Role) => "role membership, BYPASSRLS",
                Some(OpKind::Security) => "row-level security on/off, owner",
                Some(OpKind::Policy) => "policy DDL",
                Some(OpKind::Function) => "function of a policy",
                Some(OpKind::Partition) => "partition attached, detached",
                Some(OpKind::Columns) => "columns",
                Some(OpKind::Grant) => "grants on tables and columns",
                Some(OpKind::Truncate) => "truncate",
                Some(OpKind::Unrelated) => "DDL of nothing synced, and rows",
                Some(OpKind::Members) => "memberships and rows",
                Some(_) => "rows only",
            };
            out += &format!("{name:<34} {:>7} {:>11} {:>12} {:>8}\n", n.pulls, n.with_reset, n.collections, n.reset);
        }
        out += &format!("{:<34} {:>7} {:>11} {:>12}\n", "reason of a replacement", "pulls", "of all (%)", "rows only");
        for (reason, (all, rows_only)) in &self.reasons {
            let share = *all as f64 * 100.0 / self.pulls.max(1) as f64;
            out += &format!("{reason:<34} {all:>7} {share:>11.2} {rows_only:>12}\n");
        }
        out
    }
}
