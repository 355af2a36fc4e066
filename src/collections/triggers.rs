//! The triggers of tracked tables, and what they say: made to follow from the settings (registry.rs), never the other way round.

use std::collections::BTreeMap;

use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

use crate::collections::registry::{self, Right};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory;
use crate::server::pg::{self, TableLock};
use crate::server::spi;
use crate::server::trigger::{self, Fires};
use crate::values::conflict::ConflictPolicy;

/// The row trigger's name sorts before every ordinary name: triggers fire in alphabetical order, and the first old state of
/// a row must be logged before another AFTER trigger changes the row again.
pub const ROW_TRIGGER: &str = "00_snapsync_track";
pub const TRUNCATE_TRIGGER: &str = "00_snapsync_truncate";

/// What to track of a table: the argument of its triggers, where the relation cache carries it to track.rs, and `\d` shows it.
#[derive(Serialize, Deserialize, Default, Clone, PartialEq, Debug)]
pub struct Spec {
    pub key: Vec<String>,
    /// Columns whose old values decide who could see a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Only these columns are synced; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Log which columns an UPDATE touched: for merging conflicts by column.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub touched: bool,
    /// Rows of other tables hang on its rows by foreign keys: what comes and goes here is told by their entries (access.rs).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parent: bool,
}

/// What the table's triggers must say.
fn spec(relation: pg_sys::Oid) -> Result<Option<Spec>> {
    let Some(s) = registry::load(relation)? else { return Ok(None) };
    let image = registry::image(relation)?;
    // A table that is only tracked for its influence on others: nothing but its images matters.
    let columns = if s.name.is_none() { Some(Vec::new()) } else { s.columns };
    let touched = s.conflict == ConflictPolicy::Merge.name();
    let parent = spi::read_now(
        "SELECT 1 FROM snapsync.access AS a JOIN snapsync.collection AS c ON c.relation = a.relation \
         WHERE a.access = $1 AND a.kind = 'parent' AND NOT a.untracked LIMIT 1",
        &[spi::arg(relation)],
    )?;
    let (scope, exclude, parent) = (registry::logged_scope(relation)?, s.exclude, !parent.is_empty());
    Ok(Some(Spec { key: s.key, image, scope, columns, exclude, touched, parent }))
}

fn written(spec: &Spec) -> Result<String> {
    serde_json::to_string(spec)
        .map_err(|e| SyncError::new(code::INTERNAL, "could not write the trigger's argument").detail(e.to_string()))
}

/// The argument of its triggers. None: the table is not tracked.
pub fn argument(relation: pg_sys::Oid) -> Result<Option<String>> {
    spec(relation)?.as_ref().map(written).transpose()
}

/// Are those of our triggers that are there as the settings want them, on this part of the table and what is below it? When they fire is another
/// matter. They may still tell of parents where nobody hangs on these any more: whoever leaves last may have had no right to change them.
pub fn are_ours(relation: pg_sys::Oid, part: pg_sys::Oid) -> Result<bool> {
    let Some(spec) = spec(relation)? else { return Ok(true) };
    let ours = |state: State| matches!(state, State::Missing | State::Right(_));
    for spec in [Spec { parent: true, ..spec.clone() }, spec] {
        if parts(part, &written(&spec)?)?.iter().all(|p| ours(p.row) && ours(p.truncate)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the triggers of a table and its partitions say what the settings say; touches only those that differ. The row
/// trigger of a partitioned table is cloned to its partitions by Postgres; statement triggers (TRUNCATE) are not. All fire
/// ALWAYS: rows that logical replication applies are changes too. One that is disabled stays so ([`enable`]), which a WARNING
/// says where one is asked for. True when changes may have gone unnoticed: the row trigger was missing, one did not fire always, or was another.
///
/// Who may not change the table's triggers makes and switches on what is missing or off of parts, and leaves what the others say: they say more than they must.
pub fn sync(relation: pg_sys::Oid, warn: bool) -> Result<bool> {
    let aim = if registry::may(relation, Right::Trigger)? { Aim::AllSaySo } else { Aim::AllAreThere };
    let mut plan = TriggerPlan::for_sync(relation, aim)?;
    if !plan.steps.is_empty() {
        plan.check_rights(relation)?;
        plan = under_locks(plan, || TriggerPlan::for_sync(relation, aim))?;
    }
    if !plan.steps.is_empty() {
        // It may be gone since: nobody who is waited for keeps it.
        plan.check_rights(relation)?;
        check_keys(relation)?;
        plan.carry_out()?;
    }
    if let Some((name, table)) = plan.disabled.filter(|_| warn) {
        pgrx::warning!(
            "trigger {name} of {table} is disabled: changes are not tracked until it is enabled, which resets the clients"
        );
    }
    Ok(plan.gap)
}

/// Switches triggers on again that somebody has disabled; true if there were any.
pub fn enable(relation: pg_sys::Oid) -> Result<bool> {
    let mut plan = TriggerPlan::for_enable(relation)?;
    if !plan.steps.is_empty() {
        plan = under_locks(plan, || TriggerPlan::for_enable(relation))?;
        check_keys(relation)?;
        plan.carry_out()?;
    }
    Ok(!plan.steps.is_empty())
}

/// Locks what dropping them takes, and the table itself in any case, against everybody.
pub fn lock_to_drop(relation: pg_sys::Oid) -> Result<()> {
    pg::lock_table(relation, TableLock::All);
    under_locks(TriggerPlan::for_drop(relation)?, || TriggerPlan::for_drop(relation)).map(std::mem::drop)
}

/// Drops them, if `still` says so when they are locked.
pub fn drop(relation: pg_sys::Oid, still: impl FnOnce() -> Result<bool>) -> Result<()> {
    let plan = under_locks(TriggerPlan::for_drop(relation)?, || TriggerPlan::for_drop(relation))?;
    if !plan.steps.is_empty() && still()? {
        plan.carry_out()?;
    }
    Ok(())
}

/// What becomes of one of our triggers.
#[derive(Clone, Copy, PartialEq, Debug)]
enum TriggerStep {
    /// Made, or put in the place of what is there.
    Make(Fires),
    Switch(Fires),
    Drop,
}

/// What a table's triggers are to be.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Aim {
    AllAreThere,
    /// And say what the settings say.
    AllSaySo,
}

/// What is to be done to a table's triggers.
#[derive(Default)]
struct TriggerPlan {
    /// To which part's trigger of which name.
    steps: Vec<(pg_sys::Oid, &'static str, TriggerStep)>,
    /// The parts that are changed, each with the lock that this takes.
    locks: Vec<(pg_sys::Oid, TableLock)>,
    /// What the triggers say.
    argument: String,
    gap: bool,
    /// A trigger that stays disabled, and its table.
    disabled: Option<(&'static str, String)>,
}

impl TriggerPlan {
    fn for_sync(relation: pg_sys::Oid, aim: Aim) -> Result<TriggerPlan> {
        let Some(argument) = argument(relation)? else { return Ok(TriggerPlan::default()) };
        let mut parts = parts(relation, &argument)?;
        if aim == Aim::AllAreThere {
            for state in parts.iter_mut().flat_map(|part| [&mut part.row, &mut part.truncate]) {
                if let State::Wrong(fires) = *state {
                    *state = State::Right(fires);
                }
            }
        }
        let lost = |p: &Part| {
            p.row == State::Missing || [p.row, p.truncate].into_iter().any(|state| matches!(state, State::Forged(_)))
        };
        let mut plan = TriggerPlan { argument, gap: parts.iter().any(lost), ..TriggerPlan::default() };
        // The row trigger of the root brings those of the partitions along, which fire as it does.
        let remade = parts.iter().any(|part| !matches!(part.row, State::Right(_)));
        let fires = |state: State| if state.is_off() { Fires::Never } else { Fires::Always };
        let brought = parts.iter().find(|part| part.root).map(|root| fires(root.row)).filter(|_| remade);
        for part in &parts {
            for (name, state) in [(ROW_TRIGGER, part.row), (TRUNCATE_TRIGGER, part.truncate)] {
                let is_clone = name == ROW_TRIGGER && !part.root;
                let made = !is_clone && if name == ROW_TRIGGER { remade } else { !matches!(state, State::Right(_)) };
                if state.is_off() {
                    plan.disabled = plan.disabled.or_else(|| Some((name, part.table.clone())));
                } else {
                    // A trigger starts as 'O'; of one that was there before it means that somebody has switched it.
                    plan.gap |= matches!(state, State::Right(f) | State::Wrong(f) | State::Forged(f) if f != 'A');
                }
                if made && matches!(state, State::Forged(_)) {
                    // What it is may be nothing that can be replaced.
                    plan.steps.push((part.oid(), name, TriggerStep::Drop));
                }
                // Replaced where it is there, which locks out writers only.
                let step = match brought.filter(|_| is_clone) {
                    _ if made => Some(TriggerStep::Make(fires(state))),
                    Some(brought) => (brought != fires(state)).then(|| TriggerStep::Switch(fires(state))),
                    None => matches!(state, State::Right(f) if f != 'A' && f != 'D')
                        .then_some(TriggerStep::Switch(Fires::Always)),
                };
                plan.steps.extend(step.map(|step| (part.oid(), name, step)));
            }
        }
        Ok(plan.with_locks(&parts))
    }

    /// As CREATE TRIGGER asks it: the TRIGGER privilege on the table, or on the very parts that are changed. (Who owns a part may have no other, and gives it
    /// parts of its own.)
    fn check_rights(&self, relation: pg_sys::Oid) -> Result<()> {
        if registry::may(relation, Right::Trigger)? {
            return Ok(());
        }
        for &(part, ..) in &self.steps {
            memory::heed();
            if part == relation || !registry::may(part, Right::Trigger)? {
                return Err(not_allowed(relation));
            }
        }
        Ok(())
    }

    fn for_enable(relation: pg_sys::Oid) -> Result<TriggerPlan> {
        let parts = parts(relation, "")?;
        let mut plan = TriggerPlan::default();
        for part in &parts {
            let off = [(ROW_TRIGGER, part.row), (TRUNCATE_TRIGGER, part.truncate)].into_iter();
            let off = off.filter(|(_, state)| state.is_off());
            plan.steps.extend(off.map(|(name, _)| (part.oid(), name, TriggerStep::Switch(Fires::Always))));
        }
        Ok(plan.with_locks(&parts))
    }

    fn for_drop(relation: pg_sys::Oid) -> Result<TriggerPlan> {
        let parts = parts(relation, "")?;
        let mut plan = TriggerPlan::default();
        for part in &parts {
            let there = [(TRUNCATE_TRIGGER, part.truncate, true), (ROW_TRIGGER, part.row, part.root)].into_iter();
            let there = there.filter(|(_, state, own)| *own && *state != State::Missing);
            plan.steps.extend(there.map(|(name, ..)| (part.oid(), name, TriggerStep::Drop)));
        }
        Ok(plan.with_locks(&parts))
    }

    /// Nothing but what is changed is locked: others may be at work on partitions for hours (VACUUM, CREATE INDEX CONCURRENTLY), and who
    /// makes one keeps everybody from the whole table meanwhile.
    fn with_locks(self, parts: &[Part]) -> TriggerPlan {
        let mut of_all = None;
        let mut of: BTreeMap<u32, TableLock> = BTreeMap::new();
        for &(table, name, step) in &self.steps {
            let lock = if step == TriggerStep::Drop { TableLock::All } else { TableLock::Writers };
            let has = of.entry(table.to_u32()).or_insert(lock);
            *has = lock.max(*has);
            // The server goes on to the partitions by itself.
            if name == ROW_TRIGGER && !matches!(step, TriggerStep::Switch(_)) {
                of_all = of_all.max(Some(lock));
            }
        }
        let lock_of = |part: &Part| of_all.max(of.get(&part.oid).copied()).map(|lock| (part.oid(), lock));
        TriggerPlan { locks: parts.iter().filter_map(lock_of).collect(), ..self }
    }

    /// As the extension's owner (the caller's right to it has been checked), by the tables' numbers. What is changed is locked, and so is
    /// all that the server looks at for it (`under_locks`); of the tables it evaluates nothing meanwhile (`check_keys`).
    ///
    /// This very session may be using the tables, as it may beside CREATE TRIGGER: a statement under way fires the triggers that were there when it
    /// began, and what it has changed without ours, the transaction's reset says.
    fn carry_out(&self) -> Result<()> {
        pg::check_may_write(c"CREATE TRIGGER");
        spi::as_owner(|| {
            for &(table, name, step) in &self.steps {
                memory::heed();
                match step {
                    TriggerStep::Make(fires) => {
                        let (for_rows, argument) = (name == ROW_TRIGGER, self.argument.as_str());
                        let function = [c"snapsync", c"track"];
                        trigger::make(table, &trigger::Definition { name, for_rows, function, argument, fires })?
                    }
                    TriggerStep::Switch(fires) => trigger::set_fires(table, name, fires)?,
                    TriggerStep::Drop => trigger::remove(table, name)?,
                }
            }
            Ok(())
        })
    }
}

/// What is to be done, when all is locked that this changes: meanwhile others may have done some of it, or changed which parts there are.
fn under_locks(mut plan: TriggerPlan, look: impl Fn() -> Result<TriggerPlan>) -> Result<TriggerPlan> {
    let mut held: BTreeMap<u32, TableLock> = BTreeMap::new();
    loop {
        let is_new = |(table, lock): &&(pg_sys::Oid, TableLock)| held.get(&table.to_u32()).is_none_or(|has| has < lock);
        let new: Vec<_> = plan.locks.iter().filter(is_new).copied().collect();
        if new.is_empty() {
            return Ok(plan);
        }
        for (table, lock) in new {
            memory::heed();
            pg::lock_table(table, lock);
            held.insert(table.to_u32(), lock);
        }
        plan = look()?;
    }
}

/// The server evaluates a partition key when it first looks at it, in whatever session and with whatever rights that is; so triggers are made
/// only where no key has an expression. It looks at the keys of all parts where it makes a trigger for rows, for which
/// they are locked, so that none comes or goes; and nobody can give a table another key.
fn check_keys(relation: pg_sys::Oid) -> Result<()> {
    let keys = spi::read_now("SELECT snapsync.has_expression_key($1)", &[spi::arg(relation)])?;
    if keys.first().is_some_and(|row| row.bool(0)) {
        return Err(SyncError::new(
            code::WRONG_OBJECT_TYPE,
            "cannot make triggers on a table whose partition key has an expression",
        )
        .hint("Partition it by columns."));
    }
    Ok(())
}

/// Does the table have its row trigger? It has not in the middle of a restore.
pub fn is_installed(relation: pg_sys::Oid) -> Result<bool> {
    let rows = spi::read_now(
        "SELECT 1 FROM pg_trigger WHERE tgrelid = $1 AND tgname = $2::name",
        &[spi::arg(relation), spi::arg(ROW_TRIGGER)],
    )?;
    Ok(!rows.is_empty())
}

/// Has it, and have its partitions, all of their triggers? Not in the middle of a restore.
pub fn is_complete(relation: pg_sys::Oid) -> Result<bool> {
    Ok(parts(relation, "")?.iter().all(|p| p.row != State::Missing && p.truncate != State::Missing))
}

/// Has any tracked table, or a partition of one, not all of its triggers?
pub fn is_any_incomplete() -> Result<bool> {
    let rows = spi::read_now(
        "SELECT 1 FROM snapsync.collection AS c CROSS JOIN LATERAL ( \
             SELECT * FROM snapsync.parts(c.relation)) AS part(oid) \
         CROSS JOIN LATERAL (SELECT oid FROM pg_class WHERE oid = part.oid AND relkind IN ('r', 'p') OFFSET 0) AS r \
         WHERE (SELECT count(*) FROM pg_trigger AS g WHERE g.tgrelid = r.oid AND g.tgname IN ($1::name, $2::name)) < 2 LIMIT 1",
        &[spi::arg(ROW_TRIGGER), spi::arg(TRUNCATE_TRIGGER)],
    )?;
    Ok(!rows.is_empty())
}

/// How one of our triggers stands, and when it fires (`pg_trigger.tgenabled`).
#[derive(Deserialize, Clone, Copy, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
enum State {
    Missing,
    /// It is called like ours, and is another kind of trigger.
    Forged(char),
    /// It says something else than it must.
    Wrong(char),
    Right(char),
}

impl State {
    /// Somebody has disabled it.
    fn is_off(self) -> bool {
        matches!(self, State::Right('D') | State::Wrong('D') | State::Forged('D'))
    }
}

/// One relation of a partition tree (or the table itself).
#[derive(Deserialize)]
struct Part {
    oid: u32,
    #[serde(skip)]
    table: String,
    root: bool,
    row: State,
    truncate: State,
}

impl Part {
    fn oid(&self) -> pg_sys::Oid {
        self.oid.into()
    }
}

const PARTS: &str = include_str!("triggers/parts.sql");

/// The table and its partitions with the state of their triggers, which are right if they have this argument.
fn parts(relation: pg_sys::Oid, argument: &str) -> Result<Vec<Part>> {
    let args = [spi::arg(relation), spi::arg(argument), spi::arg(ROW_TRIGGER), spi::arg(TRUNCATE_TRIGGER)];
    let parts: Vec<Part> = spi::typed(&spi::read_now(PARTS, &args)?)?;
    let named = |part: Part| pg::qualified_name(part.oid.into()).map(|(table, _)| Part { table, ..part });
    Ok(parts.into_iter().filter_map(named).collect())
}

/// An error that says that a table's triggers would have to change, which the session's role may not do.
pub fn not_allowed(relation: pg_sys::Oid) -> SyncError {
    let table = pg::qualified_name(relation).map(|(table, _)| table).unwrap_or_default();
    SyncError::new(code::INSUFFICIENT_PRIVILEGE, format!("permission denied to track table {table}"))
        .detail("Its triggers have to be changed, which takes the TRIGGER privilege on it.")
        .hint("Let somebody who has it call snapsync.enable() for the table that reads it.")
}
