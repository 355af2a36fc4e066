//! The event triggers: tracked tables stay right when their columns, policies, partitions or readers change.

use std::collections::BTreeMap;
use std::ffi::CStr;

use pgrx::pg_sys;

use crate::collections::shape::{self, dependency, Because};
use crate::collections::{registry, triggers};
use crate::server::error::{code, Result, SyncError};
use crate::server::{memory, pg, spi, trigger};

mod emptied;
mod own;
mod parts;

pub use emptied::emptied;
pub use own::before_index;

fn is_event_trigger(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    // SAFETY: fcinfo is valid; its context says what kind of call this is (CALLED_AS_EVENT_TRIGGER).
    let called_right = unsafe {
        let context = (*fcinfo).context;
        !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_EventTriggerData
    };
    if called_right {
        return Ok(());
    }
    Err(SyncError::new("39P03", "this function can only be called by an event trigger")
        .hint("It works by itself; there is nothing to call."))
}

/// The tables that a command concerns of which PostgreSQL does not say what it touched. None: it does.
fn unlisted(fcinfo: pg_sys::FunctionCallInfo) -> Result<Option<BTreeMap<u32, Because>>> {
    let is = |tag| statement::<pg_sys::Node>(fcinfo, tag).is_some();
    use pg_sys::NodeTag::{T_CreateSubscriptionStmt, T_DropOwnedStmt, T_DropSubscriptionStmt};
    let mut concerned = if is(T_DropOwnedStmt) {
        // SAFETY: inside a transaction. The command has written under this number, if it has written anything.
        let own = unsafe { pg_sys::GetCurrentTransactionIdIfAny() };
        tables_concerned(BY_OWNED, &[spi::arg(u32::from(own).to_string())])?
    } else if is(T_CreateSubscriptionStmt) || is(T_DropSubscriptionStmt) {
        tables_concerned(BY_SUBSCRIPTION, &[])?
    } else {
        return Ok(None);
    };
    // None of these tables is what the command names.
    concerned.values_mut().for_each(|why| *why = (*why).min(Because::Elsewhere));
    Ok(Some(concerned))
}

/// What makes or describes things of which no table knows yet, and changes nothing that is there; and DROP, which `on_drop` sees.
fn touches_nothing(fcinfo: pg_sys::FunctionCallInfo) -> Result<bool> {
    if let Some(function) = statement::<pg_sys::CreateFunctionStmt>(fcinfo, pg_sys::NodeTag::T_CreateFunctionStmt) {
        // SAFETY: a node of this type.
        let replaces = unsafe { (*function).replace };
        return Ok(!replaces && !is_missed()?);
    }
    // SAFETY: as above.
    Ok(unsafe {
        let tree = (*(*fcinfo).context.cast::<pg_sys::EventTriggerData>()).parsetree;
        use pg_sys::NodeTag::{
            T_AlterDefaultPrivilegesStmt, T_AlterSeqStmt, T_AlterStatsStmt, T_CommentStmt, T_CreateSeqStmt,
            T_CreateStatsStmt, T_DropStmt, T_IndexStmt, T_SecLabelStmt,
        };
        let tags = [
            T_AlterDefaultPrivilegesStmt,
            T_AlterSeqStmt,
            T_AlterStatsStmt,
            T_CommentStmt,
            T_CreateSeqStmt,
            T_CreateStatsStmt,
            T_DropStmt,
            T_IndexStmt,
            T_SecLabelStmt,
        ];
        !tree.is_null() && tags.contains(&(*tree).type_)
    })
}

/// Has the command made a function that settings name, and that was not there? It may be a dropped one that is made anew.
fn is_missed() -> Result<bool> {
    if !dependency::misses_functions()? {
        return Ok(false);
    }
    let rows = spi::read_now(
        "SELECT 1 FROM (SELECT objid::regprocedure::text AS name FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_proc'::regclass OFFSET 0) AS made \
         CROSS JOIN LATERAL (SELECT classid, objid FROM snapsync.dependency WHERE name = made.name AND name IS NOT NULL OFFSET 0) AS d \
         WHERE d.classid = 'pg_proc'::regclass AND d.objid = 0 LIMIT 1",
        &[],
    )?;
    Ok(!rows.is_empty())
}

/// Does it change what the policies of a table read?
fn changes_policies(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    let is = |tag| statement::<pg_sys::Node>(fcinfo, tag).is_some();
    is(pg_sys::NodeTag::T_CreatePolicyStmt)
        || is(pg_sys::NodeTag::T_AlterPolicyStmt)
        || alters(fcinfo, pg_sys::AlterTableType::AT_EnableRowSecurity)
}

/// Is it ALTER TABLE with this among what it does?
fn alters(fcinfo: pg_sys::FunctionCallInfo, what: pg_sys::AlterTableType::Type) -> bool {
    // SAFETY: as above; nodes with these tags are of these types, and `cmds` is a list of AlterTableCmd.
    unsafe {
        let tree = (*(*fcinfo).context.cast::<pg_sys::EventTriggerData>()).parsetree;
        if tree.is_null() || (*tree).type_ != pg_sys::NodeTag::T_AlterTableStmt {
            return false;
        }
        let commands = (*tree.cast::<pg_sys::AlterTableStmt>()).cmds;
        let mut commands = spi::pointers::<pg_sys::AlterTableCmd>(commands).into_iter();
        commands.any(|c| (*c).subtype == what)
    }
}

/// The command's parse tree, if it is of this kind.
fn statement<T>(fcinfo: pg_sys::FunctionCallInfo, tag: pg_sys::NodeTag) -> Option<*mut T> {
    // SAFETY: as above; the caller names the type that nodes with this tag are of.
    unsafe {
        let tree = (*(*fcinfo).context.cast::<pg_sys::EventTriggerData>()).parsetree;
        (!tree.is_null() && (*tree).type_ == tag).then(|| tree.cast())
    }
}

/// What is renamed, where something is.
fn renames(fcinfo: pg_sys::FunctionCallInfo) -> Option<pg_sys::ObjectType::Type> {
    let rename = statement::<pg_sys::RenameStmt>(fcinfo, pg_sys::NodeTag::T_RenameStmt);
    // SAFETY: a node of this type.
    rename.map(|r| unsafe { (*r).renameType })
}

/// Is it a relation, as which kind ever? ALTER INDEX ... RENAME renames tables, too.
fn renames_relation(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    use pg_sys::ObjectType::{
        OBJECT_FOREIGN_TABLE, OBJECT_INDEX, OBJECT_MATVIEW, OBJECT_SEQUENCE, OBJECT_TABLE, OBJECT_VIEW,
    };
    let relations = [OBJECT_FOREIGN_TABLE, OBJECT_INDEX, OBJECT_MATVIEW, OBJECT_SEQUENCE, OBJECT_TABLE, OBJECT_VIEW];
    renames(fcinfo).is_some_and(|kind| relations.contains(&kind))
}

/// Looks again at the tables that rest on what a command has touched.
pub fn on_command_end(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    is_event_trigger(fcinfo)?;
    if touches_nothing(fcinfo)? {
        return Ok(());
    }
    own::refuse_altered(fcinfo)?;
    if renames(fcinfo) == Some(pg_sys::ObjectType::OBJECT_TRIGGER)
        || statement::<pg_sys::Node>(fcinfo, pg_sys::NodeTag::T_AlterObjectDependsStmt).is_some()
    {
        return refuse_altered_trigger();
    }
    let makes_trigger = statement::<pg_sys::Node>(fcinfo, pg_sys::NodeTag::T_CreateTrigStmt).is_some();
    if makes_trigger {
        refuse_forged_trigger()?;
    }
    follow_rename(fcinfo)?;
    if renames(fcinfo) == Some(pg_sys::ObjectType::OBJECT_TABCONSTRAINT) {
        shape::unenforced::renamed()?;
    }
    // (Before it is asked what that concerns: of a table with many parts that takes as long as there are, with each of these.)
    if restoring()? {
        return Ok(());
    }
    if let Some(touched) = unlisted(fcinfo)? {
        return look_again(touched);
    }
    let grants = statement::<pg_sys::Node>(fcinfo, pg_sys::NodeTag::T_GrantStmt).is_some()
        || statement::<pg_sys::Node>(fcinfo, pg_sys::NodeTag::T_CreateSchemaStmt).is_some();
    let granted = if grants { tables_granted()? } else { Vec::new() };
    let mut concerned = tables_concerned(BY_COMMANDS, &[spi::arg(granted)])?;
    if renames(fcinfo) == Some(pg_sys::ObjectType::OBJECT_SCHEMA) {
        for (table, why) in tables_concerned(BY_SCHEMA, &[])? {
            concerned.entry(table).and_modify(|w| *w = why.max(*w)).or_insert(why);
        }
    }
    forget_former(&mut concerned)?;
    if makes_trigger {
        // It takes no more than the TRIGGER privilege: whoever has made it need not be the table's owner.
        concerned.values_mut().for_each(|why| *why = (*why).min(Because::Elsewhere));
    }
    if changes_policies(fcinfo) {
        let own = concerned.values_mut().filter(|why| **why == Because::Altered);
        own.for_each(|why| *why = Because::Vouched);
    }
    if renames_relation(fcinfo) {
        say_who_has_the_name()?;
    }
    mark_keys_off(fcinfo)?;
    mark_keys_anew(fcinfo)?;
    if concerned.is_empty() {
        return Ok(());
    }
    if alters(fcinfo, pg_sys::AlterTableType::AT_AttachPartition) {
        parts::refuse_partitions()?;
    }
    parts::note(fcinfo)?;
    look_again(concerned)?;
    shape::parts::forget();
    Ok(())
}

/// Foreign keys whose triggers the command has switched off, or which come so with a partition.
fn mark_keys_off(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    use pg_sys::AlterTableType::{AT_AttachPartition, AT_DisableTrig, AT_DisableTrigAll, AT_EnableReplicaTrig};
    let kinds = [AT_AttachPartition, AT_DisableTrig, AT_DisableTrigAll, AT_EnableReplicaTrig];
    if !kinds.into_iter().any(|kind| alters(fcinfo, kind)) {
        return Ok(());
    }
    const ALTERED: &str = "SELECT objid FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_class'::regclass";
    for row in &spi::read_now(ALTERED, &[])? {
        memory::heed();
        shape::unenforced::switched(pg::root_of(row.oid(0)))?;
    }
    Ok(())
}

/// Foreign keys that PostgreSQL makes anew, because a column gets another type, and of which it tells nobody.
fn mark_keys_anew(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    if !alters(fcinfo, pg_sys::AlterTableType::AT_AlterColumnType) {
        return Ok(());
    }
    const ALTERED: &str = "SELECT DISTINCT part.oid \
         FROM (SELECT array_agg(objid) AS oids FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_class'::regclass) AS own \
         CROSS JOIN LATERAL snapsync.reached(own.oids, $1) AS reached(oid) CROSS JOIN LATERAL snapsync.parts(reached.oid) AS part(oid)";
    for row in &spi::read_now(ALTERED, &[spi::arg(pg::current_user())])? {
        memory::heed();
        shape::unenforced::made_anew(row.oid(0))?;
    }
    Ok(())
}

/// A new table has nothing to do with one that had its number before and was dropped, of which something could not be forgotten then, and no
/// command has since (shape/lost.rs).
fn forget_former(concerned: &mut BTreeMap<u32, Because>) -> Result<()> {
    // (Somebody's own event trigger may have enabled it already.)
    const FORMER: &str = "SELECT DISTINCT d.objid FROM pg_event_trigger_ddl_commands() AS d \
         CROSS JOIN LATERAL (SELECT FROM snapsync.collection WHERE relation = d.objid OFFSET 0) AS c \
         WHERE d.classid = 'pg_class'::regclass AND d.command_tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE FOREIGN TABLE')";
    if !concerned.values().any(|why| *why == Because::Altered) {
        return Ok(());
    }
    for row in &spi::read_as_before(FORMER, &[])? {
        memory::heed();
        shape::forget_dropped(row.oid(0))?;
        concerned.remove(&row.oid(0).to_u32());
    }
    Ok(())
}

const RENAMED: &str = include_str!("ddl/renamed.sql");

/// Settings name columns, which are known by their numbers where the table was looked at in this database (shape/follow.rs). Where it was not,
/// the command itself says which one has got another name.
fn follow_rename(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    use pg_sys::ObjectType::{OBJECT_ATTRIBUTE, OBJECT_COLUMN};
    let Some(rename) = statement::<pg_sys::RenameStmt>(fcinfo, pg_sys::NodeTag::T_RenameStmt) else { return Ok(()) };
    // SAFETY: a node of this type; such a command has both names, NUL-terminated.
    let (old, new) = unsafe {
        if ![OBJECT_ATTRIBUTE, OBJECT_COLUMN].contains(&(*rename).renameType) {
            return Ok(());
        }
        let text = |name| CStr::from_ptr(name).to_string_lossy().into_owned();
        (text((*rename).subname), text((*rename).newname))
    };
    for row in &spi::read_now(RENAMED, &[spi::arg(old.as_str()), spi::arg(new.as_str()), spi::arg(pg::current_user())])?
    {
        memory::heed();
        shape::rename(row.oid(0), &old, &new)?;
    }
    Ok(())
}

/// A relation with Oid 0 stands for all: nothing is known yet of what they rest on.
fn look_again(concerned: BTreeMap<u32, Because>) -> Result<()> {
    if concerned.contains_key(&0) && !(dumps_settings()? && pg::owner_is_connected()? && triggers::is_any_incomplete()?)
    {
        shape::look_at_all()?;
    }
    // What others' tables rest on is not known before their first look, and may have been found by another database's Oids.
    let is_unknown = concerned.contains_key(&0) && dependency::are_foreign()?;
    let concerned: Vec<_> = concerned.into_iter().filter(|(c, _)| *c != 0).collect();
    let mut complete = Vec::new();
    for (relation, why) in concerned {
        let relation = pg_sys::Oid::from(relation);
        if is_unknown && !registry::may(relation, registry::Right::Own)? && dependency::is_unseen(relation)? {
            continue;
        }
        if !dumps_settings()? || triggers::is_complete(relation)? {
            complete.push((relation, why));
        } else {
            // A dump is being loaded over what is there, or somebody has its settings: until the table has all its triggers nothing is
            // sure of it.
            shape::put_off(relation, why, "it has not all its triggers")?;
        }
    }
    shape::look_again(&complete)
}

const BY_COMMANDS: &str = concat!(include_str!("ddl/by_commands.sql"), include_str!("ddl/concerned.sql"));
const BY_SCHEMA: &str = concat!(include_str!("ddl/by_schema.sql"), include_str!("ddl/concerned.sql"));
const BY_DROP: &str = concat!(include_str!("ddl/by_drop.sql"), include_str!("ddl/concerned.sql"));
const BY_OWNED: &str = concat!(include_str!("ddl/by_owned.sql"), include_str!("ddl/concerned.sql"));
const BY_SUBSCRIPTION: &str = concat!(include_str!("ddl/by_subscription.sql"), include_str!("ddl/concerned.sql"));

/// The tracked tables that rest on what a command has touched, as one of these statements finds them, and why. Those that other sessions are about
/// to make rest on it, whose look may have seen it as it was before, are put off: not every command locks out who looks.
fn tables_concerned(sql: &str, args: &[spi::Arg]) -> Result<BTreeMap<u32, Because>> {
    let [database, system] = dependency::database();
    let role = spi::arg(pg::current_user());
    let args: Vec<spi::Arg> = [database, system, role].into_iter().chain(args.iter().copied()).collect();
    let (mut concerned, mut objects) = (BTreeMap::new(), Vec::new());
    let since = pg::KeptSnapshot::latest();
    for row in spi::read_now(sql, &args)? {
        let why = match row.text(1) {
            Some("own") => Because::Altered,
            Some("due") => Because::Due,
            Some("elsewhere") => Because::Elsewhere,
            catalog => {
                objects.extend(catalog.and_then(|c| c.parse::<u32>().ok()).map(|c| (c.into(), row.oid(0))));
                continue;
            }
        };
        concerned.entry(row.oid(0).to_u32()).and_modify(|w: &mut Because| *w = why.max(*w)).or_insert(why);
    }
    shape::put_off_others(&objects, &since)?;
    Ok(concerned)
}

/// The tables in the commands' GRANTs and REVOKEs, of which PostgreSQL lists no objects; the collected command has them.
fn tables_granted() -> Result<Vec<pg_sys::Oid>> {
    let mut granted = Vec::new();
    each_collected(|command| {
        // SAFETY: of a grant it is the variant `grant`, whose objects are Oids.
        unsafe {
            if command.type_ != pg_sys::CollectedCommandType::SCT_Grant {
                return;
            }
            let grant = command.d.grant.istmt;
            if (*grant).objtype == pg_sys::ObjectType::OBJECT_TABLE {
                let objects = (*grant).objects;
                let length = if objects.is_null() { 0 } else { (*objects).length as usize };
                granted.extend((0..length).map(|i| (*(*objects).elements.add(i)).oid_value));
            }
        }
    })?;
    Ok(granted)
}

/// What PostgreSQL has recorded of the command, or of each part of it.
fn each_collected(mut each: impl FnMut(&pg_sys::CollectedCommand)) -> Result<()> {
    spi::as_owner(|| {
        // SAFETY: within an SPI connection. The column is of type pg_ddl_command, a pointer to a CollectedCommand that lives as long
        // as the event trigger runs.
        unsafe {
            let _connection = spi::Connection::open()?;
            let sql = c"SELECT command FROM pg_event_trigger_ddl_commands()";
            if pg_sys::SPI_execute(sql.as_ptr(), true, 0) != pg_sys::SPI_OK_SELECT as i32 {
                return Ok(());
            }
            let table = pg_sys::SPI_tuptable;
            for i in 0..pg_sys::SPI_processed as usize {
                let mut null = false;
                let datum = pg_sys::SPI_getbinval(*(*table).vals.add(i), (*table).tupdesc, 1, &mut null);
                if !null {
                    each(&*datum.cast_mut_ptr::<pg_sys::CollectedCommand>());
                }
            }
            Ok(())
        }
    })
}

/// Forgets tables that are dropped, and looks again at those that rest on what was.
pub fn on_drop(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    is_event_trigger(fcinfo)?;
    // With DROP EXTENSION our own tables are on their way out.
    if pg::relation_if_created(c"collection")?.is_none() || pg::relation_if_created(c"dependency")?.is_none() {
        return Ok(());
    }
    own::refuse_dropped()?;
    let mut concerned = tables_concerned(BY_DROP, &[])?;
    // Settings like a dump's are no dump: whoever is left is looked at again below.
    refuse_dropped_triggers(&mut concerned)?;
    if concerned.is_empty() {
        return Ok(());
    }
    let dropped = spi::read_now(
        "SELECT d.objid FROM pg_event_trigger_dropped_objects() AS d \
         CROSS JOIN LATERAL (SELECT FROM snapsync.collection WHERE relation = d.objid OFFSET 0) AS c \
         WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0",
        &[],
    )?;
    for row in &dropped {
        shape::forget_dropped(row.oid(0))?;
        concerned.remove(&row.oid(0).to_u32());
    }
    for (table, _) in concerned.iter().filter(|(table, why)| **table != 0 && **why == Because::Altered) {
        memory::heed();
        shape::unenforced::dropped((*table).into())?;
    }
    if restoring()? {
        return Ok(());
    }
    let_go_what_fell(&mut concerned)?;
    // (With a partition that is detached constraints may go.)
    parts::note(fcinfo)?;
    look_again(concerned)?;
    shape::parts::forget();
    Ok(())
}

const DROPPED_DIRECTLY: &str = include_str!("ddl/dropped_directly.sql");

/// What a table's owner drops of it is refused if the table cannot be synced without (shape/follow.rs). What goes with something else,
/// by CASCADE, is not: types, schemas and roles are others', who would have to keep them for whoever makes a table of them. There it is
/// as if `snapsync.disable()` had been called.
fn let_go_what_fell(concerned: &mut BTreeMap<u32, Because>) -> Result<()> {
    let own = concerned.iter().filter(|(table, why)| **table != 0 && **why == Because::Altered);
    let own: Vec<u32> = own.map(|(table, _)| *table).collect();
    for table in own {
        memory::heed();
        let relation = pg_sys::Oid::from(table);
        let owns = registry::may(relation, registry::Right::Own)?;
        if owns && !spi::read_now(DROPPED_DIRECTLY, &[spi::arg(relation)])?.is_empty() {
            continue;
        }
        if registry::load(relation)?.is_none_or(|stored| stored.name.is_none()) {
            continue;
        }
        if shape::is_fit(relation)? {
            // A stranger waits for nobody there.
            concerned.insert(table, if owns { Because::Altered } else { Because::Elsewhere });
            continue;
        }
        stop_syncing(relation, concerned)?;
        let table = pg::qualified_name(relation).map(|(table, _)| table).unwrap_or_default();
        pgrx::warning!(
            "table {table} is not synced any more: this command took along what it could not be synced without"
        );
    }
    Ok(())
}

/// As if `snapsync.disable()` had been called; those that read the table are to be looked at again.
fn stop_syncing(table: pg_sys::Oid, concerned: &mut BTreeMap<u32, Because>) -> Result<()> {
    triggers::drop(table, || Ok(true))?;
    // In this order, as `disable`. But this command has the table locked already, and everybody waits behind it.
    let detail = "This command takes along what it could not be synced without.";
    shape::only_briefly(table, detail, || registry::lock(table, true))?;
    let readers = shape::readers(table)?;
    shape::forget(table)?;
    concerned.remove(&table.to_u32());
    for reader in readers {
        crate::log::journal::reset(reader)?;
        concerned.entry(reader.to_u32()).or_insert(Because::Elsewhere);
    }
    Ok(())
}

/// Our triggers go with `snapsync.disable()` only. A dump that is loaded over what is there (`pg_dump --clean`) drops them one by one
/// before the tables: there it is as if that had been called.
fn refuse_dropped_triggers(concerned: &mut BTreeMap<u32, Because>) -> Result<()> {
    let dropped = spi::read_now(
        "SELECT objid FROM pg_event_trigger_dropped_objects() \
         WHERE classid = 'pg_trigger'::regclass AND original AND NOT is_temporary \
           AND address_names[3] IN ('00_snapsync_track', '00_snapsync_truncate')",
        &[],
    )?;
    for row in &dropped {
        // PostgreSQL says the table's name, by which another one may be called meanwhile.
        let Some(table) = trigger::table_of_dropped(row.oid(0)).map(pg::root_of) else { continue };
        if registry::load(table)?.is_none() {
            continue;
        }
        // (Anybody may have a dump's settings, and who owns a partition does not own the table.)
        if !dumps_settings()? || !registry::may(table, registry::Right::Own)? {
            return Err(SyncError::new(code::NOT_IN_STATE, "a trigger of snapsync cannot be dropped")
                .detail("Changes would go unnoticed.")
                .hint("Call snapsync.disable() for the table to stop syncing it."));
        }
        stop_syncing(table, concerned)?;
    }
    Ok(())
}

/// The triggers are known by their names, and go with nothing but `snapsync.disable()`.
fn refuse_altered_trigger() -> Result<()> {
    let rows = spi::read_now(
        "SELECT 1 FROM pg_event_trigger_ddl_commands() AS d \
         CROSS JOIN LATERAL (SELECT tgfoid, tgname FROM pg_trigger WHERE oid = d.objid OFFSET 0) AS g \
         WHERE d.classid = 'pg_trigger'::regclass \
           AND (g.tgfoid = 'snapsync.track'::regproc OR g.tgname IN ('00_snapsync_track', '00_snapsync_truncate')) LIMIT 1",
        &[],
    )?;
    if rows.is_empty() {
        return Ok(());
    }
    Err(SyncError::new(code::NOT_IN_STATE, "a trigger of snapsync cannot be altered, nor another be called so")
        .detail("It is known by its name, which also makes it fire before others.")
        .hint("Call snapsync.disable() for the table to stop syncing it."))
}

/// Nobody else makes, or replaces, a trigger by the name of ours on a tracked table: that takes no more than the TRIGGER privilege, and
/// what others' policies read would go unnoticed. A dump makes them as they are wanted.
fn refuse_forged_trigger() -> Result<()> {
    let rows = spi::read_now(
        "SELECT g.tgrelid FROM pg_event_trigger_ddl_commands() AS d \
         CROSS JOIN LATERAL (SELECT tgrelid, tgname FROM pg_trigger WHERE oid = d.objid OFFSET 0) AS g \
         WHERE d.classid = 'pg_trigger'::regclass AND g.tgname IN ('00_snapsync_track', '00_snapsync_truncate')",
        &[],
    )?;
    let mut made = BTreeMap::new();
    for row in &rows {
        let table = pg::root_of(row.oid(0));
        if registry::load(table)?.is_none() {
            continue;
        }
        // (A dump makes one for each partition: to look at all of them each time would take as long as the square of them.)
        if !dumps_settings()? || !triggers::are_ours(table, row.oid(0))? {
            return Err(SyncError::new(code::NOT_IN_STATE, "a trigger of snapsync cannot be made or replaced")
                .detail("Changes would go unnoticed.")
                .hint("Give the trigger another name; or call snapsync.enable() for the table, which makes what is missing."));
        }
        made.insert(table.to_u32(), Because::Altered);
    }
    // It does not fire always yet, which the dump's next command changes.
    if made.is_empty() || restoring()? {
        return Ok(());
    }
    look_again(made)
}

/// A table has got the name by which clients know another one: a new version of it, maybe, that was filled aside.
fn say_who_has_the_name() -> Result<()> {
    let rows = spi::read_now(
        "SELECT c.name, format('%I.%I', n.nspname, r.relname), c.relation::text FROM pg_event_trigger_ddl_commands() AS d \
         CROSS JOIN LATERAL (SELECT oid, relname, relnamespace FROM pg_class WHERE oid = d.objid OFFSET 0) AS r \
         CROSS JOIN LATERAL (SELECT nspname FROM pg_namespace WHERE oid = r.relnamespace OFFSET 0) AS n \
         CROSS JOIN LATERAL (SELECT name, relation FROM snapsync.collection WHERE qualified_name = n.nspname || '.' || r.relname OFFSET 0) AS c \
         WHERE d.classid = 'pg_class'::regclass AND c.relation <> r.oid",
        &[],
    )?;
    for row in &rows {
        pgrx::notice!(
            "collection \"{}\" is still table {}, not {}: call snapsync.disable() and snapsync.enable() to sync the other one",
            row.string(0),
            row.string(2),
            row.string(1)
        );
    }
    Ok(())
}

/// Dumps begin by setting both of these, but so may a migration; with `--enable-row-security` only the first.
fn dumps_settings() -> Result<bool> {
    // SAFETY: reads a variable of this backend. (A query of ours would see it as it is pinned.)
    let security = unsafe { pg_sys::row_security };
    Ok(pg::has_setting_of_dumps() && (!security || pg::owner_is_connected()?))
}

/// Is this a dump being loaded? Then table, data, triggers and policies come one after the other, each complete in the end, and the tables
/// are due for their first look in any case (shape/unseen.rs). It is if it has a dump's settings in a database on which the log's history has
/// not begun yet, because it is another one's, and nobody has looked at the tables yet, nor enabled one. And only somebody who may write the
/// extension's tables can load its part of a dump.
/// Foreign keys were enforced where it comes from, or are known by name.
fn restoring() -> Result<bool> {
    Ok(dumps_settings()?
        && !pg::in_recovery()
        && pg::owner_is_connected()?
        && dependency::are_foreign()?
        && !crate::log::clock::history::is_known()?)
}

/// After ALTER TABLE ... that rewrites the table: its values may have changed without a trigger.
pub fn on_rewrite(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    is_event_trigger(fcinfo)?;
    let rows = spi::read_now("SELECT pg_event_trigger_table_rewrite_oid()", &[])?;
    let Some(relation) = rows.first().map(|r| pg::root_of(r.oid(0))) else { return Ok(()) };
    if !restoring()? && registry::load(relation)?.is_some() {
        crate::log::journal::reset(relation)?;
    }
    Ok(())
}
