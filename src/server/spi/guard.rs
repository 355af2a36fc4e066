//! Under whose rights and under which settings SQL is read and run.
//!
//! Three guards, which nest. [`pinned`]: what SQL text means, and how values are written, does not depend on the session.
//! [`as_owner`]: with the rights of the extension's owner, for constant statements of ours over catalogs and our own tables.
//! [`as_table_owner`]: with the rights of a table's owner and no more, for what that owner can put SQL into.

use std::cell::Cell;
use std::ffi::{c_char, c_int, CStr};

use pgrx::pg_sys;

use super::c_string;
use super::planner::Planner;
use crate::server::error::{code, Result, SyncError};

/// Schemas that nobody but superusers can create objects in, the temporary one last: it would come first otherwise.
const PATH: &CStr = c"pg_catalog, pg_temp";

/// A setting that changes what SQL text means or how values are written, and its value here.
struct Pin {
    name: &'static CStr,
    value: &'static CStr,
    /// Has it this value, or one that comes to the same?
    holds: fn() -> bool,
}

/// Server variables that pgrx's bindings leave out (utils/bytea.h, utils/xml.h, utils/pg_locale.h).
mod unbound {
    use std::ffi::{c_char, c_int};

    // SAFETY: as in these headers.
    unsafe extern "C" {
        pub static bytea_output: c_int;
        pub static xmlbinary: c_int;
        pub static xmloption: c_int;
        pub static locale_monetary: *const c_char;
    }
}

/// BYTEA_OUTPUT_HEX, XMLBINARY_BASE64 and XMLOPTION_CONTENT of those headers.
const BYTEA_HEX: c_int = 1;
const XML_BASE64: c_int = 0;
const XML_CONTENT: c_int = 1;

macro_rules! pin {
    ($name:literal, $value:literal, $holds:expr) => {
        // SAFETY: reads variables of this backend, which guc.c has set to valid values.
        Pin { name: $name, value: $value, holds: || unsafe { $holds } }
    };
}

/// As pg_dump has them, whose texts any server reads back exactly (so IntervalStyle is `postgres`).
static PINS: [Pin; 15] = [
    pin!(c"DateStyle", c"ISO, MDY", {
        pg_sys::DateStyle == pg_sys::USE_ISO_DATES as c_int && pg_sys::DateOrder == pg_sys::DATEORDER_MDY as c_int
    }),
    pin!(c"IntervalStyle", c"postgres", pg_sys::IntervalStyle == pg_sys::INTSTYLE_POSTGRES as c_int),
    pin!(c"TimeZone", c"UTC", is_utc()),
    // From 1 on as many digits as it takes.
    pin!(c"extra_float_digits", c"3", pg_sys::extra_float_digits > 0),
    pin!(c"bytea_output", c"hex", unbound::bytea_output == BYTEA_HEX),
    pin!(c"lc_monetary", c"C", is_c(unbound::locale_monetary)),
    pin!(c"xmlbinary", c"base64", unbound::xmlbinary == XML_BASE64),
    pin!(c"xmloption", c"content", unbound::xmloption == XML_CONTENT),
    pin!(c"standard_conforming_strings", c"on", pg_sys::standard_conforming_strings),
    pin!(c"backslash_quote", c"safe_encoding", {
        pg_sys::backslash_quote == pg_sys::BackslashQuoteType::BACKSLASH_QUOTE_SAFE_ENCODING as c_int
    }),
    pin!(c"array_nulls", c"on", pg_sys::Array_nulls),
    pin!(c"transform_null_equals", c"off", !pg_sys::Transform_null_equals),
    pin!(c"quote_all_identifiers", c"off", !pg_sys::quote_all_identifiers),
    // Off, a statement that row-level security filters fails.
    pin!(c"row_security", c"on", pg_sys::row_security),
    pin!(c"search_path", c"pg_catalog, pg_temp", path_is(PATH)),
];

/// How values are written and texts are read: all pins but the last, the search path.
const HOW: usize = PINS.len() - 1;

/// Does the session's time zone have no offset, ever?
///
/// # Safety
/// In a backend.
unsafe fn is_utc() -> bool {
    // SAFETY: the zone is one of the timezone library's, whose name lives as long as the backend.
    let name = unsafe { CStr::from_ptr(pg_sys::pg_get_timezone_name(pg_sys::session_timezone)) };
    [c"UTC", c"Etc/UTC", c"GMT"].contains(&name)
}

/// # Safety
/// `locale` is a valid string.
unsafe fn is_c(locale: *const c_char) -> bool {
    // SAFETY: see above.
    let locale = unsafe { CStr::from_ptr(locale) };
    locale == c"C" || locale == c"POSIX"
}

/// # Safety
/// In a backend.
unsafe fn path_is(path: &CStr) -> bool {
    // SAFETY: guc.c's own copy, which nothing sets meanwhile.
    unsafe { CStr::from_ptr(pg_sys::namespace_search_path) == path }
}

/// Runs `work` under settings that are always the same, whatever the session, its role or its database have set: what is
/// written under them reads back under them as what it was, and no name is looked up in a schema that users can write to.
///
/// Hardly any of the settings differs in most sessions, and only those that do are set.
pub fn pinned<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    with_settings(None, differing(&PINS), work)
}

/// The same under the session's own search path: for SQL that calls functions, whose bodies find things by that path.
pub fn pinned_but_path<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    with_settings(None, differing(&PINS[..HOW]), work)
}

fn differing(pins: &'static [Pin]) -> impl Iterator<Item = (&'static CStr, &'static CStr)> {
    pins.iter().filter(|p| !(p.holds)()).map(|p| (p.name, p.value))
}

/// Runs `work` without NOTICEs.
pub fn quietly<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    with_settings(None, [(c"client_min_messages", c"warning")].into_iter(), work)
}

/// Runs `work`, which fails where it would have to wait for a lock of others.
pub fn without_waiting<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    with_settings(None, [(c"lock_timeout", c"10ms")].into_iter(), work)
}

/// So long DDL on one's own table waits for strangers who have locked what is known of it, or of what it reads. (Deadlocks are found before.)
const BRIEFLY_MS: i32 = 2000;

/// Runs `work`, which fails where it would have to wait for a lock of others for long.
pub fn waiting_briefly<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    // SAFETY: reads a variable of this backend.
    let limit = unsafe { pg_sys::LockTimeout };
    let is_short = limit > 0 && limit <= BRIEFLY_MS;
    with_settings(None, [(c"lock_timeout", c"2s")].into_iter().filter(|_| !is_short), work)
}

/// A level for settings of our own, closed by `with_settings`; on an ERROR by the (sub)transaction's abort (AtEOXact_GUC).
fn new_level() -> i32 {
    // SAFETY: counts.
    unsafe { pg_sys::NewGUCNestLevel() }
}

/// Without a level that is there already, one is opened for the first setting.
fn with_settings<'s, R>(
    mut level: Option<i32>,
    settings: impl Iterator<Item = (&'s CStr, &'s CStr)>,
    work: impl FnOnce() -> Result<R>,
) -> Result<R> {
    for (name, value) in settings {
        level.get_or_insert_with(new_level);
        // SAFETY: within that level. Both strings are NUL-terminated and copied by guc.c.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
    }
    let result = work();
    if let Some(level) = level {
        // SAFETY: the level opened above; those that `work` opened are closed.
        unsafe { pg_sys::AtEOXact_GUC(false, level) };
    }
    result
}

/// Runs `work` as the extension's owner under pinned settings, those of the planner as well, then returns to the caller's identity. Only for constant
/// statements over snapsync's own tables and catalogs: no user's function, operator or type may be used in here. The unit
/// tests have a list of all that call it (src/tests/rights.rs).
pub fn as_owner<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    as_role(
        owner(crate::server::pg::relation_oid(c"collection")?)?,
        |now| now | pg_sys::SECURITY_NOFORCE_RLS,
        || {
            let _ours = Ours::are(true);
            let _planner = Planner::by_cost();
            pinned(work)
        },
    )
}

/// Runs `work` as the owner of a user's table, under pinned settings and in a security-restricted operation. What code the table's
/// types bring along runs with no more rights than the owner has: under row-level security as everywhere (SECURITY_NOFORCE_RLS would
/// reach into the functions that it calls). No deferred trigger, no temporary table, no SET ROLE and no setting outlives it.
pub fn as_table_owner<R>(relation: pg_sys::Oid, work: impl FnOnce() -> Result<R>) -> Result<R> {
    restricted(relation, differing(&PINS), work)
}

/// The same for SQL that the owner, or a superuser in the owner's place, has just written: under the settings of the session that it was
/// written in, and with names looked up in these schemas.
pub fn as_author<R>(relation: pg_sys::Oid, path: &str, work: impl FnOnce() -> Result<R>) -> Result<R> {
    let path = c_string(path)?;
    restricted(relation, [(c"search_path", path.as_c_str())].into_iter(), work)
}

fn restricted<'s, R>(
    relation: pg_sys::Oid,
    settings: impl Iterator<Item = (&'s CStr, &'s CStr)>,
    work: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let more = |now| now & !pg_sys::SECURITY_NOFORCE_RLS | pg_sys::SECURITY_RESTRICTED_OPERATION;
    // Also where each setting is already what it must be: what is set inside is set back.
    as_role(owner(relation)?, more, || {
        let _theirs = Ours::are(false);
        with_settings(Some(new_level()), settings, work)
    })
}

thread_local! {
    /// Is what runs a constant statement of ours, over catalogs and our own tables?
    static OURS: Cell<bool> = const { Cell::new(false) };
    /// Does it run as somebody else than who called us?
    static OTHERS: Cell<bool> = const { Cell::new(false) };
}

/// Is what is run here run with the rights of who called us?
pub(super) fn is_callers() -> bool {
    !OTHERS.get()
}

/// In [`as_owner`], so what is run calls no function that a user has made.
pub(super) fn is_ours() -> bool {
    OURS.get()
}

/// Until this is dropped, also when an ERROR unwinds.
struct Ours(bool);

impl Ours {
    fn are(ours: bool) -> Ours {
        Ours(OURS.replace(ours))
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        OURS.set(self.0);
    }
}

/// Until this is dropped, also when an ERROR unwinds: what was so before.
struct AsOther(bool);

impl Drop for AsOther {
    fn drop(&mut self) {
        OTHERS.set(self.0);
    }
}

fn as_role<R>(role: pg_sys::Oid, context: impl FnOnce(u32) -> u32, work: impl FnOnce() -> Result<R>) -> Result<R> {
    // SAFETY: saves and restores the identity. On an ERROR the (sub)transaction's abort does, as for SECURITY DEFINER
    // functions (AbortTransaction, AbortSubTransaction).
    unsafe {
        let (mut user, mut now) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&mut user, &mut now);
        let context = context(now as u32) | pg_sys::SECURITY_LOCAL_USERID_CHANGE;
        pg_sys::SetUserIdAndSecContext(role, context as i32);
        let _others = AsOther(OTHERS.replace(true));
        let result = work();
        pg_sys::SetUserIdAndSecContext(user, now);
        result
    }
}

/// The role that owns a relation.
pub fn owner(relation: pg_sys::Oid) -> Result<pg_sys::Oid> {
    // SAFETY: a syscache lookup; the tuple is released before returning and only a copied Oid leaves.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            return Err(SyncError::new(code::INTERNAL, format!("relation {} has vanished", relation.to_u32())));
        }
        let owner = (*(pg_sys::GETSTRUCT(tuple) as pg_sys::Form_pg_class)).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Ok(owner)
    }
}
