//! The settings (GUCs) of the extension.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::server::error::{code, Result, SyncError};
use crate::values::dialect::Dialect;

static DIALECT: GucSetting<Dialect> = GucSetting::<Dialect>::new(Dialect::Postgrest);
static FLUSH_THRESHOLD: GucSetting<i32> = GucSetting::<i32>::new(50_000);
static TIMESTAMP_SLACK: GucSetting<i32> = GucSetting::<i32>::new(300);
static PUSH_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * 24 * 60 * 60);
static WAIT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(25);
static PAGE_BYTES: GucSetting<i32> = GucSetting::<i32>::new(4 << 20);

pub fn register() {
    GucRegistry::define_enum_guc(
        c"snapsync.dialect",
        c"How pull_changes writes values and push_changes reads them, unless the call says otherwise.",
        c"'postgrest' (as row_to_json), 'watermelondb' or 'drift'. Set it per role or per database.",
        &DIALECT,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"snapsync.flush_threshold",
        c"How many row changes a transaction keeps in memory before it writes them to snapsync.change.",
        c"Each takes about 100 bytes. They are written at commit in any case.",
        &FLUSH_THRESHOLD,
        1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"snapsync.timestamp_slack",
        c"How far a client's clock may be ahead when it passes a time instead of a cursor.",
        c"A time given as last_pulled_at is taken to be this much earlier.",
        &TIMESTAMP_SLACK,
        0,
        i32::MAX / 1000,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"snapsync.push_retention",
        c"How long the answer to a push with a push_id is kept, and the failures of mutations.",
        c"A push that is repeated later than that is carried out again.",
        &PUSH_RETENTION,
        1,
        i32::MAX / 1000,
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"snapsync.page_bytes",
        c"How long a page of a pull gets, if page_size does not end it before.",
        c"A page ends with the row that makes it so long; a row is never cut.",
        &PAGE_BYTES,
        1,
        i32::MAX / 4,
        GucContext::Userset,
        GucFlags::UNIT_BYTE,
    );
    GucRegistry::define_int_guc(
        c"snapsync.wait_timeout",
        c"How long wait_for_changes waits at most.",
        c"The longest that a call may ask for, and what it gets if it asks for nothing. While it waits, vacuum keeps what its snapshot sees.",
        &WAIT_TIMEOUT,
        1,
        24 * 60 * 60,
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
}

/// The dialect that a call asks for, or the session's.
pub fn dialect(asked: Option<&str>) -> Result<Dialect> {
    let Some(name) = asked else { return Ok(DIALECT.get()) };
    Dialect::parse(name).map_err(|e| {
        SyncError::new(code::INVALID_PARAMETER, e.to_string()).hint(
            "The dialects are 'postgrest', 'watermelondb' and 'drift'. The setting snapsync.dialect is the default.",
        )
    })
}

pub fn flush_threshold() -> usize {
    FLUSH_THRESHOLD.get() as usize
}

pub fn timestamp_slack_micros() -> i64 {
    i64::from(TIMESTAMP_SLACK.get()) * 1_000_000
}

pub fn push_retention_seconds() -> i32 {
    PUSH_RETENTION.get()
}

pub fn wait_timeout_seconds() -> u64 {
    WAIT_TIMEOUT.get() as u64
}

pub fn page_bytes() -> usize {
    PAGE_BYTES.get() as usize
}
