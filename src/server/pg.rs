//! Small safe wrappers over server calls that several modules need.

use std::ffi::{c_char, CStr, CString};

use pgrx::{pg_sys, IntoDatum};

use crate::server::error::{code, Remembering, Result, SyncError};
use crate::server::session::{Cached, Event};

mod own_rows;
mod own_table;
mod scratch;
mod setting;
mod snapshot;

pub use own_rows::{
    being_made, each_row, has_row_of, has_row_with, is_being_changed, made_since, only_row, others_have_changed,
    row_by_name, versions_since, CatalogIndex, OwnRow,
};
pub use own_table::{own_index, OwnIndexes, OwnTable, OwnWriter, WrittenBy, DROPPED, REGTABLE};
pub use scratch::{Lasting, PerRow, Scratch};
pub use setting::has_setting_of_dumps;
pub use snapshot::{full_xid, next_command, next_full_xid, ActiveSnapshot, Beheld, KeptSnapshot};

thread_local! {
    /// The extension's own relations, as far as they have been looked up: 2 % of a one-row transaction.
    static RELATIONS: Cached<Vec<(&'static CStr, pg_sys::Oid)>> = Cached::until(Event::Definition);
}

/// The Oid of one of the extension's own relations; None where the extension is gone. (A relation that has got another name is an ERROR: who
/// writes without it would lose what he writes.)
pub fn relation_if_created(name: &'static CStr) -> Result<Option<pg_sys::Oid>> {
    match relation_oid(name) {
        Ok(oid) => Ok(Some(oid)),
        // SAFETY: a look at pg_extension, inside a transaction.
        Err(_) if unsafe { pg_sys::get_extension_oid(c"snapsync".as_ptr(), true) } == pg_sys::InvalidOid => Ok(None),
        Err(e) => Err(e),
    }
}

/// The Oid of one of the extension's own relations.
pub fn relation_oid(name: &'static CStr) -> Result<pg_sys::Oid> {
    let then = RELATIONS.with(Cached::now);
    let known = RELATIONS.with(|r| r.look(|all| all.iter().find(|(n, _)| *n == name).map(|(_, oid)| *oid)));
    if let Some(oid) = known {
        return Ok(oid);
    }
    // SAFETY: syscache lookups by name; both strings are NUL-terminated.
    let oid = unsafe {
        let schema = pg_sys::get_namespace_oid(c"snapsync".as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            schema
        } else {
            pg_sys::get_relname_relid(name.as_ptr(), schema)
        }
    };
    if oid == pg_sys::InvalidOid {
        return Err(SyncError::new(
            code::UNDEFINED_TABLE,
            format!("relation \"snapsync.{}\" does not exist", name.to_string_lossy()),
        )
        .hint("Run CREATE EXTENSION snapsync in this database; or, if the relation was given another name, give it its own again."));
    }
    RELATIONS.with(|r| r.remember(then, |all| all.push((name, oid))));
    Ok(oid)
}

/// One of the extension's own relations, and the file that its rows are in: what is known of them holds as long as both are the same. They are
/// others once the extension was created anew, by a restore say, or the table was emptied by TRUNCATE.
pub type OwnFile = (pg_sys::Oid, u32);

pub fn own_file(name: &'static CStr) -> Result<OwnFile> {
    let relation = relation_oid(name)?;
    // SAFETY: a syscache look-up; the tuple is released, and only a number leaves.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            return Ok((relation, 0));
        }
        let file = (*(pg_sys::GETSTRUCT(tuple) as pg_sys::Form_pg_class)).relfilenode.to_u32();
        pg_sys::ReleaseSysCache(tuple);
        Ok((relation, file))
    }
}

/// `name` as an SQL identifier, quoted where it must be.
pub fn ident(name: &str) -> String {
    let name = CString::new(name.replace('\0', "")).unwrap_or_default();
    // SAFETY: quote_identifier returns its argument or a palloc'd copy; both live until we have copied them.
    unsafe { CStr::from_ptr(pg_sys::quote_identifier(name.as_ptr())).to_string_lossy().into_owned() }
}

/// `text` as an SQL literal.
pub fn literal(text: &str) -> String {
    let text = CString::new(text.replace('\0', "")).unwrap_or_default();
    // SAFETY: quote_literal_cstr returns a palloc'd string that we copy at once.
    unsafe { CStr::from_ptr(pg_sys::quote_literal_cstr(text.as_ptr())).to_string_lossy().into_owned() }
}

/// `schema.name` of a relation, quoted, and its bare name; None when it does not exist (any more).
pub fn qualified_name(relation: pg_sys::Oid) -> Option<(String, String)> {
    // SAFETY: lsyscache lookups that return palloc'd copies or NULL.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        if name.is_null() {
            return None;
        }
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        if schema.is_null() {
            return None;
        }
        let (name, schema) = (CStr::from_ptr(name).to_string_lossy(), CStr::from_ptr(schema).to_string_lossy());
        Some((format!("{}.{}", ident(&schema), ident(&name)), name.into_owned()))
    }
}

/// Has the relation a column of this name?
pub fn has_column(relation: pg_sys::Oid, name: &str) -> bool {
    let Ok(name) = CString::new(name) else { return false };
    // SAFETY: a syscache look-up; a dropped column is not found.
    unsafe { pg_sys::get_attnum(relation, name.as_ptr()) != pg_sys::InvalidAttrNumber as i16 }
}

/// The table of this name, quoted as regclass writes it; None where there is none.
pub fn table_of_name(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: to_regclass takes a text and returns an Oid, or null; then a syscache look-up.
    unsafe {
        let name = name.to_string_lossy();
        let found: Option<pg_sys::Oid> = pgrx::direct_function_call(pg_sys::to_regclass, &[name.as_ref().into_datum()]);
        let kind = |oid| pg_sys::get_rel_relkind(oid) as u8;
        found.filter(|oid| matches!(kind(*oid), pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE))
    }
}

/// Is it a type whose values are object Oids, but whose text form is the object's current name (regclass, regrole, ...)?
pub fn is_object_name(base: pg_sys::Oid) -> bool {
    matches!(
        base,
        pg_sys::REGCLASSOID
            | pg_sys::REGCOLLATIONOID
            | pg_sys::REGCONFIGOID
            | pg_sys::REGDICTIONARYOID
            | pg_sys::REGNAMESPACEOID
            | pg_sys::REGOPEROID
            | pg_sys::REGOPERATOROID
            | pg_sys::REGPROCOID
            | pg_sys::REGPROCEDUREOID
            | pg_sys::REGROLEOID
            | pg_sys::REGTYPEOID
    )
}

/// The calling role, as policies and privileges see it.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::GetUserId() }
}

/// Refuses a command that writes, in PostgreSQL's words, where the transaction may not: what is written past the SQL layer nothing else would refuse.
pub fn check_may_write(command: &CStr) {
    let _remembering = Remembering::start();
    // SAFETY: reads a variable of this backend.
    unsafe { pg_sys::PreventCommandIfReadOnly(command.as_ptr()) }
}

pub fn in_recovery() -> bool {
    // SAFETY: reads shared state; no preconditions.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// REPEATABLE READ or SERIALIZABLE: one snapshot for the whole transaction, taken before we were called.
pub fn transaction_snapshot_is_fixed() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Is this the number of the running transaction, or of a part of it?
pub fn is_own_transaction(xid: pg_sys::TransactionId) -> bool {
    // SAFETY: a look at the backend's own state.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(xid) }
}

/// A relation that is in use: while this lives, not even this session, whose own lock does not hold it up, can alter it. Functions of
/// users' run in the middle of a pull, and what was read of a table must go on describing its rows.
pub struct InUse(pg_sys::Relation);

impl InUse {
    /// The relation exists and is locked.
    pub fn mark(relation: pg_sys::Oid) -> InUse {
        // SAFETY: see above; a relation that is no more is an ERROR.
        InUse(unsafe { pg_sys::relation_open(relation, pg_sys::NoLock as i32) })
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        // While an ERROR unwinds through us the (sub)transaction's abort closes it.
        if !std::thread::panicking() {
            // SAFETY: opened in `mark`.
            unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as i32) }
        }
    }
}

/// Locks a relation against DDL until the transaction ends, as any query on it would.
pub fn lock_for_reading(relation: pg_sys::Oid) {
    // SAFETY: an ordinary heavyweight lock; waits are interruptible. Also processes pending invalidations.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::AccessShareLock as i32) }
}

/// The same, unless another session keeps the table to itself: then it is false, and nobody waits.
pub fn lock_without_waiting(relation: pg_sys::Oid) -> bool {
    // SAFETY: as above.
    unsafe { pg_sys::ConditionalLockRelationOid(relation, pg_sys::AccessShareLock as i32) }
}

/// Locks a relation against everybody until the transaction ends, as dropping a trigger there does; false, and no lock, where anybody uses it.
pub fn lock_alone_without_waiting(relation: pg_sys::Oid) -> bool {
    // SAFETY: as above.
    unsafe { pg_sys::ConditionalLockRelationOid(relation, pg_sys::AccessExclusiveLock as i32) }
}

/// Locks a table against DDL of others (and VACUUM) until the transaction ends, not against who reads or writes its rows.
pub fn lock_against_ddl(relation: pg_sys::Oid) {
    // SAFETY: as above.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::ShareUpdateExclusiveLock as i32) }
}

/// Locks for changing a table's triggers; the second one holds whom the first one holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TableLock {
    /// Against who writes its rows, and DDL of others.
    Writers,
    /// Against everybody.
    All,
}

impl TableLock {
    fn mode(self) -> i32 {
        let mode = match self {
            TableLock::Writers => pg_sys::ShareRowExclusiveLock,
            TableLock::All => pg_sys::AccessExclusiveLock,
        };
        mode as i32
    }
}

/// Locks a table until the transaction ends.
pub fn lock_table(relation: pg_sys::Oid, lock: TableLock) {
    // SAFETY: as above.
    unsafe { pg_sys::LockRelationOid(relation, lock.mode()) }
}

/// The same; false, and no lock, where that would have to wait.
pub fn lock_table_without_waiting(relation: pg_sys::Oid, lock: TableLock) -> bool {
    // SAFETY: as above.
    unsafe { pg_sys::ConditionalLockRelationOid(relation, lock.mode()) }
}

/// Processes what other sessions have committed of DDL, so that no cache is older.
pub fn accept_invalidations() {
    // SAFETY: may run the callbacks that we registered, which only set flags.
    unsafe { pg_sys::AcceptInvalidationMessages() }
}

/// May the caller SELECT this column?
pub fn may_select(relation: pg_sys::Oid, attnum: i16) -> bool {
    const ACL_SELECT: pg_sys::AclMode = 1 << 1;
    // SAFETY: catalog lookups on an existing relation (the caller holds a lock).
    unsafe {
        let user = pg_sys::GetUserId();
        pg_sys::pg_class_aclcheck(relation, user, ACL_SELECT) == pg_sys::AclResult::ACLCHECK_OK
            || pg_sys::pg_attribute_aclcheck(relation, attnum, user, ACL_SELECT) == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Why the caller may do nothing at all with a table's rows.
pub enum Barred {
    /// He may not enter the schema of this name.
    Schema(String),
    /// He has no privilege, not even on a column, on the table of this name.
    Table(String),
}

/// What keeps the caller from a table, whatever he wants of it; None where he may do something, or where there is no such table
/// (any more). Needs no lock on the table, so that nobody locks what he may not touch.
pub fn barred(relation: pg_sys::Oid) -> Option<Barred> {
    const COLUMNS: pg_sys::AclMode = 1 << 0 | 1 << 1 | 1 << 2;
    const TABLE: pg_sys::AclMode = COLUMNS | 1 << 3;
    // SAFETY: catalog look-ups that say so when the relation is gone, and palloc'd copies of names, or NULL.
    unsafe {
        let (user, schema) = (pg_sys::GetUserId(), pg_sys::get_rel_namespace(relation));
        if schema == pg_sys::InvalidOid {
            return None;
        }
        let text = |name: *mut c_char| (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned());
        if !may_enter(schema, user) {
            return text(pg_sys::get_namespace_name(schema)).map(Barred::Schema);
        }
        let mut is_missing = false;
        let may = pg_sys::pg_class_aclcheck_ext(relation, user, TABLE, &mut is_missing)
            == pg_sys::AclResult::ACLCHECK_OK
            || !is_missing && may_with_a_column(relation, user, COLUMNS, &mut is_missing);
        if may || is_missing {
            return None;
        }
        text(pg_sys::get_rel_name(relation)).map(Barred::Table)
    }
}

/// # Safety
/// An existing schema, inside a transaction.
unsafe fn may_enter(schema: pg_sys::Oid, user: pg_sys::Oid) -> bool {
    const ACL_USAGE: pg_sys::AclMode = 1 << 8;
    // SAFETY: see above.
    unsafe {
        #[cfg(feature = "pg15")]
        let result = pg_sys::pg_namespace_aclcheck(schema, user, ACL_USAGE);
        #[cfg(not(feature = "pg15"))]
        let result = pg_sys::object_aclcheck(pg_sys::NamespaceRelationId, schema, user, ACL_USAGE);
        result == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Has the role one of these privileges on any column?
///
/// # Safety
/// Inside a transaction.
unsafe fn may_with_a_column(
    relation: pg_sys::Oid,
    user: pg_sys::Oid,
    mode: pg_sys::AclMode,
    is_missing: &mut bool,
) -> bool {
    let any = pg_sys::AclMaskHow::ACLMASK_ANY;
    // SAFETY: catalog look-ups; before PostgreSQL 17 a relation that is gone is one without privileges.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        let result = {
            let _ = is_missing;
            pg_sys::pg_attribute_aclcheck_all(relation, user, mode, any)
        };
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        let result = pg_sys::pg_attribute_aclcheck_all_ext(relation, user, mode, any, is_missing);
        result == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// What a role may do to a table's rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privilege {
    Insert,
    Update,
    Delete,
}

impl Privilege {
    fn mode(self) -> pg_sys::AclMode {
        match self {
            Privilege::Insert => 1 << 0,
            Privilege::Update => 1 << 2,
            Privilege::Delete => 1 << 3,
        }
    }
}

/// Has the caller this privilege on the table or on any of its columns? (`has_any_column_privilege()`, without the 25 us of
/// a statement: a push asks three times.)
pub fn may(relation: pg_sys::Oid, privilege: Privilege) -> bool {
    let mode = privilege.mode();
    // SAFETY: catalog look-ups on an existing relation (the caller holds a lock).
    unsafe {
        let user = pg_sys::GetUserId();
        let any = pg_sys::AclMaskHow::ACLMASK_ANY;
        pg_sys::pg_class_aclcheck(relation, user, mode) == pg_sys::AclResult::ACLCHECK_OK
            || privilege != Privilege::Delete
                && pg_sys::pg_attribute_aclcheck_all(relation, user, mode, any) == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// May the caller INSERT or UPDATE this column?
pub fn may_write(relation: pg_sys::Oid, privilege: Privilege, attnum: i16) -> bool {
    let mode = privilege.mode();
    // SAFETY: catalog look-ups on an existing relation (the caller holds a lock).
    unsafe {
        let user = pg_sys::GetUserId();
        pg_sys::pg_class_aclcheck(relation, user, mode) == pg_sys::AclResult::ACLCHECK_OK
            || pg_sys::pg_attribute_aclcheck(relation, attnum, user, mode) == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Does row-level security filter this table for the calling role? (`row_security_active()`.)
pub fn rls_active(relation: pg_sys::Oid) -> bool {
    // SAFETY: catalog lookups; noError = true, so `row_security = off` does not raise here but in the query itself.
    unsafe {
        pg_sys::check_enable_rls(relation, pg_sys::InvalidOid, true) == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
    }
}

/// Is the calling role one for which policies never run?
pub fn bypasses_policies() -> bool {
    // SAFETY: syscache look-ups.
    unsafe { pg_sys::superuser() || pg_sys::has_bypassrls_privilege(pg_sys::GetUserId()) }
}

/// May the calling role act as this one?
pub fn has_rights_of(role: pg_sys::Oid) -> bool {
    // SAFETY: syscache look-ups.
    unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), role) }
}

/// Has somebody connected who may act as the extension's owner, whoever's role the session has taken since? A dump may take each
/// owner's in turn.
pub fn owner_is_connected() -> Result<bool> {
    let owner = super::spi::owner(relation_oid(c"collection")?)?;
    // SAFETY: reads variables of this backend; syscache look-ups.
    unsafe { Ok(pg_sys::has_privs_of_role(pg_sys::GetAuthenticatedUserId(), owner)) }
}

/// The name of a role.
pub fn role_name(role: pg_sys::Oid) -> Result<CString> {
    // SAFETY: a syscache look-up that returns a palloc'd copy or NULL.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() {
            return Err(SyncError::new(code::INTERNAL, format!("role {} has vanished", role.to_u32())));
        }
        let copy = CStr::from_ptr(name).to_owned();
        pg_sys::pfree(name.cast());
        Ok(copy)
    }
}

/// Server functions that pgrx's bindings leave out (utils/datum.h, catalog/partition.h).
mod unbound {
    use pgrx::pg_sys;

    // SAFETY: as in these headers.
    unsafe extern "C-unwind" {
        pub fn datum_image_eq(a: pg_sys::Datum, b: pg_sys::Datum, by_value: bool, length: i32) -> bool;
        pub fn get_partition_ancestors(relation: pg_sys::Oid) -> *mut pg_sys::List;
    }
}

/// Are two datums of one type the same, byte for byte after detoasting?
///
/// # Safety
/// Both are non-null datums of a type with this typbyval and typlen.
pub unsafe fn datum_image_eq(a: pg_sys::Datum, b: pg_sys::Datum, by_value: bool, length: i16) -> bool {
    // SAFETY: see above; the boundary turns an ERROR (a TOAST read that fails) into an unwinding panic.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| unbound::datum_image_eq(a, b, by_value, i32::from(length))) }
}

/// The root of the partition tree that `relation` is in; itself when it is no partition.
pub fn root_of(relation: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: catalog look-ups; the list is palloc'd and its last member is the topmost ancestor.
    unsafe {
        if !pg_sys::get_rel_relispartition(relation) {
            return relation;
        }
        let ancestors = pg_sys::ffi::pg_guard_ffi_boundary(|| unbound::get_partition_ancestors(relation));
        if ancestors.is_null() || (*ancestors).length == 0 {
            return relation;
        }
        (*(*ancestors).elements.add((*ancestors).length as usize - 1)).oid_value
    }
}

/// Which database of which cluster this is.
pub fn database() -> (pg_sys::Oid, u64) {
    // SAFETY: reads a variable of this backend, and the control file's copy in shared memory.
    unsafe { (pg_sys::MyDatabaseId, pg_sys::GetSystemIdentifier()) }
}

/// What only this cluster and its standbys know: no SQL function shows it. (Made by initdb to answer who logs in under a name that is not
/// there; MOCK_AUTH_NONCE_LEN of catalog/pg_control.h.)
pub fn secret() -> [u8; 32] {
    // SAFETY: a pointer to that many bytes of the control file's copy in shared memory, which never change.
    unsafe { *pg_sys::GetMockAuthenticationNonce().cast::<[u8; 32]>() }
}

/// Under the domains that there may be.
pub fn base_type(type_oid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a syscache look-up; a type that is gone is an ERROR.
    unsafe { pg_sys::getBaseType(type_oid) }
}

/// Lets all backends look at the relation anew, when this transaction commits.
pub fn invalidate(relation: pg_sys::Oid) {
    // SAFETY: an existing relation; one that is gone is an ERROR.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) }
}

/// The attribute number `i` (from 0) of a descriptor.
///
/// # Safety
/// `descriptor` is valid and has more than `i` attributes; the result lives as long as it does.
pub unsafe fn attribute<'a>(descriptor: pg_sys::TupleDesc, i: usize) -> &'a pg_sys::FormData_pg_attribute {
    // SAFETY: see above. PostgreSQL 18 moved the attributes behind an array of compact ones.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return &*(*descriptor).attrs.as_ptr().add(i);
        #[cfg(feature = "pg18")]
        return &*pg_sys::TupleDescAttr(descriptor, i as i32);
    }
}
