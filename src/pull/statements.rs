//! The statements of a pull over a collection's rows.

use super::CollectionPull;
use crate::collections::lookup::Keys;
use crate::server::error::Result;
use crate::server::memory::Gather;
use crate::server::pg;
use crate::server::spi::{self, Planned};
use crate::server::statement::Statement;
use crate::values::json::{self, RowSink, RowSpec};

/// A statement that reads rows by their keys.
pub(super) struct ByKeys<'a> {
    pub sql: String,
    pub args: Vec<spi::Arg>,
    pub keys: Keys<'a>,
}

impl CollectionPull<'_> {
    /// The rows of these keys that the caller sees.
    ///
    /// Few are looked up (lookup.rs). Otherwise the planner, which takes policy and scope for independent, may read all rows of the
    /// user by their index (1,000: 190 us instead of 50), and as no plan for unknown keys looks as good to it, it makes one anew
    /// for each pull (300 us).
    pub(super) fn by_keys<S: AsRef<str>>(&self, select: &str, ids: &[S], marked: bool) -> Result<ByKeys<'_>> {
        let mut args = Vec::new();
        // No index shall serve these: what they leave over is little already.
        let conditions = self.conditions(self.scopes(), &mut args, marked);
        let conditions: String = conditions.iter().map(|c| format!(" AND ({c}) IS TRUE")).gather();
        let keys = Keys::of(self.collection, ids)?;
        let sql = format!("SELECT {select} FROM {}{conditions}", keys.join());
        Ok(ByKeys { sql, args, keys })
    }

    pub(super) fn stream(
        &self,
        beside: &[spi::NamedRelation],
        sql: &str,
        args: &[spi::Arg],
        planned: Planned,
        spec: &RowSpec,
        sink: &mut dyn RowSink,
    ) -> Result<()> {
        let mut writer = json::RowWriter::new(spec, sink);
        // SAFETY: the one query below.
        let mut each = |slot| unsafe { writer.row(slot) };
        let hidden = self.hidden();
        if hidden.is_empty() {
            return spi::stream(beside, sql, args, planned, &mut each).map(drop);
        }
        self.statement(beside, sql, args, &hidden)?.each(&mut each)
    }

    /// The columns that decide what is sent and that the caller may not select: whether a row is marked as deleted, and its scope. That
    /// much he learns of them.
    pub(super) fn hidden(&self) -> Vec<i16> {
        let deciding = [&self.collection.scope, &self.collection.soft_delete].into_iter().flatten();
        deciding.map(|c| c.attnum).filter(|attnum| !pg::may_select(self.collection.relation, *attnum)).gather()
    }

    /// A statement of ours that uses such columns.
    pub(super) fn statement<'s>(
        &self,
        beside: &[spi::NamedRelation],
        sql: &str,
        args: &'s [spi::Arg],
        hidden: &[i16],
    ) -> Result<Statement<'s>> {
        let mut statement = Statement::analyze_beside(beside, sql, args)?;
        statement.use_without_privilege(self.collection.relation, hidden);
        Ok(statement)
    }
}
