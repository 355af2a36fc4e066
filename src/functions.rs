//! The functions that SQL calls. Their CREATE FUNCTION statements stand in `sql/03_functions.sql`; here arguments are taken
//! apart and errors raised.

use pgrx::prelude::*;
use pgrx::{pg_sys, FromDatum};

use crate::collections::{admin, ddl, doctor, shape, triggers};
use crate::log::{poke, retention};
use crate::pull::wait::WaitRequest;
use crate::server::error::{code, raising, relieved, Result, SyncError};
use crate::server::http;
use crate::server::memory::{self, Gather};
use crate::server::spi::{self, Row};
use crate::server::talk;
use crate::values::device::Device;
use crate::{pull, push, track};

/// Declares a function for Postgres: the symbol, its version-1 record, and its body, which gets the arguments.
macro_rules! sql_function {
    ($symbol:ident, $record:ident, |$arguments:ident| $body:expr) => {
        #[no_mangle]
        #[doc(hidden)]
        pub extern "C" fn $record() -> *const pg_sys::Pg_finfo_record {
            const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &RECORD
        }

        /// # Safety
        /// Called by Postgres, with the arguments that `sql/03_functions.sql` declares.
        #[no_mangle]
        pub unsafe extern "C-unwind" fn $symbol(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: this is the whole body of the function.
            unsafe {
                raising(|| {
                    let $arguments = Arguments(fcinfo);
                    $body
                })
            }
        }
    };
}

/// A call's arguments, by position.
struct Arguments(pg_sys::FunctionCallInfo);

impl Arguments {
    fn get<T: FromDatum>(&self, position: usize) -> Option<T> {
        // SAFETY: the type asked for is the one that sql/03_functions.sql declares at this position (text and json have the
        // same form).
        unsafe { pgrx::fcinfo::pg_getarg(self.0, position) }
    }

    /// An argument that must not be null.
    fn required<T: FromDatum>(&self, position: usize, name: &str, hint: &str) -> Result<T> {
        self.get(position).ok_or_else(|| null_argument(name, hint))
    }

    /// An array of texts, as many as the caller likes.
    fn texts(&self, position: usize) -> Option<Vec<Option<String>>> {
        let texts: Option<pgrx::Array<&str>> = self.get(position);
        texts.map(|texts| texts.iter().map(|text| text.map(memory::text)).gather())
    }

    /// An array of names.
    fn names(&self, position: usize, name: &str) -> Result<Option<Vec<String>>> {
        let names = self.texts(position);
        let not_null = |n: Option<String>| {
            n.ok_or_else(|| null_argument(&format!("a name in {name}"), "Pass an array of column names."))
        };
        names.map(|names| names.into_iter().map(not_null).gather()).transpose()
    }

    /// A jsonb argument as text, with all digits of its numbers.
    fn json(&self, position: usize) -> Option<String> {
        // SAFETY: a jsonb argument (sql/03_functions.sql); jsonb_out returns a palloc'd cstring, which is copied.
        unsafe {
            let json = pgrx::fcinfo::pg_getarg_datum(self.0, position);
            let text: Option<&std::ffi::CStr> =
                json.and_then(|j| pgrx::direct_function_call(pg_sys::jsonb_out, &[Some(j)]));
            text.map(|t| memory::text(&t.to_string_lossy()))
        }
    }

    /// A text, or the function's result is null.
    fn nullable(&self, text: Option<String>) -> Result<pg_sys::Datum> {
        // SAFETY: the call's own record.
        unsafe { (*self.0).isnull = text.is_none() };
        Ok(text.map_or(pg_sys::Datum::null(), text_datum))
    }

    /// The rows, of texts, that a function returns.
    fn return_texts(&self, rows: &[Row]) {
        // SAFETY: a call that may return a set, of as many texts as the rows have (sql/07_doctor.sql); the store copies them.
        unsafe {
            pg_sys::InitMaterializedSRF(self.0, 0);
            let result = (*self.0).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            let (store, descriptor) = ((*result).setResult, (*result).setDesc);
            for row in rows {
                let texts = (0..(*descriptor).natts as usize).map(|i| row.text(i).map(str::to_string));
                let (mut values, mut nulls) =
                    texts.map(|t| (t.clone().map_or(pg_sys::Datum::null(), text_datum), t.is_none())).gather_pairs();
                pg_sys::tuplestore_putvalues(store, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            }
        }
    }

    /// The transactions of a procedure that may end them.
    fn own_transactions(&self) -> Option<spi::Transactions> {
        // SAFETY: the call's own record; a CALL gives it this context.
        unsafe {
            let context = (*self.0).context.cast::<pg_sys::CallContext>();
            let called = !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_CallContext;
            (called && !(*context).atomic).then(spi::Transactions::begin)
        }
    }

    /// The record of one column that a procedure returns.
    fn record_of(&self, mut value: pg_sys::Datum) -> pg_sys::Datum {
        // SAFETY: a procedure with one INOUT parameter (sql/03_functions.sql).
        unsafe {
            let mut descriptor = std::ptr::null_mut();
            pg_sys::get_call_result_type(self.0, std::ptr::null_mut(), &mut descriptor);
            pg_sys::BlessTupleDesc(descriptor);
            let mut null = false;
            let tuple = pg_sys::heap_form_tuple(descriptor, &mut value, &mut null);
            pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
        }
    }

    /// The function that is called.
    fn function(&self) -> pg_sys::Oid {
        // SAFETY: the call's own record, which the caller has filled.
        unsafe { (*(*self.0).flinfo).fn_oid }
    }

    fn table(&self) -> Result<pg_sys::Oid> {
        self.required(0, "table", "Pass the table, for example 'public.todos'.")
    }
}

fn null_argument(name: &str, hint: &str) -> SyncError {
    SyncError::new(code::NULL_NOT_ALLOWED, format!("{name} must not be null")).hint(hint)
}

/// A text or json.
fn text_datum(text: String) -> pg_sys::Datum {
    text.into_datum().unwrap_or(pg_sys::Datum::null())
}

const VOID: pg_sys::Datum = pg_sys::Datum::null();

sql_function!(snapsync_pull_changes, pg_finfo_snapsync_pull_changes, |a| {
    let document = pull::pull(&pull::PullRequest {
        any_device: false,
        collections: a.texts(0).ok_or_else(|| {
            null_argument("collections", "Pass the names of the collections to pull, for example '{todos,lists}'.")
        })?,
        last_pulled_at: a.get(1),
        dialect: a.get(2),
        filter: a.json(3),
        client_id: a.get(4),
        send_created_as_updated: a.get(5).unwrap_or(false),
        skip_echoes: a.get(6).unwrap_or(false),
        page_size: a.get(7),
        next: a.get(8),
        schema_version: a.get(9),
        migration: a.json(10),
        since: a.json(11),
        last_filter: a.json(12),
        lsn: a.get(13).unwrap_or(false),
    })?;
    http::announce_json(a.function());
    Ok(document.into_datum())
});

/// Of both the function and the procedure.
fn wait_request(a: &Arguments) -> Result<WaitRequest> {
    let hint = "Pass the names of the collections, for example '{todos,lists}'.";
    Ok(WaitRequest {
        collections: a.required(0, "collections", hint)?,
        last_pulled_at: a.get(1),
        filter: a.json(2),
        actions: a.get(3),
        timeout: a.get(4),
        dialect: a.get(5),
    })
}

sql_function!(snapsync_wait_for_changes, pg_finfo_snapsync_wait_for_changes, |a| {
    pull::wait::wait(&wait_request(&a)?, None).map(text_datum)
});

sql_function!(snapsync_wait_and_let_go, pg_finfo_snapsync_wait_and_let_go, |a| {
    let request = wait_request(&a)?;
    let transactions = a.own_transactions().ok_or_else(|| {
        SyncError::new("2D000", "a procedure that waits cannot be called in a transaction block")
            .detail("It commits between its looks.")
            .hint("CALL it by itself, or SELECT wait_for_changes(...).")
    })?;
    let answer = pull::wait::wait(&request, Some(&mut || transactions.commit()))?;
    // What is allocated from here on outlives it.
    drop(transactions);
    Ok(a.record_of(text_datum(answer)))
});

sql_function!(snapsync_pull_schema, pg_finfo_snapsync_pull_schema, |a| {
    let hint = "Pass the names of the collections, for example '{todos,lists}'.";
    let schema = pull::schema::pull_schema(&pull::schema::SchemaRequest {
        collections: a.texts(0).ok_or_else(|| null_argument("collections", hint))?,
        dialect: a.get(1),
        schema_version: a.get(2),
    })?;
    Ok(text_datum(schema))
});

sql_function!(snapsync_push_changes, pg_finfo_snapsync_push_changes, |a| {
    let hint = "Pass the changes, for example {\"todos\": {\"created\": [], \"updated\": [], \"deleted\": []}}.";
    let answer = push::push(&push::PushRequest {
        changes: a.required(0, "changes", hint)?,
        last_pulled_at: a.get(1),
        dialect: a.get(2),
        client_id: a.get(3),
        push_id: a.get::<pgrx::Uuid>(4).map(|id| id.to_string()),
        on_rejected: a.get(5),
        device: Device::default(),
    })?;
    Ok(text_datum(answer))
});

sql_function!(snapsync_push_from_drift, pg_finfo_snapsync_push_from_drift, |a| {
    let changes_hint =
        "Pass the changes, for example {\"public.task\": {\"created\": [], \"updated\": [], \"deleted\": []}}.";
    let time_hint = "Pass the device's time, for example \"2026-11-21T07:50:00.000\".";
    let changes: &str = a.required(0, "_changes", changes_hint)?;
    let time: &str = a.required(1, "last_pulled_at", time_hint)?;
    push::drift::push(changes, time).map(pg_sys::Datum::from)
});

sql_function!(snapsync_push_mutations, pg_finfo_snapsync_push_mutations, |a| {
    let hint = "Pass the mutations, for example [{\"id\": 1, \"name\": \"like_quote\", \"args\": {}}].";
    let mutations: &str = a.required(0, "mutations", hint)?;
    let client_id: &str = a.required(1, "client_id", "Pass an id that this client keeps, a uuid for example.")?;
    Ok(text_datum(push::mutate::push_mutations(mutations, client_id)?))
});

sql_function!(snapsync_register_mutator, pg_finfo_snapsync_register_mutator, |a| {
    let name: &str = a.required(0, "name", "Pass the name that clients use.")?;
    push::mutate::register(name, a.get(1)).map(|()| VOID)
});

sql_function!(snapsync_enable, pg_finfo_snapsync_enable, |a| {
    let settings = admin::EnableArguments {
        name: a.get(1),
        key: a.names(2, "key")?,
        columns: a.names(3, "columns")?,
        exclude: a.names(4, "exclude")?,
        scope_column: a.get(5),
        scope_values: a.get(6),
        access_tables: a.json(7),
        conflict: a.get(8),
        soft_delete_column: a.get(9),
        readonly: a.names(10, "readonly")?,
        version_column: a.get(11),
        conflict_function: a.get(12),
        notify: a.get(13),
    };
    admin::enable(a.table()?, settings).map(|()| VOID)
});

sql_function!(snapsync_disable, pg_finfo_snapsync_disable, |a| admin::disable(a.table()?).map(|()| VOID));

sql_function!(snapsync_reset, pg_finfo_snapsync_reset, |a| admin::reset(a.table()?).map(|()| VOID));

sql_function!(snapsync_prune, pg_finfo_snapsync_prune, |a| {
    let keep: pgrx::datum::Interval = a.required(0, "keep", "Pass how much of the log to keep: '30 days'.")?;
    retention::prune(keep).map(pg_sys::Datum::from)
});

sql_function!(snapsync_compact, pg_finfo_snapsync_compact, |_a| retention::compact().map(pg_sys::Datum::from));

sql_function!(snapsync_poke_scope, pg_finfo_snapsync_poke_scope, |a| {
    let collection: &str = a.required(0, "collection", "Pass the collection's name.")?;
    let value: &str = a.required(1, "value", "Pass the scope's value.")?;
    Ok(text_datum(poke::hash(collection, value)))
});

sql_function!(snapsync_policy_text, pg_finfo_snapsync_policy_text, |a| {
    let policy = a.required(0, "policy", "Pass a policy.")?;
    a.nullable(doctor::policy_text(policy)?)
});

sql_function!(snapsync_planned_calls, pg_finfo_snapsync_planned_calls, |a| {
    let policy = a.required(0, "policy", "Pass a policy.")?;
    a.nullable(doctor::planned_calls(policy)?)
});

sql_function!(snapsync_reads_back, pg_finfo_snapsync_reads_back, |a| {
    let type_ = a.required(0, "type", "Pass a type.")?;
    Ok(doctor::reads_back(type_)?.into())
});

sql_function!(snapsync_trigger_argument, pg_finfo_snapsync_trigger_argument, |a| {
    a.nullable(triggers::argument(a.table()?)?)
});

sql_function!(snapsync_regtable_in, pg_finfo_snapsync_regtable_in, |a| {
    let name: &std::ffi::CStr = a.required(0, "name", "Pass a table's name.")?;
    Ok(shape::lost::read_name(name)?.into())
});

sql_function!(snapsync_doctor, pg_finfo_snapsync_doctor, |a| {
    a.return_texts(&doctor::findings()?);
    Ok(VOID)
});

sql_function!(snapsync_before_index, pg_finfo_snapsync_before_index, |a| ddl::before_index(a.0).map(|()| VOID));
sql_function!(snapsync_on_command_end, pg_finfo_snapsync_on_command_end, |a| ddl::on_command_end(a.0).map(|()| VOID));

sql_function!(snapsync_on_rewrite, pg_finfo_snapsync_on_rewrite, |a| ddl::on_rewrite(a.0).map(|()| VOID));

sql_function!(snapsync_emptied, pg_finfo_snapsync_emptied, |a| ddl::emptied(a.0).map(|()| VOID));

sql_function!(snapsync_on_drop, pg_finfo_snapsync_on_drop, |a| ddl::on_drop(a.0).map(|()| VOID));

#[no_mangle]
#[doc(hidden)]
pub extern "C" fn pg_finfo_snapsync_track() -> *const pg_sys::Pg_finfo_record {
    const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &RECORD
}

/// The trigger function; once per row, so without what `raising` allocates.
///
/// # Safety
/// Called by Postgres.
#[no_mangle]
#[pg_guard]
pub unsafe extern "C-unwind" fn snapsync_track(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let _failing = talk::Unwinding;
    // SAFETY: fcinfo is valid; track checks that this is a trigger call.
    unsafe { relieved(|| track::track(fcinfo)) }.unwrap_or_else(|e| e.raise());
    VOID
}
