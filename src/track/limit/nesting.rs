//! Values that can nest: what reads them back recurses, and may have less of its stack left than what wrote them.

use std::collections::BTreeSet;
use std::ffi::CStr;

use pgrx::pg_sys;

use crate::server::memory::{self, Gather};
use crate::server::{array, pg};

/// JSON of fewer levels is read back by any session.
pub(super) const DEEPEST: usize = 1_000;

/// What nests and is no JSON, or has JSON in its text, may have so many bytes: one or two make a level.
pub(super) const LONGEST: usize = 2 * DEEPEST;

/// What a type's values are made of, as far as they nest.
enum Made {
    Flat,
    Json,
    /// Of a recursive grammar that is not looked into.
    Grammar,
    Array(pg_sys::Oid),
    Row,
    /// A range, or several, of values of this type.
    Range(pg_sys::Oid),
}

/// # Safety
/// Of an existing type.
unsafe fn made_of(type_: pg_sys::Oid) -> Made {
    // SAFETY: looks at the catalogs only.
    unsafe {
        let base = pg_sys::getBaseType(type_);
        if matches!(base, pg_sys::JSONOID | pg_sys::JSONBOID) {
            return Made::Json;
        }
        if matches!(base, pg_sys::JSONPATHOID | pg_sys::TSQUERYOID) {
            return Made::Grammar;
        }
        let element = pg_sys::get_element_type(base);
        if element != pg_sys::InvalidOid {
            return Made::Array(element);
        }
        if pg_sys::get_typ_typrelid(base) != pg_sys::InvalidOid {
            return Made::Row;
        }
        let several = pg_sys::get_multirange_range(base);
        let range = if several == pg_sys::InvalidOid { base } else { several };
        match pg_sys::get_range_subtype(range) {
            pg_sys::InvalidOid => Made::Flat,
            bound => Made::Range(bound),
        }
    }
}

/// Can values of this type nest as deep as whoever writes them likes?
///
/// # Safety
/// Of an existing type.
pub(in crate::track) unsafe fn nests(type_: pg_sys::Oid) -> bool {
    // SAFETY: as said above.
    unsafe { holds(type_, &|_, made| matches!(made, Made::Json | Made::Grammar), &mut BTreeSet::new()) }
}

/// Is there a time with a zone of its own in values of this type?
///
/// # Safety
/// Of an existing type.
pub(in crate::track) unsafe fn has_zones(type_: pg_sys::Oid) -> bool {
    // SAFETY: as said above.
    unsafe { holds(type_, &|base, _| base == pg_sys::TIMETZOID, &mut BTreeSet::new()) }
}

/// Is this type, or one that it is made of, of that kind? `seen`: types of which that was asked already. (Each may be made of the one below twice over.)
///
/// # Safety
/// Of an existing type.
unsafe fn holds(type_: pg_sys::Oid, is: &dyn Fn(pg_sys::Oid, &Made) -> bool, seen: &mut BTreeSet<u32>) -> bool {
    memory::descend();
    if !seen.insert(type_.to_u32()) {
        return false;
    }
    // SAFETY: as said above, of the types that this one is made of. (No row type has itself among its fields, not in arrays either.)
    unsafe {
        let (base, made) = (pg_sys::getBaseType(type_), made_of(type_));
        if is(base, &made) {
            return true;
        }
        match made {
            Made::Flat | Made::Json | Made::Grammar => false,
            Made::Array(element) => holds(element, is, seen),
            Made::Range(bound) => holds(bound, is, seen),
            Made::Row => {
                let descriptor = pg_sys::lookup_rowtype_tupdesc_copy(base, -1);
                let of: Vec<pg_sys::Oid> = fields(descriptor).map(|(_, type_)| type_).gather();
                pg_sys::FreeTupleDesc(descriptor);
                of.into_iter().any(|type_| holds(type_, is, seen))
            }
        }
    }
}

/// May a value of a type that nests be deeper than is allowed? Looks at its header only. What is in a row or an array can be compressed there:
/// their lengths say nothing.
///
/// # Safety
/// A non-null datum of the type, which nests.
pub(super) unsafe fn may_be_deep(type_: pg_sys::Oid, datum: pg_sys::Datum) -> bool {
    // SAFETY: what nests is a varlena.
    unsafe {
        match type_ {
            pg_sys::JSONOID | pg_sys::JSONBOID => pg_sys::toast_raw_datum_size(datum) > 2 * DEEPEST,
            _ => true,
        }
    }
}

/// Is it deeper than is allowed?
///
/// # Safety
/// A non-null datum of this type.
pub(super) unsafe fn is_deep(type_: pg_sys::Oid, datum: pg_sys::Datum) -> bool {
    memory::descend();
    // SAFETY: values of each are taken apart as PostgreSQL does; what they are made of is of the types that they say.
    unsafe {
        match made_of(type_) {
            Made::Flat => false,
            Made::Json => {
                pg_sys::toast_raw_datum_size(datum) > 2 * DEEPEST
                    && with_text(type_, datum, |json| depth(json) > DEEPEST)
            }
            Made::Grammar => with_text(type_, datum, |text| text.len() > LONGEST),
            Made::Range(bound) => nests(bound) && with_text(type_, datum, |text| text.len() > LONGEST),
            Made::Array(element) => nests(element) && has_deep_element(element, datum),
            Made::Row => has_deep_field(datum),
        }
    }
}

/// # Safety
/// An array of such elements.
unsafe fn has_deep_element(element: pg_sys::Oid, datum: pg_sys::Datum) -> bool {
    // SAFETY: see above.
    unsafe { array::values(datum, element).any(|value| is_deep(element, value)) }
}

/// # Safety
/// A row of a named type.
unsafe fn has_deep_field(datum: pg_sys::Datum) -> bool {
    // SAFETY: see above; the header says which type's fields it has.
    unsafe {
        let header: pg_sys::HeapTupleHeader = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast();
        let of = (*header).t_choice.t_datum;
        let descriptor = pg_sys::lookup_rowtype_tupdesc_copy(of.datum_typeid, of.datum_typmod);
        let count = (*descriptor).natts as usize;
        let (mut values, mut nulls) = (memory::filled(pg_sys::Datum::null(), count), memory::filled(true, count));
        let mut tuple = pg_sys::HeapTupleData { t_data: header, ..Default::default() };
        // (The length of a varlena, as VARSIZE reads it.)
        tuple.t_len = (of.datum_len_ as u32) >> 2;
        pg_sys::heap_deform_tuple(&mut tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        let mut fields = fields(descriptor).filter(|(i, _)| !nulls[*i]);
        let found = fields.any(|(i, type_)| nests(type_) && is_deep(type_, values[i]));
        pg_sys::FreeTupleDesc(descriptor);
        found
    }
}

/// The columns that a row type has now, with their types.
///
/// # Safety
/// A descriptor that lives as long as this is used.
unsafe fn fields(descriptor: pg_sys::TupleDesc) -> impl Iterator<Item = (usize, pg_sys::Oid)> {
    // SAFETY: see above; as many columns as it says.
    let all = unsafe { (0..(*descriptor).natts as usize).map(move |i| (i, pg::attribute(descriptor, i))) };
    all.filter(|(_, field)| !field.attisdropped).map(|(i, field)| (i, field.atttypid))
}

/// # Safety
/// A non-null datum of this type.
unsafe fn with_text<T>(type_: pg_sys::Oid, datum: pg_sys::Datum, look: impl FnOnce(&[u8]) -> T) -> T {
    let (mut output, mut varlena) = (pg_sys::InvalidOid, false);
    // SAFETY: see above; output functions return a palloc'd cstring.
    unsafe {
        pg_sys::getTypeOutputInfo(type_, &mut output, &mut varlena);
        let text = pg_sys::OidOutputFunctionCall(output, datum);
        let seen = look(CStr::from_ptr(text).to_bytes());
        pg_sys::pfree(text.cast());
        seen
    }
}

/// How deep arrays and objects are nested in a JSON text.
fn depth(json: &[u8]) -> usize {
    let (mut deepest, mut depth, mut in_string, mut escaped) = (0, 0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::depth;

    #[test]
    fn brackets_in_strings_nest_nothing() {
        assert_eq!(depth(br#"7"#), 0);
        assert_eq!(depth(br#"[{"a": [1, "[[["]}, []]"#), 3);
        assert_eq!(depth(br#"["\\\"[", "[\\"]"#), 1);
    }
}
