//! Who has set a setting.

use std::ffi::CStr;

use pgrx::pg_sys;

/// Has this session switched off, by SET, the setting that dumps begin by switching off? What a database, a role or a client has as its standing setting
/// says nothing.
pub fn has_setting_of_dumps() -> bool {
    // SAFETY: reads a variable of this backend.
    let checks = unsafe { pg_sys::check_function_bodies };
    !checks && is_set_here(c"check_function_bodies")
}

fn is_set_here(name: &CStr) -> bool {
    // SAFETY: guc.c's own record of a setting, which lives as long as the backend.
    unsafe { record_of(name).as_ref() }.is_some_and(|setting| setting.source == pg_sys::GucSource::PGC_S_SESSION)
}

#[cfg(feature = "pg15")]
fn record_of(name: &CStr) -> *mut pg_sys::config_generic {
    // SAFETY: an array of so many pointers to records that have names.
    unsafe {
        let (all, count) = (pg_sys::get_guc_variables(), pg_sys::GetNumConfigOptions());
        let mut records = (0..count as usize).map(|at| *all.add(at));
        records.find(|record| CStr::from_ptr((**record).name) == name).unwrap_or(std::ptr::null_mut())
    }
}

#[cfg(not(feature = "pg15"))]
fn record_of(name: &CStr) -> *mut pg_sys::config_generic {
    // SAFETY: a look-up that says NULL where there is none.
    unsafe { pg_sys::find_option(name.as_ptr(), false, true, 0) }
}
