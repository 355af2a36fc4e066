//! Arrays.

use pgrx::pg_sys;

/// The values in an array of such elements, in their order, without those that are null.
///
/// # Safety
/// The datum is an array of this type; what is returned lives as long as the current memory context.
pub unsafe fn values(datum: pg_sys::Datum, element: pg_sys::Oid) -> impl Iterator<Item = pg_sys::Datum> {
    let (mut length, mut by_value, mut align) = (0, false, 0);
    let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
    // SAFETY: see above; as many values and marks of NULL are returned as it says.
    unsafe {
        pg_sys::get_typlenbyvalalign(element, &mut length, &mut by_value, &mut align);
        pg_sys::deconstruct_array(
            pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast(),
            element,
            length.into(),
            by_value,
            align,
            &mut values,
            &mut nulls,
            &mut count,
        );
        (0..count as usize).filter(move |i| !*nulls.add(*i)).map(move |i| *values.add(i))
    }
}
