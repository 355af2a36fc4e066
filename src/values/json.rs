//! Rows straight from the executor to JSON: [`RowWriter`] writes each row into the sink's buffer as
//! `row_to_json` would, byte for byte (in the default dialect), without its detours.
//!
//! What is exact by construction calls PostgreSQL's own code: output functions, `array_to_json`, `row_to_json`, casts to
//! json, PostgreSQL's shortest decimal for floats. Decoded here, and compared with `to_json` by the tests: integers,
//! booleans, uuid, text and JSON's escapes ([`escape`]), times of the years 1 to 9999 ([`datetime`]), finite [`numeric`]s,
//! [`jsonb`]; what these do not cover goes to PostgreSQL's code as well.
//!
//! Memory: what the server's functions allocate for a row goes into a context of its own that is emptied after the row.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::varlena::{varatt_is_1b, varatt_is_1b_e, varatt_is_4b_u, vardata_any, varsize_any_exhdr};

use crate::server::error::{code, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::values::dialect::{Encoder, Form, Nesting, NonFinite, Time, TypeFacts};
use crate::values::wire_id;

mod datetime;
mod escape;
mod jsonb;
mod numeric;
mod output;
mod writer;

pub use datetime::write_timestamp_utc;
use datetime::{date_millis, timestamp_millis, write_date, write_date_utc, write_timestamp, Zone};
pub use escape::{escape_json, format_uuid};
use jsonb::write_jsonb;
use numeric::write_numeric;
#[cfg(feature = "pg_test")]
pub use output::toast_has_lz4;
pub use output::{Buffer, Output, TOO_LARGE};
pub use writer::{text, Writer};

/// One column of the sync key in the result.
#[derive(Debug, Clone)]
pub struct KeyPart {
    base: pg_sys::Oid,
}

impl KeyPart {
    /// A key column of this type.
    pub fn new(facts: &TypeFacts) -> Self {
        KeyPart { base: facts.base }
    }
}

/// One member of the rows' JSON objects.
#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub encoder: Encoder,
}

/// What the columns of a result are: first the key's, then the fields.
#[derive(Debug, Clone)]
pub struct RowSpec {
    /// The columns that make the wire id; empty where the sink needs no id.
    pub key: Vec<KeyPart>,
    pub fields: Vec<Field>,
    /// Write `"id":"<wire id>"` first.
    pub inject_id: bool,
}

/// Where rows go.
pub trait RowSink {
    /// The buffer that the row with this wire id is appended to. The sink writes separators itself.
    fn row(&mut self, id: &str) -> &mut Output;

    /// Another row has come: is it one too many?
    fn is_full(&mut self) -> bool {
        false
    }
}

/// Writes the rows of a query as JSON.
pub struct RowWriter<'a> {
    spec: &'a RowSpec,
    sink: &'a mut dyn RowSink,
    /// Made for the first row.
    encoder: Option<RowEncoder>,
}

impl<'a> RowWriter<'a> {
    pub fn new(spec: &'a RowSpec, sink: &'a mut dyn RowSink) -> Self {
        RowWriter { spec, sink, encoder: None }
    }

    /// False, and nothing is written, when the sink is full.
    ///
    /// # Safety
    /// A row of the query, always of the same one, from its executor.
    pub unsafe fn row(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        if self.sink.is_full() {
            return false;
        }
        // SAFETY: the slot has the descriptor of the query's rows. The executor's memory context, which goes with the query, is current.
        unsafe {
            let encoder = self.encoder.get_or_insert_with(|| RowEncoder::new(self.spec, (*slot).tts_tupleDescriptor));
            encoder.row(slot, self.sink);
        }
        true
    }
}

/// How to write a value. Calls into the server go through an `FmgrInfo` that is looked up once per query.
enum Write {
    Bool,
    Int2,
    Int4,
    Int8,
    Text,
    Name,
    Uuid,
    Date,
    Timestamp,
    TimestampTz,
    DateMillis,
    TimestampMillis,
    DateUtc,
    TimestampUtc,
    Json(Nesting),
    /// With room for the JSON text on its way into a string.
    Jsonb(Nesting, Vec<u8>),
    /// With the output function, for what is written by itself only ordinarily.
    Float4(NonFinite, Call),
    Float8(NonFinite, Call),
    Numeric(NonFinite, Call),
    /// An output function.
    Output(Call),
    /// A function that returns json.
    ToJson(Nesting, Call),
}

type Call = Box<pg_sys::FmgrInfo>;

struct ColumnEncoder {
    /// What stands before the value: `{"name":` or `,"name":`.
    label: Vec<u8>,
    write: Write,
}

struct RowEncoder {
    key: Vec<Write>,
    fields: Vec<ColumnEncoder>,
    inject_id: bool,
    row_context: pg_sys::MemoryContext,
    zone: Zone,
    id: Vec<u8>,
}

impl RowEncoder {
    /// # Safety
    /// `columns` is valid; the current memory context lives as long as the query.
    unsafe fn new(spec: &RowSpec, columns: pg_sys::TupleDesc) -> Self {
        // SAFETY: `columns` is valid; `column_type` is only called for attributes that it has.
        unsafe {
            let expected = spec.key.len() + spec.fields.len();
            let found = (*columns).natts as usize;
            // (Others may stand behind these, for who takes the rows.)
            if found < expected {
                mismatch(format!("The query returns {found} columns where {expected} are expected."));
            }
            let column_type = |i: usize, name: &str, expected: pg_sys::Oid| {
                let found = pg::attribute(columns, i).atttypid;
                if found != expected && pg_sys::getBaseType(found) != expected {
                    let (found, expected) = (found.to_u32(), expected.to_u32());
                    mismatch(format!("ColumnEncoder \"{name}\" is of type {found} where {expected} is expected."));
                }
            };
            let mut key = memory::list(spec.key.len());
            for (i, part) in spec.key.iter().enumerate() {
                column_type(i, "key", part.base);
                key.push(match part.base {
                    pg_sys::UUIDOID => Write::Uuid,
                    pg_sys::TEXTOID | pg_sys::VARCHAROID => Write::Text,
                    pg_sys::INT2OID => Write::Int2,
                    pg_sys::INT4OID => Write::Int4,
                    pg_sys::INT8OID => Write::Int8,
                    base => Write::Output(call(output_function(base))),
                });
            }
            let mut fields = memory::list(spec.fields.len());
            for (i, field) in spec.fields.iter().enumerate() {
                column_type(spec.key.len() + i, &field.name, field.encoder.base);
                let mut label = vec![if i == 0 && !spec.inject_id { b'{' } else { b',' }];
                escape_json(&mut label, field.name.as_bytes());
                label.push(b':');
                fields.push(ColumnEncoder { label, write: Write::new(&field.encoder) });
            }
            RowEncoder {
                key,
                fields,
                inject_id: spec.inject_id,
                row_context: pg_sys::AllocSetContextCreateInternal(
                    pg_sys::CurrentMemoryContext,
                    c"snapsync row".as_ptr(),
                    pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                    pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                    pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
                ),
                zone: Zone::default(),
                id: Vec::new(),
            }
        }
    }

    /// # Safety
    /// `slot` holds a row of the descriptor that `new` got.
    unsafe fn row(&mut self, slot: *mut pg_sys::TupleTableSlot, sink: &mut dyn RowSink) {
        let (keys, fields) = (self.key.len(), self.fields.len());
        // SAFETY: the slot has as many attributes as the descriptor, all of them valid after slot_getsomeattrs.
        let (values, nulls) = unsafe {
            if ((*slot).tts_nvalid as usize) < keys + fields {
                pg_sys::slot_getsomeattrs_int(slot, (keys + fields) as i32);
            }
            (
                std::slice::from_raw_parts((*slot).tts_values, keys + fields),
                std::slice::from_raw_parts((*slot).tts_isnull, keys + fields),
            )
        };
        if nulls[..keys].contains(&true) {
            SyncError::new(code::INTERNAL, "null in a key column of a synced table").raise();
        }
        // SAFETY: the values are of the types that `new` checked, and not null.
        unsafe { self.write_id(&values[..keys]) };
        let Ok(id) = std::str::from_utf8(&self.id) else {
            SyncError::new(code::INTERNAL, "a key is not valid UTF-8").raise();
        };
        let out = sink.row(id);
        // SAFETY: the id stays as it is until the row has been written.
        unsafe { out.begin_row(&self.id) };
        if self.inject_id {
            out.room(6);
            out.put(b"{\"id\":");
            escape_json(out, &self.id);
        } else if fields == 0 {
            out.room(1);
            out.put(b"{");
        }
        // SAFETY: assigning the current context is what MemoryContextSwitchTo does. After an ERROR Postgres sets it anew.
        let caller = unsafe {
            let caller = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = self.row_context;
            caller
        };
        for (i, field) in self.fields.iter_mut().enumerate() {
            out.room(field.label.len() + SHORT);
            out.put(&field.label);
            if nulls[keys + i] {
                out.put(b"null");
            } else {
                // SAFETY: as above; not null.
                unsafe { field.write.value(out, values[keys + i], &mut self.zone) };
            }
        }
        // SAFETY: as above; nothing in the row's context is referred to any more.
        unsafe {
            pg_sys::CurrentMemoryContext = caller;
            if !(*self.row_context).isReset {
                pg_sys::MemoryContextReset(self.row_context);
            }
        }
        out.room(1);
        out.put(b"}");
        out.end_row();
    }

    /// # Safety
    /// The values are the key's, not null.
    unsafe fn write_id(&mut self, values: &[pg_sys::Datum]) {
        self.id.clear();
        // SAFETY: see above.
        unsafe {
            if let ([write], [value]) = (&mut self.key[..], values) {
                return write.key(&mut self.id, *value);
            }
            let mut parts: Vec<Vec<u8>> = memory::list(values.len());
            for (write, value) in self.key.iter_mut().zip(values) {
                let mut part = Vec::new();
                write.key(&mut part, *value);
                parts.push(part);
            }
            let texts: Vec<&str> = parts.iter().map(|p| std::str::from_utf8(p).unwrap_or_default()).gather();
            if !texts.is_empty() {
                memory::append(&mut self.id, wire_id::encode(&texts).as_bytes());
            }
        }
    }
}

/// Text buffers above this size are given back after the row.
const LONG_TEXT: usize = 1 << 20;

/// Room that `Write::value` may use without asking: the longest of numbers, uuids and times.
const SHORT: usize = 48;

impl Write {
    /// # Safety
    /// Catalog look-ups: inside a transaction.
    unsafe fn new(encoder: &Encoder) -> Self {
        let oid = |function: u32| pg_sys::Oid::from(function);
        // SAFETY: see above.
        unsafe {
            match encoder.form {
                Form::Bool => Write::Bool,
                Form::Int2 => Write::Int2,
                Form::Int4 => Write::Int4,
                Form::Int8 => Write::Int8,
                Form::Float4(n) => Write::Float4(n, call(oid(pg_sys::F_FLOAT4OUT))),
                Form::Float8(n) => Write::Float8(n, call(oid(pg_sys::F_FLOAT8OUT))),
                Form::Numeric(n) => Write::Numeric(n, call(oid(pg_sys::F_NUMERIC_OUT))),
                Form::Date(Time::Iso) => Write::Date,
                Form::Timestamp(Time::Iso) => Write::Timestamp,
                Form::TimestampTz(Time::Iso) => Write::TimestampTz,
                Form::Date(Time::Millis) => Write::DateMillis,
                Form::Timestamp(Time::Millis) | Form::TimestampTz(Time::Millis) => Write::TimestampMillis,
                Form::Date(Time::Utc) => Write::DateUtc,
                Form::Timestamp(Time::Utc) | Form::TimestampTz(Time::Utc) => Write::TimestampUtc,
                Form::Text => Write::Text,
                Form::Name => Write::Name,
                Form::Uuid => Write::Uuid,
                Form::Json(nesting) => Write::Json(nesting),
                Form::Jsonb(nesting) => Write::Jsonb(nesting, Vec::new()),
                Form::Array(nesting) => Write::ToJson(nesting, call(oid(pg_sys::F_ARRAY_TO_JSON_ANYARRAY))),
                Form::Composite(nesting) => Write::ToJson(nesting, call(oid(pg_sys::F_ROW_TO_JSON_RECORD))),
                Form::Output(function) => Write::Output(call(function)),
                Form::UserType(nesting) => Write::user_type(encoder.base, nesting),
            }
        }
    }

    /// What json_categorize_type() decides for a type that is not built in.
    ///
    /// # Safety
    /// A type that exists.
    unsafe fn user_type(base: pg_sys::Oid, nesting: Nesting) -> Self {
        // SAFETY: catalog look-ups inside a transaction.
        unsafe {
            if pg_sys::get_element_type(base) != pg_sys::InvalidOid {
                return Write::ToJson(nesting, call(pg_sys::Oid::from(pg_sys::F_ARRAY_TO_JSON_ANYARRAY)));
            }
            let mut cast = pg_sys::InvalidOid;
            let path = pg_sys::find_coercion_pathway(
                pg_sys::JSONOID,
                base,
                pg_sys::CoercionContext::COERCION_EXPLICIT,
                &mut cast,
            );
            if path == pg_sys::CoercionPathType::COERCION_PATH_FUNC && cast != pg_sys::InvalidOid {
                return Write::ToJson(nesting, call(cast));
            }
            Write::Output(call(output_function(base)))
        }
    }

    /// Appends a value as JSON.
    ///
    /// # Safety
    /// `value` is of the column's type and not null; `out` has `SHORT` bytes of room.
    #[inline]
    unsafe fn value(&mut self, out: &mut Output, value: pg_sys::Datum, zone: &mut Zone) {
        // SAFETY: see above; each arm decodes the type that it is chosen for.
        unsafe {
            match self {
                Write::Bool => out.put(if value.value() as u8 != 0 { b"true" } else { b"false" }),
                Write::Int2 => out.put(itoa::Buffer::new().format(value.value() as i16).as_bytes()),
                Write::Int4 => out.put(itoa::Buffer::new().format(value.value() as i32).as_bytes()),
                Write::Int8 => out.put(itoa::Buffer::new().format(value.value() as i64).as_bytes()),
                Write::Text => with_text(value, |text| escape_json(out, text)),
                Write::Name => escape_json(out, CStr::from_ptr(value.cast_mut_ptr()).to_bytes()),
                Write::Uuid => {
                    let mut text = [b'"'; 38];
                    format_uuid(&*value.cast_mut_ptr::<[u8; 16]>(), (&mut text[1..37]).try_into().unwrap());
                    out.put(&text);
                }
                Write::Date => write_date(out, value.value() as i32),
                Write::Timestamp => write_timestamp(out, value.value() as i64, None),
                Write::TimestampTz => write_timestamp(out, value.value() as i64, Some(zone)),
                Write::DateMillis => {
                    out.put(itoa::Buffer::new().format(date_millis(value.value() as i32)).as_bytes());
                }
                Write::TimestampMillis => {
                    out.put(itoa::Buffer::new().format(timestamp_millis(value.value() as i64)).as_bytes());
                }
                Write::DateUtc => write_date_utc(out, value.value() as i32),
                Write::TimestampUtc => write_timestamp_utc(out, value.value() as i64),
                Write::Json(nesting) => with_text(value, |json| nested(out, json, *nesting)),
                Write::Jsonb(Nesting::Inline, _) => jsonb(out, value),
                Write::Jsonb(Nesting::InString, text) => {
                    text.clear();
                    jsonb(text, value);
                    escape_json(out, text);
                    text.shrink_to(LONG_TEXT);
                }
                Write::Float4(non_finite, function) => {
                    let float = f32::from_bits(value.value() as u32);
                    if float.is_finite() && pg_sys::extra_float_digits > 0 {
                        put_shortest(out, |text| shortest::float_to_shortest_decimal_bufn(float, text));
                    } else {
                        number(out, value, *non_finite, function);
                    }
                }
                Write::Float8(non_finite, function) => {
                    let float = f64::from_bits(value.value() as u64);
                    if float.is_finite() && pg_sys::extra_float_digits > 0 {
                        put_shortest(out, |text| shortest::double_to_shortest_decimal_bufn(float, text));
                    } else {
                        number(out, value, *non_finite, function);
                    }
                }
                Write::Numeric(non_finite, function) => {
                    let mut written = false;
                    with_text(value, |stored| written = write_numeric(out, stored).is_some());
                    if !written {
                        number(out, value, *non_finite, function);
                    }
                }
                Write::Output(function) => {
                    let text = pg_sys::OutputFunctionCall(&mut **function, value);
                    escape_json(out, CStr::from_ptr(text).to_bytes());
                }
                Write::ToJson(nesting, function) => {
                    let json = pg_sys::FunctionCall1Coll(&mut **function, pg_sys::InvalidOid, value);
                    with_text(json, |json| nested(out, json, *nesting));
                }
            }
        }
    }

    /// Appends a key column's text.
    ///
    /// # Safety
    /// As for `value`.
    unsafe fn key(&mut self, id: &mut Vec<u8>, value: pg_sys::Datum) {
        // SAFETY: see above; each arm decodes the type that it is chosen for.
        unsafe {
            match self {
                Write::Uuid => {
                    let mut text = [0; 36];
                    format_uuid(&*value.cast_mut_ptr::<[u8; 16]>(), &mut text);
                    memory::append(id, &text);
                }
                Write::Int2 => memory::append(id, itoa::Buffer::new().format(value.value() as i16).as_bytes()),
                Write::Int4 => memory::append(id, itoa::Buffer::new().format(value.value() as i32).as_bytes()),
                Write::Int8 => memory::append(id, itoa::Buffer::new().format(value.value() as i64).as_bytes()),
                Write::Output(function) => {
                    let text = pg_sys::OutputFunctionCall(&mut **function, value);
                    memory::append(id, CStr::from_ptr(text).to_bytes());
                    pg_sys::pfree(text.cast());
                }
                _ => with_text(value, |text| memory::append(id, text)),
            }
        }
    }
}

/// Appends the text of a number, by its output function.
///
/// # Safety
/// `value` is of the function's type.
unsafe fn number(out: &mut Output, value: pg_sys::Datum, non_finite: NonFinite, function: &mut Call) {
    // SAFETY: see above; the text is NUL-terminated.
    let text = unsafe { CStr::from_ptr(pg_sys::OutputFunctionCall(&mut **function, value)).to_bytes() };
    if text.last().is_some_and(u8::is_ascii_digit) {
        out.room(text.len());
        out.put(text);
    } else if non_finite == NonFinite::Quoted {
        escape_json(out, text);
    } else {
        out.put(b"null");
    }
}

/// What float8out and float4out call when extra_float_digits is positive (common/shortest_dec.h). They write at most 25
/// bytes, return how many, and raise nothing.
mod shortest {
    use std::ffi::{c_char, c_int};

    // SAFETY: as in that header.
    unsafe extern "C" {
        pub fn double_to_shortest_decimal_bufn(float: f64, text: *mut c_char) -> c_int;
        pub fn float_to_shortest_decimal_bufn(float: f32, text: *mut c_char) -> c_int;
    }
}

#[inline(always)]
fn put_shortest(out: &mut Output, write: impl FnOnce(*mut std::ffi::c_char) -> std::ffi::c_int) {
    let mut text = [0u8; 32];
    let length = write(text.as_mut_ptr().cast()) as usize;
    out.put(&text[..length]);
}

/// Appends a jsonb value as JSON text.
///
/// # Safety
/// `value` is a jsonb.
unsafe fn jsonb(out: &mut impl Buffer, value: pg_sys::Datum) {
    let start = out.length();
    let mut written = false;
    // SAFETY: a jsonb is a varlena, and so is what it is read from when it is written by Postgres itself.
    unsafe {
        with_text(value, |stored| written = write_jsonb(out, stored).is_some());
        if !written {
            out.truncate(start);
            let json = pg_sys::pg_detoast_datum(value.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
            let size = varsize_any_exhdr(json.cast()) as i32;
            let text = CStr::from_ptr(pg_sys::JsonbToCString(std::ptr::null_mut(), &mut (*json).root, size)).to_bytes();
            out.room(text.len());
            out.put(text);
        }
    }
}

/// JSON text into the row, or into a string in it.
fn nested(out: &mut Output, json: &[u8], nesting: Nesting) {
    match nesting {
        Nesting::Inline => {
            out.room(json.len());
            out.put(json);
        }
        Nesting::InString => escape_json(out, json),
    }
}

/// Calls `work` with the bytes of a text, varchar, char(n) or json value; decompresses or fetches them only where needed.
///
/// # Safety
/// `value` is a varlena whose content is plain bytes.
#[inline]
unsafe fn with_text(value: pg_sys::Datum, work: impl FnOnce(&[u8])) {
    // SAFETY: see above. The detoasted copy is ours to free.
    unsafe {
        let stored = value.cast_mut_ptr::<pg_sys::varlena>();
        let plain = if varatt_is_1b(stored) { !varatt_is_1b_e(stored) } else { varatt_is_4b_u(stored) };
        let text = if plain { stored } else { pg_sys::pg_detoast_datum_packed(stored) };
        work(std::slice::from_raw_parts(vardata_any(text).cast(), varsize_any_exhdr(text)));
        if text != stored {
            pg_sys::pfree(text.cast());
        }
    }
}

/// The output function of a type.
///
/// # Safety
/// A type that exists.
unsafe fn output_function(type_oid: pg_sys::Oid) -> pg_sys::Oid {
    let (mut function, mut varlena) = (pg_sys::InvalidOid, false);
    // SAFETY: a catalog look-up that writes to two locals; a missing type is an ERROR.
    unsafe { pg_sys::getTypeOutputInfo(type_oid, &mut function, &mut varlena) };
    function
}

/// A function looked up for the rest of the query.
///
/// # Safety
/// A function that exists.
unsafe fn call(function: pg_sys::Oid) -> Call {
    let mut info = Box::new(pg_sys::FmgrInfo::default());
    // SAFETY: fills `info`; what the function caches there lives in the current context, which is the query's.
    unsafe { pg_sys::fmgr_info_cxt(function, &mut *info, pg_sys::CurrentMemoryContext) };
    info
}

/// Our own query returned something else than it was made for.
fn mismatch(detail: String) -> ! {
    SyncError::new(code::INTERNAL, "unexpected result of a pull query").detail(detail).raise()
}
